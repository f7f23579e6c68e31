"""Hooks and `torch.compile`: code compiled before a hook was attached silently skips it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.RLock()


_on: set[object] = set()


_before: list[Any] = []
"""The user's own stance, kept while ours is set."""


def run_eagerly(who: object) -> None:
    """Run compiled code eagerly until `who` and all others have called `run_compiled`.

    By default, dynamo does not check whether a module has gained hooks since it was compiled
    (`torch._dynamo.config.skip_nnmodule_hook_guards`). If dynamo is not imported yet, nothing has been
    compiled. Code that is compiled while hooks are on contains them, and is recompiled when they are gone.
    """
    if "torch._dynamo" not in sys.modules:
        return
    with _alone():
        if not _on:
            _before[:] = [_set_stance("force_eager")]
        _on.add(who)


def run_compiled(who: object) -> None:
    """Note that `who` has removed its hooks."""
    with _alone():
        if who in _on:
            _on.remove(who)
            if not _on:
                _set_back(_before.pop())


@contextmanager
def _alone() -> Iterator[None]:
    """Let one thread in at a time, but wait only seconds for one that an exception or a fork kept from
    finishing."""
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
    stance.__exit__(None, None, None)  # it remembers the stance before it
