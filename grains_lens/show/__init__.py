"""Figures: token strips, scores over pictures, layer-by-token maps, faithfulness curves, bars."""

from .bars import Bar, gains
from .curves import faithfulness_curves
from .maps import layer_token_map
from .pictures import image_attribution
from .strip import token_strip
from .style import save

__all__ = [
    "Bar",
    "faithfulness_curves",
    "gains",
    "image_attribution",
    "layer_token_map",
    "save",
    "token_strip",
]


def __dir__() -> list[str]:
    return __all__
