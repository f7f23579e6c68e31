"""Layer numbers as users give them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from ..errors import kind_of, seen

Layers = int | Iterable[int] | str
"""One layer, or several, counted from 0; "all" is all there are."""


def check_layers(layers: Layers | None, available: Sequence[int]) -> tuple[int, ...]:
    """`layers` as a sorted tuple, each of them among `available` and named once; None and "all" are all of them.

    `order_of` sorts values given per layer the same way.
    """
    if layers is None or (isinstance(layers, str) and layers == "all"):
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


def order_of(layers: Layers | None, chosen: Sequence[int]) -> list[int]:
    """Where in `layers`, as the user gave them, each of the sorted `chosen` stands."""
    if layers is None or len(chosen) == 1 or isinstance(layers, str):
        return list(range(len(chosen)))
    if isinstance(layers, Set | Mapping | Iterator):
        raise ValueError(f"layers={layers!r} has no order, which one strength per layer needs: give a list.")
    given = _whole_numbers(layers)
    return [given.index(layer) for layer in chosen]


def _whole_numbers(layers: Any) -> list[int]:
    if isinstance(layers, str):
        raise ValueError(f"layers={seen(layers)} must be numbers, such as [0, 1], or 'all'.")
    if _is_number(layers):
        return [operator.index(layers)]
    if not isinstance(layers, Iterable) or getattr(layers, "ndim", 1) != 1:
        raise ValueError(f"layers is {kind_of(layers)}: give a number, or a list of them, counted from 0.")
    numbers = list(layers)
    for layer in numbers:
        if not _is_number(layer):
            raise ValueError(
                f"layers={numbers!r}: {layer!r} is not a whole number; layers are counted from 0."
            )
    return [operator.index(layer) for layer in numbers]


def _is_number(value: Any) -> bool:
    """Whether this is a whole number, of whichever library; True and False are none."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)
