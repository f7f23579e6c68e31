"""The settings that most studies share. A study's own `Settings` adds to them."""

from __future__ import annotations

from dataclasses import dataclass

from .judging import Judging
from .recipes import Recipe
from .subjects import Cell, Subject


@dataclass(frozen=True)
class PairSettings:
    """A study of pairs: `n_pairs` pairs are drawn, `draws` times."""

    subject: Subject = Subject()
    n_pairs: int = 50
    draws: int = 2

    def cells(self) -> list[Cell]:
        """Every model, behaviour and draw of pairs."""
        return self.subject.cells(self.draws)


@dataclass(frozen=True)
class VectorSettings(PairSettings):
    """A study of vectors made from pairs and judged on questions."""

    recipe: Recipe = Recipe()
    judging: Judging = Judging()


QUICK_SUBJECT = Subject(seeds=(0,), n_behaviours=1)
"""The first behaviour of one model, to check that a study runs."""
QUICK_JUDGING = Judging(n_dev=8, n_test=12, n_keep=2, n_keep_test=2, strengths=(0.0, 0.5))
"""A minimum of questions, to check that a study runs."""
