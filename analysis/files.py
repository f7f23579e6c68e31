"""How studies write tables, pages and figures, and show foreign text: by the library's functions, named once."""

from __future__ import annotations

from grains_lens.errors import printable
from grains_lens.show import save as write_figure
from grains_lens.writing import write_text

__all__ = ["printable", "write_figure", "write_text"]
