"""A trained steering rule: how much of a given contrast is added to each dimension of each token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu

from ..data.given import Pairs, as_pairs, as_texts
from ..errors import VectorFileError
from ..hosts.layers import Layers
from ..hosts.model import HookedModel, frozen, layer_count, recording
from ..hosts.ownership import takes_a_turn
from ..hosts.points import Edit
from ..intervention.edits import unit_vectors
from ..intervention.given import Vectors, as_vectors
from ..literals import Unit
from ..prompts.batching import BATCH_TOKENS
from ..prompts.encoding import PromptFormat
from ..prompts.objectives import Objective, layers_in_reach
from ..prompts.work import Work
from ..vectors.identity import check_belongs
from ..vectors.tensor_files import FileKind, damaged, parse_json, read_tensors, write_tensors
from .gradient import steering_edits
from .training import Schedule, Training, check_positive

FORMAT = "grains_lens.trained_gate"
_WEIGHTS = ("down", "up", "bias")
KIND = FileKind(FORMAT, holds="trained rules", writer="GatedAdd.save", metadata=("header",), tensors=_WEIGHTS)

Weights = tuple[Float[Tensor, "rank d_model"], Float[Tensor, "d_model rank"], Float[Tensor, " d_model"]]
"""D, U and b."""


@dataclass(frozen=True, eq=False)
class GatedAdd:
    """A steering rule that weights the vector at every token, dimension by dimension:

        h' = h + γ(h) ⊙ v,   γ(h) = 2σ(U gelu(D h/rms(h)) + b)   in (0, 2)^d_model

    with D = `down` [rank, d_model], U = `up` [d_model, rank], b = `bias` [d_model], float32, and rms(h) =
    ‖h‖/√d_model. If U = 0 and b = 0, then γ = 1 and this is `add`. One rule serves all layers. It depends
    only on the token's own h, so text is the same with and without a cache. To steer as trained, use
    `steering(model, vectors, strength=rule.settings["strength"], rule=rule)` with the vectors, layers and
    unit of the training. (The argument `gate` is something else: it has one number per token.)

    `losses` holds the loss in nats before each training step, `settings` how the rule was made.

    Raises ValueError if shapes do not fit together or a number is not finite.
    """

    down: Float[Tensor, "rank d_model"]
    up: Float[Tensor, "d_model rank"]
    bias: Float[Tensor, " d_model"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: Sequence[float] = ()

    def __post_init__(self) -> None:
        for name in _WEIGHTS:
            object.__setattr__(self, name, getattr(self, name).detach().to("cpu", torch.float32, copy=True))
        object.__setattr__(self, "losses", tuple(self.losses))
        rank, d_model = self.down.shape
        if tuple(self.up.shape) != (d_model, rank) or tuple(self.bias.shape) != (d_model,):
            raise ValueError(
                f"down has shape [{rank}, {d_model}], which needs up [{d_model}, {rank}] and bias "
                f"[{d_model}]; up has {list(self.up.shape)} and bias {list(self.bias.shape)}."
            )
        if not all(torch.isfinite(weight).all() for weight in self.weights):
            raise ValueError("down, up or bias holds NaN or infinite values; train at a lower learning_rate.")

    @property
    def weights(self) -> Weights:
        """D, U and b."""
        return self.down, self.up, self.bias

    def __call__(
        self, h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"]
    ) -> Float[Tensor, "... d_model"]:
        return gated_add(h, v, self.weights)

    def openness(self, h: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """γ(h): the weight of the vector in each dimension, from 0 to 2."""
        return gamma(h, self.weights)

    def __repr__(self) -> str:
        rank, d_model = self.down.shape
        size = sum(weight.numel() for weight in self.weights)
        trained = "untrained"
        if self.losses:
            trained = f"{len(self.losses)} steps, loss {self.losses[0]:.3g} to {self.losses[-1]:.3g}"
        return f"GatedAdd(rank {rank}, d_model {d_model}, {size:,} weights, {trained})"

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file with the weights; its metadata header holds settings and losses as JSON.

        `path` must end in .safetensors; its directory is made if needed. The file is written whole or not at
        all. Raises ValueError for another extension, and OSError if the file cannot be written.
        """
        header = json.dumps({"settings": dict(self.settings), "losses": self.losses}, default=str)
        tensors = {name: getattr(self, name) for name in _WEIGHTS}
        write_tensors(Path(path), KIND, {"header": header}, tensors)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> GatedAdd:
        """Read a file that `save` wrote; the weights come back bit for bit.

        Raises FileNotFoundError, or VectorFileError if the file is cut off, damaged or holds something else.
        """
        path = Path(path)
        metadata, tensors = read_tensors(path, KIND)
        try:
            return cls(**tensors, **_checked(parse_json(metadata["header"])))
        except (KeyError, TypeError, ValueError) as error:
            raise VectorFileError(damaged(path, f"{type(error).__name__}: {error}")) from error


