"""Which questions are asked: how many of each split, and which questions of other behaviours must not
suffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grains_lens as gl

from .subjects import Bench

Questions = Sequence[gl.MultipleChoice]


def item_key(item: gl.PreferencePair | gl.MultipleChoice) -> object:
    """A key that identifies a pair or question while it exists: its texts and the identities of its
    images."""
    texts = (
        (item.chosen, item.rejected) if isinstance(item, gl.PreferencePair) else (item.choices, item.label)
    )
    return item.prompt, texts, tuple(map(id, item.images))


@dataclass(frozen=True)
class Asking:
    """How many questions are asked, and the weight of a loss elsewhere."""

    n_dev: int = 96
    """Number of questions on which a configuration is chosen."""
    n_test: int = 288
    """Number of questions on which the gain is measured."""
    n_keep: int = 16
    """Number of questions that must not suffer in choosing, for each kind (clear, neutral) and other
    behaviour."""
    n_keep_test: int = 24
    """The same in testing."""
    charge: float = 1.0
    """The charge for a drop elsewhere in choosing, per unit of accuracy."""

    def asked(self, bench: Bench, split: str) -> AskedQuestions:
        """The questions of a split, "dev" or "test"."""
        n, n_keep = {"dev": (self.n_dev, self.n_keep), "test": (self.n_test, self.n_keep_test)}[split]
        return AskedQuestions(
            getattr(bench.behaviour, split)[:n], bench.keep(split, n_keep), bench.prompt_format
        )


@dataclass(frozen=True)
class AskedQuestions:
    """Questions to answer, and groups of questions of other behaviours that must not suffer."""

    questions: Questions
    keep: Mapping[str, Questions]
    prompt_format: gl.PromptFormat = gl.PromptFormat()

    def key(self) -> object:
        """A key that identifies these questions while they exist."""
        groups = {"": self.questions, **self.keep}
        return self.prompt_format, tuple(
            (name, tuple(map(item_key, asked))) for name, asked in groups.items()
        )

    def ask(self, model: Any, questions: Questions) -> gl.ChoiceScores:
        """The answers of the model, in its current state, to one group of questions."""
        return gl.multiple_choice(model, questions, prompt_format=self.prompt_format, progress=False)

    def assess(self, model: Any, context: Any = None, base: gl.Assessment | None = None) -> gl.Assessment:
        """The answers to these questions by the unchanged model and in a context."""
        return gl.assess(model, context, self.questions, keep=self.keep, ask=self.ask, base=base)
