"""Steering at inference: vectors added to the residual stream while a context lasts.

The model's weights, buffers, modes and other hooks are never touched; outside the context it is what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from . import seam
from .errors import unknown_name
from .fingerprint import check_belongs
from .rules import SteeringRule, add_keeping_norm
from .seam import HookedModel
from .vectors import SteeringVectors

Unit = Literal["residual", "absolute", "raw"]
Strength = float | Sequence[float] | Tensor
"""A number; one a layer, [layer]; or one a batch row, a tensor [row, layer] or [row, 1]."""


def steering(
    model: HookedModel,
    vectors: SteeringVectors,
    *,
    strength: Strength,
    layers: Sequence[int] | None = None,
    rule: SteeringRule = add_keeping_norm,
    unit: Unit = "residual",
    strict: bool = True,
) -> Steering:
    """Steer the residual stream after every chosen block: h' = rule(h, λ_l v_l), at every position.

    With `add_keeping_norm`, the default, h' = (h + λv)·‖h‖/‖h + λv‖ (GrAInS, section 3.3). `unit` says what
    a `strength` of 1 adds: `"residual"` a vector as long as the stream typically is at that layer, so that
    strengths compare across layers and models; `"absolute"` the direction with length 1 (the paper's λ);
    `"raw"` the vector as extracted (CAA's convention). With `project_out` and `rotate_toward` strength is the
    share removed and the angle in radians, in every unit. Strength 0 leaves h bit for bit as it is. The rule
    computes in float32; h keeps its dtype and device.

    Use it as a context (`with steering(...):`), several nested if wanted, the inner one acting after the
    outer at the same layer; or over several notebook cells with `.install()` and `.remove()`.

    Raises ValueError for layers out of range and strengths of a wrong shape or not finite, and
    VectorMismatchError if the vectors belong to another model (`strict=False` lets other weights pass).
    """
    return Steering(model, steering_hooks(
        model, vectors, strength=strength, layers=layers, rule=rule, unit=unit, strict=strict
    ))  # fmt: skip


class Steering:
    """Steering that is ready to be switched on: a context manager, or `install()` and `remove()`."""

    def __init__(self, model: HookedModel, hooks: Sequence[tuple[str, Any]]) -> None:
        self._model = model
        self._hooks = seam.Hooks(model, [(name, _as_edit(hook)) for name, hook in hooks])

    def install(self) -> Steering:
        """Switch steering on until `remove()`; a second call while it is on changes nothing."""
        self._hooks.install()
        return self

    def remove(self) -> None:
        """Switch steering off."""
        self._hooks.remove()

    def __enter__(self) -> HookedModel:
        if self._hooks.installed:
            raise RuntimeError("this steering is already on: call steering(...) anew to steer twice over.")
        self._hooks.install()
        return self._model

    def __exit__(self, *exception: object) -> None:
        self._hooks.remove()

    def __repr__(self) -> str:
        return f"Steering({'on' if self._hooks.installed else 'off'})"


def steering_hooks(
    model: HookedModel,
    vectors: SteeringVectors,
    *,
    strength: Strength,
    layers: Sequence[int] | None = None,
    rule: SteeringRule = add_keeping_norm,
    unit: Unit = "residual",
    strict: bool = True,
) -> list[tuple[str, Any]]:
    """The same intervention as transformer-lens hooks, `[(hook_name, hook_fn), ...]`.

    For `model.run_with_hooks(..., fwd_hooks=...)`, `model.hooks(...)` and `run_with_cache` inside it.
    Arguments and errors are those of `steering`.
    """
    check_belongs(vectors, model, strict=strict)
    vectors = vectors if layers is None else vectors.at(layers)
    per_layer = _strengths(strength, len(vectors))
    added = unit_vectors(vectors, unit_for(rule, unit))
    return [
        (seam.resid_post(layer), _steer(added[row], per_layer[..., row], rule))
        for row, layer in enumerate(vectors.layers)
        if per_layer[..., row].any() or per_layer.requires_grad
    ]


def capture_hooks(
    model: HookedModel, layers: Sequence[int] | None, into: dict[int, Tensor]
) -> list[tuple[str, Any]]:
    """Hooks that put the residual stream after each of `layers` into `into[layer]`, [batch, pos, d_model].

    For the same transformer-lens calls as `steering_hooks`; a later pass overwrites an earlier one.
    """

    def capture(layer: int) -> Any:
        def hook_fn(h: Tensor, hook: Any = None) -> None:
            into[layer] = h

        return hook_fn

    chosen = seam.check_layers(layers, range(seam.n_layers(model)))
    return [(seam.resid_post(layer), capture(layer)) for layer in chosen]


def unit_vectors(vectors: SteeringVectors, unit: Unit) -> Float[Tensor, "layer d_model"]:
    """What a strength of 1 adds at each layer, in residual-stream units."""
    if unit == "raw":
        return vectors.directions
    if unit == "absolute":
        return vectors.unit().directions
    if unit == "residual":
        return vectors.unit().directions * vectors.residual_norm[:, None]
    raise unknown_name("unit", unit, get_args(Unit))


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


def _steer(direction: Float[Tensor, " d_model"], strength: Float[Tensor, "*row"], rule: SteeringRule) -> Any:
    added = strength[..., None, None] * direction  # [1, d_model] or [row, 1, d_model]
    # Rows of strength 0 keep h itself: h·‖h‖/‖h‖ need not be h to the last bit. A strength that asks for
    # a gradient is steered by at 0 too: there its derivative is what is wanted.
    idle = None if strength.all() or strength.requires_grad else (strength == 0)[:, None, None]

    def hook_fn(h: Tensor, hook: Any = None) -> Tensor:
        if added.ndim == 3 and len(added) != len(h):
            raise ValueError(f"strength has {len(added)} rows and the batch {len(h)}: give one for each.")
        steered = rule(h.float(), added.to(h.device)).to(h.dtype)
        return steered if idle is None else torch.where(idle.to(h.device), h, steered)

    return hook_fn


def _as_edit(hook_fn: Any) -> seam.Edit:
    return lambda activation: hook_fn(activation)
