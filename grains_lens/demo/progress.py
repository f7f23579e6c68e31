"""Report the demo's progress. Nothing heavy is imported here, so the first line appears at once."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable

WIDTH = 100
"""The width of the printed text, in columns of a terminal."""


class Stages:
    """Announce each stage when it begins, and again if nothing has been printed for `quiet` seconds.

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
        '""Begin a stage.""'
        with self._lock:
            self._begun.append((time.perf_counter(), text))
            self._line(text)

    def seconds(self, *beginnings: str) -> float:
        """The duration of all stages whose text begins with one of these; without arguments, the whole time
        so far."""
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
    """Wrap text to lines of at most `WIDTH` columns. A longer word, such as a path, is not broken."""
    lines = textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)
