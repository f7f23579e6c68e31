"""`grains-lens study` is the studies' own command line, with the exit status of the other commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grains_lens as gl
from grains_lens.cli import main


def test_studies_are_listed_with_their_questions(capsys):
    assert main(["study"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("grains-lens study STUDY [--quick]")
    for name in gl.analysis.names():
        assert f"  {name} " in printed


def test_a_study_runs_and_says_where_its_files_are(tmp_path, capsys):
    assert main(["study", "tests.analysis.toy_study", "--draws", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert f"{tmp_path}/toy_study.jsonl" in said.out
    assert said.err == ""  # no bar into a pipe
    assert (tmp_path / "toy_study.png").exists()


def test_what_is_wrong_ends_in_one_line_and_status_2(tmp_path, capsys):
    for wrong in (["layer_ablatoin"], ["layer_ablation", "--model", "some/model", "--out", str(tmp_path)]):
        assert main(["study", *wrong]) == 2
        caught = capsys.readouterr()
        assert caught.out == ""
        assert caught.err.startswith("grains-lens: ")
        assert caught.err.count("\n") == 1


def test_studies_are_found_from_any_folder_without_a_package_called_analysis(tmp_path):
    """As installed: nothing of the repository is on the path but the library."""
    root = Path(gl.__file__).parents[1]
    (tmp_path / "analysis.py").write_text("raise ImportError('this is another analysis')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.path.append({str(root)!r}); "
        "import grains_lens as gl; from grains_lens.analysis.studies import layer_ablation; "
        "print(layer_ablation.__name__, 'analysis' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["grains_lens.analysis.studies.layer_ablation", "False"], done.stderr
