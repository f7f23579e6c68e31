"""What the library learns from and is judged on: preference pairs and multiple-choice questions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import unknown_name


@dataclass(frozen=True)
class PreferencePair:
    """A prompt x with a chosen answer y⁺ and a rejected one y⁻ (field names as in TRL).

    `images` are paths, PIL images or arrays, in the order of the prompt's placeholders.
    Raises ValueError if an answer is empty or the two are the same.
    """

    prompt: str
    chosen: str
    rejected: str
    images: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        for name in ("prompt", "chosen", "rejected"):
            _check_text(name, getattr(self, name))
        if self.chosen.strip() == self.rejected.strip():
            raise ValueError(
                f"chosen and rejected are the same answer, {self.chosen!r}: a pair needs two different ones."
            )
        object.__setattr__(self, "images", tuple(self.images))


@dataclass(frozen=True)
class MultipleChoice:
    """One evaluation question: `choices[label]` is the right answer.

    Raises ValueError if there are fewer than two choices, an empty one, or no choice at `label`.
    """

    prompt: str
    choices: tuple[str, ...]
    label: int
    images: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        object.__setattr__(self, "images", tuple(self.images))
        _check_text("prompt", self.prompt)
        for choice in self.choices:
            _check_text("choices", choice)
        if len(self.choices) < 2:
            raise ValueError(f"choices={list(self.choices)!r}: a question needs at least two.")
        if isinstance(self.label, bool) or not isinstance(self.label, int):
            raise ValueError(f"label={self.label!r} must be the index of the right choice, a whole number.")
        if not 0 <= self.label < len(self.choices):
            raise ValueError(
                f"label={self.label} is no index into the {len(self.choices)} choices; "
                f"it counts from 0 to {len(self.choices) - 1}."
            )


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(
            f"{name} must be text, but is {value!r}; "
            "render chat messages with the tokenizer's chat template first."
        )
    if not value.strip():
        raise ValueError(f"{name} is empty; there is nothing to score.")


def load_pairs(
    source: str | Path | Iterable[Mapping[str, Any]], *, columns: Mapping[str, str] | None = None
) -> list[PreferencePair]:
    """Read preference pairs from JSONL, JSON, CSV or parquet, or from any iterable of rows.

    Each row has `prompt`, `chosen`, `rejected` and, maybe, `images` (a list, or one image) or `image`.
    `columns` maps these names to the source's own, as in `columns={"prompt": "question"}`. A Hugging Face
    `datasets.Dataset` is an iterable of rows. Answers in TRL's conversational form,
    `[{"role": ..., "content": ...}]`, are taken by the content of their last message.

    Raises ValueError naming the row and the column that is missing, empty or wrong.
    """
    return [
        _make(PreferencePair, where, {
            "prompt": _text(_column(row, "prompt", columns, where)),
            "chosen": _text(_column(row, "chosen", columns, where)),
            "rejected": _text(_column(row, "rejected", columns, where)),
            "images": _images(row, columns),
        })
        for where, row in _rows(source)
    ]  # fmt: skip


def load_questions(
    source: str | Path | Iterable[Mapping[str, Any]], *, columns: Mapping[str, str] | None = None
) -> list[MultipleChoice]:
    """Read multiple-choice questions from JSONL, JSON, CSV or parquet, or from any iterable of rows.

    Each row has `prompt`, `choices` (a list; in CSV its JSON) and `label`, the index of the right choice,
    counted from 0. `columns` maps these names to the source's own, as in
    `columns={"prompt": "question", "label": "answer"}` (MMLU).

    Raises ValueError naming the row and the column that is missing, empty or wrong.
    """
    return [
        _make(MultipleChoice, where, {
            "prompt": _text(_column(row, "prompt", columns, where)),
            "choices": _choices(_column(row, "choices", columns, where), where),
            "label": _index(_column(row, "label", columns, where), where),
            "images": _images(row, columns),
        })
        for where, row in _rows(source)
    ]  # fmt: skip


def columns_of(path: str | Path) -> tuple[str, ...]:
    """The columns of a file's first row, which tell pairs from questions."""
    for _, row in _rows(path):
        return tuple(row)
    return ()


# --- rows from files -----------------------------------------------------------------------------


def _rows(source: str | Path | Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(source, str | Path):
        path = Path(source)
        rows: Iterable[Mapping[str, Any]] = _read(path)
        name = path.name
    else:
        rows, name = source, "source"
    empty = True
    for number, row in enumerate(rows, start=1):
        empty = False
        yield f"{name}, row {number}", row
    if empty:
        raise ValueError(f"{name} has no rows.")


def _read(path: Path) -> Iterable[Mapping[str, Any]]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist (looked in {path.absolute().parent}).")
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise unknown_name("file ending", path.suffix, readers)
    return readers[path.suffix](path)


def _read_jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{path.name}, line {number} is not JSON: {error}.") from error


def _read_json(path: Path) -> Sequence[Mapping[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list):
        raise ValueError(f"{path.name} holds a {type(rows).__name__}; a list of objects is wanted.")
    return rows


def _read_csv(path: Path) -> Iterator[Mapping[str, Any]]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as lines:
        yield from csv.DictReader(lines)


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError(f'{path.name} needs pyarrow: pip install "grains-lens[data]".') from error
    return parquet.read_table(path).to_pylist()


# --- values from rows ----------------------------------------------------------------------------


def _column(row: Mapping[str, Any], name: str, columns: Mapping[str, str] | None, where: str) -> Any:
    column = (columns or {}).get(name, name)
    if column not in row:
        raise ValueError(
            f"{where} has no {column!r}; it has {', '.join(map(repr, row))}. "
            f"Say which column it is: columns={{{name!r}: ...}}."
        )
    return row[column]


def _text(value: Any) -> Any:
    """A string as it is; of a conversation the content of its last message."""
    is_chat = isinstance(value, list) and value and isinstance(value[-1], Mapping) and "content" in value[-1]
    return value[-1]["content"] if is_chat else value


def _choices(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: choices={value!r} is not a JSON list of texts.") from error
    return tuple(value)


def _index(value: Any, where: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: label={value!r} is not the index of a choice.") from error


def _images(row: Mapping[str, Any], columns: Mapping[str, str] | None) -> tuple[Any, ...]:
    for name in ("images", "image"):
        value = row.get((columns or {}).get(name, name))
        if value is not None and value != "":
            return tuple(value) if isinstance(value, list | tuple) else (value,)
    return ()


def _make(cls: type, where: str, fields: dict[str, Any]) -> Any:
    try:
        return cls(**fields)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
