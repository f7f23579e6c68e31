"""From attributions to steering vectors: mask the tokens that matter, read what changes, reduce."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from tqdm.auto import tqdm

from . import seam
from .attribution import (
    attribute,
    special_positions,
    warn_if_images_go_deeper,
)
from .directions import Aggregate, pca_direction
from .embeddings import Filler, FillerEmbedding, filler_embedding, prompt_embeddings
from .encoding import Encoded, PromptFormat
from .errors import unknown_name
from .fingerprint import identify
from .finite import check_rows, naming
from .methods import AttributionMethod, IntegratedGradients
from .objective import BATCH_TOKENS, AnswerBatch, Objective, buckets, collate, encode_for
from .pairs import PreferencePair
from .residuals import read_residuals
from .seam import HookedModel
from .selection import Sign
from .token_attribution import Modality, TokenAttribution
from .turns import takes_a_turn
from .vectors import Provenance, SteeringVectors

Contrast = Literal["two_sided", "difference"]
Position = Literal["prompt_end", "response_end"]


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
    """Extract one steering direction a layer from preference pairs (GrAInS, section 3.2).

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
    # All that can be wrong without a score being known, before hours go into scores.
    if contrast not in get_args(Contrast):
        raise unknown_name("contrast", contrast, get_args(Contrast))
    if not callable(aggregate):
        raise ValueError(f"aggregate={aggregate!r} must be a function of differences, as pca_direction.")
    if attributions is None:
        _check_masking(model, pairs, k, modality, mask, position, layers, include_special, prompt_format)
        attributions = attribute(
            model, pairs, method=method, baseline=baseline, objective=objective, include_special=include_special,
            prompt_format=prompt_format, batch_tokens=batch_tokens, progress=progress,
        )  # fmt: skip
        attributed_by = {"method": describe(method), "baseline": describe(baseline), "objective": objective}
    else:
        attributed_by = {"method": "given"}
    contrasts = masked_contrasts(
        model, pairs, attributions, k=k, modality=modality, mask=mask, position=position, layers=layers,
        include_special=include_special, prompt_format=prompt_format, batch_tokens=batch_tokens,
        progress=progress,
    )  # fmt: skip
    settings = {
        **attributed_by, "k": k, "modality": modality, "mask": describe(mask), "contrast": contrast,
        "aggregate": describe(aggregate), "position": position, "prompt_format": asdict(prompt_format),
    }  # fmt: skip
    return SteeringVectors(
        directions=contrasts.reduce(aggregate, contrast=contrast),
        layers=contrasts.layers,
        residual_norm=contrasts.residual_norm,
        provenance=provenance_of(model, "grains", settings, len(pairs)),
    )


def _check_masking(
    model: HookedModel,
    pairs: Sequence[PreferencePair],
    k: int,
    modality: Modality,
    mask: Filler,
    position: Position,
    layers: Sequence[int] | None,
    include_special: bool,
    prompt_format: PromptFormat,
) -> None:
    """Raise ValueError for whatever `masked_contrasts` would refuse whatever the scores are."""
    if position not in get_args(Position):
        raise unknown_name("position", position, get_args(Position))
    seam.check_layers(layers, range(seam.n_layers(model)))
    for index, item in enumerate(encode_for(model, pairs, prompt_format)):
        prompt = item.prompt
        scores = torch.zeros(len(prompt))
        kinds = torch.tensor(prompt.is_image), torch.tensor(prompt.is_special)
        blank = TokenAttribution(torch.tensor(prompt.ids), (), scores, *kinds, 0.0, 0.0)
        _masked(index, blank, k, "positive", modality, include_special)
    with seam.frozen(model):
        filler_embedding(model, mask, argument="mask")


@dataclass(frozen=True, eq=False)
class Contrasts:
    """What masking did to the residual stream, pair by pair: `plus` and `minus` [pair, layer, d_model] are
    Δ⁺ and Δ⁻, `plus_weights` and `minus_weights` [pair] the summed |score| of the masked tokens in nats,
    `residual_norm` [layer] the median ‖h‖ over the prompts' tokens."""

    plus: Float[Tensor, "pair layer d_model"]
    minus: Float[Tensor, "pair layer d_model"]
    plus_weights: Float[Tensor, " pair"]
    minus_weights: Float[Tensor, " pair"]
    layers: tuple[int, ...]
    residual_norm: Float[Tensor, " layer"]

    def __repr__(self) -> str:
        n_pairs, _, d_model = self.plus.shape
        return f"Contrasts({n_pairs} pairs, layers {list(self.layers)}, d_model {d_model})"

    def reduce(
        self, aggregate: Aggregate = pca_direction, *, contrast: Contrast = "two_sided"
    ) -> Float[Tensor, "layer d_model"]:
        """One direction a layer, [layer, d_model], as `extract_vectors` defines it.

        Raises ValueError for an unknown contrast.
        """
        if contrast == "two_sided":
            return per_layer(aggregate, self.plus, self.plus_weights) - per_layer(
                aggregate, self.minus, self.minus_weights
            )
        if contrast == "difference":
            return per_layer(aggregate, self.plus - self.minus, self.plus_weights + self.minus_weights)
        raise unknown_name("contrast", contrast, get_args(Contrast))


