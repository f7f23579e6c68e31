"""Where a world's true cues are: the words known to drive its answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import grains_lens as gl

from .subjects import Bench

SIDES: dict[Literal["positive", "negative"], str] = {"negative": "undesirable", "positive": "desirable"}
"""Which cues the tokens of each sign should be: undesirable cues speak against the chosen answer."""


def share_found(
    bench: Bench, pairs: Sequence[gl.PreferencePair], attributions: Sequence[gl.TokenAttribution], k: int
) -> float:
    """The share of the true cues, out of those that the k strongest tokens of each sign could find, that they
    do find. 1 is the best possible; NaN if no cues are known."""
    if bench.world is None:
        return math.nan
    found, there = 0, 0
    for pair, one in zip(pairs, attributions, strict=True):
        for sign, side in SIDES.items():
            truth = positions(_cues(bench.world, pair), side, len(one.tokens))
            found += len(truth & set(one.top(k, sign).tolist()))
            there += min(k, len(truth))
    return found / there if there else math.nan


def _cues(world: gl.worlds.World, pair: gl.PreferencePair) -> gl.worlds.Cues:
    return world.cues(pair.prompt, pair.images) if pair.images else world.cues(pair.prompt)


def positions(cues: Any, side: str, n_tokens: int) -> set[int]:
    """Cues as token positions. A world's words are its tokens, after the special ones."""
    return {n_tokens - len(cues.words) + at for at in getattr(cues, side)}
