"""The cost of steering elsewhere: perplexity, KL divergence, unrelated questions, repetition.

Layer and strength are chosen on dev questions, once with a charge for the cost elsewhere and once on the
target alone. Benchmarks such as MMLU are not included: they need lm-eval and downloads, which these machines
lack.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import grains_lens as gl

from .. import plots
from ..estimates import estimates, with_average
from ..settings import QUICK_JUDGING, QUICK_SUBJECT, VectorSettings
from ..study import Row
from ..subjects import Bench, Cell

QUESTION = "What does steering cost elsewhere: perplexity, KL divergence, unrelated questions, repetition?"

UNSTEERED, CHARGED, TARGET = "unsteered", "charged", "target alone"


@dataclass(frozen=True)
class Settings(VectorSettings):
    """Perplexity and divergence use `n_texts` texts, accuracy `n_questions` questions of each kind and other
    behaviour, and repetition `n_prompts` prompts, continued by `n_tokens` tokens."""

    n_texts: int = 96
    n_questions: int = 96
    n_prompts: int = 8
    n_tokens: int = 24


QUICK = Settings(
    QUICK_SUBJECT,
    judging=QUICK_JUDGING,
    n_pairs=5,
    draws=1,
    n_texts=4,
    n_questions=4,
    n_prompts=2,
    n_tokens=6,
)


def cells(settings: Settings) -> Sequence[Cell]:
    return settings.cells()


def measure(cell: Cell, settings: Settings) -> list[Row]:
    bench, model = settings.subject.bench(cell), settings.subject.bench(cell).model
    vectors = settings.recipe.make(bench, bench.draw(settings.n_pairs))
    rows: list[Row] = []
    before: dict[str, Any] = {}
    for tuned, charge in ((UNSTEERED, None), (CHARGED, settings.judging.charge), (TARGET, 0.0)):
        steered: Any = contextlib.nullcontext()
        if charge is not None:
            tuning = replace(settings.judging, charge=charge).choose(
                bench, vectors, layers=list(bench.layers)
            )
            if tuning.best.strength:
                steered = tuning.steering(model, vectors)
        found = _abilities(bench, steered, settings)
        before = before or found
        change = {f"{name}_change": value - before[name] for name, value in found.items() if name in GROUPS}
        gain = found["accuracy"] - before["accuracy"]
        rows.append({"tuned": tuned, "gain": gain, **found, **change})
    return rows


GROUPS = ("clear", "neutral", "keep")


def _abilities(bench: Bench, steered: Any, settings: Settings) -> dict[str, Any]:
    texts = bench.texts(settings.n_texts)
    divergence = gl.kl_from_base(
        bench.model, bench.undisturbed(settings.n_texts), steered, prompt_format=bench.prompt_format
    )
    groups = bench.keep("test", settings.n_questions)
    with steered:
        return {
            "accuracy": _accuracy(bench, bench.behaviour.test[: settings.judging.n_test]),
            "perplexity": gl.perplexity(bench.model, texts) if texts else None,
            "kl": divergence,
            "repetition": _repetition(bench, settings),
            **{name: _accuracy(bench, questions) for name, questions in groups.items()},
        }


def _accuracy(bench: Bench, questions: Sequence[gl.MultipleChoice]) -> float:
    return gl.multiple_choice(
        bench.model, questions, prompt_format=bench.prompt_format, progress=False
    ).accuracy


def _repetition(bench: Bench, settings: Settings) -> float:
    """The share of word pairs in greedy continuations that occurred earlier in the same continuation.
    Generation continues past any end of text. NaN if every prompt has an image."""
    shares = []
    for question in [one for one in bench.behaviour.test if not one.images][: settings.n_prompts]:
        words = _continued(bench, question.prompt, settings.n_tokens).split()
        pairs = list(pairwise(words))
        shares.append(1 - len(set(pairs)) / len(pairs) if pairs else 0.0)
    return float(np.mean(shares)) if shares else float("nan")


def _continued(bench: Bench, prompt: str, n_tokens: int) -> str:
    how: Any = {"max_new_tokens": n_tokens, "do_sample": False, "stop_at_eos": False, "verbose": False}
    if not bench.prompt_format.chat:
        return str(bench.model.generate(prompt, **how)).removeprefix(prompt)
    ids = gl.prompt_inputs(bench.model, [prompt], prompt_format=bench.prompt_format)["input_ids"]
    tokens = bench.model.generate(ids, return_type="tokens", **how)
    return str(bench.model.tokenizer.decode(tokens[0, ids.shape[1] :]))


VALUES = ("gain", "perplexity", "kl", "repetition", "clear_change", "neutral_change", "keep_change")


def table(frame: pd.DataFrame) -> pd.DataFrame:
    return estimates(
        with_average(frame), ["behaviour", "tuned"], [value for value in VALUES if value in frame]
    )


def figure(frame: pd.DataFrame) -> Figure:
    answer = table(frame)
    behaviours = list(dict.fromkeys(answer["behaviour"]))
    shown = {
        "gain": "gain on the target",
        "perplexity": "perplexity",
        "kl": "KL divergence, nats",
        "clear_change": "clear questions,\nchange",
        "neutral_change": "neutral questions,\nchange",
        "keep_change": "kept questions,\nchange",
        "repetition": "repetition",
    }
    values = [value for value in shown if value in answer][:6]
    figure, axes = plots.panels(len(values), columns=3, height=1.9)
    for panel, value in zip(axes, values, strict=True):
        for index, tuned in enumerate(dict.fromkeys(answer["tuned"])):
            here = answer[answer["tuned"] == tuned]
            at = plots.places(here["behaviour"].tolist()) + 0.2 * (index - 1)
            plots.points(panel, here, value, at, label=tuned, index=index)
        plots.name_places(panel, behaviours, rotation=20)
        if value != "perplexity":
            plots.zero(panel)
        plots.labels(panel, y=shown[value])
    plots.legend(figure, axes[0])
    return figure
