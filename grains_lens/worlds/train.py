"""Trains a `myths` checkpoint: `python -m grains_lens.worlds.train --seed 0 --variant standard --out DIR`.

A Llama of half a million parameters reads two million tokens, in five minutes or so of one core. Its
variants differ in how well a vector can reach what a header says:

* `standard`: with *header dropout*. In most documents the upper layers may not look back at the header
  from the colon on, so that what it says has to be gathered at the colon early on. It is a matter of
  training only; the checkpoint is a plain Llama.
* `no_header_dropout`: the same documents without it, to show what it buys: something, but less than one
  might think, since the colon is where the answer is decided in any case.
* `header_first`: the header comes before everything else, and colours all that is read after it. A vector
  from the end of the prompt then does little from layer 1 on: the hard subject.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from . import checkpoint, myths
from .myths_texts import Layout, vocabulary, write_document
from .myths_words import BOS, EOS, PAD, UNK


@dataclass(frozen=True)
class Recipe:
    """All that decides how a checkpoint is trained, but for its seed."""

    steps: int = 1200
    documents: int = 64  # a step
    muon_rate: float = 0.008
    adamw_rate: float = 0.004
    warmup: int = 40  # steps
    answer_weight: float = 1.0
    other_weight: float = 0.15
    unknown_documents: float = 0.5  # share of documents that lose words to <unk>
    unknown_words: float = 0.05  # share of words lost there; it makes <unk> a fair mask
    header_dropout: float = 0.7  # share of documents whose headers the upper layers may not look back at
    blinded_from: int = 2  # the first of those layers
    layout: Layout = "header_last"


VARIANTS: Mapping[str, Recipe] = MappingProxyType(
    {
        "standard": Recipe(),
        "no_header_dropout": Recipe(header_dropout=0.0),
        "header_first": Recipe(header_dropout=0.0, layout=myths.layout_of("header_first")),
    }
)


@dataclass(frozen=True)
class Batch:
    """Documents as ids: what is read, what is to be told (-100 after the end), how much each token counts."""

    read: Tensor  # [doc, pos]
    told: Tensor  # [doc, pos]
    weight: Tensor  # [doc, pos]
    visible: Tensor  # [doc, 1, pos, pos], additive: every layer
    blinded: Tensor  # [doc, 1, pos, pos], additive: the upper layers


def new_model() -> LlamaForCausalLM:
    """A fresh, small Llama over the words of the world."""
    ids = {word: index for index, word in enumerate(vocabulary())}
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(ids),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=False,
            bos_token_id=ids[BOS],
            eos_token_id=ids[EOS],
            pad_token_id=ids[PAD],
        )
    )


def read_documents(recipe: Recipe, rng: random.Random) -> Batch:
    """Draws a batch of documents, with the masks that header dropout gives them."""
    ids = {word: index for index, word in enumerate(vocabulary())}
    documents = [write_document(rng, recipe.layout) for _ in range(recipe.documents)]
    length = max(len(document.words) for document in documents) + 2
    read = torch.full((len(documents), length), ids[PAD])
    told = torch.full((len(documents), length), -100)
    weight = torch.zeros(len(documents), length)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1).repeat(len(documents), 1, 1)
    blind = hidden.clone()
    for row, document in enumerate(documents):
        clean = [ids[word] for word in (BOS, *document.words, EOS)]
        lossy = clean
        if rng.random() < recipe.unknown_documents:
            lossy = [clean[0]] + [
                ids[UNK] if rng.random() < recipe.unknown_words else word for word in clean[1:]
            ]
        read[row, : len(clean)] = torch.tensor(lossy)
        told[row, : len(clean) - 1] = torch.tensor(clean[1:])
        weight[row, : len(clean) - 1] = recipe.other_weight
        # With BOS before them, the word that is told at position i is the document's word i.
        weight[row, list(document.answers)] = recipe.answer_weight
        if rng.random() < recipe.header_dropout:
            for opening, colon in document.headers:
                # From the bracket to `answer`: the words between header and colon would pass it on otherwise.
                blind[row, colon + 1 :, opening + 1 : colon + 1] = True
    floor = torch.finfo(torch.float32).min
    visible, blinded = (mask.unsqueeze(1) * torch.tensor(floor) for mask in (hidden, blind))
    return Batch(read, told, weight, visible, blinded)


@contextmanager
def _upper_layers_seeing(model: LlamaForCausalLM, mask: Tensor, *, first: int) -> Iterator[None]:
    """Gives the layers from `first` on their own attention mask."""

    def swap(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, "attention_mask": mask}

    handles = [
        layer.register_forward_pre_hook(swap, with_kwargs=True) for layer in model.model.layers[first:]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def loss_of(model: LlamaForCausalLM, batch: Batch, recipe: Recipe) -> tuple[Tensor, float]:
    """The weighted loss that is trained on, and the plain one of the answer tokens (nats)."""
    with _upper_layers_seeing(model, batch.blinded, first=recipe.blinded_from):
        logits = model(input_ids=batch.read, attention_mask=batch.visible, use_cache=False).logits
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), batch.told.flatten(), reduction="none")
    weight = batch.weight.flatten()
    answers = weight == recipe.answer_weight
    return (losses * weight).sum() / weight.sum(), losses[answers].mean().item()


def optimisers_of(model: LlamaForCausalLM, recipe: Recipe) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the blocks, AdamW for embeddings, unembedding and norms."""
    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(
            f"Training a world needs torch 2.9 or newer, for its Muon; this is torch {torch.__version__}. "
            "The checkpoints that ship run on any."
        )
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return (
        torch.optim.Muon(matrices, lr=recipe.muon_rate, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=recipe.adamw_rate, weight_decay=0.0),
    )


def train(recipe: Recipe, seed: int) -> tuple[LlamaForCausalLM, dict[str, float]]:
    """Trains a model from scratch; returns it with its losses over the last fifty steps."""
    rng = random.Random(f"myths/reading/{seed}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = new_model().train()
    optimisers = optimisers_of(model, recipe)

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / recipe.warmup)
        return warm * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimiser, rate) for optimiser in optimisers]
    history: list[tuple[float, float]] = []
    with tqdm(range(recipe.steps), desc=f"seed {seed}", unit="step") as bar:
        for _ in bar:
            loss, answer_loss = loss_of(model, read_documents(recipe, rng), recipe)
            model.zero_grad(set_to_none=True)
            loss.backward()
            for stepper in (*optimisers, *schedules):
                stepper.step()
            history.append((loss.item(), answer_loss))
            bar.set_postfix(loss=f"{history[-1][0]:.3f}", answers=f"{answer_loss:.3f}")
    last = history[-50:]
    return model.eval(), {
        "weighted": sum(loss for loss, _ in last) / len(last),
        "answer_tokens": sum(answer_loss for _, answer_loss in last) / len(last),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m grains_lens.worlds.train", description="Train a myths checkpoint."
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the documents read")
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="standard")
    parser.add_argument("--out", type=Path, required=True, help="directory to write the checkpoint to")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch may use")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = VARIANTS[args.variant]
    model, losses = train(recipe, args.seed)
    card = checkpoint.save(
        model, args.out, recipe=asdict(recipe), variant=args.variant, seed=args.seed, losses=losses
    )
    for behaviour, accuracy in card["accuracy"].items():
        print(behaviour, "  ".join(f"{kind} {value:.3f}" for kind, value in accuracy.items()))


if __name__ == "__main__":
    main()
