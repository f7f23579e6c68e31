"""One thread at a time steers a model: hooks belong to the model, and would steer every thread's text."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

_on: WeakKeyDictionary[Any, dict[int, int]] = WeakKeyDictionary()
"""Which steerings are on, by model: the id of each, and of the thread that switched it on."""
_lock = threading.Lock()


def claim(model: Any, who: object) -> None:
    """Note that `who` steers the model from this thread; a RuntimeError if another thread steers it."""
    with _lock:
        on = _on.setdefault(model, {})
        if any(thread != threading.get_ident() for thread in on.values()):
            raise RuntimeError(
                "another thread is steering this model, and its vectors would steer this thread's text too: "
                "wait until it is done, or give each thread a model of its own."
            )
        on[id(who)] = threading.get_ident()


def release(model: Any, who: object) -> None:
    """Note that `who` no longer steers the model."""
    with _lock:
        _on.get(model, {}).pop(id(who), None)
