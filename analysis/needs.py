"""Packages that studies need besides the library, checked before anything else is imported."""

from __future__ import annotations

from importlib.util import find_spec

if missing := [name for name in ("joblib", "pandas") if find_spec(name) is None]:
    raise ImportError(f'the studies need {" and ".join(missing)}: pip install "grains-lens[analysis]".')
