"""The commands: each a function over the library's, its docstring the command's help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..errors import printable
from ..literals import AggregateName, Backend, Contrast, FillerName, ObjectiveName, Position, WorldName
from ..writing import check_extension, check_writable
from .objects import format_of, items_of, load, method_of, pairs_of, steering_of, without_loading_bars
from .options import (
    Loading,
    Model,
    Pairs,
    Prompting,
    Scoring,
    Steered,
)
from .output import as_json, estimate, generated, judge, say, top_tokens, write


def demo(
    world: WorldName = "myths",
    variant: str = "standard",
    seeds: tuple[int, ...] = (0,),
    behaviours: tuple[str, ...] = (),
    backend: Backend = "auto",
    out: Path = Path("out/demo"),
    full: bool = False,
) -> None:
    """GrAInS and its rivals on a small model that ships, judged on held-out questions.

    Args:
        world: "myths" (text) or "hints" (pictures and text).
        variant: Variant of the world.
        seeds: Model seeds; several give one table over all.
        behaviours: Which to steer; all of the world's if none is named.
        backend: TransformerBridge, or HookedTransformer (transformer-lens 3.9 only).
        out: Directory for tables, figures and vectors.
        full: All pairs and questions, as the README's tables have them; it takes twice the time.
    """
    from ..demo.progress import Stages

    check_writable(out / "table.json", "out")
    with Stages(say) as stages:
        stages("importing torch and transformers")
        without_loading_bars()
        from ..demo.report import SHORT, Settings
        from ..demo.study import run

        settings = Settings(world, variant, seeds, behaviours, backend, out, **({} if full else SHORT))
        run(settings, say=say, stages=stages)


def attribute(
    model: Model,
    pairs: Pairs,
    scoring: Annotated[Scoring, arg(name="")] = Scoring(),
    top: int = 3,
    limit: int | None = None,
    out: Path | None = None,
    png: Path | None = None,
    prompting: Annotated[Prompting, arg(name="")] = Prompting(),
    loading: Annotated[Loading, arg(name="")] = Loading(),
) -> None:
    """Score every prompt token by what it does to log p(chosen) − log p(rejected), in nats.

    Args:
        top: How many tokens of either sign to print.
        limit: Take the first so many pairs.
        out: Write all scores, one JSON object a pair and line.
        png: Draw the prompts as heat strips.
    """
    import grains_lens as gl

    if top < 0:
        raise ValueError(f"top={top} must be 0 or more.")
    for argument, path in {"out": out, "png": png}.items():
        if path:
            check_writable(path, argument)
    items = pairs_of(model, pairs, limit)
    attributions = gl.attribute(
        load(model, loading),
        items,
        method=method_of(scoring),
        baseline=scoring.baseline,
        objective=scoring.objective,
        prompt_format=format_of(prompting),
    )
    for index, one in enumerate(attributions):
        say(
            f"{index}  f(x) = {one.gap:+.2f} nats  for: {top_tokens(one, top, 1)}  against: {top_tokens(one, top, -1)}"
        )
    if out:
        lines = [as_json(pair, one) for pair, one in zip(items, attributions, strict=True)]
        write(out, "".join(line + "\n" for line in lines))
    if png:
        from .. import show

        titles = [f"chosen: {pair.chosen}, rejected: {pair.rejected}" for pair in items]
        say(f"wrote {show.save(show.token_strip(attributions, titles=titles), png)}")


def extract(
    model: Model,
    pairs: Pairs,
    out: Path,
    scoring: Annotated[Scoring, arg(name="")] = Scoring(),
    k: int = 3,
    mask: FillerName = "mask",
    contrast: Contrast = "two_sided",
    aggregate: AggregateName = "pca",
    position: Position = "prompt_end",
    layers: tuple[int, ...] | None = None,
    limit: int | None = None,
    prompting: Annotated[Prompting, arg(name="")] = Prompting(),
    loading: Annotated[Loading, arg(name="")] = Loading(),
) -> None:
    """Make steering vectors from preference pairs; the defaults are the paper's.

    Args:
        out: File to write, .safetensors.
        k: Tokens of either sign to mask.
        mask: What takes a masked token's place.
        contrast: Aggregate either side by itself, or the differences of both.
        aggregate: From one difference per pair to one direction.
        position: Where the residual stream is read.
        layers: Layers to make vectors for; all if not given.
        limit: Take the first so many pairs.
    """
    import grains_lens as gl

    check_extension(out, ".safetensors", "out")
    check_writable(out, "out")
    items = pairs_of(model, pairs, limit)
    vectors = gl.extract_vectors(
        load(model, loading),
        items,
        method=method_of(scoring),
        baseline=scoring.baseline,
        objective=scoring.objective,
        k=k,
        mask=mask,
        contrast=contrast,
        aggregate=aggregate,
        position=position,
        layers=layers,
        prompt_format=format_of(prompting),
    )
    say(f"{vectors!r}\nwrote {vectors.save(out)}")


def generate(
    model: Model,
    prompt: str,
    steered: Annotated[Steered, arg(name="")] = Steered(),
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    prompting: Annotated[Prompting, arg(name="")] = Prompting(),
    loading: Annotated[Loading, arg(name="")] = Loading(),
) -> None:
    """Continue a prompt, unsteered and (with --vectors) steered.

    Args:
        prompt: Text to continue.
        max_new_tokens: At most so many tokens.
        temperature: 0 is greedy.
        seed: For sampling, the same for both texts.
    """
    hooked = load(model, loading)
    steer = steering_of(hooked, steered)
    for name, text in generated(
        hooked, prompt, steer, prompting, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    ):
        say(f"{name + ':':<10} {text}")


def evaluate(
    model: Model,
    items: Annotated[
        Positional[str],
        arg(
            metavar="QUESTIONS_OR_PAIRS",
            help="JSONL, JSON, CSV or parquet with prompt, choices, label or with prompt, chosen, rejected; for a "
            "world also a behaviour's test questions, or others: truthfulness, truthfulness:clear_test.",
        ),
    ],
    steered: Annotated[Steered, arg(name="")] = Steered(),
    objective: ObjectiveName = "sum",
    limit: int | None = None,
    prompting: Annotated[Prompting, arg(name="")] = Prompting(),
    loading: Annotated[Loading, arg(name="")] = Loading(),
) -> None:
    """Multiple-choice accuracy, or how often the chosen answer is preferred; base and (with --vectors) steered.

    Args:
        objective: An answer's log-probability: summed over tokens, their mean, or the last token's.
        limit: Take the first so many.
    """
    import numpy as np

    from ..intervals import bootstrap_interval

    asked = items_of(model, items, limit)
    hooked = load(model, loading)
    steer = steering_of(hooked, steered)
    base = judge(hooked, asked, objective, prompting)
    say(f"base     {estimate(base)}")
    if steer:
        with steer:
            now = judge(hooked, asked, objective, prompting)
        low, high = bootstrap_interval(np.subtract(now, base))
        change = float(np.mean(np.subtract(now, base)))
        say(f"steered  {estimate(now)}\nchange   {change:+.3f} [{low:+.3f}, {high:+.3f}]")


def inspect(vectors: Annotated[Positional[Path], arg(metavar="VECTORS")]) -> None:
    """What a file of vectors or of a tuning holds: layers, lengths, what they were made from, which model they belong
    to, and what was tuned."""
    from ..intervention.saved import load as load_saved
    from ..vectors.steering_vectors import SteeringVectors

    saved = load_saved(vectors)
    held = saved if isinstance(saved, SteeringVectors) else saved.plan().vectors
    made, model = held.provenance, held.provenance.model
    # All of it is text from the file, which may hold what steers a terminal; JSON escapes by itself.
    say(printable(f"{made.method} from {made.n_pairs} pairs, for {made.hook_site}, d_model {held.d_model}"))
    if model:
        name, architecture = printable(model.name), printable(model.architecture)
        say(f"model: {name} ({architecture}, {model.n_layers} layers, {model.dtype})")
    say("settings: " + json.dumps(dict(made.settings)))
    say(printable("versions: " + ", ".join(f"{name} {version}" for name, version in made.versions.items())))
    say(f"{'layer':>5} {'length':>9} {'residual norm':>14}")
    for layer, length, norm in zip(
        held.layers, held.norms().tolist(), held.residual_norm.tolist(), strict=True
    ):
        say(f"{layer:>5} {length:>9.4f} {norm:>14.4f}")
    if not isinstance(saved, SteeringVectors):
        say(printable(f"tuned: {saved.plan()}\n{saved}", keep="\n"))
