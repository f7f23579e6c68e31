"""A run is one append-only file of JSON lines: a header, then one line per finished cell.

Each line is written at once and flushed to disk before the next cell counts as finished, so a killed run
loses no finished cell. A half-written line is cut off when the run resumes. One process writes.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import importlib.metadata
import json
import math
import os
import platform
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from . import lines
from .lines import FORMAT
from .paths import named

LARGEST = 2**30
'""The largest file, in bytes, that is read.""'
PACKAGES = ("grains-lens", "torch", "transformers", "transformer-lens", "numpy", "pandas", "joblib")


@dataclass(frozen=True)
class Run:
    """The content of a run file. `sessions` has one entry per start or resumption, with revision, versions
    and date."""

    study: str
    settings: Mapping[str, Any]
    sessions: Sequence[Mapping[str, Any]]
    finished: Sequence[Mapping[str, Any]]
    wanted: int
    """The total number of cells."""

    def frame(self) -> pd.DataFrame:
        """All rows, each with the fields of its cell, in the order of the cells and not of their
        completion."""
        done = sorted(self.finished, key=lambda one: [_rank(value) for value in one["cell"].values()])
        return pd.DataFrame([{**one["cell"], **row} for one in done for row in one["rows"]])


def _rank(value: Any) -> tuple[Any, ...]:
    """Sort numbers before text before None: a damaged file may hold all three under one name."""
    return value is None, isinstance(value, str), value


def plain(value: Any) -> dict[str, Any]:
    """A frozen dataclass in the form that JSON returns. Paths are named by `files.named`; a nested dataclass
    with a method `recorded` is stored as that method returns it."""
    return json.loads(json.dumps(_recorded(value), default=str))


def _recorded(value: Any, name: Callable[[Any], str] = named) -> Any:
    if isinstance(value, Path):
        return name(value)
    if is_dataclass(value):
        shown: Any = value.recorded(name) if hasattr(value, "recorded") else value
        return {field.name: _recorded(getattr(shown, field.name), name) for field in fields(shown)}
    if isinstance(value, Mapping):
        return {key: _recorded(one, name) for key, one in value.items()}
    return [_recorded(one, name) for one in value] if isinstance(value, list | tuple) else value


def key(cell: Any) -> str:
    """A key that identifies a cell within its study."""
    return json.dumps(plain(cell), sort_keys=True)


def read(path: Path) -> Run:
    """The present content of a file, without a half-written last line. The file may be in use.

    Raises ValueError if it is not a run, or if a line other than the last is damaged.
    """
    run, _ = _parse(path)
    if run is None:
        raise ValueError(f"{path} holds no run: not even its first line is complete.")
    return run


class RunFile:
    """A context manager that begins or resumes a run and writes it."""

    def __init__(self, path: Path, study: str, settings: Any, wanted: int) -> None:
        self.path, self.study, self.settings, self.wanted = path, study, plain(settings), wanted
        # The form in older files: with paths as given.
        self._with_paths = json.loads(json.dumps(_recorded(settings, str), default=str))
        self.done: set[str] = set()
        self._resumed = False

    def __enter__(self) -> RunFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o644)
        try:
            self._claim()
            run, complete = _parse(self.path)
            os.ftruncate(self._file, complete)
            self._complete = complete
            if run is None:
                header = {
                    "format": FORMAT,
                    "study": self.study,
                    "settings": self.settings,
                    "cells": self.wanted,
                }
                self._write({**header, **session()})
                _flush(self.path.parent)
            else:
                self._check(run)
                self.done = {json.dumps(one["cell"], sort_keys=True) for one in run.finished}
                self._resumed = True
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)  # which also releases the lock

    def append(self, cell: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a finished cell. When this returns, it is on disk."""
        if self._resumed:
            self._write({"resumed": session()})
            self._resumed = False
        named = plain(cell)
        self._write({"cell": named, "rows": [_checked(row, named) for row in rows]})
        self.done.add(key(cell))

    def _write(self, value: Mapping[str, Any]) -> None:
        line = (json.dumps(value, allow_nan=False, default=str) + "\n").encode()
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            # A half-written line must not precede the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._complete)
            raise OSError(
                error.errno, f"{error.strerror}: the last cell is not written", str(self.path)
            ) from error
        self._complete += len(line)

    def _claim(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(
                f"{self.path} is being written by another run: wait for it, or give another --out."
            ) from error
        except OSError as error:
            raise OSError(
                error.errno, f"{error.strerror}: the file cannot be locked", str(self.path)
            ) from error

    def _check(self, run: Run) -> None:
        if run.study != self.study:
            raise ValueError(f"{self.path} is a run of {run.study}, not of {self.study}: give another --out.")
        differing = ", ".join(_differences(run.settings, self.settings))
        if differing and _differences(run.settings, self._with_paths):
            raise ValueError(
                f"{self.path} was begun with other settings ({differing}): give another --out, or remove the file."
            )


def session() -> dict[str, Any]:
    """The origin of a run: revision, versions, date."""
    return {
        "revision": revision(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


@functools.cache
def revision() -> str:
    """The git revision of this code, with `+changes` if files differ from it."""
    here = Path(__file__).parent
    try:
        _git(
            here, "ls-files", "--error-unmatch", Path(__file__).name
        )  # but not of a repository in which it is merely installed
        head = _git(here, "rev-parse", "HEAD")
        return head[:12] + ("+changes" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(where: Path, *command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=where, capture_output=True, text=True, check=True
    ).stdout.strip()


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _parse(path: Path) -> tuple[Run | None, int]:
    """The run, None if there is no complete header, and how many bytes of the file are complete lines."""
    content = _content(path)
    complete = content.rfind(b"\n") + 1
    numbered = enumerate(content[:complete].splitlines(), start=1)
    found = [(f"{path}, line {number}", line) for number, line in numbered]
    if not found:
        return None, complete
    values = [(where, lines.parse(line, where)) for where, line in found]
    header, *rest = (value for _, value in values)
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is not a run of a study (format {FORMAT}).")
    lines.check(values)
    begun = {name: header[name] for name in ("revision", "versions", "date")}
    sessions = [begun, *(line["resumed"] for line in rest if "resumed" in line)]
    finished = [line for line in rest if "cell" in line]
    wanted = header.get("cells", len(finished))
    return Run(header["study"], header["settings"], sessions, finished, wanted), complete


def _content(path: Path) -> bytes:
    """The content of a regular file. A pipe would keep the reader waiting, and a device might never end."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a run of a study: it is not a regular file.")
        if status.st_size > LARGEST:
            raise ValueError(
                f"{path} has {status.st_size:,} bytes: no run of a study has more than {LARGEST:,}."
            )
        with open(opened, "rb", closefd=False) as file:
            return file.read(LARGEST)
    finally:
        os.close(opened)


def _flush(folder: Path) -> None:
    """Flush the folder, so that the new file's entry is on disk, too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _checked(row: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    """A row of plain values. Values that were not measured are null, because JSON has no NaN. Raises
    ValueError for an infinity, and for a name that the cell also has."""
    plain_row = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
    for name, value in plain_row.items():
        if name in cell:
            raise ValueError(
                f"{name!r} is a field of the cell {dict(cell)}: give the row's value another name."
            )
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(
                f"{name} is {value} in a row of the cell {dict(cell)}: try smaller strengths, or float32."
            )
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in plain_row.items()
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    found = []
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if name not in old and not now:
            continue  # a setting that is newer than this file, and is off
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now, f"{path}{name}.")
        elif before != now:
            found.append(f"{path}{name} was {before!r} and is now {now!r}")
    return found
