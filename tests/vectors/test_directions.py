"""From differences to a direction: a planted one comes back, with its sign, whatever the axes and the order."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from grains_lens.vectors.directions import (
    Aggregate,
    component_directions,
    mean_direction,
    pca_direction,
    probe_direction,
    weighted_mean_direction,
)

D_MODEL, N_PAIRS = 48, 50
AGGREGATES = {
    "mean": mean_direction,
    "weighted": weighted_mean_direction,
    "pca": pca_direction,
    "centred": partial(pca_direction, centred=True),
    "three components": component_directions(3),
    "probe": probe_direction,
}
OF_STREAM_UNITS = (mean_direction, weighted_mean_direction, AGGREGATES["three components"])
every_aggregate = pytest.mark.parametrize("aggregate", AGGREGATES.values(), ids=AGGREGATES)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(strengths, *, noise, seed=0):
    """Differences along one unit direction, each as far as its strength, with noise of that length about it."""
    direction = torch.nn.functional.normalize(draw(D_MODEL, seed=seed + 100), dim=0)
    deltas = strengths[:, None] * direction + noise * draw(len(strengths), D_MODEL, seed=seed) / D_MODEL**0.5
    return direction, deltas


@pytest.mark.parametrize("aggregate", [one for one in AGGREGATES.values() if one is not probe_direction])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_direction_comes_back_with_its_sign(aggregate, sign, seed):
    strengths = 2.0 + draw(N_PAIRS, seed=seed + 200)
    direction, deltas = planted(sign * strengths, noise=0.5, seed=seed)
    found = aggregate(deltas, strengths.abs())
    assert torch.cosine_similarity(found, sign * direction, dim=0) > 0.99


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@every_aggregate
def test_directions_are_float32_in_any_precision(aggregate, dtype):
    strengths = 2.0 + draw(N_PAIRS, seed=1)
    _, deltas = planted(strengths, noise=0.5)
    found = aggregate(deltas.to(dtype), strengths.abs().to(dtype))
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found, aggregate(deltas, strengths.abs()), dim=0) > 0.999


def test_a_shift_that_all_pairs_share_is_found_uncentred_and_lost_centred():
    shift, spread = torch.eye(D_MODEL)[:2]
    deltas = 3.0 * shift + draw(N_PAIRS, seed=1)[:, None] * spread + 0.01 * draw(N_PAIRS, D_MODEL)
    assert pca_direction(deltas) @ shift > 0.98
    assert (pca_direction(deltas, centred=True) @ shift).abs() < 0.05


def test_pca_is_the_argmax_of_the_projections():
    deltas = draw(N_PAIRS, D_MODEL)
    found = pca_direction(deltas)
    best = (deltas @ found).square().sum()
    others = torch.nn.functional.normalize(draw(1000, D_MODEL, seed=1) + 2 * found, dim=-1)
    assert (deltas @ others.T).square().sum(dim=0).max() <= best
    # The first eigenvector of ΔᵀΔ.
    eigen = torch.linalg.eigh(deltas.double().T @ deltas.double()).eigenvectors[:, -1].float()
    assert (found @ eigen).abs() > 0.99999


@pytest.mark.parametrize("shape", [(50, 8), (8, 50), (2, 5)])
def test_centred_pca_is_scikit_learns(shape):
    decomposition = pytest.importorskip("sklearn.decomposition")
    deltas = draw(*shape) + 0.5
    reference = torch.from_numpy(decomposition.PCA(1).fit(deltas.double().numpy()).components_[0]).float()
    assert (pca_direction(deltas, centred=True) @ reference).abs() > 0.99999


@pytest.mark.parametrize("centred", [False, True])
def test_pca_has_unit_length_and_points_along_the_mean(centred):
    for seed in range(20):
        deltas = draw(10, D_MODEL, seed=seed) + 0.2 * draw(D_MODEL, seed=seed + 100)
        direction = pca_direction(deltas, centred=centred)
        torch.testing.assert_close(direction.norm(), torch.tensor(1.0))
        assert direction @ deltas.mean(dim=0) > 0


@every_aggregate
def test_negated_differences_give_the_negated_direction(aggregate):
    deltas, weights = draw(N_PAIRS, D_MODEL) + 0.5, draw(N_PAIRS, seed=1).abs()
    torch.testing.assert_close(aggregate(-deltas, weights), -aggregate(deltas, weights))


@every_aggregate
def test_the_order_of_pairs_does_not_matter(aggregate):
    deltas, weights = draw(N_PAIRS, D_MODEL) + 0.5, draw(N_PAIRS, seed=1).abs()
    order = torch.randperm(N_PAIRS, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(aggregate(deltas[order], weights[order]), aggregate(deltas, weights))


@every_aggregate
def test_a_turn_of_the_axes_turns_the_direction(aggregate):
    deltas, weights = draw(N_PAIRS, D_MODEL) + 0.5, draw(N_PAIRS, seed=1).abs()
    turn = torch.linalg.qr(draw(D_MODEL, D_MODEL, seed=2)).Q
    torch.testing.assert_close(
        aggregate(deltas @ turn, weights), aggregate(deltas, weights) @ turn, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("factor", [1e-30, 1e-4, 1e4, 1e30])
@every_aggregate
def test_means_scale_with_the_differences_and_components_do_not(aggregate, factor):
    deltas, weights = draw(N_PAIRS, D_MODEL) + 0.5, draw(N_PAIRS, seed=1).abs()
    of_scaled, expected = aggregate(factor * deltas, weights), aggregate(deltas, weights)
    if aggregate in OF_STREAM_UNITS:
        of_scaled = of_scaled / factor
    torch.testing.assert_close(of_scaled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_pairs", [1, 7])
@pytest.mark.parametrize("length", [1e-20, 1.0, 1e6])
@every_aggregate
def test_identical_differences_give_their_direction(aggregate, length, n_pairs):
    delta = length * torch.nn.functional.normalize(draw(D_MODEL), dim=0)
    found = aggregate(delta.expand(n_pairs, -1), torch.ones(n_pairs))
    expected = length if aggregate in OF_STREAM_UNITS else found.norm()
    torch.testing.assert_close(found / expected, delta / length, rtol=1e-4, atol=1e-6)


@every_aggregate
def test_zero_differences_give_zero(aggregate):
    for n_pairs in (1, 5):
        assert torch.equal(
            aggregate(torch.zeros(n_pairs, D_MODEL), torch.zeros(n_pairs)), torch.zeros(D_MODEL)
        )


@every_aggregate
def test_opposite_differences_give_no_nan(aggregate):
    deltas = torch.cat([draw(4, D_MODEL), -draw(4, D_MODEL)])
    assert torch.isfinite(aggregate(deltas, torch.ones(8))).all()


def test_weights_weigh():
    deltas = torch.eye(3)
    weights = torch.tensor([3.0, 1.0, 0.0])
    torch.testing.assert_close(weighted_mean_direction(deltas, weights), torch.tensor([0.75, 0.25, 0.0]))
    # A pair of twice the weight is that pair twice, and only shares matter.
    twice = torch.cat([deltas, deltas[:1]])
    torch.testing.assert_close(
        weighted_mean_direction(deltas, torch.tensor([2.0, 1.0, 1.0])), mean_direction(twice)
    )
    torch.testing.assert_close(
        weighted_mean_direction(deltas, 1e-30 * weights), weighted_mean_direction(deltas, weights)
    )


def test_without_weights_the_weighted_mean_is_the_plain_one():
    deltas = draw(N_PAIRS, D_MODEL)
    for weights in (None, torch.zeros(N_PAIRS), torch.full((N_PAIRS,), 0.3)):
        torch.testing.assert_close(weighted_mean_direction(deltas, weights), mean_direction(deltas))


@pytest.mark.parametrize("aggregate", [mean_direction, pca_direction, partial(pca_direction, centred=True)])
def test_the_others_leave_weights_alone(aggregate):
    deltas = draw(N_PAIRS, D_MODEL)
    assert torch.equal(aggregate(deltas, torch.rand(N_PAIRS)), aggregate(deltas))
    assert isinstance(aggregate, Aggregate)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_differences_that_are_not_finite_are_refused(bad):
    deltas = draw(N_PAIRS, D_MODEL)
    deltas[3, 4] = bad
    with pytest.raises(ValueError, match="deltas hold NaN or infinite values; see that"):
        pca_direction(deltas)


def test_components_lie_between_the_first_component_and_the_mean():
    deltas = 0.5 + draw(7, D_MODEL)
    mean, first = deltas.mean(dim=0), pca_direction(deltas)
    torch.testing.assert_close(component_directions(1)(deltas), (first @ mean) * first, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(component_directions(7)(deltas), mean, rtol=1e-4, atol=1e-5)
    lengths = [float(component_directions(n)(deltas).norm()) for n in range(1, 8)]
    assert lengths == sorted(lengths)
    with pytest.raises(ValueError, match="n=0"):
        component_directions(0)


def test_a_probe_stands_where_its_loss_is_least():
    """The gradient of ½‖w‖² + 2·Σ_j log(1 + exp(−w·x_j)) vanishes."""
    deltas = 0.3 + draw(N_PAIRS, D_MODEL)
    x = (deltas / deltas.norm(dim=1).mean()).double()
    w = probe_direction(deltas).double()
    gradient = w - 2 * (torch.sigmoid(-x @ w)[:, None] * x).sum(dim=0)
    assert gradient.norm() < 1e-2 * w.norm()
    torch.testing.assert_close(probe_direction(1e4 * deltas), w.float(), rtol=1e-3, atol=1e-4)
    assert not probe_direction(torch.zeros(3, D_MODEL)).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_probe_finds_a_planted_direction_given_many_pairs(sign):
    """With few, it leans towards whatever noise helps to tell the two apart."""
    direction = torch.nn.functional.normalize(draw(16, seed=7), dim=0)
    deltas = sign * 5 * direction + 0.3 * draw(200, 16)
    assert torch.cosine_similarity(probe_direction(deltas), sign * direction, dim=0) > 0.99
