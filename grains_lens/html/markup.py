"""Pieces of HTML for notebooks: tables, bars, curves, marked words.

Each piece has its own style, and no script, image or font. Text takes the page's colour and backgrounds are
transparent, so a piece is readable on light and dark pages.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..errors import printable
from .strips import tint

GREY = "rgba(128,128,128,.35)"


DARK_GREY = "rgba(128,128,128,.75)"


BLUE = tint(1.0, 1.0)


class Html(str):
    """Finished HTML. Any other text is escaped when it is inserted."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Text as HTML that displays it literally; characters that cannot be displayed become escapes."""
    return text if isinstance(text, Html) else Html(html.escape(printable(text, keep="\n\t")))


def shown(token: str) -> str:
    """A token for display: without surrounding spaces or, if it is only white space, as visible escapes."""
    return printable(token.strip()) or repr(token)[1:-1]


def card(title: str, *parts: Html | str, caption: str = "") -> Html:
    """A piece with a title."""
    body = "".join(part if isinstance(part, Html) else f"<div>{escaped(part)}</div>" for part in parts)
    return Html(
        '<div style="font-family:system-ui,sans-serif;font-size:13px;line-height:1.5;color:inherit">'
        f'<div style="font-weight:600">{escaped(title)}</div>{body}{_caption(caption)}</div>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, best: int | None = None) -> Html:
    """A table. All columns but the first are right-aligned, as numbers should be; row `best` is marked.

    A long table scrolls.
    """
    cell = "padding:1px 8px;border:0;white-space:nowrap;background:none;text-align:"
    heads = [
        f'<th style="{cell}{_side(column)};font-weight:600">{escaped(name)}</th>'
        for column, name in enumerate(head)
    ]
    lines = [f'<tr style="background:none;border-bottom:1px solid {GREY}">{"".join(heads)}</tr>']
    for index, row in enumerate(rows):
        mark = f"background:{tint(0.4, 1.0)};font-weight:600" if index == best else "background:none"
        cells = [
            f'<td style="{cell}{_side(column)}">{escaped(value)}</td>' for column, value in enumerate(row)
        ]
        lines.append(f'<tr style="{mark}">{"".join(cells)}</tr>')
    return _scrolling(
        '<table style="border-collapse:collapse;border:0;margin:4px 0;color:inherit;'
        f'font-variant-numeric:tabular-nums">{"".join(lines)}</table>'
    )


def text_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """A table of texts, which wrap as needed."""
    cell = (
        "padding:3px 8px;border:0;text-align:left;vertical-align:top;background:none;max-width:28em;"
        "overflow-wrap:anywhere"
    )
    heads = "".join(f'<th style="{cell};font-weight:600">{escaped(name)}</th>' for name in head)
    line = f"background:none;border-top:1px solid {GREY}"
    lines = [
        f'<tr style="{line}">'
        + "".join(f'<td style="{cell};white-space:pre-wrap">{escaped(value)}</td>' for value in row)
        + "</tr>"
        for row in rows
    ]
    return _scrolling(
        '<table style="border-collapse:collapse;border:0;margin:4px 0;color:inherit">'
        f'<tr style="background:none">{heads}</tr>{"".join(lines)}</table>'
    )


def bar(share: float, *, label: str = "", interval: tuple[float, float] | None = None) -> Html:
    """A bar that fills a share (0 to 1) of its 160 pixels, with the interval as a line over it."""
    fill = f"{100 * min(1.0, max(0.0, share)):.1f}%"
    whisker = ""
    if interval is not None:
        low, high = (100 * min(1.0, max(0.0, end)) for end in interval)
        whisker = (
            f'<span style="position:absolute;top:5px;height:2px;left:{low:.1f}%;width:{high - low:.1f}%;'
            'background:currentColor"></span>'
        )
    return Html(
        '<span style="display:inline-block;vertical-align:middle;position:relative;width:160px;height:12px;'
        f'background:rgba(128,128,128,.15)" title="{escaped(label)}"><span style="display:block;height:12px;'
        f'width:{fill};background:{BLUE}"></span>{whisker}</span>'
    )


def heat_table(
    heads: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]], *, corner: str, unit: str
) -> Html:
    """Numbers as coloured cells on one symmetric scale, red below 0 and blue above. Hovering over a cell
    shows its number."""
    scale = max((abs(value) for _, values in rows for value in values), default=0.0)
    upright = "writing-mode:vertical-rl;transform:rotate(180deg);font-weight:400;padding:3px 0;border:0"
    names = [
        f'<th style="background:none;border:0;padding:0;vertical-align:top"><span style="{upright}">'
        f"{escaped(shown(head))}</span></th>"
        for head in heads
    ]
    edge = "padding:0 6px;border:0;text-align:right;vertical-align:top;font-weight:400;background:none"
    lines = []
    for name, values in rows:
        cells = [
            f'<td title="{corner} {escaped(name)}, {escaped(shown(head))}: {value:+.3f} {unit}" '
            f'style="background:{tint(value, scale)};width:18px;min-width:18px;height:18px;padding:0;'
            f'border:1px solid {GREY}"></td>'
            for head, value in zip(heads, values, strict=True)
        ]
        lines.append(
            f'<tr style="background:none"><th style="{edge}">{escaped(name)}</th>{"".join(cells)}</tr>'
        )
    return _scrolling(
        '<table style="border-collapse:collapse;border:0;margin:4px 0;color:inherit;font-family:monospace;'
        f'font-size:12px">{"".join(lines)}<tr style="background:none"><th style="{edge}">{corner}</th>'
        f"{''.join(names)}</tr></table>"
    )


