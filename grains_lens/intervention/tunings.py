"""What tuning found: every setting that was tried, and the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..hosts.model import HookedModel
from ..html import markup
from ..vectors.steering_vectors import SteeringVectors
from .contexts import Steering, steering
from .intervention import Intervention


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


@dataclass(frozen=True)
class Tuning:
    """The whole table, and its best row; `best.strength` is 0 where no steering was worth its cost."""

    rows: tuple[TuningRow, ...]
    best: TuningRow
    intervention: Intervention

    def steering(self, model: HookedModel, vectors: SteeringVectors) -> Steering:
        """Steering at the best row."""
        best, how = self.best, vars(self.intervention)
        return steering(model, vectors, strength=best.strength, layers=best.layers or None, **how)

    def __repr__(self) -> str:
        widths = {name: max(12, len(name)) for name in self.best.keep}
        head = f"{'layers':>16} {'strength':>8} {'accuracy':>8} " + " ".join(
            f"{name:>{width}}" for name, width in widths.items()
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
            caption="The best is marked; strength 0 is the model unsteered. Cost: the worst loss of accuracy "
            f"elsewhere; nan: steering broke the model. Unit of strength: {self.intervention.unit}.",
        )
