"""Read pairs and questions from files, tables, rows and known data sets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args

from ..errors import kind_of, printable, seen, unknown_name, warn_user
from ..literals import ItemKind, OnError
from .benchmarks import is_name, rows_of
from .items import MultipleChoice, PreferencePair
from .rows import as_tuple, from_json, images_of, last_message, only_message, value_of
from .tables import read_table, rows_in
from .truthfulqa import unfolded

_Item = TypeVar("_Item", bound="PreferencePair | MultipleChoice")


class SkippedRowsWarning(UserWarning):
    """Some rows cannot be used and are left out."""


def load_pairs(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Mapping[str, str | None] | None = None,
    on_error: OnError | None = None,
) -> list[PreferencePair]:
    """Read preference pairs from JSONL, JSON, CSV or parquet, from any iterable of rows, or by a data set's name.

    Each row has `prompt`, `chosen`, `rejected` and optionally `images` (a list, or one image; in CSV its
    JSON, or one path) or `image`. Paths in a file are relative to the file. `columns` maps these names to the
    names in the source, as in `columns={"prompt": "question"}`; `columns={"rejected": None}` says that there
    is no rejected answer, so only the chosen one counts. A Hugging Face `datasets.Dataset` is an iterable of
    rows. In TRL's conversational form, `[{"role": ..., "content": ...}]`, an answer is the content of its
    last message, and a prompt the content of its only message. Render a longer conversation as text before
    you use it as a prompt; otherwise part of it would be lost.

    TruthfulQA's published table (`TruthfulQA.csv`) is recognised by its columns. The best answer is chosen.
    The best incorrect answer is rejected, or the first incorrect one if there is no such column.

    The names are `"truthful_qa"`, `"faitheval"`, `"mmlu"` and `"spa_vl"`; they are downloaded from the
    Hugging Face hub. In the first three, the right choice is chosen, and the wrong choice listed after it is
    rejected (after the last choice comes the first). `"spa_vl"` has images; its prompts have no image
    placeholder, so use a chat template.

    With `on_error="raise"`, a row that cannot be used is an error. With "skip" it is left out, and one
    `SkippedRowsWarning` counts such rows and names the first. The default is "skip" for a data set by name,
    whose rows you cannot repair, and "raise" for anything else. A file that is damaged as a whole is always
    an error.

    Args:
        source: A path (.jsonl, .json, .csv, .parquet), rows as dictionaries, a `datasets.Dataset`, or a data
            set's name.
        columns: Our names to the source's, as in `{"prompt": "question"}`. Names left out are as ours.
        on_error: `"raise"` or `"skip"`: what becomes of a row that cannot be used. None raises for files and
            skips for data sets by name.

    Raises OSError if a file or the hub cannot be read; ValueError, naming the row and the column, if a value
    is missing, empty or wrong, or if no row is left.
    """
    _check_columns(columns, PreferencePair)
    read = functools.partial(pair_of_row, columns=columns, folder=_folder(source))
    return _items(source, "pairs", read, on_error)


def pair_of_row(
    row: Mapping[str, Any],
    where: str,
    columns: Mapping[str, str | None] | None = None,
    folder: Path | None = None,
) -> PreferencePair:
    """The pair that a row holds; a ValueError says `where` it is wrong. Paths of images are relative to `folder`."""
    row = unfolded(row, where)
    one_answer = (columns or {"rejected": ""}).get("rejected", "") is None
    columns = {name: column for name, column in (columns or {}).items() if column is not None}
    prompt = only_message(value_of(row, "prompt", columns, where))
    chosen = last_message(value_of(row, "chosen", columns, where))
    rejected = None if one_answer else last_message(value_of(row, "rejected", columns, where))
    if rejected is None and not one_answer:
        raise ValueError(
            f"{where}: rejected must be text, but is None; fill it in, or leave the row out (of all rows: "
            'columns={"rejected": None}).'
        )
    return _make(
        PreferencePair,
        where,
        {
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "images": images_of(row, columns, where, folder),
        },
    )


def load_questions(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Mapping[str, str] | None = None,
    on_error: OnError | None = None,
) -> list[MultipleChoice]:
    """Read multiple-choice questions from JSONL, JSON, CSV or parquet, from any iterable of rows, or by a data
    set's name: `"truthful_qa"`, `"faitheval"` or `"mmlu"`, downloaded from the Hugging Face hub.

    Each row has `prompt`, `choices` (a list; in CSV its JSON) and `label`, the index of the right choice,
    counted from 0. `columns` maps these names to the names in the source, as in `columns={"prompt":
    "question", "label": "answer"}` (MMLU). For TruthfulQA's published table, the choices are the best answer,
    at label 0, and all incorrect ones. `on_error` works as in `load_pairs`.

    Args:
        source: As in `load_pairs`.
        columns: Our names to the source's, as in `{"prompt": "question", "label": "answer"}`.
        on_error: As in `load_pairs`.

    Raises the same errors as `load_pairs`.
    """
    _check_columns(columns, MultipleChoice)
    read = functools.partial(question_of_row, columns=columns, folder=_folder(source))
    return _items(source, "questions", read, on_error)


def question_of_row(
    row: Mapping[str, Any],
    where: str,
    columns: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> MultipleChoice:
    """The question that a row holds; a ValueError says `where` it is wrong. Paths of images are relative to
    `folder`."""
    row = unfolded(row, where)
    return _make(
        MultipleChoice,
        where,
        {
            "prompt": only_message(value_of(row, "prompt", columns, where)),
            "choices": as_tuple(from_json(value_of(row, "choices", columns, where))),
            "label": from_json(value_of(row, "label", columns, where)),
            "images": images_of(row, columns, where, folder),
        },
    )


def columns_of(path: str | Path) -> tuple[str, ...]:
    """The columns of a file's first row, which tell pairs from questions."""
    for _, row in read_table(Path(path)):
        return tuple(row) if isinstance(row, Mapping) else ()
    return ()


