"""The methods that the demo compares. Each turns attributed pairs into steering vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..attribution.methods import IntegratedGradients
from ..attribution.sampled import RandomScores
from ..attribution.scores import TokenAttribution
from ..attribution.tokens import attribute
from ..baselines.differences import mean_difference
from ..data.items import PreferencePair
from ..hosts.model import HookedModel
from ..literals import EachOrAll, Modality
from ..vectors.directions import Aggregate, mean_direction, pca_direction
from ..vectors.extraction import extract_vectors
from ..vectors.steering_vectors import SteeringVectors

ATTRIBUTION = IntegratedGradients(steps=32)
"""Enough integration steps for complete scores, the same for every pair. With 10, some pairs of this world
miss completeness by over a tenth."""


@dataclass(frozen=True)
class AttributedPairs:
    """The input of every method: one model, pairs of one behaviour, and their attributions."""

    model: HookedModel
    pairs: Sequence[PreferencePair]
    attributions: Sequence[TokenAttribution]


def attributed(model: HookedModel, pairs: Sequence[PreferencePair]) -> AttributedPairs:
    """Attribute the pairs once, for all methods."""
    return AttributedPairs(model, pairs, attribute(model, pairs, method=ATTRIBUTION, progress=False))


def grains_pca(learnt: AttributedPairs) -> SteeringVectors:
    """GrAInS with the paper's settings: the three strongest tokens of each sign are masked, with PCA per
    side."""
    return _grains(learnt, pca_direction)


def grains_mean(learnt: AttributedPairs) -> SteeringVectors:
    """The same, with the mean of the differences instead of their first principal component."""
    return _grains(learnt, mean_direction)


def grains_vision(learnt: AttributedPairs) -> SteeringVectors:
    """The same, with only the tokens of the image."""
    return _grains(learnt, mean_direction, "vision")


def grains_text(learnt: AttributedPairs) -> SteeringVectors:
    """The same, with only words."""
    return _grains(learnt, mean_direction, "text")


def random_tokens(learnt: AttributedPairs) -> SteeringVectors:
    """The same as `grains_mean`, with random tokens, which attribution must beat."""
    return extract_vectors(
        learnt.model, learnt.pairs, method=RandomScores(), aggregate=mean_direction, progress=False
    )


def caa(learnt: AttributedPairs) -> SteeringVectors:
    """Contrastive activation addition: the difference between the answers themselves, without attribution."""
    return mean_difference(learnt.model, learnt.pairs, progress=False)


def _grains(learnt: AttributedPairs, aggregate: Aggregate, modality: Modality = "joint") -> SteeringVectors:
    return extract_vectors(
        learnt.model,
        learnt.pairs,
        attributions=learnt.attributions,
        aggregate=aggregate,
        modality=modality,
        progress=False,
    )


@dataclass(frozen=True)
class Method:
    """A row of the demo's table: how vectors are made, and whether they steer at every layer or at a tuned
    one. (`"each"` tries every single layer, and all layers together.)"""

    name: str
    vectors: Callable[[AttributedPairs], SteeringVectors]
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
    """The competitors in a world: all methods in order, including ours, and the rivals that ours is compared
    with."""

    methods: tuple[Method, ...]
    ours: Method
    rivals: tuple[Method, ...]


FIELDS = {
    "myths": Field(METHODS, OURS, RIVALS),
    "hints": Field((JOINT, *MODALITIES, *SEEING_RIVALS), JOINT, (*MODALITIES, *SEEING_RIVALS)),
}
