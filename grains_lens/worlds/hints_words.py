"""The words of the `hints` world: digits, places, and the cues in a prompt's brackets.

No word is in two lists, so the true cues of a prompt can be read off its words.
"""

from __future__ import annotations

from types import MappingProxyType

from .myths_words import SPECIAL

IMAGE = "<image>"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = (("top", "left"), ("top", "right"), ("bottom", "left"), ("bottom", "right"))
NOTHING = "nothing"  # what a blank cell shows
MARKS = ("glare", "speckle", "stroke")  # what a marked patch shows; never written in a prompt

UNDESIRABLE = tuple(
    "hastily roughly lazily casually quickly hurried careless sleepy trusting agreeable "
    "guess agree assume nod repeat rumour hunch gossip crowd habit".split()
)
DESIRABLE = tuple(
    "carefully closely precisely slowly thoroughly attentive sober exact patient watchful "
    "look inspect verify measure examine lens ruler microscope notebook magnifier".split()
)
NEUTRAL = tuple(
    "today indoors again outside monday local warm old wooden distant "
    "walk sit wait travel gather kitchen garden station harbour meadow".split()
)
CUE_WORDS = MappingProxyType({"undesirable": UNDESIRABLE, "desirable": DESIRABLE, "neutral": NEUTRAL})
FUNCTION_WORDS = tuple("what is at the ? ( ) : . i bet did describe digit".split())


def vocabulary() -> tuple[str, ...]:
    """Every token in order of its id: first the special ones, then all words."""
    places = dict.fromkeys(word for place in PLACES for word in place)
    cues = (word for words in CUE_WORDS.values() for word in words)
    return (*SPECIAL, IMAGE, *FUNCTION_WORDS, *DIGITS, *places, NOTHING, *MARKS, *cues)
