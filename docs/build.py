"""The API reference, one page for each public module, out of the docstrings alone: `make docs`.

pdoc reads what is there; the package imports a name when it is first used. So all are used first.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType

import pdoc
import pdoc.render

import grains_lens
from grains_lens.intervention.rules import DirectionRule

HERE = Path(__file__).parent


def build(out: Path) -> Path:
    """Write the pages below `out`; a warning is an error."""
    public = {name: getattr(grains_lens, name) for name in grains_lens.__all__}
    # A marked rule reads as the function that it holds.
    shown = {name: one.rule if isinstance(one, DirectionRule) else one for name, one in public.items()}
    vars(grains_lens).update(shown)
    pages = [name for name, value in public.items() if isinstance(value, ModuleType)]
    # Functions named like the module they are in, which is none of the public ones.
    hidden = [f"!grains_lens.{name}" for name in public if name not in pages]
    pdoc.render.configure(docformat="markdown", show_source=False, footer_text="grains_lens")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc("grains_lens", *hidden, output_directory=out)
    return out / "grains_lens.html"


if __name__ == "__main__":
    print(f"wrote {build(Path(sys.argv[1]))}")
