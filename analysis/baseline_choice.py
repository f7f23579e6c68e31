"""Which baseline should attribution start from: how soon each converges, and whether it finds the true cues.

    python -m analysis.baseline_choice [--quick]

For every baseline and number of steps: the median completeness error in nats over pairs, and the precision
of the top 3 tokens of either sign against the world's true cues (worlds) or nothing (random models, which
have none). Numbers are means over seeds, with the lowest and the highest in brackets.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

import grains_lens as gl

from .benchmarks.models import Shape, random_llama, random_pairs

BASELINES = ("mask", "mean", "zero", "pad")
K = 3


@dataclass(frozen=True)
class Row:
    """One model, baseline and number of steps: errors in nats, `found` NaN where there are no true cues."""

    subject: str
    baseline: str
    steps: int
    change: float
    error: float
    found: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="analysis.baseline_choice", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: one seed, few pairs, few steps")
    quick = parser.parse_args(arguments).quick
    seeds, n, steps = ((0,), 3, (2, 5)) if quick else ((0, 1, 2), 10, (5, 10, 20, 50, 100))
    rows = []
    for seed in seeds:
        world = gl.worlds.load("myths", seed=seed)
        model = world.load_model()
        pairs = world.behaviours["truthfulness"].draw(n, seed=seed)
        rows += measure("myths, truthfulness", model, pairs, steps, world)
    shape = Shape(n_layers=3, d_model=64, d_mlp=128, n_heads=4, vocabulary=256)
    rows += measure("random Llama", random_llama(shape), random_pairs(n, shape, prompt=20, answer=4), steps)
    print_tables(rows)


def measure(
    subject: str, model: Any, pairs: Sequence[gl.PreferencePair], steps: Sequence[int], world: Any = None
) -> list[Row]:
    """A row for every baseline and number of steps."""
    rows = []
    for baseline in BASELINES:
        for number in steps:
            attributions = gl.attribute(
                model, pairs, method=gl.IntegratedGradients(number), baseline=baseline,
                tolerance=float("inf"), progress=False,
            )  # fmt: skip
            rows.append(
                Row(
                    subject,
                    baseline,
                    number,
                    statistics.median(abs(one.gap - one.baseline_gap) for one in attributions),
                    statistics.median(abs(one.completeness_error) for one in attributions),
                    cues_found(world, pairs, attributions) if world else float("nan"),
                )
            )
    return rows


def cues_found(
    world: Any, pairs: Sequence[gl.PreferencePair], attributions: Sequence[gl.TokenAttribution]
) -> float:
    """Of the positions that could be found among the top 3 of a sign, the share that is; over both signs.

    Undesirable cues should be negative tokens, desirable ones positive; 1 is the best there is.
    """
    found, there = 0, 0
    for pair, one in zip(pairs, attributions, strict=True):
        cues = world.cues(pair.prompt)
        first = len(one.tokens) - len(cues.words)
        for sign, truth in (("negative", cues.undesirable), ("positive", cues.desirable)):
            top = set(one.top(K, sign).tolist())
            found += len(top & {first + at for at in truth})
            there += min(K, len(truth))
    return found / there


def print_tables(rows: Sequence[Row]) -> None:
    """One table a subject: baselines down, steps across."""
    for subject in dict.fromkeys(row.subject for row in rows):
        here = [row for row in rows if row.subject == subject]
        steps = sorted({row.steps for row in here})
        columns = "completeness error in nats"
        if not math.isnan(here[0].found):
            columns += f" / share of true cues found in the top {K}"
        print(f"\n**{subject}**: {columns}\n")
        print("| baseline | change of f, nats | " + " | ".join(f"{number} steps" for number in steps) + " |")
        print("| --- | ---: |" + " ---: |" * len(steps))
        for baseline in BASELINES:
            cells = [
                [row for row in here if (row.baseline, row.steps) == (baseline, number)] for number in steps
            ]
            change = _over_seeds([row.change for row in cells[0]])
            texts = [_over_seeds([row.error for row in cell]) for cell in cells]
            if not math.isnan(cells[0][0].found):
                texts = [
                    f"{text} / {_over_seeds([row.found for row in cell])}"
                    for text, cell in zip(texts, cells, strict=True)
                ]
            print(f"| {baseline} | {change} | " + " | ".join(texts) + " |")


def _over_seeds(values: Sequence[float]) -> str:
    middle = f"{statistics.mean(values):.2g}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.2g}, {max(values):.2g}]"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
