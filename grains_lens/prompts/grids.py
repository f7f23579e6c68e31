"""Which image token shows which part of the image, for known kinds of models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Extent = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the image's width and height: (0, 0, 1, 1) is the whole image."""


@dataclass(frozen=True, eq=False)
class Grid:
    """One view of a picture, row by row: `tokens` [row, col] count the image's own tokens from 0, and `extent`
    says which part of the picture they show."""

    tokens: Int[Tensor, "row col"]
    extent: Extent = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Grids:
    """An image's views, the coarsest first, and how many tokens it has; tokens in no view (a class token, line
    ends) show no part of the picture."""

    views: tuple[Grid, ...]
    n_tokens: int

    def scores(self, scores: Float[Tensor, " token"]) -> Float[Tensor, "row col"]:
        """The image's scores on its finest view; what coarser views of the same part hold is spread evenly over
        the cells they cover, so that nothing is counted twice or lost."""
        finest = self.views[-1]
        total = scores[finest.tokens]
        for view in self.views[:-1]:
            down = _overlap(view.tokens.shape[0], total.shape[0]).to(scores)
            across = _overlap(view.tokens.shape[1], total.shape[1]).to(scores)
            total = total + down @ scores[view.tokens] @ across.T
        return total


def _overlap(coarse: int, fine: int) -> Float[Tensor, "fine coarse"]:
    """The share of each of `coarse` equal segments of a line that lies in each of `fine` segments."""
    low, high = torch.arange(fine) / fine, (torch.arange(fine) + 1) / fine
    left, right = torch.arange(coarse) / coarse, (torch.arange(coarse) + 1) / coarse
    shared = torch.minimum(high[:, None], right) - torch.maximum(low[:, None], left)
    return shared.clamp(min=0) * coarse


def grids_of(
    config: Any,
    image_processor: Any,
    pixels: Mapping[str, Tensor],
    sizes: Sequence[tuple[int, int]],
    n_tokens: int,
) -> tuple[Grids, ...] | None:
    """The grids of images of these sizes (width, height), in order. None if they do not account for all
    `n_tokens` image tokens of the prompt, as for an unknown kind of model."""
    if "image_grid_thw" in pixels:
        merge = config.vision_config.spatial_merge_size
        grids = [_plain(int(h) // merge, int(w) // merge) for _, h, w in pixels["image_grid_thw"]]
    elif "image_sizes" in pixels and getattr(config, "image_grid_pinpoints", None):
        grids = [_tiled(config, pixels["pixel_values"].shape[-1], size) for size in sizes]
    else:
        each = n_tokens // len(sizes)
        rows, cols = _patches(config, pixels)
        if rows * cols not in (each, each - 1):  # Gemma 3 pools its patches
            rows = cols = math.isqrt(each)
        start = 1 if rows * cols == each - 1 else 0  # after a class token
        grids = [_plain(rows, cols, start, _cropped(image_processor, size)) for size in sizes]
    return tuple(grids) if sum(grid.n_tokens for grid in grids) == n_tokens else None


def _patches(config: Any, pixels: Mapping[str, Tensor]) -> tuple[int, int]:
    side = getattr(config.vision_config, "patch_size", None)
    if not isinstance(side, int) or "pixel_values" not in pixels:
        return 0, 0
    height, width = pixels["pixel_values"].shape[-2:]
    return height // side, width // side


def _plain(rows: int, cols: int, start: int = 0, extent: Extent = (0.0, 0.0, 1.0, 1.0)) -> Grids:
    tokens = start + torch.arange(rows * cols).reshape(rows, cols)
    return Grids((Grid(tokens, extent),), start + rows * cols)


def _tiled(config: Any, tile: int, size: tuple[int, int]) -> Grids:
    """The whole image in one tile, then the image in several tiles, whose token rows end in a newline token
    (LLaVA-NeXT, "anyres")."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

    height_width = (size[1], size[0])
    side = tile // config.vision_config.patch_size
    down, across = get_anyres_image_grid_shape(height_width, config.image_grid_pinpoints, tile)
    rows, cols = unpad_image(torch.zeros(1, down * side, across * side), height_width).shape[-2:]
    start = 0 if config.vision_feature_select_strategy == "default" else 1
    base = start + torch.arange(side * side).reshape(side, side)
    tiles = start + side * side + torch.arange(rows * (cols + 1)).reshape(rows, cols + 1)[:, :-1]
    return Grids((Grid(base), Grid(tiles)), start + side * side + rows * (cols + 1))


def _cropped(image_processor: Any, size: tuple[int, int]) -> Extent:
    """The part of an image that remains after scaling its shorter side and cropping the centre (CLIP), or the
    extent of an image that is first padded to a square (LLaVA)."""
    width, height = size
    if getattr(image_processor, "do_pad", False):
        seen_width = seen_height = float(max(size))
    elif getattr(image_processor, "do_center_crop", False):
        target, crop = _as_dict(image_processor.size), _as_dict(image_processor.crop_size)
        if "shortest_edge" in target:
            scale = (target["shortest_edge"] / min(size),) * 2
        else:
            scale = (target["width"] / width, target["height"] / height)
        seen_width, seen_height = crop["width"] / scale[0], crop["height"] / scale[1]
    else:
        return (0.0, 0.0, 1.0, 1.0)
    across, down = seen_width / width, seen_height / height
    return (0.5 - across / 2, 0.5 - down / 2, 0.5 + across / 2, 0.5 + down / 2)


def _as_dict(size: Any) -> dict[str, int]:
    names = ("shortest_edge", "height", "width")
    found = size if isinstance(size, Mapping) else {name: getattr(size, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}
