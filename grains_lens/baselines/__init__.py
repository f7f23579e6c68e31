"""Rival methods. They produce the same `SteeringVectors`, so every study can run on all of them.

GrAInS with random tokens shows how much attribution adds: it is `extract_vectors` with
`method=RandomScores(seed)`. `lora_sft` and `lora_dpo` return adapters instead of vectors, to show what the
same pairs achieve if weights may change. `trained_gate` returns a steering rule that is trained on the pairs,
for vectors from any source.
"""

from .chance import random_direction as random_direction
from .differences import in_context_vector as in_context_vector
from .differences import mean_difference as mean_difference
from .differences import pca_difference as pca_difference
from .features import correlated_features as correlated_features
from .gated import GatedAdd as GatedAdd
from .gated import TrainedGate as TrainedGate
from .gated import trained_gate as trained_gate
from .gradient import gradient_direction as gradient_direction
from .lora import lora_dpo as lora_dpo
from .lora import lora_sft as lora_sft
from .optimised import optimised_direction as optimised_direction
from .probe import probe_direction as probe_direction
from .texts import activation_addition as activation_addition

__all__ = [
    "GatedAdd",
    "TrainedGate",
    "activation_addition",
    "correlated_features",
    "gradient_direction",
    "in_context_vector",
    "lora_dpo",
    "lora_sft",
    "mean_difference",
    "optimised_direction",
    "pca_difference",
    "probe_direction",
    "random_direction",
    "trained_gate",
]


def __dir__() -> list[str]:
    return __all__
