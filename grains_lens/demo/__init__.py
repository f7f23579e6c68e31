"""What `grains-lens demo` runs: GrAInS and its rivals on a small model that ships, judged on held-out questions."""

from .report import Settings
from .study import run

__all__ = ["Settings", "run"]
