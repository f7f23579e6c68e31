"""Find the shipped worlds: checkpoints are folders named `world-variant-seed`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import hints, myths
from .world import Behaviour, Cues, World

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class Shipped:
    """One variant of a world, and its shipped seeds."""

    name: str
    variant: str
    seeds: tuple[int, ...]


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


def available() -> tuple[Shipped, ...]:
    """List the worlds that `load` can load."""
    found: dict[tuple[str, str], list[int]] = {}
    for card in CHECKPOINTS.glob("*/card.json"):
        name, variant, seed = card.parent.name.split("-")
        found.setdefault((name, variant), []).append(int(seed))
    # `standard` first: it is the default.
    order = sorted(found, key=lambda key: (key[0], key[1] != "standard", key[1]))
    return tuple(Shipped(name, variant, tuple(sorted(found[name, variant]))) for name, variant in order)


def load(name: str, *, seed: int = 0, variant: str = "standard") -> World:
    """Load a shipped world: its data now, its model when `load_model` is called."""
    shipped = available()
    _require("name", name, list(dict.fromkeys(one.name for one in shipped)))
    variants = {one.variant: one.seeds for one in shipped if one.name == name}
    _require("variant", variant, list(variants))
    _require("seed", seed, list(variants[variant]))
    path = CHECKPOINTS / f"{name}-{variant}-{seed}"
    source = _SOURCES[name]
    card = json.loads((path / "card.json").read_text())
    return World(
        name, variant, seed, path, source.behaviours(variant), card, source.find_cues, source.find_entity
    )


def _require(argument: str, value: object, known: Sequence[object]) -> None:
    """Refuse an unknown value. The error names the known ones, the nearest first."""
    if value in known and not isinstance(value, bool):
        return
    likeness = {one: difflib.SequenceMatcher(None, str(value), str(one)).ratio() for one in known}
    nearest = ", ".join(repr(one) for one in sorted(known, key=likeness.__getitem__, reverse=True))
    raise ValueError(f"load({argument}={value!r}): no such {argument}; known: {nearest or 'none'}.")
