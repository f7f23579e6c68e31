"""Baselines against independent loops."""

import pytest
import torch

import grains_lens as gl
from tests import models
from tests.oracles import PAIRS, full_ids, same_state, state_of


def test_mean_difference_equals_a_naive_loop_over_full_texts(hooked):
    vectors = gl.baselines.mean_difference(hooked, PAIRS, progress=False, batch_tokens=120)
    bos = bool(hooked.cfg.default_prepend_bos)
    deltas = []
    for pair in PAIRS:
        ends = []
        for answer in (pair.chosen, pair.rejected):
            ids, _ = full_ids(hooked.tokenizer, pair.prompt, answer, bos)
            with torch.no_grad():
                _, cache = hooked.run_with_cache(torch.tensor([ids]))
            ends.append(torch.stack([cache["resid_post", layer][0, -1] for layer in range(models.N_LAYERS)]))
        deltas.append(ends[0] - ends[1])
    expected = torch.stack(deltas).mean(dim=0)
    torch.testing.assert_close(vectors.directions, expected, rtol=1e-3, atol=1e-4)
    assert vectors.provenance.method == "mean_difference"
    assert vectors.provenance.n_pairs == len(PAIRS)


def test_it_measures_the_residual_norm_as_extraction_does(llama):
    with pytest.warns(gl.CompletenessWarning):
        extracted = gl.extract_vectors(llama, PAIRS, progress=False)
    vectors = gl.baselines.mean_difference(llama, PAIRS, progress=False)
    torch.testing.assert_close(vectors.residual_norm, extracted.residual_norm, rtol=1e-4, atol=1e-4)


def test_layers_can_be_chosen(llama):
    whole = gl.baselines.mean_difference(llama, PAIRS, progress=False)
    some = gl.baselines.mean_difference(llama, PAIRS, layers=[1], progress=False)
    assert some.layers == (1,)
    torch.testing.assert_close(some.directions, whole.at(1).directions)


def test_the_model_is_left_as_it_was(hooked):
    before = state_of(hooked)
    gl.baselines.mean_difference(hooked, PAIRS, progress=False)
    assert same_state(before, state_of(hooked))
