"""Steering rules: what a vector does to the residual stream.

A rule is a pure function `rule(h, v) -> h'` of float32 tensors: h [..., d_model], and v, the direction times
its strength, in a shape that broadcasts against h. Any function of that form can be a rule.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from ..errors import kind_of, unknown_name
from ..literals import RuleName

SteeringRule = Callable[[Tensor, Tensor], Tensor]


def add(
    h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"]
) -> Float[Tensor, "... d_model"]:
    """Plain addition: h' = h + v (ActAdd, CAA).

    Args:
        h: The residual stream, [..., d_model].
        v: λ times the direction, [d_model] or a shape that broadcasts to h's.
    """
    return h + v


def add_keeping_norm(
    h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"]
) -> Float[Tensor, "... d_model"]:
    """Add, and rescale to the old length: h' = (h + v)·‖h‖/‖h + v‖ at each position (GrAInS, section 3.3).

    Norms are over d_model, so ‖h'‖ = ‖h‖ at every position, also when one token is decoded at a time.
    Where h + v vanishes there is no direction to keep, and h' = h.

    Args:
        h: The residual stream, [..., d_model].
        v: λ times the direction, [d_model] or a shape that broadcasts to h's.
    """
    moved = h + v
    length = torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
    points = length.bool()
    if length.requires_grad:
        # Where the norm vanishes, divide by 1 and not by 0: the result is not used, but its gradient would be
        # NaN.
        length = length.masked_fill(~points, 1.0)
    return torch.where(points, moved * (torch.linalg.vector_norm(h, dim=-1, keepdim=True) / length), h)


@dataclass(frozen=True)
class DirectionRule:
    """A rule whose strength is no length: it is given λ·v̂ with ‖v̂‖ = 1, whatever the unit.

    It has the name, the module and the docstring of the function that it holds.
    """

    rule: SteeringRule

    def __post_init__(self) -> None:
        for name in ("__module__", "__name__", "__doc__"):
            if hasattr(self.rule, name):
                object.__setattr__(self, name, getattr(self.rule, name))

    def __call__(
        self, h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"]
    ) -> Float[Tensor, "... d_model"]:
        return self.rule(h, v)

    def __repr__(self) -> str:
        return f"of_direction({getattr(self.rule, '__name__', self.rule)})"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # If `of_direction` decorates a function, that function's name leads here, and pickle uses it, too.
        name = getattr(self.rule, "__qualname__", "")
        decorates = getattr(sys.modules.get(self.rule.__module__), name, None) is self
        return name if decorates else (DirectionRule, (self.rule,))


def of_direction(rule: SteeringRule) -> DirectionRule:
    """Mark a rule whose strength is no length: it is given λ·v̂ with ‖v̂‖ = 1, whatever the unit.

    `project_out` and `rotate_toward` are such rules: a share and an angle do not grow with the stream.

    Args:
        rule: A function of h and v.
    """
    return DirectionRule(rule)


@of_direction
def project_out(
    h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"]
) -> Float[Tensor, "... d_model"]:
    """Directional ablation: h' = h − λ(h·v̂)v̂ with λ = ‖v‖ (Arditi et al. 2024, section 2.4, at λ = 1).

    Strength is the share of the component along v̂ that goes, whatever the unit: 1 removes it, 0.5 halves it,
    2 mirrors h. A line has no sign, so −λ does what λ does. Where v is 0, h' = h.
    """
    share = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    axis = v / share.masked_fill(share == 0, 1.0)
    return h - share * (h * axis).sum(dim=-1, keepdim=True) * axis


@of_direction
def rotate_toward(
    h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"]
) -> Float[Tensor, "... d_model"]:
    """Turn h by θ = ‖v‖ radians towards v, its length kept: h' = cos θ·h + sin θ·‖h‖ŵ, ŵ ⊥ h in the plane of both.

    Strength is the angle in radians, whatever the unit; a negative one turns towards −v. The turn ends where
    h' points along v: no angle goes past it. Where h and v are parallel, opposite (no plane is singled out) or
    0, h' = h. (Vu & Nguyen 2025, angular steering, where the plane is fixed.)
    """
    length = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    angle = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    ahead, target = h / _or_one(length), v / _or_one(angle)
    along = (ahead * target).sum(dim=-1, keepdim=True)
    sideways = target - along * ahead
    # Repeated, because a small remainder after the first time is mostly rounding, and not orthogonal.
    sideways = sideways - (ahead * sideways).sum(dim=-1, keepdim=True) * ahead
    breadth = torch.linalg.vector_norm(sideways, dim=-1, keepdim=True)
    theta = torch.minimum(angle, torch.atan2(breadth, along))
    turned = theta.cos() * h + theta.sin() * length * (sideways / _or_one(breadth))
    turns = (breadth > _PARALLEL) & (angle > 0) & (length > 0)
    return torch.where(turns, turned, h)


def as_rule(rule: SteeringRule | RuleName) -> SteeringRule:
    """The rule of this name; a function of h and v is given back as it is.

    Raises ValueError for an unknown name, and for what is no function.
    """
    if isinstance(rule, str):
        named = {getattr(known, "__name__", ""): known for known in RULES}
        if rule not in named:
            raise unknown_name("rule", rule, get_args(RuleName))
        return named[rule]
    if not callable(rule) or isinstance(rule, Module):
        raise ValueError(
            f"rule={kind_of(rule)} must be a function of h and v, such as grains_lens.add, or the name of "
            "one, such as 'add'."
        )
    return rule


RULES: tuple[SteeringRule, ...] = (add, add_keeping_norm, project_out, rotate_toward)
"""The rules that files know by name."""


_PARALLEL = 1e-6
"""The sine of the angle up to which float32 cannot tell in which plane h and v lie."""


def _or_one(length: Tensor) -> Tensor:
    return length.masked_fill(length == 0, 1.0)
