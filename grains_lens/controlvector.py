"""Control vectors: the GGUF files that llama.cpp and repeng add to the residual stream.

`general.architecture` is "controlvector", `controlvector.model_hint` a name, `controlvector.layer_count` a
number; the tensors `direction.<l>`, float32 with one dimension, are added after block l, counted from 0, where
l = 0 is not allowed. Other fields are ignored by both programs; ours is `grains_lens.residual_norm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import VectorFileError

ARCHITECTURE = "controlvector"
_HINT, _COUNT = f"{ARCHITECTURE}.model_hint", f"{ARCHITECTURE}.layer_count"
_NORM = "grains_lens.residual_norm"


@dataclass(frozen=True)
class ControlVector:
    """What such a file holds: `directions` by layer, the model's name, and ‖h‖ by layer where it is known."""

    directions: Mapping[int, Tensor]
    model_hint: str
    residual_norm: Mapping[int, float] | None = None


def write(control: ControlVector, path: Path) -> None:
    """Write a control vector; every layer is at least 1."""
    gguf = _gguf()
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), ARCHITECTURE)
    try:
        writer.add_string(_HINT, control.model_hint)
        writer.add_uint32(_COUNT, len(control.directions))
        if control.residual_norm is not None:
            writer.add_array(_NORM, [float(control.residual_norm[layer]) for layer in control.directions])
        for layer, direction in control.directions.items():
            writer.add_tensor(f"direction.{layer}", direction.detach().float().cpu().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def read(path: Path) -> ControlVector:
    """Read a control vector, whoever wrote it.

    Raises FileNotFoundError, or VectorFileError if the file is cut off or holds something else.
    """
    gguf = _gguf()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist (looked in {path.absolute().parent}).")
    try:
        reader = gguf.GGUFReader(str(path))
        architecture = _text(reader, "general.architecture")
        hint = _text(reader, _HINT)
        directions = {
            int(tensor.name.removeprefix("direction.")): torch.from_numpy(tensor.data.copy())
            for tensor in reader.tensors
            if tensor.name.startswith("direction.")
        }
        norms = _numbers(reader, _NORM)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise VectorFileError(f"{path} is not a whole GGUF file ({error}): copy it again.") from error
    if architecture != ARCHITECTURE or not directions:
        raise VectorFileError(
            f"{path} is a GGUF file, but no control vector: its architecture is {architecture!r}, and it holds "
            f"{len(directions)} directions."
        )
    shapes = {tuple(direction.shape) for direction in directions.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise VectorFileError(f"{path} is damaged: its directions have shapes {sorted(shapes)}.")
    residual_norm = dict(zip(directions, norms, strict=True)) if len(norms) == len(directions) else None
    return ControlVector(directions, hint or "unknown", residual_norm)


def _text(reader: Any, name: str) -> str | None:
    field = reader.get_field(name)
    return None if field is None else str(bytes(field.parts[-1]), encoding="utf-8")


def _numbers(reader: Any, name: str) -> list[float]:
    field = reader.get_field(name)
    return [] if field is None else [float(field.parts[index][0]) for index in field.data]


def _gguf() -> Any:
    try:
        import gguf  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            'control vectors need the gguf package: pip install "grains-lens[interop]"'
        ) from error
    return gguf
