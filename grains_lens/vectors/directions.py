"""Aggregates, which reduce the differences of all pairs to one direction."""

from __future__ import annotations

import functools
from typing import Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import kind_of, unknown_name
from ..literals import AggregateName


@runtime_checkable
class Aggregate(Protocol):
    """Reduces one difference vector per pair to one direction."""

    def __call__(
        self, deltas: Float[Tensor, "pair d_model"], weights: Float[Tensor, " pair"] | None = None
    ) -> Float[Tensor, " d_model"]: ...


def mean_direction(
    deltas: Float[Tensor, "pair d_model"], weights: Float[Tensor, " pair"] | None = None
) -> Float[Tensor, " d_model"]:
    """The mean of the differences [pair, d_model]: v = (1/n) Σ_j Δ_j, in residual-stream units (CAA's mean).

    Args:
        deltas: Differences of the residual stream, [pair, d_model].
        weights: One weight per pair; unused here.
    """
    return deltas.float().mean(dim=0)


def weighted_mean_direction(
    deltas: Float[Tensor, "pair d_model"], weights: Float[Tensor, " pair"] | None = None
) -> Float[Tensor, " d_model"]:
    """The mean of the differences weighted by attribution: v = Σ_j w_j Δ_j / Σ_j w_j, w_j = Σ_S |a_i|.

    Without weights, or where all are zero, it is the plain mean.

    Args:
        deltas: Differences of the residual stream, [pair, d_model].
        weights: The summed |score| of each pair's masked tokens, [pair]. None weighs all alike.
    """
    if weights is None or not weights.any():
        return mean_direction(deltas)
    shares = weights.float() / weights.float().sum()
    return (shares[:, None] * deltas.float()).sum(dim=0)


def pca_direction(
    deltas: Float[Tensor, "pair d_model"],
    weights: Float[Tensor, " pair"] | None = None,
    *,
    centred: bool = False,
) -> Float[Tensor, " d_model"]:
    """The first principal component, of unit length, pointing along the mean (GrAInS, section 3.2).

    v = argmax_{‖u‖=1} Σ_j (u·Δ_j)²,  with sign(v·Σ_j Δ_j) = +1. With `centred=True` the mean is taken off
    first, as scikit-learn's PCA does: the component then says where the differences vary, not where they
    go, and the shift that all pairs share is lost; its sign is still fixed by the mean. Differences that
    are all the same have no centred component, and their mean's direction is given instead.

    All-zero differences (nothing was masked in any pair) give a zero vector.

    Args:
        deltas: Differences of the residual stream, [pair, d_model].
        weights: One weight per pair; unused here.
        centred: Whether the mean is taken off first.

    Raises ValueError if a difference is not finite.
    """
    deltas = _scaled(deltas)
    if not deltas.any():
        return deltas[0].float()
    mean = deltas.mean(dim=0)
    rows = deltas - mean if centred else deltas
    if rows.abs().max() <= 1e-12:
        return torch.nn.functional.normalize(mean, dim=0).float()
    component = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return (component if component @ mean >= 0 else -component).float()


def component_directions(n: int) -> Aggregate:
    """An aggregate: the mean difference, as far as the first n uncentred principal components hold it.

    v = Σ_{c ≤ n} (u_c·Δ̄) u_c, in residual-stream units, with u_c the right singular vectors of the
    differences [pair, d_model] and Δ̄ their mean: n = 1 is `pca_direction` with the mean's length along it, n as
    large as their rank the mean itself. A smaller n drops components that only a few pairs share.

    Args:
        n: How many components, at least 1.

    Raises ValueError if n is less than 1, or a difference is not finite.
    """
    if n < 1:
        raise ValueError(f"component_directions(n={n}): at least one component is needed.")
    return functools.partial(_component_directions, n=n)


def _component_directions(
    deltas: Float[Tensor, "pair d_model"], weights: Float[Tensor, " pair"] | None = None, *, n: int
) -> Float[Tensor, " d_model"]:
    components = torch.linalg.svd(_scaled(deltas), full_matrices=False).Vh[:n]
    return (components.T @ (components @ deltas.double().mean(dim=0))).float()


def probe_direction(
    deltas: Float[Tensor, "pair d_model"], weights: Float[Tensor, " pair"] | None = None
) -> Float[Tensor, " d_model"]:
    """The direction in which a logistic regression tells the differences from their opposites, without a unit.

    v = argmin_w ½‖w‖² + 2·Σ_j log(1 + exp(−w·Δ_j/s)), with s the mean ‖Δ_j‖: scikit-learn's
    LogisticRegression without intercept on Δ_j/s against −Δ_j/s, C = 1 (a probe as in ITI, Li et al. 2023,
    section 3.2, on GrAInS's differences). All-zero differences give a zero vector.

    Args:
        deltas: Differences of the residual stream, [pair, d_model].
        weights: One weight per pair; unused here.

    Raises ValueError if a difference is not finite.
    """
    from sklearn.linear_model import LogisticRegression

    rows = _scaled(deltas)
    if not rows.any():
        return rows[0].float()
    rows = (rows / torch.linalg.vector_norm(rows, dim=1).mean()).numpy()
    labels = [1] * len(rows) + [0] * len(rows)
    fitted = LogisticRegression(fit_intercept=False, max_iter=1000, tol=1e-10).fit([*rows, *-rows], labels)
    return torch.tensor(fitted.coef_[0], dtype=torch.float32)


def as_aggregate(aggregate: Aggregate | AggregateName) -> Aggregate:
    """The aggregate of this name; a function of differences is given back as it is.

    Raises ValueError for an unknown name, and for what is no function.
    """
    if isinstance(aggregate, str):
        named: dict[str, Aggregate] = {
            "pca": pca_direction,
            "mean": mean_direction,
            "weighted_mean": weighted_mean_direction,
            "probe": probe_direction,
        }
        name = aggregate.removesuffix("_direction")
        if name not in named:
            raise unknown_name("aggregate", aggregate, get_args(AggregateName))
        return named[name]
    if not callable(aggregate):
        raise ValueError(
            f"aggregate={kind_of(aggregate)} must be a function of differences, such as pca_direction, or the name "
            "of one, such as 'mean'."
        )
    if aggregate is component_directions:
        raise ValueError("aggregate=component_directions must say how many: component_directions(2).")
    return aggregate


def _scaled(deltas: Float[Tensor, "pair d_model"]) -> Float[Tensor, "pair d_model"]:
    """Finite differences in double precision, scaled so that the largest number is 1 (or all are 0)."""
    if not torch.isfinite(deltas).all():
        raise ValueError(
            "deltas hold NaN or infinite values; see that the model's residual stream is finite."
        )
    deltas = deltas.double()
    scale = deltas.abs().max()
    return deltas / scale if scale > 0 else deltas


def per_layer(
    aggregate: Aggregate,
    deltas: Float[Tensor, "pair layer d_model"],
    weights: Float[Tensor, " pair"] | None = None,
) -> Float[Tensor, "layer d_model"]:
    """The aggregate of the differences at each layer."""
    return torch.stack([aggregate(deltas[:, row], weights) for row in range(deltas.shape[1])])
