"""Choosing by numbers, none of which may be NaN. Every comparison with NaN is false, so `max` and `argmax` would let
a NaN win, or hide what it stands for, without a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def highest(
    items: Iterable[T], score: Callable[[T], float], effort: Callable[[T], float] = lambda _: 0.0
) -> T:
    """The item with the highest score, of equal ones (to nine digits) that of least effort, of those the first.

    Raises ValueError for a score that is NaN, naming the item.
    """
    return max(items, key=lambda item: (round(_number(score(item), item), 9), -effort(item)))


def ranked(scores: Sequence[float], name: str) -> list[int]:
    """Places from the highest score to the lowest, equal ones as they stand. Raises ValueError for NaN."""
    for place, score in enumerate(scores):
        _number(score, f"{name}, {place}")
    return sorted(range(len(scores)), key=lambda place: -scores[place])


def worst(drops: Iterable[float]) -> float:
    """The largest of the drops, 0 where nothing dropped. Raises ValueError for NaN."""
    return max([0.0, *(_number(drop, "a drop elsewhere") for drop in drops)])


def _number(score: float, item: Any) -> float:
    if math.isnan(score):
        raise ValueError(
            f"nothing can be chosen by a score that is nan, that of {str(item)[:200]}: try smaller strengths, "
            "or float32."
        )
    return score
