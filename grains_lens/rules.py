"""Steering rules: what a vector does to the residual stream.

A rule is a pure function `rule(h, v) -> h'` of float32 tensors, h [..., d_model] and v, the direction
times its strength, of a shape that broadcasts against it. Any function of that form can be a rule.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

SteeringRule = Callable[[Tensor, Tensor], Tensor]


def add(
    h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"]
) -> Float[Tensor, "... d_model"]:
    """Plain addition: h' = h + v (ActAdd, CAA)."""
    return h + v


def add_keeping_norm(
    h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"]
) -> Float[Tensor, "... d_model"]:
    """Add, and rescale to the old length: h' = (h + v)·‖h‖/‖h + v‖ at each position (GrAInS, section 3.3).

    Norms are over d_model, so ‖h'‖ = ‖h‖ at every position, also when one token is decoded at a time.
    Where h + v vanishes there is no direction to keep, and h' = h.
    """
    moved = h + v
    length = torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
    vanishes = length == 0
    # Divided by 1 there, not by 0, which would make every gradient NaN although the result is not used.
    scale = torch.linalg.vector_norm(h, dim=-1, keepdim=True) / length.masked_fill(vanishes, 1.0)
    return torch.where(vanishes, h, moved * scale)
