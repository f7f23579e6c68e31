"""CorrSteer's directions against a naive loop over whole texts, with scipy's correlations and planted features."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

import grains_lens as gl
from grains_lens import PreferencePair
from grains_lens.baselines.features import Tally, correlated_features
from tests import models
from tests.oracles import PAIRS, full_ids, own_bos, same_state, state_of

QUIET = {"progress": False, "batch_tokens": 120}
MORE = [
    PreferencePair("who knows the old road ?", "the bird always", "she never knows it ."),
    PreferencePair("the fox drinks", "cold river water today", "no tea"),
    PreferencePair("what grows slowly ? answer :", "moss and root", "salt"),
    PreferencePair("is the stone blue ?", "no never", "it is blue today !"),
]
# Which of the nine the model gets right, once they are turned that way round.
RIGHT = [True, False, True, True, False, False, True, False, True]
LAYERS = range(models.N_LAYERS)


class Atoms(torch.nn.Module):
    """A dictionary as SAELens's autoencoders are: a module whose weights are parameters."""

    def __init__(self, encoder: torch.Tensor, bias: torch.Tensor, decoder: torch.Tensor) -> None:
        super().__init__()
        self.W_enc, self.b_enc, self.W_dec = map(torch.nn.Parameter, (encoder, bias, decoder))

    def encode(self, h: torch.Tensor) -> torch.Tensor:
        return (h @ self.W_enc + self.b_enc).relu()


def random_atoms(seed, n=20, d_model=models.D_MODEL):
    generator = torch.Generator().manual_seed(seed)
    encoder, decoder = (torch.randn(shape, generator=generator) for shape in ((d_model, n), (n, d_model)))
    return Atoms(encoder, torch.randn(n, generator=generator), decoder)


def naive_logprob(model, pair, answer):
    ids, n_prompt = full_ids(model.tokenizer, pair.prompt, answer, own_bos(model))
    with torch.no_grad():
        logprobs = model(torch.tensor([ids]))[0].double().log_softmax(dim=-1)
    return float(sum(logprobs[at - 1, ids[at]] for at in range(n_prompt, len(ids))))


def own_answer(model, pair):
    return max((pair.chosen, pair.rejected), key=lambda answer: naive_logprob(model, pair, answer))


def mixed_pairs(model):
    """Nine pairs of which the model prefers the chosen answer where RIGHT says so, and nowhere else."""
    pairs = []
    for pair, right in zip([*PAIRS, *MORE], RIGHT, strict=True):
        own = own_answer(model, pair)
        other = pair.rejected if own == pair.chosen else pair.chosen
        pairs.append(
            PreferencePair(pair.prompt, own, other) if right else PreferencePair(pair.prompt, other, own)
        )
    return pairs


def naive_writing(model, pairs):
    """Of each pair, the stream [layer, pos, d_model] where the model's own answer is written, one unpadded text at a
    time, by transformer-lens alone."""
    streams = []
    for pair in pairs:
        ids, n_prompt = full_ids(model.tokenizer, pair.prompt, own_answer(model, pair), own_bos(model))
        with torch.no_grad():
            _, cache = model.run_with_cache(torch.tensor([ids]))
        streams.append(
            torch.stack([cache["resid_post", layer][0, n_prompt - 1 : len(ids) - 1] for layer in LAYERS])
        )
    return streams


def naive_pooled(streams, atoms, layer):
    """Activations [pair, feature], the highest over each pair's positions."""
    rows = []
    for stream in streams:
        at_positions = [atoms.encode(h[None])[0].detach().double().numpy() for h in stream[layer]]
        rows.append(np.max(at_positions, axis=0))
    return np.stack(rows)


def naive_features(pooled, outcomes, n):
    """(feature, correlation, coefficient) of the best `n`."""
    rows = []
    for feature, z in enumerate(pooled.T):
        r = pearsonr(z, outcomes).statistic if np.ptp(z) else 0.0
        rows.append((feature, r, z[outcomes > np.mean(outcomes)].mean()))
    return [row for row in sorted(rows, key=lambda row: -row[1])[:n] if row[1] > 0]


def recorded(vectors, layer):
    features = [one for one in vectors.provenance.settings["features"] if one["layer"] == layer]
    return [(one["feature"], one["correlation"], one["coefficient"]) for one in features]


