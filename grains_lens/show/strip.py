"""Draw prompts token by token on the colours of their scores."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..attribution.scores import Piece, TokenAttribution, as_attributions
from ..errors import printable
from ..html.strips import colour, ink
from .style import BODY, SMALL, signed_colours

_ADVANCE = 0.602
"""The width of a DejaVu Sans Mono character, in ems. With it, text can be laid out without a renderer."""

LineStyle = Literal["-"] | tuple[int, tuple[float, ...]]

_LINES: tuple[LineStyle, ...] = ("-", (0, (1.2, 1.0)), (0, (4, 1)), (0, (4, 1, 1, 1)))
"""Kinds of marks differ by line style, because colour already shows the score."""


@dataclass(frozen=True)
class Cell:
    """A token's place in a strip, in points: `line` counted from the prompt's first."""

    piece: Piece
    text: str
    line: int
    left: float
    width: float


def token_strip(
    attributions: TokenAttribution | Sequence[TokenAttribution],
    *,
    marked: Mapping[str, Sequence[Sequence[int]]] | None = None,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    width: float = 6.5,
    font_size: float = BODY,
) -> Figure:
    """Prompts token by token, each on the colour of its score: blue for, red against the chosen answer.

    All prompts share one symmetric colour scale, in nats. Long prompts wrap at `width` inches; the height
    follows. An image appears as one piece that states the sum of its tokens' scores; `image_attribution`
    draws them over the image.

    Args:
        attributions: One attribution, or a list of them: one strip per prompt.
        marked: Kinds of tokens by name. Each has one list of positions per prompt, which are underlined, each kind
            in its own style.
        titles: One line per prompt, above it.
        title: Above all.
        width: In inches.
        font_size: In points.

    Raises ValueError if there is nothing to show, or `titles` or `marked` do not fit the prompts.
    """
    attributions = as_attributions(attributions)
    _check_strip(attributions, marked or {}, titles)
    size = font_size
    scale = max(one.scale() for one in attributions)
    line_height, gap, margin = 1.95 * size, 1.1 * size, 0.8 * size
    head = 1.6 * size if titles else 0.0
    top, bottom = (2.2 * size if title else margin), 5.6 * size
    layouts = [lay_out(one.pieces(), (width * 72) - 2 * margin, size) for one in attributions]
    heights = [head + line_height * (1 + max(cell.line for cell in cells)) for cells in layouts]
    height = top + sum(heights) + gap * (len(heights) - 1) + bottom

    figure = Figure(figsize=(width, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width * 72), ylim=(height, 0))
    axes.axis("off")
    if title:
        axes.text(margin, 0.9 * size, printable(title, keep="\n"), size=size + 1, weight="bold", va="center")
    y = top
    for index, (one, cells) in enumerate(zip(attributions, layouts, strict=True)):
        if titles:
            # Titles use a proportional font, which is narrower than this, so a shortened title always fits.
            fits = _shortened(printable(titles[index]), int((width * 72 - 2 * margin) / SMALL / 0.54))
            axes.text(margin, y + 0.6 * size, fits, size=SMALL, color="#444", va="center", parse_math=False)
            y += head
        marks = {kind: set(positions[index]) for kind, positions in (marked or {}).items()}
        draw_strip(axes, one, cells, marks, (margin, y), scale, size)
        y += heights[index] - head + gap
    draw_keys(figure, axes, list(marked or {}), scale, (width * 72, height), margin, size)
    return figure


def _check_strip(
    attributions: Sequence[TokenAttribution],
    marked: Mapping[str, Sequence[Sequence[int]]],
    titles: Sequence[str] | None,
) -> None:
    if not attributions:
        raise ValueError("there are no attributions to show.")
    lists = {"titles": titles, **{f"marked[{kind!r}]": each for kind, each in marked.items()}}
    for name, each in lists.items():
        if each is not None and len(each) != len(attributions):
            raise ValueError(
                f"{name} has {len(each)} entries; one for each of {len(attributions)} prompts is expected."
            )
    if len(marked) > len(_LINES):
        raise ValueError(f"marked has {len(marked)} kinds; at most {len(_LINES)} can be told apart.")


def lay_out(pieces: Sequence[Piece], width: float, size: float) -> list[Cell]:
    """Lay out tokens in lines, like running text: a full line continues in the next."""
    cells: list[Cell] = []
    line, left = 0, 0.0
    for piece in pieces:
        text = printable(piece.label.strip()) or repr(piece.label)[1:-1] or "·"
        text = _shortened(text, int(width / size / _ADVANCE) - 2)
        need = (_columns(text) * _ADVANCE + 0.7) * size
        if left and left + need > width:
            line, left = line + 1, 0.0
        cells.append(Cell(piece, text, line, left, need))
        left += need + 0.25 * size
    return cells


def _shortened(text: str, columns: int) -> str:
    return text if len(text) <= columns else text[: columns - 1] + "…"


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def draw_strip(
    axes: Axes,
    attribution: TokenAttribution,
    cells: Sequence[Cell],
    marks: Mapping[str, set[int]],
    corner: tuple[float, float],
    scale: float,
    size: float,
) -> None:
    for cell in cells:
        x, y = corner[0] + cell.left, corner[1] + cell.line * 1.95 * size
        background = colour(0.0 if cell.piece.is_image else cell.piece.score, scale)
        face = tuple(channel / 255 for channel in background)
        edge = "#ccc" if min(background) > 235 else "none"
        axes.add_patch(
            Rectangle(
                (x, y), cell.width, 1.4 * size, facecolor=face, edgecolor=edge, linewidth=0.5, gid="token"
            )
        )
        axes.text(
            x + cell.width / 2,
            y + 0.72 * size,
            cell.text,
            size=size,
            family="DejaVu Sans Mono",
            color=ink(background),
            ha="center",
            va="center",
            parse_math=False,
            gid="token",
            alpha=0.5 if bool(attribution.is_special[cell.piece.position]) else 1.0,
        )
        for style, positions in zip(_LINES, marks.values(), strict=False):
            if not positions.isdisjoint(cell.piece.positions):
                axes.add_line(_underline(x, x + cell.width, y + 1.62 * size, style))


def _underline(left: float, right: float, y: float, style: LineStyle) -> Line2D:
    return Line2D(
        [left, right],
        [y, y],
        color="black",
        linewidth=2,
        linestyle=style,
        gid="mark",
        solid_capstyle="butt",
        dash_capstyle="butt",
    )


def draw_keys(
    figure: Figure,
    axes: Axes,
    kinds: Sequence[str],
    scale: float,
    extent: tuple[float, float],
    margin: float,
    size: float,
) -> None:
    """Draw the colour bar and the legend of the underlines."""
    width, height = extent
    bar_width = min(0.45 * width, 190)
    bar = figure.add_axes(
        ((margin + size) / width, 2.9 * size / height, bar_width / width, 0.8 * size / height)
    )
    scale = scale or 1.0
    figure.colorbar(signed_colours(scale), cax=bar, orientation="horizontal", ticks=[-scale, 0, scale])
    bar.set_xticks([-scale, 0, scale], [f"−{scale:.2g}", "0", f"+{scale:.2g}"])
    bar.tick_params(labelsize=SMALL, length=2, pad=1.5)
    bar.set_xlabel("score (nats), + for chosen", size=SMALL, labelpad=1)
    for row, (kind, style) in enumerate(zip(kinds, _LINES, strict=False)):
        x, y = margin + bar_width + 3.4 * size, height - (3.4 - 1.5 * row) * size
        axes.add_line(_underline(x, x + 2.4 * size, y, style))
        axes.text(x + 3 * size, y, printable(kind), size=SMALL, va="center", parse_math=False)
