"""Errors that name the argument, the value seen and the remedy."""

from __future__ import annotations

import difflib
import operator
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class VectorMismatchError(ValueError):
    """Steering vectors and a model that do not belong together."""


class VectorFileError(ValueError):
    """A file that does not hold steering vectors of this library."""


class NotFiniteError(ValueError):
    """A model gives NaN or infinity, in log-probabilities, gradients or its residual stream.

    `row` is which row of the batch it ran, `named` whether the message says which item that is.
    """

    def __init__(self, message: str, row: int | None = None, *, named: bool = False) -> None:
        super().__init__(message)
        self.row, self.named = row, named


_UNSHOWN = re.compile(
    # C0, DEL and C1 (what steers a terminal), separators of lines, marks that reorder text, halves of surrogate
    # pairs (which no encoding writes), and what XML forbids.
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def printable(text: object, limit: int | None = None, *, keep: str = "") -> str:
    """Foreign text as it may be shown: control characters, marks that reorder text and lone surrogates as escapes
    that can be read (`\\x1b`), cut to `limit` characters with "…". Characters in `keep` stay ("\\n\\t" in a text of
    several lines).

    Of use wherever text from a file, a prompt, a model or a path goes to a terminal, an error, HTML or SVG. `repr`
    escapes the same and more, and is as good where quotes are wanted.
    """
    cut = str(text) if limit is None else str(text)[: limit + 1]
    seen = _UNSHOWN.sub(lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], cut)
    return seen if limit is None or len(seen) <= limit else seen[: limit - 1] + "…"


def seen(value: object, limit: int = 160) -> str:
    """A value as an error shows it: its `repr`, cut to `limit` characters, whatever it is."""
    try:
        return printable(repr(value), limit)
    except Exception:  # Too many digits, nested too deeply, or a class whose repr fails.
        return f"a {type(value).__name__} that cannot be shown"


def said(words: object, limit: int = 200) -> str:
    """What somebody else's error, or a file, says, in one line of at most `limit` characters."""
    return printable(" ".join(str(words)[:1000].split()) or type(words).__name__, limit).rstrip(".")


def unknown_name(argument: str, value: object, known: Iterable[object]) -> ValueError:
    """The error for a name nobody knows, with the nearest known one."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(
        f"{argument}={seen(value)} is not known; known are {', '.join(map(repr, names))}.{hint}"
    )


def kind_of(value: object) -> str:
    """What somebody has given, in a few words: "a World", "the text 'abc'", "a tensor of shape [3]", "None"."""
    if value is None or isinstance(value, bool | int | float):
        return seen(value)
    if isinstance(value, str):
        return f"the text {seen(value, 80)}"
    if isinstance(value, os.PathLike):
        return f"the path {seen(str(value), 80)}"
    kind = type(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if kind.__name__ in ("Tensor", "Parameter", "ndarray"):
        what = "an array" if kind.__name__ == "ndarray" else "a tensor"
        return f"{what} of shape {list(getattr(value, 'shape', ()))}"
    return f"{'an' if kind.__name__[0] in 'AEIOaeio' else 'a'} {kind.__name__}"


def near_path(path: Path) -> str:
    """ " Did you mean ...?" with the entry of the nearest folder there is that is spelled most like it; or nothing."""
    try:
        parent = next(one for one in path.absolute().parents if one.is_dir())
        wanted = path.absolute().relative_to(parent).parts[0]
        near = difflib.get_close_matches(wanted, [one.name for one in parent.iterdir()], n=1, cutoff=0.6)
    except (OSError, ValueError, StopIteration):
        return ""
    return f" Did you mean {seen(os.path.relpath(parent / near[0]), 200)}?" if near else ""


def as_path(value: str | os.PathLike[str], argument: str = "path") -> Path:
    """A path. Raises ValueError, which names `argument`, for what is none."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError(f"{argument} is {kind_of(value)}: give the path of a file.")
    return Path(value)


def all_of(kind: type[T], given: object, argument: str, remedy: str) -> list[T]:
    """Things of one kind as a list; one of them is a list of one. Raises ValueError, which names `argument` and says
    what to give, for anything else."""
    if isinstance(given, kind):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, str) or hasattr(given, "dtype"):
        raise ValueError(f"{argument} is {kind_of(given)}: give {remedy}.")
    some = list(given)
    for index, one in enumerate(some):
        if not isinstance(one, kind):
            raise ValueError(f"{argument}[{index}] is {kind_of(one)} and no {kind.__name__}: give {remedy}.")
    return some


def whole(value: object, argument: str, least: int | None = 1) -> int:
    """A whole number, not below `least`. Raises ValueError, which names `argument`, for anything else."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{argument}={kind_of(value)} must be a whole number.") from None
    if least is not None and number < least:
        raise ValueError(f"{argument}={number} must be at least {least}.")
    return number


def real(value: object, argument: str) -> float:
    """A number. Raises ValueError, which names `argument`, for anything else."""
    if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
        raise ValueError(f"{argument}={kind_of(value)} must be a number.")
    return float(value)  # type: ignore[arg-type]
