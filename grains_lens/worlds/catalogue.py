"""Find the shipped worlds, with their data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..hosts.shipped import checkpoint
from . import hints, myths
from .world import Behaviour, Cues, World


@dataclass(frozen=True)
class _Source:
    """The functions that make a world's data."""

    behaviours: Callable[[str], Mapping[str, Behaviour]]  # of a variant
    find_cues: Callable[[str, Sequence[Any]], Cues]
    find_entity: Callable[[str], str] | None = None  # whom a prompt is about


_SOURCES = {
    "myths": _Source(myths.behaviours, myths.find_cues, myths.find_entity),
    "hints": _Source(hints.behaviours, hints.find_cues),
}


def load(name: str, *, seed: int = 0, variant: str = "standard") -> World:
    """Load a shipped world: its data now, its model when `load_model` is called.

    Args:
        name: `"myths"` or `"hints"`.
        seed: Which of the trained models.
        variant: Which variant of the world: `"standard"` or another one that `available()` lists.
    """
    path = checkpoint(name, seed, variant)
    source = _SOURCES[name]
    card = json.loads((path / "card.json").read_text())
    return World(
        name, variant, seed, path, source.behaviours(variant), card, source.find_cues, source.find_entity
    )
