"""Scores drawn over images, patch by patch, with the token strip below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..attribution.scores import TokenAttribution, as_attributions
from ..data.items import MultipleChoice, OpenQuestion, PreferencePair
from ..errors import kind_of, printable
from ..prompts.grids import Extent
from ..prompts.pictures import picture
from .strip import Cell, draw_keys, draw_strip, lay_out
from .style import BODY, SMALL

_PER_ROW = 2

_FOR, _AGAINST = (60, 150, 235), (235, 80, 70)
"""Blue and red between those of the strips and white, which are seen equally well over black and over
white."""


def image_attribution(
    attribution: TokenAttribution | Sequence[TokenAttribution],
    images: Any,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    width: float = 6.5,
    picture_height: float = 1.5,
    font_size: float = BODY,
) -> Figure:
    """Each image twice, in colour and in grey under its tokens' scores; below them, the prompt's tokens.

    Blue supports the chosen answer and red opposes it, in nats per token, all on one scale. Where a score is
    0, the image is unchanged. The opacity of the colour grows with √(|score| / scale), so that moderate
    scores show, too (see the second key). If the model saw only a part of the image, a dashed line surrounds
    it.

    Args:
        attribution: One attribution, or a list of them: one below the other.
        images: The pair of the attribution, or its images (one or a list). For a list of attributions, one of these
            per attribution: `image_attribution(attributions, pairs)`.
        titles: One line per prompt, above it.
        title: Above all.
        width: In inches.
        picture_height: The most that a picture is high, in inches.
        font_size: In points.

    Raises ValueError if there is nothing to show, the number of images or `titles` does not match the
    prompts, or the layout of this model's image tokens is not known.
    """
    some = as_attributions(attribution, "attribution")
    given = [images] if isinstance(attribution, TokenAttribution) else images
    if not isinstance(given, list | tuple):
        raise ValueError(f"images is {kind_of(given)}: give a list, with the images of each attribution.")
    for name, each in {"images": given, "titles": titles}.items():
        if not some or (each is not None and len(each) != len(some)):
            raise ValueError(
                f"{name} has {len(each or ())} entries; one for each of {len(some)} attributions is expected."
            )
    size, margin, scale = font_size, 0.8 * font_size, max(one.scale() for one in some)
    inner = 72 * width - 2 * margin
    blocks = [
        _block(one, _own(own), inner, 72 * picture_height, size, titled=titles is not None)
        for one, own in zip(some, given, strict=True)
    ]
    top = 2.2 * size if title else margin
    height = top + sum(block.height for block in blocks) + 1.1 * size * (len(blocks) - 1) + 5.6 * size

    figure = Figure(figsize=(width, height / 72))
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, 72 * width), ylim=(height, 0))
    page.axis("off")
    if title:
        shown = printable(title, keep="\n")
        page.text(margin, 0.9 * size, shown, size=size + 1, weight="bold", va="center", parse_math=False)
    y = top
    for index, block in enumerate(blocks):
        if titles is not None:
            shown = printable(titles[index])
            page.text(margin, y + 0.6 * size, shown, size=SMALL, color="#444", va="center", parse_math=False)
        _draw_block(figure, page, block, (margin, y), scale, size)
        y += block.height + 1.1 * size
    draw_keys(figure, page, [], scale, (72 * width, height), margin, size)
    _draw_overlay_key(figure, scale, (72 * width, height), margin, size)
    return figure


@dataclass(frozen=True)
class _Block:
    """The layout of one prompt, in points: where its rows of images and its strip begin, and its height."""

    attribution: TokenAttribution
    pictures: Sequence[np.ndarray]
    rows: Sequence[range]
    row_heights: Sequence[float]
    cells: Sequence[Cell]
    first: float
    height: float


def _own(images: Any) -> Sequence[Any]:
    """The images of a pair or a question, or a single image, as a sequence."""
    if isinstance(images, PreferencePair | MultipleChoice | OpenQuestion):
        return images.images
    return images if isinstance(images, list | tuple) else (images,)


def _block(
    one: TokenAttribution, images: Sequence[Any], inner: float, at_most: float, size: float, *, titled: bool
) -> _Block:
    n_grids = len(one.image_grids())
    if not n_grids or n_grids != len(images):
        raise ValueError(
            f"images has {len(images)} pictures and the prompt has {n_grids}: give the pair's own images."
        )
    pictures = [np.asarray(picture(image)) for image in images]
    gap, head = 0.9 * size, 1.5 * size
    rows = [range(n, min(n + _PER_ROW, len(pictures))) for n in range(0, len(pictures), _PER_ROW)]
    heights = [_row_height([pictures[n] for n in row], inner, gap, at_most) for row in rows]
    cells = lay_out(one.pieces(), inner, size)
    first = 1.6 * size if titled else 0.0
    strip = 1.95 * size * (1 + max(cell.line for cell in cells))
    return _Block(
        one, pictures, rows, heights, cells, first, first + sum(heights) + (head + gap) * len(rows) + strip
    )


def _row_height(pictures: Sequence[np.ndarray], inner: float, gap: float, at_most: float) -> float:
    """The largest height at which the images, each drawn twice, fit side by side."""
    aspects = sum(2 * one.shape[1] / one.shape[0] for one in pictures)
    return min(at_most, (inner - gap * (2 * len(pictures) - 1)) / aspects)


def _draw_block(
    figure: Figure, page: Axes, block: _Block, corner: tuple[float, float], scale: float, size: float
) -> None:
    one = block.attribution
    grids, totals = one.image_grids(), [piece.score for piece in one.pieces() if piece.is_image]
    extents = [grid.views[-1].extent for grid in one.grids or ()]
    wide_page, high_page = page.get_xlim()[1], page.get_ylim()[0]
    gap, head = 0.9 * size, 1.5 * size
    y = corner[1] + block.first
    for row, tall in zip(block.rows, block.row_heights, strict=True):
        x = corner[0]
        for n in row:
            wide = tall * block.pictures[n].shape[1] / block.pictures[n].shape[0]
            label = f"image {n + 1}: {_signed(totals[n])} nats"
            page.text(x, y + 0.6 * size, label, size=SMALL, color="#444", va="center")
            for overlaid in (False, True):
                box = (x / wide_page, 1 - (y + head + tall) / high_page, wide / wide_page, tall / high_page)
                axes = figure.add_axes(box)
                _draw_picture(axes, block.pictures[n], grey=overlaid)
                if overlaid:
                    _lay_over(axes, grids[n].double().numpy(), extents[n], scale)
                x += wide + gap
        y += head + tall + gap
    draw_strip(page, one, block.cells, {}, (corner[0], y), scale, size)


def _draw_picture(axes: Axes, pixels: np.ndarray, *, grey: bool) -> None:
    """The picture over (0, 1) × (0, 1); in grey if colours will be drawn over it, so that all colour comes
    from scores."""
    if grey:
        pixels = np.repeat((pixels @ np.array([0.299, 0.587, 0.114]) / 255)[..., None], 3, axis=-1)
    axes.imshow(pixels, extent=(0, 1, 1, 0), aspect="auto", interpolation="nearest")
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#888", linewidth=0.5)


def _covering(scores: Float[np.ndarray, "row col"], scale: float) -> Float[np.ndarray, "row col 4"]:
    """The colours drawn over an image: blue or red, transparent at 0 and nearly opaque at `scale`.

    Their opacity grows with √|score|. If it grew linearly, a quarter of the scale would hardly be visible on
    a dark image.
    """
    cells = np.zeros((*scores.shape, 4))
    for at, score in np.ndenumerate(scores):
        cells[at][:3] = [channel / 255 for channel in (_FOR if score > 0 else _AGAINST)]
        cells[at][3] = 0.9 * min(1.0, abs(score) / scale) ** 0.5 if scale else 0.0
    return cells


def _lay_over(axes: Axes, scores: Float[np.ndarray, "row col"], extent: Extent, scale: float) -> None:
    left, top, right, bottom = extent
    overlay = axes.imshow(
        _covering(scores, scale),
        extent=(left, right, bottom, top),
        aspect="auto",
        interpolation="nearest",
        zorder=2,
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


def _draw_overlay_key(
    figure: Figure, scale: float, extent: tuple[float, float], margin: float, size: float
) -> None:
    """The key that shows how a score looks over dark and light parts of an image."""
    width, height = extent
    bar_width = min(0.45 * width, 190)
    left = margin + bar_width + 5 * size
    wide = min(bar_width, width - left - margin - size)
    axes = figure.add_axes((left / width, 2.9 * size / height, wide / width, 0.8 * size / height))
    box = {"extent": (-1, 1, 1, 0), "aspect": "auto", "interpolation": "nearest"}
    axes.imshow(np.array([[[0.0] * 3], [[1.0] * 3]]), **box)
    axes.imshow(_covering(np.linspace(-1, 1, 201)[None], 1.0), **box).set_gid("key")
    scale = scale or 1.0
    axes.set_xticks([-1, 0, 1], [f"−{scale:.2g}", "0", f"+{scale:.2g}"])
    axes.set_yticks([])
    axes.tick_params(labelsize=SMALL, length=2, pad=1.5)
    axes.set_xlabel("over dark and light parts", size=SMALL, labelpad=1)


def _signed(score: float) -> str:
    return f"{score:+.2f}".replace("-", "−")
