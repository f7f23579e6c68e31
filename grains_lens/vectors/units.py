"""What a strength of 1 adds."""

from __future__ import annotations

from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import unknown_name
from ..literals import Unit


def lengths(directions: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows 1"]:
    """‖v‖ in float64: the squares of float32 numbers over- and underflow in float32, and then 1e30 has no length."""
    return torch.linalg.vector_norm(directions, dim=-1, keepdim=True, dtype=torch.float64)


def of_length_one(directions: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """v/‖v‖ in float32, whatever ‖v‖ is; 0 stays 0."""
    length = lengths(directions)
    return (directions.double() / length.masked_fill(length == 0, 1.0)).float()


def in_unit(
    directions: Float[Tensor, "layer d_model"], residual_norm: Float[Tensor, " layer"], unit: Unit
) -> Float[Tensor, "layer d_model"]:
    """The directions at the length that a strength of 1 stands for, in residual-stream units."""
    if unit == "raw":
        return directions
    if unit == "absolute":
        return of_length_one(directions)
    if unit == "residual":
        empty = ((residual_norm == 0) & directions.any(dim=-1)).nonzero()
        if len(empty):
            raise ValueError(
                f"residual_norm is 0 at row {int(empty[0])} of these vectors, so that unit='residual' adds nothing "
                "there: take unit='raw' or 'absolute'."
            )
        return of_length_one(directions) * residual_norm[:, None]
    raise unknown_name("unit", unit, get_args(Unit))
