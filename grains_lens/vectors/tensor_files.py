"""safetensors files of ours: tensors, metadata that say what they are, and a digest over both.

Nothing in a file is believed before it is checked: every count against the file's size, every name against those
that such a file has. Files without a digest, from before there was one, are read too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import VectorFileError, printable, said
from ..writing import check_extension, write_bytes

DIGEST = "digest"

EXTENSION = ".safetensors"


_MOST_HEADER, _MOST_TENSORS = 32 * 2**20, 10_000


@dataclass(frozen=True)
class FileKind:
    """What a kind of file holds: `format` in its metadata, and the names of its metadata and tensors.

    `holds` and `writer` say in errors what it should hold and who writes such files.
    """

    format: str
    holds: str
    writer: str
    metadata: tuple[str, ...]
    tensors: tuple[str, ...]


def write_tensors(
    path: Path, kind: FileKind, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> None:
    """Write such a file, whole or not at all. Raises ValueError for a name that does not end in .safetensors, and
    OSError where it cannot be written."""
    from safetensors.torch import save

    check_extension(path, EXTENSION)
    known = {"format": kind.format, **metadata}
    held = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(held, {**known, DIGEST: digest(known, held)}))


def read_tensors(path: Path, *kinds: FileKind) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata, with `format` which of the kinds it is, and the tensors of a file of one of these kinds.

    Raises FileNotFoundError, or VectorFileError if the file is cut off, damaged or of another kind.
    """
    check_is_file(path)
    try:
        with path.open("rb") as file:
            header, size = _header(file, path.stat().st_size)
            metadata = _of_kind(header, kinds, path)
            tensors = _tensors(header, file.read(size))
    except VectorFileError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise _not_whole(path, error) from error
    claimed = metadata.pop(DIGEST, None)
    if claimed is not None and claimed != digest(metadata, tensors):
        raise VectorFileError(damaged(path, "its content is not what its digest says"))
    return metadata, tensors


def digest(fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over everything that a file says: fields, and name, type, shape and bytes of every tensor."""
    said = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        said.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        said.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return said.hexdigest()


def parse_json(text: str | bytes) -> Any:
    """What JSON from a file says. Raises ValueError, also where it is nested too deeply or a key comes twice."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_is_file(path: Path) -> None:
    """FileNotFoundError where there is no file to read."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{printable(path)} does not exist (looked in {printable(path.absolute().parent)})."
        )


def damaged(path: Path, why: object) -> str:
    """The sentence for a file that contradicts itself."""
    return f"{printable(path)} is damaged ({said(why)}): copy it again, or make it again."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found


def holds(path: Path, kind: FileKind) -> bool:
    """Whether a file says that it is of this kind; reading it tells whether that is true.

    Raises FileNotFoundError, and VectorFileError for what is no safetensors file.
    """
    check_is_file(path)
    try:
        with path.open("rb") as file:
            header, _ = _header(file, path.stat().st_size)
    except (OSError, ValueError, RecursionError) as error:
        raise _not_whole(path, error) from error
    return header.get("__metadata__", {}).get("format") == kind.format


def _not_whole(path: Path, error: Exception) -> VectorFileError:
    return VectorFileError(
        f"{printable(path)} is not a whole safetensors file ({said(error)}): copy it again, or make it again."
    )


def _header(file: BufferedIOBase, size: int) -> tuple[dict[str, Any], int]:
    """The header, and how many bytes of tensors follow it."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError(f"a header of {length} bytes does not fit into a file of {size}")
    if length > _MOST_HEADER:
        raise ValueError(f"its header has {length} bytes, more than the {_MOST_HEADER} that are read")
    raw = file.read(length)
    # Cheap to count, dear to parse. In our own metadata, quotes are escaped.
    if (n_tensors := raw.count(b'"data_offsets"')) > _MOST_TENSORS:
        raise ValueError(
            f"its header describes {n_tensors} tensors, more than the {_MOST_TENSORS} that are read"
        )
    header = parse_json(raw)
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise ValueError("its header does not describe tensors")
    return header, size - 8 - length


def _of_kind(header: dict[str, Any], kinds: Sequence[FileKind], path: Path) -> dict[str, str]:
    """The metadata, taken out of the header, if they and the tensors' names are of one of these kinds."""
    metadata = header.pop("__metadata__", {})
    kind = next((kind for kind in kinds if kind.format == metadata.get("format")), None)
    if kind is None:
        kind = kinds[0]
        some = ", ".join(sorted(header)[:5]) + (f" and {len(header) - 5} more" if len(header) > 5 else "")
        raise VectorFileError(
            f"{printable(path)} is a safetensors file, but not one of {kind.holds}: it holds "
            f"{said(some or 'nothing')}. Pass a file that {kind.writer} wrote."
        )
    known = {"format", DIGEST, *kind.metadata}
    if unknown := [*(metadata.keys() - known), *(header.keys() - set(kind.tensors))]:
        raise VectorFileError(damaged(path, f"no such file has {min(unknown)!r}"))
    if not all(isinstance(text, str) for text in metadata.values()):
        raise VectorFileError(damaged(path, "its metadata are not text"))
    return metadata


def _tensors(header: Mapping[str, Any], content: bytes) -> dict[str, Tensor]:
    """The tensors, which fill the rest of the file without gap or overlap."""
    found: dict[str, Tensor] = {}
    at = 0
    for name, (begin, end) in sorted(_spans(header, len(content)).items(), key=lambda item: item[1]):
        if begin != at:
            raise ValueError(f"between its tensors there is a gap, or an overlap, at {name}")
        numbers = np.frombuffer(content[begin:end], "<f4").astype(np.float32)
        found[name] = torch.from_numpy(numbers).reshape(header[name]["shape"])
        at = end
    if at != len(content):
        raise ValueError(f"its tensors are {at} bytes, and it holds {len(content)}")
    return found


def _spans(header: Mapping[str, Any], size: int) -> dict[str, tuple[int, int]]:
    """Where each tensor begins and ends."""
    spans = {}
    for name, entry in header.items():
        shape, offsets = (_counts(entry.get(part), size) for part in ("shape", "data_offsets"))
        if entry.get("dtype") != "F32":
            raise ValueError(f"{name} has numbers of type {entry.get('dtype')!r}, and F32 is expected")
        if len(offsets) != 2 or offsets[1] - offsets[0] != 4 * math.prod(shape):
            raise ValueError(f"the shape of {name} is not that of its bytes")
        spans[name] = (offsets[0], offsets[1])
    return spans


def _counts(value: Any, most: int) -> list[int]:
    """A short list of whole numbers from 0 to `most`."""
    if (
        not isinstance(value, list)
        or len(value) > 8
        or not all(type(one) is int and 0 <= one <= most for one in value)
    ):
        raise ValueError(f"{value!r} are not counts")
    return value
