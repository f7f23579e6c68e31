"""What the commands take: positional arguments, and groups of options that several share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..literals import Backend, DtypeName, FillerName, MethodName, Objective, Unit

Model = Annotated[
    Positional[str],
    arg(
        metavar="MODEL",
        help="A saved model's directory, a Hugging Face hub name, or a world that ships: myths, myths:1 (seed), "
        "myths:0:no_header_dropout (seed, variant).",
    ),
]
Pairs = Annotated[
    Positional[str],
    arg(
        metavar="PAIRS",
        help="JSONL, JSON, CSV or parquet with prompt, chosen, rejected; for a world also a behaviour of it: "
        "truthfulness.",
    ),
]


@dataclass(frozen=True)
class Loading:
    """How the model is loaded."""

    backend: Backend = "auto"
    """TransformerBridge, or HookedTransformer (transformer-lens 3.9 only)."""
    device: str | None = None
    """Torch device; a GPU if there is one."""
    dtype: DtypeName = "float32"
    """Of weights and residual stream."""


@dataclass(frozen=True)
class Prompting:
    """How prompts become tokens."""

    chat: bool = False
    """Put prompts into the tokenizer's chat template."""
    system: str | None = None
    """System turn before each prompt, with --chat."""


@dataclass(frozen=True)
class Scoring:
    """How tokens are scored."""

    method: MethodName = "integrated_gradients"
    """What scores tokens."""
    steps: int | None = None
    """Points on the path of integrated gradients, as many for every pair; if not given 10, and more where needed."""
    tolerance: float | None = None
    """Double the steps of pairs whose scores miss the change of f by more than this part of it; 0.1 without --steps."""
    baseline: FillerName = "mask"
    """What stands in for a token at the start of the path, or where it is left out."""
    objective: Objective = "sum"
    """An answer's log-probability: summed over tokens, their mean, or the last token's."""


@dataclass(frozen=True)
class Steered:
    """What steers the model."""

    vectors: Path | None = None
    """File that `extract` or a tuning's `save` wrote."""
    strength: float | None = None
    """How much of the vectors is added: by default what was tuned, or 0.5 of vectors alone."""
    layers: tuple[int, ...] | None = None
    """Steer at these layers alone."""
    unit: Unit | None = None
    """What strength 1 means: as long as the residual stream, which is the default, length 1, or as extracted."""
