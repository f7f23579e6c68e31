"""The model seam: all that grains_lens needs from a hooked model, and the only code that touches hooks.

`HookedTransformer` (transformer-lens 3.9) and `TransformerBridge` (3.9 and 4.x) differ here, in how a
prompt is prefilled and its cache continued, and nowhere else in the library.

Hooks are ours: found by their exact name, refused when missing, put on with PyTorch's own handles and
removed by them. transformer-lens 3.9's bridge ignores unknown names in silence and strips other
people's hooks when one of its contexts ends.
"""

from __future__ import annotations

import contextlib
import copy
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from . import compiling, hooks, multimodal, turns
from .classes import check_model, decoder_blocks, is_plain, module_trees, not_hooked
from .classes import is_hooked_transformer as is_hooked_transformer
from .errors import unknown_name
from .passes import Pass, pass_into_block, pass_into_model
from .tokens import TokenBatch as TokenBatch
from .tokens import left_padded as left_padded
from .tokens import right_padded as right_padded

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

Edit = Callable[[Tensor], "Tensor | None"]
"""What a hook does: takes the activation, returns the new one, or None to leave it."""

EMBED = "hook_embed"
RESID_PRE_0 = "blocks.0.hook_resid_pre"
"""Where attribution is taken: positions are added and image features merged in by then."""


def resid_post(layer: int) -> str:
    """The hook name of the residual stream after block `layer`."""
    return f"blocks.{layer}.hook_resid_post"


def device_of(model: HookedModel) -> torch.device:
    """The device that token ids go to."""
    check_model(model)
    return torch.device(model.device if is_plain(model) else model.cfg.device)


def n_layers(model: HookedModel) -> int:
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


def check_layers(layers: Iterable[int] | None, available: Sequence[int]) -> tuple[int, ...]:
    """`layers` as a sorted tuple, each of them among `available` and named once; None is all of them.

    What stands beside layers one by one is put into their order by `order_of`.
    """
    if layers is None:
        return tuple(available)
    chosen = tuple(sorted(_whole_numbers(layers)))
    if not chosen:
        raise ValueError("layers=[] names no layer; leave it out for all of them.")
    for layer in chosen:
        if layer not in available:
            gapless = len(available) == available[-1] - available[0] + 1
            there = f"{available[0]} to {available[-1]}" if gapless else ", ".join(map(str, available))
            raise ValueError(
                f"layers={list(chosen)!r}: layer {layer} is not there; available are {there}, counted from 0."
            )
        if chosen.count(layer) > 1:
            raise ValueError(f"layers={layers!r} names layer {layer} twice: name each layer once.")
    return chosen


def order_of(layers: int | Iterable[int] | None, chosen: Sequence[int]) -> list[int]:
    """Where in `layers`, as the user gave them, each of the sorted `chosen` stands."""
    if layers is None or isinstance(layers, int):
        return list(range(len(chosen)))
    if isinstance(layers, Set | Mapping | Iterator):
        raise ValueError(f"layers={layers!r} has no order for one strength a layer to go by: give a list.")
    given = _whole_numbers(layers)
    return [given.index(layer) for layer in chosen]


def _whole_numbers(layers: Iterable[Any]) -> list[int]:
    if not isinstance(layers, Iterable):
        raise ValueError(f"layers={layers!r} must be a list of layers, as [{layers!r}].")
    numbers = list(layers)
    for layer in numbers:
        if not hasattr(layer, "__index__"):
            raise ValueError(f"layers={numbers!r}: {layer!r} is no whole number; layers are counted from 0.")
    return [operator.index(layer) for layer in numbers]


# --- hooks ---------------------------------------------------------------------------------------


def hook_points(model: HookedModel) -> Mapping[str, nn.Module]:
    """The modules whose outputs can be hooked, by name; a plain transformers model has its blocks."""
    check_model(model)
    if is_plain(model):
        return {resid_post(layer): block for layer, block in enumerate(decoder_blocks(model))}
    return model.hook_dict


def hook_point(model: HookedModel, name: str) -> nn.Module:
    """The hook point with exactly this name; a ValueError names the nearest one if there is none."""
    points = hook_points(model)
    if name not in points:
        if is_plain(model) and not name.endswith("hook_resid_post"):
            raise not_hooked(model)
        raise unknown_name("hook name", name, points)
    return points[name]


