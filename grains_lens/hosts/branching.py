"""Rows of a batch that begin alike, computed once until they part.

A sweep over (layer, strength) cells asks the same prompt many times over, and below the first steered layer
every one of these rows is what the unsteered row is. So a row joins the pass at the block after which it is
first steered: it then begins as a copy of the row it shares its beginning with, the trunk's.
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
    """Whether rows may join a pass late: text models whose hook points nobody else watches.

    A hook of somebody else's would see fewer rows than the batch has. HookedTransformer keeps keys and values
    for one number of rows in all blocks, and positions of images are no [batch, ...] tensors everywhere.
    """
    if is_plain(model) or is_hooked_transformer(model) or getattr(model.cfg, "is_multimodal", False):
        return False
    config = getattr(getattr(model, "original_model", None), "config", None)
    if getattr(config, "model_type", None) in ("bloom", "mpt") or getattr(config, "alibi", False):
        return False  # alibi has a row for each head: [batch · head, ...], or [head, ...]
    return not any(point._forward_hooks for point in hook_points(model).values())


@contextmanager
def branching(model: HookedModel, alive: Sequence[int], trunk: int) -> Iterator[None]:
    """Within it, block l of every pass runs on the batch's first `alive[l]` rows alone.

    `alive` [n_layers + 1] does not decrease, and ends with the batch's size. Row r joins, after the block
    before the first l with r < alive[l], as a copy of row r mod `trunk`; rows below `trunk` are there from
    the start. Hooks at `blocks.{l}.hook_resid_post` that are put on inside see `alive[l + 1]` rows.
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
    """Tensors of the whole batch, cut to the first rows; whatever else is there stays as it is.

    A vector is no batch: transformers numbers positions by one.
    """
    if isinstance(value, Tensor):
        return value[:rows] if value.ndim > 1 and value.shape[0] == batch else value
    if isinstance(value, tuple):
        return tuple(_first_rows(one, batch, rows) for one in value)
    if isinstance(value, dict):
        return {name: _first_rows(one, batch, rows) for name, one in value.items()}
    return value
