"""Hooks against `torch.compile`: code compiled before a hook came on does not run it, and says nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.RLock()


_on: set[object] = set()


_before: list[Any] = []
"""The stance that was the user's, while ours is taken."""


def run_eagerly(who: object) -> None:
    """Run what is compiled as it was written, until `who` and all others are `done`.

    By default dynamo does not look whether a module has got hooks since it was compiled
    (`torch._dynamo.config.skip_nnmodule_hook_guards`). Nothing has been compiled where it is not yet imported;
    what is compiled while hooks are on has them in it, and is compiled anew when they are gone.
    """
    if "torch._dynamo" not in sys.modules:
        return
    with _alone():
        if not _on:
            _before[:] = [_set_stance("force_eager")]
        _on.add(who)


def run_compiled(who: object) -> None:
    """`who` has no hooks on any more."""
    with _alone():
        if who in _on:
            _on.remove(who)
            if not _on:
                _set_back(_before.pop())


@contextmanager
def _alone() -> Iterator[None]:
    """One thread at a time; but no longer than seconds behind one that an exception, or a fork, kept from ending."""
    held = _lock.acquire(timeout=5)
    try:
        yield
    finally:
        if held:
            _lock.release()


def _set_stance(stance: str) -> Any:
    from torch.compiler import set_stance

    return set_stance(stance)


def _set_back(stance: Any) -> None:
    stance.__exit__(None, None, None)  # it remembers what was before it
