"""How tables, pages and figures of studies are written: whole or not at all, by the library's own writers."""

from __future__ import annotations

from grains_lens.show import save as write_figure
from grains_lens.writing import write_text

__all__ = ["write_figure", "write_text"]
