"""Studies of a model's steering: which layers matter, how many pairs are enough, what else one may ask.

`run("layer_ablation", model=model, pairs=pairs, questions=questions)` answers with rows, a table and a figure;
`names()` says which studies there are, and `grains-lens study` runs them from a terminal.

The studies stand in the repository's folder `analysis`. A wheel has them here; in a clone they are found there.
"""

from pathlib import Path

import lazy_loader

_IN_A_CLONE = Path(__file__).parents[2] / "analysis"
if not (Path(__file__).parent / "study.py").exists() and (_IN_A_CLONE / "study.py").exists():
    __path__.append(str(_IN_A_CLONE))

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"notebook": ["run"], "results": ["Result", "Table"], "study": ["names"]}
)
