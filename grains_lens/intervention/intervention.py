"""How vectors act on the residual stream, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from ..literals import Unit
from .gates import Gate
from .positions import Positions
from .rules import SteeringRule, add_keeping_norm


@dataclass(frozen=True)
class Intervention:
    """How vectors act: by which `rule`, at which `positions`, behind which `gate`, in which `unit` of strength.

    These are the arguments of `steering` that have these names: `steering(..., **vars(intervention))`.
    """

    rule: SteeringRule = add_keeping_norm
    positions: Positions = "all"
    gate: Gate | None = None
    unit: Unit = "residual"
