"""Which prompt tokens drive a preference: contrastive attribution at block 0's input."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm.auto import tqdm

from . import multimodal, seam
from .embeddings import Filler, FillerEmbedding, filler_embedding, prompt_embeddings
from .encoding import Encoded, PromptFormat
from .finite import check_rows, naming
from .methods import AttributionMethod, IntegratedGradients
from .objective import BATCH_TOKENS, GapFunction, Objective, buckets, check_objective, collate, encode_for
from .pairs import PreferencePair
from .seam import HookedModel
from .token_attribution import TokenAttribution


class CompletenessWarning(UserWarning):
    """Scores that do not add up to the change they should explain."""


def attribute(
    model: HookedModel,
    pairs: Sequence[PreferencePair],
    *,
    method: AttributionMethod = IntegratedGradients(),
    baseline: Filler = "mask",
    objective: Objective = "sum",
    include_special: bool = False,
    prompt_format: PromptFormat = PromptFormat(),
    batch_tokens: int = BATCH_TOKENS,
    tolerance: float = 0.1,
    progress: bool = True,
) -> list[TokenAttribution]:
    """Score every prompt token of every pair by what it does to f(x) = log p(y⁺|x) − log p(y⁻|x).

    Integrated gradients, the default, run from a baseline prompt x' in which `baseline` stands in every
    token's place: a_i = (e_i − b_i)·∫₀¹ ∂f/∂e_i(b + α(e − b)) dα in nats, over embeddings e_i at the
    input of block 0 (GrAInS, section 3.1). Special tokens (BOS, chat template) keep their own embedding
    in x', so they score 0, unless `include_special`: without them most models leave the distribution
    they know. "mask" is the default because it converges first: on the myths world
    (three models, three behaviours) its median error is 2 % of the change at 20 steps, that of "mean" 1 % at
    50, and "zero" has not converged at 50; a random model orders them likewise, with fewer steps
    (`python -m analysis path_convergence`). A zero baseline is the numerical trap that
    `CompletenessWarning` tells of: normalisation makes f change almost wholly within α < 0.01. Padding
    tokens' embeddings are often zero too. In place of an image's tokens the baseline has the mean of the prompt's
    own image tokens; `PerModality` says otherwise.

    A picture's tokens are scored like words, where the model has merged both. Models that add image features
    further up, too (Qwen3-VL), are scored on what enters at block 0 alone, with a warning.

    `objective` sums log-probabilities over an answer's tokens, takes their mean, or the last token's alone.
    Scores, in float32, do not depend on `batch_tokens`, padding or the order of pairs beyond rounding.
    Peak memory does: one chunk's graph of so many tokens lives at a time, so where memory is short, halve it.

    Returns one `TokenAttribution` a pair, in order. Warns (CompletenessWarning) where a complete method's
    error exceeds `tolerance` times |f(x) − f(x')| or times one nat, whichever is more.
    Raises ValueError for bad pairs, unknown names, and gradients that are NaN or infinite.
    """
    check_objective(objective)
    if isinstance(method, type) or not isinstance(method, AttributionMethod):
        raise ValueError(
            f"method={method!r} must be an attribution method, as IntegratedGradients(steps=10)."
        )
    check_tolerance(tolerance)
    encoded = encode_for(model, pairs, prompt_format)
    warn_if_images_go_deeper(model, encoded)
    results: list[TokenAttribution | None] = [None] * len(encoded)
    with seam.frozen(model), tqdm(
        total=len(encoded), desc="attribute", unit="pair", disable=not progress, leave=False, delay=1.0
    ) as bar:  # fmt: skip
        filler = filler_embedding(model, baseline, argument="baseline")
        lengths = [item.longest for item in encoded]
        rows = method.evaluations(max(len(item.prompt) for item in encoded))
        for chosen in buckets(lengths, batch_tokens, rows):
            items = [encoded[index] for index in chosen]
            f = gap_function(model, items, filler, objective, batch_tokens, include_special)
            with naming("pair", chosen):
                scores = method(f).float().cpu()
                gaps, baseline_gaps = f.ends.double().cpu()
            check_finite(f, chosen, scores, gaps, baseline_gaps)
            for row, index in enumerate(chosen):
                results[index] = _token_attribution(
                    model.tokenizer, items[row], scores[row], float(gaps[row]), float(baseline_gaps[row])
                )
            bar.update(len(chosen))
    attributions = [result for result in results if result is not None]
    if method.is_complete:
        warn_if_incomplete(
            [one.completeness_error for one in attributions],
            [one.gap - one.baseline_gap for one in attributions],
            tolerance,
        )
    return attributions


def gap_function(
    model: HookedModel,
    items: Sequence[Encoded],
    filler: FillerEmbedding,
    objective: Objective,
    batch_tokens: int,
    include_special: bool,
) -> GapFunction:
    """f for a few encoded pairs, its baseline the prompt with `filler` in its content tokens' places."""
    batch = collate(items, seam.device_of(model))
    movable = batch.prompts.mask
    if not include_special:
        movable = movable & ~special_positions(items, movable.shape[1]).to(movable.device)
    embeddings = prompt_embeddings(model, batch.prompts)
    return GapFunction(model, batch, embeddings, movable, filler, objective, batch_tokens)


def special_positions(items: Sequence[Encoded], width: int) -> Bool[Tensor, "pair pos"]:
    """Where left-padded prompts hold special tokens."""
    special = torch.zeros(len(items), width, dtype=torch.bool)
    for row, item in zip(special, items, strict=True):
        row[width - len(item.prompt) :] = torch.tensor(item.prompt.is_special)
    return special


def _token_attribution(
    tokenizer: Any, item: Encoded, scores: Tensor, gap: float, baseline_gap: float
) -> TokenAttribution:
    n_pos = len(item.prompt)
    return TokenAttribution(
        tokens=torch.tensor(item.prompt.ids),
        strings=tuple(readable(tokenizer, token) for token in item.prompt.ids),
        scores=scores[scores.shape[0] - n_pos :].clone(),
        is_image=torch.tensor(item.prompt.is_image),
        is_special=torch.tensor(item.prompt.is_special),
        gap=gap,
        baseline_gap=baseline_gap,
        grids=() if item.prompt.images is None else item.prompt.images.grids,
    )


def readable(tokenizer: Any, token: int) -> str:
    """What a token reads as, its word boundary with it."""
    # decode() drops the word boundary that SentencePiece writes as ▁, and is needed to read byte-level BPE.
    piece = tokenizer.convert_ids_to_tokens(token)
    return piece.replace("▁", " ") if "▁" in piece else tokenizer.decode([token])


def check_finite(f: GapFunction, pairs: Sequence[int], *numbers: Tensor) -> None:
    """Raise NotFiniteError, naming the pair, where numbers [pair, ...] are NaN or infinite."""
    for values in numbers:
        check_rows(
            f.model,
            "pair",
            pairs,
            values,
            f.batch.prompts,
            f.batch.answers,
            what="log-probabilities or gradients",
        )


def warn_if_images_go_deeper(model: HookedModel, encoded: Sequence[Encoded]) -> None:
    """CompletenessWarning where part of an image does not pass through block 0's input."""
    if multimodal.reaches_deeper_layers(model) and any(item.prompt.images for item in encoded):
        warnings.warn(
            "this model adds image features behind block 0, too (deepstack): scores at block 0's input leave out "
            "what goes that way, and masking an image token there hides only a part of it.",
            CompletenessWarning,
            stacklevel=3,
        )


def check_tolerance(tolerance: float) -> None:
    """Raise ValueError for one that nothing would ever exceed, or everything."""
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance} must be 0 or more (0.1 is 10 %).")


def warn_if_incomplete(errors: Sequence[float], changes: Sequence[float], tolerance: float) -> None:
    """CompletenessWarning for the pairs whose error exceeds `tolerance` times |change| or times one nat."""
    excess = [abs(error) / max(1.0, abs(change)) for error, change in zip(errors, changes, strict=True)]
    bad = [index for index, ratio in enumerate(excess) if not ratio <= tolerance]
    if not bad:
        return
    worst = max(bad, key=lambda index: excess[index])
    named = ", ".join(map(str, bad[:8])) + (", ..." if len(bad) > 8 else "")
    warnings.warn(
        f"the scores of {len(bad)} of {len(errors)} pairs ({named}) miss f(x) − f(baseline) by more than "
        f"{tolerance:.0%}; the worst is pair {worst}: {errors[worst]:+.2f} of {abs(changes[worst]):.2f} nats. "
        "Take more steps (IntegratedGradients(steps=...)), more where they are needed "
        f"(IntegratedGradients(tolerance={tolerance:g})), or another baseline (baseline='mask' or 'mean' "
        "rather than 'zero').",
        CompletenessWarning,
        stacklevel=3,
    )
