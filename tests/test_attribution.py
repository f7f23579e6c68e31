"""Attribution: equal to captum, complete, and blind to how the work was cut up."""

import dataclasses
import warnings

import captum.attr
import pytest
import torch

import grains_lens as gl
from grains_lens import methods
from tests.oracles import PAIRS, block_input, same_state, state_of, uncached_gap

UNK = 1
CAPTUM_RULES = {
    "gauss_legendre": "gausslegendre",
    "trapezoid": "riemann_trapezoid",
    "midpoint": "riemann_middle",
}


def attribute(model, pairs=PAIRS, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gl.CompletenessWarning)
        return gl.attribute(model, pairs, progress=False, **settings)


def close(actual, expected, rtol=1e-4):
    """Equal within `rtol` of the largest score."""
    return (actual - expected).abs().max() <= rtol * expected.abs().max()


@pytest.mark.parametrize("rule", CAPTUM_RULES)
def test_integrated_gradients_equal_captums_on_the_same_function(hooked, rule):
    results = attribute(hooked, method=gl.IntegratedGradients(steps=7, rule=rule))
    for pair, result in zip(PAIRS, results, strict=True):
        x = block_input(hooked, pair)
        content = (~result.is_special).nonzero()[:, 0]
        baseline = block_input(hooked, pair, masked=content, token=UNK)
        scores = captum.attr.IntegratedGradients(uncached_gap(hooked, pair)).attribute(
            x, baseline, n_steps=7, method=CAPTUM_RULES[rule]
        )
        # captum's trapezoid weights sum to (n − 1)/n, which is not an integral over [0, 1]; ours sum to 1.
        scale = 7 / 6 if rule == "trapezoid" else 1
        assert close(result.scores, scale * scores[0].sum(dim=-1).float())


def test_gradient_times_input_equals_captums_with_a_zero_baseline(hooked):
    """captum multiplies by the whole input, positions included: on GPT-2 the two differ by them."""
    if hooked.cfg.model_name == "tiny-gpt2":
        pytest.skip("captum cannot leave learned positions out of the input")
    results = attribute(hooked, method=gl.GradientTimesInput(), baseline="zero", include_special=True)
    for pair, result in zip(PAIRS, results, strict=True):
        x = block_input(hooked, pair).requires_grad_(True)
        scores = captum.attr.InputXGradient(uncached_gap(hooked, pair)).attribute(x)
        assert close(result.scores, scores[0].sum(dim=-1).detach())


def test_occlusion_equals_captums_feature_ablation(hooked):
    results = attribute(hooked, method=gl.Occlusion())
    for pair, result in zip(PAIRS, results, strict=True):
        x = block_input(hooked, pair)
        content = (~result.is_special).nonzero()[:, 0]
        baseline = block_input(hooked, pair, masked=content, token=UNK)
        features = torch.arange(x.shape[1])[None, :, None].expand_as(x)
        with torch.no_grad():
            scores = captum.attr.FeatureAblation(uncached_gap(hooked, pair)).attribute(
                x, baseline, feature_mask=features
            )
        assert close(result.scores, scores[0, :, 0])


@pytest.mark.parametrize("objective", ["sum", "mean", "last"])
def test_scores_complete_to_the_change_of_the_gap(hooked, objective):
    results = attribute(hooked, method=gl.IntegratedGradients(steps=300), objective=objective)
    for result in results:
        assert abs(result.completeness_error) < 1e-2 * max(1, abs(result.gap - result.baseline_gap))
        assert float(result.scores.sum()) == pytest.approx(
            result.gap - result.baseline_gap + result.completeness_error, abs=1e-4
        )


def test_swapping_chosen_and_rejected_negates_every_score(hooked):
    swapped = [dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in PAIRS]
    for one, other in zip(attribute(hooked), attribute(hooked, swapped), strict=True):
        assert close(one.scores, -other.scores, rtol=1e-4)
        assert one.gap == pytest.approx(-other.gap, abs=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 97, 4096])
def test_batch_budget_padding_and_order_change_nothing(hooked, batch_tokens):
    alone = [attribute(hooked, [pair])[0] for pair in PAIRS]
    order = [3, 0, 4, 2, 1]
    together = attribute(hooked, [PAIRS[index] for index in order], batch_tokens=batch_tokens)
    for index, result in zip(order, together, strict=True):
        assert torch.equal(result.tokens, alone[index].tokens)
        assert close(result.scores, alone[index].scores)
        assert result.gap == pytest.approx(alone[index].gap, abs=1e-4)


def test_the_model_is_left_as_it_was(hooked):
    before = state_of(hooked)
    attribute(hooked)
    assert same_state(before, state_of(hooked))


def test_a_failure_inside_leaves_the_model_as_it_was(hooked):
    @dataclasses.dataclass(frozen=True)
    class Fails:
        is_complete = False

        def evaluations(self, n_pos):
            return 1

        def __call__(self, f):
            f.values(f.x[None])
            raise KeyboardInterrupt

    before = state_of(hooked)
    with pytest.raises(KeyboardInterrupt):
        attribute(hooked, method=Fails())
    assert same_state(before, state_of(hooked))


