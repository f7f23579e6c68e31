"""A direction trained on the preference: what one vector can do at best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid
from tqdm.auto import tqdm

from .. import seam
from ..attribution import BATCH_TOKENS
from ..encoding import Encoded, PromptFormat
from ..evaluation import score_answers
from ..extraction import describe, provenance_of
from ..fingerprint import check_belongs
from ..objective import Objective, buckets, check_objective, collate, encode_for
from ..pairs import PreferencePair
from ..rules import SteeringRule, add_keeping_norm
from ..seam import HookedModel, TokenBatch
from ..steering import unit_vectors
from ..vectors import SteeringVectors
from .ends import residual_norm
from .gradient import steered_gaps, steering_edits
from .texts import encode_texts


def optimised_direction(
    model: HookedModel,
    pairs: Sequence[PreferencePair],
    *,
    start: SteeringVectors | None = None,
    start_strength: float | None = None,
    steps: int = 60,
    learning_rate: float = 0.02,
    beta: float = 0.1,
    kl_weight: float = 1.0,
    keep: Sequence[str] | None = None,
    together: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
    rule: SteeringRule = add_keeping_norm,
    objective: Objective = "sum",
    layers: Sequence[int] | None = None,
    prompt_format: PromptFormat = PromptFormat(),
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = True,
) -> SteeringVectors:
    """A vector trained to make the model prefer the chosen answers, in residual units: steer with
    `unit="raw"` and strength 1 to have it as trained.

    Adam on v minimises, with f_v the gap under steering by v at every position,

        (1/n) Σ_j −log σ(β(f_v(x_j) − f_0(x_j))) + kl_weight · mean KL(p_0 ‖ p_v)

    Cao et al. 2024 (BiPO), section 3, with their β; their vector is also trained to turn the preference
    round when it is subtracted. Here it goes one way, and the charge for moving next-token distributions,
    in nats per position, is ours. It is taken over the texts `keep`, neutral ones at best; without any,
    over the pairs' prompts up to where the answer begins, which is what the vector is there to change.

    Every layer's vector is trained as the only one, which takes one training a layer, unless
    `together`. Training starts from zero, or from `start`, steered by at `start_strength` (in
    `unit="residual"`; None takes its directions as they are). `learning_rate` is in units of the stream's
    own size: how far a step moves a coordinate, relative to ‖h‖/√d_model. Each step sees all pairs and
    texts, and nothing is random, or `batch_size` of either, drawn by `seed`. The model stays frozen.

    Raises ValueError for settings out of range, a start that lacks a layer, and numbers that are not finite.
    """
    check_objective(objective)
    _check(steps=steps, learning_rate=learning_rate, beta=beta, batch_size=batch_size)
    if not kl_weight >= 0:
        raise ValueError(f"kl_weight={kl_weight} must not be negative.")
    chosen_layers = seam.check_layers(layers, range(seam.n_layers(model)))
    encoded = encode_for(model, pairs, prompt_format)
    first = _first(model, start, start_strength, chosen_layers)
    norms = residual_norm(model, encoded, chosen_layers, batch_tokens)
    gaps = score_answers(model, encoded, objective=objective, batch_tokens=batch_tokens)
    training = Training(
        model, encoded, reference=gaps[:, 0] - gaps[:, 1], texts=_texts(model, encoded, keep, prompt_format),
        steps=steps, learning_rate=learning_rate, beta=beta, kl_weight=kl_weight, batch_size=batch_size,
        seed=seed, rule=rule, objective=objective, batch_tokens=batch_tokens,
    )  # fmt: skip
    rows = range(len(chosen_layers))
    groups = [list(rows)] if together else [[row] for row in rows]
    directions = torch.zeros_like(first)
    with seam.frozen(model), torch.enable_grad(), tqdm(
        total=steps * len(groups), desc="optimise", unit="step", disable=not progress, leave=False, delay=1.0
    ) as bar:  # fmt: skip
        for group in groups:
            group_layers = [chosen_layers[row] for row in group]
            directions[group] = training.run(first[group], group_layers, norms[group], bar)
    settings = {
        "start": "zero" if start is None else start.provenance.method, "start_strength": start_strength,
        "steps": steps, "learning_rate": learning_rate, "beta": beta, "kl_weight": kl_weight,
        "keep": "prompts" if keep is None else f"{len(keep)} texts", "together": together,
        "batch_size": batch_size, "seed": seed, "rule": describe(rule), "objective": objective,
        "prompt_format": asdict(prompt_format),
    }  # fmt: skip
    return SteeringVectors(
        directions=directions,
        layers=chosen_layers,
        residual_norm=norms,
        provenance=provenance_of(model, "optimised_direction", settings, len(pairs)),
    )


@dataclass(frozen=True, eq=False)
class Training:
    """What is the same for every layer's training. `reference` [pair] is f_0, `texts` what should not change."""

    model: HookedModel
    encoded: Sequence[Encoded]
    reference: Float[Tensor, " pair"]
    texts: Sequence[Sequence[int]]
    steps: int
    learning_rate: float
    beta: float
    kl_weight: float
    batch_size: int | None
    seed: int
    rule: SteeringRule
    objective: Objective
    batch_tokens: int

    def run(
        self,
        first: Float[Tensor, "layer d_model"],
        layers: Sequence[int],
        norms: Float[Tensor, " layer"],
        bar: tqdm,
    ) -> Float[Tensor, "layer d_model"]:
        """The vectors of these layers, trained together from `first`."""
        scale = norms[:, None] / first.shape[-1] ** 0.5
        parameters = (first / scale).requires_grad_()
        optimiser = torch.optim.Adam([parameters], lr=self.learning_rate)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.steps):
            optimiser.zero_grad()
            gain = self._prefer(parameters, scale, layers, self._drawn(len(self.encoded), generator))
            kl = self._charge(parameters, scale, layers, self._drawn(len(self.texts), generator))
            optimiser.step()
            bar.set_postfix(layers=str(layers), gain=f"{gain:+.2f}", kl=f"{kl:.3f}", refresh=False)
            bar.update()
        return (parameters * scale).detach()

    def _drawn(self, n: int, generator: torch.Generator) -> list[int]:
        if self.batch_size is None or self.batch_size >= n:
            return list(range(n))
        return torch.randperm(n, generator=generator)[: self.batch_size].tolist()

    # Both add their share of the gradient a batch at a time, so that one batch's graph lives at a time.

    def _prefer(self, parameters: Tensor, scale: Tensor, layers: Sequence[int], drawn: list[int]) -> float:
        """The preference loss; returns how far the mean gap has risen, in nats."""
        gain = 0.0
        for rows in _buckets(drawn, [self.encoded[row].longest for row in drawn], self.batch_tokens, 2):
            batch = collate([self.encoded[row] for row in rows], seam.device_of(self.model))
            gaps = steered_gaps(self.model, batch, parameters * scale, layers, self.rule, self.objective)
            risen = gaps - self.reference[rows].to(gaps.device)
            (-logsigmoid(self.beta * risen).sum() / len(drawn)).backward()
            gain += float(risen.detach().sum()) / len(drawn)
        return gain

    def _charge(self, parameters: Tensor, scale: Tensor, layers: Sequence[int], drawn: list[int]) -> float:
        """The charge; returns the mean KL before it is weighed, in nats per position."""
        if self.kl_weight == 0:
            return 0.0
        kl, lengths = 0.0, [len(self.texts[row]) for row in drawn]
        for rows in _buckets(drawn, lengths, self.batch_tokens, 1):
            texts = seam.right_padded([self.texts[row] for row in rows], seam.device_of(self.model))
            with torch.no_grad():
                base = next_token_logprobs(self.model, texts)
            with seam.hooked(self.model, steering_edits(parameters * scale, layers, self.rule)):
                steered = next_token_logprobs(self.model, texts)
            each = (base.exp() * (base - steered)).sum(dim=-1)
            mean = torch.where(texts.mask.to(each.device), each, 0).sum() / sum(lengths)
            (self.kl_weight * mean).backward()
            kl += float(mean.detach())
        return kl


