"""Readable tables: each number with its interval, as Markdown."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .words import heading, words


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, each value with its interval in one column, such as 0.123 [0.100, 0.150], and words
    for names."""
    columns = {}
    for name in table.columns:
        if name.endswith(("_low", "_high")) and name.rpartition("_")[0] in table:
            continue
        if f"{name}_low" in table:
            parts = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
            columns[heading(name)] = [_with_interval(*part) for part in parts]
        else:
            columns[heading(name)] = [text(value) for value in table[name]]
    return pd.DataFrame(columns, index=table.index)


def text(value: object) -> str:
    """A value for a reader."""
    if not isinstance(value, float):
        return "" if value is None else words(str(value))
    if np.isnan(value):
        return ""
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.3g}"
    return f"{value:.2e}" if abs(value) < 5e-4 else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def _with_interval(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return ""
    numbers = (value, low, high)
    counts = max(numbers) >= 2 and all(one == int(one) for one in numbers if not np.isnan(one))
    middle, *ends = (f"{one:.0f}" if counts else _decimal(one) for one in numbers)
    return middle if np.isnan(low) else f"{middle} [{', '.join(ends)}]"


def _decimal(value: float) -> str:
    """Means and intervals of a column have the same format, even if one happens to be whole."""
    return f"{value:.3f}" if not np.isnan(value) and value == int(value) and abs(value) < 100 else text(value)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, with numbers as in `shown`."""
    cells = shown(table)
    lines = [list(cells.columns), ["---"] * len(cells.columns), *cells.values.tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
