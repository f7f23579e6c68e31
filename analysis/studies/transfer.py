"""Does a vector for one behaviour help or harm another, and do sums of vectors keep both gains?

Layer and strength are chosen on the dev questions of the vector's own behaviour; for a sum, on those of both
behaviours. Sums add unit directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import grains_lens as gl

from .. import plots
from ..choosing import highest
from ..estimates import estimates
from ..judging import Judging
from ..settings import QUICK_JUDGING, QUICK_SUBJECT, VectorSettings
from ..study import Row
from ..subjects import Bench, Cell

QUESTION = "Does each behaviour's vector carry over to every other, and do sums of vectors keep both gains?"


@dataclass(frozen=True)
class Draw:
    """One model, and one draw of pairs for every behaviour."""

    seed: int
    draw: int


@dataclass(frozen=True)
class Settings(VectorSettings):
    """Vectors are made from `n_pairs` pairs of each behaviour, drawn `draws` times."""


QUICK = Settings(
    replace(QUICK_SUBJECT, n_behaviours=2),
    n_pairs=5,
    draws=1,
    judging=replace(QUICK_JUDGING, strengths=(0.0, 0.25, 0.5)),
)


def cells(settings: Settings) -> Sequence[Draw]:
    if len(settings.subject.names()) < 2:
        raise ValueError("behaviours: a single one cannot transfer to another; give two or more.")
    return [Draw(seed, draw) for seed in settings.subject.model_seeds() for draw in range(settings.draws)]


def measure(cell: Draw, settings: Settings) -> list[Row]:
    subject, judging = settings.subject, settings.judging
    benches = {name: subject.bench(Cell(cell.seed, name, cell.draw)) for name in subject.names()}
    vectors = {
        name: settings.recipe.make(bench, bench.draw(settings.n_pairs)) for name, bench in benches.items()
    }
    rows: list[Row] = []
    own: dict[str, Any] = {}
    for source, bench in benches.items():
        best = judging.choose(bench, vectors[source], layers=list(bench.layers)).best
        for target, other in benches.items():
            row = judging.test_best(other, vectors[source], best)
            rows.append({"kind": "gain", "source": source, "target": target, "value": row["gain"]})
            if source == target:
                own[source] = row["gain"]
    for one, two in combinations(benches, 2):
        cosines = vectors[one].cosine(vectors[two]).tolist()
        rows += [
            {"kind": "cosine", "source": one, "target": two, "layer": layer, "value": value}
            for layer, value in zip(benches[one].layers, cosines, strict=True)
        ]
        rows += _sum(judging, benches, vectors, one, two, own)
    return rows


def _sum(
    judging: Judging,
    benches: dict[str, Bench],
    vectors: dict[str, gl.SteeringVectors],
    one: str,
    two: str,
    own: dict[str, float],
) -> list[Row]:
    """The gain of the sum of two vectors on both behaviours, and that of each vector on its own behaviour."""
    both = vectors[one].unit() + vectors[two].unit()
    layers = list(benches[one].layers)
    tunings = [judging.choose(benches[name], both, layers=layers).rows for name in (one, two)]
    scored = list(zip(*tunings, strict=True))
    best = highest(scored, lambda rows: rows[0].score + rows[1].score, lambda rows: rows[0].strength)[0]
    rows: list[Row] = []
    for name in (one, two):
        gain = judging.test_best(benches[name], both, best)["gain"]
        sum_of = {"source": f"{one} + {two}", "target": name}
        rows += [
            {"kind": "sum", **sum_of, "value": gain},
            {"kind": "sum, less own", **sum_of, "value": gain - own[name]},
        ]
    return rows


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Gains in test accuracy, mean cosines over layers, and gains of sums."""
    return estimates(frame, ["kind", "source", "target"], ["value"]).sort_values(
        "kind", kind="stable", ignore_index=True
    )


def figure(frame: pd.DataFrame) -> Figure:
    answer = table(frame)
    gains, cosines = (answer[answer["kind"] == kind] for kind in ("gain", "cosine"))
    sums = answer[answer["kind"] == "sum"]
    names = list(dict.fromkeys(gains["source"]))
    figure, axes = plots.panels(3, columns=3, height=2.4)
    gained = gains.pivot(index="source", columns="target", values="value").loc[names, names].to_numpy()
    plots.matrix(axes[0], gained, names, names, scale=0.4)
    plots.labels(axes[0], x="measured on", y="vector of", title="gain in test accuracy")
    square = np.eye(len(names))
    for row in cosines.itertuples():
        at = names.index(row.source), names.index(row.target)
        square[at] = square[at[::-1]] = row.value
    plots.matrix(axes[1], square, names, names, scale=1.0)
    plots.labels(axes[1], title="cosine, mean over layers")
    labels = list(dict.fromkeys(sums["source"]))
    several = np.full((len(labels), len(names)), np.nan)
    for row in sums.itertuples():
        several[labels.index(row.source), names.index(row.target)] = row.value
    plots.matrix(axes[2], several, [label.replace(" + ", " +\n") for label in labels], names, scale=0.4)
    plots.labels(axes[2], x="measured on", title="gain of sums")
    return figure