def test_features_and_directions_equal_a_naive_loop_with_scipy(hooked):
    pairs = mixed_pairs(hooked)
    dictionaries = {layer: random_atoms(layer) for layer in LAYERS}
    vectors = correlated_features(hooked, pairs, dictionaries, n_features=3, **QUIET)
    streams, outcomes = naive_writing(hooked, pairs), np.array(RIGHT, dtype=float)
    assert vectors.layers == tuple(LAYERS)
    for layer, atoms in dictionaries.items():
        expected = naive_features(naive_pooled(streams, atoms, layer), outcomes, 3)
        found = recorded(vectors, layer)
        assert [one[0] for one in found] == [one[0] for one in expected]
        np.testing.assert_allclose([one[1:] for one in found], [one[1:] for one in expected], rtol=2e-3)
        direction = sum(c * atoms.W_dec[feature].detach() for feature, _, c in expected)
        torch.testing.assert_close(vectors[layer], direction.float(), rtol=2e-3, atol=1e-3)


def test_a_planted_feature_is_found_among_others(hooked):
    """One encoder weight reads 2.5 off wherever a right answer is written and 0 off where a wrong one is."""
    pairs = mixed_pairs(hooked)
    streams = naive_writing(hooked, pairs)
    layer, planted = 1, 7
    h = torch.cat([stream[layer] for stream in streams]).double()
    wanted = torch.cat(
        [
            torch.full((stream.shape[1],), 2.5 * right, dtype=torch.double)
            for stream, right in zip(streams, RIGHT, strict=True)
        ]
    )
    assert len(h) <= models.D_MODEL  # as many equations as can be solved exactly
    atoms = random_atoms(5)
    with torch.no_grad():
        atoms.W_enc[:, planted] = (torch.linalg.pinv(h) @ wanted).float()
        atoms.b_enc[planted] = 0.0
    vectors = correlated_features(hooked, pairs, {layer: atoms}, **QUIET)
    ((feature, correlation, coefficient),) = recorded(vectors, layer)
    assert feature == planted
    assert correlation == pytest.approx(1.0, abs=1e-3)
    assert coefficient == pytest.approx(2.5, rel=1e-2)
    torch.testing.assert_close(vectors[layer], 2.5 * atoms.W_dec[planted].detach(), rtol=1e-2, atol=1e-3)


def test_outcomes_of_ones_own_take_the_place_of_right_and_wrong(llama):
    pairs = mixed_pairs(llama)
    dictionaries = {2: random_atoms(2)}
    default = correlated_features(llama, pairs, dictionaries, **QUIET)
    given = correlated_features(llama, pairs, dictionaries, outcomes=[float(one) for one in RIGHT], **QUIET)
    assert torch.equal(default.directions, given.directions)
    rewards = [0.3, -1.0, 4.0, 2.5, 0.1, 0.0, -2.0, 1.5, 7.0]
    vectors = correlated_features(
        llama, pairs, dictionaries, outcomes=torch.tensor(rewards), n_features=20, **QUIET
    )
    pooled = naive_pooled(naive_writing(llama, pairs), dictionaries[2], 2)
    expected = naive_features(pooled, np.array(rewards), 20)
    assert 0 < len(expected) < 20  # those of negative correlation are left out
    np.testing.assert_allclose(recorded(vectors, 2), expected, rtol=1e-3)