TrainedGate = GatedAdd
"""The former name; `GatedAdd` is a rule, not a gate."""


def _checked(header: Any) -> dict[str, Any]:
    """A file's settings and losses. Raises KeyError or ValueError if they are missing or malformed."""
    if not isinstance(header["settings"], dict):
        raise ValueError("settings are not named")
    if not all(isinstance(loss, int | float) for loss in header["losses"]):
        raise ValueError("losses are not numbers")
    return header


@takes_a_turn
def trained_gate(
    model: HookedModel,
    pairs: Pairs,
    vectors: Vectors,
    *,
    strength: float,
    layers: Layers | None = None,
    rank: int = 8,
    steps: int = 60,
    learning_rate: float = 0.03,
    beta: float = 0.1,
    kl_weight: float = 1.0,
    keep: str | Iterable[str] | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    objective: Objective = "sum",
    unit: Unit = "residual",
    prompt_format: PromptFormat = PromptFormat(),
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = True,
) -> GatedAdd:
    """Train a steering rule so that the model, steered by `vectors`, prefers the chosen answers.

    The rule is h' = h + γ(h) ⊙ λv_l at each of `layers` (the vectors' own by default), one γ for all of them:
    see `GatedAdd`. `strength` λ and `unit` are those of `steering`; λ is not trained. Adam minimises the
    loss of `optimised_direction` over γ's weights, (2·rank + 1)·d_model of them,

        (1/n) Σ_j −log σ(β(f_γ(x_j) − f_0(x_j))) + kl_weight · mean KL(p_0 ‖ p_γ)

    with the same `keep`, `batch_size` and `seed`. The seed also determines D. U and b start at zero, so
    training starts from plain addition. The model stays frozen, and is bit for bit unchanged afterwards.

    The idea is from Sivakumar et al. 2025 (SteerVLM): one small module for all layers of a frozen model,
    without choosing layers by hand, that shifts every token differently and ends in a gate per dimension.
    Their module attends to the activations of two prompts that describe the target and the opposite
    behaviour, and learns from many such prompts. Pairs of answers to the same prompt contain no such
    descriptions. So here a fixed contrast per layer replaces the attention: any vectors, such as
    `mean_difference`, `extract_vectors`, or `activation_addition` of the two prompts. The gate is trained on
    one behaviour. The loss, β and the KL charge are not theirs either.

    Args:
        model: A `TransformerBridge` or a `HookedTransformer` (`load_model` makes one). It is left as it was.
        pairs: Preference pairs: a list of `PreferencePair`, one of them, rows or tuples of prompt, chosen and
            rejected, or what `load_pairs` reads.
        vectors: The steering vectors, made on this model or on one with the same weights.
        strength: λ of the vectors, held fixed.
        layers: Blocks to steer after. None takes all that the vectors have.
        rank: Of the gate's two matrices.
        steps: Steps of Adam.
        learning_rate: Of Adam.
        beta: How fast the loss saturates, per nat.
        kl_weight: The weight of the KL charge, per nat and position; 0 charges nothing.
        keep: Texts whose next-token distributions the charge holds in place, neutral ones at best. None takes
            the pairs' prompts.
        batch_size: Pairs (and texts) per step, drawn by `seed`. None takes all.
        seed: Of all that is drawn at random. The same seed gives the same result.
        objective: What f is made of. An answer's log-probability in nats: the `"sum"` over its tokens, their
            `"mean"`, or the `"last"` token's alone; or a function of yours, `LogitDifference`,
            `StreamObjective`.
        unit: What strength 1 adds: `"residual"` a vector as long as the stream typically is at that layer,
            `"absolute"` one of length 1, `"raw"` the vector as extracted.
        prompt_format: How a prompt and an answer become tokens: the joint, chat template, system turn and BOS
            (`PromptFormat`).
        batch_tokens: Padded tokens per forward pass, over all rows. It sets memory and speed and never
            changes results; halve it where memory is short.
        progress: Whether to show a progress bar, from the first second on.

    Raises ValueError for settings out of range, layers that the vectors lack, and weights that are not finite,
    and VectorMismatchError if the vectors belong to another model.
    """
    schedule = Schedule(steps, learning_rate, beta, kl_weight, batch_size, seed, objective)
    check_positive(rank=rank)
    if not 0 < abs(strength) < float("inf"):
        raise ValueError(f"strength={strength} must be finite and not 0: nothing else can be gated.")
    vectors = as_vectors(vectors)
    check_belongs(vectors, model)
    vectors = vectors if layers is None else vectors.at(layers)
    added = strength * unit_vectors(vectors, unit)
    layers_in_reach(objective, vectors.layers[:1], layer_count(model))
    pairs, work = as_pairs(pairs), Work(prompt_format, batch_tokens, progress)
    keep = None if keep is None else as_texts(keep, "keep")
    training = Training.of(model, work.encode(model, pairs, one_answer=True), schedule, work, keep=keep)
    weights = _untrained(rank, vectors.d_model, seed)

    def edits() -> list[tuple[str, Edit]]:
        return steering_edits(added, vectors.layers, partial(gated_add, weights=weights))

    with frozen(model), recording(), work.bar(steps, "gate", "step") as shown:
        losses = training.run([weight.requires_grad_() for weight in weights], edits, shown)
    settings = {
        **schedule.settings(),
        "strength": strength,
        "unit": unit,
        "layers": list(vectors.layers),
        "vectors": vectors.provenance.method,
        "rank": rank,
        "keep": "prompts" if keep is None else f"{len(keep)} texts",
        "prompt_format": asdict(prompt_format),
        "n_pairs": len(pairs),
    }
    return GatedAdd(*weights, settings=settings, losses=losses)


def gated_add(
    h: Float[Tensor, "... d_model"], v: Float[Tensor, "*#broadcast d_model"], weights: Weights
) -> Float[Tensor, "... d_model"]:
    """h + γ(h) ⊙ v."""
    return h + gamma(h, weights) * v


def gamma(h: Float[Tensor, "... d_model"], weights: Weights) -> Float[Tensor, "... d_model"]:
    """2σ(U gelu(D h/rms(h)) + b). It does not depend on the length of h, which grows with the layers."""
    down, up, bias = (weight.to(h) for weight in weights)
    length = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    normed = h * (h.shape[-1] ** 0.5 / length.masked_fill(length == 0, 1.0))
    return 2 * torch.sigmoid(gelu(normed @ down.T) @ up.T + bias)


def _untrained(rank: int, d_model: int, seed: int) -> Weights:
    """Weights with γ = 1 everywhere. D is scaled so that each component of D h/rms(h) is about 1."""
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, d_model, generator=generator) / d_model**0.5
    return down, torch.zeros(d_model, rank), torch.zeros(d_model)
