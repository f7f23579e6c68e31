"""Bars with interval whiskers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import all_of, printable
from .style import BODY, OKABE_ITO, SMALL

_GAP = 0.35
"""The extra distance between the group set apart and its neighbour, in group widths."""

_HATCHES = ("", "///", "...")
"""If there are more bars than distinct colours, the colours repeat, hatched."""


@dataclass(frozen=True)
class Bar:
    """One bar of `gains`: its group (a behaviour), label (a method), height and 95% interval."""

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
    apart: str = "average",
) -> Figure:
    """Grouped bars with interval whiskers, and in each group the base's value as a line.

    Groups and labels keep the order of their first appearance. Group names that would touch are slanted.

    Args:
        bars: One per group and label.
        base: The base's value in each group.
        quantity: What the bars measure, with its unit if it has one.
        title: Above the bars.
        width: In inches. The default is a paper's column.
        apart: The group that stands apart, behind a line: an average is no further behaviour.

    Raises ValueError if there are no bars, or a group has no base.
    """
    bars = all_of(Bar, bars, "bars", "a list of show.Bar(group, label, value, low, high)")
    groups = list(dict.fromkeys(bar.group for bar in bars))
    labels = list(dict.fromkeys(bar.label for bar in bars))
    if not bars:
        raise ValueError("there are no bars to draw.")
    if missing := [group for group in groups if group not in base]:
        raise ValueError(f"base has no value for {', '.join(missing)}.")
    names = [printable(group, keep="\n") for group in groups]
    places = [at + _GAP * (group == apart and at > 0) for at, group in enumerate(groups)]
    slanted = _touching(names, 72 * (width - 0.6) / (places[-1] + 1))
    # The legend, with one line per label, and the room for slanted names.
    below = 0.16 * (len(labels) + 1) + 0.1 + (0.45 if slanted else 0)
    figure = Figure(figsize=(width, 1.9 + below + (0.25 if title else 0)), layout="constrained")
    axes = figure.add_subplot()
    for index, label in enumerate(labels):
        at = [place + (index - (len(labels) - 1) / 2) * 0.8 / len(labels) for place in places]
        mine = {at[groups.index(bar.group)]: bar for bar in bars if bar.label == label}
        _draw(axes, mine, label, 0.72 / len(labels), index)
    for place, group in zip(places, groups, strict=True):
        axes.hlines(
            base[group],
            place - 0.45,
            place + 0.45,
            colors="black",
            linestyles=(0, (3, 1.5)),
            linewidth=1.2,
            label="base" if place == 0 else "_",
            zorder=3,
        )
    if apart in groups[1:]:
        axes.axvline(places[groups.index(apart)] - 0.5 - _GAP / 2, color="#999", linewidth=0.8)
    slant = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks(places, names, size=SMALL, **slant)
    axes.grid(axis="y", color="#ddd", linewidth=0.5)
    axes.set_axisbelow(True)
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


def _draw(axes: Axes, bars: Mapping[float, Bar], label: str, width: float, index: int) -> None:
    """The bars of one label at their places, with their whiskers."""
    below = [bar.value - bar.low for bar in bars.values()]
    above = [bar.high - bar.value for bar in bars.values()]
    axes.bar(
        list(bars),
        [bar.value for bar in bars.values()],
        width,
        yerr=[below, above],
        label=printable(label, keep="\n"),
        color=OKABE_ITO[index % len(OKABE_ITO)],
        hatch=_HATCHES[index // len(OKABE_ITO) % len(_HATCHES)],
        edgecolor="white",
        linewidth=0,
        error_kw={"elinewidth": 0.9, "ecolor": "#222"},
        zorder=2,
    )


def _touching(names: Sequence[str], room: float) -> bool:
    """Whether names side by side would touch, if each has `room` points."""
    return max(len(line) for name in names for line in name.splitlines() or [""]) * 0.6 * SMALL > room
