"""Which class of model this is, told by name: the class may not be there to import, or take seconds."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from typing import Any

from torch import nn

from ..errors import kind_of, printable


def is_hooked_transformer(model: Any) -> bool:
    """Whether this is transformer-lens 3's HookedTransformer (the class is gone in 4)."""
    return _is_a(model, "HookedTransformer")


def is_plain(model: Any) -> bool:
    """Whether this is a transformers model without TransformerLens: it can be steered, and no more."""
    return _is_a(model, "PreTrainedModel")


# On a bridge of a transformer-lens before this version, random models of these give other logits than in
# transformers (MPT: with pads or a cache).
_RIGHT_SINCE: dict[str, tuple[int, int]] = {
    "CohereForCausalLM": (4, 3),
    "Cohere2ForCausalLM": (4, 3),
    "HunYuanDenseV1ForCausalLM": (4, 3),
    "MptForCausalLM": (4, 3),
    "MPTForCausalLM": (4, 3),
}

# They carry a state from token to token, and no keys and values of a prompt that could be continued.
_STATEFUL = frozenset({"MambaForCausalLM", "Mamba2ForCausalLM", "FalconMambaForCausalLM", "RwkvForCausalLM"})


def check_model(model: Any) -> None:
    """ValueError for what is no hooked or plain model, and for a bridge that is known to compute something else."""
    if is_plain(model):
        return
    if (
        _is_a(model, "OptimizedModule")
        or _is_a(model, "PeftModel")
        or isinstance(model, type)
        or getattr(model, "hook_dict", None) is None
    ):
        raise not_hooked(model)
    if is_hooked_transformer(model):
        return
    architecture = str(getattr(model.cfg, "architecture", None))
    if architecture in _STATEFUL:
        raise ValueError(f"{architecture} keeps no keys and values of a prompt: take a model with attention.")
    right, version = _RIGHT_SINCE.get(architecture, (0, 0)), _transformer_lens()
    if tuple(int(part) for part in version.split(".")[:2]) < right:
        raise ValueError(
            f"transformer-lens {version} computes {architecture} otherwise than transformers does, which would "
            "make every result wrong: install transformer-lens 4.3 or newer, or steer the plain transformers model."
        )


@functools.cache
def _transformer_lens() -> str:
    return importlib.metadata.version("transformer-lens")


def not_hooked(model: Any) -> ValueError:
    """The error for a model that cannot be hooked, with what to pass in its place."""
    kind = type(model).__name__
    if _is_a(model, "OptimizedModule"):
        return ValueError(
            f"model is a {kind} (torch.compile), not a hooked model: pass the model that was compiled. While it is "
            "steered the compiled one is too, and runs uncompiled."
        )
    if _is_a(model, "PeftModel"):
        return ValueError(
            f"model is a {kind}, not a hooked model: pass model.get_base_model(), which LoRA's layers are in, or "
            "a TransformerBridge of model.merge_and_unload()."
        )
    if is_plain(model):
        return ValueError(
            f"model is a {kind} of transformers, not a hooked model: pass a TransformerBridge, as "
            "grains_lens.load_model(path_or_name) makes one, or TransformerBridge.boot_transformers(name, "
            "hf_model=model) of this one."
        )
    if isinstance(model, str | os.PathLike):
        return ValueError(
            f"model is {kind_of(model)}, not a hooked model: load it first, model = "
            f"grains_lens.load_model({printable(repr(str(model)), 80)})."
        )
    if hasattr(model, "load_model"):
        return ValueError(f"model is a {kind}, not a hooked model: pass what its load_model() gives.")
    if _is_no_model(model):
        return ValueError(
            f"model is {kind_of(model)}, not a hooked model: the model comes first, as in attribute(model, pairs)."
        )
    return ValueError(
        f"model is {kind_of(model)}, not a hooked model: pass a TransformerBridge or a "
        "HookedTransformer (grains_lens.load_model(path_or_name) makes one)."
    )


def _is_no_model(model: Any) -> bool:
    """Whether this is what verbs take after the model: pairs, questions, prompts, vectors."""
    ours = (
        "PreferencePair",
        "MultipleChoice",
        "OpenQuestion",
        "SteeringVectors",
        "Tuning",
        "TokenAttribution",
    )
    return isinstance(model, list | tuple | dict) or any(_is_a(model, name) for name in ours)


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
