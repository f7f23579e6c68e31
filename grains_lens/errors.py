"""Errors that name the argument, the value seen and the remedy."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path


class VectorMismatchError(ValueError):
    """Steering vectors and a model that do not belong together."""


class VectorFileError(ValueError):
    """A file that does not hold steering vectors of this library."""


class NotFiniteError(ValueError):
    """A model gives NaN or infinity. `row` is which row of the batch it ran, `named` whether the message says which
    item that is."""

    def __init__(self, message: str, row: int | None = None, *, named: bool = False) -> None:
        super().__init__(message)
        self.row, self.named = row, named


def check_writable(path: Path, argument: str) -> None:
    """OSError where a file cannot be written: better before an hour's work than after it."""
    there = path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(there, os.W_OK) or there.is_dir() == (there == path):
        raise OSError(f"{path} cannot be written, because {there} cannot be: give another {argument}.")


def unknown_name(argument: str, value: object, known: Iterable[object]) -> ValueError:
    """The error for a name nobody knows, with the nearest known one."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{argument}={value!r} is not known; known are {', '.join(map(repr, names))}.{hint}")
