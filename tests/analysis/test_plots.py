"""Figures for readers: words for names, the average set apart, and names beside points that do not collide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import plots, tables
from analysis.studies import layer_ablation
from analysis.words import layers_steered, words


def test_tables_have_words_for_names_in_heads_and_in_cells():
    table = pd.DataFrame({"rule": ["gauss_legendre"], "over_mean": [0.1], "my_own": ["some_file"]})
    assert list(tables.shown(table).columns) == ["rule", "over the mean", "my own"]
    assert tables.shown(table).values.tolist() == [["Gauss-Legendre", "0.100", "some_file"]]
    assert words("my_file.jsonl") == "my_file.jsonl"


def test_no_words_have_an_underscore():
    from analysis.words import WORDS

    assert not [said for said in WORDS.values() if "_" in said]


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_every_set_of_layers_has_its_own_words(n):
    sets = layer_ablation.layer_sets(range(n), 2)
    said = [layers_steered(kind, layers, range(n)) for kind, layers in sets]
    assert len(set(said)) == len(sets)
    assert said[-1] == "all"
    assert f"{n - 1} alone" in said


def test_sets_of_layers_are_said_shortly():
    assert layers_steered("all but one", (1, 2, 3), range(4)) == "all but 0"
    assert layers_steered("first", (0, 1), range(4)) == "0 and 1"
    assert layers_steered("last", (2, 3, 4), range(5)) == "2 to 4"


def test_the_average_stands_apart_behind_a_line():
    names = ["truth", "faith", "average"]
    assert np.diff(plots.places(names)).tolist() == pytest.approx([1.0, 1.35])
    assert np.diff(plots.places(["a", "b"])).tolist() == [1.0]
    _, (axes,) = plots.panels(1)
    plots.name_places(axes, names)
    (line,) = axes.get_lines()
    assert 1.5 < line.get_xdata()[0] < plots.places(names)[-1] - 0.5
    assert [text.get_text() for text in axes.get_xticklabels()] == names


def test_the_averages_line_is_black_and_thicker():
    _, (axes,) = plots.panels(1)
    table = pd.DataFrame({"x": [0, 1], "y": [0, 1], "y_low": [0, 1], "y_high": [0, 1]})
    for index, label in enumerate(("truth", "average")):
        plots.line(axes, table, "x", "y", label=label, index=index)
    truth, average = axes.get_lines()
    assert average.get_color() == "black" != truth.get_color()
    assert average.get_linewidth() > truth.get_linewidth()


def test_names_beside_crowded_points_do_not_touch_each_other_or_leave_the_frame():
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    generator = np.random.default_rng(0)
    x, y = generator.normal(0.5, 0.1, 12).tolist(), generator.normal(0.5, 0.1, 12).tolist()
    axes.plot(x, y, "o")
    axes.margins(0.3)
    plots.label_points(axes, x, y, [f"method number {index}" for index in range(12)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 12
    for index, box in enumerate(boxes):
        assert not [other for other in boxes[:index] if box.overlaps(other)]
        assert axes.get_window_extent().contains(box.x0, box.y0)
        assert axes.get_window_extent().contains(box.x1, box.y1)
