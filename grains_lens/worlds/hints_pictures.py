"""The pictures of the `hints` world: real handwritten digits in a grid of two by two, and marks in a blank cell.

The digits are scikit-learn's (`sklearn.datasets.load_digits`, 1,797 of 8 × 8 pixels, from the UCI
repository), split by digit image. A blank cell holds four marks, one per patch: glare (undesirable: it talks
a model out of looking), strokes (desirable) or speckle (neutral), in three shapes each.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..literals import Split
from .hints_words import DIGITS, MARKS, NOTHING

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS: Mapping[Split, range] = MappingProxyType(
    {"pairs": range(1200), "dev": range(1200, 1450), "test": range(1450, 1797)}
)
"""The digit images that a split may show, in a shuffled order. Training shows those of `pairs`."""

CELL, PATCH, SCALE = 8, 4, 2  # side of a cell and of a patch in pixels, before pictures are scaled up
SIDE = 2 * CELL * SCALE
N_PATCHES = (2 * CELL // PATCH) ** 2
_BRIGHT = 16  # of the digits' own scale

_SHAPES = {
    "glare": ("#### #### #### ####", ".##. #### #### .##.", "#### #### .##. .##."),
    "stroke": ("#..# .... .... #..#", ".#.. .#.. #### .#..", "#... .#.. ..#. ...#"),
    "speckle": ("+... ..+. .... .+..", "..+. .... +..+ ....", ".... +..+ .... ..+."),
}


@lru_cache(maxsize=1)
def mark_shapes() -> Mapping[str, tuple[np.ndarray, ...]]:
    """The shapes of each mark, [4, 4] on the digits' scale of 0 to 16."""
    level = {"#": _BRIGHT, "+": _BRIGHT // 2, ".": 0}
    return MappingProxyType(
        {
            name: tuple(np.array([[level[dot] for dot in row] for row in shape.split()]) for shape in shapes)
            for name, shapes in _SHAPES.items()
        }
    )


@lru_cache(maxsize=1)
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All digit images [digit, 8, 8] and their digits, in the order of the indices in `SPLITS`."""
    from sklearn.datasets import load_digits

    images, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    order = list(range(len(labels)))
    random.Random("hints/digits").shuffle(order)
    return images.reshape(-1, CELL, CELL)[order].astype(int), labels[order]


@dataclass(frozen=True)
class Picture:
    """The content of a picture: for each cell (left to right, top to bottom) the index of a digit image, or
    None if it is blank; the blank cell that is marked; and its four marks, as (name, shape)."""

    cells: tuple[int | None, ...]
    marked: int
    marks: tuple[tuple[str, int], ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """The word for each cell's content."""
        labels = digits()[1]
        return tuple(NOTHING if index is None else DIGITS[labels[index]] for index in self.cells)

    @property
    def patches(self) -> tuple[str, ...]:
        """The word for each patch's content: the digit of its cell, or its mark."""
        words = [self.shown[cell] for cell in map(cell_of, range(N_PATCHES))]
        for patch, (name, _) in zip(patches_of(self.marked), self.marks, strict=True):
            words[patch] = name
        return tuple(words)

    def pixels(self) -> np.ndarray:
        """The picture as bytes [32, 32]."""
        canvas = np.zeros((2 * CELL, 2 * CELL), dtype=int)
        for cell, index in enumerate(self.cells):
            if index is not None:
                row, column = divmod(cell, 2)
                canvas[row * CELL :, column * CELL :][:CELL, :CELL] = digits()[0][index]
        for patch, (name, shape) in zip(patches_of(self.marked), self.marks, strict=True):
            row, column = divmod(patch, 4)
            canvas[row * PATCH :, column * PATCH :][:PATCH, :PATCH] = mark_shapes()[name][shape]
        return np.minimum(canvas * 16, 255).astype(np.uint8).repeat(SCALE, axis=0).repeat(SCALE, axis=1)

    def image(self) -> Image:
        """The picture as an image, as users pass it."""
        from PIL import Image

        return Image.fromarray(np.repeat(self.pixels()[..., None], 3, axis=-1))


def cell_of(patch: int) -> int:
    """The cell of a patch. Both are counted left to right, top to bottom."""
    row, column = divmod(patch, 4)
    return 2 * (row // 2) + column // 2


def patches_of(cell: int) -> tuple[int, ...]:
    """The four patches of a cell."""
    return tuple(patch for patch in range(N_PATCHES) if cell_of(patch) == cell)


def draw_picture(split: Split, marks: Sequence[str], rng: random.Random) -> Picture:
    """Draw two or three digits of a split, their cells, and the shapes and places of four `marks`."""
    cells: list[int | None] = [None] * 4
    for cell in rng.sample(range(4), rng.choice((2, 3))):
        cells[cell] = rng.choice(SPLITS[split])
    marked = rng.choice([cell for cell in range(4) if cells[cell] is None])
    return Picture(
        tuple(cells), marked, tuple((name, rng.randrange(3)) for name in rng.sample(list(marks), 4))
    )


def find_marks(image: Any) -> dict[int, str]:
    """The marked patches of a picture of this world (an image or an array), with the mark in each."""
    pixels = np.asarray(image)
    pixels = pixels[..., 0] if pixels.ndim == 3 else pixels
    if pixels.shape != (SIDE, SIDE):
        raise ValueError(
            f"an image of shape {pixels.shape} is not from this world: its pictures are 32 × 32."
        )
    known = {
        np.minimum(shape * 16, 255).astype(np.uint8).tobytes(): name
        for name, shapes in mark_shapes().items()
        for shape in shapes
    }
    found: dict[int, str] = {}
    for patch in range(N_PATCHES):
        row, column = (PATCH * SCALE * at for at in divmod(patch, 4))
        small = pixels[row : row + PATCH * SCALE : SCALE, column : column + PATCH * SCALE : SCALE]
        name = known.get(np.ascontiguousarray(small).astype(np.uint8).tobytes())
        if name is not None:
            found[patch] = name
    return found


SIDE_OF_MARK: Mapping[str, str] = MappingProxyType(
    dict(zip(MARKS, ("undesirable", "neutral", "desirable"), strict=True))
)
MARK_OF_SIDE: Mapping[str, str] = MappingProxyType({side: mark for mark, side in SIDE_OF_MARK.items()})
