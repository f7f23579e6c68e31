"""The command line: `grains-lens demo | attribute | extract | generate | evaluate | inspect`.

Strings become objects here and nowhere else. Whatever is heavy is imported when a command needs it, so that
`--help` answers at once.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

if TYPE_CHECKING:
    from .attribution import TokenAttribution
    from .encoding import PromptFormat
    from .pairs import MultipleChoice, PreferencePair
    from .steering import Steering
    from .vectors import SteeringVectors
    from .worlds.world import World

Backend = Literal["auto", "bridge", "hooked_transformer"]
Filler = Literal["mask", "unk", "pad", "eos", "mean", "zero"]
Objective = Literal["sum", "mean", "last"]
Unit = Literal["residual", "absolute", "raw"]
MethodName = Literal["integrated_gradients", "gradient_times_input", "occlusion", "random"]
AggregateName = Literal["pca", "mean", "weighted_mean"]

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
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
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
    steps: int = 10
    """Points on the path, for integrated gradients."""
    baseline: Filler = "mask"
    """What stands in for a token at the start of the path, or where it is left out."""
    objective: Objective = "sum"
    """An answer's log-probability: summed over tokens, their mean, or the last token's."""


@dataclass(frozen=True)
class Steered:
    """What steers the model."""

    vectors: Path | None = None
    """File that `extract` wrote."""
    strength: float = 0.5
    """How much of the vectors is added."""
    layers: tuple[int, ...] | None = None
    """Steer at these layers alone."""
    unit: Unit = "residual"
    """What strength 1 means: as long as the residual stream, length 1, or as extracted."""


# --- commands ------------------------------------------------------------------------------------


def demo(
    variant: str = "standard",
    seeds: tuple[int, ...] = (0,),
    behaviours: tuple[str, ...] = ("truthfulness", "faithfulness", "stereotypes"),
    backend: Backend = "auto",
    out: Path = Path("out/demo"),
) -> None:
    """GrAInS and its rivals on a small model that ships, judged on held-out questions.

    Args:
        variant: Variant of the world "myths".
        seeds: Model seeds; several give one table over all.
        behaviours: Which to steer.
        backend: TransformerBridge, or HookedTransformer (transformer-lens 3.9 only).
        out: Directory for tables, figures and vectors.
    """
    from .demo import Settings, run

    _without_loading_bars()
    run(Settings(variant=variant, seeds=seeds, behaviours=behaviours, backend=backend, out=out), say=_say)


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

    items = _pairs(model, pairs, limit)
    attributions = gl.attribute(
        _model(model, loading), items, method=_method(scoring), baseline=scoring.baseline,
        objective=scoring.objective, prompt_format=_format(prompting),
    )  # fmt: skip
    for index, one in enumerate(attributions):
        _say(f"{index}  f(x) = {one.gap:+.2f} nats  for: {_top(one, top, 1)}  against: {_top(one, top, -1)}")
    if out:
        lines = [_as_json(pair, one) for pair, one in zip(items, attributions, strict=True)]
        _write(out, "".join(line + "\n" for line in lines))
    if png:
        from . import show

        titles = [f"chosen: {pair.chosen}, rejected: {pair.rejected}" for pair in items]
        _say(f"wrote {show.save(show.token_strip(attributions, titles=titles), png)}")


def extract(
    model: Model,
    pairs: Pairs,
    out: Path,
    scoring: Annotated[Scoring, arg(name="")] = Scoring(),
    k: int = 3,
    mask: Filler = "mask",
    contrast: Literal["two_sided", "difference"] = "two_sided",
    aggregate: AggregateName = "pca",
    position: Literal["prompt_end", "response_end"] = "prompt_end",
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
        aggregate: From one difference a pair to one direction.
        position: Where the residual stream is read.
        layers: Layers to make vectors for; all if not given.
        limit: Take the first so many pairs.
    """
    import grains_lens as gl

    aggregates = {
        "pca": gl.pca_direction, "mean": gl.mean_direction, "weighted_mean": gl.weighted_mean_direction,
    }  # fmt: skip
    items = _pairs(model, pairs, limit)
    vectors = gl.extract_vectors(
        _model(model, loading), items, method=_method(scoring), baseline=scoring.baseline,
        objective=scoring.objective, k=k, mask=mask, contrast=contrast, aggregate=aggregates[aggregate],
        position=position, layers=layers, prompt_format=_format(prompting),
    )  # fmt: skip
    _say(f"{vectors!r}\nwrote {vectors.save(out)}")


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
    hooked = _model(model, loading)
    steer = _steering(hooked, steered)
    ids = _prompt_ids(hooked, prompt, prompting)

    def continued() -> str:
        import torch

        torch.manual_seed(seed)
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        whole = hooked.generate(
            ids, max_new_tokens=max_new_tokens, verbose=False, return_type="tokens", **sampling
        )
        return hooked.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)

    _say(f"unsteered: {continued()}")
    if steer:
        with steer:
            _say(f"steered:   {continued()}")


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
    objective: Objective = "sum",
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

    from .intervals import bootstrap_interval

    asked = _questions_or_pairs(model, items, limit)
    hooked = _model(model, loading)
    steer = _steering(hooked, steered)
    base = _judge(hooked, asked, objective, prompting)
    _say(f"base     {_estimate(base)}")
    if steer:
        with steer:
            now = _judge(hooked, asked, objective, prompting)
        low, high = bootstrap_interval(np.subtract(now, base))
        change = float(np.mean(np.subtract(now, base)))
        _say(f"steered  {_estimate(now)}\nchange   {change:+.3f} [{low:+.3f}, {high:+.3f}]")


