"""Steering at inference: vectors act on the residual stream inside a context.

The model's weights, buffers, modes and other hooks are never touched; outside the context, the model is
unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..errors import kind_of
from ..hosts.layers import Layers, check_layers
from ..hosts.model import HookedModel, layer_count
from ..hosts.points import Edit, resid_post
from ..literals import RuleName, Unit
from ..vectors.steering_vectors import SteeringVectors
from .edits import steering_edits_of
from .gates import Gate
from .given import Strengths, Vectors, as_vectors_or_tuning, strengths_at
from .intervention import Intervention
from .plan import Plan, Steering
from .positions import Positions, Scope, check_positions
from .rules import SteeringRule
from .tunings import Tuning


def steering(
    model: HookedModel,
    vectors: Vectors,
    *,
    strength: Strengths | None = None,
    layers: Layers | None = None,
    rule: SteeringRule | RuleName | None = None,
    positions: Positions | None = None,
    gate: Gate | None = None,
    unit: Unit | None = None,
    strict: bool = True,
) -> Steering:
    """Steer the residual stream after every chosen block: h' = rule(h, λ_l v_l) at each position.

        with gl.steering(model, vectors, strength=0.5): ...
        with gl.steering(model, gl.load("tuned.safetensors")): ...

    The default rule, `add_keeping_norm`, gives h' = (h + λv)·‖h‖/‖h + λv‖ (GrAInS, section 3.3). The rule computes
    in float32; h keeps its dtype and device. Strength 0 leaves h bit for bit as it is. For `project_out` and
    `rotate_toward`, strength is the share removed and the angle in radians, in every unit.

    `vectors` are `SteeringVectors`, or a `Tuning`, which brings its vectors and the settings it chose. A setting
    given here replaces the tuning's. `SteeringVectors` alone need a `strength`.

    Pads are left alone wherever the model gets an attention mask. The text is the same with a cache and without.

    Use it as a context. Contexts nest: at the same layer the inner one acts after the outer one. For several
    notebook cells, use `.install()` and `.remove()`. A second `.install()` replaces the first, and `clear(model)`
    removes everything, even if its handle is lost.

    A plain transformers model can be steered, too. Only one thread or asyncio task at a time may steer a model or
    run verbs on it. Other threads may run the steered model, and are steered.

    Args:
        model: A `TransformerBridge`, a `HookedTransformer`, or a plain transformers model.
        vectors: Steering vectors, made on this model or on one with the same weights, or a `Tuning`, whose
            choices hold where nothing else is given.
        strength: λ: a number; one per layer, in the order of `layers` or as `{layer: λ}`; or one per batch
            row, a tensor [row, layer] or [row, 1]. 0 is the identity. Only a `Tuning` can do without.
        layers: Blocks to steer after, counted from 0. None takes those that the tuning chose, or all that the
            vectors have.
        rule: How h and λv make h': `add_keeping_norm`, `add`, `project_out`, `rotate_toward`, the name of
            one, a trained gate, or a function of yours. The default is `add_keeping_norm`.
        positions: `"all"` tokens, the `"prompt"`'s, the `"new"` ones behind it, `"last"` (the prompt's last
            token and all behind it), or token numbers, counted from 0, and from −1 backwards in the prompt.
            The default is `"all"`.
        gate: When to steer: a callable of h that gives 0 (leave) to 1 (steer) per position, such as
            `ProjectionGate`. None steers always.
        unit: What strength 1 adds: `"residual"` a vector as long as the stream typically is at that layer,
            `"absolute"` one of length 1, `"raw"` the vector as extracted. The default is `"residual"`.
        strict: Whether vectors of a model with other weights are refused. Shapes must fit in any case.

    Raises RuntimeError while another thread or task steers the model or runs a verb on it; ValueError for a missing
    strength, layers out of range or before the gate's, and strengths of a wrong shape, not finite, or too large to
    compute with; VectorMismatchError if the vectors belong to another model. A finite strength that makes the
    stream infinite is a ValueError when the model runs.
    """
    return _plan(vectors, strength, layers, rule, positions, gate, unit).on(model, strict=strict)


def steering_hooks(
    model: HookedModel,
    vectors: Vectors,
    *,
    strength: Strengths | None = None,
    layers: Layers | None = None,
    rule: SteeringRule | RuleName | None = None,
    positions: Positions | None = None,
    gate: Gate | None = None,
    unit: Unit | None = None,
    strict: bool = True,
) -> list[tuple[str, Any]]:
    """The same intervention as transformer-lens hooks, `[(hook_name, hook_fn), ...]`.

    Pass them to `model.run_with_hooks(..., fwd_hooks=...)` or `model.hooks(...)`, also with `run_with_cache`
    inside. Only `positions="all"` is possible: a hook sees neither the attention mask nor how much of a text is in
    the cache. Pads are steered, too; nothing attends to them.

    Args:
        model: A `TransformerBridge`, a `HookedTransformer`, or a plain transformers model.
        vectors: Steering vectors, made on this model or on one with the same weights, or a `Tuning`, whose
            choices hold where nothing else is given.
        strength: λ: a number; one per layer, in the order of `layers` or as `{layer: λ}`; or one per batch
            row, a tensor [row, layer] or [row, 1]. 0 is the identity. Only a `Tuning` can do without. Only a
            `Tuning` can do without.
        layers: Blocks to steer after, counted from 0. None takes those that the tuning chose, or all that the
            vectors have.
        rule: How h and λv make h': `add_keeping_norm`, `add`, `project_out`, `rotate_toward`, the name of
            one, a trained gate, or a function of yours. The default is `add_keeping_norm`.
        positions: `"all"`; nothing else can be told inside a hook.
        gate: When to steer: a callable of h that gives 0 (leave) to 1 (steer) per position, such as
            `ProjectionGate`. None steers always.
        unit: What strength 1 adds: `"residual"` a vector as long as the stream typically is at that layer,
            `"absolute"` one of length 1, `"raw"` the vector as extracted. The default is `"residual"`.
        strict: Whether vectors of a model with other weights are refused. Shapes must fit in any case.

    Raises ValueError for other positions, and everything that `steering` raises.
    """
    plan = _plan(vectors, strength, layers, rule, positions, gate, unit)
    positions = plan.intervention.positions
    if check_positions(positions) != "all":
        raise ValueError(
            f"positions={positions!r} is not possible with hooks alone, which see neither the attention mask nor "
            "the cache: use the context, with steering(...), around the call."
        )
    return [(name, _as_hook_fn(edit)) for name, edit in plan.edits(model, Scope("all"), strict=strict)]


def _plan(
    vectors: Vectors,
    strength: Strengths | None,
    layers: Layers | None,
    rule: SteeringRule | RuleName | None,
    positions: Positions | None,
    gate: Gate | None,
    unit: Unit | None,
) -> Plan:
    """The caller's settings. Where they are None, those of the tuning, or the defaults."""
    given = {"rule": rule, "positions": positions, "gate": gate, "unit": unit}
    how = {name: value for name, value in given.items() if value is not None}
    held = as_vectors_or_tuning(vectors)
    if isinstance(held, Tuning):
        plan = held.plan()
        if unit not in (None, plan.intervention.unit) and strength is None:
            raise ValueError(
                f"unit={unit!r}, but the strength that was chosen, {plan.strength}, is in "
                f"unit={plan.intervention.unit!r}: give strength, too."
            )
        plan = replace(plan, intervention=replace(plan.intervention, **how))
        if layers is None and not isinstance(strength, Mapping):
            layers = plan.layers
    elif strength is None:
        raise ValueError(
            "strength is not given, and vectors do not say how strongly to steer: give one, such as strength=0.5, or "
            "let tune choose it."
        )
    else:
        plan = Plan(held, None, 0.0, Intervention(**how))
    strength, layers = strengths_at(
        plan.strength if strength is None else strength, layers, plan.vectors.layers
    )
    return replace(plan, strength=strength, layers=layers)


