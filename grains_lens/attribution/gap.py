"""The preference gap f(x) = log p(y⁺|x) − log p(y⁻|x) as a function of embeddings, and checks of what comes of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import real
from ..hosts.images import reaches_deeper_layers
from ..hosts.model import HookedModel, device_of, recording
from ..literals import Objective
from ..prompts.answers import answer_logprobs
from ..prompts.batching import (
    AnswerBatch,
    collate,
    special_positions,
)
from ..prompts.encoding import Encoded
from ..prompts.finite import check_rows, naming
from ..prompts.work import Work
from .fillers import Filler, FillerEmbedding, PromptEmbeddings, filler_embedding, prompt_embeddings


@dataclass(frozen=True, eq=False)
class GapFunction:
    """f(x) = log p(y⁺|x) − log p(y⁻|x) of a few pairs, as a function of the embeddings at block 0's input.

    `embeddings` are the prompts' own; `movable` [pair, pos] marks the tokens that a baseline replaces, and
    `filler` is what it puts there. Points are evaluated `batch_tokens` padded tokens at a time.
    """

    model: HookedModel
    batch: AnswerBatch
    embeddings: PromptEmbeddings
    movable: Bool[Tensor, "pair pos"]
    filler: FillerEmbedding
    objective: Objective
    batch_tokens: int

    @property
    def x(self) -> Float[Tensor, "pair pos d_model"]:
        """The prompts, float32."""
        return self.embeddings.stream

    @cached_property
    def baseline(self) -> Float[Tensor, "pair pos d_model"]:
        """The prompts with the filler in place of every movable token, float32."""
        return self.embeddings.replaced(self.filler, self.movable)

    def baseline_of(self, filler: Filler, *, argument: str = "baseline") -> Float[Tensor, "pair pos d_model"]:
        """Another baseline of the same prompts: for methods that want several."""
        return self.embeddings.replaced(filler_embedding(self.model, filler, argument=argument), self.movable)

    @cached_property
    def ends(self) -> Float[Tensor, "2 pair"]:
        """f(x) and f(baseline) in nats, computed once."""
        return self.values(torch.stack([self.x, self.baseline]))

    def select(self, rows: Int[Tensor, " row"]) -> GapFunction:
        """The same function of these pairs alone."""
        return replace(
            self,
            batch=self.batch.select(rows),
            embeddings=self.embeddings.select(rows),
            movable=self.movable[rows],
        )

    def values(self, points: Float[Tensor, "point pair pos d_model"]) -> Float[Tensor, "point pair"]:
        """f at each point, in nats, without a graph."""
        with torch.no_grad():
            return torch.cat([self.evaluate(chunk) for chunk in self.chunks(points)])

    def gradients(
        self, points: Float[Tensor, "point pair pos d_model"]
    ) -> Sequence[Float[Tensor, "chunk pair pos d_model"]]:
        """∂f/∂point in float32, a chunk of points at a time in their order; one chunk's graph lives at a time."""
        # No generator: it would make a RuntimeError of a StopIteration that a user's rule raises.
        return [self._gradient(chunk) for chunk in self.chunks(points)]

    def _gradient(self, chunk: Float[Tensor, "chunk pair pos d_model"]) -> Tensor:
        leaf = chunk.detach().requires_grad_(True)
        with recording():
            total = self.evaluate(leaf).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
        return gradient

    def chunks(self, points: Float[Tensor, "point pair pos d_model"]) -> tuple[Tensor, ...]:
        """Points in groups that fit `batch_tokens` (one point at least)."""
        answers = sum(answer.tokens.shape[1] for answer in self.batch.answers)
        tokens = self.batch.prompts.tokens.shape[0] * (self.batch.prompts.tokens.shape[1] + answers)
        return points.split(max(1, self.batch_tokens // tokens))

    def evaluate(self, points: Float[Tensor, "point pair pos d_model"]) -> Float[Tensor, "point pair"]:
        """f at each point in one batch, with a graph if autograd records one."""
        n = points.shape[0]
        logprobs = answer_logprobs(
            self.model, self.batch.repeat(n), objective=self.objective, embeddings=points.flatten(0, 1)
        )
        return (logprobs[:, 0] - logprobs[:, 1]).unflatten(0, (n, -1))


class CompletenessWarning(UserWarning):
    """Scores that do not add up to the change they should explain."""


def gap_function(
    model: HookedModel,
    items: Sequence[Encoded],
    filler: FillerEmbedding,
    objective: Objective,
    batch_tokens: int,
    include_special: bool,
) -> GapFunction:
    """f for a few encoded pairs, its baseline the prompt with `filler` in its content tokens' places."""
    batch = collate(items, device_of(model))
    movable = batch.prompts.mask
    if not include_special:
        movable = movable & ~special_positions(items, movable.shape[1]).to(movable.device)
    embeddings = prompt_embeddings(model, batch.prompts)
    return GapFunction(model, batch, embeddings, movable, filler, objective, batch_tokens)


@dataclass(frozen=True, eq=False)
class ScoredPair:
    """What was computed of one pair: `scores` of any shape, and f(x) and f(baseline) in nats."""

    item: Encoded
    scores: Tensor
    gap: float
    baseline_gap: float


def score_pairs(
    model: HookedModel,
    encoded: Sequence[Encoded],
    scores_of: Callable[[GapFunction], Tensor],
    work: Work,
    *,
    label: str,
    rows: int,
    baseline: Filler,
    objective: Objective,
    include_special: bool,
) -> list[ScoredPair]:
    """`scores_of` f [pair, ...] in float32, pair by pair, over batches in which a pair has `rows` rows.

    Raises NotFiniteError, a ValueError, for scores or ends of f that are NaN or infinite; it names the pair.
    """
    results: list[ScoredPair | None] = [None] * len(encoded)
    with work.batches(model, [item.longest for item in encoded], label, rows=rows) as groups:
        filler = filler_embedding(model, baseline, argument="baseline")
        for chosen in groups:
            items = [encoded[index] for index in chosen]
            f = gap_function(model, items, filler, objective, work.batch_tokens, include_special)
            with naming("pair", chosen):
                scores = scores_of(f).float().cpu()
                gaps, baseline_gaps = f.ends.double().cpu()
            check_finite(f, chosen, scores, gaps, baseline_gaps)
            for row, index in enumerate(chosen):
                results[index] = ScoredPair(
                    items[row], scores[row], float(gaps[row]), float(baseline_gaps[row])
                )
    return [result for result in results if result is not None]


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
    if reaches_deeper_layers(model) and any(item.prompt.images for item in encoded):
        warnings.warn(
            "this model adds image features behind block 0, too (deepstack): scores at block 0's input leave out "
            "what goes that way, and masking an image token there hides only a part of it.",
            CompletenessWarning,
            stacklevel=3,
        )


def check_tolerance(tolerance: float) -> None:
    """Raise ValueError for one that nothing would ever exceed, or everything."""
    if not real(tolerance, "tolerance") >= 0:
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
