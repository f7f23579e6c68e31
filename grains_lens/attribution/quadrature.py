"""Quadrature on [0, 1]: the nodes and weights that turn a path integral into a sum."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import unknown_name, whole
from ..literals import QuadratureRule


def quadrature(rule: QuadratureRule, steps: int) -> tuple[Float[Tensor, " step"], Float[Tensor, " step"]]:
    """Nodes α_k and weights w_k with ∫₀¹ g(α) dα ≈ Σ_k w_k g(α_k), in float64.

    Gauss-Legendre integrates polynomials of degree 2·steps − 1 exactly; the trapezoid rule has its end
    points among its nodes (2 steps at least); the midpoint rule has neither.

    Raises ValueError for an unknown rule or too few steps.
    """
    if rule not in get_args(QuadratureRule):
        raise unknown_name("rule", rule, get_args(QuadratureRule))
    least = 2 if rule == "trapezoid" else 1
    if whole(steps, "steps", None) < least:
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


def path_derivative(rule: QuadratureRule, steps: int) -> Float[Tensor, "step point"]:
    """D with g'(α_k) ≈ Σ_j D_kj g(p_j), where α are the rule's nodes and p = (0, α_1, ..., α_steps, 1).

    For Gauss-Legendre, one polynomial goes through the nodes and the two ends. Its derivative is exact up to
    degree steps + 1 and converges as fast as the quadrature. With evenly spaced nodes, such a polynomial
    would oscillate (Runge), so the parabola through three neighbours is used, with an error of O(1/steps²).
    Trapezoid nodes include the ends, so the first and last columns of D are 0.
    """
    nodes = quadrature(rule, steps)[0].numpy()
    ends_apart = rule != "trapezoid"
    points = np.concatenate([[0.0], nodes, [1.0]]) if ends_apart else nodes
    matrix = np.zeros((steps, len(points)))
    for row in range(steps):
        at = row + int(ends_apart)
        stencil = np.arange(len(points))
        if rule != "gauss_legendre":
            first = min(max(at - 1, 0), max(len(points) - 3, 0))
            stencil = stencil[first : first + 3]
        matrix[row, stencil] = _derivative_at(points[stencil], int(at - stencil[0]))
    if not ends_apart:
        matrix = np.pad(matrix, ((0, 0), (1, 1)))
    return torch.from_numpy(matrix)


def _derivative_at(points: np.ndarray, at: int) -> np.ndarray:
    """The weights for the derivative, at points[at], of the polynomial through the values at the points."""
    # Barycentric (Berrut and Trefethen 2004, section 9.3), in logarithms, because the products underflow and
    # overflow.
    apart = points[:, None] - points
    np.fill_diagonal(apart, 1.0)
    logs, signs = np.log(np.abs(apart)).sum(axis=1), np.sign(apart).prod(axis=1)
    weights = signs[at] * signs * np.exp(logs[at] - logs) / apart[at]
    weights[at] = 0.0
    weights[at] = -weights.sum()
    return weights
