"""From many difference vectors to one direction: `aggregate(deltas, weights) -> direction`.

Any function of that form will do where an aggregate is asked for; those without a use for the weights
(one a pair: the summed |score| of the tokens that were masked) leave them alone.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Aggregate(Protocol):
    """Reduces one difference vector a pair to one direction."""

    def __call__(
        self, deltas: Float[Tensor, "pair d_model"], weights: Float[Tensor, " pair"] | None = None
    ) -> Float[Tensor, " d_model"]: ...


def mean_direction(
    deltas: Float[Tensor, "pair d_model"], weights: Float[Tensor, " pair"] | None = None
) -> Float[Tensor, " d_model"]:
    """The mean of the differences [pair, d_model]: v = (1/n) Σ_j Δ_j, in residual-stream units (CAA's mean)."""
    return deltas.float().mean(dim=0)


def weighted_mean_direction(
    deltas: Float[Tensor, "pair d_model"], weights: Float[Tensor, " pair"] | None = None
) -> Float[Tensor, " d_model"]:
    """The mean of the differences weighted by attribution: v = Σ_j w_j Δ_j / Σ_j w_j, w_j = Σ_S |a_i|.

    Without weights, or where all are zero, it is the plain mean.
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

    Raises ValueError if a difference is not finite.
    """
    if not torch.isfinite(deltas).all():
        raise ValueError(
            "deltas hold NaN or infinite values; see that the model's residual stream is finite."
        )
    deltas = deltas.double()
    scale = deltas.abs().max()
    if scale == 0:
        return torch.zeros_like(deltas[0]).float()
    deltas = deltas / scale
    mean = deltas.mean(dim=0)
    rows = deltas - mean if centred else deltas
    if rows.abs().max() <= 1e-12:
        return torch.nn.functional.normalize(mean, dim=0).float()
    component = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return (component if component @ mean >= 0 else -component).float()
