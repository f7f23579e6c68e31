"""Rivals: other ways to the same `SteeringVectors`, so that every study can run on all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from . import seam
from .attribution import BATCH_TOKENS, special_positions
from .directions import mean_direction
from .encoding import PromptFormat
from .extraction import per_layer, provenance_of, typical_norm
from .objective import buckets, collate, encode_for
from .pairs import PreferencePair
from .residuals import read_residuals
from .seam import HookedModel
from .vectors import SteeringVectors


def mean_difference(
    model: HookedModel,
    pairs: Sequence[PreferencePair],
    *,
    layers: Sequence[int] | None = None,
    prompt_format: PromptFormat = PromptFormat(),
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = True,
) -> SteeringVectors:
    """Contrastive activation addition: v_l = (1/n) Σ_j h_l(x_j, y⁺_j) − h_l(x_j, y⁻_j), in residual units.

    h_l is the stream after block l at the answer's last token. Rimsky et al. 2024 (CAA), section 3, whose
    answers are single letters; here they are the pairs' own texts.
    """
    chosen_layers = seam.check_layers(layers, range(seam.n_layers(model)))
    encoded = encode_for(model, pairs, prompt_format)
    deltas = torch.zeros(len(encoded), len(chosen_layers), int(model.cfg.d_model))
    norms: list[Tensor] = []
    with seam.frozen(model), tqdm(
        total=len(encoded), desc="mean difference", unit="pair", disable=not progress, leave=False, delay=1.0
    ) as bar:  # fmt: skip
        for rows in buckets([item.longest for item in encoded], batch_tokens, rows=2):
            items = [encoded[row] for row in rows]
            batch = collate(items, seam.device_of(model))
            chosen, rejected = (
                read_residuals(model, batch.prompts, layers=chosen_layers, answers=answer)
                for answer in batch.answers
            )
            deltas[rows] = chosen.at_end - rejected.at_end
            content = batch.prompts.mask.cpu() & ~special_positions(items, batch.prompts.tokens.shape[1])
            norms += [row[:, where] for row, where in zip(chosen.norms, content, strict=True)]
            bar.update(len(rows))
    return SteeringVectors(
        directions=per_layer(mean_direction, deltas),
        layers=chosen_layers,
        residual_norm=typical_norm(norms),
        provenance=provenance_of(model, "mean_difference", {"position": "response_end"}, len(pairs)),
    )
