"""The content of a tuning's file besides its vectors, and the checks when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from ..errors import VectorFileError, seen
from ..literals import Unit
from ..vectors.steering_vectors import SteeringVectors
from ..vectors.tensor_files import damaged, parse_json, read_tensors
from ..vectors.vector_files import TUNED, vectors_of, write_vectors
from .gates import Gate, ProjectionGate
from .intervention import Intervention
from .positions import check_positions
from .rules import RULES, SteeringRule

_ROW = ("layers", "strength", "accuracy", "keep", "cost", "score")
_GATE = ("layer", "threshold", "balanced_accuracy")


def write_tuning(
    path: Path,
    vectors: SteeringVectors,
    rows: Sequence[Mapping[str, Any]],
    best: int,
    intervention: Intervention,
) -> None:
    """Write vectors, the table's rows, the best row, and the intervention. Raises ValueError for values that
    a file cannot hold, and OSError."""
    gate = _known_gate(intervention.gate)
    positions = check_positions(intervention.positions)
    tuning = {
        "rows": [{**row, "keep": dict(row["keep"])} for row in rows],
        "best": best,
        "rule": _rule_name(intervention.rule),
        "positions": positions if isinstance(positions, str) else list(positions),
        "unit": intervention.unit,
        "gate": gate and {name: getattr(gate, name) for name in _GATE},
    }
    write_vectors(
        path,
        vectors.directions,
        vectors.layers,
        vectors.residual_norm,
        vectors.provenance,
        tuning=json.dumps(tuning, sort_keys=True),
        gate=None if gate is None else gate.direction,
    )


def read_tuning(path: Path) -> tuple[SteeringVectors, list[dict[str, Any]], int, Intervention]:
    """Read what `write_tuning` wrote. Raises FileNotFoundError or VectorFileError."""
    metadata, tensors = read_tensors(path, TUNED)
    parts = vectors_of(path, metadata, tensors)
    try:
        vectors = SteeringVectors(**parts)
        held = _named(parse_json(metadata["tuning"]), "rows", "best", "rule", "positions", "unit", "gate")
        rows = [_row(row, vectors) for row in _list(held["rows"])]
        best = _whole(held["best"])
        if not 0 <= best < len(rows) or any(row["keep"].keys() != rows[0]["keep"].keys() for row in rows):
            raise ValueError("its rows do not fit together")
        intervention = Intervention(
            _rule(held["rule"]),
            _positions(held["positions"]),
            _gate(held["gate"], tensors.get("gate"), vectors.d_model),
            _one_of(held["unit"], get_args(Unit)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise VectorFileError(damaged(path, f"{type(error).__name__}: {error}")) from error
    return vectors, rows, best, intervention


# --- what can be saved ---------------------------------------------------------------------------


def _rule_name(rule: SteeringRule) -> str:
    if not any(rule is known for known in RULES):
        names = ", ".join(known.__name__ for known in RULES)
        raise ValueError(
            f"rule={seen(rule)} cannot be saved, for a file knows rules by their names ({names}): save the vectors, as "
            "tuning.vectors.save(path), and give strength, layers and rule to steering."
        )
    return rule.__name__


def _known_gate(gate: Gate | None) -> ProjectionGate | None:
    if gate is None:
        return None
    # Not a subclass, which may decide differently.
    if isinstance(gate, ProjectionGate) and type(gate) is ProjectionGate:
        return gate
    raise ValueError(
        f"gate={seen(gate)} cannot be saved, for a file knows no gate but ProjectionGate: save the vectors, as "
        "tuning.vectors.save(path), and give strength, layers and gate to steering."
    )


# --- what is read, none of it believed -----------------------------------------------------------


def _row(held: Any, vectors: SteeringVectors) -> dict[str, Any]:
    row = _named(held, *_ROW)
    layers = tuple(_whole(layer) for layer in _list(row["layers"]))
    if list(layers) != sorted(set(layers)) or not set(layers) <= set(vectors.layers):
        raise ValueError(f"layers {layers} are not the vectors'")
    strength = _number(row["strength"])
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}")
    keep = {name: _number(value) for name, value in _mapping(row["keep"]).items()}
    numbers = {name: _number(row[name]) for name in ("accuracy", "cost", "score")}
    return {"layers": layers, "strength": strength, "keep": keep, **numbers}


def _rule(name: Any) -> SteeringRule:
    known = {rule.__name__: rule for rule in RULES}
    return known[_one_of(name, tuple(known))]


def _positions(held: Any) -> Any:
    named: Any = held if isinstance(held, str) else tuple(_whole(one) for one in _list(held))
    return check_positions(named)


def _gate(held: Any, direction: Tensor | None, d_model: int) -> ProjectionGate | None:
    if (held is None) != (direction is None):
        raise ValueError("of its gate there is one half")
    if held is None or direction is None:
        return None
    gate = _named(held, *_GATE)
    if tuple(direction.shape) != (d_model,):
        raise ValueError(f"its gate has shape {tuple(direction.shape)}")
    accuracy = gate["balanced_accuracy"]
    return ProjectionGate(
        direction,
        _number(gate["threshold"]),
        _whole(gate["layer"]),
        None if accuracy is None else _number(accuracy),
    )


def _named(held: Any, *names: str) -> dict[str, Any]:
    if _mapping(held).keys() != set(names):
        raise ValueError(f"{', '.join(names)} are expected, not {', '.join(sorted(held)) or 'nothing'}")
    return held


def _mapping(held: Any) -> dict[str, Any]:
    if not isinstance(held, dict):
        raise TypeError(f"{seen(held)} has no names")
    return held


def _list(held: Any) -> list[Any]:
    if not isinstance(held, list):
        raise TypeError(f"{seen(held)} is no list")
    return held


def _whole(held: Any) -> int:
    if type(held) is not int:
        raise TypeError(f"{seen(held)} is not a whole number")
    return held


def _number(held: Any) -> float:
    if type(held) not in (int, float):
        raise TypeError(f"{seen(held)} is no number")
    return float(held)


def _one_of(held: Any, known: Sequence[str]) -> Any:
    if not isinstance(held, str) or held not in known:
        raise ValueError(f"{seen(held)} is none of {', '.join(known)}")
    return held
