"""Control vectors: GGUF files with directions that llama.cpp and repeng add to the residual stream.

`general.architecture` is "controlvector", `controlvector.model_hint` a name, `controlvector.layer_count` a
number; the tensors `direction.<l>`, float32 with one dimension, are added after block l, counted from 0,
where l = 0 is not allowed. Both programs ignore other fields. Ours are `grains_lens.residual_norm` and
`grains_lens.digest`, a digest of the file's whole content. Files from other programs have none; they are
checked for contradictions.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import VectorFileError, printable, said
from ..writing import check_extension, write_bytes
from .gguf import Reader, read_fields, tensors_of, to_bytes
from .provenance import Provenance
from .tensor_files import check_is_file, damaged, digest

ARCHITECTURE = "controlvector"


_HINT, _COUNT = f"{ARCHITECTURE}.model_hint", f"{ARCHITECTURE}.layer_count"


_OURS = "grains_lens."


_NORM, _DIGEST = f"{_OURS}residual_norm", f"{_OURS}digest"


# The fields of our files before there was a digest.
_BEFORE = {"general.architecture", _HINT, _COUNT, _NORM}


_NAME = re.compile(r"direction\.(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True)
class ControlVector:
    """The content of such a file: `directions` by layer, the model's name, and ‖h‖ by layer if known."""

    directions: Mapping[int, Tensor]
    model_hint: str
    residual_norm: Mapping[int, float] | None = None


def write(control: ControlVector, path: Path) -> None:
    """Write a control vector, whole or not at all; every layer is at least 1.

    Raises ValueError for a name that does not end in .gguf, and OSError if the file cannot be written.
    """
    check_extension(path, ".gguf")
    fields: dict[str, Any] = {
        "general.architecture": ARCHITECTURE,
        _HINT: control.model_hint,
        _COUNT: len(control.directions),
    }
    if control.residual_norm is not None:
        fields[_NORM] = [float(control.residual_norm[layer]) for layer in control.directions]
    tensors = {f"direction.{layer}": direction for layer, direction in control.directions.items()}
    # The digest covers the numbers as a reader gets them, after rounding to 32 bits.
    content = to_bytes(fields, tensors)
    reader = Reader(io.BytesIO(content), len(content))
    read, n_tensors = read_fields(reader)
    fields[_DIGEST] = _digest(read, tensors_of(reader, read, n_tensors))
    write_bytes(path, to_bytes(fields, tensors))


def read(path: Path) -> ControlVector:
    """Read a control vector from any program.

    Raises FileNotFoundError, or VectorFileError if the file is cut off, damaged or holds something else.
    """
    check_is_file(path)
    try:
        with path.open("rb") as file:
            reader = Reader(file, path.stat().st_size)
            fields, n_tensors = read_fields(reader)
            architecture = fields.get("general.architecture")
            if architecture != ARCHITECTURE or not n_tensors:
                raise VectorFileError(
                    f"{printable(path)} is a GGUF file, but no control vector: its architecture is "
                    f"{said(repr(architecture))}, and it holds {n_tensors} tensors."
                )
            tensors = tensors_of(reader, fields, n_tensors)
    except VectorFileError:
        raise
    except (OSError, ValueError) as error:
        raise VectorFileError(
            f"{printable(path)} is not a whole GGUF file ({said(error)}): copy it again, or make it again."
        ) from error
    if why := _contradiction(fields, tensors):
        raise VectorFileError(damaged(path, why))
    directions = {int(name.removeprefix("direction.")): tensor for name, tensor in tensors.items()}
    norms = dict(zip(directions, fields[_NORM], strict=True)) if _NORM in fields else None
    return ControlVector(directions, fields.get(_HINT, "unknown"), norms)


def _contradiction(fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    """Why this cannot be what was written, or None if nothing shows it."""
    if any(name.startswith(_OURS) for name in fields):
        if _DIGEST in fields and fields[_DIGEST] != _digest(fields, tensors):
            return "its content is not what its digest says"
        if _DIGEST not in fields and fields.keys() != _BEFORE:
            return f"it is one of ours, and lacks {_DIGEST}"
    if not isinstance(fields.get(_HINT, ""), str):
        return f"{_HINT} is not text"
    if unknown := [name for name in tensors if not _NAME.fullmatch(name)]:
        return f"a tensor is called {unknown[0]!r}, and directions are called direction.<layer>"
    if len({len(tensor) for tensor in tensors.values()}) > 1:
        return f"its directions have lengths {sorted({len(tensor) for tensor in tensors.values()})}"
    # Other writers store the model's number of layers here, which may be larger.
    count = fields.get(_COUNT, len(tensors))
    if type(count) is not int or count < len(tensors):
        return f"{_COUNT} is {count!r}, and it holds {len(tensors)} directions"
    norms = fields.get(_NORM, [0.0] * len(tensors))
    if (
        not isinstance(norms, list)
        or len(norms) != len(tensors)
        or not all(isinstance(one, float) for one in norms)
    ):
        return f"{_NORM} is not one number per direction"
    return None


def _digest(fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    return digest({name: value for name, value in fields.items() if name != _DIGEST}, tensors)


def model_type(made: Provenance) -> str:
    """What repeng calls the model; as near as the name of its class comes."""
    if made.model is None:
        return str(made.settings.get("model_hint", "unknown"))
    name = made.model.architecture
    for ending in ("ForConditionalGeneration", "ForCausalLM", "LMHeadModel"):
        name = name.removesuffix(ending)
    return name.lower()
