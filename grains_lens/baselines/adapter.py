"""Low-rank adapters on a model's linear layers, which can be removed without a trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..data.given import Pairs, as_pairs, check_two_answers
from ..errors import unknown_name
from ..hosts.hooks import MARK, attached
from ..hosts.kinds import decoder_blocks, is_hooked_transformer, is_plain
from ..hosts.model import HookedModel, device_of
from ..hosts.ownership import claim, release, surely, turn
from ..prompts.bos import puts_bos_first
from ..prompts.encoding import Encoded, encode
from ..prompts.work import Work


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer of the model: its place, the layer itself, and the peft layer around it."""

    name: str
    parent: nn.Module
    child: str
    original: nn.Module
    adapted: nn.Module

    def put(self, module: nn.Module) -> None:
        """Put `module` in the layer's place, keeping the order of the parent's children."""
        self.parent._modules[self.child] = module


class LoraAdapter:
    """A trained LoRA adapter, W' = W + (alpha/rank)·BA on each adapted layer (Hu et al. 2021, section 4.1).

    Use it as a context (`with adapter:`), any number of times, or over several notebook cells with
    `.install()` and `.remove()`. Outside, the model is bit for bit unchanged: its own layers are back in
    place. `losses` holds the loss of each training step in nats, `settings` how the adapter was made.

    Raises RuntimeError if it is switched on while another adapter is on the same layers (`clear(model)`
    removes one whose handle is lost), or while another thread or asyncio task uses the model.
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
        """Switch the adapter on until `remove()`. If it is already on, nothing changes."""
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
                # So that it can be found if the handle is lost.
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
        """The adapter's parameters, A [rank, in] and B [out, rank] of each layer, keyed by the layer's
        name."""
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
    """The adapter's parameters in a peft layer."""
    return ((name, p) for name, p in adapted.named_parameters() if "lora_" in name)


@contextmanager
def adapted(
    model: HookedModel, *, rank: int, alpha: float, targets: Sequence[str] | None, seed: int
) -> Iterator[list[Layer]]:
    """Put a new, untrained adapter on the model. It does not change the model's output yet, since B = 0.

    Afterwards the model is restored; the layers that the context returns keep the adapter.
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
        # peft draws A from torch's global random stream, which belongs to the user. The stream is restored,
        # and A is drawn again below.
        with torch.random.fork_rng(), warnings.catch_warnings():
            # Some of GPT-2's layers are stored transposed; peft detects this, but warns.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            peft.inject_adapter_in_model(config, host)
        layers = [
            Layer(_shown(name), parent, child, linear[name], parent._modules[child])  # pyright: ignore[reportArgumentType]
            for name, parent, child in places
        ]
        _draw(layers, seed)
        yield layers


def linear_layers(model: HookedModel, host: nn.Module, targets: Sequence[str] | None) -> dict[str, nn.Module]:
    """The linear layers of the blocks that a forward pass runs, limited to `targets`, by their names in
    `host`.

    A bridge keeps layers that it has replaced, such as GPT-2's joint query-key-value layer. An adapter on one
    of these would do nothing.
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
            "model is a HookedTransformer, which stores its weights per head ([head, d_model, d_head]) and "
            "not as the linear layers that LoRA adapts: load it as a TransformerBridge (load_model(..., "
            'backend="bridge")).'
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
    """Draw A as peft does, but from a separate random stream, in float32 whatever the model's dtype; set B to
    zeros."""
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
        raise ImportError('LoRA needs peft: pip install "grains-lens[finetune]".') from error
    return peft


def encoded_pairs(
    model: HookedModel, pairs: Pairs, tokenizer: Any, work: Work, *, one_answer: bool = False
) -> list[Encoded]:
    """Token ids of the pairs that an adapter is trained on, with the model's own tokenizer or a plain model's."""
    check_adaptable(model)
    pairs = as_pairs(pairs)
    if not one_answer:
        check_two_answers(pairs, "pairs")
    if not is_plain(model):
        if tokenizer is not None:
            raise ValueError("tokenizer=... is for plain transformers models: this model has its own.")
        return work.encode(model, pairs, one_answer=one_answer)
    if tokenizer is None:
        raise ValueError("a plain transformers model does not include a tokenizer: pass tokenizer=....")
    n_ctx = int(model.config.get_text_config().max_position_embeddings)
    return encode(
        tokenizer, pairs, prompt_format=work.prompt_format, prepend_bos=puts_bos_first(tokenizer), n_ctx=n_ctx
    )
