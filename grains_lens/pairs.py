"""What the library learns from and is judged on: preference pairs and multiple-choice questions."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from . import named
from .errors import unknown_name
from .tables import read_table


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
        object.__setattr__(self, "images", _tuple("images", self.images))


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
        object.__setattr__(self, "choices", _tuple("choices", self.choices))
        object.__setattr__(self, "images", _tuple("images", self.images))
        _check_text("prompt", self.prompt)
        for index, choice in enumerate(self.choices):
            _check_text(f"choices[{index}]", choice)
        if len(self.choices) < 2:
            raise ValueError(f"choices={list(self.choices)!r}: a question needs at least two.")
        object.__setattr__(self, "label", _index(self.label))
        if not 0 <= self.label < len(self.choices):
            raise ValueError(
                f"label={self.label} is no index into the {len(self.choices)} choices; "
                f"it counts from 0 to {len(self.choices) - 1}."
            )


@dataclass(frozen=True)
class OpenQuestion:
    """A question to be answered in free text, and what a good answer says (MMHal-Bench's `gt_answer`)."""

    prompt: str
    reference: str
    images: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", _tuple("images", self.images))
        _check_text("prompt", self.prompt)
        _check_text("reference", self.reference)


Prompted = str | PreferencePair | MultipleChoice | OpenQuestion
"""Whatever holds a prompt."""


def _check_text(name: str, value: object) -> None:
    if isinstance(value, list | tuple):
        raise ValueError(
            f"{name} must be text, but is {value!r}; "
            "render chat messages with the tokenizer's chat template first."
        )
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, but is {value!r}; fill it in, or leave the row out.")
    if not value.strip():
        raise ValueError(f"{name} is empty ({value!r}); write it out, or leave the row out.")


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    """`value` as a tuple: text is no list of its letters, a mapping none of its keys, an array none of its rows."""
    if not isinstance(value, list | tuple):
        raise ValueError(
            f"{name} must be a list or a tuple, but is {value!r}; put it into a list (in CSV, as JSON)."
        )
    return tuple(value)


def _index(value: Any) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"label={value!r} must be the index of the right choice, a whole number counted from 0.")


def load_pairs(
    source: str | Path | Iterable[Mapping[str, Any]], *, columns: Mapping[str, str] | None = None
) -> list[PreferencePair]:
    """Read preference pairs from JSONL, JSON, CSV or parquet, from any iterable of rows, or by a data set's name.

    Each row has `prompt`, `chosen`, `rejected` and, maybe, `images` (a list, or one image; in CSV its JSON, or
    one path) or `image`; paths in a file are relative to the file. `columns` maps these names to the source's
    own, as in `columns={"prompt": "question"}`. A Hugging Face `datasets.Dataset` is an iterable of rows. In
    TRL's conversational form, `[{"role": ..., "content": ...}]`,
    an answer is the content of its last message, and a prompt that of its only one; a longer conversation
    as prompt has to be rendered as text first, since part of it would be lost.

    Names are `"truthful_qa"`, `"faitheval"` and `"mmlu"`, where the right answer is the chosen one and the wrong
    one listed after it the rejected (the first, after the last), and `"spa_vl"` (with images; its prompts have
    no image placeholder: use a chat template). They are downloaded from the Hugging Face hub.

    Raises OSError where the hub cannot be reached, ValueError naming the row and the column that is missing,
    empty or wrong.
    """
    _check_columns(columns, PreferencePair)
    folder = _folder(source)
    return [
        _make(PreferencePair, where, {
            "prompt": _only_message(_column(row, "prompt", columns, where)),
            "chosen": _last_message(_column(row, "chosen", columns, where)),
            "rejected": _last_message(_column(row, "rejected", columns, where)),
            "images": _images(row, columns, where, folder),
        })
        for where, row in _rows(source, "pairs")
    ]  # fmt: skip


