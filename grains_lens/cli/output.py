"""Objects become strings: numbers with their intervals, scores as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import printable
from ..literals import ObjectiveName
from ..writing import write_text
from .objects import format_of
from .options import Prompting

if TYPE_CHECKING:
    from ..attribution.scores import TokenAttribution
    from ..data.items import PreferencePair
    from ..intervention.plan import Steering


def judge(model: Any, items: Sequence[Any], objective: ObjectiveName, prompting: Prompting) -> list[float]:
    """One number per item: 1 where the right choice, or the chosen answer, is the most probable."""
    from ..data.items import PreferencePair
    from ..evaluation.choices import multiple_choice, preference

    prompt_format = format_of(prompting)
    if isinstance(items[0], PreferencePair):
        gaps = preference(model, items, objective=objective, prompt_format=prompt_format).gaps
        return ((gaps > 0).float() + 0.5 * (gaps == 0).float()).tolist()
    return (
        multiple_choice(model, items, objective=objective, prompt_format=prompt_format)
        .correct.float()
        .tolist()
    )


def estimate(values: Sequence[float]) -> str:
    import numpy as np

    from ..intervals import bootstrap_interval

    low, high = bootstrap_interval(np.array(values))
    return f"{float(np.mean(values)):.3f} [{low:.3f}, {high:.3f}]  ({len(values)} items)"


def generated(
    model: Any,
    prompt: str,
    steer: Steering | None,
    prompting: Prompting,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[tuple[str, str]]:
    """What the model goes on with: unsteered and, if anything steers, steered."""
    from ..evaluation.comparison import compare_generations, generate_text

    sampling = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "prompt_format": format_of(prompting),
    }
    if steer is None:
        (text,) = generate_text(model, [prompt], **sampling)
        return [("unsteered", text)]
    both = compare_generations(model, [prompt], steer, **sampling)
    return [("unsteered", both.unsteered[0]), ("steered", both.steered[0])]


def top_tokens(one: TokenAttribution, k: int, sign: int) -> str:
    k = min(k, int((~one.is_special).sum()))
    chosen = one.top(k, "positive" if sign > 0 else "negative").tolist() if k else []
    return (
        ", ".join(f"{printable(one.strings[at].strip())} {float(one.scores[at]):+.2f}" for at in chosen)
        or "none"
    )


def as_json(pair: PreferencePair, one: TokenAttribution) -> str:
    fields = {
        "prompt": pair.prompt,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "tokens": one.tokens.tolist(),
        "strings": list(one.strings),
        "scores": one.scores.tolist(),
        "gap": one.gap,
        "baseline_gap": one.baseline_gap,
        "completeness_error": one.completeness_error,
    }
    return json.dumps(fields, ensure_ascii=False)


def write(path: Path, text: str) -> None:
    say(f"wrote {write_text(path, text)}")


def say(text: str) -> None:
    """Print a text of one line or several: it may hold what a model or a file says."""
    print(printable(text, keep="\n\t"), flush=True)