def cells(values: Sequence[float], *, unit: str) -> Html:
    """One thin coloured cell per number, on one symmetric scale."""
    scale = max((abs(value) for value in values), default=0.0)
    width = max(2, min(12, 640 // max(1, len(values))))
    spans = [
        f'<span title="{value:+.3f} {unit}" style="display:inline-block;width:{width}px;height:14px;'
        f'background:{tint(value, scale)}"></span>'
        for value in values
    ]
    return Html(
        f'<div style="margin:4px 0"><div style="border:1px solid {GREY};display:inline-block;line-height:0;'
        f'max-width:100%">{"".join(spans)}</div></div>'
    )


def curves(lines: Sequence[tuple[Sequence[float], str]], *, title: str, unit: str) -> Html:
    """Curves over [0, 1], each with its SVG style, on a common range. `title` names the x axis; `unit` is the
    unit of the values."""
    width, height, left = 220, 90, 44
    everything = [value for values, _ in lines for value in values]
    low, high = min(everything), max(everything)
    span = (high - low) or 1.0
    drawn = []
    for values, style in lines:
        points = " ".join(
            f"{left + index * width / max(1, len(values) - 1):.1f},{6 + (high - value) / span * height:.1f}"
            for index, value in enumerate(values)
        )
        drawn.append(f'<polyline points="{points}" fill="none" style="{style}"></polyline>')
    text = 'font-size="10" fill="currentColor"'
    return Html(
        f'<svg width="{left + width + 10}" height="{height + 34}" role="img" aria-label="{escaped(title)}" '
        f'style="color:inherit"><rect x="{left}" y="6" width="{width}" height="{height}" fill="none" '
        f'stroke="{GREY}"></rect>{"".join(drawn)}<text x="{left - 4}" y="14" text-anchor="end" {text}>'
        f'{high:+.2f}</text><text x="{left - 4}" y="{height + 6}" text-anchor="end" {text}>{low:+.2f}</text>'
        f'<text x="{left}" y="{height + 18}" {text}>0</text><text x="{left + width}" y="{height + 18}" '
        f'text-anchor="end" {text}>1</text><text x="{left + width / 2}" y="{height + 30}" text-anchor="middle" '
        f'{text}>{escaped(title)}</text><text x="{left - 4}" y="{height / 2 + 10}" text-anchor="end" {text}>'
        f"{escaped(unit)}</text></svg>"
    )


def details(summary: str, text: str) -> Html:
    """Text that is folded until the reader opens it."""
    return Html(
        f"<details><summary>{escaped(summary)}</summary>"
        f'<code style="background:none;color:inherit;white-space:pre-wrap">{escaped(text)}</code></details>'
    )


def marked_words(words: Sequence[tuple[str, bool]], ink: str) -> Html:
    """Running text with some words coloured and underlined."""
    mark = f"background:{ink};text-decoration:underline;color:inherit;border-radius:2px"
    return Html(
        "".join(
            f'<mark style="{mark}">{escaped(word)}</mark>' if changed else escaped(word)
            for word, changed in words
        )
    )


def _side(column: int) -> str:
    return "right" if column else "left"


def _scrolling(inner: str) -> Html:
    return Html(f'<div style="overflow:auto;max-height:28em">{inner}</div>')


def _caption(caption: str) -> str:
    return f'<div style="font-size:85%;opacity:.75">{escaped(caption)}</div>' if caption else ""
