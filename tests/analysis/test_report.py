"""The page of finished runs stands alone, and a browser shows it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import warnings
from xml.etree import ElementTree

import pytest
from matplotlib import image

from analysis import __main__ as command
from tests.analysis import toy_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


OURS = ("--studies", toy_study.__name__)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    command.main([toy_study.__name__, "--out", str(directory)])
    command.main([toy_study.__name__, "--quick", "--out", str(directory)])
    return directory


@pytest.fixture(scope="module")
def page(directory, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    command.main(["report", str(directory), "--out", str(out), *OURS])
    return out


def test_it_holds_tables_figures_settings_versions_revision_and_date(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("<table") == text.count("<figure>") == 2
    assert "What is the mean of chance &lt;b&gt;?" in text  # text is text, not markup
    for part in ("&quot;draws&quot;: 4", "&quot;draws&quot;: 2", "&quot;torch&quot;", "Revision ", "left"):
        assert part in text


def test_a_run_that_is_not_finished_says_so(directory, page, tmp_path):
    assert "8 of 8 cells, 16 rows" in page.read_text(encoding="utf-8")
    assert "unfinished" not in page.read_text(encoding="utf-8")
    lines = (directory / "toy_study.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "toy.jsonl").write_bytes(b"".join(lines[:4]))
    command.main(["report", str(tmp_path), *OURS])
    assert "3 of 8 cells, unfinished, 6 rows" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_it_takes_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<link" not in text
    assert "@import" not in text
    sources = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)", text)
    assert sources
    assert all("".join(source).startswith(("data:", "#")) for source in sources)


def test_runs_that_are_not_there_are_named(tmp_path):
    with pytest.raises(SystemExit, match="holds no runs"):
        command.main(["report", str(tmp_path), *OURS])


def test_nothing_that_a_run_file_names_is_imported(directory, tmp_path, monkeypatch):
    """A module beside a run of it, in the place that the run names."""
    trap = tmp_path / "out" / "analysis"
    trap.mkdir(parents=True)
    (trap / "mod.py").write_text("from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n")
    header, *rest = (directory / "toy_study.jsonl").read_bytes().splitlines(keepends=True)
    named = header.replace(toy_study.__name__.encode(), b"out.analysis.mod")
    assert named != header
    (trap / "run.jsonl").write_bytes(b"".join([named, *rest]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SystemExit, match=r"'out\.analysis\.mod', which is not one of the studies here"):
        command.main(["report", "out/analysis"])
    assert not (trap / "mod.ran").exists()
    assert "out.analysis.mod" not in sys.modules


@pytest.mark.parametrize("name", ["os", "analysis.report", "..studies", "layer_ablation.evil", "a" * 10_000])
def test_other_names_in_run_files_name_no_study_either(name, directory, tmp_path):
    header, *rest = (directory / "toy_study.jsonl").read_bytes().splitlines(keepends=True)
    changed = json.dumps({**json.loads(header), "study": name}).encode() + b"\n"
    (tmp_path / "run.jsonl").write_bytes(b"".join([changed, *rest]))
    with pytest.raises(SystemExit, match="not one of the studies here") as caught:
        command.main(["report", str(tmp_path), *OURS])
    assert len(str(caught.value)) < 600


def test_a_module_that_is_no_study_is_refused_by_name():
    for name in ("os.path", "analysis.runs"):
        with pytest.raises(SystemExit, match="is not a study: it does not define QUESTION"):
            command.main([name])
    with pytest.raises(SystemExit, match="is not the name of a module"):
        command.main(["..studies"])


def test_bad_files_are_listed_with_their_reasons_and_the_others_shown(directory, tmp_path):
    shutil.copy(directory / "toy_study.jsonl", tmp_path / "good.jsonl")
    header, cell, *_ = (directory / "toy_study.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "bad\x1b[2J.jsonl").write_text('{"format": 1\n')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "other.jsonl").write_text('{"prompt": "<script>"}\n')
    (tmp_path / "rows.jsonl").write_bytes(header + cell.replace(b'"gain"', b'"loss"'))
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SystemExit) as caught:
        command.main(["report", str(tmp_path), *OURS])
    said, text = str(caught.value), (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "without 6 files" in said
    assert "8 of 8 cells, 16 rows" in text
    for name in ("bad\\x1b[2J", "empty", "folder", "other", "rows", "gone"):
        assert f"{name}.jsonl" in said
        assert f"{name}.jsonl" in text
    assert "\x1b" not in said + text
    assert "makes no table of its rows (KeyError" in said


def test_control_characters_leave_figures_well_formed(directory, tmp_path):
    content = (directory / "toy_study.jsonl").read_bytes()
    (tmp_path / "toy.jsonl").write_bytes(content.replace(b'"left"', b'"\\u0000le\\u001bft"'))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's, of glyphs
        command.main(["report", str(tmp_path), *OURS])
    (figure,) = re.findall(r"base64,([^\"]*)", (tmp_path / "report.html").read_text(encoding="utf-8"))
    ElementTree.fromstring(base64.b64decode(figure))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_figures_and_tables(page, tmp_path):
    def browse(*action):
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
        ]
        return subprocess.run(
            [CHROMIUM, *flags, *action, page.as_uri()], capture_output=True, text=True, timeout=120
        ).stdout

    browse(f"--screenshot={tmp_path / 'page.png'}", "--window-size=900,1400")
    pixels = image.imread(tmp_path / "page.png")
    assert pixels.shape[:2] == (1400, 900)
    colours = {tuple(colour) for colour in (pixels[::2, ::2, :3] * 255).astype(int).reshape(-1, 3).tolist()}
    assert (0, 114, 178) in colours  # the figure's blue: the SVG inside the page was drawn
    assert len(browse("--dump-dom").split("<td>")) == 13
