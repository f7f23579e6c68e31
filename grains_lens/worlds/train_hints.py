"""Trains a `hints` checkpoint: a small LLaVA that sees, and can be talked out of what it sees.

1. *Seeing*: vision tower and projector learn to turn each patch into the word for what it shows (the digit
   of its cell, nothing, or its mark). The tower is frozen from then on, as LLaVA's is.
2. *Answering*: documents in which only the picture is told.
3. *Believing*: the mixture, in which a bad register tells the bet.

In most documents the upper layers may not look back from the colon at the words in brackets, nor any text but
the colon at the marks, so that what the cues say has to be gathered at the colon early on (the header
dropout of the `myths` world). It is a matter of training only; the checkpoint is a plain LLaVA.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from . import hints, hints_card
from .checkpoint import Subject
from .hints_pictures import N_PATCHES, Picture, draw_picture, patches_of
from .hints_texts import REGISTERS, TRUE, Reading, draw_marks, write_document
from .hints_words import DIGITS, IMAGE, MARKS, NOTHING, vocabulary
from .myths_words import BOS, EOS, PAD, UNK
from .training import blinding, descend, llama_config, optimisers_of


@dataclass(frozen=True)
class Recipe:
    """All that decides how a checkpoint is trained, but for its seed."""

    seeing_steps: int = 600
    seeing_pictures: int = 64  # a step
    seeing_rate: float = 2.5e-3
    answering_steps: int = 600
    believing_steps: int = 900
    documents: int = 48  # a step
    muon_rate: float = 0.008
    adamw_rate: float = 0.003
    warmup: int = 40  # steps
    answer_weight: float = 1.0
    other_weight: float = 0.05
    lossy_documents: float = 0.5  # share of documents that lose words to <unk> and patches to their mean
    lost_tokens: float = 0.06  # share of tokens lost there; it makes both fair masks
    header_dropout: float = 0.7  # share of documents whose cues the upper layers may not look back at
    blinded_from: int = 2  # the first of those layers
    reading: Reading = field(default_factory=Reading)


VARIANTS: Mapping[str, Recipe] = MappingProxyType({"standard": Recipe()})
WORDS = vocabulary()
IDS = {word: index for index, word in enumerate(WORDS)}


def new_model() -> LlavaForConditionalGeneration:
    """A fresh, small LLaVA over the words of the world; unembedding starts as the embedding."""
    text = llama_config(IDS, bos=BOS, eos=EOS, pad=PAD)
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=64,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IDS[IMAGE],
        image_seq_length=N_PATCHES,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    embedding = embedding_of(model).weight
    with torch.no_grad():
        nn.init.normal_(embedding, std=0.2)
        model.lm_head.weight.copy_(embedding)
    # A document goes on after its first answer: the full stop between them ends an answer too.
    model.generation_config = GenerationConfig(
        bos_token_id=IDS[BOS], eos_token_id=[IDS[EOS], IDS["."]], pad_token_id=IDS[PAD]
    )
    return model


def embedding_of(model: LlavaForConditionalGeneration) -> nn.Embedding:
    """The embedding of words."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding


def pixel_values(pictures: Iterable[Picture]) -> Tensor:
    """Pictures as the processor hands them to the model: [picture, 3, 32, 32] from −1 to 1."""
    pixels = torch.from_numpy(np.stack([picture.pixels() for picture in pictures])).float()
    return (pixels / 127.5 - 1).unsqueeze(1).expand(-1, 3, -1, -1)


def image_tokens(model: LlavaForConditionalGeneration, pictures: list[Picture]) -> Tensor:
    """What enters the language model for each picture, [picture, patch, d_model]."""
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    return projector(tower(pixel_values(pictures)).last_hidden_state[:, 1:])


# --- seeing --------------------------------------------------------------------------------------

SEEN = (*DIGITS, NOTHING, *MARKS)


def seeing_loss(model: LlavaForConditionalGeneration, pictures: list[Picture]) -> tuple[Tensor, float]:
    """How badly image tokens point along the embeddings of the words for what they show, and how often they
    point along the right one most."""
    features = image_tokens(model, pictures).flatten(0, 1)
    words = embedding_of(model).weight[[IDS[word] for word in SEEN]].detach()
    told = torch.tensor([SEEN.index(word) for picture in pictures for word in picture.patches])
    cosines = nn.functional.normalize(features, dim=-1) @ nn.functional.normalize(words, dim=-1).T
    lengths = features.norm(dim=-1) / words.norm(dim=-1).mean()
    loss = nn.functional.cross_entropy(cosines * 16, told) + 0.1 * lengths.log().square().mean()
    return loss, (cosines.argmax(-1) == told).float().mean().item()


def learn_to_see(model: LlavaForConditionalGeneration, recipe: Recipe, rng: random.Random) -> float:
    """Trains vision tower and projector; returns the share of patches seen right over the last steps."""
    parts = (model.model.vision_tower, model.model.multi_modal_projector)
    parameters = [parameter for part in parts for parameter in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.seeing_rate, weight_decay=0.01)

    def loss(_: int) -> tuple[Tensor, float]:
        mixtures = [rng.choice(tuple(REGISTERS.values())) for _ in range(recipe.seeing_pictures)]
        return seeing_loss(model, [draw_picture("pairs", draw_marks(m, rng), rng) for m in mixtures])

    return descend(model, loss, (optimiser,), recipe.seeing_steps, warmup=recipe.warmup, name="seeing")[1]


