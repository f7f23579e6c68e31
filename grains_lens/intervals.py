"""Bootstrap intervals for results from a few hundred questions and a few models."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped

from .errors import kind_of


def bootstrap_interval(
    values: Shaped[np.ndarray, "model question"] | Shaped[np.ndarray, " question"],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of the mean of `values`, resampled over questions and, if there are several,
    over models.

    With one row (or a 1-D array), only questions are resampled. With several rows, each resample draws models
    with replacement, and one set of questions for all of them, because all models have the same questions.
    For a paired interval, pass the differences between two methods on the same questions.

    Args:
        values: [question] or [model, question].
        level: The interval's coverage, between 0 and 1.
        resamples: How many resamples are drawn.
        seed: Of all that is drawn at random. The same seed gives the same result.

    Raises ValueError if there are no values, one is NaN or infinite, or `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1, such as 0.95.")
    try:
        values = np.atleast_2d(np.asarray(values, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(f"values is {kind_of(values)}: give an array of numbers.") from None
    if not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"values, of shape {values.shape}, are empty or hold NaN or infinity: leave out values that "
            "were not measured."
        )
    models, questions = values.shape
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for index in range(resamples):
        rows = generator.integers(models, size=models)
        columns = generator.integers(questions, size=questions)
        means[index] = values[rows][:, columns].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
