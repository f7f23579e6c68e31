"""Quadrature on [0, 1]: the nodes and weights with which a path integral becomes a sum."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .errors import unknown_name

Rule = Literal["gauss_legendre", "trapezoid", "midpoint"]


def quadrature(rule: Rule, steps: int) -> tuple[Float[Tensor, " step"], Float[Tensor, " step"]]:
    """Nodes α_k and weights w_k with ∫₀¹ g(α) dα ≈ Σ_k w_k g(α_k), in float64.

    Gauss-Legendre integrates polynomials of degree 2·steps − 1 exactly; the trapezoid rule has its end
    points among its nodes (2 steps at least); the midpoint rule has neither.

    Raises ValueError for an unknown rule or too few steps.
    """
    if rule not in get_args(Rule):
        raise unknown_name("rule", rule, get_args(Rule))
    least = 2 if rule == "trapezoid" else 1
    if steps < least:
        raise ValueError(f"steps={steps} is too few for the {rule} rule: it needs at least {least}.")
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        nodes, weights = (nodes + 1) / 2, weights / 2
    elif rule == "midpoint":
        nodes, weights = (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    else:
        nodes, weights = np.linspace(0, 1, steps), np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
    return torch.from_numpy(nodes), torch.from_numpy(weights)
