"""Prompt embeddings at block 0's input, and what takes the place of a token there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from . import seam
from .errors import unknown_name
from .seam import HookedModel, TokenBatch

Filler = Literal["mask", "unk", "pad", "eos", "mean", "zero"] | int | Tensor
"""What stands in for a token: a name, a token id, or an embedding [d_model].

`"mask"` is the tokenizer's mask or unknown token where it has one of its own (one that is not also its
BOS, EOS or pad, as GPT-2's is), else the vocabulary's mean embedding; `"mean"` is that mean; `"zero"` the
zero vector; `"unk"`, `"pad"` and `"eos"` are those tokens.
"""


@dataclass(frozen=True, eq=False)
class PromptEmbeddings:
    """What enters block 0 for a batch of prompts, float32.

    `stream` [batch, pos, d_model] is the residual stream there, `tokens` the part of it that the token
    embeddings make: the rest is positions (GPT-2) and stays where it is when a token is replaced.
    """

    stream: Float[Tensor, "batch pos d_model"]
    tokens: Float[Tensor, "batch pos d_model"]

    def select(self, rows: Int[Tensor, " row"]) -> PromptEmbeddings:
        """These rows of the batch."""
        return PromptEmbeddings(self.stream[rows], self.tokens[rows])

    def replaced(
        self, filler: Float[Tensor, " d_model"], where: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream with `filler` in place of the tokens marked in `where`."""
        return self.stream + where.to(self.stream.device)[..., None] * (
            filler.to(self.stream.device) - self.tokens
        )


def prompt_embeddings(model: HookedModel, prompts: TokenBatch) -> PromptEmbeddings:
    """Read what the model itself puts into block 0 for these prompts."""
    with torch.no_grad():
        tokens, stream = seam.embed(model, prompts)
    return PromptEmbeddings(stream=stream.float(), tokens=tokens.float())


def filler_embedding(model: HookedModel, filler: Filler, *, argument: str) -> Float[Tensor, " d_model"]:
    """The embedding, at the scale of `hook_embed`, that `filler` names.

    Raises ValueError, naming `argument`, for an unknown name, an id outside the vocabulary, a token the
    tokenizer lacks, or a tensor of another shape.
    """
    d_model = int(model.cfg.d_model)
    if isinstance(filler, Tensor):
        if filler.shape != (d_model,) or not torch.isfinite(filler).all():
            raise ValueError(
                f"{argument} is a tensor of shape {tuple(filler.shape)}; a finite embedding of shape "
                f"({d_model},) is wanted."
            )
        return filler.detach().float()
    if isinstance(filler, int):
        return _token_embedding(model, filler, argument)
    names = get_args(get_args(Filler)[0])
    if filler not in names:
        raise unknown_name(argument, filler, names)
    if filler == "zero":
        return torch.zeros(d_model)
    if filler == "mean":
        return _mean_embedding(model)
    if filler == "mask":
        token = own_mask_token(model.tokenizer)
        return _mean_embedding(model) if token is None else _token_embedding(model, token, argument)
    token = getattr(model.tokenizer, f"{filler}_token_id")
    if token is None:
        raise ValueError(
            f"{argument}={filler!r}, but the tokenizer has no {filler} token: use 'mask', 'mean', or a token id."
        )
    return _token_embedding(model, token, argument)


def own_mask_token(tokenizer: object) -> int | None:
    """The tokenizer's mask or unknown token, unless it also serves as BOS, EOS or pad."""
    taken = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad")}
    for name in ("mask", "unk"):
        token = getattr(tokenizer, f"{name}_token_id", None)
        if token is not None and token not in taken:
            return int(token)
    return None


def _token_embedding(model: HookedModel, token: int, argument: str) -> Float[Tensor, " d_model"]:
    if not 0 <= token < int(model.cfg.d_vocab):
        raise ValueError(
            f"{argument}={token} is no token id: the vocabulary has {model.cfg.d_vocab} of them."
        )
    with torch.no_grad():
        return _embedding_scale(model) * model.W_E[token].detach().float().cpu()


def _mean_embedding(model: HookedModel) -> Float[Tensor, " d_model"]:
    with torch.no_grad():
        return _embedding_scale(model) * model.W_E.detach().float().mean(dim=0).cpu()


def _embedding_scale(model: HookedModel) -> float:
    """How much longer `hook_embed` is than the embedding matrix's rows: Gemma multiplies by √d_model."""
    tokens = torch.tensor([[1, 2, 3]], device=seam.device_of(model))
    with seam.bare(model):
        seen = prompt_embeddings(model, TokenBatch(tokens, torch.ones_like(tokens, dtype=torch.bool))).tokens[
            0
        ]
    rows = model.W_E[tokens[0]].detach().float().to(seen.device)
    scale = float((seen * rows).sum() / (rows * rows).sum())
    if not torch.allclose(seen, scale * rows, rtol=1e-2, atol=1e-3 * float(seen.abs().max())):
        raise ValueError(
            "this model's embeddings are not its embedding matrix times a number, so no token can be put in "
            "another's place: pass the stand-in as a tensor [d_model]."
        )
    return scale
