"""How vectors act on the residual stream, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from ..literals import Unit
from ..vectors.provenance import name_of
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

    def __str__(self) -> str:
        """Rule, positions and gate: "add at positions 'all', no gate"."""
        positions = self.positions if isinstance(self.positions, str) else list(self.positions)
        return f"{name_of(self.rule)} at positions {positions!r}, {self._gate_in_words()}"

    def _gate_in_words(self) -> str:
        if self.gate is None:
            return "no gate"
        layer = getattr(self.gate, "layer", None)
        # Not the gate's own repr, which may contain a tensor.
        name = name_of(self.gate) if hasattr(self.gate, "__name__") else type(self.gate).__name__
        return f"gate {name}" if layer is None else f"gate {name} after layer {layer}"
