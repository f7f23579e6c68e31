"""One thread or task at a time uses a model: what is put on it for one would change every other's passes.

Whatever is changed on a model is noted here first, with what puts it back. So what an exception between two
lines of our own leaves behind is known, and is put back when grains_lens is used next.

A pass of the user's own beside a verb, in another thread, cannot be seen. Verbs' hooks act in their own thread
alone, so they leave such a pass as it is; but while a verb runs the model is in eval mode and no parameter asks
for a gradient, so no other thread may train it then. Hooks of the user's act on verbs' passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from ..errors import warn_user

P = ParamSpec("P")


R = TypeVar("R")


class _Use:
    """That a thread (and asyncio's task in it) uses a model: for as long as a function of ours runs, or while
    `holder`, that which steers it, is on. `undo` puts back what it changes, however often it is called."""

    def __init__(
        self, model: Any, undo: Callable[[], None], function: FrameType | None, holder: object
    ) -> None:
        self._model = _weakly(_identity(model))
        self.undo = undo
        self.number = next(_numbers)
        self.thread = threading.current_thread()
        self.task = _weakly(current_task())
        self.function = function
        self._holder = _weakly(holder)

    def is_of(self, model: Any) -> bool:
        return self._model is not None and self._model() is _identity(model)

    @property
    def holder(self) -> Any:
        return None if self._holder is None else self._holder()

    def is_over(self, running: set[int]) -> bool:
        """Whether an exception kept it from being struck out: its function, holder or thread has ended."""
        if self.function is None:
            return self.holder is None
        if self.thread is threading.current_thread():
            return id(self.function) not in running
        return not self.thread.is_alive()

    @property
    def is_of_another(self) -> bool:
        """Whether a thread or task other than this one, which has not ended, uses the model."""
        if self.number in _mine.get():
            return False  # begun here, or around what has started this task
        if self.thread is not threading.current_thread():
            return self.thread.is_alive()
        task = None if self.task is None else self.task()
        return task is not None and not task.done() and task is not current_task()


_uses: list[_Use] = []


_numbers = itertools.count()


_mine: ContextVar[frozenset[int]] = ContextVar("the uses that this code is part of", default=frozenset())


def current_task() -> Any:
    """asyncio's task that is running in this thread, or None."""
    return None if asyncio._get_running_loop() is None else asyncio.current_task()


@contextmanager
def turn(model: Any, undo: Callable[[], None] = lambda: None) -> Iterator[None]:
    """The model is this thread's and task's for the length of the context; then `undo` is called.

    Turns nest. Raises RuntimeError where another thread or task uses the model or steers it.
    """
    sweep()
    use = _Use(model, undo, _function(sys._getframe()), None)
    _note(use, model)
    try:
        yield
    finally:
        noted = use in _uses
        if noted:  # what was put back by others may have been changed anew since then
            undo()
            _strike(use)
    if not noted:
        raise RuntimeError(
            "clear(model) was called while this ran, and took off hooks that it needed: run it again."
        )


def surely(undo: Callable[[], None]) -> None:
    """Call `undo`; where an exception cuts it short, call it once more, and at the latest when we are used next."""
    try:
        use = _Use(None, undo, sys._getframe(), None)
        _uses.append(use)
        undo()
        _strike(use)
    except BaseException:
        undo()
        raise


def takes_a_turn(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb of several steps, its first argument the model, that has the model to itself for all of them."""

    @functools.wraps(verb)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        with turn(args[0] if args else kwargs.get("model")):
            return verb(*args, **kwargs)

    return whole


def claim(model: Any, holder: Any) -> None:
    """Note that `holder` is on, until `release`; a RuntimeError where another thread or task uses the model."""
    sweep()
    if not any(use.holder is holder for use in tuple(_uses)):
        _note(_Use(model, lambda: None, None, holder), model)


def release(holder: Any) -> None:
    """Note that `holder` is off."""
    for use in tuple(_uses):
        if use.holder is holder:
            _strike(use)


def sweep(model: Any = None) -> None:
    """Put back what an exception has left behind, with a warning; of `model`, everything that is noted."""
    if not _uses:
        return
    running, left = _running(), False
    for use in tuple(_uses):
        over = use.is_over(running)
        if over or (model is not None and use.is_of(model)):
            use.undo()
            left |= over and use.function is not None
            _strike(use)
    if left:
        warn_user(
            RuntimeWarning(
                "an interrupted call of grains_lens had left a model changed (a hook, an adapter, or its modes): it "
                "was put back now. What the model computed in between may be wrong."
            )
        )


def _note(use: _Use, model: Any) -> None:
    # Without a lock, which an exception in the wrong place would leave held: of two that come at once, the one
    # that stands earlier in the list has the model, and the other sees it there.
    _uses.append(use)
    earlier = list(itertools.takewhile(lambda other: other is not use, tuple(_uses)))
    for other in earlier:
        if other.is_of(model) and other.is_of_another:
            _strike(use)
            doing = "using" if other.holder is None else "steering"
            who = "thread" if other.thread is not threading.current_thread() else "asyncio task"
            raise RuntimeError(
                f"another {who} is {doing} this model, and what it has put on the model would act here, too: "
                f"wait until it is done, or give each {who} a model of its own. (Where its handle is lost, "
                "grains_lens.clear(model) takes all off.)"
            )
    _mine.set(_mine.get() & {other.number for other in earlier} | {use.number})


def _strike(use: _Use) -> None:
    with contextlib.suppress(ValueError):  # it is struck out already
        _uses.remove(use)
    use.function = None  # it holds what the function does, and this


def _identity(model: Any) -> Any:
    """A bridge and the transformers model inside it are one model."""
    return getattr(model, "original_model", model)


def _weakly(thing: Any) -> Callable[[], Any] | None:
    if thing is None:
        return None
    try:
        return weakref.ref(thing)
    except TypeError:  # no model: the verb will say so
        return lambda: thing


def _function(frame: Any) -> FrameType:
    """The call of a function that a context is in, from the frame of the context itself."""
    while frame.f_code.co_flags & CO_GENERATOR or frame.f_globals.get("__name__") == "contextlib":
        frame = frame.f_back
    return frame


def _running() -> set[int]:
    frame, running = sys._getframe(1), set()
    while frame is not None:
        running.add(id(frame))
        frame = frame.f_back
    return running
