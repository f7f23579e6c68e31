"""Errors that name the argument, the value seen and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VectorMismatchError(ValueError):
    """Steering vectors and a model that do not belong together."""


class VectorFileError(ValueError):
    """A file that does not hold steering vectors of this library."""


def unknown_name(argument: str, value: object, known: Iterable[object]) -> ValueError:
    """The error for a name nobody knows, with the nearest known one."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{argument}={value!r} is not known; known are {', '.join(map(repr, names))}.{hint}")