@dataclasses.dataclass(frozen=True)
class LinearGap:
    """A gap function that is linear in the embeddings, where every method must give w·(x − x')."""

    x: torch.Tensor
    baseline: torch.Tensor
    weight: torch.Tensor

    def values(self, points):
        return (points * self.weight).sum(dim=(-1, -2))

    def gradients(self, points):
        for chunk in points.split(3):
            yield self.weight.expand_as(chunk)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "method",
    [
        gl.IntegratedGradients(steps=1),
        gl.IntegratedGradients(steps=8),
        gl.IntegratedGradients(steps=5, rule="trapezoid"),
        gl.IntegratedGradients(steps=4, rule="midpoint"),
        gl.GradientTimesInput(),
        gl.Occlusion(),
    ],
    ids=repr,
)
def test_a_linear_function_is_attributed_exactly(method):
    generator = torch.Generator().manual_seed(0)
    x, baseline, weight = torch.randn(3, 4, 6, 8, generator=generator)
    scores = method(LinearGap(x, baseline, weight))
    torch.testing.assert_close(scores, ((x - baseline) * weight).sum(dim=-1), rtol=1e-4, atol=1e-4)


def test_special_tokens_score_nothing_unless_asked_for(llama):
    plain, asked = attribute(llama)[0], attribute(llama, include_special=True)[0]
    assert plain.is_special.tolist() == [True] + [False] * (len(plain.tokens) - 1)
    assert plain.scores[0] == 0
    assert asked.scores[0] != 0
    assert 0 not in plain.top(len(plain.tokens) - 1)


def test_random_scores_are_a_matter_of_prompt_and_seed_alone(llama):
    one = attribute(llama, method=gl.RandomScores(3))
    other = attribute(llama, PAIRS[::-1], method=gl.RandomScores(3), batch_tokens=50)[::-1]
    third = attribute(llama, method=gl.RandomScores(4))
    for a, b, c in zip(one, other, third, strict=True):
        assert torch.equal(a.scores, b.scores)
        assert not torch.equal(a.scores, c.scores)
    pooled = torch.cat([result.scores for result in one])
    assert abs(pooled.mean()) < 0.5
    assert 0.6 < pooled.std() < 1.4


def test_top_names_the_strongest_tokens_of_either_sign(llama):
    result = attribute(llama)[0]
    order = result.scores.argsort(descending=True)
    positive = [index for index in order.tolist() if result.scores[index] > 0]
    assert result.top(3).tolist() == positive[:3]
    negative = [index for index in order.flip(0).tolist() if result.scores[index] < 0]
    assert result.top(3, "negative").tolist() == negative[:3]


def test_too_few_steps_bring_a_warning_that_names_pairs_and_remedy(llama):
    with pytest.warns(gl.CompletenessWarning, match=r"of 5 pairs \(.*worst is pair \d.*Take more steps"):
        gl.attribute(llama, PAIRS, method=gl.IntegratedGradients(steps=1), tolerance=0.01, progress=False)


def test_nan_gradients_are_refused_with_the_pair_named(hooked):
    point = hooked.hook_dict["blocks.1.hook_resid_post"]
    handle = point.register_forward_hook(lambda module, inputs, h: h * float("nan"))
    try:
        with pytest.raises(ValueError, match=r"pair \d gives NaN or infinite .* float32 or bfloat16"):
            attribute(hooked)
    finally:
        handle.remove()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "zeros"}, r"baseline='zeros' is not known; .* Did you mean 'zero'\?"),
        ({"baseline": 5000}, r"baseline=5000 is no token id: the vocabulary has \d+ of them"),
        ({"baseline": torch.ones(3)}, r"baseline is a tensor of shape \(3,\)"),
        ({"objective": "summ"}, r"objective='summ' is not known; .* Did you mean 'sum'\?"),
        ({"pairs": []}, r"there are no pairs or questions to work on"),
        ({"batch_tokens": 0}, r"batch_tokens=0 must be at least 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings_get_one_clear_sentence(llama, settings, message):
    with pytest.raises(ValueError, match=message):
        attribute(llama, **{"pairs": PAIRS, **settings})


def test_a_prompt_longer_than_the_context_is_refused_before_any_compute(llama):
    long = gl.PreferencePair("the cat " * 40, "yes", "no")
    with pytest.raises(ValueError, match=r"item 0 has 8\d tokens .* the model's context 64: shorten"):
        attribute(llama, [long])


def test_images_on_a_text_model_are_refused(llama):
    with pytest.raises(ValueError, match="this model takes text only"):
        attribute(llama, [gl.PreferencePair("the cat", "yes", "no", images=("cat.png",))])


def test_it_shows_itself(llama):
    result = attribute(llama)[0]
    html = result._repr_html_()
    assert html.count("<span") == len(result.tokens)
    assert "nats" in html
    for string in result.strings:
        assert string.strip() in repr(result)


@pytest.mark.usefixtures("unchecked")
def test_settings_are_checked_when_a_method_is_made():
    with pytest.raises(ValueError, match=r"steps=0 is too few"):
        gl.IntegratedGradients(steps=0)
    with pytest.raises(ValueError, match=r"rule='gauss' is not known"):
        gl.IntegratedGradients(rule="gauss")


def test_methods_satisfy_the_protocol():
    for method in (gl.IntegratedGradients(), gl.GradientTimesInput(), gl.Occlusion(), gl.RandomScores()):
        assert isinstance(method, methods.AttributionMethod)


def test_bfloat16_scores_agree_with_float32(case, tmp_path):
    """In the stream's own dtype, as a cosine: bf16 keeps three digits."""
    from tests import models

    single = attribute(models.build(case, tmp_path))
    half = attribute(models.build(case, tmp_path).to(torch.bfloat16))
    for one, other in zip(single, half, strict=True):
        assert other.scores.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(one.scores, other.scores, dim=0) > 0.98
