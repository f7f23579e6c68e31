"""Lists of results are lists, and show their first items."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import replace

import torch

import grains_lens as gl
from grains_lens.html.lists import Results
from tests import faces


def attributions(n: int) -> gl.Attributions:
    """Prompts whose strongest token scores 2, 4, 6, ... nats."""
    one = faces.attribution()
    return gl.Attributions(replace(one, scores=one.scores * (index + 1)) for index in range(n))


def test_a_list_of_results_is_a_list_in_every_other_way():
    some = attributions(3)
    assert isinstance(some, list)
    assert some == list(some)
    assert list(reversed(some)) == some[::-1]
    assert torch.equal(pickle.loads(pickle.dumps(some))[2].scores, some[2].scores)


def test_slices_and_copies_show_themselves_too():
    some = attributions(3)
    for part in (some[1:], some[:0], some.copy(), copy.copy(some), pickle.loads(pickle.dumps(some))):
        assert type(part) is gl.Attributions
    assert some[1:] == list(some)[1:]
    assert some[-1] is list(some)[-1]


def test_a_terminal_gets_one_short_line_per_item_and_is_told_how_many_are_left_out():
    shown = repr(attributions(25)).splitlines()
    assert shown[0] == "Attributions of 25:"
    assert [line.split()[0] for line in shown[1:-1]] == [f"[{index}]" for index in range(10)]
    assert all(len(line) <= 160 for line in shown)
    assert shown[-1] == "... and 15 more: use a slice such as [10:20] to see others."
    assert repr(gl.Attributions()) == "Attributions([])"


def test_a_notebook_gets_the_first_strips_and_is_told_how_many_are_left_out():
    html = attributions(12)._repr_html_()
    assert html.count("completeness error") == 10
    assert "and 2 more: use a slice such as [10:12]" in html
    assert "more:" not in attributions(10)._repr_html_()
    assert "Attributions([])" in gl.Attributions()._repr_html_()


def test_strips_of_a_list_share_one_colour_scale():
    """The same colour is the same number of nats: only the strongest prompt's strongest token has full colour."""
    opacities = [
        max(float(a) for a in re.findall(r"rgba\([\d,]+,([\d.]+)\)", strip))
        for strip in attributions(4)._repr_html_().split("completeness error")[:4]
    ]
    assert opacities == [0.2, 0.4, 0.6, 0.8]


def test_other_results_show_themselves_in_lists():
    flows = Results([faces.conductance()] * 7)
    assert flows._repr_html_().count("Conductance of resid_post") == 5
    assert "and 2 more: use a slice such as [5:7]" in flows._repr_html_()
    assert repr(flows).count("LayerConductance(resid_post") == 5
