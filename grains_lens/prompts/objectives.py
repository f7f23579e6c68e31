"""Objectives: one number per prompt, which attribution explains and steering should raise."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import seen, unknown_name
from ..hosts.layers import Layers, check_layers
from ..hosts.model import HookedModel, layer_count
from ..literals import ObjectiveName, Position
from .batching import tokenizer_of
from .encoding import continuation_ids

AnswerFunction = Callable[[Tensor, Tensor], Tensor]
"""One number per row [row] from an answer's `logits` [row, pos, d_vocab], float32, and its `tokens` [row, pos], where
logits[:, t] predict tokens[:, t]. Rows are independent of one another, and hold no padding: answers of other lengths
come in other calls."""


@dataclass(frozen=True)
class LogitDifference:
    """How much higher the logit of one token is than that of another, where the prompt ends.

        f(x) = logit(towards | x) − logit(away | x)

    It is a number of the prompt alone: a pair's answers have no part in it, and the rejected one may be missing.
    (Of a pair whose answers are one token each, `objective="sum"` is the same difference.)

    Args:
        towards: A token's id. `LogitDifference.of(model, "yes", "no")` finds both.
        away: Another token's id.

    Raises ValueError where they are the same.
    """

    towards: int
    away: int

    def __post_init__(self) -> None:
        if self.towards == self.away:
            raise ValueError(f"towards={self.towards} and away are the same token: name two.")

    @classmethod
    def of(cls, model: HookedModel, towards: str, away: str) -> LogitDifference:
        """The difference between two words as they follow a text (after a space, if they do not begin with one).

        model: whose tokenizer counts. towards, away: words that are one token each.
        Raises ValueError for a word that is several tokens.
        """
        tokenizer, ids = tokenizer_of(model), []
        for name, word in (("towards", towards), ("away", away)):
            found = continuation_ids(tokenizer, word if word[:1].isspace() else f" {word}")
            if len(found) != 1:
                pieces = [tokenizer.decode([token]) for token in found]
                raise ValueError(
                    f"{name}={seen(word)} is {len(found)} tokens, {seen(pieces)}: name one token."
                )
            ids.append(found[0])
        return cls(*ids)

    def __call__(self, logits: Float[Tensor, "row d_vocab"]) -> Float[Tensor, " row"]:
        """The difference in each row's logits."""
        return logits[:, self.towards] - logits[:, self.away]


@dataclass(frozen=True)
class StreamObjective:
    """A number read off the residual stream h after a block: its projection on a direction, for one.

        gl.StreamObjective(layer=3, function=lambda h: h @ direction)

    Args:
        layer: The block, counted from 0. Blocks behind it have no part in the number.
        function: From h [row, d_model], float32, to one number per row [row]. Rows are independent of one
            another.
        position: "prompt_end" (the default) reads h at the prompt's last token: f(x) is a number of the prompt
            alone, and a pair's answers have no part in it. "response_end" reads it at the last token of each
            answer: f(x) is the chosen answer's number less the rejected one's, or the chosen answer's where
            there is no other.

    Raises ValueError for an unknown position, and a function that cannot be called.
    """

    layer: int
    function: Callable[[Tensor], Tensor]
    position: Position = "prompt_end"

    def __post_init__(self) -> None:
        if self.position not in get_args(Position):
            raise unknown_name("position", self.position, get_args(Position))
        if not callable(self.function):
            raise ValueError(
                f"function={seen(self.function)} must be a function of h [row, d_model], such as "
                "lambda h: h @ direction."
            )


Objective = ObjectiveName | AnswerFunction | LogitDifference | StreamObjective
"""What f(x) is. A name (`ObjectiveName`), or a function of an answer's logits (`AnswerFunction`), stands for one number
per answer: f(x) is the chosen answer's less the rejected one's, or the chosen answer's where there is no other. A
function that reads an answer's first position alone gives both the same: leave the rejected one out."""


def is_of_prompt(objective: Any) -> bool:
    """Whether it is read at the end of the prompt, so that answers do not affect it."""
    return isinstance(objective, LogitDifference) or (
        isinstance(objective, StreamObjective) and objective.position == "prompt_end"
    )


