"""The model seam: all that grains_lens needs from a hooked model, and the only code that touches hooks.

`HookedTransformer` (transformer-lens 3.9) and `TransformerBridge` (3.9 and 4.x) differ here, in how a
prompt is prefilled and its cache continued, and nowhere else in the library.

Hooks are ours: found by their exact name, refused when missing, put on with PyTorch's own handles and
removed by them. transformer-lens 3.9's bridge ignores unknown names in silence and strips other
people's hooks when one of its contexts ends.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from .batch import TokenBatch as TokenBatch
from .batch import left_padded as left_padded
from .batch import right_padded as right_padded
from .kinds import is_hooked_transformer as is_hooked_transformer


def check_layers(layers: Iterable[int] | None, available: Sequence[int]) -> tuple[int, ...]:
    """`layers` as a sorted tuple, each of them among `available` and named once; None is all of them.

    What stands beside layers one by one is put into their order by `order_of`.
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
    """Where in `layers`, as the user gave them, each of the sorted `chosen` stands."""
    if layers is None or isinstance(layers, int):
        return list(range(len(chosen)))
    if isinstance(layers, Set | Mapping | Iterator):
        raise ValueError(f"layers={layers!r} has no order for one strength a layer to go by: give a list.")
    given = _whole_numbers(layers)
    return [given.index(layer) for layer in chosen]


def _whole_numbers(layers: Iterable[Any]) -> list[int]:
    if not isinstance(layers, Iterable):
        raise ValueError(f"layers={layers!r} must be a list of layers, as [{layers!r}].")
    numbers = list(layers)
    for layer in numbers:
        if not hasattr(layer, "__index__"):
            raise ValueError(f"layers={numbers!r}: {layer!r} is no whole number; layers are counted from 0.")
    return [operator.index(layer) for layer in numbers]
