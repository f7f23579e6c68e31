"""Sparse dictionaries: planted atoms come back, what is trained repeats, and the stream is the model's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

import grains_lens as gl
from analysis.dictionaries import Dictionary, dictionaries_of, fit_dictionary, stream_of
from tests.oracles import PAIRS


def sparse_rows(n_rows=4000, n_atoms=40, d_model=32, scale=7.0, seed=0):
    """Rows that are sums of two or so of more atoms than dimensions, far from the origin; and the atoms."""
    generator = torch.Generator().manual_seed(seed)
    atoms = normalize(torch.randn(n_atoms, d_model, generator=generator), dim=-1)
    present = torch.rand(n_rows, n_atoms, generator=generator) < 2 / n_atoms
    weights = present * (0.5 + torch.rand(n_rows, n_atoms, generator=generator))
    return scale * (weights @ atoms + 3), atoms


def test_planted_atoms_come_back_and_explain_what_was_not_trained_on():
    rows, atoms = sparse_rows()

    def fitted(steps):
        found = fit_dictionary(rows[:3000], n_features=64, active=4, steps=steps, seed=0)
        cosines = (atoms @ found.W_dec.T).amax(dim=-1)
        return float((cosines > 0.95).float().mean()), found.explained(rows[3000:])

    recovered, explained = fitted(1000)
    assert recovered > 0.9
    assert explained > 0.9
    # Rows on which one atom is active alone are atoms from the start, but few.
    recovered, explained = fitted(0)
    assert recovered < 0.4
    assert explained < 0.4


def test_what_is_encoded_is_sparse_not_negative_and_in_the_units_of_the_input():
    rows, _ = sparse_rows()
    found = fit_dictionary(rows, n_features=32, active=4, steps=200, seed=0)
    z = found.encode(rows)
    assert (z >= 0).all()
    assert ((z > 0).sum(dim=-1) <= 4).all()
    torch.testing.assert_close(found.W_dec.norm(dim=-1), torch.ones(32))
    larger = fit_dictionary(50 * rows, n_features=32, active=4, steps=200, seed=0)
    torch.testing.assert_close(larger.encode(50 * rows), 50 * z, rtol=1e-2, atol=1.0)
    assert not found.W_dec.requires_grad


def test_the_same_seed_gives_the_same_dictionary():
    rows, _ = sparse_rows(n_rows=500)
    one, again, other = (
        fit_dictionary(rows, n_features=12, active=4, steps=20, seed=seed) for seed in (0, 0, 1)
    )
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert not torch.allclose(one.W_dec, other.W_dec)


def test_variance_explained_and_dead_features_by_hand():
    """Atoms along two axes of three, in a dictionary with one feature at a time and one that nothing lights."""
    axes = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    by_hand = Dictionary(axes.T, torch.tensor([0.0, 0.0, -9.0]), axes, torch.zeros(3), active=1)
    h = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [-1.0, -2.0, -3.0]])
    assert by_hand.encode(h).tolist() == [[2, 0, 0], [0, 3, 0], [0, 0, 0]]
    missing = 1.0 + 1.0 + 14.0
    total = float((h - h.mean(dim=0)).square().sum())
    assert by_hand.explained(h) == pytest.approx(1 - missing / total)
    assert by_hand.dead(h) == 1


def test_the_stream_is_that_of_every_prompts_own_tokens(llama):
    found = stream_of(llama, PAIRS)
    rows = []
    for pair in PAIRS:
        ids = llama.tokenizer(pair.prompt, add_special_tokens=True, return_tensors="pt")["input_ids"]
        assert ids[0, 0] == llama.tokenizer.bos_token_id
        with torch.no_grad():
            _, cache = llama.run_with_cache(ids)
        rows.append(torch.stack([cache["resid_post", layer][0, 1:] for layer in range(len(found))]))
    expected = torch.cat(rows, dim=1)
    assert found.shape == expected.shape
    # Prompts of one length are read together, so their order is another.
    for ours, theirs in zip(found, expected, strict=True):
        distances = (theirs[:, None] - ours).abs().amax(dim=-1)
        assert float(distances.amin(dim=1).max()) < 1e-3
        assert sorted(distances.argmin(dim=1).tolist()) == list(range(len(theirs)))


def test_a_models_dictionaries_are_what_correlated_features_takes(llama):
    dictionaries = dictionaries_of(llama, PAIRS, n_features=16, active=4, steps=20)
    assert sorted(dictionaries) == [0, 1, 2]
    outcomes = [1.0, 0.0, 1.0, 0.0, 1.0]
    vectors = gl.baselines.correlated_features(llama, PAIRS, dictionaries, outcomes=outcomes, progress=False)
    for one in vectors.provenance.settings["features"]:
        atom = dictionaries[one["layer"]].W_dec[one["feature"]]
        torch.testing.assert_close(vectors[one["layer"]], one["coefficient"] * atom, rtol=1e-4, atol=1e-5)


def test_the_stream_of_prompts_with_images_has_their_images_tokens():
    world = gl.worlds.load("hints")
    model = world.load_model()
    pairs = world.behaviours["glare"].pairs[:3]
    found = stream_of(model, pairs)
    inputs = [gl.prompt_inputs(model, [pair.prompt], images=[pair.images]) for pair in pairs]
    assert found.shape[1] == sum(one["input_ids"].shape[1] - 1 for one in inputs)
    read = {}
    with torch.no_grad(), model.hooks(fwd_hooks=gl.capture_hooks(model, [1], read)):
        model.original_model(**inputs[0])
    rows = read[1][0, 1:]
    distances = (rows[:, None] - found[1]).abs().amax(dim=-1).amin(dim=1)
    assert float(distances.max()) < 1e-4
    assert len(rows) > 16
