"""Attribution methods: frozen values that turn a gap function into one score per token.

A method is called with a `GapFunction` over a few pairs and returns scores [pair, pos] in nats.
`evaluations(n_pos)` is the number of points per pair that it evaluates, from which batch sizes follow.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import whole
from ..literals import QuadratureRule
from .fillers import Filler
from .gap import GapFunction
from .quadrature import quadrature

STEPS, TOLERANCE = 10, 0.1
"""The default first number of steps of integrated gradients, and the tolerance to which scores are then
completed. The latter is also the limit for warnings if a method has no tolerance."""


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

    Steps that you name are taken as they are; without them each pair begins at 10 and gets more where its scores
    need them, until they are complete within `tolerance`.

    steps: points on the path, at least 1 (2 for "trapezoid"). None, the default: 10, with a `tolerance` of 0.1.
    rule: where they lie and how they weigh: "gauss_legendre" (the default), "trapezoid" or "midpoint".
    tolerance: pairs whose scores miss f(x) − f(x') by more than this part of it (or of one nat, whichever is more; of
        a function of your own, or of its values) are done again with twice the steps, and again. Pairs that are good
        already cost nothing more, and each pair gets the steps it would get alone. With `steps` and no `tolerance`
        nothing is done again.
    max_steps: where the doubling ends, 320 by default.

    The value holds what it will do: `IntegratedGradients()` equals `IntegratedGradients(steps=10, tolerance=0.1)`.
    """

    steps: int | None = None
    rule: QuadratureRule = "gauss_legendre"
    tolerance: float | None = None
    max_steps: int = 320
    is_complete: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps is None:
            object.__setattr__(self, "steps", STEPS)
            object.__setattr__(self, "tolerance", TOLERANCE if self.tolerance is None else self.tolerance)
        quadrature(self.rule, self.evaluations(0))
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(
                f"tolerance={self.tolerance} must be above 0 (0.05 is 5 %), or None for no limit."
            )
        if self.tolerance is not None and self.max_steps < self.evaluations(0):
            raise ValueError(f"max_steps={self.max_steps} is less than steps={self.steps}.")

    def evaluations(self, n_pos: int) -> int:
        """How many points f is run at: the steps that every pair takes."""
        return self.steps or STEPS

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        return self.refined(f, self._integrate)

    def _integrate(self, f: GapFunction, steps: int) -> Float[Tensor, "pair pos"]:
        nodes, weights = (part.to(f.x) for part in quadrature(self.rule, steps))
        way = f.x - f.baseline
        points = f.baseline + nodes[:, None, None, None] * way
        return (way * _weighted_gradient(f, points, weights)).sum(dim=-1)

    def refined(
        self, f: GapFunction, run: Callable[[GapFunction, int], Tensor]
    ) -> Float[Tensor, "pair ... part"]:
        """The result of `run(f, steps)` [pair, ..., part], whose parts should sum to f(x) − f(x'), with more
        steps for pairs that need them."""
        first = steps = self.evaluations(f.x.shape[1])
        parts = run(f, steps)
        if self.tolerance is None:
            return parts
        rows = torch.arange(len(parts), device=parts.device)
        while len(rows) and 2 * steps <= self.max_steps:
            # In the same precision as the caller's check, so that both find the same pairs.
            ends, sums = f.ends.cpu().double()[:, rows.cpu()], parts[rows].cpu().double().sum(dim=-1)
            change = ends[0] - ends[1]
            missed = (sums.reshape(len(rows), -1) - change[:, None]).abs().amax(dim=-1)
            rows = rows[(missed > self.tolerance * f.scale[rows.cpu()]).to(rows.device)]
            steps *= 2
            # As many points at once as in the first round, because `run` may store something for each.
            for some in rows.split(max(1, len(parts) * first // steps)):
                if len(some):
                    parts[some] = run(f.select(some.to(f.x.device)), steps)
        return parts


@dataclass(frozen=True)
class GradientTimesInput:
    """The first-order change towards the baseline: a_i = (x_i − x'_i)·∂f/∂x_i(x), summed over d_model.

    One gradient a pair; not complete unless f is linear. With a zero baseline it is captum's
    InputXGradient (Shrikumar et al. 2016).
    """

    is_complete: ClassVar[bool] = False

    def evaluations(self, n_pos: int) -> int:
        """How many points f is run at: one at most."""
        return 1

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        (gradients,) = f.gradients(f.x[None])
        return ((f.x - f.baseline) * gradients[0]).sum(dim=-1)


@dataclass(frozen=True)
class SmoothGrad:
    """Gradient times input, the gradient averaged over noisy copies of the prompt:
    a_i = (x_i − x'_i)·(1/n) Σ_s ∂f/∂x_i(x + ε_s), summed over d_model.

    ε is Gaussian on every token that the baseline replaces, with `noise` times the root mean square of the
    prompt's token embeddings as its deviation, and the same for the same prompt and seed. Not complete.
    Smilkov et al. 2017; captum's NoiseTunnel over Saliency, times x − x'.
    """

    samples: int = 20
    noise: float = 0.1
    seed: int = 0
    is_complete: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_sampling(self.samples, self.noise)

    def evaluations(self, n_pos: int) -> int:
        """How many points f is run at, for each baseline."""
        return self.samples

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        points = f.x + self.noise * _token_noise(f, self.samples, _generators(f, self.seed))
        weights = torch.full((self.samples,), 1 / self.samples, device=f.x.device)
        return ((f.x - f.baseline) * _weighted_gradient(f, points, weights)).sum(dim=-1)


@dataclass(frozen=True)
class GradientShap:
    """Expected gradients over several baselines: integrated gradients by sampling, averaged over them.

        a_i = mean over fillers b and samples s of (x_i − b_i)·∂f/∂x_i(b + α_s(x − b) + ε_s)

    `fillers` are what `attribute(baseline=...)` takes, each sampled `samples` times (α stratified over
    [0, 1]); the `baseline` of `attribute` has no part in the scores. ε as in `SmoothGrad`. The scores sum
    to f(x) − mean_b f(b) in expectation. Lundberg and Lee 2017, Erion et al. 2021; captum's GradientShap.
    """

    samples: int = 10
    fillers: tuple[Filler, ...] = ("mask", "mean")
    noise: float = 0.0
    seed: int = 0
    is_complete: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_sampling(self.samples, self.noise)
        if isinstance(self.fillers, str) or not self.fillers:
            raise ValueError(
                f"fillers={self.fillers!r} must be a tuple of at least one, such as ('mask', 'mean')."
            )

    def evaluations(self, n_pos: int) -> int:
        """How many points f is run at, for each baseline."""
        return self.samples

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        generators = _generators(f, self.seed)
        weights = torch.full((self.samples,), 1 / self.samples, device=f.x.device)
        strata = torch.arange(self.samples)
        scores = torch.zeros_like(f.x[..., 0])
        for filler in self.fillers:
            baseline = f.baseline_of(filler, argument="fillers")
            draws = [torch.rand(self.samples, generator=generator) for generator in generators]
            alphas = (strata[:, None] + torch.stack(draws, dim=1)).to(f.x) / self.samples
            points = baseline + alphas[:, :, None, None] * (f.x - baseline)
            if self.noise:
                points += self.noise * _token_noise(f, self.samples, generators)
            scores += ((f.x - baseline) * _weighted_gradient(f, points, weights)).sum(dim=-1)
        return scores / len(self.fillers)


@dataclass(frozen=True)
class Occlusion:
    """Leave one token out: a_i = f(x) − f(x with token i at its baseline). No gradient is taken.

    Zeiler and Fergus 2014; captum's FeatureAblation with one feature a token.
    """

    is_complete: ClassVar[bool] = False

    def evaluations(self, n_pos: int) -> int:
        """How many points f is run at: one per position."""
        return n_pos

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        n_pos = f.x.shape[1]
        leave_out = torch.eye(n_pos, dtype=torch.bool, device=f.x.device)[:, None, :, None]
        without = f.values(torch.where(leave_out, f.baseline, f.x))
        return (f.ends[0] - without).T


@dataclass(frozen=True)
class RandomScores:
    """Standard normal scores, the same for the same prompt and seed: what any method must beat."""

    seed: int = 0
    is_complete: ClassVar[bool] = False

    def evaluations(self, n_pos: int) -> int:
        """How many points f is run at: one at most."""
        return 1

    def __call__(self, f: GapFunction) -> Float[Tensor, "pair pos"]:
        prompts = f.batch.prompts
        scores = torch.zeros(prompts.mask.shape)
        for row, mask, generator in zip(scores, prompts.mask.cpu(), _generators(f, self.seed), strict=True):
            row[mask] = torch.randn(int(mask.sum()), generator=generator)
        return scores.to(f.x.device)


def limit_of(method: AttributionMethod, tolerance: float | None) -> float:
    """The completeness error that triggers a warning: the caller's `tolerance`, else the method's, else
    0.1."""
    own = method.tolerance if isinstance(method, IntegratedGradients) else None
    return next((one for one in (tolerance, own) if one is not None), TOLERANCE)


def better(method: AttributionMethod, tolerance: float) -> str:
    """Source code for a method that stays within `tolerance` where this one does not."""
    own = method.tolerance if isinstance(method, IntegratedGradients) else None
    if isinstance(method, IntegratedGradients) and own is not None and own <= tolerance:
        return f"IntegratedGradients(tolerance={own:g}, max_steps={2 * method.max_steps})"
    return f"IntegratedGradients(tolerance={tolerance:g})"


def _generators(f: GapFunction, seed: int) -> list[torch.Generator]:
    """One random generator per pair, seeded by the prompt's ids and the seed, so that order and batching do
    not matter."""
    prompts = f.batch.prompts
    ids = [
        tokens[mask].cpu().numpy().tobytes()
        for tokens, mask in zip(prompts.tokens, prompts.mask, strict=True)
    ]
    return [torch.Generator().manual_seed(zlib.crc32(one, seed)) for one in ids]


def _check_sampling(samples: int, noise: float) -> None:
    whole(samples, "samples")
    if not noise >= 0:
        raise ValueError(f"noise={noise} must be 0 or more, in units of the embeddings' root mean square.")


def _token_noise(
    f: GapFunction, samples: int, generators: Sequence[torch.Generator]
) -> Float[Tensor, "sample pair pos d_model"]:
    """Gaussian noise on the movable tokens, in units of their root mean square."""
    noise = torch.zeros(samples, *f.x.shape)
    for row, (movable, tokens, generator) in enumerate(
        zip(f.movable.cpu(), f.embeddings.tokens.cpu(), generators, strict=True)
    ):
        here = tokens[movable]
        draw = torch.randn(samples, *here.shape, generator=generator)
        noise[:, row, movable] = here.square().mean().sqrt() * draw
    return noise.to(f.x.device)


def _weighted_gradient(
    f: GapFunction, points: Float[Tensor, "point pair pos d_model"], weights: Float[Tensor, " point"]
) -> Float[Tensor, "pair pos d_model"]:
    """Σ_k w_k ∂f/∂x(point k)."""
    total, done = torch.zeros_like(f.x), 0
    for gradients in f.gradients(points):
        here = weights[done : done + len(gradients)]
        total += torch.einsum("s,spid->pid", here, gradients)
        done += len(gradients)
    return total
