"""A hooked model: what it must offer, what shape it has, and how it is kept still while a verb runs."""

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
        """What a hooked model must offer: both transformer-lens model classes do."""

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
    HookedModel = Any  # at run time any model will do: what is missing is named when it is first used


def device_of(model: HookedModel) -> torch.device:
    """The device that token ids go to."""
    check_model(model)
    return torch.device(model.device if is_plain(model) else model.cfg.device)


def layer_count(model: HookedModel) -> int:
    """How many blocks the model has."""
    check_model(model)
    return len(decoder_blocks(model)) if is_plain(model) else int(model.cfg.n_layers)


@dataclass(frozen=True)
class Shape:
    """What a model is, as far as vectors must fit it."""

    name: str
    architecture: str
    dtype: str
    d_model: int
    d_vocab: int


def shape_of(model: HookedModel) -> Shape:
    """Name, architecture and widths, from whichever config the model has."""
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
    """The model in eval mode with no parameter asking for a gradient; the user's own state comes back.

    The backward pass then stops at activations: no weight gradient is computed or kept.
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
    """What runs inside is recorded for a backward pass, under `torch.no_grad()` too.

    Raises RuntimeError under `torch.inference_mode()`, where nothing can be recorded.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "gradients are needed, and torch.inference_mode() is on, which records nothing: call this outside it "
            "(torch.no_grad() may stay)."
        )
    with torch.enable_grad():
        yield
