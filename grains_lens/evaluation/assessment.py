"""The effect of steering on answers: the same questions unsteered and steered, and others that must not
suffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from ..data.given import as_choices, as_list
from ..data.items import MultipleChoice
from ..errors import kind_of, printable
from ..hosts.model import HookedModel
from ..hosts.ownership import takes_a_turn
from ..html import markup
from ..intervals import bootstrap_interval
from ..intervention.contexts import context_of
from ..intervention.tuning import groups_of
from ..intervention.tunings import Tuning, charged
from .choices import multiple_choice

TARGET = "questions"
"""The group name of the questions themselves."""


@runtime_checkable
class Scores(Protocol):
    """The result of asking a group of questions: `correct` [question] says which are answered correctly."""

    @property
    def correct(self) -> Bool[Tensor, " question"]: ...


Ask = Callable[[HookedModel, Sequence[Any]], Scores]
"""A function that asks the model, in its current state, a group of questions."""


def ask_choices(model: HookedModel, questions: Sequence[MultipleChoice]) -> Scores:
    """`multiple_choice` without a progress bar."""
    return multiple_choice(model, questions, progress=False)


@dataclass(frozen=True, eq=False)
class Assessment:
    """The answers to each question, unsteered and steered.

    `unsteered` and `steered` hold the scores of each group: the questions themselves under "questions", and every
    group of `keep` under its name. Changes and gain are steered − unsteered, in accuracy.
    """

    unsteered: Mapping[str, Scores]
    steered: Mapping[str, Scores]

    @property
    def base_correct(self) -> Bool[Tensor, " question"]:
        """Which questions the unsteered model answers correctly."""
        return self.unsteered[TARGET].correct

    @property
    def correct(self) -> Bool[Tensor, " question"]:
        """Which questions the steered model answers correctly."""
        return self.steered[TARGET].correct

    @property
    def base_accuracy(self) -> float:
        """The share of questions that the unsteered model answers correctly."""
        return share(self.base_correct)

    @property
    def accuracy(self) -> float:
        """The share of questions that the steered model answers correctly."""
        return share(self.correct)

    @property
    def gain(self) -> float:
        '""The rise in accuracy.""'
        return self.accuracy - self.base_accuracy

    @property
    def changes(self) -> dict[str, float]:
        """The change in accuracy on each group of `keep`."""
        return {
            name: share(self.steered[name].correct) - share(before.correct)
            for name, before in self.unsteered.items()
            if name != TARGET
        }

    @property
    def cost(self) -> float:
        """The largest drop in accuracy over the groups of `keep`; 0 if none dropped or there are none."""
        return charged(accuracies(self.unsteered), accuracies(self.steered))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The paired bootstrap interval of the gain over questions."""
        change = self.correct.float() - self.base_correct.float()
        return bootstrap_interval(change.numpy(), level=level)

    def __repr__(self) -> str:
        changes = "".join(f"; {printable(name)} {change:+.3f}" for name, change in self.changes.items())
        return (
            f"Assessment(accuracy {self.base_accuracy:.3f} to {self.accuracy:.3f}, {self._gain()}, "
            f"{len(self.correct)} questions{changes})"
        )

    def _repr_html_(self) -> str:
        rows = [("questions", self.base_accuracy, self.accuracy, self.gain)]
        for name, change in self.changes.items():
            rows.append(
                (name, share(self.unsteered[name].correct), share(self.steered[name].correct), change)
            )
        return markup.card(
            f"Accuracy {self.base_accuracy:.3f} to {self.accuracy:.3f}",
            markup.table(
                ["", "unsteered", "steered", "change"],
                [(name, f"{was:.3f}", f"{now:.3f}", f"{change:+.3f}") for name, was, now, change in rows],
            ),
            caption=f"{self._gain()} over {len(self.correct)} questions, 95% bootstrap interval; cost {self.cost:.3f}",
        )

    def _gain(self) -> str:
        low, high = self.interval()
        return f"gain {self.gain:+.3f} [{low:+.3f}, {high:+.3f}]"


@takes_a_turn
def assess(
    model: HookedModel,
    steered: Tuning | AbstractContextManager[Any] | Callable[[], Any] | None,
    questions: Any,
    *,
    keep: Any = (),
    ask: Ask = ask_choices,
    base: Assessment | None = None,
) -> Assessment:
    """Ask the same questions unsteered and steered, to measure the gain and its cost elsewhere.

        tuning = gl.tune(model, vectors, dev_questions, keep=others_dev)
        gl.assess(model, tuning, test_questions, keep=others_test)

    `questions` are multiple-choice questions, or pairs, each a question with two choices; or whatever `ask` takes.
    `steered` is a `Tuning`, steered by at its best row; a context, as `steering(...)` or a fine-tuning adapter, not yet
    entered; a function without arguments that gives one; or None, where both sides are the model as it is. `keep`
    holds questions that must not suffer, as in `tune`: a list, or lists by name. `ask(model, group)` gives the scores
    of one group, with `.correct` [question]; multiple choice unless another is given, such as `hallucination` for
    pairs. `base`, an earlier assessment of this model on these questions, spares asking the unsteered model again.
    Contexts around the call belong to both sides.

    Args:
        model: A `TransformerBridge` or a `HookedTransformer` (`load_model` makes one). It is left as it was.
        steered: A `Tuning`, a context (`steering(...)`, an adapter) or a function that gives one; None asks
            the model as it is, twice.
        questions: Questions: a list of `MultipleChoice`, one of them, rows or tuples of prompt, choices and
            label, or what `load_questions` reads.
        keep: Questions that must not suffer, by group or as one list.
        ask: How a group of questions is asked: a function of model and questions whose result has `.correct`.
            The default is `multiple_choice`.
        base: An assessment whose unsteered side is taken over, on the same questions. None asks anew.

    Raises ValueError for a group without questions, a `base` of other questions, or a `steered` that cannot
    steer. Errors of `ask` pass through, such as a NotFiniteError if steering breaks the model.
    """
    groups = groups_of(questions, keep, as_choices if ask is ask_choices else as_list)
    if not callable(ask):
        raise ValueError(f"ask is {kind_of(ask)}: give a function of a model and a list of questions.")
    if base is None:
        unsteered = _asked(model, groups, ask)
    else:
        unsteered = base.unsteered
        sizes = {name: len(scores.correct) for name, scores in unsteered.items()}
        if sizes != {name: len(group) for name, group in groups.items()}:
            raise ValueError(
                f"base is an assessment of other questions, {sizes}: leave it out, or give one of these questions."
            )
    # A tuning that chose to do nothing leaves the model bit for bit unchanged.
    if steered is None or (isinstance(steered, Tuning) and not steered.best.strength):
        return Assessment(unsteered, unsteered)
    with context_of(model, steered):
        return Assessment(unsteered, _asked(model, groups, ask))


def accuracies(scores: Mapping[str, Scores]) -> dict[str, float]:
    """The share answered correctly in each group of `keep`."""
    return {name: share(one.correct) for name, one in scores.items() if name != TARGET}


def share(correct: Bool[Tensor, " question"]) -> float:
    '""The share answered correctly.""'
    return float(torch.as_tensor(correct).float().mean())


def _asked(model: HookedModel, groups: Mapping[str, Sequence[Any]], ask: Ask) -> dict[str, Scores]:
    return {name: ask(model, group) for name, group in groups.items()}
