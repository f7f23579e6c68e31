"""Attribution methods that draw at random: gradients of noisy copies, several baselines, and random scores."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import whole
from .fillers import Filler
from .gap import GapFunction, weighted_gradient


@dataclass(frozen=True)
class SmoothGrad:
    """Gradient times input, with the gradient averaged over noisy copies of the prompt:
    a_i = (x_i − x'_i)·(1/n) Σ_s ∂f/∂x_i(x + ε_s), summed over d_model.

    ε is Gaussian noise on every token that the baseline replaces. The same prompt and seed give the same noise. Not
    complete. Smilkov et al. 2017; captum's NoiseTunnel over Saliency, times x − x'.

    Args:
        samples: Noisy copies per prompt.
        noise: The noise's deviation, relative to the root mean square of the prompt's embeddings.
        seed: Of all that is drawn at random. The same seed gives the same result.
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
        return ((f.x - f.baseline) * weighted_gradient(f, points, weights)).sum(dim=-1)


@dataclass(frozen=True)
class GradientShap:
    """Expected gradients: integrated gradients by sampling, averaged over several baselines.

        a_i = mean over fillers b and samples s of (x_i − b_i)·∂f/∂x_i(b + α_s(x − b) + ε_s)

    α is stratified over [0, 1], and ε is the noise of `SmoothGrad`. The scores sum to f(x) − mean_b f(b) in
    expectation. The `baseline` of `attribute` is not used. Lundberg and Lee 2017, Erion et al. 2021; captum's
    GradientShap.

    Args:
        samples: Points per filler.
        fillers: What stands in the tokens' place, one after the other.
        noise: As in `SmoothGrad`.
        seed: Of all that is drawn at random. The same seed gives the same result.
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
            scores += ((f.x - baseline) * weighted_gradient(f, points, weights)).sum(dim=-1)
        return scores / len(self.fillers)


@dataclass(frozen=True)
class RandomScores:
    """Standard normal scores, the same for the same prompt and seed: what any method must beat.

    Args:
        seed: Of all that is drawn at random. The same seed gives the same result.
    """

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
