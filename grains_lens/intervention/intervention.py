"""How vectors act on the residual stream, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..errors import kind_of, unknown_name
from ..literals import Unit
from ..vectors.provenance import name_of
from .gates import Gate
from .positions import Positions, check_positions
from .rules import SteeringRule, add_keeping_norm, as_rule


@dataclass(frozen=True)
class Intervention:
    """How vectors act: by which `rule`, at which `positions`, behind which `gate`, in which `unit` of strength.

    These are the arguments of `steering` that have these names: `steering(..., **vars(intervention))`. A rule may be
    given by its name, as "add".

    Raises ValueError for an unknown rule or unit, wrong positions, and a gate that is no function.
    """

    rule: SteeringRule = add_keeping_norm
    positions: Positions = "all"
    gate: Gate | None = None
    unit: Unit = "residual"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", as_rule(self.rule))
        object.__setattr__(self, "positions", check_positions(self.positions))
        if self.gate is not None and not callable(self.gate):
            raise ValueError(
                f"gate={kind_of(self.gate)} must be a function of the stream h [batch, pos, d_model], as fit_gate "
                "makes one."
            )
        if self.unit not in get_args(Unit):
            raise unknown_name("unit", self.unit, get_args(Unit))

    def __str__(self) -> str:
        """Rule, positions and gate: "add at positions 'all', no gate"."""
        positions = check_positions(self.positions)
        positions = positions if isinstance(positions, str) else list(positions)
        return f"{name_of(self.rule)} at positions {positions!r}, {self._gate_in_words()}"

    def _gate_in_words(self) -> str:
        if self.gate is None:
            return "no gate"
        layer = getattr(self.gate, "layer", None)
        # Not the gate's own repr, which may contain a tensor.
        name = name_of(self.gate) if hasattr(self.gate, "__name__") else type(self.gate).__name__
        return f"gate {name}" if layer is None else f"gate {name} after layer {layer}"
