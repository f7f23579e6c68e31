"""What is chosen is the highest, and never by a score that is NaN."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

import grains_lens as gl
from analysis import contests
from analysis.choosing import highest, ranked
from analysis.contests import Trial, best
from analysis.dictionaries import fit_dictionary
from analysis.studies import variant_search

NAN = math.nan


def trial(score):
    return Trial(f"gave {score}", score, 0.0, 1.0, nullcontext)


def row(score):
    return gl.TuningRow((0,), 1.0, 0.5, {}, 0.0, score)


@pytest.mark.parametrize("scores", [[NAN, 0.5, 0.9], [0.5, NAN, 0.9], [0.5, 0.9, NAN]])
def test_a_score_that_is_nan_is_refused_wherever_it_stands(scores):
    with pytest.raises(ValueError, match="gave nan"):
        highest([trial(score) for score in scores], lambda one: one.accuracy)
    # A trial whose accuracy is NaN is one that broke the model.
    assert best([trial(score) for score in scores], charge=1.0).accuracy == 0.9
    with pytest.raises(ValueError, match="score that is nan"):
        gl.best_row([row(score) for score in scores])
    with pytest.raises(ValueError, match="first-order gain"):
        ranked(scores, "first-order gain")


def test_the_highest_wins_then_the_gentlest_then_the_first():
    items = [(0.5, 1.0, "a"), (0.9, 2.0, "b"), (0.9, 1.0, "c"), (0.9 + 1e-12, 1.0, "d")]
    assert highest(items, lambda item: item[0], lambda item: item[1])[2] == "c"
    assert highest(items, lambda item: item[0])[2] == "b"
    assert ranked([0.1, 0.9, -1.0, 0.9], "score") == [1, 3, 0, 2]


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
