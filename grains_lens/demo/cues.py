"""Measure how well attribution finds the words that truly drive a world's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.curves import precision_at_k
from ..attribution.scores import TokenAttribution
from ..data.items import PreferencePair
from ..literals import Sign
from ..worlds.world import Cues, World


@dataclass(frozen=True)
class CuePrecision:
    """The share of the k tokens of one sign that are true cues of that side, averaged over pairs.

    `chance` is the precision of k random tokens, `ceiling` that of the best possible choice; it is below 1
    because many prompts hold fewer than k cues.
    """

    seed: int
    behaviour: str
    sign: Sign
    k: int
    precision: float
    chance: float
    ceiling: float


SIDES: dict[Sign, str] = {"negative": "undesirable", "positive": "desirable"}
"""Which cues the tokens of each sign should be: undesirable cues speak against the chosen answer."""


def cue_positions(world: World, pair: PreferencePair, attribution: TokenAttribution) -> Cues:
    """The true cues of a prompt as token positions. A world's words are its tokens, after the special
    ones."""
    cues = world.cues(pair.prompt, pair.images)
    first = len(attribution.tokens) - len(cues.words)
    return Cues(
        attribution.strings,
        undesirable=tuple(first + at for at in cues.undesirable),
        desirable=tuple(first + at for at in cues.desirable),
    )


def cue_precision(
    world: World,
    behaviour: str,
    pairs: Sequence[PreferencePair],
    attributions: Sequence[TokenAttribution],
    *,
    k: int = 3,
) -> list[CuePrecision]:
    """Precision at k of negative tokens as undesirable cues, and of positive tokens as desirable cues."""
    rows = []
    for sign, side in SIDES.items():
        chances, ceilings = [], []
        truth = [
            getattr(cue_positions(world, pair, one), side)
            for pair, one in zip(pairs, attributions, strict=True)
        ]
        hits = precision_at_k(attributions, truth, k=k, sign=sign)
        for cues, one in zip(truth, attributions, strict=True):
            chances.append(len(cues) / int((~one.is_special).sum()))
            ceilings.append(min(k, len(cues)) / k)
        means = (float(np.mean(values)) for values in (hits.numpy(), chances, ceilings))
        rows.append(CuePrecision(world.seed, behaviour, sign, k, *means))
    return rows


CUE_HEAD: tuple[str, ...] = ("behaviour", "tokens", "true cues", "precision", "by chance", "at best")


def cue_cells(rows: Sequence[CuePrecision]) -> list[tuple[str, ...]]:
    """A table of the means over models, header first."""
    table: list[tuple[str, ...]] = [CUE_HEAD]
    for first in {(row.behaviour, row.sign): row for row in rows}.values():
        behaviour, sign = first.behaviour, first.sign
        same = [row for row in rows if (row.behaviour, row.sign) == (behaviour, sign)]
        means = [np.mean([getattr(row, name) for row in same]) for name in ("precision", "chance", "ceiling")]
        table.append((behaviour, f"top {first.k} {sign}", SIDES[sign], *(f"{mean:.3f}" for mean in means)))
    return table


def marked_strip(world: World, samples: Sequence[tuple[PreferencePair, TokenAttribution]]) -> dict[str, Any]:
    """Arguments of `show.token_strip` for these pairs: their true cues, and titles."""
    cues = [cue_positions(world, pair, one) for pair, one in samples]
    return {
        "attributions": [one for _, one in samples],
        "marked": {
            "desirable cue": [one.desirable for one in cues],
            "undesirable cue": [one.undesirable for one in cues],
        },
        "titles": [
            f"chosen: {pair.chosen}, rejected: {pair.rejected}; f(x) = {one.gap:+.2f} nats"
            for pair, one in samples
        ],
    }


def has_both(world: World, pair: PreferencePair) -> bool:
    """Whether a prompt holds cues of both sides."""
    cues = world.cues(pair.prompt, pair.images)
    return bool(cues.desirable and cues.undesirable)
