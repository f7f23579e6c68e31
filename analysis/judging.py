"""Judge vectors: choose layers and strength on dev questions, then measure the gain on test questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grains_lens as gl

from .asking import Asking
from .subjects import Bench


@dataclass(frozen=True)
class Judging(Asking):
    """Which questions are asked, and which strengths are tried."""

    strengths: tuple[float, ...] = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
    """The strengths to try, relative to the residual stream's length; 0 is always included."""

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
        """A row for every set of layers at every strength on the test split, after that of the unsteered
        model."""
        rows = self._tune(bench, vectors, "test", layers, strengths).rows
        return [self._row(rows[0], row) for row in rows]

    def test_each(
        self, bench: Bench, vectors: gl.SteeringVectors, bests: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """The test rows of chosen settings (such as `Tuning.best`), in order. The gain is 0 where strength 0
        was chosen."""
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
        '""The test row of one chosen setting.""'
        return self.test_each(bench, vectors, [best])[0]

    def chosen(self, bench: Bench, vectors: gl.SteeringVectors, layers: Any = "each") -> dict[str, Any]:
        """Choose on the dev split, report on the test split."""
        return self.test_best(bench, vectors, self.choose(bench, vectors, layers).best)

    def _tune(
        self, bench: Bench, vectors: gl.SteeringVectors, split: str, layers: Any, strengths: Sequence[float]
    ) -> gl.Tuning:
        asked = self.asked(bench, split)
        return gl.tune(
            bench.model,
            vectors,
            asked.questions,
            layers=layers,
            strengths=strengths,
            keep=asked.keep,
            charge=self.charge,
            prompt_format=asked.prompt_format,
            progress=False,
        )

    @staticmethod
    def _row(base: Any, row: Any) -> dict[str, Any]:
        """Accuracies, the gain over base, and `elsewhere`, the worst change among the questions that must not
        suffer."""
        return {
            "layers": ",".join(map(str, row.layers)) or "none",
            "strength": row.strength,
            "base": base.accuracy,
            "accuracy": row.accuracy,
            "gain": row.accuracy - base.accuracy,
            "elsewhere": 0.0 - row.cost,
        }