# --- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Documents as ids: what is read, what is to be told (-100 after the end), how much each token counts,
    which patches are lost, and who may look where (additive; the second mask for the upper layers)."""

    pictures: list[Picture]
    read: Tensor  # [doc, pos]
    told: Tensor  # [doc, pos]
    weight: Tensor  # [doc, pos]
    lost: Tensor  # [doc, patch], bool
    visible: Tensor  # [doc, 1, pos, pos]
    blinded: Tensor  # [doc, 1, pos, pos]


FIRST_PATCH = 1  # after BOS
FIRST_WORD = FIRST_PATCH + N_PATCHES


def read_documents(recipe: Recipe, reading: Reading, rng: random.Random) -> Batch:
    """Draws a batch of documents, with the masks that header dropout gives them."""
    documents = [write_document(rng, reading) for _ in range(recipe.documents)]
    length = FIRST_WORD + max(len(document.words) for document in documents) + 1
    read = torch.full((len(documents), length), IDS[PAD])
    told = torch.full((len(documents), length), -100)
    weight = torch.zeros(len(documents), length)
    lost = torch.zeros(len(documents), N_PATCHES, dtype=torch.bool)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1).repeat(len(documents), 1, 1)
    blind = hidden.clone()
    for row, document in enumerate(documents):
        clean = [IDS[word] for word in (BOS, *(IMAGE,) * N_PATCHES, *document.words, EOS)]
        lossy = list(clean)
        if rng.random() < recipe.lossy_documents:
            for at in range(1, len(clean)):
                if rng.random() < recipe.lost_tokens:
                    if at < FIRST_WORD:
                        lost[row, at - FIRST_PATCH] = True
                    else:
                        lossy[at] = IDS[UNK]
        read[row, : len(clean)] = torch.tensor(lossy)
        told[row, FIRST_WORD - 1 : len(clean) - 1] = torch.tensor(clean[FIRST_WORD:])
        weight[row, FIRST_WORD - 1 : len(clean) - 1] = recipe.other_weight
        weight[row, [FIRST_WORD - 1 + at for at in document.answers]] = recipe.answer_weight
        if rng.random() < recipe.header_dropout:
            _blind(document, hidden[row], blind[row])
    floor = torch.finfo(torch.float32).min
    visible, blinded = (mask.unsqueeze(1) * torch.tensor(floor) for mask in (hidden, blind))
    return Batch([document.picture for document in documents], read, told, weight, lost, visible, blinded)


def _blind(document: Any, hidden: Tensor, blind: Tensor) -> None:
    """Hides the cues of a document: marks from all but the colons, words in brackets from each colon on; in the
    upper layers both from the colons too."""
    marks = [FIRST_PATCH + patch for patch in patches_of(document.picture.marked)]
    colons = [FIRST_WORD + colon for _, colon in document.headers]
    others = [at for at in range(len(hidden)) if at not in (*marks, *colons)]
    for mask, rows in ((hidden, others), (blind, others), (blind, colons)):
        for mark in marks:
            mask[rows, mark] = True
    for opening, colon in document.headers:
        inside = slice(FIRST_WORD + opening, FIRST_WORD + colon)
        blind[FIRST_WORD + colon :, inside] = True


def reading_loss(model: LlavaForConditionalGeneration, batch: Batch, recipe: Recipe) -> tuple[Tensor, float]:
    """The weighted loss that is trained on, and the plain one of the answer tokens (nats)."""
    embedding = embedding_of(model)
    features = image_tokens(model, batch.pictures)
    features = torch.where(batch.lost.unsqueeze(-1), features.mean(dim=1, keepdim=True), features)
    embeds = embedding(batch.read)
    embeds = torch.cat([embeds[:, :FIRST_PATCH], features, embeds[:, FIRST_WORD:]], dim=1)
    decoder = model.model.language_model
    with blinding(decoder, batch.blinded, first=recipe.blinded_from):
        hidden = decoder(
            inputs_embeds=embeds, attention_mask=batch.visible, use_cache=False
        ).last_hidden_state
    logits = model.lm_head(hidden)
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), batch.told.flatten(), reduction="none")
    weight = batch.weight.flatten()
    answers = weight == recipe.answer_weight
    return (losses * weight).sum() / weight.sum(), losses[answers].mean().item()


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def train(recipe: Recipe, seed: int) -> tuple[LlavaForConditionalGeneration, dict[str, float]]:
    """Trains a model from scratch; returns it with its losses over the last fifty steps."""
    rng = random.Random(f"hints/reading/{seed}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = new_model().train()
    seen = learn_to_see(model, recipe, rng)

    def loss(step: int) -> tuple[Tensor, float]:
        reading = TRUE if step < recipe.answering_steps else recipe.reading
        return reading_loss(model, read_documents(recipe, reading, rng), recipe)

    with _frozen(model.model.vision_tower):
        matrices = [p for p in model.model.language_model.layers.parameters() if p.ndim == 2]
        optimisers = optimisers_of(model, matrices, recipe.muon_rate, recipe.adamw_rate)
        weighted, answers = descend(
            model,
            loss,
            optimisers,
            recipe.answering_steps + recipe.believing_steps,
            warmup=recipe.warmup,
            name=f"seed {seed}",
        )
    return model.eval(), {"patches_seen_right": seen, "weighted": weighted, "answer_tokens": answers}


SUBJECT = Subject(
    "hints",
    "image-text-to-text",
    VARIANTS,
    train,
    hints_card.save_processor,
    hints_card.measure,
    hints.fingerprint,
    hints_card.readme,
)