def per_layer(
    aggregate: Aggregate,
    deltas: Float[Tensor, "pair layer d_model"],
    weights: Float[Tensor, " pair"] | None = None,
) -> Float[Tensor, "layer d_model"]:
    """The aggregate of the differences at each layer."""
    return torch.stack([aggregate(deltas[:, row], weights) for row in range(deltas.shape[1])])


def masked_contrasts(
    model: HookedModel,
    pairs: Sequence[PreferencePair],
    attributions: Sequence[TokenAttribution],
    *,
    k: int = 3,
    modality: Modality = "joint",
    mask: Filler = "mask",
    position: Position = "prompt_end",
    layers: Sequence[int] | None = None,
    include_special: bool = False,
    prompt_format: PromptFormat = PromptFormat(),
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = True,
) -> Contrasts:
    """Δ⁺ and Δ⁻ of every pair at every layer: `extract_vectors` before it reduces them to one direction.

    `position="response_end"` reads the stream at the chosen answer's last token instead of the prompt's. The
    differences, [pair, layer, d_model] in residual-stream units, are what a study of aggregates works on.

    Raises ValueError for an unknown position, layers out of range, attributions that do not fit the pairs, and k
    larger than a prompt.
    """
    if position not in get_args(Position):
        raise unknown_name("position", position, get_args(Position))
    chosen_layers = seam.check_layers(layers, range(seam.n_layers(model)))
    encoded = encode_for(model, pairs, prompt_format)
    warn_if_images_go_deeper(model, encoded)
    check_attributions(encoded, attributions)
    masked = {
        sign: [
            _masked(index, one, k, sign, modality, include_special) for index, one in enumerate(attributions)
        ]
        for sign in get_args(Sign)
    }
    if not any(len(positions) for side in masked.values() for positions in side):
        raise ValueError(
            "every score is zero, so no token would be masked in any pair: attribute the pairs anew."
        )
    deltas = {sign: torch.zeros(len(encoded), len(chosen_layers), int(model.cfg.d_model)) for sign in masked}
    norms: list[Tensor] = []
    with seam.frozen(model), tqdm(
        total=len(encoded), desc="extract", unit="pair", disable=not progress, leave=False, delay=1.0
    ) as bar:  # fmt: skip
        filler = filler_embedding(model, mask, argument="mask")
        for bucket in buckets([item.longest for item in encoded], batch_tokens, rows=3):
            items = [encoded[index] for index in bucket]
            sides = [[side[index] for index in bucket] for side in masked.values()]
            (whole, *without), lengths = _read_variants(
                model, items, bucket, sides, filler, chosen_layers, position
            )
            for sign, h in zip(masked, without, strict=True):
                deltas[sign][bucket] = whole - h
            norms += lengths
            bar.update(len(bucket))
    weights = {
        sign: torch.stack([one.scores[at].abs().sum() for one, at in zip(attributions, side, strict=True)])
        for sign, side in masked.items()
    }
    return Contrasts(
        plus=deltas["positive"],
        minus=deltas["negative"],
        plus_weights=weights["positive"],
        minus_weights=weights["negative"],
        layers=chosen_layers,
        residual_norm=typical_norm(norms),
    )


def _read_variants(
    model: HookedModel,
    items: Sequence[Encoded],
    rows: Sequence[int],
    sides: Sequence[Sequence[Tensor]],
    filler: FillerEmbedding,
    layers: Sequence[int],
    position: Position,
) -> tuple[Float[Tensor, "variant pair layer d_model"], list[Tensor]]:
    """The stream of each prompt as it is and with each side's tokens masked, in one batch; and ‖h‖ over the
    content tokens of the prompts as they are, [layer, pos] of each."""
    batch = collate(items, seam.device_of(model))
    embeddings = prompt_embeddings(model, batch.prompts)
    width = batch.prompts.tokens.shape[1]
    masked = [embeddings.replaced(filler, _marks(items, side, width)) for side in sides]
    copies = 1 + len(masked)
    with naming("pair", rows):
        reading = read_residuals(
            model,
            batch.prompts.repeat(copies),
            layers=layers,
            embeddings=torch.cat([embeddings.stream, *masked]),
            answers=batch.answers[0].repeat(copies) if position == "response_end" else None,
        )
    at_end = reading.at_end.unflatten(0, (copies, -1))
    norms = checked_norms(model, "pair", rows, items, batch, reading.norms[: len(items)], *at_end)
    return at_end, norms


