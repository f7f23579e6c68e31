"""Scores laid over pictures, patch by patch, beside the token strip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..attribution.scores import TokenAttribution
from ..errors import printable
from ..html.strips import colour
from ..prompts.grids import Extent
from ..prompts.pictures import picture
from .strip import draw_keys, draw_strip, lay_out
from .style import BODY, SMALL

_PER_ROW = 2


def image_attribution(
    attribution: TokenAttribution,
    images: Sequence[Any],
    *,
    title: str | None = None,
    width: float = 6.5,
    picture_height: float = 1.5,
    font_size: float = BODY,
) -> Figure:
    """Each picture, beside it the same picture under its tokens' scores, and below them the prompt's tokens.

    Blue speaks for the chosen answer, red against it, in nats per token, all on one scale; where a score is 0 the
    picture shows through. `images` are the pair's own. Where the model saw a part of the picture alone, a
    dashed line is around it. `width` and `picture_height` are in inches.

    Raises ValueError if there is another number of images than the prompt has, or how its tokens lie on the
    picture is not known for this model.
    """
    grids = attribution.image_grids()
    if not grids or len(grids) != len(images):
        raise ValueError(
            f"images has {len(images)} pictures and the prompt has {len(grids)}: give the pair's own images."
        )
    totals = [piece.score for piece in attribution.pieces() if piece.is_image]
    extents = [grid.views[-1].extent for grid in attribution.grids or ()]
    pictures = [np.asarray(picture(image)) for image in images]
    size, margin, scale = font_size, 0.8 * font_size, attribution.scale()
    inner, gap, head = 72 * width - 2 * margin, 0.9 * size, 1.5 * size
    rows = [range(n, min(n + _PER_ROW, len(pictures))) for n in range(0, len(pictures), _PER_ROW)]
    heights = [_row_height([pictures[n] for n in row], inner, gap, 72 * picture_height) for row in rows]
    cells = lay_out(attribution.pieces(), inner, size)
    strip_top = (2.2 * size if title else margin) + sum(heights) + (head + gap) * len(rows)
    height = strip_top + 1.95 * size * (1 + max(cell.line for cell in cells)) + 5.6 * size

    figure = Figure(figsize=(width, height / 72))
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, 72 * width), ylim=(height, 0))
    page.axis("off")
    if title:
        shown = printable(title, keep="\n")
        page.text(margin, 0.9 * size, shown, size=size + 1, weight="bold", va="center", parse_math=False)
    y = 2.2 * size if title else margin
    for row, tall in zip(rows, heights, strict=True):
        x = margin
        for n in row:
            wide = tall * pictures[n].shape[1] / pictures[n].shape[0]
            label = f"image {n + 1}: {totals[n]:+.2f} nats"
            page.text(x, y + 0.6 * size, label, size=SMALL, color="#444", va="center")
            for overlaid in (False, True):
                box = (x / (72 * width), 1 - (y + head + tall) / height, wide / (72 * width), tall / height)
                axes = figure.add_axes(box)
                _draw_picture(axes, pictures[n], faded=overlaid)
                if overlaid:
                    _lay_over(axes, grids[n].double().numpy(), extents[n], scale)
                x += wide + gap
        y += head + tall + gap
    draw_strip(page, attribution, cells, {}, (margin, strip_top), scale, size)
    draw_keys(figure, page, [], scale, (72 * width, height), margin, size)
    return figure


def _row_height(pictures: Sequence[np.ndarray], inner: float, gap: float, at_most: float) -> float:
    """How tall pictures side by side, each of them twice, may be."""
    aspects = sum(2 * one.shape[1] / one.shape[0] for one in pictures)
    return min(at_most, (inner - gap * (2 * len(pictures) - 1)) / aspects)


def _draw_picture(axes: Axes, pixels: np.ndarray, *, faded: bool) -> None:
    """The picture over (0, 1) × (0, 1); faded to light greys where colours shall lie over it."""
    if faded:
        grey = pixels @ np.array([0.299, 0.587, 0.114]) / 255
        pixels = np.repeat((0.72 + 0.28 * grey)[..., None], 3, axis=-1)
    axes.imshow(pixels, extent=(0, 1, 1, 0), aspect="auto", interpolation="nearest")
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#888", linewidth=0.5)


def _lay_over(axes: Axes, scores: Float[np.ndarray, "row col"], extent: Extent, scale: float) -> None:
    left, top, right, bottom = extent
    cells = np.zeros((*scores.shape, 4))
    for at, score in np.ndenumerate(scores):
        cells[at][:3] = [channel / 255 for channel in colour(float(np.sign(score)), 1.0)]
        cells[at][3] = 0.9 * min(1.0, abs(score) / scale) if scale else 0.0
    overlay = axes.imshow(
        cells, extent=(left, right, bottom, top), aspect="auto", interpolation="nearest", zorder=2
    )
    overlay.set_gid("scores")
    axes.set(xlim=(0, 1), ylim=(1, 0))
    rows, cols = scores.shape
    lines = {"color": "#999", "linewidth": 0.3, "zorder": 3}
    if max(rows, cols) <= 32:
        axes.vlines([left + (right - left) * n / cols for n in range(1, cols)], top, bottom, **lines)
        axes.hlines([top + (bottom - top) * n / rows for n in range(1, rows)], left, right, **lines)
    if extent != (0.0, 0.0, 1.0, 1.0):
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, linestyle=(0, (4, 2)), zorder=4)
        )
