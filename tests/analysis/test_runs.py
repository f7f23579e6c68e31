"""A run's file keeps every finished cell, and reads nothing that was half-written."""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest

from analysis import paths, report, runs
from analysis.subjects import Subject
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
                file.append(cell, toy_study.measure(cell, SETTINGS))


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
    with pytest.raises(ValueError, match="is not a run of a study"):
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


# --- what cannot be written ----------------------------------------------------------------------


def test_a_full_disk_is_an_error_with_the_path_and_nothing_is_glued_to_what_was_half_written(path):
    """A limit on the size of files stands in for the disk: what fits is written, then the system refuses."""
    write(path, CELLS[:1])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with runs.RunFile(path, "toy", SETTINGS, len(CELLS)) as file:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, limits[1]))
            with pytest.raises(OSError, match="not written") as caught:
                file.append(CELLS[1], toy_study.measure(CELLS[1], SETTINGS))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.filename == str(path)
        assert path.read_bytes() == before
        file.append(CELLS[1], toy_study.measure(CELLS[1], SETTINGS))  # there is room again
    write(path, CELLS)
    assert len(runs.read(path).finished) == 3


def test_infinities_and_columns_that_would_hide_the_cells_are_named(path):
    with runs.RunFile(path, "toy", SETTINGS, 3) as file:
        header = path.read_bytes()
        with pytest.raises(ValueError, match=r"gain is inf in a row of the cell .*'draw': 0"):
            file.append(CELLS[0], [{"gain": np.float32("inf")}])
        with pytest.raises(ValueError, match="'draw' is a field of the cell"):
            file.append(CELLS[0], [{"draw": 3, "gain": 1.0}])
        assert path.read_bytes() == header
        file.append(CELLS[0], [{"gain": np.float32("nan")}])
    assert runs.read(path).frame()["gain"].isna().all()


# --- which model it was --------------------------------------------------------------------------


@dataclass(frozen=True)
class OnModel:
    subject: Subject


def local(folder, weights=b"weights"):
    (folder / "tiny").mkdir(parents=True, exist_ok=True)
    (folder / "tiny" / "model.safetensors").write_bytes(weights)
    (folder / "pairs.jsonl").write_text("{}")
    return OnModel(Subject(model=str(folder / "tiny"), pairs=(folder / "pairs.jsonl",)))


def test_a_local_model_is_known_by_name_and_content_and_its_place_is_not_told(path, tmp_path):
    settings = local(tmp_path / "alice")
    write(path, CELLS[:1], settings)
    text = path.read_text()
    assert "tiny (sha256 " in text
    assert "pairs.jsonl (sha256 " in text
    assert "alice" not in text
    assert str(tmp_path) not in text
    moved = local(tmp_path / "bob")
    (tmp_path / "bob" / "tiny" / "README.md").write_text("notes")
    write(path, CELLS[:2], moved)  # the same model elsewhere
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"subject\.model was 'tiny \(sha256 .* and is now 'tiny \(sha256"):
        write(path, CELLS, local(tmp_path / "carol", b"weighty"))
    (tmp_path / "bob" / "pairs.jsonl").write_text("{ }")
    with pytest.raises(ValueError, match=r"subject\.pairs was"):
        write(path, CELLS, moved)
    assert path.read_bytes() == before


def test_a_run_begun_when_files_held_paths_is_resumed_and_its_report_tells_none(path, tmp_path):
    settings = local(tmp_path / "alice")
    write(path, CELLS[:1], settings)
    header, *rest = path.read_bytes().splitlines(keepends=True)
    old = json.loads(json.dumps(asdict(settings), default=str))
    for since in ("n_behaviours", "columns", "chat", "system", "device", "dtype"):
        del old["subject"][since]  # a setting that there was not
    path.write_bytes(b"".join([json.dumps({**json.loads(header), "settings": old}).encode(), b"\n", *rest]))
    write(path, CELLS, settings)
    assert len(runs.read(path).finished) == 3
    shown = str(report._without_places(runs.read(path).settings))
    assert "'tiny'" in shown
    assert "'pairs.jsonl'" in shown
    assert "alice" not in shown
    with pytest.raises(ValueError, match="other settings"):
        write(path, CELLS, local(tmp_path / "bob"))
    chatting = replace(settings, subject=replace(settings.subject, chat=True))
    with pytest.raises(ValueError, match=r"subject\.chat was None and is now True"):
        write(path, CELLS, chatting)


def test_absolute_paths_of_any_system_lose_their_folders_and_other_names_stay():
    for path, name in {
        "/home/alice/llama": "llama",
        "~alice/llama": "llama",
        "C:\\Users\\alice\\llama": "llama",
        "meta/llama": "meta/llama",
        "a / b": "a / b",
    }.items():
        assert paths.without_folders(path) == name
