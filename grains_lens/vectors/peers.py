"""Convert steering vectors from and to other libraries."""

from __future__ import annotations

from typing import Any

from ..errors import kind_of
from .steering_vectors import SteeringVectors


def to_steering_vector(vectors: SteeringVectors) -> Any:
    """The same directions as a `steering_vectors.SteeringVector`, whose multiplier is our `unit="raw"`.

    It adds, with no norm kept (`rule=add`). Raises ImportError without the package, ValueError for what is no
    SteeringVectors.

    Args:
        vectors: The steering vectors, made on this model or on one with the same weights.
    """
    if not isinstance(vectors, SteeringVectors):
        raise ValueError(f"vectors is {kind_of(vectors)}: give SteeringVectors.")
    try:
        from steering_vectors import SteeringVector  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
    except ImportError as error:
        raise ImportError(
            "to_steering_vector makes an object of its package: pip install steering-vectors"
        ) from error
    return SteeringVector({layer: vectors[layer] for layer in vectors}, "decoder_block")


def from_steering_vector(vector: Any) -> SteeringVectors:
    """The directions of a `steering_vectors.SteeringVector` that was trained on decoder blocks.

    Args:
        vector: A `steering_vectors.SteeringVector` of decoder blocks.

    Raises ValueError for one of another site: attention's or the MLP's output is not the residual stream.
    """
    if not hasattr(vector, "layer_type") or not hasattr(vector, "layer_activations"):
        raise ValueError(f"vector is {kind_of(vector)}: give a steering_vectors.SteeringVector.")
    if vector.layer_type != "decoder_block":
        raise ValueError(
            f"this SteeringVector has layer_type={vector.layer_type!r}: only 'decoder_block' is a direction of "
            "the residual stream."
        )
    return SteeringVectors.of_layers(vector.layer_activations, method="steering_vectors")
