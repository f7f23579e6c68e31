"""The demo itself: attribute, extract, tune on dev questions, judge on test questions; tables, figures, vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from .. import worlds
from ..errors import unknown_name
from ..evaluation import multiple_choice
from ..pairs import MultipleChoice
from ..seam import HookedModel
from ..tuning import tune
from ..vectors import SteeringVectors
from ..worlds.world import World
from .cues import CuePrecision, cue_precision
from .methods import METHODS, OURS, Lesson, Method, attend
from .report import Findings, Report, Settings, write
from .table import BASE, Outcome, Outcomes

KINDS = ("clear", "neutral")
"""Questions of the other behaviours that must not suffer: with good cues only, and with none."""


def run(settings: Settings = Settings(), *, say: Callable[[str], None] = print) -> Findings:
    """Run the demo: print its tables and what they say, and write them, figures and vectors to `settings.out`.

    Raises ValueError for an unknown variant, seed or behaviour.
    """
    start = time.perf_counter()
    opened = [worlds.load("myths", seed=seed, variant=settings.variant) for seed in settings.seeds]
    for name in settings.behaviours:
        if name not in opened[0].behaviours:
            raise unknown_name("behaviours", name, opened[0].behaviours)

    def stage(text: str) -> None:
        say(f"[{time.perf_counter() - start:5.1f} s] {text}")

    with one_thread():
        findings = study(opened, settings, stage)
    stage("judging and drawing")
    report = Report.of(findings, settings)
    files = write(report, findings, opened[0], settings)
    say("\n" + report.text())
    say("\n" + "\n".join(f"{what}: {path}" for path, what in files.items()))
    stage("done")
    return findings


@contextmanager
def one_thread() -> Iterator[None]:
    """A model this small gains little from a second thread, and loses much where other work has that core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- the study -----------------------------------------------------------------------------------


def study(opened: Sequence[World], settings: Settings, stage: Callable[[str], None]) -> Findings:
    """Every method on every behaviour of every model."""
    outcomes: list[Outcome] = []
    cues: list[CuePrecision] = []
    vectors: dict[str, SteeringVectors] = {}
    lessons: dict[str, Lesson] = {}
    for world in opened:
        stage(f"loading {world.name}, seed {world.seed}, variant {world.variant}")
        bench = Bench.of(world, settings)
        for name in settings.behaviours:
            stage(f"seed {world.seed}, {name}: attributing {settings.n_pairs} pairs")
            lesson = attend(bench.model, world.behaviours[name].pairs[: settings.n_pairs])
            cues += cue_precision(world, name, lesson.pairs, lesson.attributions)
            outcomes.append(bench.base(name))
            for method in METHODS:
                made = method.vectors(lesson)
                outcome = bench.outcome(name, method, made)
                stage(f"seed {world.seed}, {name}: {method.name}: {outcome.chosen()}")
                outcomes.append(outcome)
                if method is OURS and world is opened[0]:
                    vectors[name], lessons[name] = made, lesson
    return Findings(Outcomes(outcomes), tuple(cues), vectors, lessons)


@dataclass(frozen=True)
class Bench:
    """One model with its questions, and which of the test questions it answers right unsteered."""

    world: World
    model: HookedModel
    settings: Settings
    unsteered: Mapping[tuple[str, str], Bool[Tensor, " question"]]

    @classmethod
    def of(cls, world: World, settings: Settings) -> Bench:
        """Load a world's model and ask it everything once."""
        model = world.load_model(backend=settings.backend)
        asked = [(name, "test") for name in settings.behaviours]
        asked += [(name, f"{kind}_test") for name in world.behaviours for kind in KINDS]
        bench = cls(world, model, settings, {})
        return cls(world, model, settings, {key: bench.ask(*key) for key in asked})

    def base(self, behaviour: str) -> Outcome:
        """The model as it is."""
        return self._outcome(behaviour, BASE, (), 0.0, self.unsteered)

    def outcome(self, behaviour: str, method: Method, vectors: SteeringVectors) -> Outcome:
        """Tune on dev questions, judge on test questions."""
        dev = self.world.behaviours[behaviour].dev[: self.settings.n_dev]
        each = method.layers == "each"
        tuning = tune(
            self.model, vectors, dev, layers=method.layers,
            strengths=self.settings.strengths if each else self.settings.strengths_at_all_layers,
            keep={kind: self._keep(behaviour, kind) for kind in KINDS}, progress=False,
        )  # fmt: skip
        best, asked = tuning.best, [(behaviour, "test"), *self._others(behaviour)]
        if best.strength:
            with tuning.steering(self.model, vectors):
                correct = {key: self.ask(*key) for key in asked}
        else:
            correct = {key: self.unsteered[key] for key in asked}
        return self._outcome(behaviour, method.name, best.layers, best.strength, correct)

    def ask(self, behaviour: str, kind: str) -> Bool[Tensor, " question"]:
        """Which questions are answered right, steered or not."""
        questions = getattr(self.world.behaviours[behaviour], kind)[: self.settings.n_test]
        return multiple_choice(self.model, questions, progress=False).correct

    def _keep(self, behaviour: str, kind: str) -> list[MultipleChoice]:
        others = [one for name, one in self.world.behaviours.items() if name != behaviour]
        return [q for one in others for q in getattr(one, f"{kind}_dev")[: self.settings.n_keep]]

    def _others(self, behaviour: str) -> list[tuple[str, str]]:
        names = [name for name in self.world.behaviours if name != behaviour]
        return [(name, f"{kind}_test") for name in names for kind in KINDS]

    def _outcome(
        self,
        behaviour: str,
        method: str,
        layers: tuple[int, ...],
        strength: float,
        correct: Mapping[tuple[str, str], Bool[Tensor, " question"]],
    ) -> Outcome:
        elsewhere = {
            f"{name}, {kind.removesuffix('_test')}": _share(correct[name, kind])
            - _share(self.unsteered[name, kind])
            for name, kind in self._others(behaviour)
        }
        right = tuple(bool(one) for one in correct[behaviour, "test"])
        return Outcome(self.world.seed, behaviour, method, layers, strength, right, elsewhere)


def _share(correct: Bool[Tensor, " question"]) -> float:
    return float(correct.float().mean())
