"""Rows of tables: JSONL, JSON, CSV and parquet files, each row a mapping from column names to values."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def read_table(path: Path) -> Iterable[Mapping[str, Any]]:
    """The rows of a file, by its suffix; a ValueError says where it is not what its suffix says."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file (looked in {path.absolute().parent}).")
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"{path.name} ends in {path.suffix!r}, which cannot be read; save it as {', '.join(readers)}."
        )
    return readers[path.suffix.lower()](path)


def _read_jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path.name}, line {number} is not JSON: {error}.") from error


def _read_json(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        rows = json.loads(_text_of(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} is not JSON: {error}; one object a line is JSONL (.jsonl).") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path.name} holds a {type(rows).__name__}; a list of objects is wanted.")
    return rows


def _read_csv(path: Path) -> Iterator[Mapping[str, Any]]:
    import csv

    # Strict, for a quote that is never closed would swallow every row after it.
    rows = csv.DictReader(io.StringIO(_text_of(path), newline=""), strict=True)
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            if None in row:
                raise ValueError(
                    f"{path.name}, row {number} has more fields than the header: {row[None]!r} is left over. "
                    "Put quotes around fields that hold commas."
                )
            yield row
    except csv.Error as error:
        raise ValueError(
            f"{path.name}, row {number + 1} is not CSV: {error}; is there a quote that is not closed?"
        ) from error


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError(f'{path.name} needs pyarrow: pip install "grains-lens[data]".') from error
    try:
        return parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path.name} is not a whole parquet file ({error}): copy it again.") from error


def _text_of(path: Path) -> str:
    try:
        # As bytes, for text mode would turn a carriage return inside a quoted CSV field into a newline.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text ({error}); save it as UTF-8.") from error
