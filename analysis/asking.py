"""Which questions are asked: how many of each split, and which of other behaviours must not suffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grains_lens as gl

from .subjects import Bench

Questions = Sequence[gl.MultipleChoice]


def item_key(item: gl.PreferencePair | gl.MultipleChoice) -> object:
    """What tells a pair or question from others, while it is there: its texts, and which images these are."""
    texts = (
        (item.chosen, item.rejected) if isinstance(item, gl.PreferencePair) else (item.choices, item.label)
    )
    return item.prompt, texts, tuple(map(id, item.images))


@dataclass(frozen=True)
class Asking:
    """How many questions are asked, and what a loss elsewhere counts."""

    n_dev: int = 96
    """Questions that a configuration is chosen on."""
    n_test: int = 288
    """Questions that the gain is measured on."""
    n_keep: int = 16
    """Questions of each kind (clear, neutral) and other behaviour that must not suffer, in choosing."""
    n_keep_test: int = 24
    """The same in testing."""
    charge: float = 1.0
    """What a drop elsewhere costs in choosing, per unit of accuracy."""

    def asked(self, bench: Bench, split: str) -> AskedQuestions:
        """The questions of a split, "dev" or "test"."""
        n, n_keep = {"dev": (self.n_dev, self.n_keep), "test": (self.n_test, self.n_keep_test)}[split]
        return AskedQuestions(
            getattr(bench.behaviour, split)[:n], bench.keep(split, n_keep), bench.prompt_format
        )


@dataclass(frozen=True)
class AskedQuestions:
    """Questions to answer, and groups of questions of other behaviours on which nothing must be lost."""

    questions: Questions
    keep: Mapping[str, Questions]
    prompt_format: gl.PromptFormat = gl.PromptFormat()

    def key(self) -> object:
        """What tells these questions from others, while they are there."""
        groups = {"": self.questions, **self.keep}
        return self.prompt_format, tuple(
            (name, tuple(map(item_key, asked))) for name, asked in groups.items()
        )

    def ask(self, model: Any, questions: Questions) -> gl.ChoiceScores:
        """How one group of them is answered, by the model as it is now."""
        return gl.multiple_choice(model, questions, prompt_format=self.prompt_format, progress=False)

    def assess(self, model: Any, context: Any = None, base: gl.Assessment | None = None) -> gl.Assessment:
        """How these questions are answered, by the model as it is and in a context."""
        return gl.assess(model, context, self.questions, keep=self.keep, ask=self.ask, base=base)
