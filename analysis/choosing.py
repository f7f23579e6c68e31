"""Choosing by numbers, none of which may be NaN. Every comparison with NaN is false, so `max` and `argmax` would let
a NaN win, or hide what it stands for, without a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import grains_lens as gl

T = TypeVar("T")


def highest(
    items: Iterable[T], score: Callable[[T], float], effort: Callable[[T], float] = lambda _: 0.0
) -> T:
    """`grains_lens.best_row` of items without a score of their own; where no effort is known, the first of equals.

    Raises ValueError for a score that is NaN, naming the item.
    """
    return gl.best_row(items, score=score, effort=effort)


def ranked(scores: Sequence[float], name: str) -> list[int]:
    """Places from the highest score to the lowest, equal ones as they stand. Raises ValueError for NaN."""
    for place, score in enumerate(scores):
        if math.isnan(score):
            raise ValueError(f"nothing can be ranked by a score that is nan: {name}, {place}.")
    return sorted(range(len(scores)), key=lambda place: -scores[place])
