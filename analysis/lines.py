"""Lines of a run file: strict JSON, checked before use, because anybody may have written the file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

FORMAT = 1
LONGEST_REASON = 200
"""The most characters that a message quotes from a refused value."""
_BEGUN = {"revision": str, "versions": dict, "date": str}
_HEADER = {"study": str, "settings": dict, **_BEGUN}


def parse(line: bytes, where: str) -> dict[str, Any]:
    """Parse the object in a line. `where` names file and line.

    Raises ValueError for anything but a JSON object, and for content that JSON readers treat differently: NaN
    and infinities, numbers beyond 64 bits, repeated keys, lone surrogates, very deep nesting.
    """
    try:
        value = json.loads(
            line.decode(),
            object_pairs_hook=_once,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_integer,
        )
        if b"\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(_damaged(where, "it is nested too deeply")) from None
    except ValueError as error:
        raise ValueError(_damaged(where, error)) from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}, is not a line of a run: it holds no object.")
    return value


def check(values: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Check that these are the lines of a run, given as (where, line), header first. Raises ValueError,
    naming the line."""
    (where, header), *rest = values
    _fields(header, _HEADER, where)
    wanted = header.get("cells", 0)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
        raise ValueError(_damaged(where, f"cells={_short(wanted)} is not a number of cells"))
    seen: dict[str, str] = {}
    for where, line in rest:
        if "resumed" in line:
            _fields(line, {"resumed": dict}, where)
            _fields(line["resumed"], _BEGUN, where)
        elif "cell" in line:
            _fields(line, {"cell": dict, "rows": list}, where)
            for flat in (line["cell"], *line["rows"]):
                _flat(flat, where)
            name = json.dumps(line["cell"], sort_keys=True)
            if name in seen:
                raise ValueError(_damaged(where, f"it holds the same cell as {seen[name]}"))
            seen[name] = where
        else:
            raise ValueError(f"{where}, is not a line of a run: it holds neither a cell nor a resumption.")


def _fields(value: Mapping[str, Any], wanted: Mapping[str, type], where: str) -> None:
    for name, kind in wanted.items():
        if not isinstance(value.get(name), kind):
            found = _short(value[name]) if name in value else "missing"
            raise ValueError(_damaged(where, f"{name} must be of type {kind.__name__}, and is {found}"))


def _flat(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(_damaged(where, f"a row is {_short(value)}, not an object"))
    for name, one in value.items():
        if not isinstance(one, str | int | float | None):
            raise ValueError(_damaged(where, f"{_short(name)} is neither text nor a number: {_short(one)}"))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {_short(twice)} occurs twice")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{_short(text)} is not a finite number")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**63:
        raise ValueError(f"a whole number of {len(text)} characters is beyond 64 bits")
    return value


def _damaged(where: str, reason: object) -> str:
    return f"{where}, is damaged: {str(reason)[:LONGEST_REASON]}. Restore the file, or remove it."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
