"""Which prompt tokens drive a preference: contrastive attribution at block 0's input."""

from __future__ import annotations

from typing import Any

import torch

from ..data.given import Pairs
from ..hosts.model import HookedModel
from ..literals import MethodName
from ..prompts.batching import BATCH_TOKENS
from ..prompts.encoding import PromptFormat
from ..prompts.objectives import Objective, check_objective
from ..prompts.work import Work
from .fillers import Filler
from .gap import (
    ScoredPair,
    check_tolerance,
    score_pairs,
    warn_if_answers_are_alike,
    warn_if_images_go_deeper,
    warn_if_incomplete,
)
from .methods import AttributionMethod, IntegratedGradients, better, limit_of
from .names import as_method
from .scores import Attributions, ScoredBy, TokenAttribution, readable


def attribute(
    model: HookedModel,
    pairs: Pairs,
    *,
    method: AttributionMethod | MethodName = IntegratedGradients(),
    baseline: Filler = "mask",
    objective: Objective = "sum",
    include_special: bool = False,
    prompt_format: PromptFormat = PromptFormat(),
    batch_tokens: int = BATCH_TOKENS,
    tolerance: float | None = None,
    progress: bool = True,
) -> Attributions:
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

    `pairs` are whatever `extract_vectors` takes, and `method` goes by name, too, at its default settings
    ("occlusion").

    `objective` says what f is. "sum", the default, sums an answer's log-probabilities over its tokens, "mean" takes
    their mean, "last" the last token's alone. A function gives one number per row [row] from an answer's logits
    [row, pos, d_vocab], float32, and its tokens [row, pos], where logits[:, t] predict tokens[:, t]; rows hold no
    padding, and must not depend on one another. f is that of the chosen answer less that of the rejected one, or of
    the chosen one alone where `rejected` is None: PreferencePair(prompt, chosen) asks for one answer's
    log-probability. `LogitDifference` and `StreamObjective` ask about the prompt: a difference of two tokens'
    logits, a number read off the residual stream. Scores are in nats, or in whatever unit the function has.
    Scores, in float32, do not depend on `batch_tokens`, padding or the order of pairs beyond rounding.
    Peak memory does: one chunk's graph of so many tokens lives at a time, so where memory is short, halve it.

    The default method takes steps until the scores are complete within a tenth.

    Args:
        model: A `TransformerBridge` or a `HookedTransformer` (`load_model` makes one). It is left as it was.
        pairs: Preference pairs: a list of `PreferencePair`, one of them, rows or tuples of prompt, chosen and
            rejected, or what `load_pairs` reads.
        method: How tokens are scored: `IntegratedGradients`, `GradientTimesInput`, `SmoothGrad`,
            `GradientShap`, `Occlusion`, `RandomScores`, the name of one (`"occlusion"`), or a callable of
            yours like them.
        baseline: What stands in each token's place at the start of the path: `"mask"` the tokenizer's mask or
            unknown token, or, where it has neither, the mean embedding; `"mean"` the vocabulary's mean
            embedding; `"zero"`; `"unk"`, `"pad"` or `"eos"`; a token id; an embedding [d_model]; or
            `PerModality(text, image)`.
        objective: What f is made of. An answer's log-probability in nats: the `"sum"` over its tokens, their
            `"mean"`, or the `"last"` token's alone; or a function of yours, `LogitDifference`,
            `StreamObjective`.
        include_special: Whether BOS and the tokens of the chat template are scored and masked like the
            others.
        prompt_format: How a prompt and an answer become tokens: the joint, chat template, system turn and BOS
            (`PromptFormat`).
        batch_tokens: Padded tokens per forward pass, over all rows. It sets memory and speed and never
            changes results; halve it where memory is short.
        tolerance: The error of completeness above which a warning is given, as a share of |f(x) − f(x')| or
            of one nat, whichever is more. None takes the method's own, or 0.1.
        progress: Whether to show a progress bar, from the first second on.

    Returns one `TokenAttribution` per pair, in order, as a list that shows itself as strips in a notebook.
    Warns (CompletenessWarning) where a complete method's error exceeds `tolerance` times |f(x) − f(x')| or times
    one nat, whichever is more (of a function, whose unit is not known, times |f(x) − f(x')|, |f(x)| or |f(x')|);
    without a `tolerance` the method's own counts, or 0.1.
    Raises ValueError for bad pairs, unknown names, gradients that are NaN or infinite, and an objective that gives
    anything but one number per row, or has no gradient where the method takes one.
    """
    check_objective(objective, model)
    method = as_method(method)
    limit = limit_of(method, tolerance)
    check_tolerance(limit)
    work = Work(prompt_format, batch_tokens, progress)
    encoded = work.encode(model, pairs, one_answer=True)
    warn_if_images_go_deeper(model, encoded)
    scored = score_pairs(
        model,
        encoded,
        method,
        work,
        label="attribute",
        rows=method.evaluations(max(len(item.prompt) for item in encoded)),
        baseline=baseline,
        objective=objective,
        include_special=include_special,
    )
    made = ScoredBy(method, baseline, objective)
    attributions = Attributions(_token_attribution(model.tokenizer, one, made) for one in scored)
    gaps, baseline_gaps = zip(*((one.gap, one.baseline_gap) for one in attributions), strict=True)
    warn_if_answers_are_alike(objective, gaps, baseline_gaps)
    if method.is_complete:
        errors = [one.completeness_error for one in attributions]
        warn_if_incomplete(objective, errors, gaps, baseline_gaps, limit, better(method, limit))
    return attributions


def _token_attribution(tokenizer: Any, scored: ScoredPair, made: ScoredBy) -> TokenAttribution:
    prompt = scored.item.prompt
    return TokenAttribution(
        tokens=torch.tensor(prompt.ids),
        strings=tuple(readable(tokenizer, token) for token in prompt.ids),
        scores=scored.scores[len(scored.scores) - len(prompt) :].clone(),
        is_image=torch.tensor(prompt.is_image),
        is_special=torch.tensor(prompt.is_special),
        gap=scored.gap,
        baseline_gap=scored.baseline_gap,
        grids=() if prompt.images is None else prompt.images.grids,
        made=made,
    )
