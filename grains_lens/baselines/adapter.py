"""Low-rank adapters on a model's linear layers, put on and taken off without a trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import unknown_name
from ..hosts.hooks import MARK, attached
from ..hosts.kinds import decoder_blocks, is_hooked_transformer, is_plain
from ..hosts.model import HookedModel, device_of
from ..hosts.ownership import claim, release, surely, turn


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer of the model: where it hangs, what hangs there, and the peft layer around it."""

    name: str
    parent: nn.Module
    child: str
    original: nn.Module
    adapted: nn.Module

    def put(self, module: nn.Module) -> None:
        """Hang `module` there, in the same place of the parent's order."""
        self.parent._modules[self.child] = module


class LoraAdapter:
    """A trained LoRA adapter, W' = W + (alpha/rank)·BA on each adapted layer (Hu et al. 2021, section 4.1).

    Use it as a context (`with adapter:`), as often as wanted, or over several notebook cells with
    `.install()` and `.remove()`. Outside, the model is bit for bit what it was: its own layers hang where they
    hung. `losses` has each training step's loss in nats, `settings` how it was made.

    Raises RuntimeError when it is switched on while another adapter is on the same layers (`clear(model)` takes
    off one whose handle is lost), or while another thread or asyncio task uses the model.
    """

    def __init__(
        self,
        model: HookedModel,
        layers: Sequence[Layer],
        settings: dict[str, Any],
        losses: Sequence[float],
        optimiser_state: dict[str, Any],
    ) -> None:
        self._model = model
        self._layers = tuple(layers)
        self._optimiser_state = optimiser_state
        self.settings = settings
        self.losses = tuple(losses)

    @property
    def installed(self) -> bool:
        """Whether the adapter is on."""
        return any(layer.parent._modules[layer.child] is layer.adapted for layer in self._layers)

    def install(self) -> LoraAdapter:
        """Switch the adapter on until `remove()`; a second call while it is on changes nothing."""
        if self.installed:
            return self
        for layer in self._layers:
            if layer.parent._modules[layer.child] is not layer.original:
                raise RuntimeError(
                    f"{layer.name} is not the layer this adapter was trained on: take the other adapter off "
                    "first, or train this one on the model as it is now."
                )
        try:
            claim(self._model, self)
            for layer in self._layers:
                # So that it is found where the handle is lost.
                layer.adapted.__dict__[MARK] = self
                layer.put(layer.adapted)
            return self
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Switch the adapter off."""
        surely(self._switch_off)

    def _switch_off(self) -> None:
        for layer in self._layers:
            if layer.parent._modules[layer.child] is layer.adapted:
                layer.put(layer.original)
            layer.adapted.__dict__.pop(MARK, None)
        release(self)

    def __enter__(self) -> HookedModel:
        if self.installed:
            raise RuntimeError("this adapter is already on.")
        return self.install()._model

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The adapter's parameters, A [rank, in] and B [out, rank] of each layer, by the layer's name."""
        return {
            f"{layer.name}.{name}": parameter.detach().clone()
            for layer in self._layers
            for name, parameter in trainable(layer.adapted)
        }

    def __repr__(self) -> str:
        size = sum(weight.numel() for weight in self.weights.values())
        return (
            f"LoraAdapter({self.settings['loss']}, rank {self.settings['rank']}, {len(self._layers)} layers, "
            f"{size:,} weights, {len(self.losses)} steps, {'on' if self.installed else 'off'})"
        )


def trainable(adapted: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The adapter's own parameters of a peft layer."""
    return ((name, p) for name, p in adapted.named_parameters() if "lora_" in name)


@contextmanager
def adapted(
    model: HookedModel, *, rank: int, alpha: float, targets: Sequence[str] | None, seed: int
) -> Iterator[list[Layer]]:
    """The model with a new, untrained adapter on; what it computes is not changed yet, since B = 0.

    Afterwards it is as it was; the layers that the context gives keep the adapter.
    """
    peft = _peft()
    host: Any = model if is_plain(model) else model.original_model
    linear = linear_layers(model, host, targets)
    modules = dict(host.named_modules())
    places = [(name, modules[name.rpartition(".")[0]], name.rpartition(".")[2]) for name in linear]
    had_config = host.__dict__.get("peft_config")
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(linear), lora_dropout=0.0)

    def put_back() -> None:
        for name, parent, child in places:
            parent._modules[child] = linear[name]
        host.__dict__.pop("peft_config", None)
        if had_config is not None:
            host.peft_config = had_config

    with turn(model, put_back):
        # peft draws A from torch's own random stream, which is the user's: put back, and A drawn anew below.
        with torch.random.fork_rng(), warnings.catch_warnings():
            # Of GPT-2's layers some are stored transposed and some are not; peft finds out, but says so.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            peft.inject_adapter_in_model(config, host)
        layers = [
            Layer(_shown(name), parent, child, linear[name], parent._modules[child])  # pyright: ignore[reportArgumentType]
            for name, parent, child in places
        ]
        _draw(layers, seed)
        yield layers


def linear_layers(model: HookedModel, host: nn.Module, targets: Sequence[str] | None) -> dict[str, nn.Module]:
    """The linear layers of the blocks that a forward pass runs, by their names in `host`; of these, `targets`.

    A bridge keeps layers that it has replaced by others (GPT-2's joint query-key-value layer): an adapter
    there would do nothing.
    """
    blocks = decoder_blocks(model) if is_plain(model) else model.blocks
    inside = {id(module) for block in blocks for module in block.modules()}
    found = {name: m for name, m in host.named_modules() if id(m) in inside and _is_linear(m)}
    run: set[int] = set()
    noting = [(module, _note(run), False) for module in found.values()]
    with attached(model, noting), torch.no_grad():
        model(torch.zeros(1, 2, dtype=torch.long, device=device_of(model)))
    found = {name: module for name, module in found.items() if id(module) in run}
    known = dict.fromkeys(_own_name(name) for name in found)
    for target in targets or ():
        if target not in known:
            raise unknown_name("targets", target, known)
    return {name: m for name, m in found.items() if targets is None or _own_name(name) in targets}


def check_adaptable(model: Any) -> None:
    """Raise ValueError for a model class whose weights peft cannot wrap."""
    if is_hooked_transformer(model):
        raise ValueError(
            "model is a HookedTransformer, which keeps its weights one head at a time ([head, d_model, d_head]) "
            "and not as the linear layers that LoRA adapts: load it as a TransformerBridge "
            '(load_model(..., backend="bridge")).'
        )


def _note(run: set[int]) -> Callable[..., None]:
    return lambda module, inputs, output: run.add(id(module))


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _shown(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "_original_component")


def _own_name(name: str) -> str:
    return _shown(name).rpartition(".")[2]


def _draw(layers: Sequence[Layer], seed: int) -> None:
    """A as peft draws it, from a stream of its own; float32, whatever the model is in; B is zeros."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        layer.adapted.eval()
        for name, parameter in trainable(layer.adapted):
            values = torch.zeros(parameter.shape)
            if "lora_A" in name:
                nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
            parameter.data = values.to(parameter.device)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError('LoRA is made by peft: pip install "grains-lens[finetune]".') from error
    return peft
