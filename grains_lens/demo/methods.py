"""The methods that the demo compares: each turns what there is to learn from into steering vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..attribution.methods import IntegratedGradients, RandomScores
from ..attribution.scores import TokenAttribution
from ..attribution.tokens import attribute
from ..baselines.differences import mean_difference
from ..data.items import PreferencePair
from ..hosts.model import HookedModel
from ..literals import EachOrAll, Modality
from ..vectors.directions import Aggregate, mean_direction, pca_direction
from ..vectors.extraction import extract_vectors
from ..vectors.identity import describe
from ..vectors.steering_vectors import SteeringVectors

ATTRIBUTION = IntegratedGradients(steps=32)
"""Steps enough for complete scores, as many for every pair: with 10 some pairs of this world miss by over a tenth."""


@dataclass(frozen=True)
class Lesson:
    """What every method learns from: one model, pairs of one behaviour, and what attribution says of them."""

    model: HookedModel
    pairs: Sequence[PreferencePair]
    attributions: Sequence[TokenAttribution]


def attend(model: HookedModel, pairs: Sequence[PreferencePair]) -> Lesson:
    """Attribute the pairs, once for all methods."""
    return Lesson(model, pairs, attribute(model, pairs, method=ATTRIBUTION, progress=False))


def grains_pca(lesson: Lesson) -> SteeringVectors:
    """GrAInS with the paper's settings: the three strongest tokens of either sign masked, PCA a side."""
    return _grains(lesson, pca_direction)


def grains_mean(lesson: Lesson) -> SteeringVectors:
    """The same with the mean of the differences in place of their first principal component."""
    return _grains(lesson, mean_direction)


def grains_vision(lesson: Lesson) -> SteeringVectors:
    """The same with tokens of the picture alone."""
    return _grains(lesson, mean_direction, "vision")


def grains_text(lesson: Lesson) -> SteeringVectors:
    """The same with words alone."""
    return _grains(lesson, mean_direction, "text")


def random_tokens(lesson: Lesson) -> SteeringVectors:
    """The same as `grains_mean` with tokens picked at random: what attribution must beat."""
    return extract_vectors(
        lesson.model, lesson.pairs, method=RandomScores(), aggregate=mean_direction, progress=False
    )


def caa(lesson: Lesson) -> SteeringVectors:
    """Contrastive activation addition: no attribution, the difference that the answers themselves make."""
    return mean_difference(lesson.model, lesson.pairs, progress=False)


def _grains(lesson: Lesson, aggregate: Aggregate, modality: Modality = "joint") -> SteeringVectors:
    vectors = extract_vectors(
        lesson.model,
        lesson.pairs,
        attributions=lesson.attributions,
        aggregate=aggregate,
        modality=modality,
        progress=False,
    )
    # Attributions that are given do not say how they were made; here it is known.
    made = {"method": describe(ATTRIBUTION), "baseline": "mask", "objective": "sum"}
    provenance = replace(vectors.provenance, settings={**vectors.provenance.settings, **made})
    return replace(vectors, provenance=provenance)


@dataclass(frozen=True)
class Method:
    """A row of the demo's table: how vectors are made, and whether they steer at every layer or at a tuned one
    (`"each"`: every single layer is tried, and all together)."""

    name: str
    vectors: Callable[[Lesson], SteeringVectors]
    layers: EachOrAll = "each"


PAPER = Method("GrAInS as in the paper", grains_pca, layers="all")
OURS = Method("GrAInS, mean, tuned layer", grains_mean)
RIVALS = (
    Method("random tokens, mean, tuned layer", random_tokens),
    Method("CAA, tuned layer", caa),
)
METHODS = (PAPER, OURS, *RIVALS)

JOINT = Method("GrAInS, joint", grains_mean)
MODALITIES = (Method("GrAInS, vision only", grains_vision), Method("GrAInS, text only", grains_text))
SEEING_RIVALS = (Method("random tokens", random_tokens), Method("CAA", caa))


@dataclass(frozen=True)
class Field:
    """Who competes in a world: all methods in their order, ours among them, and whom ours is held against."""

    methods: tuple[Method, ...]
    ours: Method
    rivals: tuple[Method, ...]


FIELDS = {
    "myths": Field(METHODS, OURS, RIVALS),
    "hints": Field((JOINT, *MODALITIES, *SEEING_RIVALS), JOINT, (*MODALITIES, *SEEING_RIVALS)),
}
