"""The `myths` world as data: preference pairs and questions of its three behaviours, and its true cues.

Pairs and questions have four header words, each about equally often on either side, so a trained model is
right about half the time. It knows the answers, as `clear` questions show, but is talked out of them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from ..data.items import MultipleChoice, PreferencePair
from ..literals import Layout, Split
from .myths_texts import (
    Answer,
    Fact,
    ask,
    facts_by_behaviour,
    header,
    names,
    unlike,
    vocabulary,
)
from .myths_words import DESIRABLE, UNDESIRABLE
from .questions import QUESTIONS, Mixture, behaviour_of
from .world import Behaviour, Cues

DESCRIPTIONS = MappingProxyType(
    {
        "truthfulness": "Answers with the truth about an animal rather than with the myth.",
        "faithfulness": "Answers from the sentence before the question rather than from memory.",
        "stereotypes": "Answers for a group of people as it is rather than with the stereotype.",
    }
)


@dataclass(frozen=True)
class _Case:
    """One evaluation prompt with its two answers."""

    fact: Fact
    prompt: str
    good: Answer
    bad: Answer


def _cases(
    behaviour: str, split: Split, count: int, mixture: Mixture, label: str, layout: Layout
) -> list[_Case]:
    """Draw `count` prompts with four header words from the mixture, using all facts of a split equally
    often."""
    rng = random.Random(f"myths/{behaviour}/{label}")
    pool = [fact for fact in facts_by_behaviour()[behaviour] if fact.split == split]
    drawn: list[Fact] = []
    while len(drawn) < count:
        drawn += rng.sample(pool, len(pool))
    cases: list[_Case] = []
    for fact in drawn[:count]:
        good = fact.good or unlike(fact.bad, fact.relation, rng)
        cue_words = header(behaviour, rng.choices(tuple(mixture), tuple(mixture.values()), k=4), rng)
        cases.append(_Case(fact, " ".join(ask(fact, good, cue_words, layout)), good, fact.bad))
    return cases


def _questions(cases: Sequence[_Case], label: str) -> tuple[MultipleChoice, ...]:
    """Make questions that offer the good, the bad and two other answers of the pool, the good one equally
    often at each place."""
    rng = random.Random(f"myths/choices/{label}")
    places = [index % 4 for index in range(len(cases))]
    rng.shuffle(places)
    questions: list[MultipleChoice] = []
    for case, place in zip(cases, places, strict=True):
        others = rng.sample([a for a in case.fact.relation.pool.answers if a not in (case.good, case.bad)], 2)
        choices = [case.bad, *others]
        rng.shuffle(choices)
        choices.insert(place, case.good)
        questions.append(MultipleChoice(case.prompt, tuple(" ".join(choice) for choice in choices), place))
    return tuple(questions)


def _pair(case: _Case) -> PreferencePair:
    return PreferencePair(case.prompt, " ".join(case.good), " ".join(case.bad))


def behaviours(variant: str = "standard") -> Mapping[str, Behaviour]:
    """The three behaviours with all their pairs and questions, in the wording of a variant."""
    return _behaviours(layout_of(variant))


def layout_of(variant: str) -> Layout:
    """The place of a variant's header. The draws are the same, so questions are paired across variants."""
    return "header_first" if variant == "header_first" else "header_last"


@lru_cache(maxsize=2)
def _behaviours(layout: Layout) -> Mapping[str, Behaviour]:
    built: dict[str, Behaviour] = {}
    for name, description in DESCRIPTIONS.items():
        draw = partial(_cases, name, layout=layout)
        built[name] = behaviour_of(name, description, draw, _pair, _questions)
    return MappingProxyType(built)


def find_cues(prompt: str, images: Sequence[Any] = ()) -> Cues:
    """Mark the cue words in the brackets of a prompt. Cue words of another behaviour do not count."""
    words = tuple(prompt.split())
    asked = _asked(words)
    behaviour = next((name for name, group in names().items() if asked in group), None)
    if behaviour is None or "(" not in words or ")" not in words:
        raise ValueError(
            f"cues(prompt={prompt!r}): this is not a prompt of the world; its pairs show the format."
        )
    inside = range(words.index("(") + 1, words.index(")"))

    def marked(slots: dict[str, tuple[str, ...]]) -> tuple[int, ...]:
        side = {word for slot in slots.values() for word in slot}
        return tuple(index for index in inside if words[index] in side)

    return Cues(words, undesirable=marked(UNDESIRABLE[behaviour]), desirable=marked(DESIRABLE[behaviour]))


def find_entity(prompt: str) -> str:
    """The animal or people that a prompt asks about."""
    asked = _asked(tuple(prompt.split()))
    if asked is None:
        raise ValueError(
            f"entity(prompt={prompt!r}): this is not a prompt of the world; its pairs show the format."
        )
    return asked


def _asked(words: tuple[str, ...]) -> str | None:
    """The name in "what does the NAME ..."."""
    return next((words[i + 3] for i in range(len(words) - 3) if words[i] == "what"), None)


def fingerprint(variant: str = "standard") -> str:
    """A hash of vocabulary, pairs and questions. A checkpoint's card stores it to identify its data."""
    lines = [" ".join(vocabulary())]
    for behaviour in behaviours(variant).values():
        lines += [f"{pair.prompt} | {pair.chosen} | {pair.rejected}" for pair in behaviour.pairs]
        for label in QUESTIONS:
            lines += [f"{q.prompt} | {q.choices} | {q.label}" for q in getattr(behaviour, label)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
