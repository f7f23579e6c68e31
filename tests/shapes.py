"""Shapes in annotations are checked while the tests run: in each test, at the first call of each function.

jaxtyping's import hook decorates every function with `jaxtyping.jaxtyped`. Where every call is checked, that takes as
long as all else that the tests do. A function that is called a thousand times in one test, with one model, sees the
same shapes again and again. Classes are left to jaxtyping.
"""

from __future__ import annotations

import functools
import inspect
from types import CodeType
from typing import Any

import jaxtyping

FIRST = 1
"""How many calls of a function are checked in each test."""

_calls: dict[CodeType, int] = {}

# The name makes this look generated, as a type checker's own wrappers do: warnings look past such code for the line of
# the user's that caused them (grains_lens.errors.warn_user).
_WRAPPER = compile(
    """
def first_calls(function, check, calls, code, first):
    checked = None
    def called(*args, **kwargs):
        nonlocal checked
        seen = calls.get(code, 0)
        if seen >= first:
            return function(*args, **kwargs)
        calls[code] = seen + 1
        if checked is None:
            checked = check(function)
        return checked(*args, **kwargs)
    return called
""",
    "<@tests.shapes>",
    "exec",
)
_made: dict[str, Any] = {"__name__": "tests.shapes.generated"}
exec(_WRAPPER, _made)


def check_first_calls() -> None:
    """From now on, `jaxtyping.jaxtyped` checks the first calls of a function in each test."""
    every_call = jaxtyping.jaxtyped

    def jaxtyped(function: Any = None, *, typechecker: Any = None) -> Any:
        if function is None:
            return functools.partial(jaxtyped, typechecker=typechecker)
        if not inspect.isfunction(function):
            return every_call(function, typechecker=typechecker)
        check = functools.partial(every_call, typechecker=typechecker)
        called = _made["first_calls"](function, check, _calls, function.__code__, FIRST)
        return functools.wraps(function)(called)

    jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]


def begin_test() -> None:
    """The next call of every function is a first one again."""
    _calls.clear()
