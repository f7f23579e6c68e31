"""A study comes out the same however often it is killed, and wherever its cells are measured."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import runs
from analysis.running import run
from tests.analysis import toy_study

TOY = toy_study.__name__
SETTINGS = toy_study.Settings()


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return run(TOY, SETTINGS, tmp_path_factory.mktemp("serial") / "toy.jsonl", progress=False).frame()


def test_killed_again_and_again_it_loses_nothing_and_does_nothing_twice(tmp_path):
    # Many slow cells: however late a kill comes on a busy machine, some are left for the next one.
    slow = toy_study.Settings(draws=15, seconds=0.2)
    path = tmp_path / "toy_study.jsonl"
    finished, kills = 0, 0
    for jobs in ("1", "2", "1"):
        command = [sys.executable, "-m", "analysis", TOY, "--out", str(tmp_path), "--jobs", jobs]
        process = start([*command, "--draws", "15", "--seconds", "0.2"])
        while process.poll() is None and done(path) < finished + 2:
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that its death left behind
        assert done(path) >= finished
        finished = done(path)
    assert kills == 3
    assert 0 < finished < len(toy_study.cells(slow))
    at_once = run(TOY, replace(slow, seconds=0.0), tmp_path / "at_once.jsonl", progress=False)
    assert run(TOY, slow, path, jobs=2, backend="threading", progress=False).frame().equals(at_once.frame())
    keys = [str(one["cell"]) for one in runs.read(path).finished]
    assert len(keys) == len(set(keys)) == len(toy_study.cells(slow))
    assert len(runs.read(path).sessions) == 4


def start(command):
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        command, cwd=root, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )


def test_workers_of_a_killed_driver_end_within_seconds_in_the_middle_of_a_cell(tmp_path):
    """Those of loky: Dask's own workers see by themselves that their driver is gone."""
    flags = ["--out", str(tmp_path / "run"), "--jobs", "2"]
    driver = start(
        [sys.executable, "-m", "analysis", TOY, *flags, "--seconds", "300", "--traces", str(tmp_path)]
    )
    try:
        wait_until(lambda: len(list(tmp_path.glob("*-*-*"))) == 2, seconds=120)
        workers = {int(path.name.split("-")[0]) for path in tmp_path.glob("*-*-*")}
        assert len(workers) == 2
        assert driver.pid not in workers
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        wait_until(lambda: not any(alive(worker) for worker in workers), seconds=10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def done(path):
    return path.read_bytes().count(b'{"cell"') if path.exists() else 0


@pytest.mark.parametrize("backend", ["loky", "dask", "ray"])
def test_two_worker_processes_find_what_one_process_finds(backend, serial, tmp_path):
    """For Dask and Ray these are local clusters, with all that belongs to them."""
    package = {"dask": "distributed", "ray": "ray"}.get(backend)
    if package:
        pytest.importorskip(package, reason=f"{package} is not installed")
    settings = replace(SETTINGS, seconds=0.1, traces=str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        made = run(TOY, settings, tmp_path / "run" / "toy.jsonl", jobs=2, backend=backend, progress=False)
    assert made.frame().equals(serial)
    traces = [path.name.split("-", 1) for path in tmp_path.glob("*-*-*")]
    assert len(traces) == len({cell for _, cell in traces}) == len(toy_study.cells(SETTINGS))
    assert len({process for process, _ in traces} - {str(os.getpid())}) == 2


def test_two_threads_find_what_one_finds(serial, tmp_path):
    made = run(TOY, SETTINGS, tmp_path / "toy.jsonl", jobs=2, backend="threading", progress=False)
    assert made.frame().equals(serial)


def test_a_cell_that_fails_leaves_the_finished_ones(tmp_path, monkeypatch):
    path = tmp_path / "toy.jsonl"
    measure = toy_study.measure

    def fail_at_third(cell, settings):
        if cell.draw == 2:
            raise RuntimeError("no luck")
        return measure(cell, settings)

    monkeypatch.setattr(toy_study, "measure", fail_at_third)
    with pytest.raises(RuntimeError, match="no luck"):
        run(TOY, SETTINGS, path, progress=False)
    assert len(runs.read(path).finished) == 2


@pytest.mark.parametrize(
    ("settings", "jobs", "message"),
    [(SETTINGS, 0, "jobs=0 must be at least 1"), (replace(SETTINGS, draws=0), 1, "leave nothing to measure")],
)
def test_what_cannot_run_is_refused_before_a_file_is_made(settings, jobs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(TOY, settings, tmp_path / "toy.jsonl", jobs=jobs, progress=False)
    assert not list(tmp_path.iterdir())
