"""The benchmark of steering runs, on a model too small for its numbers to mean anything."""

import gc
import math

import pytest

from analysis.benchmarks import steering


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_every_way_of_ours_is_timed_on_every_model_class(capsys):
    gc.freeze()  # the benchmark collects before every run, which is slow where other tests' models are about
    try:
        rows = steering.run(d_model=64, n_layers=2, repeats=1, new=2)
    finally:
        gc.unfreeze()
    assert {"transformers", "TransformerBridge"} <= {row.model for row in rows}
    for row in rows:
        assert row.ratio > 0
        assert math.isfinite(row.ratio)
        assert 0 < row.peak_without <= row.peak
    steering.show(64, 2, rows, new=2)
    printed = capsys.readouterr().out
    assert sum("grains_lens" in line for line in printed.splitlines()) == sum(
        "grains_lens" in row.steering for row in rows
    )
