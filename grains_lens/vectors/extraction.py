"""From preference pairs to steering vectors, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

from ..attribution.fillers import Filler
from ..attribution.methods import AttributionMethod, IntegratedGradients
from ..attribution.scores import TokenAttribution
from ..attribution.tokens import attribute
from ..data.items import PreferencePair
from ..errors import unknown_name
from ..hosts.model import HookedModel
from ..hosts.ownership import takes_a_turn
from ..literals import Contrast, Modality, Position
from ..prompts.batching import BATCH_TOKENS
from ..prompts.encoding import PromptFormat
from ..prompts.objectives import Objective, check_objective, name_of
from .contrasts import check_masking, masked_contrasts
from .directions import Aggregate, pca_direction
from .identity import describe, provenance_of
from .steering_vectors import SteeringVectors


@takes_a_turn
def extract_vectors(
    model: HookedModel,
    pairs: Sequence[PreferencePair],
    *,
    attributions: Sequence[TokenAttribution] | None = None,
    method: AttributionMethod = IntegratedGradients(),
    baseline: Filler = "mask",
    objective: Objective = "sum",
    k: int = 3,
    modality: Modality = "joint",
    mask: Filler = "mask",
    contrast: Contrast = "two_sided",
    aggregate: Aggregate = pca_direction,
    position: Position = "prompt_end",
    layers: Sequence[int] | None = None,
    include_special: bool = False,
    prompt_format: PromptFormat = PromptFormat(),
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = True,
) -> SteeringVectors:
    """Extract one steering direction per layer from preference pairs (GrAInS, section 3.2).

    With S⁺, S⁻ the top-k positive and negative tokens of each pair's attribution, and h_l the residual
    stream after block l at the last prompt position,

        Δ⁺_l = h_l(x) − h_l(x∖S⁺),   Δ⁻_l = h_l(x) − h_l(x∖S⁻)
        v_l  = aggregate(Δ⁺_l) − aggregate(Δ⁻_l)        contrast="two_sided"
        v_l  = aggregate(Δ⁺_l − Δ⁻_l)                   contrast="difference"

    Masked tokens are replaced by `mask` and stay visible to attention; `modality="vision"` or `"text"` takes
    S⁺ and S⁻ from the prompts' image or text tokens alone, the scores being the same. `attributions`, if
    given, are taken instead of running `attribute` with `method`, `baseline` and `objective`. The defaults are
    the paper's: k = 3, PCA on either side, all layers, joint modality. `mean_direction` gives a vector whose
    length means something (residual-stream units) where PCA's components have length 1.

    Raises ValueError if k exceeds a prompt's tokens, a name is unknown, layers are out of range (all of that before
    anything is attributed), attributions do not fit the pairs, or nothing at all would be masked.
    """
    running: dict[str, Any] = {
        "include_special": include_special,
        "prompt_format": prompt_format,
        "batch_tokens": batch_tokens,
        "progress": progress,
    }
    # All that can be wrong without a score being known, before hours go into scores.
    if contrast not in get_args(Contrast):
        raise unknown_name("contrast", contrast, get_args(Contrast))
    if not callable(aggregate):
        raise ValueError(f"aggregate={aggregate!r} must be a function of differences, as pca_direction.")
    if attributions is None:
        check_objective(objective, model)
        check_masking(model, pairs, k, modality, mask, position, layers, include_special, prompt_format)
        attributions = attribute(
            model, pairs, method=method, baseline=baseline, objective=objective, **running
        )
        attributed_by = {
            "method": describe(method),
            "baseline": describe(baseline),
            "objective": name_of(objective),
        }
    else:
        attributed_by = {"method": "given"}
    masking: dict[str, Any] = {"k": k, "modality": modality, "position": position}
    contrasts = masked_contrasts(model, pairs, attributions, mask=mask, layers=layers, **masking, **running)
    settings = {
        **attributed_by,
        **masking,
        "mask": describe(mask),
        "contrast": contrast,
        "aggregate": describe(aggregate),
        "prompt_format": asdict(prompt_format),
    }
    return SteeringVectors(
        directions=contrasts.reduce(aggregate, contrast=contrast),
        layers=contrasts.layers,
        residual_norm=contrasts.residual_norm,
        provenance=provenance_of(model, "grains", settings, len(pairs)),
    )
