"""Which class of model this is, told by name: the class may not be there to import, or take seconds."""

from __future__ import annotations

from typing import Any

from torch import nn


def is_hooked_transformer(model: Any) -> bool:
    """Whether this is transformer-lens 3's HookedTransformer (the class is gone in 4)."""
    return _is_a(model, "HookedTransformer")


def is_plain(model: Any) -> bool:
    """Whether this is a transformers model without TransformerLens: it can be steered, and no more."""
    return _is_a(model, "PreTrainedModel")


def _is_a(model: Any, name: str) -> bool:
    return any(cls.__name__ == name for cls in type(model).__mro__)


def module_trees(model: Any) -> list[nn.Module]:
    """The module trees that together hold all of a model.

    A bridge does not register what it has not wrapped, such as GPT-2's embedding dropout: its own `modules()`
    leave that out, and the transformers model inside it has it.
    """
    inner = getattr(model, "original_model", None)
    return [model, inner] if isinstance(inner, nn.Module) else [model]


def decoder_blocks(model: Any) -> nn.ModuleList:
    """The blocks of a plain transformers model: the one list of modules that its decoder has for its layers."""
    wanted = model.config.get_text_config().num_hidden_layers
    found = [m for m in model.get_decoder().children() if isinstance(m, nn.ModuleList) and len(m) == wanted]
    if len(found) != 1:
        raise ValueError(
            f"{type(model).__name__} has {len(found)} lists of {wanted} blocks in its decoder, not one: "
            "steer it as a TransformerBridge (grains_lens.load_model)."
        )
    return found[0]
