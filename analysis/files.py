"""The library functions with which studies write tables, pages and figures and word their errors, imported in
one place."""

from __future__ import annotations

from grains_lens.cli.parsing import in_one_line
from grains_lens.errors import printable, unknown_name
from grains_lens.show import save as write_figure
from grains_lens.writing import write_text

__all__ = ["in_one_line", "printable", "unknown_name", "write_figure", "write_text"]
