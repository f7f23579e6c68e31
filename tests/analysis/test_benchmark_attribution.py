"""The benchmark of attribution runs, and prints every row. What the numbers are is not tested."""

import pytest

from analysis.benchmarks import attribution


def test_it_prints_every_row(capsys):
    attribution.main(["--quick"])
    printed = capsys.readouterr().out
    for row in (
        "| integrated gradients, ours |",
        "| conductance of all layers, ours |",
        "| captum, internal_batch_size=1 |",
        "| the released pattern |",
        "captum, internal_batch_size=4",
        "(its best)",
        "the floor at a product of 1024 x 1024",
        "the floor at the products of its own layers",
        "| conductance of all layers |",
        "| 4 pairs to vectors |",
        "Scores differ from captum's by at most",
    ):
        assert row in printed


def test_scores_that_differ_from_captums_end_it(monkeypatch):
    monkeypatch.setattr(attribution, "SAME_WITHIN", 0.0)
    with pytest.raises(SystemExit, match="not the same function"):
        attribution.main(["--quick"])
