"""Scores per prompt token, as one value: what `attribute` returns for a pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import all_of, printable, unknown_name
from ..html.lists import Results
from ..html.strips import score_grid_html, token_strip_html
from ..literals import Modality, Sign
from ..prompts.encoding import Encoded
from ..prompts.grids import Grids
from .selection import top_tokens


def readable(tokenizer: Any, token: int) -> str:
    """The text of a token, including its word boundary."""
    # decode() drops the word boundary that SentencePiece writes as ▁, but is needed for byte-level BPE.
    piece = tokenizer.convert_ids_to_tokens(token)
    return piece.replace("▁", " ") if "▁" in piece else tokenizer.decode([token])


@dataclass(frozen=True)
class Piece:
    """A text token, or all `n_tokens` tokens of an image, starting at `position`. `score` is their sum, in
    nats."""

    position: int
    n_tokens: int
    text: str
    score: float
    is_image: bool

    @property
    def positions(self) -> range:
        """Its positions in the prompt."""
        return range(self.position, self.position + self.n_tokens)

    @property
    def label(self) -> str:
        """The text. For an image it includes the score, because no colour shows it."""
        return f"{self.text}: {self.score:+.2f}" if self.is_image else self.text


@dataclass(frozen=True, eq=False)
class ScoredBy:
    """How scores were made: `method`, `baseline` and `objective`, as passed to `attribute`."""

    method: Any
    baseline: Any
    objective: Any

    def differences(self, **asked: Any) -> list[str]:
        """Which of the `asked` settings differ from those of these scores (None matches anything)."""
        return [
            name
            for name, value in asked.items()
            if value is not None and not _same(value, getattr(self, name))
        ]


@dataclass(frozen=True, eq=False)
class TokenAttribution:
    """One score per prompt token, in nats: positive scores speak for the chosen answer.

    `tokens` [pos] are ids, `strings` their texts, `scores` [pos] the scores. `is_image` and `is_special` (BOS,
    template) tell the kinds of tokens apart, and `grids` says how the tokens of each image lie on the picture. `gap` is
    f(x) = log p(y⁺|x) − log p(y⁻|x), `baseline_gap` is f at the baseline. `made` holds the `method`, `baseline` and
    `objective` of the scores; it is None for scores put together by hand.
    """

    tokens: Int[Tensor, " pos"]
    strings: tuple[str, ...]
    scores: Float[Tensor, " pos"]
    is_image: Bool[Tensor, " pos"]
    is_special: Bool[Tensor, " pos"]
    gap: float
    baseline_gap: float
    grids: tuple[Grids, ...] | None = ()
    made: ScoredBy | None = None

    @property
    def completeness_error(self) -> float:
        """Σ_i a_i − (f(x) − f(x')) in nats: 0 for exact integrated gradients."""
        return float(self.scores.double().sum()) - (self.gap - self.baseline_gap)

    def top(
        self,
        k: int,
        sign: Sign = "positive",
        *,
        modality: Modality = "joint",
        include_special: bool = False,
    ) -> Int[Tensor, " chosen"]:
        """Positions of the k tokens that speak most for (or against) the chosen answer, the strongest first;
        of image tokens alone with `modality="vision"`, of the others with `"text"`. There may be fewer than k of a
        sign. Raises ValueError for unknown names, and k that exceeds the tokens there are."""
        if modality not in get_args(Modality):
            raise unknown_name("modality", modality, get_args(Modality))
        eligible = torch.ones_like(self.is_special) if include_special else ~self.is_special
        if modality != "joint":
            eligible = eligible & (self.is_image if modality == "vision" else ~self.is_image)
        if modality == "vision" and not self.is_image.any():
            raise ValueError(
                "modality='vision', and the prompt has no image, whose tokens could be chosen: give pairs with images, "
                "or take modality='joint'."
            )
        if not eligible.any():
            raise ValueError(
                f"modality={modality!r}, and the prompt has no such token but special ones: take include_special=True, "
                "or a prompt with more text."
            )
        return top_tokens(self.scores, k, sign=sign, eligible=eligible)

    def image_grids(self) -> list[Float[Tensor, "row col"]]:
        """The scores laid out as on the picture: for each image one grid, in nats per cell.

        A cell is a token: a patch of the picture, or several merged ones. Where a model sees a picture twice,
        whole and in tiles (LLaVA-NeXT), the grid is the tiles', and what a token of the whole scores is spread
        evenly over the cells it covers. Tokens that show no part of the picture (newlines, a class token) are
        left out. A picture may be cropped before the model sees it: `grids[i].views[-1].extent` says to what.

        Raises ValueError where the layout of this kind of model's image tokens is not known.
        """
        if self.grids is None:
            raise ValueError(
                "how this model's image tokens lie on the picture is not known here: take scores[is_image]."
            )
        if not self.grids:
            return []
        own = self.scores[self.is_image].split([grid.n_tokens for grid in self.grids])
        return [grid.scores(scores) for grid, scores in zip(self.grids, own, strict=True)]

    def pieces(self) -> list[Piece]:
        """The readable pieces in order: every text token, and every image as one piece."""
        image = self.is_image.tolist()
        own = iter([grid.n_tokens for grid in self.grids or ()])
        pieces: list[Piece] = []
        at = 0
        while at < len(image):
            end = at + 1
            if image[at]:
                run = next((n for n in range(at, len(image)) if not image[n]), len(image))
                end = min(at + next(own, run - at), run)
            text = f"image, {end - at} tokens" if image[at] else self.strings[at]
            pieces.append(Piece(at, end - at, text, float(self.scores[at:end].sum()), bool(image[at])))
            at = end
        return pieces

    def scale(self) -> float:
        """The largest |score| of a text token or an image cell, in nats. It sets the colour scale."""
        shown = [self.scores[~self.is_image]]
        shown += [grid.flatten() for grid in self.image_grids()] if self.grids else [self.scores]
        return max((float(one.abs().max()) for one in shown if len(one)), default=0.0)

    def __repr__(self) -> str:
        tokens = " ".join(
            f"{printable(piece.text.strip()) or repr(piece.text)}({piece.score:+.2f})"
            for piece in self.pieces()
        )
        return f"TokenAttribution({tokens}; {self._caption()})"

    def _repr_html_(self) -> str:
        return self._html(self.scale())

    def _html(self, scale: float) -> str:
        """The prompt as a strip of tokens in HTML, with the grids of its images. Colours are strongest at
        `scale` nats."""
        pieces = self.pieces()
        strip = token_strip_html(
            [piece.label for piece in pieces],
            [0.0 if piece.is_image else piece.score for piece in pieces],
            caption=self._caption(),
            scale=scale,
        )
        grids = self.image_grids() if self.grids else []
        return "".join(score_grid_html(grid.tolist(), scale=scale) for grid in grids) + strip

    def _caption(self) -> str:
        return (
            f"f(x) = {self.gap:+.2f} nats, at the baseline {self.baseline_gap:+.2f}, "
            f"completeness error {self.completeness_error:+.3f}"
        )


class Attributions(Results[TokenAttribution]):
    """What `attribute` returns: a list of `TokenAttribution`, one per pair, in order.

    In a notebook it shows the first prompts as strips of tokens, all on one colour scale. A slice shows itself too, and
    so does any list of attributions: `Attributions(sorted(scores, key=lambda one: one.gap))`.
    """

    __slots__ = ()

    _most = 10

    def _pieces(self) -> list[str]:
        """The first prompts as strips in HTML, on one scale: the largest |score| among them, in nats."""
        shown = self[: self._most]
        scale = max((one.scale() for one in shown), default=0.0)
        return [one._html(scale) for one in shown]


def _same(one: Any, other: Any) -> bool:
    """Whether two settings are the same, tensors and frozen values with tensors among them."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and bool((one == other).all())
    if is_dataclass(one):
        return all(_same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return bool(one == other)


def as_attributions(
    attributions: TokenAttribution | Iterable[TokenAttribution], argument: str = "attributions"
) -> list[TokenAttribution]:
    """One attribution as a list of one. Raises ValueError, which names `argument`, for what is no attribution."""
    return all_of(TokenAttribution, attributions, argument, "what attribute returns")


def check_attributions(encoded: Sequence[Encoded], attributions: Sequence[TokenAttribution]) -> None:
    """Raise ValueError unless there is one attribution of each prompt, in order."""
    if len(attributions) != len(encoded):
        raise ValueError(
            f"there are {len(encoded)} pairs and {len(attributions)} attributions: one per pair is expected."
        )
    for index, (item, one) in enumerate(zip(encoded, attributions, strict=True)):
        if tuple(one.tokens.tolist()) != item.prompt.ids:
            raise ValueError(
                f"attributions[{index}] is of another prompt than pairs[{index}], or of another "
                "prompt_format: attribute these pairs, in this order."
            )
        if not torch.isfinite(one.scores).all():
            raise ValueError(
                f"attributions[{index}] has scores that are NaN or infinite: attribute it again."
            )
