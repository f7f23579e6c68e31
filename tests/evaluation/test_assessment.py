"""Assessment: the same questions unsteered and steered, each number what asking by hand gives."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch

import grains_lens as gl
from tests.evaluation.test_choices import QUESTIONS
from tests.intervention.test_tuning import KEEP
from tests.oracles import PAIRS, random_vectors, same_state, state_of


@pytest.fixture(scope="module")
def vectors():
    return random_vectors(11)


def asked(model, group):
    return gl.multiple_choice(model, group, progress=False)


def test_every_number_is_what_asking_by_hand_gives(hooked, vectors):
    steered = gl.steering(hooked, vectors, strength=-2.0, layers=[0, 1])
    before = state_of(hooked)
    found = gl.assess(hooked, steered, QUESTIONS, keep=KEEP)
    assert same_state(before, state_of(hooked))
    base = {name: asked(hooked, group) for name, group in {"": QUESTIONS, **KEEP}.items()}
    with steered:
        now = {name: asked(hooked, group) for name, group in {"": QUESTIONS, **KEEP}.items()}
    assert torch.equal(found.base_correct, base[""].correct)
    assert torch.equal(found.correct, now[""].correct)
    assert (found.base_accuracy, found.accuracy) == (base[""].accuracy, now[""].accuracy)
    assert found.gain == now[""].accuracy - base[""].accuracy
    assert found.changes == {name: now[name].accuracy - base[name].accuracy for name in KEEP}
    assert found.cost == max(0.0, *(-change for change in found.changes.values()))
    change = now[""].correct.float() - base[""].correct.float()
    assert found.interval() == gl.bootstrap_interval(change.numpy())


def test_a_tuning_is_assessed_as_its_steering_and_its_row_says(llama, vectors):
    """On the questions that it was tuned on."""
    tuning = gl.tune(llama, vectors, QUESTIONS, keep=KEEP, strengths=[2.0], charge=0.5, progress=False)
    for row in tuning.rows:
        found = gl.assess(llama, replace(tuning, best=row), QUESTIONS, keep=KEEP)
        assert (found.accuracy, found.cost) == (pytest.approx(row.accuracy), pytest.approx(row.cost))
        assert found.accuracy - 0.5 * found.cost == pytest.approx(row.score)


def test_contexts_and_what_gives_them_are_alike(llama, vectors):
    steered = gl.steering(llama, vectors, strength=-2.0)

    @contextmanager
    def once():
        with steered:
            yield

    expected = gl.assess(llama, steered, QUESTIONS)
    for given in (lambda: steered, once, once()):
        assert torch.equal(gl.assess(llama, given, QUESTIONS).correct, expected.correct)
    for nothing in (None, nullcontext, nullcontext()):
        assert torch.equal(gl.assess(llama, nothing, QUESTIONS).correct, expected.base_correct)


def test_a_base_spares_the_unsteered_side_and_is_of_these_questions(llama, vectors, monkeypatch):
    steered, calls = gl.steering(llama, vectors, strength=-2.0), []

    def ask(model, group):
        calls.append((steered.is_on, len(group)))
        return asked(model, group)

    base = gl.assess(llama, None, QUESTIONS, keep=KEEP["one"], ask=ask)
    assert calls == [(False, len(QUESTIONS)), (False, len(KEEP["one"]))]
    calls.clear()
    found = gl.assess(llama, steered, QUESTIONS, keep=KEEP["one"], ask=ask, base=base)
    assert calls == [(True, len(QUESTIONS)), (True, len(KEEP["one"]))]
    assert torch.equal(found.base_correct, base.correct)
    for other in ({"keep": KEEP}, {"keep": ()}, {"keep": KEEP["other"]}):
        with pytest.raises(ValueError, match="base is an assessment of other questions"):
            gl.assess(llama, steered, QUESTIONS, ask=ask, base=base, **other)


def test_pairs_are_asked_by_any_function_whose_scores_say_what_is_right(llama, vectors):
    def ask(model, pairs):
        return gl.hallucination(model, pairs, progress=False)

    steered = gl.steering(llama, vectors, strength=3.0)
    found = gl.assess(llama, steered, PAIRS, ask=ask)
    with steered:
        expected = ask(llama, PAIRS)
    assert torch.equal(found.correct, expected.correct)
    assert torch.equal(found.steered["questions"].hallucinated, expected.hallucinated)
    assert found.changes == {}
    assert found.cost == 0.0


def test_it_shows_what_was_gained_and_lost(llama, vectors):
    found = gl.assess(
        llama, gl.steering(llama, vectors, strength=-2.0), QUESTIONS, keep={"\x1b[31mcalm": KEEP["one"]}
    )
    change = f"{next(iter(found.changes.values())):+.3f}"
    for shown in (repr(found), found._repr_html_()):
        assert f"{found.gain:+.3f} [" in shown
        assert change in shown
        assert f"{found.base_accuracy:.3f} to {found.accuracy:.3f}" in shown
        assert "\x1b" not in shown


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_assessed_gets_one_clear_sentence(llama, vectors):
    with pytest.raises(ValueError, match="questions holds no questions"):
        gl.assess(llama, None, [])
    with pytest.raises(ValueError, match=r"keep\['calm'\] holds no questions"):
        gl.assess(llama, None, QUESTIONS, keep={"calm": []})
    with pytest.raises(
        ValueError, match=r"steered=a SteeringVectors steers nothing by itself: give a Tuning, or a context"
    ):
        gl.assess(llama, vectors, QUESTIONS)
    broken = gl.steering(llama, vectors, strength=1.0, rule=lambda h, v: h * torch.nan)
    with pytest.raises(gl.NotFiniteError):
        gl.assess(llama, broken, QUESTIONS)
    assert not broken.is_on
