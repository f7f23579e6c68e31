"""The parts that all figures share: sizes, colours, and the function that writes them to a file."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from ..errors import as_path, kind_of
from ..html.strips import colour
from ..writing import write_bytes

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Colours that colour-blind readers tell apart (Okabe and Ito 2008)."""

SMALL, BODY = 7.0, 8.0
"""Font sizes in points, suited to a column of a paper."""


def save(figure: Figure, path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure, whole or not at all, in the format of the file's extension (PNG if there is none). The
    directory is made if needed. Returns the path. Raises ValueError for an unknown extension, OSError if the
    file cannot be written.

    Args:
        figure: Any matplotlib figure.
        path: Where to; the ending names the format, PNG without one.
        dpi: Dots per inch, for bitmaps.
    """
    path = as_path(path)
    if not hasattr(figure, "savefig"):
        raise ValueError(f"figure is {kind_of(figure)}: give what token_strip and the others return.")
    if not path.suffix:  # matplotlib's own default
        path = path.with_name(f"{path.name}.png")
    content = io.BytesIO()
    figure.savefig(content, dpi=dpi, format=path.suffix[1:].lower())
    return write_bytes(path, content.getvalue())


def signed_colours(scale: float) -> ScalarMappable:
    """Red at −scale, white at 0, blue at +scale: the colours of token strips."""
    ends = [tuple(channel / 255 for channel in colour(sign, 1.0)) for sign in (-1.0, 1.0)]
    cmap = LinearSegmentedColormap.from_list("gap", [ends[0], (1, 1, 1), ends[1]])
    return ScalarMappable(Normalize(-scale, scale), cmap)
