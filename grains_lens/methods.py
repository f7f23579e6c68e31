"""Attribution methods: frozen values that turn a gap function into one score a token.

A method is called with a `GapFunction` over a few pairs and returns scores [pair, pos] in nats;
`evaluations(n_pos)` says how many points a pair it will ask for, so that batches can be cut to size.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .objective import GapFunction
from .quadrature import Rule, quadrature


@runtime_checkable
class AttributionMethod(Protocol):
    """What `attribute(method=...)` takes. `is_complete`: the scores claim to sum to f(x) − f(x')."""

    is_complete: ClassVar[bool]

    def evaluations(self, n_pos: int) -> int: ...
    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]: ...


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients: a_i = (x_i − x'_i)·∫₀¹ ∂f/∂x_i(x' + α(x − x')) dα, summed over d_model.

    Complete in the limit of many steps: Σ_i a_i = f(x) − f(x'). Sundararajan et al. 2017, section 3;
    Gauss-Legendre quadrature needs the fewest steps.
    """

    steps: int = 10
    rule: Rule = "gauss_legendre"
    is_complete: ClassVar[bool] = True

    def __post_init__(self) -> None:
        quadrature(self.rule, self.steps)

    def evaluations(self, n_pos: int) -> int:
        return self.steps

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        nodes, weights = (part.to(f.x) for part in quadrature(self.rule, self.steps))
        way = f.x - f.baseline
        points = f.baseline + nodes[:, None, None, None] * way
        mean_gradient, done = torch.zeros_like(f.x), 0
        for gradients in f.gradients(points):
            here = weights[done : done + len(gradients)]
            mean_gradient += torch.einsum("s,spid->pid", here, gradients)
            done += len(gradients)
        return (way * mean_gradient).sum(dim=-1)


@dataclass(frozen=True)
class GradientTimesInput:
    """The first-order change towards the baseline: a_i = (x_i − x'_i)·∂f/∂x_i(x), summed over d_model.

    One gradient a pair; not complete unless f is linear. With a zero baseline it is captum's
    InputXGradient (Shrikumar et al. 2016).
    """

    is_complete: ClassVar[bool] = False

    def evaluations(self, n_pos: int) -> int:
        return 1

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        (gradients,) = f.gradients(f.x[None])
        return ((f.x - f.baseline) * gradients[0]).sum(dim=-1)


@dataclass(frozen=True)
class Occlusion:
    """Leave one token out: a_i = f(x) − f(x with token i at its baseline). No gradient is taken.

    Zeiler and Fergus 2014; captum's FeatureAblation with one feature a token.
    """

    is_complete: ClassVar[bool] = False

    def evaluations(self, n_pos: int) -> int:
        return n_pos

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        n_pos = f.x.shape[1]
        leave_out = torch.eye(n_pos, dtype=torch.bool, device=f.x.device)[:, None, :, None]
        without = f.values(torch.where(leave_out, f.baseline, f.x))
        return f.values(f.x[None]).T - without.T


@dataclass(frozen=True)
class RandomScores:
    """Standard normal scores, the same for the same prompt and seed: what any method must beat."""

    seed: int = 0
    is_complete: ClassVar[bool] = False

    def evaluations(self, n_pos: int) -> int:
        return 1

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        scores = torch.zeros(f.mask.shape)
        for row, tokens, mask in zip(scores, f.batch.prompts.tokens, f.mask, strict=True):
            ids = tokens[mask].cpu().numpy().tobytes()
            generator = torch.Generator().manual_seed(zlib.crc32(ids, self.seed))
            row[mask.cpu()] = torch.randn(int(mask.sum()), generator=generator)
        return scores.to(f.x.device)
