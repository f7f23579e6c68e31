"""The input of a forward pass: which tokens are new, which are real, and how many are in a cache."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Pass:
    """The input of a forward pass. `content` [batch, new, ...] holds the ids or embeddings of the new tokens.
    `mask` [batch, past + new] is True at real tokens; it is None if there is none, and unchanged if it has
    another form. `past` is the number of positions that come from a cache; `caching` says whether this pass
    fills one."""

    content: Tensor
    mask: Any
    past: int
    caching: bool


def pass_into_block(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass:
    """The pass, from the arguments of a HookedTransformer's first block."""
    stream = args[0] if args else kwargs["resid_pre"]
    entry = kwargs.get("past_kv_cache_entry")
    past = 0 if entry is None else entry.past_keys.shape[1]
    return _pass(stream, kwargs.get("attention_mask"), past, entry is not None)


def pass_into_model(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass:
    """The pass, from the arguments of a transformers model."""
    if args:
        kwargs = {**inspect.signature(module.forward).bind_partial(*args).arguments, **kwargs}
    content = kwargs.get("input_ids")
    content = kwargs.get("inputs_embeds") if content is None else content
    if content is None:
        raise ValueError(
            "the model was called without input_ids or inputs_embeds: pass one of them, which steering needs."
        )
    cache = kwargs.get("past_key_values")
    past = 0 if cache is None else int(cache.get_seq_length())
    return _pass(
        content, kwargs.get("attention_mask"), past, cache is not None or bool(kwargs.get("use_cache"))
    )


def _pass(content: Tensor, mask: Any, past: int, caching: bool) -> Pass:
    if isinstance(mask, Tensor) and mask.ndim == 2:
        mask, new = mask.bool(), content.shape[1]
        if mask.shape[1] == new:  # for the new tokens only
            mask = torch.cat([mask.new_ones(mask.shape[0], past), mask], dim=-1)
        mask = mask[:, : past + new]
    return Pass(content, mask, past, caching)


def prefill_is_chunked() -> bool:
    """Whether transformers' `generate` is running a prompt in pieces (`prefill_chunk_size`) in this thread.

    A piece looks like a continuation: tokens that follow others in a cache. Only the caller can tell the two
    apart.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_prefill" and "generation_config" in frame.f_locals:
            size = getattr(frame.f_locals["generation_config"], "prefill_chunk_size", None)
            ids = frame.f_locals.get("input_ids")
            return size is not None and (ids is None or size < ids.shape[1])
        frame = frame.f_back
    return False
