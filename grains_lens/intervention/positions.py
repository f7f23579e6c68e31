"""At which positions of a forward pass a residual stream is steered.

Positions count a row's real tokens from 0, so that padding on either side, a cache and the order of beams
change nothing. The input of a pass (`Pass` in hosts/entry.py) is read when it begins.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, get_args
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import seen, unknown_name
from ..hosts.entry import Pass, prefill_is_chunked
from ..hosts.ownership import current_task
from ..literals import PositionsName

Positions = PositionsName | int | Sequence[int]
"""Where to steer.

`"all"` every token; `"prompt"` the prompt's; `"new"` those that follow the prompt; `"last"` the prompt's last
token and those that follow it, each of them the last one in its turn as a text is written; or the numbers of
tokens (or one number), counted from 0 at a row's first real one, and from −1 backwards at the prompt's last.
"""


def check_positions(positions: Positions) -> PositionsName | tuple[int, ...]:
    """`positions` as an immutable value. Raises ValueError for anything else."""
    if isinstance(positions, str):
        if positions not in get_args(PositionsName):
            raise unknown_name("positions", positions, get_args(PositionsName))
        return positions
    try:
        one = getattr(positions, "ndim", int(not isinstance(positions, SupportsIndex))) == 0
        numbers = tuple(operator.index(number) for number in ([positions] if one else positions))  # type: ignore[union-attr]
    except TypeError:
        numbers = ()
    if not numbers:
        raise ValueError(
            f"positions={seen(positions)} must be one of {get_args(PositionsName)} or integers, one at least."
        )
    return numbers


@dataclass
class _Text:
    """The prompt at the start of a text, [batch, pos, ...], and the number of columns of the previous
    pass."""

    prompt: Tensor | None = None
    width: int = 0


class Scope(threading.local):
    """Where to steer in the pass that runs in this thread. Each asyncio task has its own texts.

    A pass that takes keys and values from a cache continues a prompt. So does a pass without a cache that
    repeats the tokens of the previous pass with one more in each row, which is how text is generated without
    a cache. Any other pass is a prompt. With `joining`, later rows of a batch may join the pass on the way.
    """

    def __init__(self, positions: Positions, *, joining: bool = False) -> None:
        self.positions: PositionsName | tuple[int, ...] = check_positions(positions)
        self._joining = joining
        self.forget()

    def forget(self) -> None:
        """Forget the prompt, as at the start."""
        self._text = _Text()
        self._texts: WeakKeyDictionary[Any, _Text] = WeakKeyDictionary()
        self._begun = False
        self._where: Bool[Tensor, "batch pos"] | None = None
        self.nowhere = False
        self.openness: Float[Tensor, "batch pos"] | None = None
        """The decision of a gate in this pass."""

    def begin(self, this: Pass) -> None:
        '""Register the start of a pass.""'
        total = this.past + this.content.shape[1]
        mask = this.mask
        if self.positions != "all" and prefill_is_chunked():
            raise ValueError(
                f"positions={self.positions!r} cannot be told where generate(prefill_chunk_size=...) runs a prompt "
                "in pieces: leave that out, or steer at positions='all'."
            )
        if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2):
            if self.positions != "all":
                found = str(tuple(mask.shape)) if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
                raise ValueError(
                    f"positions={self.positions!r} needs an attention mask of shape [batch, pos], not {found}, to "
                    "know which token is which: steer at positions='all', or leave out "
                    "cache_implementation='static', which makes other masks."
                )
            mask = None
        if mask is not None and bool(mask.all()):
            mask = None  # no pads
        self._begun = True
        if self.positions == "all":
            self._where = None if mask is None else mask[:, this.past :]
            return
        n_prompt = self._follow(this)
        if mask is None and not isinstance(self.positions, tuple):
            # All rows are alike, and a token's number is its column. This runs once per token, so it avoids
            # tensors.
            first, end = _span(self.positions, n_prompt)
            self.nowhere, self._where = total <= first or end <= this.past, None
            if self.nowhere or (first <= this.past and total <= end):
                return
        if mask is None:
            mask = torch.ones(this.content.shape[0], total, dtype=torch.bool, device=this.content.device)
        number = mask.long().cumsum(dim=-1)[:, this.past :] - 1
        prompt = mask[:, :n_prompt].sum(dim=-1, keepdim=True)
        where = mask[:, this.past :] & self._chosen(number, prompt)
        self.nowhere = not bool(where.any())
        self._where = None if bool(where.all()) else where

    def here(self, h: Tensor) -> Bool[Tensor, "batch pos"] | None:
        """Which positions of h [batch, pos, d_model] are to be steered; None if all are."""
        if not self._begun and self.positions != "all":
            raise RuntimeError(
                f"positions={self.positions!r}: this pass began before it could be seen; run the whole model."
            )
        where = self._where
        if where is not None and self._joining:
            where = where[: len(h)]
        if where is not None and where.shape != h.shape[:2]:
            raise RuntimeError(
                f"the residual stream has shape {tuple(h.shape)}, but the pass began with batch and pos "
                f"{tuple(where.shape)}: run the whole model, or steer at positions='all'."
            )
        return None if where is None else where.to(h.device)

    def _follow(self, this: Pass) -> int:
        """The number of columns of this pass that belong to the prompt."""
        task = current_task()
        text = self._text if task is None else self._texts.setdefault(task, _Text())
        if this.past:
            return this.past if text.prompt is None else min(text.prompt.shape[1], this.past)
        if text.prompt is None or this.caching or not _continues(this.content, text.prompt, text.width):
            # A copy: the caller may write into its own.
            text.prompt = this.content.detach().clone()
        text.width = this.content.shape[1]
        return text.prompt.shape[1]

    def _chosen(self, number: Tensor, prompt: Tensor) -> Tensor:
        if not isinstance(self.positions, tuple):
            first, end = _span(self.positions, prompt)
            return (number >= first) & (number < end)
        chosen = torch.zeros_like(number, dtype=torch.bool)
        for position in self.positions:
            chosen |= number == (position if position >= 0 else prompt + position)
        return chosen


def _continues(content: Tensor, prompt: Tensor, width: int) -> bool:
    return (
        content.shape[1] == width + 1
        and content.shape[0] == prompt.shape[0]
        and content.shape[2:] == prompt.shape[2:]
        and torch.equal(content[:, : prompt.shape[1]], prompt)
    )


def _span(positions: PositionsName, prompt: Any) -> tuple[Any, Any]:
    """The first token number to steer and the one after the last, given the number of prompt tokens."""
    ends = {"prompt": (0, prompt), "new": (prompt, math.inf), "last": (prompt - 1, math.inf)}
    return ends.get(positions, (0, math.inf))