def test_batches_and_their_padding_change_nothing(hooked):
    pairs, dictionaries = mixed_pairs(hooked), {layer: random_atoms(layer) for layer in LAYERS}
    small, large = (
        correlated_features(hooked, pairs, dictionaries, progress=False, batch_tokens=tokens)
        for tokens in (1, 8192)
    )
    torch.testing.assert_close(small.directions, large.directions, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(small.residual_norm, large.residual_norm, rtol=1e-4, atol=1e-4)
    for layer in LAYERS:
        assert [one[0] for one in recorded(small, layer)] == [one[0] for one in recorded(large, layer)]


def test_what_is_recorded_is_what_was_asked_for(llama):
    pairs = mixed_pairs(llama)
    vectors = correlated_features(llama, pairs, {2: random_atoms(2), 0: random_atoms(0)}, **QUIET)
    assert vectors.layers == (0, 2)
    assert vectors.provenance.method == "correlated_features"
    assert vectors.provenance.n_pairs == len(pairs)
    assert vectors.provenance.settings["mean_outcome"] == pytest.approx(np.mean(RIGHT))
    mean = gl.baselines.mean_difference(llama, pairs, layers=[0, 2], progress=False)
    torch.testing.assert_close(vectors.residual_norm, mean.residual_norm, rtol=1e-4, atol=1e-4)


def test_the_model_is_left_as_it_was(hooked):
    pairs, before = mixed_pairs(hooked), state_of(hooked)
    correlated_features(hooked, pairs, {1: random_atoms(1)}, progress=False)
    assert same_state(before, state_of(hooked))


# --- nothing to find -----------------------------------------------------------------------------


@pytest.mark.parametrize("right", [True, False])
def test_a_model_always_right_or_always_wrong_has_no_direction_and_says_so(llama, right):
    pairs = [
        PreferencePair(
            pair.prompt, *((pair.chosen, pair.rejected) if good == right else (pair.rejected, pair.chosen))
        )
        for pair, good in zip(mixed_pairs(llama), RIGHT, strict=True)
    ]
    dictionaries = {0: random_atoms(0), 1: random_atoms(1)}
    answer = "chosen" if right else "rejected"
    with pytest.warns(
        UserWarning, match=rf"layers \[0, 1\] are zero: .* prefers the {answer} answer"
    ) as caught:
        vectors = correlated_features(llama, pairs, dictionaries, **QUIET)
    assert len(caught) == 1
    assert not vectors.directions.any()
    assert vectors.provenance.settings["features"] == []
    with pytest.warns(UserWarning, match="all outcomes are 3"):
        correlated_features(llama, pairs, dictionaries, outcomes=[3.0] * len(pairs), **QUIET)


def test_a_layer_without_a_positive_correlation_has_no_direction_and_says_so(llama):
    pairs = mixed_pairs(llama)
    silent = Atoms(
        torch.zeros(models.D_MODEL, 4), torch.tensor([0.0, 0.0, -1.0, 2.0]), torch.ones(4, models.D_MODEL)
    )
    with pytest.warns(UserWarning, match=r"layers \[1\] are zero: no feature") as caught:
        vectors = correlated_features(llama, pairs, {0: random_atoms(0), 1: silent}, **QUIET)
    assert len(caught) == 1
    assert not vectors[1].any()
    assert vectors[0].any()


def test_a_tally_equals_numpy_and_takes_rounding_for_no_variation():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(40, generator=generator)
    z = torch.randn(40, 5, generator=generator).relu() + y[:, None].relu() * torch.arange(5)
    z[:, 3] = 0.7 + 1e-7 * y
    tally = Tally(5, y)
    for rows in ([3, 1, 2], [0], list(range(39, 3, -1))):
        tally.add(z[rows], rows)
    expected = [np.corrcoef(z[:, i].double(), y.double())[0, 1] if i != 3 else 0.0 for i in range(5)]
    np.testing.assert_allclose(tally.correlations, expected, atol=1e-6)
    np.testing.assert_allclose(tally.coefficients, z[y > y.mean()].mean(dim=0), rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant = Tally(5, torch.ones(40))
        constant.add(z, range(40))
    assert not constant.correlations.any()
    assert torch.isfinite(constant.coefficients).all()


# --- bad input -----------------------------------------------------------------------------------


class NoDecoder:
    def encode(self, h):
        return h


class Transposed(Atoms):
    def encode(self, h):
        return super().encode(h).T


@pytest.mark.parametrize(
    ("dictionaries", "settings", "message"),
    [
        ({}, {}, "dictionaries is empty"),
        ({7: random_atoms(0)}, {}, "layer 7 is not there"),
        ({1: NoDecoder()}, {}, r"dictionaries\[1\], a NoDecoder, has no W_dec"),
        ({1: random_atoms(0, d_model=31)}, {}, r"W_dec has shape \(20, 31\): .* d_model is 32"),
        (
            {1: Transposed(*random_atoms(0).parameters())},
            {},
            r"encode gives shape \(20, 2\) .* has 20 features",
        ),
        ({1: random_atoms(0)}, {"n_features": 0}, "n_features=0 must be 1 to 20"),
        ({1: random_atoms(0)}, {"n_features": 21}, "n_features=21 must be 1 to 20"),
        ({1: random_atoms(0)}, {"outcomes": [1.0, 0.0]}, r"outcomes has shape \(2,\) for 5 pairs"),
        ({1: random_atoms(0)}, {"outcomes": [1.0, 0.0, float("nan"), 1.0, 1.0]}, r"outcomes\[2\] is nan"),
    ],
    ids=["empty", "layer", "no decoder", "width", "encode", "none", "many", "few", "nan"],
)
def test_bad_input_gets_one_clear_sentence(llama, unchecked, dictionaries, settings, message):
    with pytest.raises(ValueError, match=message):
        correlated_features(llama, PAIRS, dictionaries, **settings, **QUIET)
