"""What the studies' figures share: a paper's column width, colours that colour-blind readers tell apart, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLUMN = 3.35
"""Width of a paper's column in inches."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8C8C00")
"""Okabe and Ito 2008, the yellow darkened to be legible on white."""

MARKERS = "osD^vP*X"
SMALL, BODY = 7.0, 8.0


def panels(
    n: int, *, columns: int = 2, width: float = 2 * COLUMN, height: float = 2.1, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels in rows; two columns of a paper wide unless told otherwise. Heights in inches a row."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **shared).flatten().tolist()
    for axes in grid[n:]:
        axes.remove()
    for axes in grid[:n]:
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid[:n]


def line(axes: Axes, table: pd.DataFrame, x: str, y: str, *, label: str, index: int = 0) -> None:
    """A line with its 95% band and markers, in the colour and marker of that index."""
    colour, at = COLOURS[index % len(COLOURS)], table[x].to_numpy()
    axes.plot(at, table[y], color=colour, marker=MARKERS[index % len(MARKERS)], ms=3, lw=1.2, label=label)
    axes.fill_between(at, table[f"{y}_low"], table[f"{y}_high"], color=colour, alpha=0.15, lw=0)


def points(
    axes: Axes, table: pd.DataFrame, y: str, at: Sequence[float], *, label: str | None = None, index: int = 0
) -> None:
    """Points with 95% whiskers at these places of the x axis."""
    colour = COLOURS[index % len(COLOURS)]
    axes.errorbar(
        at,
        table[y],
        yerr=whiskers(table, y),
        fmt=MARKERS[index % len(MARKERS)],
        ms=3.5,
        color=colour,
        elinewidth=1,
        label=label,
    )


def bars(
    axes: Axes,
    table: pd.DataFrame,
    y: str,
    at: Sequence[float],
    *,
    width: float = 0.8,
    label: str | None = None,
    index: int = 0,
) -> None:
    """Bars with 95% whiskers at these places of the x axis."""
    axes.bar(
        at,
        table[y],
        width,
        yerr=whiskers(table, y),
        color=COLOURS[index % len(COLOURS)],
        label=label,
        error_kw={"elinewidth": 0.8, "ecolor": "#222"},
    )


def whiskers(table: pd.DataFrame, y: str) -> np.ndarray:
    """How far the interval reaches below and above, for matplotlib's `yerr`; nothing where there is none."""
    below, above = table[y] - table[f"{y}_low"], table[f"{y}_high"] - table[y]
    return np.nan_to_num(np.array([below, above], dtype=float)).clip(min=0)


def matrix(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    scale: float,
    form: str = "{:+.2f}",
) -> None:
    """A matrix of signed numbers, red to blue from −scale to scale, each written in its field."""
    axes.imshow(values, cmap="RdBu", vmin=-scale, vmax=scale, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, size=SMALL, rotation=20, ha="right")
    axes.set_yticks(range(len(rows)), rows, size=SMALL)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            dark = abs(value) > 0.6 * scale
            axes.text(
                column,
                row,
                form.format(value),
                ha="center",
                va="center",
                size=SMALL,
                color="white" if dark else "black",
            )


def labels(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Axis labels and a title in the sizes of a paper."""
    axes.set_xlabel(x, size=BODY)
    axes.set_ylabel(y, size=BODY)
    axes.set_title(title, size=BODY)


def zero(axes: Axes) -> None:
    """A thin line where nothing is gained."""
    axes.axhline(0, color="#666", lw=0.7, ls=(0, (3, 2)), zorder=0)


def legend(figure: Figure, axes: Axes, *, columns: int = 4, title: str | None = None) -> None:
    """One legend for the whole figure, below it, of what is drawn in one of its panels."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=min(columns, len(names)),
        fontsize=SMALL,
        frameon=False,
        title=title,
        title_fontsize=SMALL,
    )


def label_points(axes: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> None:
    """Each point's name beside it, at the nearest place that no other name or point takes; call it when the axes'
    limits are final."""
    axes.figure.draw_without_rendering()
    scale = 72 / axes.figure.dpi
    centres = axes.transData.transform(np.column_stack([x, y])) * scale  # in points, as offsets are
    taken = [(cx - 4, cy - 4, cx + 4, cy + 4) for cx, cy in centres]
    frame = axes.get_window_extent().extents * scale
    for (cx, cy), name, at in zip(centres, names, zip(x, y, strict=True), strict=True):
        width, height = 0.62 * SMALL * len(name), 1.1 * SMALL
        left, right = -5.0 - width, 5.0
        places = [
            place
            for far in range(1, 30)
            for place in (
                (right, far * 3.0 - 6),
                (left, far * 3.0 - 6),
                (right, -far * 3.0 - 3),
                (left, -far * 3.0 - 3),
                (-width / 2, far * 4.0),
                (-width / 2, -far * 4.0 - height),
            )
        ]
        boxes = [(cx + dx, cy + dy, cx + dx + width, cy + dy + height) for dx, dy in places]
        free = [
            n
            for n, box in enumerate(boxes)
            if _inside(box, frame) and not any(_overlap(box, other) for other in taken)
        ]
        chosen = free[0] if free else 0
        taken.append(boxes[chosen])
        line = {"arrowstyle": "-", "lw": 0.4, "color": "#888"}
        axes.annotate(
            name,
            at,
            places[chosen],
            textcoords="offset points",
            size=SMALL,
            arrowprops=line if chosen > 3 else None,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _inside(one: tuple[float, ...], frame: Sequence[float]) -> bool:
    return frame[0] <= one[0] and frame[1] <= one[1] and one[2] <= frame[2] and one[3] <= frame[3]
