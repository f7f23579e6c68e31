"""The page of finished runs stands alone, and a browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from matplotlib import image

from analysis import __main__ as command
from tests.analysis import toy_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    command.main([toy_study.__name__, "--out", str(directory)])
    command.main([toy_study.__name__, "--quick", "--out", str(directory)])
    return directory


@pytest.fixture(scope="module")
def page(directory, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    command.main(["report", str(directory), "--out", str(out)])
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
    command.main(["report", str(tmp_path)])
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
        command.main(["report", str(tmp_path)])


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_figures_and_tables(page, tmp_path):
    def browse(*action):
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
        ]  # fmt: skip
        return subprocess.run(
            [CHROMIUM, *flags, *action, page.as_uri()], capture_output=True, text=True, timeout=120
        ).stdout

    browse(f"--screenshot={tmp_path / 'page.png'}", "--window-size=900,1400")
    pixels = image.imread(tmp_path / "page.png")
    assert pixels.shape[:2] == (1400, 900)
    colours = {tuple(colour) for colour in (pixels[::2, ::2, :3] * 255).astype(int).reshape(-1, 3).tolist()}
    assert (0, 114, 178) in colours  # the figure's blue: the SVG inside the page was drawn
    assert len(browse("--dump-dom").split("<td>")) == 13
