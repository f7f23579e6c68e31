"""What the tests of studies make smaller: nothing they prove depends on how long a dictionary was trained."""

import functools

import pytest

from analysis.dictionaries import dictionaries_of
from analysis.studies import method_comparison


@pytest.fixture(autouse=True)
def _dictionaries_of_few_steps(monkeypatch):
    """CorrSteer's dictionaries take ten CPU seconds per model; with few steps they run through the same code."""
    short = functools.partial(dictionaries_of, steps=10)
    monkeypatch.setattr(method_comparison, "dictionaries_of", short)
