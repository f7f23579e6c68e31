"""What the library learns from and is judged on: preference pairs and multiple-choice questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PreferencePair:
    """A prompt x with a chosen answer y⁺ and a rejected one y⁻ (field names as in TRL).

    `images` are paths, PIL images or arrays, in the order of the prompt's placeholders.
    """

    prompt: str
    chosen: str
    rejected: str
    images: tuple[Any, ...] = ()


@dataclass(frozen=True)
class MultipleChoice:
    """One evaluation question: `choices[label]` is the right answer."""

    prompt: str
    choices: tuple[str, ...]
    label: int
    images: tuple[Any, ...] = ()
