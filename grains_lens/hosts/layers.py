"""Layer numbers as users give them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any


def check_layers(layers: Iterable[int] | None, available: Sequence[int]) -> tuple[int, ...]:
    """Check that each of `layers` is in `available` and named once. Returns a sorted tuple; None means all of
    them.

    `order_of` sorts values given per layer the same way.
    """
    if layers is None:
        return tuple(available)
    chosen = tuple(sorted(_whole_numbers(layers)))
    if not chosen:
        raise ValueError("layers=[] names no layer; leave it out for all of them.")
    for layer in chosen:
        if layer not in available:
            gapless = len(available) == available[-1] - available[0] + 1
            there = f"{available[0]} to {available[-1]}" if gapless else ", ".join(map(str, available))
            raise ValueError(
                f"layers={list(chosen)!r}: layer {layer} is not there; available are {there}, counted from 0."
            )
        if chosen.count(layer) > 1:
            raise ValueError(f"layers={layers!r} names layer {layer} twice: name each layer once.")
    return chosen


def order_of(layers: int | Iterable[int] | None, chosen: Sequence[int]) -> list[int]:
    """The index in `layers`, as the user gave them, of each of the sorted `chosen`."""
    if layers is None or isinstance(layers, int):
        return list(range(len(chosen)))
    if isinstance(layers, Set | Mapping | Iterator):
        raise ValueError(f"layers={layers!r} has no order, which one strength per layer needs: give a list.")
    given = _whole_numbers(layers)
    return [given.index(layer) for layer in chosen]


def _whole_numbers(layers: Iterable[Any]) -> list[int]:
    if not isinstance(layers, Iterable):
        raise ValueError(f"layers={layers!r} must be a list of layers, such as [{layers!r}].")
    numbers = list(layers)
    for layer in numbers:
        if not hasattr(layer, "__index__"):
            raise ValueError(
                f"layers={numbers!r}: {layer!r} is not a whole number; layers are counted from 0."
            )
    return [operator.index(layer) for layer in numbers]
