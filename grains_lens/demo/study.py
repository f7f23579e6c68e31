"""The demo itself: attribute, extract, tune on dev questions, judge on test questions; tables, figures, vectors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from .. import show, worlds
from ..errors import unknown_name
from ..evaluation import multiple_choice
from ..loading import Backend
from ..pairs import MultipleChoice
from ..seam import HookedModel
from ..tuning import tune
from ..vectors import SteeringVectors
from ..worlds.world import World
from .cues import CuePrecision, cue_cells, cue_precision, has_both, marked_strip
from .methods import ATTRIBUTION, METHODS, OURS, RIVALS, Lesson, Method, attend
from .table import BASE, Outcome, Outcomes, as_markdown, as_text, cells, sentences

KINDS = ("clear", "neutral")
"""Questions of the other behaviours that must not suffer: with good cues only, and with none."""


@dataclass(frozen=True)
class Settings:
    """What a run of the demo does.

    `n_pairs` are learnt from. Layer and strength (`unit="residual"`) are tuned on the first `n_dev` dev
    questions, charged with the worse of two drops: on the other behaviours' `clear_dev` questions and on
    their `neutral_dev` ones, the first `n_keep` of each behaviour, pooled. Methods that tune a layer try `strengths`
    at each layer and at all together; one that steers at all layers by design tries
    `strengths_at_all_layers`, where less does more. `n_test` bounds the test questions of each kind; None
    takes all.
    """

    variant: str = "standard"
    seeds: tuple[int, ...] = (0,)
    behaviours: tuple[str, ...] = ("truthfulness", "faithfulness", "stereotypes")
    backend: Backend = "auto"
    out: Path = Path("out/demo")
    n_pairs: int = 50
    n_dev: int = 96
    n_keep: int = 16
    n_test: int | None = None
    strengths: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    strengths_at_all_layers: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.25, 0.5)


@dataclass(frozen=True)
class Findings:
    """All that a run found. `vectors` are those of `OURS`, `lessons` what was learnt from, both of the first
    seed."""

    outcomes: Outcomes
    cues: tuple[CuePrecision, ...]
    vectors: Mapping[str, SteeringVectors]
    lessons: Mapping[str, Lesson]


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


# --- the report ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What is printed and written: how it was done, two tables, and what they say."""

    settings: Settings
    table: list[tuple[str, ...]]
    cue_table: list[tuple[str, ...]]
    said: list[str]
    data: dict[str, Any]

    @classmethod
    def of(cls, findings: Findings, settings: Settings) -> Report:
        """Put findings into tables and words."""
        rows = findings.outcomes.rows
        said = sentences(findings.outcomes, ours=OURS.name, rivals=[one.name for one in RIVALS])
        data = {
            "settings": {**asdict(settings), "out": str(settings.out), "attribution": asdict(ATTRIBUTION)},
            "rows": [asdict(row) for row in rows],
            "cues": [asdict(row) for row in findings.cues],
            "sentences": said,
        }
        return cls(settings, cells(rows), cue_cells(findings.cues), said, data)

    def how(self) -> str:
        """How the numbers came to be."""
        s = self.settings
        questions = "all" if s.n_test is None else f"the first {s.n_test}"
        resampled = "questions" if len(s.seeds) == 1 else "questions and models"
        return (
            f"World myths, variant {s.variant}, model seed{'s' * (len(s.seeds) > 1)} "
            f"{', '.join(map(str, s.seeds))}; {s.n_pairs} pairs a behaviour. Accuracy over {questions} test "
            f"questions, 95% bootstrap intervals over {resampled}. Layers and strength are tuned on {s.n_dev} "
            f"dev questions, strengths {_listed(s.strengths)}, or {_listed(s.strengths_at_all_layers)} at all "
            f"layers by design, charged with what the other behaviours lose. Change elsewhere: the worst "
            f"change in accuracy on the other behaviours' clear and neutral test questions."
        )

    def text(self) -> str:
        """For a terminal."""
        found = "Does attribution find the words that truly drive the answers?"
        return "\n".join(
            [self.how(), "", as_text(self.table), "", *self.said, "", found, as_text(self.cue_table)]
        )

    def markdown(self) -> str:
        """The same in Markdown."""
        said = "\n".join(f"- {one}" for one in self.said)
        return "\n\n".join([self.how(), as_markdown(self.table), said, as_markdown(self.cue_table)]) + "\n"


def _listed(strengths: Sequence[float]) -> str:
    return ", ".join(f"{strength:g}" for strength in strengths)


def write(report: Report, findings: Findings, world: World, settings: Settings) -> dict[Path, str]:
    """Write tables, figures and vectors; returns what each file is."""
    out = settings.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(report.markdown(), encoding="utf-8")
    (out / "table.json").write_text(json.dumps(report.data, indent=1) + "\n", encoding="utf-8")
    files = {out / "table.md": "the tables", out / "table.json": "the same, with every setting"}
    files[show.save(_gains(findings.outcomes), out / "gains.png")] = "accuracy by method"
    files[show.save(_strip(findings, world), out / "attribution.png")] = "attributed prompts"
    for name, vectors in findings.vectors.items():
        files[vectors.save(out / f"vectors-{name}.safetensors")] = f"vectors ({OURS.name}, seed {world.seed})"
    if len(findings.vectors) == 1:
        (vectors,) = findings.vectors.values()
        files[vectors.save(out / "vectors.safetensors")] = "the same vectors"
    return files


def _gains(outcomes: Outcomes) -> Any:
    rows = outcomes.rows
    bars = [
        show.Bar(row.behaviour, row.method, row.accuracy.value, row.accuracy.low, row.accuracy.high)
        for row in rows
        if row.method != BASE
    ]
    base = {row.behaviour: row.accuracy.value for row in rows if row.method == BASE}
    return show.gains(bars, base=base, quantity="test accuracy")


def _strip(findings: Findings, world: World) -> Any:
    """The first two prompts of each behaviour that hold cues of both sides (or the first, if none does)."""
    samples = []
    for lesson in findings.lessons.values():
        both = list(zip(lesson.pairs, lesson.attributions, strict=True))
        samples += [one for one in both if has_both(world, one[0])][:2] or both[:1]
    return show.token_strip(**marked_strip(world, samples))
