"""Log-probabilities of answers.

A prompt is run once and each answer continues it from the cache, with gradients. Logits are made at the
positions that predict an answer's tokens and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import unknown_name
from ..hosts.batch import TokenBatch
from ..hosts.forward import Prefix, extend, prefill
from ..hosts.model import HookedModel, device_of
from ..literals import Objective
from .batching import AnswerBatch, collate
from .encoding import Encoded
from .finite import check_rows, naming
from .work import Work


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
    first, prefix = prefill(model, batch.prompts, embeddings=embeddings)
    return torch.stack(
        [_score(_continue(model, prefix, first, answer), answer.mask, objective) for answer in batch.answers],
        dim=-1,
    )


def _continue(
    model: HookedModel, prefix: Prefix, first: Tensor, answer: TokenBatch
) -> Float[Tensor, "batch pos"]:
    # The prompt's last position predicts the first token, each token the next; what follows the last
    # one is nobody's concern, so it is not run.
    logits = first
    if answer.tokens.shape[1] > 1:
        logits = torch.cat([first, extend(model, prefix, answer.tokens[:, :-1])], dim=1)
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


def score_answers(
    model: HookedModel,
    encoded: Sequence[Encoded],
    work: Work,
    *,
    label: str | None = None,
    name: str = "pair",
    objective: Objective = "sum",
) -> Float[Tensor, "item answer"]:
    """log p(answer|prompt) of every answer of every item, in nats; −inf where an item has fewer answers.

    A bar called `label` counts the items, if `work` shows any.
    Raises NotFiniteError, a ValueError, for one that is NaN or infinite; it calls the item by `name` and number.
    """
    most = max(len(item.answers) for item in encoded)
    logprobs = torch.full((len(encoded), most), -torch.inf)
    with (
        torch.no_grad(),
        work.batches(model, [item.longest for item in encoded], label, unit="prompt") as groups,
    ):
        for rows in groups:
            batch = collate([encoded[row] for row in rows], device_of(model))
            with naming(name, rows):
                scores = answer_logprobs(model, batch, objective=objective).cpu()
            real = batch.real.cpu()
            check_rows(model, name, rows, torch.where(real, scores, 0.0), batch.prompts, batch.answers)
            scores = torch.where(real, scores, -torch.inf)
            logprobs[torch.tensor(rows)[:, None], torch.arange(scores.shape[1])] = scores
    return logprobs
