"""Faithfulness: the effect of masking and revealing tokens, by score and in random order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..attribution.curves import FaithfulnessCurves
from ..errors import all_of
from ..intervals import bootstrap_interval
from .style import BODY, OKABE_ITO, SMALL

_GRID = np.linspace(0, 1, 41)


def faithfulness_curves(curves: Sequence[FaithfulnessCurves], *, width: float = 6.5) -> Figure:
    """The mean deletion and insertion curves over pairs, in nats, beside random orders, with 95% bands.

    Each pair's curve is evaluated at the same shares of its tokens. `width` is in inches.

    Args:
        curves: As `faithfulness` gives them.
        width: The figure's width in inches; 3.35 is a column of a paper, 6.5 a page.

    Raises ValueError if there are no curves.
    """
    curves = all_of(FaithfulnessCurves, curves, "curves", "what faithfulness returns")
    if not curves:
        raise ValueError("there are no curves to draw.")
    figure = Figure(figsize=(width, 0.42 * width), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, ("deletion", "insertion"), strict=True):
        by_score = np.stack([_on_grid(getattr(one, kind).numpy()) for one in curves])
        random = np.stack(
            [
                np.mean([_on_grid(row) for row in getattr(one, f"random_{kind}").numpy()], axis=0)
                for one in curves
            ]
        )
        _draw(axes, by_score, "highest score first", OKABE_ITO[0], "-")
        _draw(axes, random, "random order", OKABE_ITO[5], "--")
        gain = np.array([getattr(one, f"{kind}_gain") for one in curves])
        low, high = bootstrap_interval(gain)
        axes.set_title(f"{kind}: gain {gain.mean():+.2f} [{low:+.2f}, {high:+.2f}] nats", size=BODY)
        axes.set_xlabel(f"share of tokens {'masked' if kind == 'deletion' else 'revealed'}", size=BODY)
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        axes.axhline(0, color="#999", linewidth=0.6, zorder=0)
    panels[0].set_ylabel("f(x), nats", size=BODY)
    panels[1].legend(fontsize=SMALL, frameon=False)
    return figure


def _on_grid(curve: Float[np.ndarray, " step"]) -> Float[np.ndarray, " grid"]:
    return np.interp(_GRID, np.linspace(0, 1, len(curve)), curve)


def _draw(axes: Axes, values: Float[np.ndarray, "pair grid"], label: str, colour: str, line: str) -> None:
    bands = np.array([bootstrap_interval(column, resamples=400) for column in values.T])
    axes.plot(_GRID, values.mean(axis=0), line, color=colour, linewidth=1.4, label=label)
    axes.fill_between(_GRID, bands[:, 0], bands[:, 1], color=colour, alpha=0.18, linewidth=0)
