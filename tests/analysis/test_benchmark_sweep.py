"""The benchmark of sweeps runs, and its contenders agree. What the numbers are is not tested."""

from analysis.benchmarks import sweep


def test_it_prints_every_row(capsys):
    sweep.main(["--quick"])
    printed = capsys.readouterr().out
    for name in sweep.NAMES:
        assert f"| {name} |" in printed
