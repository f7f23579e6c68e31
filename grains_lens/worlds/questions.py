"""The pairs and questions of every world: how many of each kind, from which split, with cues of which
side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from ..data.items import MultipleChoice, PreferencePair
from ..literals import Side, Split
from .world import Behaviour

Mixture = Mapping[Side, float]
"""How often a cue is on each side."""

MIXED: Mixture = MappingProxyType({"desirable": 0.3, "undesirable": 0.3, "neutral": 0.4})
CLEAR: Mixture = MappingProxyType({"desirable": 1.0})
NEUTRAL: Mixture = MappingProxyType({"neutral": 1.0})

PAIRS = 288
QUESTIONS: Mapping[str, tuple[Split, int, Mixture]] = MappingProxyType(
    {
        "dev": ("dev", 144, MIXED),
        "test": ("test", 288, MIXED),
        "clear_dev": ("dev", 96, CLEAR),
        "clear_test": ("test", 192, CLEAR),
        "neutral_dev": ("dev", 96, NEUTRAL),
        "neutral_test": ("test", 192, NEUTRAL),
    }
)
"""For each kind of questions: the split, the number, and the cues."""

Case = TypeVar("Case")


def behaviour_of(
    name: str,
    description: str,
    draw: Callable[[Split, int, Mixture, str], Sequence[Case]],
    pair_of: Callable[[Case], PreferencePair],
    questions_of: Callable[[Sequence[Case], str], tuple[MultipleChoice, ...]],
) -> Behaviour:
    """A behaviour with all its pairs and questions, made from the cases that `draw(split, count, mixture,
    label)` returns."""
    cases = {label: draw(*drawn, label) for label, drawn in QUESTIONS.items()}
    return Behaviour(
        name,
        description,
        pairs=tuple(map(pair_of, draw("pairs", PAIRS, MIXED, "pairs"))),
        test_pairs=tuple(map(pair_of, cases["test"])),
        clear_test_pairs=tuple(map(pair_of, cases["clear_test"])),
        **{label: questions_of(some, f"{name}/{label}") for label, some in cases.items()},
    )
