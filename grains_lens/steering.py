"""Steering at inference: vectors added to the residual stream while a context lasts.

The model's weights, buffers, modes and other hooks are never touched; outside the context it is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from . import hooks, seam, turns
from .errors import NotFiniteError
from .fingerprint import check_belongs
from .gates import Gate
from .positions import Positions, Scope, check_positions
from .rules import SteeringRule, add_keeping_norm
from .seam import HookedModel
from .units import Unit, in_unit, lengths
from .vectors import SteeringVectors

Strength = float | Sequence[float] | Tensor
"""A number; one a layer, [layer], in the order of `layers`; or one a batch row, a tensor [row, layer] or [row, 1].

Beam search and several sampled texts a prompt make n rows of each, one behind the other: give
`strengths.repeat_interleave(n, dim=0)` then.
"""


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
    return Steering(model, _edits(model, vectors, strength, layers, rule, unit, gate, scope), scope)


class Steering:
    """Steering that is ready to be switched on: a context manager, or `install()` and `remove()`."""

    def __init__(self, model: HookedModel, edits: Sequence[tuple[str, seam.Edit]], scope: Scope) -> None:
        self._model = model
        self._hooks = seam.Hooks(model, edits, scope.begin, holder=self)
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
        turns.surely(self._switch_off)

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
            turns.claim(self._model, self)
            if stays:
                for other in hooks.on(self._model):
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
        turns.release(self)


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
    edits = _edits(model, vectors, strength, layers, rule, unit, gate, Scope("all"))
    return [(name, _as_hook_fn(edit)) for name, edit in edits]


def steering_of_rows(
    model: HookedModel,
    vectors: SteeringVectors,
    strengths: Float[Tensor, "row layer"],
    alive: Sequence[int],
    *,
    rule: SteeringRule,
    positions: Positions,
    gate: Gate | None,
    unit: Unit,
) -> Steering:
    """Steering of a batch whose rows join the pass one after the other (`branches.branching`): after block l
    there are `alive[l + 1]` of them. The vectors are known to belong to the model."""
    scope = Scope(positions, joining=True)
    edits = _edits(model, vectors, strengths, None, rule, unit, gate, scope, alive)
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

    chosen = seam.check_layers(layers, range(seam.n_layers(model)))
    return [(seam.resid_post(layer), capture(layer)) for layer in chosen]


def unit_vectors(vectors: SteeringVectors, unit: Unit) -> Float[Tensor, "layer d_model"]:
    """What a strength of 1 adds at each layer, in residual-stream units."""
    return in_unit(vectors.directions, vectors.residual_norm, unit)


def unit_for(rule: SteeringRule, unit: Unit) -> Unit:
    """The unit a rule's strength is taken in: a share or an angle goes with the direction alone."""
    return "absolute" if getattr(rule, "of_direction", False) and unit in get_args(Unit) else unit


def _strengths(strength: Strength, n_layers: int) -> Float[Tensor, "*row layer"]:
    values = torch.as_tensor(strength, dtype=torch.float32)
    if not torch.isfinite(values).all():
        raise ValueError(f"strength={strength!r} must be finite.")
    if values.ndim == 0:
        return values.expand(n_layers)
    if (values.ndim <= 2 and values.shape[-1] == n_layers) or (values.ndim == 2 and values.shape[-1] == 1):
        return values.expand(*values.shape[:-1], n_layers)
    raise ValueError(
        f"strength has shape {tuple(values.shape)}; a number, one a layer ([{n_layers}]), or one a batch row "
        f"([row, 1] or [row, {n_layers}]) is wanted."
    )


def _edits(
    model: HookedModel,
    vectors: SteeringVectors,
    strength: Strength,
    layers: Sequence[int] | None,
    rule: SteeringRule,
    unit: Unit,
    gate: Gate | None,
    scope: Scope,
    alive: Sequence[int] | None = None,
) -> list[tuple[str, seam.Edit]]:
    vectors = vectors if layers is None else vectors.at(layers)
    per_layer = _strengths(strength, len(vectors))
    if torch.as_tensor(strength).ndim and layers is not None:
        per_layer = per_layer[..., seam.order_of(layers, vectors.layers)]
    added = unit_vectors(vectors, unit_for(rule, unit))
    edits = []
    at = getattr(gate, "layer", None)
    if gate is not None and at is not None:
        seam.check_layers([at], range(seam.n_layers(model)))
        if vectors.layers[0] < at:
            raise ValueError(
                f"gate reads the stream after layer {at}, when layer {vectors.layers[0]} has been run: give "
                f"layers={at} and later, or a gate at an earlier layer."
            )
        edits.append((seam.resid_post(at), _decide(gate, scope, alive is None)))
    for row, layer in enumerate(vectors.layers):
        here = per_layer[..., row] if alive is None else per_layer[: alive[layer + 1], row]
        if here.any() or here.requires_grad:
            _check_length(added[row], here, layer, unit)
            steer = _steer(added[row], here, rule, gate if at is None else None, scope, alive is None, layer)
            edits.append((seam.resid_post(layer), steer))
    return edits