def inspect(vectors: Annotated[Positional[Path], arg(metavar="VECTORS")]) -> None:
    """What a vector file holds: layers, lengths, what they were made from, and which model they belong to."""
    from .vectors import SteeringVectors

    held = SteeringVectors.load(vectors)
    made, model = held.provenance, held.provenance.model
    _say(f"{made.method} from {made.n_pairs} pairs, for {made.hook_site}, d_model {held.d_model}")
    if model:
        _say(f"model: {model.name} ({model.architecture}, {model.n_layers} layers, {model.dtype})")
    _say("settings: " + json.dumps(dict(made.settings)))
    _say("versions: " + ", ".join(f"{name} {version}" for name, version in made.versions.items()))
    _say(f"{'layer':>5} {'length':>9} {'residual norm':>14}")
    for layer, length, norm in zip(
        held.layers, held.norms().tolist(), held.residual_norm.tolist(), strict=True
    ):
        _say(f"{layer:>5} {length:>9.4f} {norm:>14.4f}")


# --- strings become objects ----------------------------------------------------------------------


def _world(name: str) -> World | None:
    """The world that `myths[:seed[:variant]]` names, or None: it is some other model."""
    from . import worlds
    from .errors import unknown_name

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


def _model(name: str, loading: Loading) -> Any:
    import torch

    from .loading import load_model

    _without_loading_bars()
    world = _world(name)
    dtype = getattr(torch, loading.dtype)
    return load_model(
        world.path if world else name, backend=loading.backend, device=loading.device, dtype=dtype
    )


