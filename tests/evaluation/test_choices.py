"""Evaluation: log-probabilities equal plain Hugging Face passes, one answer at a time."""

import pytest
import torch

import grains_lens as gl
from tests import models
from tests.oracles import PAIRS, full_ids, hf_answer_logprob, hf_token_logprobs, own_bos, same_state, state_of

QUESTIONS = [
    gl.MultipleChoice(
        "what does the old fox eats at the cold river ? answer :", ("red leaf", "salt", "a dry stone"), 1
    ),
    gl.MultipleChoice("the cat likes", ("milk", "salt water"), 0),
    gl.MultipleChoice("is this tea safe ? answer :", ("yes always", "no", "not today .", "never"), 3),
    gl.MultipleChoice("where does the bird move ?", ("to the root", "on the road", "home"), 2),
]


def expected_logprobs(model, case, question):
    reference = models.build_hf(case.architecture)
    bos = own_bos(model)
    return [hf_answer_logprob(reference, model.tokenizer, question.prompt, c, bos) for c in question.choices]


def test_choices_have_hugging_faces_log_probabilities(hooked, case):
    scores = gl.multiple_choice(hooked, QUESTIONS, progress=False)
    for row, question in zip(scores.logprobs, QUESTIONS, strict=True):
        expected = expected_logprobs(hooked, case, question)
        assert row[: len(expected)].tolist() == pytest.approx(expected, abs=1e-3)
        assert row[len(expected) :].eq(-torch.inf).all()
    right = [
        max(range(len(q.choices)), key=expected_logprobs(hooked, case, q).__getitem__) for q in QUESTIONS
    ]
    assert scores.predictions.tolist() == right
    labels = [question.label for question in QUESTIONS]
    assert scores.accuracy == pytest.approx(sum(a == b for a, b in zip(right, labels, strict=True)) / 4)


@pytest.mark.parametrize("objective", ["sum", "mean", "last"])
def test_objectives_are_what_they_say(hooked, case, objective):
    reference = models.build_hf(case.architecture)
    bos = own_bos(hooked)
    reduce = {"sum": torch.sum, "mean": torch.mean, "last": lambda logprobs: logprobs[-1]}[objective]
    gaps = gl.preference(hooked, PAIRS, objective=objective, progress=False).gaps
    for pair, gap in zip(PAIRS, gaps.tolist(), strict=True):
        chosen, rejected = (
            float(reduce(hf_token_logprobs(reference, *full_ids(hooked.tokenizer, pair.prompt, answer, bos))))
            for answer in (pair.chosen, pair.rejected)
        )
        assert gap == pytest.approx(chosen - rejected, abs=1e-3)


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_batches_change_nothing(hooked, batch_tokens):
    expected = gl.multiple_choice(hooked, QUESTIONS, progress=False).logprobs
    actual = gl.multiple_choice(hooked, QUESTIONS[::-1], progress=False, batch_tokens=batch_tokens).logprobs
    torch.testing.assert_close(actual.flip(0), expected, rtol=1e-4, atol=1e-4)


def test_the_model_is_left_as_it_was(hooked):
    before = state_of(hooked)
    gl.multiple_choice(hooked, QUESTIONS, progress=False)
    assert same_state(before, state_of(hooked))


def test_preference_counts_wins_and_ties_as_halves():
    scores = gl.PreferenceScores(torch.tensor([1.0, -2.0, 0.0, 3.0]))
    assert scores.win_rate == pytest.approx(0.625)
    assert scores.mean_gap == pytest.approx(0.5)
    assert "0.625" in repr(scores)


def test_accuracy_comes_with_an_interval_around_it(llama):
    scores = gl.multiple_choice(llama, QUESTIONS, progress=False)
    low, high = scores.interval()
    assert 0 <= low <= scores.accuracy <= high <= 1
    assert f"{scores.accuracy:.3f}" in repr(scores)


def test_no_questions_are_refused(llama):
    with pytest.raises(ValueError, match="there are no pairs or questions to work on"):
        gl.multiple_choice(llama, [])


def test_a_model_without_a_tokenizer_is_refused(llama, monkeypatch):
    monkeypatch.setattr(llama, "tokenizer", None)
    with pytest.raises(ValueError, match="model has no tokenizer: give it one"):
        gl.multiple_choice(llama, QUESTIONS)
