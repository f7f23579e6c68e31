"""Tables of text in columns, for a terminal of a given width and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest


def as_text(table: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Align the columns, with a line between behaviours. If the columns are too wide together, those that do
    not fit follow below, again with behaviour and method first."""
    return "\n\n".join(map(_block, _blocks(table, width) if width else [table]))


def _blocks(table: Sequence[Sequence[str]], width: int) -> Iterator[list[list[str]]]:
    """Split the table into blocks of columns, each with the first two. Cells that are still too wide are
    wrapped."""
    columns = [list(column) for column in zip(*table, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    room = width - sum(widths[:2]) - 4
    block: list[int] = []
    for at in range(2, len(columns)):
        if block and sum(widths[one] + 2 for one in [*block, at]) - 2 > room:
            yield _in_lines(columns, [0, 1, *block], room)
            block = []
        block.append(at)
    yield _in_lines(columns, [0, 1, *block], room)


def _in_lines(columns: Sequence[Sequence[str]], chosen: Sequence[int], room: int) -> list[list[str]]:
    rows = []
    for row in zip(*(columns[at] for at in chosen), strict=True):
        lines = [[row[1]], *(textwrap.wrap(cell, room) or [""] for cell in row[2:])]
        # Every line has its behaviour, because a rule is drawn where it changes.
        rows += [[row[0], *rest] for rest in zip_longest(*lines, fillvalue="")]
    return rows


def _block(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for above, row in zip([table[0], *table], table, strict=False):
        if row[0] != above[0]:
            lines.append("-" * (sum(widths) + 2 * len(widths) - 2))
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines)


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """The same cells as a Markdown table."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([head, "|" + " --- |" * len(table[0]), *rows])
