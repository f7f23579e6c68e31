"""What the demo is doing, said while it does it. Nothing heavy is imported here: the first line comes at once."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable

WIDTH = 100
"""Columns of a terminal that what is printed fits."""


class Stages:
    """Says each stage as it begins, and that it still lasts where nothing has been said for `quiet` seconds.

    A context manager: `with Stages(print) as stage: stage("loading the model")`.
    """

    def __init__(self, say: Callable[[str], None], quiet: float = 4.0) -> None:
        self._say, self._quiet = say, quiet
        self._begun: list[tuple[float, str]] = []
        self._start = self._said = time.perf_counter()
        self._over, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="demo")

    def __enter__(self) -> Stages:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def __call__(self, text: str) -> None:
        """A stage begins."""
        with self._lock:
            self._begun.append((time.perf_counter(), text))
            self._line(text)

    def seconds(self, *beginnings: str) -> float:
        """How long the stages have taken whose text begins so; without any, all that has passed."""
        now = time.perf_counter()
        if not beginnings:
            return now - self._start
        ends = [at for at, _ in self._begun[1:]] + [now]
        lasted = zip(self._begun, ends, strict=True)
        return sum(end - at for (at, text), end in lasted if text.startswith(beginnings))

    def _watch(self) -> None:
        while not self._over.wait(self._quiet / 20):
            with self._lock:
                if self._begun and time.perf_counter() - self._said >= self._quiet:
                    self._line(f"... still {self._begun[-1][1]}")

    def _line(self, text: str) -> None:
        self._said = time.perf_counter()
        self._say(wrapped(f"[{self.seconds():5.1f} s] {text}", "          "))


def wrapped(text: str, indent: str = "") -> str:
    """Text in lines of at most `WIDTH` columns; a longer word, such as a path, stays whole."""
    lines = textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)