def _items(
    source: Any, kind: ItemKind, item: Callable[[Mapping[str, Any], str], _Item], on_error: OnError | None
) -> list[_Item]:
    """The items that `item` makes from the rows. Rows that fail are left out or raise their error."""
    if on_error is not None and on_error not in get_args(OnError):
        raise unknown_name("on_error", on_error, get_args(OnError))
    name, rows = _rows(source, kind)
    strict = on_error == "raise" or (on_error is None and not _is_name(source))
    items: list[_Item] = []
    wrong: list[str] = []
    for where, row in rows:
        made = _made(row, where, item)
        if not isinstance(made, ValueError):
            items.append(made)
        elif strict:
            raise made
        else:
            wrong.append(printable(made, 250))
    if not items:
        none = f"{name}: none of its {len(wrong)} rows can be used. The first: {wrong[0]}" if wrong else None
        raise ValueError(none or f"{name} has no rows; at least one is needed.")
    if wrong:
        more = f" And {len(wrong) - _NAMED} more." if len(wrong) > _NAMED else ""
        warn_user(
            SkippedRowsWarning(
                f"{name}: {len(wrong)} of {len(items) + len(wrong)} rows cannot be used and are left out. "
                f"{' '.join(wrong[:_NAMED])}{more}"
            )
        )
    return items


_NAMED = 3
"""How many of the rows left out a warning names."""


def _made(row: Any, where: str, item: Callable[[Mapping[str, Any], str], _Item]) -> _Item | ValueError:
    """The item made from a row, or the error that says why there is none."""
    if isinstance(row, ValueError):
        return row
    if not isinstance(row, Mapping):
        return ValueError(
            f"{where} is {seen(row)}, not a mapping from column names to values: rows are expected, "
            "as of a list of dicts, one split of a dataset, or a data frame."
        )
    try:
        return item(row, where)
    except ValueError as error:
        return error


def _rows(source: Any, kind: ItemKind) -> tuple[str, Iterable[tuple[str, Any]]]:
    """The name of the source in errors, and its rows, each with its place."""
    if _is_name(source):
        return source, rows_of(source, kind)
    if isinstance(source, str | Path):
        return printable(Path(source).name, 120), read_table(Path(source))
    rows = rows_in(source, "source")
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        splits = f" of {', '.join(map(seen, rows))}" if isinstance(rows, Mapping) else ""
        raise ValueError(
            f"source is {kind_of(source)}{splits}: give a path, a data set's name, or rows, such as a list of dicts, "
            "one split of a dataset or a data frame."
        )
    return "source", ((f"source, row {number}", row) for number, row in enumerate(rows, start=1))


def _is_name(source: Any) -> bool:
    return isinstance(source, str) and is_name(source)


def _check_columns(columns: Mapping[str, str | None] | None, cls: type) -> None:
    known = [*(field.name for field in fields(cls)), "image"]
    for name, column in (columns or {}).items():
        if name not in known:
            raise unknown_name("columns, key", name, known)
        if column is None and name != "rejected":
            raise ValueError(
                f"columns={{{name!r}: None}}: only the rejected answer may be missing; name its column."
            )


def _folder(source: Any) -> Path | None:
    return Path(source).parent if isinstance(source, str | Path) else None


def _make(cls: type, where: str, values: dict[str, Any]) -> Any:
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
