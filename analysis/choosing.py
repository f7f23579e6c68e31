"""Choose by scores, none of which may be NaN. Every comparison with NaN is false, so `max` and `argmax` could
silently choose a NaN or ignore it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import grains_lens as gl

T = TypeVar("T")


def highest(
    items: Iterable[T], score: Callable[[T], float], effort: Callable[[T], float] = lambda _: 0.0
) -> T:
    """`grains_lens.best_row` for items without a score attribute. If no effort is given, the first of equal
    items wins.

    Raises ValueError, naming the item, if a score is NaN.
    """
    return gl.best_row(items, score=score, effort=effort)


def ranked(scores: Sequence[float], name: str) -> list[int]:
    """Indices from the highest score to the lowest; equal scores keep their order. Raises ValueError for
    NaN."""
    for place, score in enumerate(scores):
        if math.isnan(score):
            raise ValueError(f"nothing can be ranked by a score that is nan: {name}, {place}.")
    return sorted(range(len(scores)), key=lambda place: -scores[place])