def content_norms(
    items: Sequence[Encoded], batch: AnswerBatch, norms: Float[Tensor, "pair layer pos"]
) -> list[Float[Tensor, "layer _"]]:
    """‖h‖ at each prompt's own tokens: pads, BOS and templates are left out."""
    content = batch.prompts.mask.cpu() & ~special_positions(items, norms.shape[-1])
    return [row[:, where] for row, where in zip(norms, content, strict=True)]


def checked_norms(
    model: HookedModel,
    name: str,
    rows: Sequence[int],
    items: Sequence[Encoded],
    batch: AnswerBatch,
    norms: Float[Tensor, "pair layer pos"],
    *streams: Shaped[Tensor, "pair ..."],
) -> list[Float[Tensor, "layer _"]]:
    """`content_norms`; a NotFiniteError, which calls the item by `name` and number in `rows`, where they or what
    else was read of an item, `streams`, are NaN or infinite."""
    own = content_norms(items, batch, norms)
    sums = [torch.stack([one.sum() for one in own]), *(one.flatten(1).sum(dim=1) for one in streams)]
    check_rows(model, name, rows, torch.stack(sums, dim=1), batch.prompts, batch.answers, what="activations")
    return own


def typical_norm(norms: Sequence[Float[Tensor, "layer _"]]) -> Float[Tensor, " layer"]:
    """The median ‖h‖ over all positions: attention sinks, a hundred times longer, do not move it."""
    return torch.cat(list(norms), dim=-1).median(dim=-1).values


def _masked(
    index: int, attribution: TokenAttribution, k: int, sign: Sign, modality: Modality, include_special: bool
) -> Tensor:
    try:
        return attribution.top(k, sign, modality=modality, include_special=include_special)
    except ValueError as error:
        raise ValueError(f"pair {index}: {error}") from error


def _marks(items: Sequence[Encoded], positions: Sequence[Tensor], width: int) -> Tensor:
    marks = torch.zeros(len(items), width, dtype=torch.bool)
    for row, item, chosen in zip(marks, items, positions, strict=True):
        row[width - len(item.prompt) + chosen] = True
    return marks


def check_attributions(encoded: Sequence[Encoded], attributions: Sequence[TokenAttribution]) -> None:
    """Raise ValueError unless there is one attribution of each prompt, in order."""
    if len(attributions) != len(encoded):
        raise ValueError(
            f"there are {len(encoded)} pairs and {len(attributions)} attributions: one a pair is wanted."
        )
    for index, (item, one) in enumerate(zip(encoded, attributions, strict=True)):
        if tuple(one.tokens.tolist()) != item.prompt.ids:
            raise ValueError(
                f"attributions[{index}] is of another prompt than pairs[{index}], or of another "
                "prompt_format: attribute these pairs, in this order."
            )
        if not torch.isfinite(one.scores).all():
            raise ValueError(f"attributions[{index}] has scores that are NaN or infinite: attribute it anew.")


# --- provenance ----------------------------------------------------------------------------------


def provenance_of(model: HookedModel, method: str, settings: Mapping[str, Any], n_pairs: int) -> Provenance:
    """What a vector file records about how its vectors were made."""
    packages = ("grains-lens", "transformer-lens", "transformers", "torch")
    versions = {name: _version(name) for name in packages}
    return Provenance(
        method=method, settings=dict(settings), n_pairs=n_pairs, model=identify(model), versions=versions
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def describe(value: Any) -> Any:
    """A setting as JSON can hold it: frozen values with their fields, functions by name."""
    if isinstance(value, functools.partial):
        return {"name": describe(value.func), **{key: describe(item) for key, item in value.keywords.items()}}
    if is_dataclass(value) and not isinstance(value, type):
        settings = {field.name: describe(getattr(value, field.name)) for field in fields(value)}
        return {"name": type(value).__name__, **settings}
    if isinstance(value, Tensor):
        return f"tensor{list(value.shape)}"
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return value
