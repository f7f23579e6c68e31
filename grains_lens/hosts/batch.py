"""Batches of token ids, and of the pictures in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Pixels = Mapping[str, Tensor]
"""What a vision tower is given for one prompt's images, by the model's argument names: the first axis of each
tensor runs over the images, or over their patches."""


@dataclass(frozen=True)
class TokenBatch:
    """Token ids and the mask of real tokens: prompts are padded on the left, answers on the right.

    `pixels` has one entry per row, empty for a row without images; it is empty itself where no row has any.
    """

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    pixels: tuple[Pixels, ...] = ()

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def repeat(self, times: int) -> TokenBatch:
        """All rows `times` times over: row r of copy n is row n·len + r."""
        return TokenBatch(self.tokens.repeat(times, 1), self.mask.repeat(times, 1), self.pixels * times)

    def select(self, rows: Int[Tensor, " row"]) -> TokenBatch:
        """These rows alone."""
        pixels = tuple(self.pixels[row] for row in rows.tolist()) if self.pixels else ()
        return TokenBatch(self.tokens[rows], self.mask[rows], pixels)

    def joined_pixels(self) -> dict[str, Tensor]:
        """One batch of all rows' images, in their order, on the tokens' device.

        Tensors of different sizes (images in different numbers of tiles) are filled up with zeros.
        """
        names = dict.fromkeys(name for row in self.pixels for name in row)
        return {
            name: _joined([row[name] for row in self.pixels if name in row]).to(self.tokens.device)
            for name in names
        }


def left_padded(
    rows: Sequence[Sequence[int]], device: torch.device, pixels: Sequence[Pixels] = ()
) -> TokenBatch:
    """Rows of ids that end together, as prompts must."""
    tokens, mask = _padded(rows, device, left=True)
    return TokenBatch(tokens, mask, tuple(pixels) if any(pixels) else ())


def right_padded(rows: Sequence[Sequence[int]], device: torch.device) -> TokenBatch:
    """Rows of ids that begin together, as answers must."""
    return TokenBatch(*_padded(rows, device, left=False))


def _padded(rows: Sequence[Sequence[int]], device: torch.device, *, left: bool) -> tuple[Tensor, Tensor]:
    # Pads are never attended to, so their id is of no consequence: 0 exists in every vocabulary.
    width = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        tokens[index, where] = torch.tensor(row, dtype=torch.long)
        mask[index, where] = True
    return tokens.to(device), mask.to(device)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    inner = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    full = parts[0].new_zeros(sum(len(part) for part in parts), *inner)
    start = 0
    for part in parts:
        full[(slice(start, start + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        start += len(part)
    return full