class Hooks:
    """A set of edits at named hook points, to be put on and taken off together.

    They act in every thread's passes where they are `holder`'s, else in this thread's alone. Every name is looked
    up before the first hook goes on, and what is on is found again on its module, so a failure half-way leaves
    nothing behind. `begin` is told of every forward pass before it runs.
    """

    def __init__(
        self,
        model: HookedModel,
        edits: Sequence[tuple[str, Edit]],
        begin: Callable[[Pass], None] | None = None,
        holder: Any = None,
    ) -> None:
        self._hooks: list[tuple[nn.Module, hooks.Hook, bool]] = []
        if begin is not None:
            module, read = _entrance(model)
            start = hooks.Hook(lambda module, args, kwargs: begin(read(module, args, kwargs)), holder)
            self._hooks.append((module, start, True))
        for name, edit in edits:
            self._hooks.append((hook_point(model, name), hooks.Hook(_as_forward_hook(edit), holder), False))
        self.installed = False
        """Whether the hooks are on."""

    def install(self) -> None:
        """Put the hooks on; where they are on already, nothing happens."""
        if self.installed:
            return
        try:
            self.installed = True
            compiling.run_eagerly(self)
            for module, hook, before in self._hooks:
                hooks.put_on(module, hook, before=before)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Take the hooks off again, those that are on."""
        for module, hook, _ in reversed(self._hooks):
            hooks.take_off(module, lambda other, hook=hook: other is hook)
        compiling.done(self)
        self.installed = False


def _as_forward_hook(edit: Edit) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, tuple):
            return edit(output)
        edited = edit(output[0])  # some plain blocks give their attention weights or cache along
        return None if edited is None else (edited, *output[1:])

    return hook


def _entrance(model: HookedModel) -> tuple[nn.Module, Callable[..., Pass]]:
    """The module that every pass enters by, and how its arguments are read there."""
    if is_hooked_transformer(model):
        # Its generate() calls forward() itself, which no hook of the model's own sees.
        return model.blocks[0], pass_into_block
    module: Any = model if is_plain(model) else model.original_model
    return module, pass_into_model


@contextmanager
def hooked(model: HookedModel, edits: Sequence[tuple[str, Edit]]) -> Iterator[None]:
    """The model with `edits` at their hook points in this thread's passes, for the length of the context."""
    wanted = [(hook_point(model, name), _as_forward_hook(edit), False) for name, edit in edits]
    with hooks.attached(model, wanted):
        yield


@contextmanager
def bare(model: HookedModel) -> Iterator[None]:
    """The model as its weights alone make it: nobody's hooks at hook points act in this thread's passes."""
    with hooks.paused(model, hook_points(model).values()):
        yield


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

    with turns.turn(model, thaw):
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


def replace_with(values: Float[Tensor, "batch pos d_model"]) -> Edit:
    """An edit that puts `values` in place of the activation, in its own dtype and device."""

    def edit(activation: Tensor) -> Tensor:
        if activation.shape != values.shape:
            raise ValueError(
                f"the values to put in have shape {tuple(values.shape)}, "
                f"the activation there has {tuple(activation.shape)}."
            )
        return values.to(activation.device, activation.dtype)

    return edit


# --- forward passes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prefix:
    """A prompt's keys and values, to be continued as often as one likes; gradients flow through it."""

    cache: Any
    mask: Bool[Tensor, "batch pos"]
    ahead: Int[Tensor, "batch 1"] | None = None
    """What positions are ahead of the tokens' number by, after images (mRoPE)."""


def prefill(
    model: HookedModel,
    prompts: TokenBatch,
    *,
    embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    logits_at: slice = slice(-1, None),
) -> tuple[Float[Tensor, "batch at d_vocab"], Prefix]:
    """Run left-padded prompts once: the logits after their last token (or those asked for), and what later
    tokens attend to.

    `embeddings` take the place of the prompts' own at block 0's input; the vision tower is not run then.
    """
    mask = prompts.mask.long()
    edits = [] if embeddings is None else [(RESID_PRE_0, replace_with(embeddings))]
    with hooked(model, edits), _end_only(model, logits_at):
        if is_hooked_transformer(model):
            cache = _hooked_transformer_cache(model, len(prompts))
            logits = model(prompts.tokens, attention_mask=mask, past_kv_cache=cache)
            cache.freeze()
            return logits, Prefix(cache, prompts.mask)
        where, ahead = multimodal.positions(model, prompts)
        inputs = {
            "attention_mask": mask,
            "position_ids": where,
            "use_cache": True,
            **multimodal.image_inputs(model, prompts, merged=embeddings is not None),
        }
        if is_plain(model):
            out = model(prompts.tokens, **inputs)
            logits, cache = out.logits, out.past_key_values
        else:
            logits, cache = model(prompts.tokens, return_type="logits_and_cache", **inputs)
    return logits, Prefix(cache, prompts.mask, ahead)


def extend(
    model: HookedModel, prefix: Prefix, tokens: Int[Tensor, "batch new"]
) -> Float[Tensor, "batch new d_vocab"]:
    """The logits after each of the tokens that follow the prefix; the prefix itself stays as it was."""
    return advance(model, prefix, tokens)[0]


