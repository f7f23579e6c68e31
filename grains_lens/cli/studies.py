"""`grains-lens study`: the studies, whose flags are their own settings."""

from __future__ import annotations

import importlib
from collections.abc import Sequence


def study() -> None:
    """Studies of steering, on a world or a model of yours: `grains-lens study` lists them, with their questions."""
    run_study([])


def run_study(arguments: Sequence[str]) -> None:
    """Hand the rest of a command line to the studies' own. What a user can mend is a ValueError, OSError or
    ImportError."""
    # Found where it stands only while it runs: in a clone that is the folder `analysis`.
    studies = importlib.import_module("grains_lens.analysis.__main__")
    try:
        studies.command(arguments, "grains-lens study")
    except RuntimeError as error:
        raise ValueError(str(error)) from error
