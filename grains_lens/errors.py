"""Errors that name the argument, the value seen and the remedy; warnings that point at the user's own line."""

from __future__ import annotations

import difflib
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType


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


def warn_user(warning: Warning) -> None:
    """Give a warning that points at the line of the user's own code which led to it.

    That is the innermost call that neither this package nor an installed one makes, so that decorators and context
    managers in between do not count. Where all code is installed, it is the innermost call from outside this package.
    """
    outside = [frame for frame in _callers() if not _is_ours(frame)]
    own = [frame for frame in outside if not _is_installed(frame)]
    frame = next(iter(own or outside), sys._getframe())
    warnings.warn_explicit(
        warning,
        type(warning),
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _callers() -> Iterator[FrameType]:
    """The calls under way, the innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == __name__.partition(".")[0]


_INSTALLED = tuple(
    sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def _is_installed(frame: FrameType) -> bool:
    """Whether it is code of Python's own or of an installed package, or code that one of them generates."""
    file = frame.f_code.co_filename
    return file.startswith((*_INSTALLED, "<frozen ", "<@")) or "site-packages" in Path(file).parts