def load_questions(
    source: str | Path | Iterable[Mapping[str, Any]], *, columns: Mapping[str, str] | None = None
) -> list[MultipleChoice]:
    """Read multiple-choice questions from JSONL, JSON, CSV or parquet, from any iterable of rows, or by a data
    set's name: `"truthful_qa"`, `"faitheval"` or `"mmlu"`, downloaded from the Hugging Face hub.

    Each row has `prompt`, `choices` (a list; in CSV its JSON) and `label`, the index of the right choice,
    counted from 0. `columns` maps these names to the source's own, as in
    `columns={"prompt": "question", "label": "answer"}` (MMLU).

    Raises ValueError naming the row and the column that is missing, empty or wrong.
    """
    _check_columns(columns, MultipleChoice)
    folder = _folder(source)
    return [
        _make(MultipleChoice, where, {
            "prompt": _only_message(_column(row, "prompt", columns, where)),
            "choices": _as_tuple(_from_json(_column(row, "choices", columns, where))),
            "label": _from_json(_column(row, "label", columns, where)),
            "images": _images(row, columns, where, folder),
        })
        for where, row in _rows(source, "questions")
    ]  # fmt: skip


def columns_of(path: str | Path) -> tuple[str, ...]:
    """The columns of a file's first row, which tell pairs from questions."""
    for row in read_table(Path(path)):
        return tuple(row)
    return ()


def _rows(
    source: str | Path | Iterable[Mapping[str, Any]], kind: named.Kind
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(source, str) and named.is_name(source):
        rows, name = named.rows_of(source, kind), source
    elif isinstance(source, str | Path):
        path = Path(source)
        rows, name = read_table(path), path.name
    else:
        rows, name = source, "source"
    empty = True
    for number, row in enumerate(rows, start=1):
        empty = False
        if not isinstance(row, Mapping):
            raise ValueError(
                f"{name}, row {number} is {row!r}, not a mapping from column names to values: rows are wanted, "
                'as of a list of dicts, one split of a dataset, or a data frame\'s .to_dict("records").'
            )
        yield f"{name}, row {number}", row
    if empty:
        raise ValueError(f"{name} has no rows; at least one is needed.")


# --- values from rows ----------------------------------------------------------------------------


def _check_columns(columns: Mapping[str, str] | None, cls: type) -> None:
    known = [*(field.name for field in fields(cls)), "image"]
    for name in columns or {}:
        if name not in known:
            raise unknown_name("columns, key", name, known)


def _column(row: Mapping[str, Any], name: str, columns: Mapping[str, str] | None, where: str) -> Any:
    column = (columns or {}).get(name, name)
    if column not in row:
        raise ValueError(
            f"{where} has no {column!r}; it has {', '.join(map(repr, row))}. "
            f"Say which column it is: columns={{{name!r}: ...}}."
        )
    return row[column]


def _last_message(value: Any) -> Any:
    """Of a conversation the content of its last message; anything else as it is."""
    is_chat = isinstance(value, list) and value and isinstance(value[-1], Mapping) and "content" in value[-1]
    return value[-1]["content"] if is_chat else value


def _only_message(value: Any) -> Any:
    return _last_message(value) if isinstance(value, list) and len(value) == 1 else value


def _from_json(value: Any) -> Any:
    """What a CSV field holds; text that is not JSON as it is, for the class to refuse."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            pass
    return value


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _images(
    row: Mapping[str, Any], columns: Mapping[str, str] | None, where: str, folder: Path | None
) -> tuple[Any, ...]:
    for name in ("images", "image"):
        named = name in (columns or {})
        value = _column(row, name, columns, where) if named else row.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = _from_json(value)
        if isinstance(value, list | tuple):
            if value:
                return tuple(_beside(one, folder) for one in value)
        elif value is not None and not (isinstance(value, str) and not value):
            return (_beside(value, folder),)
    return ()


def _folder(source: Any) -> Path | None:
    return Path(source).parent if isinstance(source, str | Path) else None


def _beside(image: Any, folder: Path | None) -> Any:
    """A path from a file as a path from here."""
    return str(folder / image) if folder is not None and isinstance(image, str) else image


def _make(cls: type, where: str, values: dict[str, Any]) -> Any:
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
