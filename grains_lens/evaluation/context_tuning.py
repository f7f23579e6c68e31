"""Choose among contexts, such as fine-tuned adapters, by the rule that `tune` applies to steering."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from ..data.given import as_choices, as_list
from ..errors import NotFiniteError, kind_of, printable, real
from ..hosts.model import HookedModel
from ..hosts.ownership import takes_a_turn
from ..intervention.contexts import context_of
from ..intervention.tuning import groups_of
from ..intervention.tunings import best_row, charged
from .assessment import TARGET, Ask, Assessment, accuracies, ask_choices, assess

Context = AbstractContextManager[Any] | Callable[[], AbstractContextManager[Any]]
"""A context that can be entered repeatedly, or a function without arguments that returns one."""

NOTHING = "none"
"""The row name of the unchanged model."""


@dataclass(frozen=True)
class ContextRow:
    """One context. `accuracy`, `keep`, `cost` and `score` are as in a `TuningRow`; between equal scores, the
    lowest `effort` wins.

    If the context breaks the model, accuracies and cost are NaN and the score is −∞.
    """

    name: str
    accuracy: float
    keep: Mapping[str, float]
    cost: float
    score: float
    effort: float = 0.0


@dataclass(frozen=True, eq=False)
class ContextTuning:
    """The result of `tune_contexts`: a row for each context, preceded by "none", the unchanged model; and the
    best row."""

    rows: tuple[ContextRow, ...]
    best: ContextRow
    contexts: Mapping[str, Context]

    def context(self, model: HookedModel) -> AbstractContextManager[Any]:
        """The best context, to run the model in. If "none" was best, it does nothing."""
        if self.best.name == NOTHING:
            return nullcontext(model)
        return context_of(model, self.contexts[self.best.name])

    def __repr__(self) -> str:
        lines = [f"{'context':>28} {'accuracy':>8} {'cost':>6} {'score':>6}"]
        for row in self.rows:
            star = " *" if row is self.best else ""
            name = printable(row.name, 28)
            lines.append(f"{name:>28} {row.accuracy:>8.3f} {row.cost:>6.3f} {row.score:>6.3f}{star}")
        return "\n".join(lines)


@takes_a_turn
def tune_contexts(
    model: HookedModel,
    contexts: Mapping[str, Context],
    questions: Any,
    *,
    keep: Any = (),
    charge: float = 1.0,
    efforts: Mapping[str, float] | None = None,
    ask: Ask = ask_choices,
) -> ContextTuning:
    """Choose among contexts on a dev split. The unchanged model is always one of the candidates.

        adapters = {f"{n} steps": gl.baselines.lora_dpo(model, pairs, steps=n) for n in (10, 30)}
        tuning = gl.tune_contexts(model, adapters, dev_questions, keep=others)
        gl.assess(model, tuning.context(model), test_questions, keep=others_test)

        score = accuracy(questions) − charge · max over groups in keep of max(0, base accuracy − accuracy)

    as in `tune`, for anything that changes the model inside a context. `contexts` maps names to contexts that
    can be entered more than once, or to functions without arguments that return one. `keep` and `ask` work as
    in `assess`. Between equal scores, the lowest `efforts[name]` wins (default 0), then the first; the
    unchanged model wins every tie. A context that makes the model's numbers NaN or infinite is listed with
    accuracy NaN and score −∞, and is never chosen.

    Args:
        model: A `TransformerBridge` or a `HookedTransformer` (`load_model` makes one). It is left as it was.
        contexts: Named contexts, or functions that give them.
        questions: Questions: a list of `MultipleChoice`, one of them, rows or tuples of prompt, choices and
            label, or what `load_questions` reads.
        keep: Questions that must not suffer, by group or as one list.
        charge: What a loss of accuracy elsewhere costs, per unit of accuracy.
        efforts: How much each context changes the model, by name; 0 where a name is missing. Of equal scores
            the least effort wins, then the first.
        ask: As in `assess`.

    Raises ValueError if there are no contexts, one is called "none", the charge is not finite, a group has no
    questions, or the unchanged model gives NaN.
    """
    if not isinstance(contexts, Mapping):
        raise ValueError(
            f"contexts is {kind_of(contexts)}: give contexts by name, as {{'adapter': adapter}}."
        )
    if not contexts:
        raise ValueError("contexts is empty: give at least one, by name.")
    if NOTHING in contexts:
        raise ValueError(
            f"contexts has one called {NOTHING!r}, the name of the unchanged model: give it another name."
        )
    if not math.isfinite(real(charge, "charge")):
        raise ValueError(f"charge={charge} must be finite.")
    keep = groups_of(questions, keep, as_choices if ask is ask_choices else as_list)
    questions = keep.pop(TARGET)
    base = assess(model, None, questions, keep=keep, ask=ask)
    rows = [_row(NOTHING, base, charge, 0.0)]
    for name, context in contexts.items():
        effort = (efforts or {}).get(name, 0.0)
        try:
            found = assess(model, context, questions, keep=keep, ask=ask, base=base)
        except NotFiniteError:
            broken = {group: math.nan for group in base.unsteered if group != TARGET}
            rows.append(ContextRow(name, math.nan, broken, math.nan, -math.inf, effort))
        else:
            rows.append(_row(name, found, charge, effort))
    return ContextTuning(tuple(rows), best_row(rows), dict(contexts))


def _row(name: str, found: Assessment, charge: float, effort: float) -> ContextRow:
    keep = accuracies(found.steered)
    cost = charged(accuracies(found.unsteered), keep)
    return ContextRow(name, found.accuracy, keep, cost, found.accuracy - charge * cost, effort)
