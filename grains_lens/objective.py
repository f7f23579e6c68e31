"""Log-probabilities of answers, and the preference gap f(x) = log p(y⁺|x) − log p(y⁻|x).

A prompt is run once and each answer continues it from the cache, with gradients. Logits are made at the
positions that predict an answer's tokens and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import seam
from .embeddings import Filler, FillerEmbedding, PromptEmbeddings, filler_embedding
from .encoding import Encoded
from .errors import unknown_name
from .prompting import check_items as check_items
from .prompting import collate_prompts as collate_prompts
from .prompting import encode_for as encode_for
from .prompting import encode_prompts_for as encode_prompts_for
from .prompting import tokenizer_of as tokenizer_of
from .seam import HookedModel, TokenBatch

BATCH_TOKENS = 2048
"""Padded tokens a forward pass by default, over all rows: a matter of memory and speed, never of results.

More of them leave a CPU's cache; a large accelerator may want several times as many."""

Objective = Literal["sum", "mean", "last"]
"""`sum` over the answer's tokens (GrAInS, section 3.1), `mean` per token, `last` token alone; all in nats."""


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts, left-padded, and for each of their answers one right-padded batch of the same rows.

    A row with fewer answers than its neighbours repeats its first one; `real` [batch, answer] says which
    answers are its own.
    """

    prompts: TokenBatch
    answers: tuple[TokenBatch, ...]
    real: Bool[Tensor, "batch answer"]

    def repeat(self, times: int) -> AnswerBatch:
        """All rows `times` times over, copy after copy."""
        return AnswerBatch(
            self.prompts.repeat(times),
            tuple(answer.repeat(times) for answer in self.answers),
            self.real.repeat(times, 1),
        )

    def select(self, rows: Int[Tensor, " row"]) -> AnswerBatch:
        """These rows alone."""
        return AnswerBatch(
            self.prompts.select(rows), tuple(answer.select(rows) for answer in self.answers), self.real[rows]
        )


def collate(items: Sequence[Encoded], device: torch.device) -> AnswerBatch:
    """One batch of encoded prompts and answers."""
    most = max(len(item.answers) for item in items)
    real = torch.tensor([[n < len(item.answers) for n in range(most)] for item in items], dtype=torch.bool)
    answers = tuple(
        seam.right_padded(
            [item.answers[index] if index < len(item.answers) else item.answers[0] for item in items], device
        )
        for index in range(most)
    )
    return AnswerBatch(collate_prompts([item.prompt for item in items], device), answers, real.to(device))


def buckets(lengths: Sequence[int], batch_tokens: int, rows: int = 1) -> Iterator[list[int]]:
    """Indices in groups of like length, the longest first, so that a group with `rows` rows an item stays
    within `batch_tokens` padded tokens (one item at least)."""
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens={batch_tokens} must be at least 1.")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        fits = max(1, batch_tokens // max(1, rows * lengths[order[0]]))
        yield order[:fits]
        order = order[fits:]


def answer_logprobs(
    model: HookedModel,
    batch: AnswerBatch,
    *,
    objective: Objective = "sum",
    embeddings: Float[Tensor, "batch pos d_model"] | None = None,
) -> Float[Tensor, "batch answer"]:
    """log p(answer | prompt) in nats, for each answer of each prompt.

    `embeddings` take the place of the prompts' own at block 0's input. Log-softmax and sums are float32.
    """
    first, prefix = seam.prefill(model, batch.prompts, embeddings=embeddings)
    return torch.stack(
        [_score(_continue(model, prefix, first, answer), answer.mask, objective) for answer in batch.answers],
        dim=-1,
    )


def _continue(
    model: HookedModel, prefix: seam.Prefix, first: Tensor, answer: TokenBatch
) -> Float[Tensor, "batch pos"]:
    # The prompt's last position predicts the first token, each token the next; what follows the last
    # one is nobody's concern, so it is not run.
    logits = first
    if answer.tokens.shape[1] > 1:
        logits = torch.cat([first, seam.extend(model, prefix, answer.tokens[:, :-1])], dim=1)
    return _LogProb.apply(logits, answer.tokens.to(logits.device))


class _LogProb(torch.autograd.Function):
    """log p of one target a position, float32: what log_softmax and gather compute.

    Their backward passes fill and read several tensors as large as the logits, which for a large vocabulary
    costs as much as a block; ∂/∂logits = g·(1[target] − softmax) takes one.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Float[Tensor, "batch pos d_vocab"], targets: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos"]:
        logprobs = logits.log_softmax(dim=-1, dtype=torch.float32)
        ctx.save_for_backward(logprobs, targets[..., None])
        ctx.dtype = logits.dtype
        return logprobs.gather(-1, targets[..., None])[..., 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        logprobs, targets = ctx.saved_tensors
        outer = gradients[0][..., None]
        inner = logprobs.exp().mul_(-outer).scatter_add_(-1, targets, outer)
        return inner.to(ctx.dtype), None


def _score(
    logprobs: Float[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"], objective: Objective
) -> Float[Tensor, " batch"]:
    mask = mask.to(logprobs.device)
    if objective == "last":
        last = mask.long().sum(dim=-1, keepdim=True) - 1
        return logprobs.gather(-1, last)[..., 0]
    total = torch.where(mask, logprobs, 0).sum(dim=-1)
    return total / mask.sum(dim=-1) if objective == "mean" else total


def check_objective(objective: Any) -> None:
    """Raise ValueError for an unknown objective."""
    if objective not in get_args(Objective):
        raise unknown_name("objective", objective, get_args(Objective))


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
        with seam.recording():
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
