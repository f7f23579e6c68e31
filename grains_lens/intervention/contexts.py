"""Steering at inference: vectors added to the residual stream while a context lasts.

The model's weights, buffers, modes and other hooks are never touched; outside the context it is what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..hosts.hooks import on
from ..hosts.layers import check_layers
from ..hosts.model import HookedModel, layer_count
from ..hosts.ownership import claim, release, surely
from ..hosts.points import Edit, Hooks, resid_post
from ..literals import Unit
from ..vectors.identity import check_belongs
from ..vectors.steering_vectors import SteeringVectors
from .edits import Strength, steering_edits_of
from .gates import Gate
from .intervention import Intervention
from .positions import Positions, Scope, check_positions
from .rules import SteeringRule, add_keeping_norm


def steering(
    model: HookedModel,
    vectors: SteeringVectors,
    *,
    strength: Strength,
    layers: Sequence[int] | None = None,
    rule: SteeringRule = add_keeping_norm,
    positions: Positions = "all",
    gate: Gate | None = None,
    unit: Unit = "residual",
    strict: bool = True,
) -> Steering:
    """Steer the residual stream after every chosen block: h' = rule(h, λ_l v_l), position by position.

    With `add_keeping_norm`, the default, h' = (h + λv)·‖h‖/‖h + λv‖ (GrAInS, section 3.3). `unit` says what
    a `strength` of 1 adds: `"residual"` a vector as long as the stream typically is at that layer, so that
    strengths compare across layers and models; `"absolute"` the direction with length 1 (the paper's λ);
    `"raw"` the vector as extracted (CAA's convention). With `project_out` and `rotate_toward` strength is the
    share removed and the angle in radians, in every unit. Strength 0 leaves h bit for bit as it is. The rule
    computes in float32; h keeps its dtype and device.

    `positions` says where: `"all"`, the `"prompt"`'s tokens, the `"new"` ones that follow it, from the
    prompt's `"last"` token on, or numbers of tokens, counted from 0, and from −1 backwards in the prompt.
    Pads are left alone wherever the model is given an attention mask. The text is the same with a cache and
    without.

    `gate` says when: a callable of h that gives 0 where h is to stay and up to 1 where it is to be steered,
    such as `ProjectionGate`; strength is multiplied by it.

    Use it as a context (`with steering(...):`), several nested if wanted, the inner one acting after the
    outer at the same layer; or over several notebook cells with `.install()` and `.remove()`. Installing anew
    replaces what was installed before, and `clear(model)` takes off all, handles lost or not.

    A plain transformers model can be steered, too. One thread or asyncio task at a time steers a model or runs
    verbs on it; other threads may run the steered model, and are steered.

    Raises RuntimeError while another thread or task steers the model or runs a verb on it,
    ValueError for layers out of range or in front of the gate's, and for strengths of a wrong shape, not finite or
    so large that they cannot be computed with (a stream that a finite strength makes infinite is a ValueError when
    the model is run), and VectorMismatchError if the vectors belong to another model (`strict=False` lets other
    weights pass).
    """
    check_belongs(vectors, model, strict=strict)
    scope = Scope(positions)
    return Steering(
        model,
        steering_edits_of(model, vectors, strength, layers, Intervention(rule, positions, gate, unit), scope),
        scope,
    )


class Steering:
    """Steering that is ready to be switched on: a context manager, or `install()` and `remove()`."""

    def __init__(self, model: HookedModel, edits: Sequence[tuple[str, Edit]], scope: Scope) -> None:
        self._model = model
        self._hooks = Hooks(model, edits, scope.begin, holder=self)
        self._scope = scope
        self._stays = False

    def install(self) -> Steering:
        """Switch steering on until `remove()`, in the place of what was installed on the model before.

        Contexts around it go on steering. A second call while it is on changes nothing.
        """
        if self.is_on:
            return self
        return self._switched_on(stays=True)

    def remove(self) -> None:
        """Switch steering off."""
        surely(self._switch_off)

    def __enter__(self) -> HookedModel:
        if self.is_on:
            raise RuntimeError("this steering is already on: call steering(...) anew to steer twice over.")
        return self._switched_on(stays=False)._model

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @property
    def is_on(self) -> bool:
        """Whether the model is being steered by this now."""
        return self._hooks.installed

    def __repr__(self) -> str:
        return f"Steering({'on' if self.is_on else 'off'})"

    def _switched_on(self, *, stays: bool) -> Steering:
        try:
            claim(self._model, self)
            if stays:
                for other in on(self._model):
                    if isinstance(other, Steering) and other._stays:
                        other.remove()
            self._stays = stays
            self._scope.forget()
            self._hooks.install()
            return self
        except BaseException:
            self.remove()
            raise

    def _switch_off(self) -> None:
        self._hooks.remove()
        self._scope.forget()
        self._stays = False
        release(self)


def steering_hooks(
    model: HookedModel,
    vectors: SteeringVectors,
    *,
    strength: Strength,
    layers: Sequence[int] | None = None,
    rule: SteeringRule = add_keeping_norm,
    positions: Positions = "all",
    gate: Gate | None = None,
    unit: Unit = "residual",
    strict: bool = True,
) -> list[tuple[str, Any]]:
    """The same intervention as transformer-lens hooks, `[(hook_name, hook_fn), ...]`.

    For `model.run_with_hooks(..., fwd_hooks=...)`, `model.hooks(...)` and `run_with_cache` inside it.
    Arguments and errors are those of `steering`, but only `positions="all"` can be had: a hook sees neither
    the attention mask nor how much of a text is in the cache. Pads, which nothing attends to, are steered too.

    Raises ValueError for other positions, and whatever `steering` raises.
    """
    if check_positions(positions) != "all":
        raise ValueError(
            f"positions={positions!r} cannot be had from hooks alone, which see neither the attention mask nor "
            "the cache: use the context, with steering(...), around the call."
        )
    check_belongs(vectors, model, strict=strict)
    edits = steering_edits_of(
        model, vectors, strength, layers, Intervention(rule, "all", gate, unit), Scope("all")
    )
    return [(name, _as_hook_fn(edit)) for name, edit in edits]


def steering_of_rows(
    model: HookedModel,
    vectors: SteeringVectors,
    strengths: Float[Tensor, "row layer"],
    alive: Sequence[int],
    intervention: Intervention,
) -> Steering:
    """Steering of a batch whose rows join the pass one after the other (`branching`): after block l
    there are `alive[l + 1]` of them. The vectors are known to belong to the model."""
    scope = Scope(intervention.positions, joining=True)
    edits = steering_edits_of(model, vectors, strengths, None, intervention, scope, alive)
    return Steering(model, edits, scope)


def capture_hooks(
    model: HookedModel, layers: Sequence[int] | None, into: dict[int, Tensor]
) -> list[tuple[str, Any]]:
    """Hooks that put the residual stream after each of `layers` into `into[layer]`, [batch, pos, d_model].

    For the same transformer-lens calls as `steering_hooks`; a later pass overwrites an earlier one.

    Raises ValueError for layers out of range.
    """

    def capture(layer: int) -> Any:
        def hook_fn(h: Tensor, hook: Any = None) -> None:
            into[layer] = h

        return hook_fn

    chosen = check_layers(layers, range(layer_count(model)))
    return [(resid_post(layer), capture(layer)) for layer in chosen]


def _as_hook_fn(edit: Edit) -> Any:
    def hook_fn(h: Tensor, hook: Any = None) -> Tensor | None:
        return edit(h)

    return hook_fn
