"""A token strip and an image's grid as HTML. The background of each token shows its score."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..errors import printable

_POSITIVE, _NEGATIVE = (33, 102, 172), (178, 24, 43)
"""Blue for and red against: the ends of ColorBrewer's RdBu, which colour-blind readers can tell apart."""


_POSITIVE_TINT, _NEGATIVE_TINT = (67, 147, 195), (214, 96, 77)
"""Paler colours of the same scale, distinct from both black and white."""


_OPACITY = 0.8
"""The opacity of the strongest tint. Black ink on a white page and white ink on a black page keep a contrast
of 4.5."""


def colour(score: float, scale: float) -> tuple[int, int, int]:
    """White at 0, blue at +scale, red at −scale."""
    strength = min(1.0, abs(score) / scale) if scale > 0 else 0.0
    end = _POSITIVE if score > 0 else _NEGATIVE
    red, green, blue = (round(255 + strength * (channel - 255)) for channel in end)
    return red, green, blue


def ink(background: tuple[int, int, int]) -> str:
    """Black or white, whichever has more contrast with this background (contrast ratio of WCAG 2)."""
    red, green, blue = (
        channel / 3294.6 if channel <= 10 else ((channel / 255 + 0.055) / 1.055) ** 2.4
        for channel in background
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#fff"


def tint(score: float, scale: float) -> str:
    """The same for a light or dark page: the colour is transparent, fully so at 0."""
    red, green, blue = _POSITIVE_TINT if score > 0 else _NEGATIVE_TINT
    strength = min(1.0, abs(score) / scale) if scale > 0 else 0.0
    return f"rgba({red},{green},{blue},{_OPACITY * strength:.3f})"


def token_strip_html(
    strings: Sequence[str],
    scores: Sequence[float],
    *,
    caption: str,
    marked: Sequence[int] = (),
    scale: float | None = None,
) -> str:
    """The strip as a self-contained piece of HTML. Tokens at `marked` are underlined. Colours are strongest
    at `scale`, by default the largest |score|."""
    if scale is None:
        scale = max((abs(score) for score in scores), default=0.0)
    spans = []
    for index, (string, score) in enumerate(zip(strings, scores, strict=True)):
        text = html.escape(printable(string.strip()))
        line = f"border-bottom:3px solid {'#e69f00' if index in marked else 'transparent'};"
        background = tint(score, scale)
        spans.append(
            f'<span title="{text}: {score:+.3f} nats" style="background:{background};'
            f"color:inherit;padding:1px 3px;margin:1px;border-radius:3px;{line}"
            f'display:inline-block;white-space:pre">{text or repr(string)[1:-1]}</span>'
        )
    return (
        '<div style="font-family:monospace;line-height:1.9">'
        + "".join(spans)
        + f'<div style="font-size:85%;opacity:.75">{html.escape(printable(caption))}</div></div>'
    )


def score_grid_html(scores: Sequence[Sequence[float]], *, scale: float) -> str:
    """Scores on an image's grid as a self-contained piece of HTML, one coloured cell per token."""
    cells = [
        f'<span title="row {row}, column {column}: {score:+.3f} nats" style="background:{tint(score, scale)};'
        'width:12px;height:12px"></span>'
        for row, line in enumerate(scores)
        for column, score in enumerate(line)
    ]
    return (
        f'<div style="display:inline-grid;grid-template-columns:repeat({len(scores[0])},12px);border:1px solid #ccc;'
        'margin:2px 8px 2px 0">' + "".join(cells) + "</div>"
    )
