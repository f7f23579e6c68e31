"""Reading the residual stream after blocks, where a prompt or an answer ends."""

from __future__ import annotations

from collections.abc import Sequence
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
    ends: dict[int, Tensor] = {}
    norms: dict[int, Tensor] = {}

    def read_prompt(layer: int) -> seam.Edit:
        def edit(h: Tensor) -> None:
            ends[layer] = h[:, -1].float().cpu()
            norms[layer] = torch.linalg.vector_norm(h.float(), dim=-1).cpu()

        return edit

    def read_answer(layer: int, last: Tensor) -> seam.Edit:
        def edit(h: Tensor) -> None:
            ends[layer] = h[torch.arange(len(h), device=h.device), last.to(h.device)].float().cpu()

        return edit

    edits = [(seam.resid_post(layer), read_prompt(layer)) for layer in layers]
    with torch.no_grad():
        with seam.hooked(model, edits):
            _, prefix = seam.prefill(model, prompts, embeddings=embeddings)
        if answers is not None:
            last = answers.mask.long().sum(dim=-1) - 1
            with seam.hooked(model, [(seam.resid_post(layer), read_answer(layer, last)) for layer in layers]):
                seam.extend(model, prefix, answers.tokens)
    return ResidualReading(
        at_end=torch.stack([ends[layer] for layer in layers], dim=1),
        norms=torch.stack([norms[layer] for layer in layers], dim=1),
    )
