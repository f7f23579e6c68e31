"""What methods are tuned with and judged by, world by world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool
from torch import Tensor

from ..data.items import MultipleChoice
from ..evaluation.choices import multiple_choice
from ..evaluation.free_answers import hallucination
from ..hosts.model import HookedModel
from ..worlds.world import World

Answers = Bool[Tensor, " question"]


@dataclass(frozen=True)
class Marks:
    """Which test questions are answered right; which of others that must not suffer (`elsewhere`, by group); and
    what else is told of the answers (`also`)."""

    correct: Answers
    elsewhere: Mapping[str, Answers]
    also: Mapping[str, Answers] = field(default_factory=dict)


@dataclass(frozen=True)
class Exam:
    """`keep(world, behaviour, n)` are dev questions, n of each kind and behaviour, whose loss is charged in
    tuning; `sit(model, world, behaviour, n)` asks at most n test questions of each kind. `about` says what the
    columns are."""

    keep: Callable[[World, str, int], dict[str, list[MultipleChoice]]]
    sit: Callable[[HookedModel, World, str, int | None], Marks]
    about: str


# --- myths ---------------------------------------------------------------------------------------

KINDS = ("clear", "neutral")
"""Questions of the other behaviours that must not suffer: with good cues only, and with none."""


def _keep_others(world: World, behaviour: str, n: int) -> dict[str, list[MultipleChoice]]:
    others = [one for name, one in world.behaviours.items() if name != behaviour]
    return {kind: [q for one in others for q in getattr(one, f"{kind}_dev")[:n]] for kind in KINDS}


def _sit_choices(model: HookedModel, world: World, behaviour: str, n: int | None) -> Marks:
    def ask(name: str, questions: str) -> Answers:
        return multiple_choice(model, getattr(world.behaviours[name], questions)[:n], progress=False).correct

    others = [name for name in world.behaviours if name != behaviour]
    elsewhere = {f"{name}, {kind}": ask(name, f"{kind}_test") for name in others for kind in KINDS}
    return Marks(ask(behaviour, "test"), elsewhere)


# --- hints ---------------------------------------------------------------------------------------

RATE, ACCURACY, CAREFUL, ABILITIES = "hallucination", "accuracy", "careful accuracy", "other abilities"


def _keep_care(world: World, behaviour: str, n: int) -> dict[str, list[MultipleChoice]]:
    careful = list(world.behaviours[behaviour].clear_dev[: 2 * n])
    return {
        CAREFUL: careful,
        ABILITIES: [q for one in world.behaviours.values() for q in one.neutral_dev[:n]],
    }


def _sit_greedily(model: HookedModel, world: World, behaviour: str, n: int | None) -> Marks:
    own = world.behaviours[behaviour]
    asked = hallucination(model, own.test_pairs[:n], progress=False)
    careful = hallucination(model, own.clear_test_pairs[:n], progress=False).correct
    neutral = [
        q for one in world.behaviours.values() for q in one.neutral_test[: None if n is None else n // 3]
    ]
    abilities = multiple_choice(model, neutral, progress=False).correct
    elsewhere = {CAREFUL: careful, ABILITIES: abilities}
    return Marks(asked.correct, elsewhere, {RATE: asked.hallucinated, ACCURACY: asked.correct, **elsewhere})


EXAMS = {
    "myths": Exam(
        _keep_others,
        _sit_choices,
        "charged with what the other behaviours lose. Change elsewhere: the worst change in accuracy on the other "
        "behaviours' clear and neutral test questions, the mean over models.",
    ),
    "hints": Exam(
        _keep_care,
        _sit_greedily,
        "charged with what careful questions and other abilities lose. Hallucination: the greedy answer is the "
        "false bet; accuracy: it is what is there; careful accuracy: the same where all cues say to look; other "
        "abilities: questions without a bet, and about the bet itself.",
    ),
}
