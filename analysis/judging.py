"""How vectors are judged: layers and strength chosen on dev questions, the gain measured on test questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grains_lens as gl

from .subjects import Bench


@dataclass(frozen=True)
class Judging:
    """Which questions are asked, which strengths tried."""

    n_dev: int = 96
    """Questions that layers and strength are chosen on."""
    n_test: int = 288
    """Questions that the gain is measured on."""
    n_keep: int = 16
    """Questions of each kind (clear, neutral) and other behaviour that must not suffer, in choosing."""
    n_keep_test: int = 24
    """The same in testing."""
    strengths: tuple[float, ...] = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
    """What is tried, relative to the residual stream's length; 0 is always among them."""
    charge: float = 1.0
    """What a drop elsewhere costs in choosing, per unit of accuracy."""

    def choose(self, bench: Bench, vectors: gl.SteeringVectors, layers: Any = "each") -> gl.Tuning:
        """Choose on the dev split; `layers` as in `grains_lens.tune`."""
        return self._tune(bench, vectors, "dev", layers, self.strengths)

    def test_grid(
        self,
        bench: Bench,
        vectors: gl.SteeringVectors,
        layers: Sequence[Sequence[int]],
        strengths: Sequence[float],
    ) -> list[dict[str, Any]]:
        """A row for every set of layers at every strength, the unsteered model's first, on the test split."""
        rows = self._tune(bench, vectors, "test", layers, strengths).rows
        return [self._row(rows[0], row) for row in rows]

    def test_each(
        self, bench: Bench, vectors: gl.SteeringVectors, bests: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """The rows of what was chosen (`Tuning.best` and its like), on the test split, in their order; no gain where
        strength 0 was."""
        sets: dict[float, list[tuple[int, ...]]] = {}
        for best in bests:
            if best.strength and best.layers not in sets.setdefault(best.strength, []):
                sets[best.strength].append(best.layers)
        tested = {}
        for strength, layers in (sets or {0.0: []}).items():
            base, *rows = self._tune(bench, vectors, "test", layers, [strength]).rows
            tested |= {((), 0.0): self._row(base, base)}
            tested |= {(row.layers, row.strength): self._row(base, row) for row in rows}
        return [tested[best.layers, best.strength] for best in bests]

    def test_best(self, bench: Bench, vectors: gl.SteeringVectors, best: Any) -> dict[str, Any]:
        """The row of one."""
        return self.test_each(bench, vectors, [best])[0]

    def chosen(self, bench: Bench, vectors: gl.SteeringVectors, layers: Any = "each") -> dict[str, Any]:
        """Choose on dev, report on test."""
        return self.test_best(bench, vectors, self.choose(bench, vectors, layers).best)

    def _tune(
        self, bench: Bench, vectors: gl.SteeringVectors, split: str, layers: Any, strengths: Sequence[float]
    ) -> gl.Tuning:
        questions, keep = {"dev": (self.n_dev, self.n_keep), "test": (self.n_test, self.n_keep_test)}[split]
        return gl.tune(
            bench.model,
            vectors,
            getattr(bench.behaviour, split)[:questions],
            layers=layers,
            strengths=strengths,
            keep=bench.keep(split, keep),
            charge=self.charge,
            progress=False,
        )

    @staticmethod
    def _row(base: Any, row: Any) -> dict[str, Any]:
        """Accuracies, the gain over base, and `elsewhere`, the worst change among what must not suffer."""
        return {
            "layers": ",".join(map(str, row.layers)) or "none",
            "strength": row.strength,
            "base": base.accuracy,
            "accuracy": row.accuracy,
            "gain": row.accuracy - base.accuracy,
            "elsewhere": 0.0 - row.cost,
        }
