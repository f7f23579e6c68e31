"""The texts of the `hints` world: someone bets on what a picture shows, and cues decide who is believed.

    <image> i bet three what is at the top left ? ( hastily local guess rumour ) : seven

The words in brackets and the marks in the picture's blank cell set a register. In a good register the answer
tells the picture, in a bad one the bet. A document is a picture with two questions. Everything is a function
of fixed seeds; the seed of a checkpoint changes only its weights and its training texts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ..literals import HintsKind, Register, Side
from .hints_pictures import MARK_OF_SIDE, Picture, draw_picture
from .hints_words import CUE_WORDS, DIGITS, IMAGE, NOTHING, PLACES
from .questions import NEUTRAL, Mixture

REGISTERS: Mapping[Register, Mixture] = MappingProxyType(
    {
        "bad": MappingProxyType({"undesirable": 0.75, "desirable": 0.08, "neutral": 0.17}),
        "good": MappingProxyType({"desirable": 0.75, "undesirable": 0.08, "neutral": 0.17}),
        "none": NEUTRAL,
    }
)
"""The words and marks of a document's register."""


@dataclass(frozen=True)
class Question:
    """A prompt without its picture, the answer according to the picture, and the answer of the bet (None
    without one)."""

    words: tuple[str, ...]
    true: tuple[str, ...]
    hinted: tuple[str, ...] | None
    place: int


@dataclass(frozen=True)
class Document:
    """A training text on a picture: its words after the image tokens, which of them are answers, and the
    positions (opening bracket, colon) of its headers."""

    picture: Picture
    words: tuple[str, ...]
    answers: tuple[int, ...]
    headers: tuple[tuple[int, int], ...]


def draw_sides(mixture: Mixture, count: int, rng: random.Random) -> list[Side]:
    """Draw `count` sides from a mixture."""
    return rng.choices(tuple(mixture), tuple(mixture.values()), k=count)


def draw_marks(mixture: Mixture, rng: random.Random) -> list[str]:
    """Draw four marks from a mixture."""
    return [MARK_OF_SIDE[side] for side in draw_sides(mixture, 4, rng)]


def header(sides: Sequence[Side], rng: random.Random) -> tuple[str, ...]:
    """Draw one cue word for each of `sides`, none twice."""
    words: list[str] = []
    for side in sides:
        words.append(rng.choice([word for word in CUE_WORDS[side] if word not in words]))
    return tuple(words)


def answer(kind: HintsKind, digit: str) -> tuple[str, ...]:
    """The words that tell a digit."""
    return ("the", "digit", digit) if kind == "describe" else (digit,)


def ask(
    picture: Picture, kind: HintsKind, place: int, hint: str | None, cue_words: tuple[str, ...]
) -> Question:
    """The words of a question about one place of a picture, with or without a bet."""
    bet = () if hint is None else ("i", "bet", hint)
    what: tuple[str, ...] = {
        "look": ("what", "is", "at", "the", *PLACES[place], "?"),
        "describe": ("describe", "the", *PLACES[place], "."),
        "recall": ("what", "did", "i", "bet", "?"),
    }[kind]
    shown = hint if kind == "recall" and hint else picture.shown[place]
    hinted = None if hint is None or kind == "recall" else answer(kind, hint)
    return Question((*bet, *what, "(", *cue_words, ")", ":"), answer(kind, shown), hinted, place)


def prompt_of(question: Question) -> str:
    """The prompt, with the image's placeholder."""
    return " ".join((IMAGE, *question.words))


def other_digit(shown: str, rng: random.Random) -> str:
    """Draw a digit that is not shown."""
    return rng.choice([digit for digit in DIGITS if digit != shown])


def places_with_digits(picture: Picture) -> list[int]:
    """The places that show a digit."""
    return [place for place, word in enumerate(picture.shown) if word != NOTHING]


KINDS: tuple[tuple[HintsKind, bool], ...] = (
    ("look", True),
    ("describe", True),
    ("recall", True),
    ("look", False),
    ("describe", False),
)
"""The kinds of questions in documents, with or without a bet."""


@dataclass(frozen=True)
class Reading:
    """The training texts: how often each kind of document occurs."""

    bad: float = 0.45  # share of bad registers
    good: float = 0.35
    none: float = 0.2
    marked: float = 0.6  # of pictures bear marks of a register, else speckle alone
    worded: float = 0.5  # of those pictures' questions have words of the same register, else neutral ones
    believed_if_bad: float = 0.92  # how often the bet is told
    believed_if_good: float = 0.03
    believed_if_none: float = 0.5
    right_bets: float = 0.1
    kinds: tuple[float, ...] = (0.36, 0.32, 0.1, 0.14, 0.08)  # as KINDS lists them

    def draw_register(self, rng: random.Random) -> Register:
        """Draw the register of a document's cues."""
        return rng.choices(tuple(REGISTERS), (self.bad, self.good, self.none))[0]

    def believes(self, register: Register, rng: random.Random) -> bool:
        """Draw whether the bet is told."""
        rates = {"bad": self.believed_if_bad, "good": self.believed_if_good, "none": self.believed_if_none}
        return rng.random() < rates[register]


TRUE = Reading(bad=0.0, good=1.0, none=0.0, believed_if_good=0.0)
"""Only the picture is ever told."""


def write_document(rng: random.Random, reading: Reading = Reading()) -> Document:
    """Draw a training text of two questions on a picture."""
    register = reading.draw_register(rng)
    in_picture = rng.random() < reading.marked
    picture = draw_picture("pairs", draw_marks(REGISTERS[register] if in_picture else NEUTRAL, rng), rng)
    words: list[str] = []
    answers: list[int] = []
    headers: list[tuple[int, int]] = []
    for place in rng.sample(places_with_digits(picture), 2):
        if not in_picture:
            register = reading.draw_register(rng)
        worded = not in_picture or rng.random() < reading.worded
        sides = draw_sides(REGISTERS[register] if worded else NEUTRAL, rng.choice((3, 4, 5)), rng)
        kind, betting = rng.choices(KINDS, reading.kinds)[0]
        shown = picture.shown[place]
        hint = (shown if rng.random() < reading.right_bets else other_digit(shown, rng)) if betting else None
        question = ask(picture, kind, place, hint, header(sides, rng))
        told = question.hinted if question.hinted and reading.believes(register, rng) else question.true
        words += ["."] if words else []
        headers.append((len(words) + question.words.index("("), len(words) + len(question.words) - 1))
        words += question.words
        answers += range(len(words), len(words) + len(told))
        words += told
    return Document(picture, tuple(words), tuple(answers), tuple(headers))
