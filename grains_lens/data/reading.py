"""Pairs and questions from files, tables, rows and known data sets."""

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
    """Rows that could not be used are left out."""


def load_pairs(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Mapping[str, str | None] | None = None,
    on_error: OnError | None = None,
) -> list[PreferencePair]:
    """Read preference pairs from JSONL, JSON, CSV or parquet, from any iterable of rows, or by a data set's name.

    Each row has `prompt`, `chosen`, `rejected` and, maybe, `images` (a list, or one image; in CSV its JSON, or
    one path) or `image`; paths in a file are relative to the file. `columns` maps these names to the source's
    own, as in `columns={"prompt": "question"}`; `columns={"rejected": None}` says that there is no rejected answer,
    and what is asked is a matter of the chosen one alone. A Hugging Face `datasets.Dataset` is an iterable of rows. In
    TRL's conversational form, `[{"role": ..., "content": ...}]`,
    an answer is the content of its last message, and a prompt that of its only one; a longer conversation
    as prompt has to be rendered as text first, since part of it would be lost.

    TruthfulQA's published table (`TruthfulQA.csv`) is known by its columns: the best answer is chosen, the best
    incorrect one rejected, or the first incorrect one where there is no such column.

    Names are `"truthful_qa"`, `"faitheval"` and `"mmlu"`, where the right answer is the chosen one and the wrong
    one listed after it the rejected (the first, after the last), and `"spa_vl"` (with images; its prompts have
    no image placeholder: use a chat template). They are downloaded from the Hugging Face hub.

    A row that cannot be used is an error with `on_error="raise"`. With "skip" it is left out, and one
    `SkippedRowsWarning` counts them and names the first. If not given, it is "skip" for a data set by name, whose
    rows are not yours to mend, and "raise" for anything else. A file that is damaged as a whole is always an error.

    Raises OSError where a file or the hub cannot be read, ValueError naming the row and the column that is missing,
    empty or wrong, or saying that no row is left.
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
    counted from 0. `columns` maps these names to the source's own, as in
    `columns={"prompt": "question", "label": "answer"}` (MMLU). Of TruthfulQA's published table the choices are the
    best answer, at label 0, and every incorrect one. `on_error` is that of `load_pairs`.

    Raises what `load_pairs` does.
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
    """What `item` makes of each row; rows of which it makes none are left out, or raised."""
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
"""How many rows that are left out a warning names."""


def _made(row: Any, where: str, item: Callable[[Mapping[str, Any], str], _Item]) -> _Item | ValueError:
    """What `item` makes of a row, or the error that says why it makes nothing of it."""
    if isinstance(row, ValueError):
        return row
    if not isinstance(row, Mapping):
        return ValueError(
            f"{where} is {seen(row)}, not a mapping from column names to values: rows are wanted, "
            "as of a list of dicts, one split of a dataset, or a data frame."
        )
    try:
        return item(row, where)
    except ValueError as error:
        return error


def _rows(source: Any, kind: ItemKind) -> tuple[str, Iterable[tuple[str, Any]]]:
    """What the source is called in errors, and its rows, each with where it stands."""
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
