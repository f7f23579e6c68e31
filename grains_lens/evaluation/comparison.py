"""Compare a model's texts, unsteered and steered, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import torch

from ..data.given import as_texts
from ..errors import kind_of, printable, real, whole
from ..hosts.model import HookedModel, device_of
from ..hosts.ownership import takes_a_turn
from ..html import markup
from ..intervention.given import as_vectors_or_tuning
from ..intervention.plan import Steering
from ..intervention.tunings import Tuning
from ..prompts.batching import encode_prompts_for, tokenizer_of
from ..prompts.encoding import PromptFormat

Words = list[tuple[str, bool]]
"""The pieces of a text, in order, each with whether the other text lacks it."""


@dataclass(frozen=True)
class GenerationComparison:
    """The continuation of each of `prompts`, `unsteered` and `steered`, with the differing words marked."""

    prompts: tuple[str, ...]
    unsteered: tuple[str, ...]
    steered: tuple[str, ...]

    @property
    def n_changed(self) -> int:
        """The number of prompts whose continuation changes under steering."""
        return sum(before != after for before, after in zip(self.unsteered, self.steered, strict=True))

    def __repr__(self) -> str:
        lines = []
        for prompt, before, after in zip(self.prompts, self.unsteered, self.steered, strict=True):
            words = [_in_brackets(side) for side in changed_words(before, after)]
            lines.append(f"{prompt}\n  unsteered: {words[0]}\n  steered:   {words[1]}")
        shown = printable("\n".join(lines), keep="\n\t")
        return "\n".join([shown, f"({self._caption()}; [changed] words in brackets)"])

    def _repr_html_(self) -> str:
        rows = []
        for prompt, before, after in zip(self.prompts, self.unsteered, self.steered, strict=True):
            was, now = changed_words(before, after)
            rows.append(
                (prompt, markup.marked_words(was, markup.GREY), markup.marked_words(now, markup.BLUE))
            )
        return markup.card(
            "Unsteered and steered",
            markup.text_table(["prompt", "unsteered", "steered"], rows),
            caption=f"{self._caption()}; words that differ are marked",
        )

    def _caption(self) -> str:
        return f"{self.n_changed} of {len(self.prompts)} continued otherwise"


@takes_a_turn
def compare_generations(
    model: HookedModel,
    prompts: str | Iterable[str],
    steering: Steering | Tuning | str | Path,
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    prompt_format: PromptFormat = PromptFormat(),
) -> GenerationComparison:
    """Continue each prompt twice, unsteered and under `steering` (or a tuning's best setting), and mark the
    differences.

        steer = gl.steering(model, vectors, strength=0.5)
        gl.compare_generations(model, ["is this tea safe ?"], steer)

    Each text has up to `max_new_tokens` tokens. Decoding is greedy at `temperature` 0; otherwise both texts
    are sampled with the same `seed`, and the caller's random state does not change. Prompts are encoded as in
    the other functions. Steering that is already on is refused, because there would be no unsteered side.

    Args:
        model: A `TransformerBridge` or a `HookedTransformer` (`load_model` makes one). It is left as it was.
        prompts: Texts, as the other verbs read them.
        steering: Not yet entered: `steering(model, vectors, strength=...)`.
        max_new_tokens: The most tokens that are written per text.
        temperature: 0 writes greedily; above 0 tokens are sampled.
        seed: Of the sampling, the same for both texts. The caller's random state stays as it was.
        prompt_format: How a prompt and an answer become tokens: the joint, chat template, system turn and BOS
            (`PromptFormat`).

    Raises ValueError if there are no prompts, `temperature` is negative, `max_new_tokens` is below 1, or
    `steering` is already on.
    """
    texts = as_texts(prompts, "prompts")
    held = as_vectors_or_tuning(steering, "steering") if isinstance(steering, str | Path) else steering
    steer = held.steering(model) if isinstance(held, Tuning) else held
    if not isinstance(steer, Steering):
        raise ValueError(
            f"steering is {kind_of(steer)}: give steering(model, vectors, strength=0.5), or a Tuning."
        )
    if steer.is_on:
        raise ValueError("steering is on already, so there is no unsteered text: pass it switched off.")
    settings = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "prompt_format": prompt_format,
    }
    unsteered = generate_text(model, texts, **settings)
    with steer:
        return GenerationComparison(tuple(texts), unsteered, generate_text(model, texts, **settings))


def generate_text(
    model: HookedModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    prompt_format: PromptFormat,
) -> tuple[str, ...]:
    """Continue the prompts one at a time. The caller's random state does not change."""
    max_new_tokens = whole(max_new_tokens, "max_new_tokens")
    if not real(temperature, "temperature") >= 0:
        raise ValueError(f"temperature={temperature} must be 0 (greedy) or more.")
    if not len(prompts):
        raise ValueError("prompts is empty: give at least one text to continue.")
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    texts = []
    for prompt in encode_prompts_for(model, list(prompts), prompt_format):
        ids = torch.tensor([prompt.ids], device=device_of(model))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            continued = model.generate(
                ids, max_new_tokens=max_new_tokens, verbose=False, return_type="tokens", **sampling
            )
        texts.append(tokenizer_of(model).decode(continued[0, ids.shape[1] :], skip_special_tokens=True))
    return tuple(texts)


def changed_words(before: str, after: str) -> tuple[Words, Words]:
    """Both texts word by word, each word with whether only this text has it (by difflib)."""
    sides = [re.findall(r"\s+|\w+|[^\w\s]", text) for text in (before, after)]
    same: tuple[set[int], set[int]] = (set(), set())
    for block in SequenceMatcher(a=sides[0], b=sides[1], autojunk=False).get_matching_blocks():
        same[0].update(range(block.a, block.a + block.size))
        same[1].update(range(block.b, block.b + block.size))
    marked = [
        [(word, index not in kept and not word.isspace()) for index, word in enumerate(words)]
        for words, kept in zip(sides, same, strict=True)
    ]
    return marked[0], marked[1]


def _in_brackets(words: Words) -> str:
    return "".join(f"[{word}]" if changed else word for word, changed in words)
