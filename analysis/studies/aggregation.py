"""From the pairs' differences to one direction: which aggregate steers best?

Every aggregate gets the same pairs, attributions and masked passes. `two_sided` aggregates each side
separately, as in the paper; `difference` aggregates the Δ⁺ − Δ⁻ of all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

import grains_lens as gl

from .. import plots
from ..estimates import estimates, with_average
from ..judging import Judging
from ..recipes import AGGREGATES, Attributing, reduced
from ..settings import QUICK_SUBJECT, PairSettings
from ..study import Row
from ..subjects import Cell
from ..words import words

QUESTION = "Which aggregate makes the best vector: PCA (centred or not), a mean, several components, a probe?"


TRIED: Mapping[str, Any] = {
    **AGGREGATES,
    "3 components": gl.component_directions(3),
    "probe": gl.probe_direction,
}
LINEAR = ("mean",)
"""These are the same with both contrasts, so they are tried only once."""


@dataclass(frozen=True)
class Settings(PairSettings):
    """`n_pairs` pairs are drawn, `draws` times."""

    attributing: Attributing = Attributing()
    k: int = 3
    judging: Judging = Judging(n_dev=64, n_test=192, n_keep=12, strengths=(0.0, 0.25, 0.5, 1.0))


QUICK = Settings(
    QUICK_SUBJECT,
    attributing=Attributing("gradient_times_input"),
    judging=Judging(n_dev=4, n_test=6, n_keep=1, n_keep_test=1, strengths=(0.0, 0.5)),
    n_pairs=5,
    draws=1,
)


def cells(settings: Settings) -> Sequence[Cell]:
    return settings.cells()


def measure(cell: Cell, settings: Settings) -> list[Row]:
    bench, judging = settings.subject.bench(cell), settings.judging
    pairs = bench.draw(settings.n_pairs)
    attributions = settings.attributing.of(bench, pairs)
    contrasts = gl.masked_contrasts(
        bench.model, pairs, attributions, k=settings.k, prompt_format=bench.prompt_format, progress=False
    )
    sides: tuple[Literal["two_sided", "difference"], ...] = ("two_sided", "difference")
    rows: list[Row] = []
    mean = reduced(contrasts, gl.mean_direction)
    for name, aggregate in TRIED.items():
        for contrast in sides[:1] if name in LINEAR else sides:
            vectors = reduced(contrasts, aggregate, contrast)
            cosine = float(vectors.cosine(mean).mean())
            tested = judging.chosen(bench, vectors, layers=list(bench.layers))
            rows.append({"aggregate": name, "contrast": contrast, "cosine": cosine, **tested})
    return rows


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Gains, and gains over the mean aggregate, which are paired within model, draw and behaviour."""
    where = ["seed", "behaviour", "draw"]
    mean = frame[frame["aggregate"] == "mean"].set_index(where)["gain"]
    paired = frame.assign(over_mean=frame["gain"] - frame.set_index(where).index.map(mean).to_numpy())
    values = ["gain", "over_mean", "elsewhere", "cosine"]
    return estimates(with_average(paired), ["behaviour", "aggregate", "contrast"], values)


def figure(frame: pd.DataFrame) -> Figure:
    answer = table(frame)
    last = answer[answer["behaviour"] == answer["behaviour"].iloc[-1]]
    names = list(dict.fromkeys(last["aggregate"]))
    figure, axes = plots.panels(2, height=2.7, sharey=False)
    shown = {"gain": "gain in test accuracy", "over_mean": "gain over the mean's"}
    for panel, (value, name) in zip(axes, shown.items(), strict=True):
        for index, contrast in enumerate(dict.fromkeys(last["contrast"])):
            here = last[last["contrast"] == contrast]
            at = [names.index(one) + 0.2 * (index - 0.5) for one in here["aggregate"]]
            plots.points(panel, here, value, at, label=words(contrast), index=index)
        panel.set_xticks(
            range(len(names)), [words(name) for name in names], size=plots.SMALL, rotation=25, ha="right"
        )
        plots.zero(panel)
        plots.labels(panel, y=name)
    plots.legend(figure, axes[0])
    return figure
