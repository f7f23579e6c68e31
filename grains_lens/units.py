"""What a strength of 1 adds."""

from __future__ import annotations

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from .errors import unknown_name

Unit = Literal["residual", "absolute", "raw"]
"""`"residual"` a vector as long as the stream typically is there, `"absolute"` one of length 1, `"raw"` the one
that was extracted."""


def in_unit(
    directions: Float[Tensor, "layer d_model"], residual_norm: Float[Tensor, " layer"], unit: Unit
) -> Float[Tensor, "layer d_model"]:
    """The directions at the length that a strength of 1 stands for, in residual-stream units."""
    if unit == "raw":
        return directions
    if unit == "absolute":
        return normalize(directions, dim=-1)
    if unit == "residual":
        return normalize(directions, dim=-1) * residual_norm[:, None]
    raise unknown_name("unit", unit, get_args(Unit))
