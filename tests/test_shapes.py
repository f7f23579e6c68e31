"""Annotations are checked at the first call of each function in each test."""

import inspect

import pytest
import torch

import grains_lens as gl
from tests import shapes

WRONG = torch.zeros(2, 3, 4)  # where differences [pair, d_model] are expected


def test_a_wrong_shape_is_an_error_at_the_first_call():
    with pytest.raises(Exception, match="Type-check error"):
        gl.mean_direction(WRONG)


def test_each_test_begins_anew():
    for _ in range(2):
        with pytest.raises(Exception, match="Type-check error"):
            gl.mean_direction(WRONG)
        shapes.begin_test()


def test_later_calls_are_not_checked():
    deltas = torch.arange(6.0).reshape(2, 3)
    for _ in range(shapes.FIRST):
        gl.mean_direction(deltas)
    assert gl.mean_direction(WRONG).shape == (3, 4)


def test_what_is_checked_is_what_is_written():
    assert list(inspect.signature(gl.mean_direction).parameters) == ["deltas", "weights"]
    assert inspect.getsource(inspect.unwrap(gl.mean_direction)).startswith("def mean_direction")
