"""One of every result that shows itself, made by hand, with text in it that HTML must not take for its own."""

from __future__ import annotations

import torch

from grains_lens import (
    Attributions,
    ChoiceScores,
    FaithfulnessCurves,
    GenerationComparison,
    HallucinationScores,
    JudgedScores,
    LayerConductance,
    PreferenceScores,
    Provenance,
    SteeringVectors,
    TokenAttribution,
    Tuning,
    add,
)
from grains_lens.intervention.intervention import Intervention
from grains_lens.intervention.tunings import TuningRow
from grains_lens.vectors.provenance import ModelIdentity

NASTY = ("<script>alert(1)</script>", "&amp;", '" onmouseover="x', "</td></table>", " 深", "🙂", "\n")
STRINGS = ("<bos>", " is", " this", " tea", *NASTY)


def attribution() -> TokenAttribution:
    n = len(STRINGS)
    return TokenAttribution(
        tokens=torch.arange(n),
        strings=STRINGS,
        scores=torch.linspace(-1.5, 2.0, n),
        is_image=torch.zeros(n, dtype=torch.bool),
        is_special=torch.arange(n) == 0,
        gap=1.25,
        baseline_gap=-0.5,
    )


def attributions() -> Attributions:
    return Attributions([attribution()] * 3)


def conductance() -> LayerConductance:
    n = len(STRINGS)
    return LayerConductance(
        site="resid_post",
        tokens=torch.arange(n),
        strings=STRINGS,
        scores=torch.linspace(-1.5, 2.0, 4 * n).reshape(4, n),
        response=torch.tensor([0.0, 0.1, -0.2, 0.4]),
        is_special=torch.arange(n) == 0,
        gap=1.25,
        baseline_gap=-0.5,
    )


def vectors() -> SteeringVectors:
    generator = torch.Generator().manual_seed(0)
    identity = ModelIdentity(
        NASTY[0], "LlamaForCausalLM", 4, 8, "float32", "hash", torch.randn(4, 3, generator=generator)
    )
    settings = {"k": 3, "mask": NASTY[2], "aggregate": NASTY[3]}
    return SteeringVectors(
        torch.randn(4, 8, generator=generator) * torch.tensor([[0.1], [1.0], [2.0], [0.0]]),
        (0, 1, 2, 3),
        torch.tensor([4.0, 6.0, 8.0, 9.0]),
        Provenance("grains", settings, 50, identity, versions={"grains_lens": "0.1.0"}),
    )


def tuning() -> Tuning:
    rows = [
        TuningRow((), 0.0, 0.5, {NASTY[0]: 0.9}, 0.0, 0.5),
        TuningRow((2,), 0.5, 0.75, {NASTY[0]: 0.875}, 0.025, 0.725),
        TuningRow((0, 1, 2, 3), 1.0, 0.625, {NASTY[0]: 0.5}, 0.4, 0.225),
    ]
    return Tuning(tuple(rows), rows[1], Intervention(rule=add))


def choices() -> ChoiceScores:
    generator = torch.Generator().manual_seed(1)
    return ChoiceScores(-torch.rand(40, 4, generator=generator), torch.zeros(40, dtype=torch.long))


def preferences() -> PreferenceScores:
    return PreferenceScores(torch.randn(50, generator=torch.Generator().manual_seed(2)))


def hallucination() -> HallucinationScores:
    wrong = torch.arange(20) % 3 == 0
    return HallucinationScores(NASTY[:2] * 10, wrong, ~wrong & (torch.arange(20) % 2 == 0))


def judged() -> JudgedScores:
    return JudgedScores(NASTY[:2] * 10, torch.arange(20).float() % 7)


def faithfulness() -> FaithfulnessCurves:
    fall = torch.tensor([2.0, 0.0, -1.0, -1.2, -1.5])
    wander = torch.tensor([[2.0, 1.5, 0.5, 0.0, -1.5], [2.0, 1.0, 1.2, -0.5, -1.5]])
    rise = torch.tensor([-1.5, 0.5, 1.5, 1.8, 2.0])
    return FaithfulnessCurves(fall, rise, wander, wander.flip(-1))


def comparison() -> GenerationComparison:
    return GenerationComparison(
        ("is this tea safe ?", NASTY[0]),
        ("yes , it is always safe .", f"{NASTY[1]} {NASTY[3]}"),
        ("no , it is never safe .", f"{NASTY[1]} {NASTY[3]}"),
    )


FACES = {
    face.__name__: face
    for face in (
        attribution,
        attributions,
        conductance,
        vectors,
        tuning,
        choices,
        preferences,
        hallucination,
        judged,
        faithfulness,
        comparison,
    )
}
