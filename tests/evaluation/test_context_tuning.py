"""Contexts are chosen by the rule that steering is chosen by."""

from __future__ import annotations

import math

import pytest
import torch

import grains_lens as gl
from tests.evaluation.test_choices import QUESTIONS
from tests.intervention.test_tuning import KEEP
from tests.oracles import PAIRS, random_vectors, same_state, state_of


@pytest.fixture(scope="module")
def vectors():
    return random_vectors(11)


def test_contexts_of_steering_get_the_rows_that_tuning_gives_them(hooked, vectors):
    strengths = [-2.0, 0.5, 2.0]
    tuning = gl.tune(
        hooked, vectors, QUESTIONS, keep=KEEP, strengths=strengths, layers=[(1,)], charge=0.5, progress=False
    )
    contexts = {
        f"at {strength}": gl.steering(hooked, vectors, strength=strength, layers=[1])
        for strength in strengths
    }
    efforts = {name: abs(strength) for name, strength in zip(contexts, strengths, strict=True)}
    before = state_of(hooked)
    found = gl.tune_contexts(hooked, contexts, QUESTIONS, keep=KEEP, charge=0.5, efforts=efforts)
    assert same_state(before, state_of(hooked))
    assert [row.name for row in found.rows] == ["none", *contexts]
    for row, expected in zip(found.rows, tuning.rows, strict=True):
        assert row.accuracy == pytest.approx(expected.accuracy)
        assert row.keep == pytest.approx(expected.keep)
        assert row.cost == pytest.approx(expected.cost)
        assert row.score == pytest.approx(expected.score)
        assert row.effort == expected.effort
    assert found.rows.index(found.best) == tuning.rows.index(tuning.best)
    assert [line[-1] == "*" for line in repr(found).splitlines()[1:]] == [
        row is found.best for row in found.rows
    ]


def test_the_best_context_is_the_one_to_run_the_model_in(llama, vectors):
    """Questions whose right answers are those of the model under one of the contexts."""
    contexts = {
        "as it is": lambda: gl.steering(llama, vectors, strength=0.0),
        "steered": lambda: gl.steering(llama, vectors, strength=3.0, rule=gl.add),
        "broken": lambda: gl.steering(llama, vectors, strength=1.0, rule=lambda h, v: h * torch.nan),
    }

    def answers(context):
        with context:
            return gl.multiple_choice(llama, QUESTIONS, progress=False)

    steered = answers(contexts["steered"]())
    questions = [
        gl.MultipleChoice(question.prompt, question.choices, label)
        for question, label in zip(QUESTIONS, steered.predictions.tolist(), strict=True)
    ]
    found = gl.tune_contexts(llama, contexts, questions)
    assert found.best.name == "steered"
    assert found.best.accuracy == 1.0
    assert torch.equal(answers(found.context(llama)).logprobs, steered.logprobs)
    broken = found.rows[-1]
    assert (broken.score, math.isnan(broken.accuracy), math.isnan(broken.cost)) == (-math.inf, True, True)
    same = gl.tune_contexts(llama, {name: contexts[name] for name in ("as it is", "broken")}, QUESTIONS)
    assert same.best.name == "none", "of equals, doing nothing"
    plain = gl.multiple_choice(llama, QUESTIONS, progress=False).logprobs
    assert torch.equal(answers(same.context(llama)).logprobs, plain)


def test_of_equal_contexts_the_one_of_least_effort_wins(llama, vectors):
    """A wrong label for the model as it is, so that doing nothing is not among the equals."""
    steered = gl.steering(llama, vectors, strength=3.0, rule=gl.add)
    with steered:
        right = gl.multiple_choice(llama, QUESTIONS, progress=False).predictions.tolist()
    wrong = gl.multiple_choice(llama, QUESTIONS, progress=False).predictions.tolist()
    questions = [
        gl.MultipleChoice(question.prompt, question.choices, label)
        for question, label, other in zip(QUESTIONS, right, wrong, strict=True)
        if label != other
    ]
    contexts = {"hard": lambda: steered, "soft": lambda: steered, "also soft": lambda: steered}
    efforts = {"hard": 3.0, "soft": 1.0, "also soft": 1.0}
    assert gl.tune_contexts(llama, contexts, questions, efforts=efforts).best.name == "soft"
    assert gl.tune_contexts(llama, contexts, questions).best.name == "hard"


def test_adapters_are_contexts(llama):
    """A LoRA adapter is entered again and again, and leaves the model as it was."""
    adapter = gl.baselines.lora_sft(llama, PAIRS, steps=2, progress=False)
    with adapter:
        expected = gl.multiple_choice(llama, QUESTIONS, progress=False).accuracy
    before = state_of(llama)
    found = gl.tune_contexts(llama, {"2 steps": adapter}, QUESTIONS, keep=KEEP)
    assert found.rows[1].accuracy == expected
    assert gl.assess(llama, adapter, QUESTIONS).accuracy == expected
    assert same_state(before, state_of(llama))


@pytest.mark.parametrize(
    ("contexts", "settings", "message"),
    [
        ({}, {}, "contexts is empty"),
        ({"none": lambda: None}, {}, "contexts has one called 'none'"),
        ({"some": lambda: None}, {"charge": math.nan}, "charge=nan must be finite"),
        ({"some": lambda: None}, {}, "None steers nothing by itself"),
        ({"some": lambda: None}, {"keep": {"calm": []}}, r"keep\['calm'\] holds no questions"),
    ],
    ids=["none", "name", "charge", "context", "keep"],
)
def test_bad_settings_get_one_clear_sentence(llama, contexts, settings, message):
    with pytest.raises(ValueError, match=message):
        gl.tune_contexts(llama, contexts, QUESTIONS, **settings)