def check_objective(objective: Any, model: HookedModel | None = None, *, choices: bool = False) -> None:
    """Raise ValueError for an unknown objective, for one that this model lacks the layer or the token of, and, where
    `choices` are compared, for one that does not depend on the answer."""
    if isinstance(objective, type) or not (
        callable(objective) or isinstance(objective, str | StreamObjective)
    ):
        raise ValueError(
            f"objective={seen(objective)} must be 'sum', 'mean', 'last', a function of an answer's logits and tokens, "
            "a LogitDifference or a StreamObjective."
        )
    if isinstance(objective, str) and objective not in get_args(ObjectiveName):
        raise unknown_name("objective", objective, get_args(ObjectiveName))
    if choices and is_of_prompt(objective):
        raise ValueError(
            f"objective={name_of(objective)} is read where the prompt ends, so every choice would score the same: give "
            "'sum', 'mean', 'last' or a function of an answer's logits."
        )
    if model is None:
        return
    if isinstance(objective, StreamObjective):
        check_layers([objective.layer], range(layer_count(model)))
    if isinstance(objective, LogitDifference):
        for name, token in vars(objective).items():
            if not 0 <= token < int(model.cfg.d_vocab):
                raise ValueError(
                    f"{name}={token} is not a token id: the vocabulary has {model.cfg.d_vocab} of them."
                )


def layers_in_reach(objective: Objective, layers: Layers | None, n_layers: int) -> tuple[int, ...]:
    """The layers at which the stream has a part in f: all of them, or those up to the one a `StreamObjective` reads.

    Raises ValueError for `layers` that are not there, or have no part in it.
    """
    if not isinstance(objective, StreamObjective):
        return check_layers(layers, range(n_layers))
    chosen = check_layers(layers, range(n_layers))
    behind = [layer for layer in chosen if layer > objective.layer]
    if layers is not None and behind:
        raise ValueError(
            f"layers={list(chosen)}: layer {behind[0]} has no part in the stream after layer {objective.layer}, which "
            f"the objective reads: take layers up to {objective.layer}."
        )
    return tuple(layer for layer in chosen if layer <= objective.layer)


def name_of(objective: Any) -> str:
    """The name of an objective in results and errors, never an address in memory."""
    if isinstance(objective, str):
        return objective
    if isinstance(objective, StreamObjective):
        read = name_of(objective.function)
        return f"StreamObjective(layer={objective.layer}, function={read}, position={objective.position!r})"
    if isinstance(objective, functools.partial):
        return name_of(objective.func)
    if not hasattr(objective, "__qualname__"):
        # An object's repr may hold its address.
        held = {field.name: getattr(objective, field.name) for field in _fields_of(objective)}
        settings = [f"{name}={name_of(one) if callable(one) else seen(one)}" for name, one in held.items()]
        return type(objective).__qualname__ + (f"({', '.join(settings)})" if settings else "")
    module, name = getattr(objective, "__module__", None), objective.__qualname__
    return name if module in (None, "__main__", "builtins") else f"{module}.{name}"


def _fields_of(value: Any) -> Sequence[Field[Any]]:
    return fields(value) if is_dataclass(value) else ()


def applied(objective: Any, function: Callable[..., Any], *arguments: Tensor) -> Float[Tensor, " row"]:
    """What a function of rows gives for these, float32; a ValueError unless it is one number per row."""
    value, n = function(*arguments), len(arguments[0])
    if not isinstance(value, Tensor) or value.shape != (n,):
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else seen(value)
        raise ValueError(
            f"objective={name_of(objective)} gives {found} for an input of shape {tuple(arguments[0].shape)}: one "
            f"number per row is expected, a tensor of shape ({n},)."
        )
    return value.float()


def gradients_of(
    total: Float[Tensor, ""], wanted: Sequence[Tensor], objective: Objective
) -> tuple[Tensor, ...]:
    """∂total/∂wanted, with zeros where there is no dependence. Raises ValueError if the objective has no
    gradient at all."""
    check_differentiable(total, objective)
    return torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)


def check_differentiable(value: Tensor, objective: Objective) -> None:
    """Raise ValueError if no gradient flows from an objective's value."""
    if not value.requires_grad:
        reads = "stream" if isinstance(objective, StreamObjective) else "logits"
        raise ValueError(
            f"objective={name_of(objective)} has no gradient: compute it from the {reads} with torch operations that "
            "have one (no argmax, detach() or item()), or take a method that needs none, as Occlusion()."
        )
