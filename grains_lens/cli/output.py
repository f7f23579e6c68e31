"""Objects become strings: numbers with their intervals, scores, texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import printable
from .documents import as_json
from .objects import bars
from .options import Answers

if TYPE_CHECKING:
    from ..attribution.scores import TokenAttribution
    from ..intervention.plan import Steering
    from ..prompts.encoding import PromptFormat
    from ..vectors.steering_vectors import SteeringVectors


@dataclass(frozen=True)
class Answer:
    """What a command found: as text, and as a document for `--json`."""

    text: str
    document: Mapping[str, Any]

    def show(self, *, json: bool) -> None:
        """Print one of the two."""
        if json:
            print(as_json(self.document), flush=True)
        else:
            say(self.text)


def judge(model: Any, items: Sequence[Any], objective: Answers, prompt_format: PromptFormat) -> list[float]:
    """One number per item: 1 where the right choice, or the chosen answer, is the most probable."""
    from ..data.items import PreferencePair
    from ..evaluation.choices import multiple_choice, preference

    asked: dict[str, Any] = {"objective": objective, "prompt_format": prompt_format, "progress": bars()}
    if isinstance(items[0], PreferencePair):
        gaps = preference(model, items, **asked).gaps
        return ((gaps > 0).float() + 0.5 * (gaps == 0).float()).tolist()
    return multiple_choice(model, items, **asked).correct.float().tolist()


def estimate(found: Mapping[str, Any]) -> str:
    """A mean with its interval and number of items, of what `of_values` made."""
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]  ({len(found['values'])} items)"


def generated(
    model: Any,
    prompt: str,
    images: Sequence[Path],
    steer: Steering | None,
    prompt_format: PromptFormat,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> dict[str, str]:
    """What the model goes on with: unsteered and, if anything steers, steered."""
    from ..evaluation.comparison import compare_generations, generate_text

    if images:
        if temperature:
            raise ValueError(
                f"temperature={temperature} samples, and a prompt with images is continued greedily."
            )
        return _about_images(model, prompt, images, steer, prompt_format, max_new_tokens)
    sampling = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "prompt_format": prompt_format,
    }
    if steer is None:
        (text,) = generate_text(model, [prompt], **sampling)
        return {"unsteered": text}
    both = compare_generations(model, [prompt], steer, **sampling)
    return {"unsteered": both.unsteered[0], "steered": both.steered[0]}


def _about_images(
    model: Any,
    prompt: str,
    images: Sequence[Path],
    steer: Steering | None,
    prompt_format: PromptFormat,
    max_new_tokens: int,
) -> dict[str, str]:
    from ..data.items import OpenQuestion
    from ..evaluation.decoding import greedy_answers

    asked = OpenQuestion(prompt, reference="not known", images=tuple(map(str, images)))
    settings = {"max_new_tokens": max_new_tokens, "prompt_format": prompt_format, "progress": bars()}
    texts = {"unsteered": greedy_answers(model, [asked], **settings)[0]}
    if steer is not None:
        with steer:
            texts["steered"] = greedy_answers(model, [asked], **settings)[0]
    return texts


def top_tokens(one: TokenAttribution, k: int, sign: int) -> str:
    k = min(k, int((~one.is_special).sum()))
    chosen = one.top(k, "positive" if sign > 0 else "negative").tolist() if k else []
    return (
        ", ".join(f"{printable(one.strings[at].strip())} {float(one.scores[at]):+.2f}" for at in chosen)
        or "none"
    )


def vectors_in_words(held: SteeringVectors) -> str:
    """Where vectors come from, which model they belong to, and a line per layer."""
    made, model = held.provenance, held.provenance.model
    # All of it is text from a file, which may hold what steers a terminal; JSON escapes by itself.
    lines = [
        printable(f"{made.method} from {made.n_pairs} pairs, for {made.hook_site}, d_model {held.d_model}")
    ]
    if model:
        name, architecture = printable(model.name), printable(model.architecture)
        lines.append(f"model: {name} ({architecture}, {model.n_layers} layers, {model.dtype})")
    lines.append("settings: " + json.dumps(dict(made.settings)))
    lines.append(printable("versions: " + ", ".join(f"{name} {one}" for name, one in made.versions.items())))
    lines.append(f"{'layer':>5} {'length':>9} {'residual norm':>14}")
    for layer, length, norm in zip(
        held.layers, held.norms().tolist(), held.residual_norm.tolist(), strict=True
    ):
        lines.append(f"{layer:>5} {length:>9.4f} {norm:>14.4f}")
    return "\n".join(lines)


def say(text: str) -> None:
    """Print a text of one line or several: it may hold what a model or a file says."""
    print(printable(text, keep="\n\t"), flush=True)