def _without_loading_bars() -> None:
    """transformers draws one for each model, over in an instant and left standing."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _of_world(model: str, source: str, default: str) -> Any:
    """What a world holds under `behaviour[:questions]`, or None where `source` is a file."""
    world = _world(model)
    if world is None or Path(source).suffix:
        return None
    from .errors import unknown_name

    name, _, kind = source.partition(":")
    if name not in world.behaviours:
        raise unknown_name("behaviour", name, world.behaviours)
    behaviour = world.behaviours[name]
    kinds = [field for field, value in vars(behaviour).items() if isinstance(value, tuple)]
    if (kind or default) not in kinds:
        raise unknown_name("questions", kind, kinds)
    return getattr(behaviour, kind or default)


def _pairs(model: str, source: str, limit: int | None) -> Sequence[PreferencePair]:
    from .pairs import load_pairs

    return _first(_of_world(model, source, "pairs") or load_pairs(source), limit)


def _questions_or_pairs(
    model: str, source: str, limit: int | None
) -> Sequence[MultipleChoice] | Sequence[PreferencePair]:
    from .pairs import columns_of, load_pairs, load_questions

    held = _of_world(model, source, "test")
    if held is None:
        held = load_questions(source) if "choices" in columns_of(source) else load_pairs(source)
    return _first(held, limit)


def _first(items: Sequence[Any], limit: int | None) -> Sequence[Any]:
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} must be at least 1.")
    return items[:limit]


def _method(scoring: Scoring) -> Any:
    import grains_lens as gl

    return {
        "integrated_gradients": lambda: gl.IntegratedGradients(steps=scoring.steps),
        "gradient_times_input": gl.GradientTimesInput,
        "occlusion": gl.Occlusion,
        "random": gl.RandomScores,
    }[scoring.method]()


def _format(prompting: Prompting) -> PromptFormat:
    from .encoding import PromptFormat

    return PromptFormat(chat=prompting.chat, system=prompting.system)


def _prompt_ids(model: Any, prompt: str, prompting: Prompting) -> Any:
    import torch

    from .encoding import encode_prompts

    (encoded,) = encode_prompts(
        model.tokenizer, [prompt], prompt_format=_format(prompting),
        prepend_bos=bool(model.cfg.default_prepend_bos),
    )  # fmt: skip
    return torch.tensor([encoded.ids], device=model.cfg.device)


def _steering(model: Any, steered: Steered) -> Steering | None:
    if steered.vectors is None:
        return None
    from .steering import steering
    from .vectors import SteeringVectors

    vectors: SteeringVectors = SteeringVectors.load(steered.vectors)
    return steering(model, vectors, strength=steered.strength, layers=steered.layers, unit=steered.unit)


# --- objects become strings ----------------------------------------------------------------------


def _judge(model: Any, items: Sequence[Any], objective: Objective, prompting: Prompting) -> list[float]:
    """One number an item: 1 where the right choice, or the chosen answer, is the most probable."""
    from .evaluation import multiple_choice, preference
    from .pairs import PreferencePair

    prompt_format = _format(prompting)
    if isinstance(items[0], PreferencePair):
        gaps = preference(model, items, objective=objective, prompt_format=prompt_format).gaps
        return ((gaps > 0).float() + 0.5 * (gaps == 0).float()).tolist()
    return (
        multiple_choice(model, items, objective=objective, prompt_format=prompt_format)
        .correct.float()
        .tolist()
    )


def _estimate(values: Sequence[float]) -> str:
    import numpy as np

    from .intervals import bootstrap_interval

    low, high = bootstrap_interval(np.array(values))
    return f"{float(np.mean(values)):.3f} [{low:.3f}, {high:.3f}]  ({len(values)} items)"


def _top(one: TokenAttribution, k: int, sign: int) -> str:
    chosen = one.top(k, "positive" if sign > 0 else "negative").tolist() if k else []
    return ", ".join(f"{one.strings[at].strip()} {float(one.scores[at]):+.2f}" for at in chosen) or "none"


def _as_json(pair: PreferencePair, one: TokenAttribution) -> str:
    fields = {
        "prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "tokens": one.tokens.tolist(),
        "strings": list(one.strings), "scores": one.scores.tolist(), "gap": one.gap,
        "baseline_gap": one.baseline_gap, "completeness_error": one.completeness_error,
    }  # fmt: skip
    return json.dumps(fields, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    _say(f"wrote {path}")


def _say(text: str) -> None:
    print(text, flush=True)


# --- entry ---------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 after an error that a user can mend, 130 after Ctrl-C."""
    commands = {one.__name__: one for one in (demo, attribute, extract, generate, evaluate, inspect)}
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            tyro.extras.subcommand_cli_from_dict(
                commands, prog="grains-lens", args=argv, config=(OmitArgPrefixes,),
                description="Which input tokens drive a behaviour of a language model, and steering along what "
                "they do.",
            )  # fmt: skip
    except (ValueError, OSError, ImportError) as error:
        print(f"grains-lens: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("grains-lens: interrupted", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Ours in one line; what libraries warn their developers of is not for a user's terminal."""
    if category.__module__.startswith("grains_lens"):
        print(f"grains-lens: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
