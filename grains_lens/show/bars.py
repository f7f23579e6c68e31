"""Bars with interval whiskers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ..errors import printable
from .style import BODY, OKABE_ITO, SMALL


@dataclass(frozen=True)
class Bar:
    """One bar of `gains`: a group (a behaviour), what it is (a method), its height and 95% interval."""

    group: str
    label: str
    value: float
    low: float
    high: float


def gains(
    bars: Sequence[Bar],
    *,
    base: Mapping[str, float],
    quantity: str = "accuracy",
    title: str | None = None,
    width: float = 3.35,
) -> Figure:
    """Bars with interval whiskers, grouped, and in each group the base's value as a line.

    Groups and labels stand in the order in which they first come. `width` is in inches; the default is a
    paper's column.

    Raises ValueError if there are no bars, or a group has no base.
    """
    groups = list(dict.fromkeys(bar.group for bar in bars))
    labels = list(dict.fromkeys(bar.label for bar in bars))
    if not bars:
        raise ValueError("there are no bars to draw.")
    if missing := [group for group in groups if group not in base]:
        raise ValueError(f"base has no value for {', '.join(missing)}.")
    legend_height = 0.16 * (len(labels) + 1) + 0.1
    figure = Figure(figsize=(width, 1.9 + legend_height + (0.25 if title else 0)), layout="constrained")
    axes = figure.add_subplot()
    each = 0.8 / len(labels)
    for index, label in enumerate(labels):
        mine = [bar for bar in bars if bar.label == label]
        at = [groups.index(bar.group) + (index - (len(labels) - 1) / 2) * each for bar in mine]
        whiskers = [[bar.value - bar.low for bar in mine], [bar.high - bar.value for bar in mine]]
        axes.bar(
            at,
            [bar.value for bar in mine],
            0.9 * each,
            yerr=whiskers,
            label=printable(label, keep="\n"),
            color=OKABE_ITO[index % len(OKABE_ITO)],
            error_kw={"elinewidth": 0.8, "ecolor": "#222"},
        )
    for index, group in enumerate(groups):
        axes.hlines(
            base[group],
            index - 0.45,
            index + 0.45,
            colors="black",
            linestyles=(0, (3, 1.5)),
            linewidth=1.2,
            label="base" if index == 0 else "_",
            zorder=3,
        )
    axes.set_xticks(range(len(groups)), [printable(group, keep="\n") for group in groups], size=SMALL)
    axes.set_ylabel(f"{printable(quantity)} (95% interval)", size=BODY)
    axes.set_ylim(0, max(1.0, *(bar.high for bar in bars)))
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(printable(title, keep="\n"), size=BODY)
    figure.legend(
        loc="outside lower left", fontsize=SMALL, frameon=False, borderaxespad=0.1, labelspacing=0.25
    )
    return figure
