"""GGUF files: named fields, and named tensors of floats. Every count is checked against the file's size first.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) has a magic number, the version, two
counts, the fields, an entry about each tensor, and the bytes of the tensors, each padded to
`general.alignment`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

MAGIC = b"GGUF"


T = TypeVar("T")


# By the format's type numbers. 7 is a bool, 8 text, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}


_BOOL, _TEXT, _ARRAY = 7, 8, 9


_FLOATS = {0: torch.float32, 1: torch.float16, 28: torch.float64, 30: torch.bfloat16}


_MOST_NESTED = 4


def to_bytes(fields: Mapping[str, str | int | list[float]], tensors: Mapping[str, Tensor]) -> bytes:
    """A file with these fields (text, 32-bit counts, lists of 32-bit floats) and tensors (one-dimensional, as
    float32)."""
    head = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(fields))]
    for name, value in fields.items():
        head += [_text(name), _value(value)]
    blobs = [
        tensor.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes()
        for tensor in tensors.values()
    ]
    offset = 0
    for name, blob in zip(tensors, blobs, strict=True):
        head.append(_text(name) + struct.pack("<IQIQ", 1, len(blob) // 4, 0, offset))
        offset += len(_padded(blob))
    return b"".join([_padded(b"".join(head)), *map(_padded, blobs)])


class Reader:
    """The unread part of a file of `size` bytes. Reading past its end raises ValueError before anything is
    allocated."""

    def __init__(self, file: BufferedIOBase, size: int) -> None:
        self.file, self.left, self.at = file, size, 0

    def take(self, size: int) -> bytes:
        taken = self.file.read(size) if size <= self.left else b""
        if size > self.left or len(taken) < size:
            raise ValueError(f"at byte {self.at} it says that {size} more follow, and {self.left} do")
        self.at, self.left = self.at + size, self.left - size
        return taken

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))
        return value

    def count(self, each: int) -> int:
        """The number of items that follow, each of at least `each` bytes."""
        count = self.number("Q")
        if count * each > self.left:
            raise ValueError(
                f"at byte {self.at - 8} it counts {count}, more than a file of this size can hold"
            )
        return count

    def text(self) -> str:
        return self.take(self.count(1)).decode("utf-8")

    def value(self, depth: int = 0) -> Any:
        return self.values(self.number("I"), 1, depth)[0]

    def values(self, kind: int, count: int, depth: int) -> list[Any]:
        if kind in _SCALARS:
            form = f"<{count}{_SCALARS[kind]}"
            return list(struct.unpack(form, self.take(struct.calcsize(form))))
        if kind == _BOOL:
            flags = list(self.take(count))
            if set(flags) - {0, 1}:
                raise ValueError(f"before byte {self.at} a truth value is neither 0 nor 1")
            return list(map(bool, flags))
        if kind == _TEXT:
            return [self.text() for _ in range(count)]
        if kind == _ARRAY and depth < _MOST_NESTED:
            return [self.values(self.number("I"), self.count(1), depth + 1) for _ in range(count)]
        raise ValueError(f"before byte {self.at} it has a value of type {kind}, which is unknown or too deep")


def read_fields(reader: Reader) -> tuple[dict[str, Any], int]:
    """The fields of a file, and how many tensors follow. Raises ValueError if it ends too early or is no GGUF."""
    if reader.take(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    if (version := reader.number("I")) not in (2, 3):
        raise ValueError(f"it has version {version} of the format; 2 and 3 are read")
    n_tensors, n_fields = reader.count(24), reader.count(13)
    return _named(n_fields, "field", lambda: (reader.text(), reader.value())), n_tensors


def tensors_of(reader: Reader, fields: Mapping[str, Any], n_tensors: int) -> dict[str, Tensor]:
    """The tensors that follow the fields, as float32.

    They must follow one another as their entries say, with only zeros between and after them. Raises
    ValueError if not, and for tensors that are quantised or have more than one dimension.
    """
    about = _named(n_tensors, "tensor", lambda: (reader.text(), _About.read(reader)))
    alignment = fields.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment={alignment!r} is not a power of two from 8 up")
    reader.take(-reader.at % alignment)
    start, found = reader.at, {}
    for name, one in about.items():
        if one.offset != reader.at - start:
            raise ValueError(f"{name} begins at {one.offset}, and those before it end at {reader.at - start}")
        dtype = _FLOATS[one.kind]
        raw = np.frombuffer(reader.take(one.size * dtype.itemsize), np.uint8).copy()
        found[name] = torch.from_numpy(raw).view(dtype).float()
        # The padding of the last one may be missing.
        if any(reader.take(min(-reader.at % alignment, reader.left))):
            raise ValueError(f"{name} is followed by bytes that belong to nothing")
    if reader.left:
        raise ValueError(f"{reader.left} bytes at its end belong to nothing")
    return found


@dataclass(frozen=True)
class _About:
    '""The entry about a tensor.""'

    size: int
    kind: int
    offset: int

    @classmethod
    def read(cls, reader: Reader) -> _About:
        if (n_dims := reader.number("I")) != 1:
            raise ValueError(f"a tensor has {n_dims} dimensions, and a direction has one")
        about = cls(reader.number("Q"), reader.number("I"), reader.number("Q"))
        if about.kind not in _FLOATS:
            raise ValueError(
                f"a tensor has GGML type {about.kind}, which is quantised or not of floats: write it as F32, which "
                "is also all that llama.cpp takes"
            )
        return about


def _named(count: int, what: str, read: Callable[[], tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for _ in range(count):
        name, value = read()
        if name in found:
            raise ValueError(f"the {what} {name!r} comes twice")
        found[name] = value
    return found


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: str | int | list[float]) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _TEXT) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    return struct.pack(f"<IIQ{len(value)}f", _ARRAY, 6, len(value), *value)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 32)
