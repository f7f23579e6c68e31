"""A run's file keeps every finished cell, and reads nothing that was half-written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from analysis import runs
from tests.analysis import toy_study

SETTINGS = toy_study.Settings()
CELLS = toy_study.cells(SETTINGS)[:3]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "toy.jsonl"


def write(path, cells, settings=SETTINGS, study="toy"):
    with runs.RunFile(path, study, settings, len(CELLS)) as file:
        for cell in cells:
            if runs.key(cell) not in file.done:
                file.append(cell, toy_study.measure(cell, settings))


def test_what_was_written_is_read_with_settings_revision_and_versions(path):
    write(path, CELLS)
    run = runs.read(path)
    assert (run.study, run.wanted) == ("toy", 3)
    assert run.settings == {"seeds": [0, 1], "draws": 4, "seconds": 0.0, "traces": None}
    (session,) = run.sessions
    assert session["revision"]
    assert session["versions"]["torch"]
    assert session["date"]
    rows = run.frame().to_dict("records")
    wanted = [{**runs.plain(cell), **row} for cell in CELLS for row in toy_study.measure(cell, SETTINGS)]
    assert rows == wanted


def test_a_file_cut_off_at_any_byte_resumes_to_the_same_run(path):
    """As a kill, or a full disk, leaves it: at every byte of the last two lines, and here and there before."""
    write(path, CELLS)
    whole = path.read_bytes()
    wanted = runs.read(path).finished
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for length in [*range(0, ends[-3], 60), *ends[:-1], *range(ends[-3], len(whole))]:
        path.write_bytes(whole[:length])
        complete = sum(end <= length for end in ends)
        if complete:
            assert len(runs.read(path).finished) == complete - 1  # reading changes nothing
            assert path.stat().st_size == length
        write(path, CELLS)
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert runs.read(path).finished == wanted, length
        assert sum("format" in line for line in lines) == 1
        assert sum("resumed" in line for line in lines) == (1 if complete else 0)


def test_what_was_not_measured_is_null_and_read_as_such(path):
    with runs.RunFile(path, "toy", SETTINGS, 3) as file:
        file.append(CELLS[0], [{"gain": float("nan")}, {"gain": np.float32(0.5)}])
    assert '"rows": [{"gain": null}, {"gain": 0.5}]' in path.read_text()
    assert runs.read(path).frame()["gain"].isna().tolist() == [True, False]


def test_a_run_that_is_complete_is_left_as_it_is(path):
    write(path, CELLS)
    before = path.read_bytes()
    write(path, CELLS)
    assert path.read_bytes() == before


def test_other_settings_are_refused_and_named(path):
    write(path, CELLS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"other settings \(draws was 4 and is now 5\): give another --out"):
        write(path, CELLS, replace(SETTINGS, draws=5))
    with pytest.raises(ValueError, match="is a run of toy, not of other"):
        write(path, CELLS, study="other")
    assert path.read_bytes() == before


def test_a_damaged_line_in_the_middle_is_refused(path):
    write(path, CELLS)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1][:-20] + b"\n", *lines[2:]]))
    with pytest.raises(ValueError, match="line 2, is damaged"):
        write(path, CELLS)


def test_a_file_that_is_no_run_is_refused_and_left_alone(path):
    path.parent.mkdir()
    path.write_text('{"prompt": "pairs, say"}\n')
    with pytest.raises(ValueError, match="is no run of a study"):
        write(path, CELLS)
    assert path.read_text() == '{"prompt": "pairs, say"}\n'


def test_two_processes_do_not_write_one_run(path):
    with (
        runs.RunFile(path, "toy", SETTINGS, 3),
        pytest.raises(RuntimeError, match="being written by another"),
    ):
        write(path, CELLS)
    write(path, CELLS)
    assert len(runs.read(path).finished) == 3
