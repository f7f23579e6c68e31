"""Hook points by name, and edits of the activations there.

Hooks are ours: found by their exact name, refused when missing, put on with PyTorch's own handles and
removed by them. transformer-lens 3.9's bridge ignores unknown names in silence and strips other
people's hooks when one of its contexts ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..errors import unknown_name
from .compiling import run_compiled, run_eagerly
from .entry import Pass, pass_into_block, pass_into_model
from .hooks import Hook, attached, paused, put_on, take_off
from .kinds import check_model, decoder_blocks, is_hooked_transformer, is_plain, not_hooked
from .model import HookedModel

Edit = Callable[[Tensor], "Tensor | None"]
"""What a hook does: takes the activation, returns the new one, or None to leave it."""


EMBED = "hook_embed"


RESID_PRE_0 = "blocks.0.hook_resid_pre"
"""Where attribution is taken: positions are added and image features merged in by then."""


def resid_post(layer: int) -> str:
    """The hook name of the residual stream after block `layer`."""
    return f"blocks.{layer}.hook_resid_post"


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
        self._hooks: list[tuple[nn.Module, Hook, bool]] = []
        if begin is not None:
            module, read = _entrance(model)
            start = Hook(lambda module, args, kwargs: begin(read(module, args, kwargs)), holder)
            self._hooks.append((module, start, True))
        for name, edit in edits:
            self._hooks.append((hook_point(model, name), Hook(_as_forward_hook(edit), holder), False))
        self.installed = False
        """Whether the hooks are on."""

    def install(self) -> None:
        """Put the hooks on; where they are on already, nothing happens."""
        if self.installed:
            return
        try:
            self.installed = True
            run_eagerly(self)
            for module, hook, before in self._hooks:
                put_on(module, hook, before=before)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Take the hooks off again, those that are on."""
        for module, hook, _ in reversed(self._hooks):
            take_off(module, lambda other, hook=hook: other is hook)
        run_compiled(self)
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
def edited(model: HookedModel, edits: Sequence[tuple[str, Edit]]) -> Iterator[None]:
    """The model with `edits` at their hook points in this thread's passes, for the length of the context."""
    wanted = [(hook_point(model, name), _as_forward_hook(edit), False) for name, edit in edits]
    with attached(model, wanted):
        yield


@contextmanager
def bare(model: HookedModel) -> Iterator[None]:
    """The model as its weights alone make it: nobody's hooks at hook points act in this thread's passes."""
    with paused(model, hook_points(model).values()):
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
