"""Turn vectors, strengths and a rule into edits of the residual stream after each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import NotFiniteError, kind_of
from ..hosts.layers import check_layers, order_of
from ..hosts.model import HookedModel, layer_count
from ..hosts.points import Edit, resid_post
from ..literals import Unit
from ..vectors.steering_vectors import SteeringVectors
from ..vectors.units import in_unit, lengths
from .gates import Gate
from .intervention import Intervention
from .positions import Scope
from .rules import DirectionRule, SteeringRule

Strength = float | Sequence[float] | Tensor
"""A number; one per layer, [layer], in the order of `layers`; or one per batch row, a tensor [row, layer] or [row, 1].

Beam search and several sampled texts per prompt make n rows of each, one behind the other: give
`strengths.repeat_interleave(n, dim=0)` then.
"""


def unit_vectors(vectors: SteeringVectors, unit: Unit) -> Float[Tensor, "layer d_model"]:
    """The vector that a strength of 1 adds at each layer, in residual-stream units."""
    return in_unit(vectors.directions, vectors.residual_norm, unit)


def unit_for(rule: SteeringRule, unit: Unit) -> Unit:
    """The unit of a rule's strength. A share or an angle applies to the direction alone."""
    return "absolute" if isinstance(rule, DirectionRule) and unit in get_args(Unit) else unit


def _strengths(strength: Strength, n_layers: int) -> Float[Tensor, "*row layer"]:
    try:
        values = torch.as_tensor(strength, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"strength is {kind_of(strength)}: give a number, one per layer as {{layer: strength}} or a list, or a "
            "tensor [row, layer]."
        ) from None
    if not torch.isfinite(values).all():
        raise ValueError(f"strength={strength!r} must be finite.")
    if values.ndim == 0:
        return values.expand(n_layers)
    if (values.ndim <= 2 and values.shape[-1] == n_layers) or (values.ndim == 2 and values.shape[-1] == 1):
        return values.expand(*values.shape[:-1], n_layers)
    raise ValueError(
        f"strength has shape {tuple(values.shape)}; a number, one per layer ([{n_layers}]), or one per batch row "
        f"([row, 1] or [row, {n_layers}]) is expected."
    )


def steering_edits_of(
    model: HookedModel,
    vectors: SteeringVectors,
    strength: Strength,
    layers: Sequence[int] | None,
    intervention: Intervention,
    scope: Scope,
    alive: Sequence[int] | None = None,
) -> list[tuple[str, Edit]]:
    """The edits of the stream after each layer, and of the layer where a gate decides. With `alive`, rows
    join late."""
    rule, gate, unit = intervention.rule, intervention.gate, intervention.unit
    vectors = vectors if layers is None else vectors.at(layers)
    per_layer = _strengths(strength, len(vectors))
    if torch.as_tensor(strength).ndim and layers is not None:
        per_layer = per_layer[..., order_of(layers, vectors.layers)]
    added = unit_vectors(vectors, unit_for(rule, unit))
    edits = []
    at = getattr(gate, "layer", None)
    if gate is not None and at is not None:
        check_layers([at], range(layer_count(model)))
        if vectors.layers[0] < at:
            raise ValueError(
                f"gate reads the stream after layer {at}, when layer {vectors.layers[0]} has been run: give "
                f"layers={at} and later, or a gate at an earlier layer."
            )
        edits.append((resid_post(at), _decide(gate, scope, alive is None)))
    for row, layer in enumerate(vectors.layers):
        here = per_layer[..., row] if alive is None else per_layer[: alive[layer + 1], row]
        if here.any() or here.requires_grad:
            _check_length(added[row], here, layer, unit)
            steer = _steer(added[row], here, rule, gate if at is None else None, scope, alive is None, layer)
            edits.append((resid_post(layer), steer))
    return edits


LONGEST = 1e18
"""The longest vector that can be added, because rules square lengths in float32."""


def _check_length(direction: Tensor, strength: Tensor, layer: int, unit: Unit) -> None:
    """Raise ValueError for a vector so long that rules would compute 0 or NaN from it."""
    largest = float(strength.detach().abs().max())
    length = largest * float(lengths(direction))
    if length > LONGEST:
        raise ValueError(
            f"strength={largest:g} at layer {layer} adds a vector of length {length:.3g} (unit={unit!r}), and more "
            f"than {LONGEST:g} cannot be computed with: lower the strength, or take unit='residual'."
        )


def _check_finite(h: Tensor, steered: Tensor, strength: Tensor, layer: int) -> None:
    """Raise NotFiniteError if steering itself, and nothing before it, makes the stream NaN or infinite."""
    # A sum is NaN or infinite if any number is, and costs less than checking each; it may also overflow.
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


def _decide(gate: Gate, scope: Scope, checked: bool) -> Edit:
    def edit(h: Tensor) -> None:
        scope.openness = _openness(gate, h, scope.here(h), checked)

    return edit


def _openness(gate: Gate, h: Tensor, where: Tensor | None, checked: bool) -> Float[Tensor, "batch pos"]:
    openness = gate(h).float()
    if where is not None and openness.shape == where.shape:
        openness = torch.where(where, openness, 0.0)
    if not checked:
        openness = torch.nan_to_num(openness, nan=0.0)  # from rows that are already known to be broken
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
) -> Edit:
    added = strength[..., None, None] * direction  # [1, d_model] or [row, 1, d_model]
    # Rows of strength 0 keep h itself, because h·‖h‖/‖h‖ need not equal h to the last bit. A strength that
    # requires a gradient steers at 0, too, since its derivative is needed there.
    idle = None if strength.all() or strength.requires_grad else _kept((strength == 0)[:, None, None])
    added_on = _kept(added)
    seen: list[bool] = []

    def edit(h: Tensor) -> Tensor | None:
        if added.ndim == 3 and len(added) != len(h):
            raise ValueError(
                f"strength has {len(added)} rows and the batch {len(h)}: give one for each. Beam search and several "
                "texts per prompt make n rows of each: strength.repeat_interleave(n, dim=0)."
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
        # Not at every decoded token: reading a number means waiting for the device.
        if checked and (steered.shape[1] > 1 or not seen):
            seen.append(True)
            _check_finite(h, steered, strength, layer)
        return steered

    return edit


def _kept(tensor: Tensor) -> Callable[[torch.device], Tensor]:
    """A function that returns the tensor on a device, copied there once and not at every token."""
    copies = {tensor.device: tensor}

    def on(device: torch.device) -> Tensor:
        if device not in copies:
            copies[device] = tensor.to(device)
        return copies[device]

    return on