def next_token_logprobs(model: HookedModel, texts: TokenBatch) -> Float[Tensor, "batch pos d_vocab"]:
    """log p of each next token at every position of right-padded texts."""
    # All of a text but its first token counts as its continuation: the seam gives logits everywhere there.
    logits, prefix = seam.prefill(model, TokenBatch(texts.tokens[:, :1], texts.mask[:, :1]))
    if texts.tokens.shape[1] > 1:
        logits = torch.cat([logits, seam.extend(model, prefix, texts.tokens[:, 1:])], dim=1)
    return logits.float().log_softmax(dim=-1)


def _buckets(
    drawn: Sequence[int], lengths: Sequence[int], batch_tokens: int, rows: int
) -> Iterator[list[int]]:
    return ([drawn[at] for at in bucket] for bucket in buckets(lengths, batch_tokens, rows=rows))


def _texts(
    model: HookedModel, encoded: Sequence[Encoded], keep: Sequence[str] | None, prompt_format: PromptFormat
) -> list[tuple[int, ...]]:
    if keep is None:
        return [item.prompt.ids[:-1] or item.prompt.ids for item in encoded]
    if not keep:
        raise ValueError("keep=[] holds no text: leave it out for the pairs' prompts, or pass kl_weight=0.")
    named = {f"keep[{index}]": text for index, text in enumerate(keep)}
    return [item.prompt.ids for item in encode_texts(model, named, prompt_format)]


def _first(
    model: HookedModel, start: SteeringVectors | None, strength: float | None, layers: Sequence[int]
) -> Float[Tensor, "layer d_model"]:
    if start is None:
        if strength is not None:
            raise ValueError(f"start_strength={strength} without a start: pass start=... to begin from it.")
        return torch.zeros(len(layers), int(model.cfg.d_model))
    check_belongs(start, model)
    start = start.at(layers)
    return start.directions if strength is None else strength * unit_vectors(start, "residual")


def _check(**settings: int | float | None) -> None:
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value} must be positive.")
