"""Faithfulness curves: a naive loop's numbers, and a judgement that tells good orders from bad ones."""

import dataclasses

import numpy as np
import pytest
import torch

import grains_lens as gl
from grains_lens.attribution.curves import area
from tests.oracles import PAIRS, block_input, same_state, state_of, uncached_gap

UNK = 1


@pytest.fixture(scope="module")
def attributions(hooked):
    return gl.attribute(hooked, PAIRS, method=gl.Occlusion(), progress=False)


def test_curves_equal_a_naive_loop(hooked, attributions):
    """Mask one more token at a time, by its id, in single uncached passes."""
    curves = gl.faithfulness(
        hooked, PAIRS[:2], attributions[:2], random_orders=1, progress=False, batch_tokens=200
    )
    for pair, one, curve in zip(PAIRS, attributions, curves, strict=False):
        gap = uncached_gap(hooked, pair)
        content = (~one.is_special).nonzero()[:, 0]
        order = sorted(content.tolist(), key=lambda at, one=one: -float(one.scores[at]))
        for step in range(len(order) + 1):
            for kind, masked in (("deletion", order[:step]), ("insertion", order[step:])):
                with torch.no_grad():
                    value = float(
                        gap(block_input(hooked, pair, masked=torch.tensor(masked).long(), token=UNK))
                    )
                assert float(getattr(curve, kind)[step]) == pytest.approx(value, abs=1e-3)


def test_every_order_begins_and_ends_at_the_same_gaps(hooked, attributions):
    for one, curve in zip(
        attributions, gl.faithfulness(hooked, PAIRS, attributions, progress=False), strict=True
    ):
        assert float(curve.deletion[0]) == pytest.approx(one.gap, abs=1e-4)
        assert float(curve.deletion[-1]) == pytest.approx(one.baseline_gap, abs=1e-4)
        for down in (curve.deletion, *curve.random_deletion):
            torch.testing.assert_close(down[[0, -1]], curve.deletion[[0, -1]], rtol=1e-4, atol=1e-4)
        for up in (curve.insertion, *curve.random_insertion):
            torch.testing.assert_close(up[[0, -1]], curve.deletion[[-1, 0]], rtol=1e-4, atol=1e-4)


def test_true_scores_are_judged_faithful_and_their_negatives_unfaithful(hooked, attributions):
    backwards = [dataclasses.replace(one, scores=-one.scores) for one in attributions]
    good, bad = (
        gl.faithfulness(hooked, PAIRS, which, progress=False, random_orders=8)
        for which in (attributions, backwards)
    )
    for gain in ("deletion_gain", "insertion_gain"):
        assert np.mean([getattr(curve, gain) for curve in good]) > 0
        assert np.mean([getattr(curve, gain) for curve in bad]) < 0


def test_the_model_is_left_as_it_was(hooked, attributions):
    before = state_of(hooked)
    gl.faithfulness(hooked, PAIRS, attributions, progress=False)
    assert same_state(before, state_of(hooked))


def test_area_is_a_mean_height():
    assert float(area(torch.full((7,), 3.0))) == pytest.approx(3.0)
    assert float(area(torch.linspace(0, 1, 11))) == pytest.approx(0.5)


def test_precision_at_k_counts_hits(attributions):
    one = attributions[0]
    top = one.top(3, "negative").tolist()
    others = [at for at in range(len(one.tokens)) if at not in top]
    truth = [[*top[:2], *others[:1]], others, top]
    assert gl.precision_at_k([one] * 3, truth, k=3).tolist() == pytest.approx([2 / 3, 0, 1])


def test_bad_settings_get_one_clear_sentence(llama):
    attributions = gl.attribute(llama, PAIRS, method=gl.RandomScores(), progress=False)
    with pytest.raises(ValueError, match=r"random_orders=0 must be at least 1"):
        gl.faithfulness(llama, PAIRS, attributions, random_orders=0)
    with pytest.raises(ValueError, match="there are 5 pairs and 1 attributions"):
        gl.faithfulness(llama, PAIRS, attributions[:1])