def context_of(model: HookedModel, steered: Any) -> AbstractContextManager[Any]:
    """The context that `steered` stands for: a tuning's steering, `steered` itself if it is a context, or the
    context that it returns when called.

    Raises ValueError for anything else.
    """
    steered = as_vectors_or_tuning(steered, "steered") if isinstance(steered, str | Path) else steered
    entered: Any = steered
    if isinstance(steered, Tuning):
        return steered.steering(model)
    if (
        callable(steered)
        and not isinstance(steered, nn.Module)
        and (isinstance(steered, type) or not hasattr(steered, "__enter__"))
    ):
        return context_of(model, steered())
    if hasattr(steered, "__enter__") and hasattr(steered, "__exit__"):
        return entered
    raise ValueError(
        f"steered={kind_of(steered)} steers nothing by itself: give a Tuning, or a context such as "
        "steering(model, vectors, strength=0.5)."
    )


def steering_of_rows(
    model: HookedModel,
    vectors: SteeringVectors,
    strengths: Float[Tensor, "row layer"],
    alive: Sequence[int],
    intervention: Intervention,
) -> Steering:
    """Steer a batch whose rows join the pass one after the other (`branching`): after block l there are
    `alive[l + 1]` rows. The vectors are known to belong to the model."""
    scope = Scope(intervention.positions, joining=True)
    edits = steering_edits_of(model, vectors, strengths, None, intervention, scope, alive)
    return Steering(model, edits, scope)


def capture_hooks(
    model: HookedModel, layers: Sequence[int] | None, into: dict[int, Tensor]
) -> list[tuple[str, Any]]:
    """Hooks that store the residual stream after each of `layers` in `into[layer]`, [batch, pos, d_model].

    They go into the same transformer-lens calls as `steering_hooks`. A later pass overwrites an earlier one.

    Args:
        model: A `TransformerBridge` or a `HookedTransformer` (`load_model` makes one). It is left as it was.
        layers: Blocks whose output is kept, counted from 0. None takes all.
        into: A dictionary of yours, from layer to stream [batch, pos, d_model].

    Raises ValueError for layers out of range.
    """

    def capture(layer: int) -> Any:
        def hook_fn(h: Tensor, hook: Any = None) -> None:
            into[layer] = h

        return hook_fn

    chosen = check_layers(layers, range(layer_count(model)))
    if not isinstance(into, MutableMapping):
        raise ValueError(f"into is {kind_of(into)}: give a dict, which is filled when the model is run.")
    return [(resid_post(layer), capture(layer)) for layer in chosen]


def _as_hook_fn(edit: Edit) -> Any:
    def hook_fn(h: Tensor, hook: Any = None) -> Tensor | None:
        return edit(h)

    return hook_fn
