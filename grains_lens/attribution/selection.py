"""Choosing tokens by their scores."""

from __future__ import annotations

from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import unknown_name
from ..literals import Sign


def top_tokens(
    scores: Float[Tensor, " pos"],
    k: int,
    *,
    sign: Sign = "positive",
    eligible: Bool[Tensor, " pos"] | None = None,
) -> Int[Tensor, " chosen"]:
    """Positions of the k highest positive scores, or of the k lowest negative ones, the strongest first.

    S⁺ = top-k {i : a_i > 0},  S⁻ = top-k {i : a_i < 0} by |a_i| (GrAInS, section 3.2). Fewer than k come
    back where fewer scores have that sign: a token that does not support an answer is not masked for it.

    Raises ValueError if k is below 1 or above the number of eligible tokens, or a score is not finite.
    """
    if sign not in get_args(Sign):
        raise unknown_name("sign", sign, get_args(Sign))
    if eligible is None:
        eligible = torch.ones_like(scores, dtype=torch.bool)
    available = int(eligible.sum())
    if not hasattr(k, "__index__"):
        raise ValueError(f"k={k!r} must be a whole number of tokens.")
    if k < 1:
        raise ValueError(f"k={k} selects nothing: it must be at least 1.")
    if k > available:
        raise ValueError(
            f"k={k} is more than the {available} tokens there are to choose from "
            f"(of {len(scores)} in the prompt; special tokens are left out unless asked for): lower k."
        )
    if not torch.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinite values; see that the model's gradients are finite.")
    signed = scores if sign == "positive" else -scores
    signed = torch.where(eligible, signed, -torch.inf)
    # Of equal scores the first comes first, on every device; topk promises no order.
    strongest = signed.argsort(descending=True, stable=True)[:k]
    return strongest[signed[strongest] > 0]