def advance(
    model: HookedModel, prefix: Prefix, tokens: Int[Tensor, "batch new"]
) -> tuple[Float[Tensor, "batch new d_vocab"], Prefix]:
    """The same logits, and the prefix with these tokens at its end; the one given stays as it was."""
    new = torch.ones_like(tokens)
    mask = torch.cat([prefix.mask, new.bool()], dim=-1)
    if is_hooked_transformer(model):
        cache = _thawed(prefix.cache)
        logits = model(tokens, attention_mask=new, past_kv_cache=cache)
        cache.freeze()
        return logits, Prefix(cache, mask)
    cache = _fork(prefix.cache)
    out = model(
        tokens,
        attention_mask=mask.long(),
        position_ids=multimodal.positions_after(mask, tokens.shape[1], prefix.ahead),
        past_key_values=cache,
    )
    return out.logits if is_plain(model) else out, Prefix(cache, mask, prefix.ahead)


def _fork(cache: Any) -> Any:
    # A continuation appends to the cache it is given. Its layers replace their tensors and never write
    # into them, so a shallow copy is enough; without one a second continuation is silently wrong.
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork


def _thawed(cache: Any) -> Any:
    """A copy of a HookedTransformer's cache that grows, while the one given stays frozen."""
    thawed = copy.copy(cache)
    thawed.entries = [copy.copy(entry) for entry in cache.entries]
    thawed.unfreeze()
    return thawed


def _hooked_transformer_cache(model: HookedModel, batch: int) -> Any:
    from transformer_lens.cache.key_value_cache import (  # pyright: ignore[reportMissingImports]
        TransformerLensKeyValueCache,
    )

    return TransformerLensKeyValueCache.init_cache(model.cfg, device_of(model), batch)


@contextmanager
def _end_only(model: HookedModel, positions: slice) -> Iterator[None]:
    """Logits at these positions alone: the full [batch, pos, d_vocab] is never made.

    Where they are the last one's alone, so is the output of the last block's MLP, if that is known to be sound.
    """

    def narrow(module: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return (inputs[0][:, positions], *inputs[1:]), kwargs

    modules = [model.get_output_embeddings() if is_plain(model) else model.unembed]
    if positions == slice(-1, None) and _unwatched(model):
        # What the last block's MLP writes at earlier positions, nothing reads. Its output at the last one is
        # broadcast over them when the block adds it to the stream, and they are dropped.
        modules.append(model.blocks[-1].mlp)
    with hooks.attached(model, [(module, narrow, True) for module in modules]):
        yield


def _unwatched(model: HookedModel) -> bool:
    """Whether nothing but the stream's last position reads what the last block's MLP computes: the block adds
    its output to the stream, in a new tensor, and no hook can see that or what follows."""
    if is_plain(model) or not (is_hooked_transformer(model) or model.cfg.architecture in _MLP_LAST_AND_ADDED):
        return False
    if not hasattr(model.blocks[-1], "mlp"):
        return False
    block = model.blocks[-1]
    watched = [*block.modules(), *model.ln_final.modules(), *model.unembed.modules()]
    return not any(module._forward_hooks or module._forward_pre_hooks for module in watched)


# Falcon adds in place, for one; other blocks may read an MLP's output at other positions.
_MLP_LAST_AND_ADDED = frozenset(
    {
        "GPT2LMHeadModel", "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
        "Gemma2ForCausalLM", "Gemma3ForCausalLM", "LlavaForConditionalGeneration",
        "LlavaNextForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration",
        "Gemma3ForConditionalGeneration",
    }
)  # fmt: skip


class _Enough(Exception):
    """Raised by our own hook where a forward pass has shown all that was wanted of it."""


def embed(model: HookedModel, prompts: TokenBatch) -> tuple[Tensor, Tensor]:
    """`hook_embed` and what enters block 0 for these prompts; no block is run."""
    seen: dict[str, Tensor] = {}

    def read_embed(activation: Tensor) -> None:
        seen[EMBED] = activation

    def read_and_stop(activation: Tensor) -> None:
        seen[RESID_PRE_0] = activation
        raise _Enough

    edits = [(EMBED, read_embed), (RESID_PRE_0, read_and_stop)]
    with hooked(model, edits), contextlib.suppress(_Enough):
        prefill(model, prompts)
    if EMBED not in seen:
        raise ValueError(
            f"{shape_of(model).architecture} does not run through {EMBED!r} on this transformer-lens, so its tokens' "
            "embeddings cannot be read: its model can be steered, but not attributed."
        )
    return seen[EMBED], seen[RESID_PRE_0]
