"""What is chosen is the highest, and never by a score that is NaN."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

import grains_lens as gl
from analysis import contests
from analysis.asking import AskedQuestions
from analysis.choosing import highest, ranked, worst
from analysis.contests import Trial, best, context_trials, judged
from analysis.dictionaries import fit_dictionary
from analysis.judging import best_of
from analysis.studies import variant_search

NAN = math.nan


def trial(score):
    return Trial(f"gave {score}", score, 0.0, 1.0, nullcontext)


def row(score):
    return SimpleNamespace(score=score, strength=1.0, layers=(0,))


@pytest.mark.parametrize("scores", [[NAN, 0.5, 0.9], [0.5, NAN, 0.9], [0.5, 0.9, NAN]])
def test_a_score_that_is_nan_is_refused_wherever_it_stands(scores):
    with pytest.raises(ValueError, match="gave nan"):
        highest([trial(score) for score in scores], lambda one: one.accuracy)
    # A trial whose accuracy is NaN is one that broke the model.
    assert best([trial(score) for score in scores], charge=1.0).accuracy == 0.9
    with pytest.raises(ValueError, match="score that is nan"):
        best_of([row(score) for score in scores])
    with pytest.raises(ValueError, match="first-order gain"):
        ranked(scores, "first-order gain")


def test_the_highest_wins_then_the_gentlest_then_the_first():
    items = [(0.5, 1.0, "a"), (0.9, 2.0, "b"), (0.9, 1.0, "c"), (0.9 + 1e-12, 1.0, "d")]
    assert highest(items, lambda item: item[0], lambda item: item[1])[2] == "c"
    assert highest(items, lambda item: item[0])[2] == "b"
    assert ranked([0.1, 0.9, -1.0, 0.9], "score") == [1, 3, 0, 2]


def test_a_drop_that_is_nan_is_not_taken_for_none(monkeypatch):
    assert worst([-0.5, 0.25]) == 0.25
    assert worst([]) == worst([-1.0]) == 0.0
    asked = AskedQuestions((), {"clear": (), "neutral": ()})
    monkeypatch.setattr(AskedQuestions, "accuracies", lambda *_: {"": 0.5, "clear": 0.5, "neutral": NAN})
    base = {"": 0.5, "clear": 0.5, "neutral": 0.5}
    with pytest.raises(ValueError, match="drop elsewhere"):
        judged(None, asked, base, trial(0.5))
    with pytest.raises(ValueError, match="drop elsewhere"):
        context_trials(None, asked, [("some", 1.0, nullcontext)])


def test_layers_are_not_weighted_by_nan_nor_dictionaries_fitted_to_it():
    vectors = SimpleNamespace()
    with pytest.raises(ValueError, match="not finite"):
        variant_search.weighted(vectors, torch.tensor([1.0, NAN]))
    with pytest.raises(ValueError, match="not all finite"):
        fit_dictionary(torch.full((4, 3), NAN), n_features=2, active=1, steps=1)


def test_the_layer_of_largest_gain_is_not_one_whose_gain_is_nan(monkeypatch):
    monkeypatch.setattr(variant_search.gl, "first_order_gain", lambda *_, **__: torch.tensor([0.5, NAN, 0.1]))
    drawn = SimpleNamespace(bench=SimpleNamespace(model=None, prompt_format=gl.PromptFormat()), pairs=())
    variant = variant_search.Variant(layers="gain")
    with pytest.raises(ValueError, match="first-order gain, 1"):
        variant_search.placed(variant, drawn, SimpleNamespace(layers=(0, 1, 2)), contests.Grid(), {})
