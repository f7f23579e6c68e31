"""Read a saved file: vectors or a tuning, whichever it holds."""

from __future__ import annotations

from pathlib import Path

from ..errors import as_path
from ..vectors.steering_vectors import SteeringVectors
from ..vectors.tensor_files import check_is_file, holds
from ..vectors.vector_files import TUNED
from .tunings import Tuning


def load(path: str | Path) -> SteeringVectors | Tuning:
    """Read a file that `SteeringVectors.save`, `Tuning.save` or `to_gguf` wrote; it says itself which it is.

        with gl.steering(model, gl.load("truthful.safetensors")): ...

    Vectors come back as `SteeringVectors`, which need a `strength` to steer by; a tuning as a `Tuning`, which knows
    it. A control vector in GGUF, of llama.cpp or repeng, too, comes back as vectors.

    Args:
        path: A file that `SteeringVectors.save`, `Tuning.save` or `to_gguf` wrote.

    Raises FileNotFoundError, or VectorFileError if the file is cut off, damaged or holds something else.
    """
    path = as_path(path)
    check_is_file(path)
    with path.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    if is_gguf:
        return SteeringVectors.from_gguf(path)
    return Tuning.load(path) if holds(path, TUNED) else SteeringVectors.load(path)
