"""A hooked model: its interface, its shape, and how it is frozen while a function runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .kinds import check_model, decoder_blocks, is_plain, module_trees
from .ownership import turn

if TYPE_CHECKING:
    from typing import Protocol

    class HookedModel(Protocol):
        """The interface of a hooked model; both transformer-lens model classes have it."""

        cfg: Any
        tokenizer: Any
        unembed: nn.Module
        ln_final: nn.Module
        blocks: Any
        original_model: nn.Module
        config: Any
        device: Any
        dtype: Any
        W_E: Tensor

        @property
        def hook_dict(self) -> dict[str, Any]: ...
        def generate(self, *args: Any, **kwargs: Any) -> Any: ...
        def get_output_embeddings(self) -> Any: ...
        def parameters(self) -> Iterator[nn.Parameter]: ...
        def modules(self) -> Iterator[nn.Module]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
else:
    HookedModel = Any  # at run time any model will do; anything missing is named when it is first used


def device_of(model: HookedModel) -> torch.device:
    """The device for token ids."""
    check_model(model)
    return torch.device(model.device if is_plain(model) else model.cfg.device)


def layer_count(model: HookedModel) -> int:
    """The number of blocks of the model."""
    check_model(model)
    return len(decoder_blocks(model)) if is_plain(model) else int(model.cfg.n_layers)


@dataclass(frozen=True)
class Shape:
    """Model properties that vectors must match."""

    name: str
    architecture: str
    dtype: str
    d_model: int
    d_vocab: int


def shape_of(model: HookedModel) -> Shape:
    """The name, architecture and widths from the model's config, of whatever kind."""
    check_model(model)
    if is_plain(model):
        config, text = model.config, model.config.get_text_config()
        name, architecture = config.name_or_path or config.model_type, type(model).__name__
        return Shape(name, architecture, _dtype(model.dtype), text.hidden_size, text.vocab_size)
    cfg = model.cfg
    architecture = getattr(cfg, "architecture", None) or getattr(cfg, "original_architecture", None)
    name, widths = str(cfg.model_name), (int(cfg.d_model), int(cfg.d_vocab))
    return Shape(name, str(architecture), _dtype(cfg.dtype), *widths)


def _dtype(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def frozen(model: HookedModel) -> Iterator[None]:
    """Keep the model in eval mode, with no parameter requiring a gradient. The user's own state is restored
    afterwards.

    The backward pass then stops at activations: no weight gradient is computed or stored.
    """
    trees = module_trees(model)
    asking = [p for tree in trees for p in tree.parameters() if p.requires_grad]
    training = [m for tree in trees for m in tree.modules() if m.training]

    def thaw() -> None:
        for parameter in asking:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True

    with turn(model, thaw):
        for parameter in asking:
            parameter.requires_grad_(False)
        for module in training:
            module.training = False
        yield


@contextmanager
def recording() -> Iterator[None]:
    """Record everything inside for a backward pass, even under `torch.no_grad()`.

    Raises RuntimeError under `torch.inference_mode()`, where nothing can be recorded.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "gradients are needed, but torch.inference_mode() is on, which records none: call this outside "
            "it (torch.no_grad() may stay)."
        )
    with torch.enable_grad():
        yield
