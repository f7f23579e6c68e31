"""What people give for vectors and strengths, as what steering works with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import kind_of, near_path, printable, seen
from ..hosts.layers import Layers, check_layers
from ..vectors.steering_vectors import SteeringVectors
from .edits import Strength
from .saved import load
from .tunings import Tuning

Vectors = SteeringVectors | Tuning | str | Path
"""Vectors, a tuning, which has some, or the path of a file of either."""

Strengths = Strength | Mapping[int, float]
"""A `Strength`, or one per layer by its number, {layer: strength}."""


def as_vectors_or_tuning(given: Vectors, argument: str = "vectors") -> SteeringVectors | Tuning:
    """Vectors or a tuning, also from a file. Raises ValueError, which names `argument`, for what is neither, and what
    `load` raises."""
    if isinstance(given, SteeringVectors | Tuning):
        return given
    if isinstance(given, str | Path):
        if not Path(given).is_file():
            raise FileNotFoundError(
                f"{argument} is {kind_of(given)}, which does not exist (looked in {printable(Path.cwd(), 200)}): give "
                f"vectors, a tuning, or the path of a file that holds either.{near_path(Path(given))}"
            )
        return load(given)
    if hasattr(given, "plus") and hasattr(given, "minus"):
        raise ValueError(
            f"{argument} is {kind_of(given)}: contrasts.vectors() makes SteeringVectors of them."
        )
    if hasattr(given, "forward") and hasattr(given, "parameters"):
        raise ValueError(
            f"{argument} is {kind_of(given)}, a model: the model comes first, and {argument} after it."
        )
    raise ValueError(
        f"{argument}={kind_of(given)} must be SteeringVectors or a Tuning: grains_lens.load(path) reads either from "
        "a file, and SteeringVectors.of_layers({layer: direction}, method=...) makes them of tensors."
    )


def as_vectors(given: Vectors, argument: str = "vectors") -> SteeringVectors:
    """Vectors, also a tuning's, and from a file. Raises ValueError, which names `argument`, for anything else."""
    held = as_vectors_or_tuning(given, argument)
    return held if isinstance(held, SteeringVectors) else held.plan().vectors


def as_layers(layers: Layers | None, available: tuple[int, ...]) -> list[int] | None:
    """Layers as a list, in the order that they were given in; None as it is.

    Raises ValueError for layers that are not available.
    """
    if isinstance(layers, Iterator):
        layers = list(layers)
    chosen = check_layers(layers, available)
    if layers is None:
        return None
    given: Any = layers
    ordered = isinstance(layers, Iterable) and not isinstance(layers, str | set | frozenset | Mapping)
    return [int(layer) for layer in given] if ordered and getattr(layers, "ndim", 1) else list(chosen)


def strengths_at(
    strength: Strengths, layers: Layers | None, available: tuple[int, ...]
) -> tuple[Strength, list[int] | None]:
    """Strength and layers, where strengths by layer say at which layers to steer if `layers` do not.

    Raises ValueError where strengths and layers do not name the same layers.
    """
    if not isinstance(strength, Mapping):
        _check_order(strength, layers)
        return strength, as_layers(layers, available)
    named = as_layers(layers, available) or check_layers(strength, available)
    by_layer = {int(layer): value for layer, value in strength.items()}
    if odd := sorted(set(named) ^ set(by_layer)):
        raise ValueError(
            f"strength={seen(strength)} and layers={list(named)} do not name the same layers ({odd[0]} is in one of "
            "them): leave out layers, or give a strength for each."
        )
    values: list[Any] = [torch.as_tensor(by_layer[layer], dtype=torch.float32) for layer in named]
    return torch.stack(values), list(named)


def _check_order(strength: Any, layers: Any) -> None:
    if isinstance(layers, set | frozenset | Mapping) and getattr(
        strength, "ndim", isinstance(strength, list | tuple)
    ):
        raise ValueError(f"layers={layers!r} has no order for one strength a layer to go by: give a list.")


def as_strengths(given: float | Iterable[float], argument: str = "strengths") -> list[float]:
    """Numbers to try, as a list; one number is a list of one. Raises ValueError, which names `argument`, for anything
    else."""
    try:
        values = torch.as_tensor(
            list(given) if isinstance(given, Iterator | range) else given, dtype=torch.float64
        )
    except (TypeError, ValueError, RuntimeError):
        values = None
    if values is None or values.ndim > 1:
        raise ValueError(f"{argument} is {kind_of(given)}: give a list of numbers, such as [0.0, 0.5, 1.0].")
    return [float(value) for value in values.reshape(-1)]
