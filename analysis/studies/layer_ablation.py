"""Where steering acts: one layer alone, all but one, the first so many, the last so many, windows.

Vectors and strengths are the same for all sets; each set's strength is chosen on dev questions, since many layers need
less of it each than one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import grains_lens as gl

from .. import plots
from ..estimates import estimates, with_average
from ..judging import Judging
from ..recipes import Recipe
from ..study import Row
from ..subjects import Cell, Subject

QUESTION = "Which layers matter: what is gained by steering at one, at all but one, at the first or last few?"


@dataclass(frozen=True)
class Settings:
    """`n_pairs` are drawn anew `draws` times; windows are `window` layers wide."""

    subject: Subject = Subject()
    recipe: Recipe = Recipe()
    judging: Judging = Judging()
    n_pairs: int = 50
    draws: int = 2
    window: int = 2


QUICK = Settings(
    Subject(seeds=(0,), n_behaviours=1),
    judging=Judging(n_dev=8, n_test=12, n_keep=2, n_keep_test=2, strengths=(0.0, 0.25, 0.5)),
    n_pairs=5,
    draws=1,
)


def cells(settings: Settings) -> Sequence[Cell]:
    return settings.subject.cells(settings.draws)


def measure(cell: Cell, settings: Settings) -> list[Row]:
    bench, judging = settings.subject.bench(cell), settings.judging
    vectors = settings.recipe.make(bench.model, bench.draw(settings.n_pairs))
    sets = layer_sets(bench.layers, settings.window)
    tuning = judging.choose(bench, vectors, layers=[layers for _, layers in sets])
    bests = [gl.best_row([row for row in tuning.rows if row.layers in (layers, ())]) for _, layers in sets]
    tested = judging.test_each(bench, vectors, bests)
    return [
        {"kind": kind, **row, "layers": ",".join(map(str, layers))}
        for (kind, layers), row in zip(sets, tested, strict=True)
    ]


def layer_sets(layers: Sequence[int], window: int) -> list[tuple[str, tuple[int, ...]]]:
    """The sets to steer at, each of the first kind that it is of."""
    n, every = len(layers), tuple(layers)
    sets = [("one", (layer,)) for layer in every]
    sets += [("all but one", tuple(other for other in every if other != layer)) for layer in every if n > 2]
    sets += [("first", every[:end]) for end in range(2, n)]
    sets += [("last", every[start:]) for start in range(1, n - 1)]
    sets += [("window", every[start : start + window]) for start in range(n - window + 1) if window < n]
    kinds = {layers: kind for kind, layers in reversed([*sets, ("all", every)])}
    return [(kind, layers) for kind, layers in [*sets, ("all", every)] if kinds[layers] == kind]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    return estimates(with_average(frame), ["behaviour", "kind", "layers"], ["gain", "elsewhere"])


def figure(frame: pd.DataFrame) -> Figure:
    answer = table(frame)
    behaviours = list(dict.fromkeys(answer["behaviour"]))
    last = answer[answer["behaviour"] == behaviours[-1]]
    names = [f"{row.kind} {row.layers}" if row.kind != "all" else "all" for row in last.itertuples()]
    figure, (axes,) = plots.panels(1, width=plots.COLUMN, height=0.6 + 0.19 * len(names))
    for index, behaviour in enumerate(behaviours):
        here = answer[answer["behaviour"] == behaviour]
        at = np.arange(len(here)) + (index - (len(behaviours) - 1) / 2) * 0.18
        colour = plots.COLOURS[index]
        axes.errorbar(
            here["gain"],
            at,
            xerr=plots.whiskers(here, "gain"),
            fmt=plots.MARKERS[index],
            ms=3,
            color=colour,
            elinewidth=0.8,
            label=behaviour,
        )
    axes.set_yticks(range(len(names)), names, size=plots.SMALL)
    axes.invert_yaxis()
    axes.axvline(0, color="#666", lw=0.7, ls=(0, (3, 2)), zorder=0)
    plots.labels(axes, x="gain in test accuracy (95% interval)", y="layers steered")
    plots.legend(figure, axes, columns=2)
    return figure