LONGEST = 1e18
"""The longest vector that can be added: rules square lengths, in float32."""


def _check_length(direction: Tensor, strength: Tensor, layer: int, unit: Unit) -> None:
    """Raise ValueError for a vector so long that rules would compute 0 or NaN with it."""
    largest = float(strength.detach().abs().max())
    length = largest * float(lengths(direction))
    if length > LONGEST:
        raise ValueError(
            f"strength={largest:g} at layer {layer} adds a vector of length {length:.3g} (unit={unit!r}), and more "
            f"than {LONGEST:g} cannot be computed with: lower the strength, or take unit='residual'."
        )


def _check_finite(h: Tensor, steered: Tensor, strength: Tensor, layer: int) -> None:
    """Raise NotFiniteError where steering, and not what came before it, makes the stream NaN or infinite."""
    # A sum is NaN or infinite where a number is, and costs less than looking at each; it may also overflow.
    if torch.isfinite(steered.detach().sum(dtype=torch.float32)):
        return
    broken = (torch.isfinite(h) & ~torch.isfinite(steered)).flatten(1).any(dim=1)
    if broken.any():
        row = int(broken.nonzero()[0])
        raise NotFiniteError(
            f"steering at layer {layer} makes the residual stream NaN or infinite in "
            f"{str(h.dtype).removeprefix('torch.')}, at strengths up to {float(strength.detach().abs().max()):g}: "
            "lower the strength, take add_keeping_norm as the rule, or load the model in bfloat16 or float32.",
            row,
        )


def _decide(gate: Gate, scope: Scope, checked: bool) -> seam.Edit:
    def edit(h: Tensor) -> None:
        scope.openness = _openness(gate, h, scope.here(h), checked)

    return edit


def _openness(gate: Gate, h: Tensor, where: Tensor | None, checked: bool) -> Float[Tensor, "batch pos"]:
    openness = gate(h).float()
    if where is not None and openness.shape == where.shape:
        openness = torch.where(where, openness, 0.0)
    if not checked:
        openness = torch.nan_to_num(openness, nan=0.0)  # of rows that are broken already, and known as such
    if openness.shape != h.shape[:2] or not bool(((openness >= 0) & (openness <= 1)).all()):
        raise ValueError(
            f"gate must give numbers from 0 to 1 of shape [batch, pos] = {tuple(h.shape[:2])}; it gave shape "
            f"{tuple(openness.shape)}, from {float(openness.detach().min()):g} to "
            f"{float(openness.detach().max()):g}. (Of a stream that "
            "is not finite it may give NaN: steer less before it, or load the model in bfloat16 or float32.)"
        )
    return openness


def _steer(
    direction: Float[Tensor, " d_model"],
    strength: Float[Tensor, "*row"],
    rule: SteeringRule,
    gate: Gate | None,
    scope: Scope,
    checked: bool,
    layer: int,
) -> seam.Edit:
    added = strength[..., None, None] * direction  # [1, d_model] or [row, 1, d_model]
    # Rows of strength 0 keep h itself: h·‖h‖/‖h‖ need not be h to the last bit. A strength that asks for
    # a gradient is steered by at 0 too: there its derivative is what is wanted.
    idle = None if strength.all() or strength.requires_grad else _kept((strength == 0)[:, None, None])
    added_on = _kept(added)
    seen: list[bool] = []

    def edit(h: Tensor) -> Tensor | None:
        if added.ndim == 3 and len(added) != len(h):
            raise ValueError(
                f"strength has {len(added)} rows and the batch {len(h)}: give one for each. Beam search and several "
                "texts a prompt make n rows of each: strength.repeat_interleave(n, dim=0)."
            )
        where = scope.here(h)
        if scope.nowhere:
            return None
        v = added_on(h.device)
        openness = scope.openness if gate is None else _openness(gate, h, where, checked)
        if openness is not None:
            openness = openness.to(h.device)
            where = openness > 0 if where is None else where & (openness > 0)
            v = openness[..., None] * v
        steered = rule(h.float(), v).to(h.dtype)
        if where is not None:
            steered = torch.where(where[..., None], steered, h)
        steered = steered if idle is None else torch.where(idle(h.device), h, steered)
        # Not at every token that is decoded: to look at a number is to wait for the device.
        if checked and (steered.shape[1] > 1 or not seen):
            seen.append(True)
            _check_finite(h, steered, strength, layer)
        return steered

    return edit


def _kept(tensor: Tensor) -> Callable[[torch.device], Tensor]:
    """The tensor on a device, copied there once and not at every token."""
    copies = {tensor.device: tensor}

    def on(device: torch.device) -> Tensor:
        if device not in copies:
            copies[device] = tensor.to(device)
        return copies[device]

    return on


def _as_hook_fn(edit: seam.Edit) -> Any:
    def hook_fn(h: Tensor, hook: Any = None) -> Tensor | None:
        return edit(h)

    return hook_fn
