"""Conductance: complete at every layer, equal to captum's, and blind to how the work was cut up."""

import dataclasses
import functools
import warnings

import captum.attr
import pytest
import torch

import grains_lens as gl
from grains_lens.hosts.points import RESID_PRE_0, edited
from tests.models import N_LAYERS, build
from tests.oracles import PAIRS, block_input, full_ids, own_bos, same_state, state_of

SITES = ("resid_post", "attn_out", "mlp_out")


FEW = gl.IntegratedGradients(steps=3)
"""What holds of any number of steps is tried with few."""


def conductance(model, pairs=PAIRS, *, method=FEW, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gl.CompletenessWarning)
        return gl.layer_conductance(model, pairs, method=method, progress=False, **settings)


@functools.cache
def each_alone(model):
    """The pairs of PAIRS, each in a call of its own."""
    return [conductance(model, [pair])[0] for pair in PAIRS]


def close(actual, expected, rtol=1e-4):
    return (actual - expected).abs().max() <= rtol * expected.abs().max()


def test_every_layer_completes_to_the_change_of_the_gap(hooked):
    for one in conductance(hooked, method=gl.IntegratedGradients(64)):
        assert one.scores.shape == (N_LAYERS, len(one.tokens))
        assert one.response.shape == (N_LAYERS,)
        assert one.completeness_error.abs().max() < 1e-2 * max(1, abs(one.gap - one.baseline_gap))


class Branch(torch.nn.Module):
    """log p(answer | prompt) of the prompt's embeddings, uncached, for captum to hook into."""

    def __init__(self, model, pair, answer):
        super().__init__()
        self.model = model
        ids, self.n_prompt = full_ids(model.tokenizer, pair.prompt, answer, own_bos(model))
        self.ids = torch.tensor([ids])

    def forward(self, embeddings):
        tokens = self.ids.expand(len(embeddings), -1)

        def edit(stream):
            return torch.cat([embeddings, stream[:, self.n_prompt :]], dim=1)

        with edited(self.model, [(RESID_PRE_0, edit)]):
            logprobs = self.model(tokens).log_softmax(dim=-1)[:, self.n_prompt - 1 : -1]
        return logprobs.gather(-1, tokens[:, self.n_prompt :, None]).sum(dim=(1, 2))


@pytest.mark.parametrize("site", SITES)
def test_it_converges_to_captums_layer_by_layer(hooked, site):
    """captum takes left-hand differences, with an error of O(1/n): from n and 2n steps that is extrapolated away."""
    pair = PAIRS[1]
    (ours,) = conductance(hooked, [pair], method=gl.IntegratedGradients(64), site=site)
    x = block_input(hooked, pair)
    content = (~ours.is_special).nonzero()[:, 0]
    baseline = block_input(hooked, pair, masked=content)
    for layer in range(N_LAYERS):
        point = hooked.hook_dict[f"blocks.{layer}.hook_{site}"]
        expected = torch.zeros(len(ours.tokens) + 1)
        for sign, answer in ((1, pair.chosen), (-1, pair.rejected)):
            branch = Branch(hooked, pair, answer)
            coarse, fine = (
                captum.attr.LayerConductance(branch, point)
                .attribute(x, baseline, n_steps=n, method="riemann_trapezoid")[0]
                .sum(dim=-1)
                .detach()
                for n in (100, 200)
            )
            both = sign * (2 * fine - coarse)
            expected[:-1] += both[: branch.n_prompt]
            expected[-1] += both[branch.n_prompt :].sum()
        assert close(torch.cat([ours.scores[layer], ours.response[layer, None]]), expected, rtol=0.01)


def test_swapping_chosen_and_rejected_negates_it(hooked):
    swapped = [dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in PAIRS]
    for one, other in zip(conductance(hooked), conductance(hooked, swapped), strict=True):
        assert close(one.scores, -other.scores)
        assert close(one.response, -other.response)


@pytest.mark.parametrize("batch_tokens", [1, 97, 4096])
def test_batch_budget_padding_and_order_change_nothing(hooked, batch_tokens):
    alone = each_alone(hooked)
    order = [3, 0, 4, 2, 1]
    together = conductance(hooked, [PAIRS[index] for index in order], batch_tokens=batch_tokens)
    for index, one in zip(order, together, strict=True):
        assert torch.equal(one.tokens, alone[index].tokens)
        assert close(one.scores, alone[index].scores)
        assert close(one.response, alone[index].response)
        assert one.gap == pytest.approx(alone[index].gap, abs=1e-4)


def test_answers_of_one_token_have_no_position_of_their_own(llama):
    """What predicts them is the prompt's last position: nothing of the path goes through a response."""
    (one,) = conductance(llama, [gl.PreferencePair("the cat likes", "milk", "tea")])
    assert one.response.tolist() == [0.0] * N_LAYERS
    assert one.scores[-1, :-1].abs().max() == 0  # after the last block nothing else is read
    assert one.scores[-1, -1] != 0


def test_tolerance_brings_steps_where_layers_need_them(llama):
    rough = conductance(llama, method=gl.IntegratedGradients(4))
    refined = conductance(llama, method=gl.IntegratedGradients(4, tolerance=0.02))
    for before, after in zip(rough, refined, strict=True):
        allowed = 0.02 * max(1, abs(after.gap - after.baseline_gap))
        assert after.completeness_error.abs().max() <= allowed
        if before.completeness_error.abs().max() <= 0.99 * allowed:
            assert close(after.scores, before.scores)


def test_the_model_is_left_as_it_was(hooked):
    before = state_of(hooked)
    conductance(hooked)
    assert same_state(before, state_of(hooked))


def test_incomplete_layers_bring_a_warning(llama):
    with pytest.warns(gl.CompletenessWarning, match=r"of 5 pairs .*IntegratedGradients\(tolerance=0.01\)"):
        gl.layer_conductance(llama, PAIRS, method=gl.IntegratedGradients(1), tolerance=0.01, progress=False)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_site_is_refused(llama):
    with pytest.raises(ValueError, match=r"site='attn' is not known"):
        conductance(llama, site="attn")


def test_bfloat16_agrees_with_float32(hooked, case, tmp_path):
    """As a cosine over positions: bf16 keeps three digits."""
    single = conductance(hooked, PAIRS[:2])
    half = conductance(build(case, tmp_path).to(torch.bfloat16), PAIRS[:2])
    for one, other in zip(single, half, strict=True):
        assert other.scores.dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(one.scores.flatten(), other.scores.flatten(), dim=0)
        assert cosine > 0.97


def test_what_is_returned_is_a_list_that_shows_itself(llama):
    flows = conductance(llama)
    assert isinstance(flows, list)
    assert flows._repr_html_().count("Conductance of resid_post") == len(PAIRS)
