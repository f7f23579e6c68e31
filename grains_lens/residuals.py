"""Reading the residual stream after blocks, where a prompt or an answer ends, and where an answer is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from . import seam
from .seam import HookedModel, TokenBatch


@dataclass(frozen=True, eq=False)
class ResidualReading:
    """`at_end` [batch, layer, d_model]: the stream at the last position read; `norms` [batch, layer, pos]:
    ‖h‖ over the prompt's positions (pads included). Both float32 on the CPU."""

    at_end: Float[Tensor, "batch layer d_model"]
    norms: Float[Tensor, "batch layer pos"]


def read_residuals(
    model: HookedModel,
    prompts: TokenBatch,
    *,
    layers: Sequence[int],
    embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    answers: TokenBatch | None = None,
) -> ResidualReading:
    """The residual stream after each of `layers` at the end of left-padded prompts, or of their answers."""
    reading, prefix = _read_prompts(model, prompts, layers, embeddings)
    if answers is None:
        return reading
    rows, last = torch.arange(len(answers)), answers.mask.long().sum(dim=-1) - 1
    ends = _read_answers(
        model, prefix, answers.tokens, layers, lambda h: h[rows.to(h.device), last.to(h.device)]
    )
    return ResidualReading(at_end=ends, norms=reading.norms)


def read_writing(
    model: HookedModel, prompts: TokenBatch, answers: TokenBatch, *, layers: Sequence[int]
) -> tuple[Float[Tensor, "batch layer new d_model"], ResidualReading]:
    """The residual stream after each of `layers` at the positions that write the answers, float32 on the CPU, and
    the reading of the prompts.

    Position t is the one whose logits give the answer's token t: the prompt's last for the first, each
    token for the next. `answers.mask` says which of them are an answer's own.
    """
    reading, prefix = _read_prompts(model, prompts, layers)
    stream = reading.at_end[:, :, None]
    if answers.tokens.shape[1] > 1:
        written = _read_answers(model, prefix, answers.tokens[:, :-1], layers, lambda h: h)
        stream = torch.cat([stream, written], dim=2)
    return stream, reading


def _read_prompts(
    model: HookedModel, prompts: TokenBatch, layers: Sequence[int], embeddings: Tensor | None = None
) -> tuple[ResidualReading, seam.Prefix]:
    ends: dict[int, Tensor] = {}
    norms: dict[int, Tensor] = {}

    def read(layer: int) -> seam.Edit:
        def edit(h: Tensor) -> None:
            ends[layer] = h[:, -1].float().cpu()
            norms[layer] = torch.linalg.vector_norm(h.float(), dim=-1).cpu()

        return edit

    edits = [(seam.resid_post(layer), read(layer)) for layer in layers]
    with torch.no_grad(), seam.hooked(model, edits):
        _, prefix = seam.prefill(model, prompts, embeddings=embeddings)
    return ResidualReading(_by_layer(ends, layers), _by_layer(norms, layers)), prefix


def _read_answers(
    model: HookedModel,
    prefix: seam.Prefix,
    tokens: Tensor,
    layers: Sequence[int],
    part: Callable[[Tensor], Tensor],
) -> Tensor:
    """`part` of the stream over the tokens that follow the prefix, [batch, layer, ...]."""
    read: dict[int, Tensor] = {}

    def read_at(layer: int) -> seam.Edit:
        def edit(h: Tensor) -> None:
            read[layer] = part(h).float().cpu()

        return edit

    edits = [(seam.resid_post(layer), read_at(layer)) for layer in layers]
    with torch.no_grad(), seam.hooked(model, edits):
        seam.extend(model, prefix, tokens)
    return _by_layer(read, layers)


def _by_layer(read: Mapping[int, Tensor], layers: Sequence[int]) -> Tensor:
    return torch.stack([read[layer] for layer in layers], dim=1)
