"""Strings become objects: models, worlds, pairs, questions, methods. What is heavy is imported when needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import Loading, Prompting, Scoring, Steered

if TYPE_CHECKING:
    from ..data.items import MultipleChoice, PreferencePair
    from ..intervention.plan import Steering
    from ..prompts.encoding import PromptFormat
    from ..worlds.world import World


def _world(name: str) -> World | None:
    """The world that `myths[:seed[:variant]]` names, or None: it is some other model."""
    from .. import worlds
    from ..errors import unknown_name

    head, *rest = name.split(":")
    known = {one.name for one in worlds.available()}
    if Path(name).is_dir() or (head not in known and not rest):
        return None
    if head not in known:
        raise unknown_name("world", head, known)
    if len(rest) > 2 or (rest and not rest[0].isdigit()):
        raise ValueError(f"{name!r}: a world is written {head}, {head}:SEED or {head}:SEED:VARIANT.")
    return worlds.load(
        head, seed=int(rest[0]) if rest else 0, variant=rest[1] if len(rest) > 1 else "standard"
    )


def load(name: str, loading: Loading) -> Any:
    import torch

    from ..hosts.loading import load_model

    without_loading_bars()
    world = _world(name)
    dtype = getattr(torch, loading.dtype)
    return load_model(
        world.path if world else name, backend=loading.backend, device=loading.device, dtype=dtype
    )


def without_loading_bars() -> None:
    """transformers draws one for each model, over in an instant and left standing."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _of_world(model: str, source: str, default: str) -> Any:
    """What a world holds under `behaviour[:questions]`, or None where `source` is a file."""
    world = _world(model)
    if world is None or Path(source).suffix:
        return None
    from ..errors import unknown_name

    name, _, kind = source.partition(":")
    if name not in world.behaviours:
        raise unknown_name("behaviour", name, world.behaviours)
    behaviour = world.behaviours[name]
    kinds = [field for field, value in vars(behaviour).items() if isinstance(value, tuple)]
    if (kind or default) not in kinds:
        raise unknown_name("questions", kind, kinds)
    return getattr(behaviour, kind or default)


def pairs_of(model: str, source: str, limit: int | None) -> Sequence[PreferencePair]:
    from ..data.reading import load_pairs

    return _first(_of_world(model, source, "pairs") or load_pairs(source), limit)


def items_of(
    model: str, source: str, limit: int | None
) -> Sequence[MultipleChoice] | Sequence[PreferencePair]:
    from ..data.reading import columns_of, load_pairs, load_questions

    held = _of_world(model, source, "test")
    if held is None:
        held = load_questions(source) if "choices" in columns_of(source) else load_pairs(source)
    return _first(held, limit)


def _first(items: Sequence[Any], limit: int | None) -> Sequence[Any]:
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} must be at least 1.")
    return items[:limit]


def method_of(scoring: Scoring) -> Any:
    import grains_lens as gl

    return {
        "integrated_gradients": lambda: gl.IntegratedGradients(
            scoring.steps, tolerance=scoring.tolerance, max_steps=max(320, scoring.steps or 0)
        ),
        "gradient_times_input": gl.GradientTimesInput,
        "occlusion": gl.Occlusion,
        "random": gl.RandomScores,
    }[scoring.method]()


def format_of(prompting: Prompting) -> PromptFormat:
    from ..prompts.encoding import PromptFormat

    return PromptFormat(chat=prompting.chat, system=prompting.system)


def steering_of(model: Any, steered: Steered) -> Steering | None:
    if steered.vectors is None:
        return None
    from ..intervention.contexts import steering
    from ..intervention.saved import load as load_saved
    from ..vectors.steering_vectors import SteeringVectors

    held = load_saved(steered.vectors)
    strength = 0.5 if steered.strength is None and isinstance(held, SteeringVectors) else steered.strength
    return steering(model, held, strength=strength, layers=steered.layers, unit=steered.unit)
