"""Divergence and perplexity equal their formulas, written out on whole unpadded passes."""

import contextlib
import math

import pytest
import torch

import grains_lens as gl
from tests import models
from tests.oracles import PAIRS, full_ids, hf_token_logprobs, own_bos, random_vectors, same_state, state_of

TEXTS = [pair.prompt for pair in PAIRS]
SETTINGS = {"strength": 0.8, "layers": [1]}


@pytest.fixture(scope="module")
def vectors():
    return random_vectors(7)


def token_divergences(model, vectors, ids):
    """KL(steered ‖ base) after every token of one text."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        base = model(tokens)[0].double().log_softmax(dim=-1)
        moved = model.run_with_hooks(tokens, fwd_hooks=gl.steering_hooks(model, vectors, **SETTINGS))
    moved = moved[0].double().log_softmax(dim=-1)
    return torch.nn.functional.kl_div(base, moved, log_target=True, reduction="none").sum(dim=-1)


def test_the_divergence_of_texts_is_that_of_every_token(hooked, vectors):
    bos = own_bos(hooked)
    ids = [full_ids(hooked.tokenizer, text, "", bos)[0] for text in TEXTS]
    expected = torch.cat([token_divergences(hooked, vectors, row) for row in ids]).mean()
    for batch_tokens in (1, 40, 10_000):
        kl = gl.kl_from_base(
            hooked, TEXTS, gl.steering(hooked, vectors, **SETTINGS), batch_tokens=batch_tokens
        )
        assert kl == pytest.approx(float(expected), rel=1e-3)


def test_the_divergence_of_pairs_is_that_of_the_chosen_answers_tokens(hooked, vectors):
    bos = own_bos(hooked)
    expected = []
    for pair in PAIRS:
        ids, n_prompt = full_ids(hooked.tokenizer, pair.prompt, pair.chosen, bos)
        expected.append(token_divergences(hooked, vectors, ids)[n_prompt - 1 : -1])
    kl = gl.kl_from_base(hooked, PAIRS, gl.steering(hooked, vectors, **SETTINGS))
    assert kl == pytest.approx(float(torch.cat(expected).mean()), rel=1e-3)


def test_two_tokens_by_hand(llama, vectors, monkeypatch):
    """A model whose logits are (0, 0) unsteered and (ln 3, 0) steered: KL = ln 2 − H(3/4)."""
    from grains_lens.evaluation import divergence

    switched_on = []

    class Switch(contextlib.AbstractContextManager):
        def __enter__(self):
            switched_on.append(True)

        def __exit__(self, *exception):
            switched_on.clear()

    def logprobs(model, batch, how=""):
        logits = torch.tensor([math.log(3.0) if switched_on else 0.0, 0.0])
        return logits.log_softmax(dim=-1).expand(1, 3, 2), torch.tensor([[False, True, True]])

    monkeypatch.setattr(divergence, "_logprobs", logprobs)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert gl.kl_from_base(llama, ["tea"], Switch()) == pytest.approx(math.log(2) - entropy)


def test_no_steering_is_no_divergence(hooked, vectors):
    assert gl.kl_from_base(hooked, TEXTS, gl.steering(hooked, vectors, strength=0.0)) == 0


def test_steering_that_waits_for_new_tokens_leaves_texts_but_moves_answers(llama, vectors):
    def moved(items):
        return gl.kl_from_base(llama, items, gl.steering(llama, vectors, positions="new", **SETTINGS))

    assert moved(TEXTS) == 0
    assert moved(PAIRS) > 0


@pytest.mark.parametrize("rule", [gl.add_keeping_norm, gl.add, gl.rotate_toward])
def test_calibration_meets_its_target(llama, vectors, rule):
    for target in (0.01, 0.2):
        strength = gl.calibrate(llama, vectors, TEXTS, target_kl=target, layers=[1], rule=rule)
        steered = gl.steering(llama, vectors, strength=strength, layers=[1], rule=rule)
        assert gl.kl_from_base(llama, TEXTS, steered) == pytest.approx(target, rel=0.01)


def test_a_target_out_of_reach_is_said_to_be(llama, vectors):
    with pytest.raises(ValueError, match=r"target_kl=50.0 is out of reach: .* largest divergence is"):
        gl.calibrate(llama, vectors, TEXTS, target_kl=50.0, layers=[1])


def test_a_divergence_that_jumps_over_its_target_is_said_to(llama, vectors):
    def jumps(h, v):
        return h + 10 * v / v.norm() if v.norm() > 1 else h

    with pytest.raises(ValueError, match=r"the divergence jumps over it at strength 0.33"):
        gl.calibrate(llama, vectors, TEXTS, target_kl=0.01, layers=[1], rule=jumps)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan])
def test_a_target_is_a_positive_number(llama, vectors, target):
    with pytest.raises(ValueError, match="must be a positive number of nats"):
        gl.calibrate(llama, vectors, TEXTS, target_kl=target)


def test_perplexity_is_hugging_faces(hooked, case):
    reference = models.build_hf(case.architecture)
    bos = own_bos(hooked)
    logprobs = [
        hf_token_logprobs(reference, full_ids(hooked.tokenizer, text, "", bos)[0], 1) for text in TEXTS
    ]
    expected = math.exp(-float(torch.cat(logprobs).mean()))
    for batch_tokens in (1, 10_000):
        assert gl.perplexity(hooked, TEXTS, batch_tokens=batch_tokens) == pytest.approx(expected, rel=1e-3)


def test_the_model_is_left_as_it_was(hooked, vectors):
    before = state_of(hooked)
    gl.kl_from_base(hooked, PAIRS, gl.steering(hooked, vectors, **SETTINGS))
    gl.perplexity(hooked, TEXTS)
    assert same_state(before, state_of(hooked))


def test_nothing_to_measure_on_is_refused(llama, vectors):
    with pytest.raises(ValueError, match="there are no texts or pairs"):
        gl.perplexity(llama, [])
    with pytest.raises(ValueError, match=r"text 1 has 101 tokens; 1 to 64"):
        gl.perplexity(llama, ["the cat", "tea " * 100])
