"""Layer by token heat maps: where along the prompt and at which depth a preference is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..errors import printable
from .style import BODY, SMALL, signed_colours


def layer_token_map(
    scores: Float[Tensor, "layer pos"],
    strings: Sequence[str],
    *,
    response: Float[Tensor, " layer"] | None = None,
    title: str | None = None,
    quantity: str = "score (nats), + for chosen",
    width: float = 6.5,
) -> Figure:
    """One prompt's scores at every layer and token, red against and blue for the chosen answer, in nats.

    `response`, what the answers' own positions hold at each layer, is the last column. Prompts too long for
    `width` inches go on in further panels, on the same colours.

    Raises ValueError if the scores have another number of positions than there are strings.
    """
    if scores.shape[1] != len(strings):
        raise ValueError(f"scores has {scores.shape[1]} positions and there are {len(strings)} strings.")
    values, labels = scores.double().numpy(), [_label(string) for string in strings]
    if response is not None:
        values = np.concatenate([values, response.double().numpy()[:, None]], axis=1)
        labels.append("answers")
    n_layers, n_columns = values.shape
    cell = 0.2  # inches
    per_panel = max(1, int((width - 0.75) / cell))
    n_panels = -(-n_columns // per_panel)
    per_panel = -(-n_columns // n_panels)
    longest = max(len(label) for label in labels)
    panel_height = n_layers * min(cell, 2.4 / n_layers + 0.02) + 0.062 * longest + 0.1
    figure = Figure(
        figsize=(width, n_panels * panel_height + 0.6 + (0.25 if title else 0)), layout="constrained"
    )
    panels = figure.subplots(n_panels, 1, squeeze=False)[:, 0]
    colours = signed_colours(float(np.abs(values).max()) or 1.0)
    for index, axes in enumerate(panels):
        here = slice(index * per_panel, (index + 1) * per_panel)
        _draw_panel(axes, values[:, here], labels[here], per_panel, colours)
    bar = figure.colorbar(
        colours, ax=list(panels), orientation="horizontal", fraction=0.05, shrink=0.5, aspect=30
    )
    bar.set_label(printable(quantity, keep="\n"), size=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    if title:
        figure.suptitle(printable(title, keep="\n"), size=BODY, x=0.01, ha="left", parse_math=False)
    return figure


def _draw_panel(
    axes: Axes, values: Float[np.ndarray, "layer column"], labels: Sequence[str], width: int, colours: object
) -> None:
    n_layers = len(values)
    axes.imshow(values, cmap=colours.cmap, norm=colours.norm, aspect="auto", origin="lower")  # pyright: ignore
    axes.set_xlim(-0.5, width - 0.5)  # a last panel that is not full keeps the cells' width
    axes.set_xticks(
        range(len(labels)), labels, rotation=90, size=SMALL, family="DejaVu Sans Mono", parse_math=False
    )
    every = -(-n_layers // 12)
    axes.set_yticks(
        range(0, n_layers, every), [str(layer) for layer in range(0, n_layers, every)], size=SMALL
    )
    axes.set_ylabel("layer", size=BODY)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _label(string: str) -> str:
    text = printable(string.strip()) or repr(string)[1:-1] or "·"
    return text if len(text) <= 14 else text[:13] + "…"
