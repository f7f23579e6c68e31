"""Rows of a batch that start out identical are computed once until they differ.

A sweep over (layer, strength) cells runs the same prompt many times. Below its first steered layer, each of
these rows equals the unsteered row. So a row joins the pass only after the block where it is first steered,
as a copy of the row it has been identical to so far: a row of the trunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .hooks import attached
from .kinds import is_hooked_transformer, is_plain
from .model import HookedModel
from .points import Edit, edited, hook_points, resid_post


def can_branch(model: HookedModel) -> bool:
    """Whether rows may join a pass late: true for text models if nobody else has hooks at their hook points.

    Somebody else's hook would see fewer rows than the batch has. HookedTransformer needs the same number of
    rows in the keys and values of all blocks, and the positions of image tokens are not always [batch, ...]
    tensors.
    """
    if is_plain(model) or is_hooked_transformer(model) or getattr(model.cfg, "is_multimodal", False):
        return False
    config = getattr(getattr(model, "original_model", None), "config", None)
    if getattr(config, "model_type", None) in ("bloom", "mpt") or getattr(config, "alibi", False):
        return False  # alibi has a row for each head: [batch · head, ...], or [head, ...]
    return not any(point._forward_hooks for point in hook_points(model).values())


@contextmanager
def branching(model: HookedModel, alive: Sequence[int], trunk: int) -> Iterator[None]:
    """Inside this context, block l of every pass runs only on the batch's first `alive[l]` rows.

    `alive` [n_layers + 1] never decreases, and its last value is the batch size. Let l be the first block
    with r < alive[l]: row r joins just before block l, as a copy of row r mod `trunk`. Rows below `trunk` are
    there from the start. Hooks attached inside the context at `blocks.{l}.hook_resid_post` see `alive[l + 1]`
    rows.
    """
    blocks = list(model.blocks)
    if len(alive) != len(blocks) + 1 or list(alive) != sorted(alive) or alive[0] < trunk:
        raise ValueError(
            f"alive={list(alive)!r} must name, for each of {len(blocks)} blocks and the end, no fewer rows than "
            f"before, and at least trunk={trunk}."
        )
    batch = alive[-1]

    def narrow(rows: int) -> Any:
        def pre_hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return _first_rows(args, batch, rows), _first_rows(kwargs, batch, rows)

        return pre_hook

    def join(before: int, after: int) -> Edit:
        def edit(h: Tensor) -> Tensor:
            return h[[*range(before), *(row % trunk for row in range(before, after))]]

        return edit

    joins = [
        (resid_post(layer), join(alive[layer], alive[layer + 1]))
        for layer in range(len(blocks))
        if alive[layer + 1] > alive[layer]
    ]
    narrowed = [
        (block, narrow(rows), True) for block, rows in zip(blocks, alive, strict=False) if rows < batch
    ]
    with attached(model, narrowed), edited(model, joins):
        yield


def _first_rows(value: Any, batch: int, rows: int) -> Any:
    """Cut tensors of the whole batch to the first rows; leave everything else as it is.

    One-dimensional tensors are left alone, because transformers passes positions as one.
    """
    if isinstance(value, Tensor):
        return value[:rows] if value.ndim > 1 and value.shape[0] == batch else value
    if isinstance(value, tuple):
        return tuple(_first_rows(one, batch, rows) for one in value)
    if isinstance(value, dict):
        return {name: _first_rows(one, batch, rows) for name, one in value.items()}
    return value
