"""Layer-by-token heat maps: where in the prompt, and at which layer, a preference arises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..attribution.conductance import LayerConductance
from ..errors import printable
from .style import BODY, SMALL, signed_colours


def layer_token_map(
    scores: LayerConductance | Sequence[LayerConductance] | Float[Tensor, "layer pos"],
    strings: Sequence[str] | None = None,
    *,
    response: Float[Tensor, " layer"] | None = None,
    title: str | None = None,
    quantity: str = "score (nats), + for chosen",
    width: float = 6.5,
) -> Figure:
    """One prompt's scores at every layer and token, in nats: blue for the chosen answer, red against it.

    Prompts too long for `width` inches continue in further panels with the same colours.

    Args:
        scores: One `LayerConductance`, which also has the strings and the response; or any scores [layer, pos].
        strings: What each position reads as. Needed for scores that are a tensor.
        response: What the answers' own positions hold at each layer: the last column. A conductance's own if None.
        title: Above the map.
        quantity: What the colours mean, with its unit.
        width: In inches.

    Raises ValueError if `scores` is a list of several, or if its number of positions differs from that of the
    strings.
    """
    if isinstance(scores, Sequence):
        if len(scores) != 1:
            raise ValueError(
                f"scores is a list of {len(scores)} conductances, but a map shows one: "
                "layer_token_map(flows[0])."
            )
        (scores,) = scores
    if isinstance(scores, LayerConductance):
        strings = scores.strings if strings is None else strings
        response = scores.response if response is None else response
        scores = scores.scores
    if strings is None:
        raise ValueError(
            "strings=None leaves the positions of scores without text: give one string per position, or a "
            "LayerConductance."
        )
    if scores.shape[1] != len(strings):
        raise ValueError(f"scores has {scores.shape[1]} positions and there are {len(strings)} strings.")
    values, labels = _numbers(scores), [_label(string) for string in strings]
    if response is not None:
        values = np.concatenate([values, _numbers(response)[:, None]], axis=1)
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


def _numbers(scores: Tensor) -> np.ndarray:
    return scores.detach().double().cpu().numpy()


def _draw_panel(
    axes: Axes, values: Float[np.ndarray, "layer column"], labels: Sequence[str], width: int, colours: object
) -> None:
    n_layers = len(values)
    axes.imshow(values, cmap=colours.cmap, norm=colours.norm, aspect="auto", origin="lower")  # pyright: ignore
    axes.set_xlim(-0.5, width - 0.5)  # cells keep their width even if the last panel is not full
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
