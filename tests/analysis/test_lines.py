"""What stands in a run file is checked before anything is made of it, and refused by file and line."""

from __future__ import annotations

import json
import os
import re
from unittest import mock

import pytest

from analysis import runs
from tests.analysis import toy_study

SETTINGS = toy_study.Settings()
CELLS = toy_study.cells(SETTINGS)[:2]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "toy.jsonl"
    with runs.RunFile(path, "toy", SETTINGS, len(CELLS)) as file:
        for cell in CELLS:
            file.append(cell, toy_study.measure(cell, SETTINGS))
    return path


def replaced(path, number, line):
    lines = path.read_bytes().splitlines()
    lines[number - 1 : number] = [line if isinstance(line, bytes) else line.encode()]
    path.write_bytes(b"\n".join(lines) + b"\n")


CELL = '{"cell": {"seed": 0}, "rows": [{"gain": %s}]}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        (b'{"cell": {"seed": "\xff\xfe"}, "rows": []}', "utf-8"),
        ("[1, 2]", "holds no object"),
        ("{}", "neither a cell nor a resumption"),
        (CELL % "NaN", "'NaN' is not a finite number"),
        (CELL % "-Infinity", "'-Infinity' is not a finite number"),
        (CELL % "1e999", "'1e999' is not a finite number"),
        (CELL % ("9" * 5000), "5000 characters is beyond 64 bits"),
        (CELL % ("9" * 20), "20 characters is beyond 64 bits"),
        (CELL % '1, "gain": 2', "key 'gain' occurs twice"),
        (CELL % '"\\uD800"', "surrogates"),
        (CELL % ("[" * 200_000 + "]" * 200_000), "nested too deeply"),
        (CELL % "[1]", r"'gain' is neither text nor a number: \[1\]"),
        (CELL % '{"__class__": "os.system"}', "'gain' is neither text nor a number"),
        ('{"cell": [1], "rows": []}', "cell must be of type dict"),
        ('{"cell": {"seed": 0}}', "rows must be of type list, and is missing"),
        ('{"cell": {"seed": 0}, "rows": [3]}', "a row is 3, not an object"),
        ('{"resumed": {"revision": 3}}', "revision must be of type str, and is 3"),
        (json.dumps({"format": 1, "study": "other", "cell": 3}), "cell must be of type dict"),
    ],
)
def test_a_line_that_is_no_cell_is_refused_by_file_and_line(line, reason, path):
    replaced(path, 3, line)
    with pytest.raises(ValueError, match=reason) as caught:
        runs.read(path)
    assert f"{path}, line 3" in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 400


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"study": 3}, "study must be of type str, and is 3"),
        ({"settings": []}, "settings must be of type dict"),
        ({"versions": None}, "versions must be of type dict"),
        ({"date": 5}, "date must be of type str"),
        ({"cells": "many"}, "cells='many' is not a number of cells"),
        ({"cells": True}, "cells=True is not a number"),
        ({"cells": -1}, "cells=-1 is not a number"),
    ],
)
def test_a_header_of_wrong_types_is_refused_by_file_and_line(change, reason, path):
    header = json.loads(path.read_bytes().splitlines()[0])
    replaced(path, 1, json.dumps({**header, **change}))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}, line 1, .*{reason}"):
        runs.read(path)


def test_a_cell_that_stands_twice_is_refused_and_not_counted_twice(path):
    replaced(path, 3, path.read_bytes().splitlines()[1])
    with pytest.raises(ValueError, match=r"line 3, .* the same cell as .*line 2"):
        runs.read(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")
    for name in ("pipe.jsonl", "device.jsonl"):
        with pytest.raises(ValueError, match=f"{name} is not a run of a study: it is not a regular file"):
            runs.read(tmp_path / name)


def test_a_file_larger_than_any_run_is_refused_unread(path):
    with mock.patch.object(runs, "LARGEST", 100), pytest.raises(ValueError, match="more than 100"):
        runs.read(path)
