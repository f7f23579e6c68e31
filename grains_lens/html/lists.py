"""Lists of results that display their first items in full, and the number of the others."""

from __future__ import annotations

from typing import Any, ClassVar, SupportsIndex, TypeVar, overload

from .markup import Html, escaped

T = TypeVar("T")

_WIDEST = 160
"""The most characters per line in a terminal; longer lines are cut."""


class Results(list[T]):
    """A list that displays its first items one below the other, in a terminal and in a notebook.

    Otherwise it behaves like any list. A slice has the same class and display.
    """

    __slots__ = ()

    _most: ClassVar[int] = 5
    """How many items are shown."""

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> T: ...
    @overload
    def __getitem__(self, index: slice, /) -> Results[T]: ...
    def __getitem__(self, index: Any, /) -> Any:
        found = super().__getitem__(index)
        return type(self)(found) if isinstance(index, slice) else found

    def copy(self) -> Results[T]:
        """A shallow copy of the same class."""
        return type(self)(self)

    def _pieces(self) -> list[str]:
        """The first items as HTML for a notebook."""
        return [item._repr_html_() for item in self[: self._most]]  # pyright: ignore[reportAttributeAccessIssue]

    def __repr__(self) -> str:
        if not self:
            return f"{type(self).__name__}([])"
        lines = [f"[{index}] {item!r}" for index, item in enumerate(self[: self._most])]
        lines = [line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…" for line in lines]
        return "\n".join([f"{type(self).__name__} of {len(self)}:", *lines, *self._left_out()])

    def _repr_html_(self) -> str:
        if not self:
            return escaped(repr(self))
        pieces = [Html(f'<div style="margin:0 0 10px 0">{piece}</div>') for piece in self._pieces()]
        return "".join([*pieces, *(f"<div>{escaped(line)}</div>" for line in self._left_out())])

    def _left_out(self) -> list[str]:
        """A line that says how many items are not shown, and how to show them."""
        left = len(self) - self._most
        end = min(len(self), 2 * self._most)
        return (
            [f"... and {left} more: use a slice such as [{self._most}:{end}] to see others."]
            if left > 0
            else []
        )
