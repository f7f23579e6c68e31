"""A command line that cannot be understood is one sentence, as every other error is."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_RULE = re.compile(r"[─━═]{3,}")
_FRAME = re.compile(r"[│┃╭╮╰╯]")


def in_one_line(parse: Callable[[], T], program: str) -> T:
    """What `parse` gives. Where it ends the program with status 2, what it complains of in a box goes to standard error
    in one line, after the program's name."""
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            return parse()
    except SystemExit as end:
        if end.code == 2:
            print(f"{program}: {_without_box(heard.getvalue())}", file=sys.stderr)
        else:
            sys.stderr.write(heard.getvalue())
        raise


def _without_box(text: str) -> str:
    """The sentences in a box, one after the other; its title says nothing that they do not say."""
    lines = [_FRAME.sub("", line).strip() for line in text.splitlines()]
    bodies = [line for line in lines if not re.search(r"^─ .* ─|─{3,}$", line) or _RULE.fullmatch(line)]
    parts = [" ".join(part.split()) for part in _RULE.split(" ".join(bodies))]
    said = "; ".join(part for part in parts if part) or "the command line cannot be understood"
    return re.sub(r"For full helptext, (see|run):? *", "for help, run ", said)
