"""What tuning found: every setting that was tried, and the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from ..errors import as_path, kind_of, printable, seen
from ..hosts.model import HookedModel
from ..html import markup
from ..vectors.steering_vectors import SteeringVectors
from .intervention import Intervention
from .plan import Plan, Steering, steering_in_words
from .tuning_files import read_tuning, write_tuning


@dataclass(frozen=True)
class TuningRow:
    """One cell: these layers at this strength. `accuracy` on the target questions, `keep` the accuracy on
    each group that must not suffer, `cost` the worst drop among them, `score` = accuracy − charge·cost.

    Where steering breaks the model, so that a log-probability is NaN or infinite, accuracies and cost are NaN and the
    score is −∞.
    """

    layers: tuple[int, ...]
    strength: float
    accuracy: float
    keep: Mapping[str, float]
    cost: float
    score: float

    @property
    def effort(self) -> float:
        """How much it steers: |strength|, summed over layers. Of equal scores the least wins."""
        return abs(self.strength) * max(1, len(self.layers))


Row = TypeVar("Row")


def best_row(
    rows: Iterable[Row],
    *,
    score: Callable[[Row], float] = attrgetter("score"),
    effort: Callable[[Row], float] = attrgetter("effort"),
) -> Row:
    """The row with the highest score, rounded to nine digits; of equals the one of least effort, of those the first.

    This is how `tune` and `tune_contexts` choose. `rows` are theirs, or anything else that `score` and `effort`, two
    functions of a row, make numbers of. Raises ValueError for no rows, and for a score that is NaN, of which `max`
    would make the winner or not, as the order has it.

    Args:
        rows: Rows of a tuning, or anything that `score` and `effort` make numbers of.
        score: A function of a row. The highest wins.
        effort: A function of a row. Among equal scores the lowest wins.
    """
    if not isinstance(rows, Iterable) or isinstance(rows, str) or hasattr(rows, "dtype"):
        raise ValueError(f"rows is {kind_of(rows)}: give a list of rows, such as tune(...).rows.")
    best: tuple[tuple[float, float], Row] | None = None
    for row in rows:
        if math.isnan(score(row)):
            raise ValueError(
                f"nothing can be chosen by a score that is nan, that of {seen(row, 200)}: try smaller strengths, or "
                "float32."
            )
        key = round(score(row), 9), -effort(row)
        if best is None or key > best[0]:
            best = key, row
    if best is None:
        raise ValueError("there are no rows to choose from: give one at least.")
    return best[1]


def charged(base: Mapping[str, float], now: Mapping[str, float]) -> float:
    """The worst drop of accuracy over groups that must not suffer, 0 where none dropped. Raises ValueError for NaN."""
    drops = [base[name] - now[name] for name in base]
    if any(math.isnan(drop) for drop in drops):
        raise ValueError("a drop elsewhere is nan, which is not a cost: try smaller strengths, or float32.")
    return max([0.0, *drops])


@dataclass(frozen=True)
class Tuning:
    """What `tune` found: the table of all settings, its best row, and the vectors that were tuned.

        tuning = gl.tune(model, vectors, questions)
        tuning.save("truthful.safetensors")
        with gl.steering(model, gl.load("truthful.safetensors")): ...

    `rows` are the settings that were tried, the unsteered model first; `best` is one of them, and its strength is 0
    where no steering was worth its cost. `intervention` holds rule, positions, gate and unit, the same for all rows.
    `vectors` are None in a tuning that was put together without them. `print` shows the table.
    """

    rows: tuple[TuningRow, ...]
    best: TuningRow
    intervention: Intervention
    vectors: SteeringVectors | None = None

    @classmethod
    def best_of(cls, tunings: Iterable[Tuning]) -> Tuning:
        """Of several tunings (of other vectors, rules or positions on the same questions) the one whose best row is
        best, by the rule that `tune` chooses by. Raises ValueError for no tunings."""
        return best_row(
            tunings, score=lambda tuning: tuning.best.score, effort=lambda tuning: tuning.best.effort
        )

    def plan(self, vectors: SteeringVectors | None = None) -> Plan:
        """What steering at the best row takes. Raises ValueError where there are no vectors."""
        vectors = self.vectors if vectors is None else vectors
        if vectors is None:
            raise ValueError(
                "this tuning was made without vectors: give them, as tuning.steering(model, vectors), or as "
                "dataclasses.replace(tuning, vectors=vectors)."
            )
        return Plan(vectors, self.best.layers or None, self.best.strength, self.intervention)

    def steering(self, model: HookedModel, vectors: SteeringVectors | None = None) -> Steering:
        """Steering at the best row, by the tuning's own vectors or others, as `steering(model, tuning)` gives it."""
        return self.plan(vectors).on(model)

    # --- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file: the vectors, every row, and how the vectors act.

        `path` ends in .safetensors; its directory is made. The file is written whole or not at all, and
        `grains_lens.load`, `Tuning.load` and `SteeringVectors.load` (the vectors alone) read it.

        Raises ValueError for another extension, a tuning without vectors, and a rule or gate that a file cannot hold:
        a function of yours. Raises OSError where the file cannot be written.
        """
        vectors = self.plan().vectors
        if self.best not in self.rows:
            raise ValueError("best is not one of the rows: a file says which of them it is.")
        rows = [vars(row) for row in self.rows]
        write_tuning(as_path(path), vectors, rows, self.rows.index(self.best), self.intervention)
        return as_path(path)

    @classmethod
    def load(cls, path: str | Path) -> Tuning:
        """Read a file that `save` wrote; every number comes back bit for bit.

        Raises FileNotFoundError, or VectorFileError if the file is cut off, damaged or holds something else.
        """
        vectors, rows, best, intervention = read_tuning(as_path(path))
        held = tuple(TuningRow(**row) for row in rows)
        return cls(held, held[best], intervention, vectors)

    # --- what it looks like ----------------------------------------------------------------------

    def __repr__(self) -> str:
        vectors = "" if self.vectors is None else f"; {self.vectors!r}"
        return f"Tuning({self._chosen()}; the best of {len(self.rows)}, score {self.best.score:.3f}{vectors})\n{self}"

    def _chosen(self) -> str:
        return steering_in_words(self.best.layers, self.best.strength, self.intervention)

    def __str__(self) -> str:
        # A name may come out of a file, and hold what steers a terminal.
        widths = {name: max(12, len(printable(name))) for name in self.best.keep}
        head = f"{'layers':>16} {'strength':>8} {'accuracy':>8} " + " ".join(
            f"{printable(name):>{width}}" for name, width in widths.items()
        )
        lines = [head + f" {'cost':>6} {'score':>6}"]
        for row in self.rows:
            layers = ",".join(map(str, row.layers)) or "-"
            keep = " ".join(f"{row.keep[name]:>{width}.3f}" for name, width in widths.items())
            star = " *" if row == self.best else ""
            lines.append(
                f"{layers:>16} {row.strength:>8g} {row.accuracy:>8.3f} {keep} {row.cost:>6.3f} {row.score:>6.3f}{star}"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        names = list(self.best.keep)
        rows = [
            (
                ", ".join(map(str, row.layers)) or "none",
                f"{row.strength:g}",
                f"{row.accuracy:.3f}",
                *(f"{row.keep[name]:.3f}" for name in names),
                f"{row.cost:.3f}",
                f"{row.score:.3f}",
            )
            for row in self.rows
        ]
        return markup.card(
            f"Tuning: {len(rows)} settings",
            markup.table(
                ["layers", "strength", "accuracy", *names, "cost", "score"],
                rows,
                best=self.rows.index(self.best),
            ),
            caption=f"Best, and marked: {self._chosen()}. Strength 0 is the model unsteered. Cost: the worst loss of "
            "accuracy elsewhere; nan: steering broke the model.",
        )
