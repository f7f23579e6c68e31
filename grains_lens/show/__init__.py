"""Figures: token strips, layer by token maps, faithfulness curves, bars; functions that return matplotlib figures."""

from .bars import Bar, gains
from .curves import faithfulness_curves
from .maps import layer_token_map
from .strip import token_strip
from .style import save

__all__ = ["Bar", "faithfulness_curves", "gains", "layer_token_map", "save", "token_strip"]
