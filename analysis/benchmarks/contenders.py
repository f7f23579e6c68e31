"""What grains_lens is measured against: captum, and the way the released GrAInS code works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import grains_lens as gl

BLOCK_INPUT = "blocks.0.hook_resid_pre"


@dataclass(frozen=True)
class Sequences:
    """A pair as its reader would write it by hand: ids of prompt + answer, for either answer."""

    chosen: Tensor
    rejected: Tensor
    n_prompt: int

    @classmethod
    def of(cls, model: Any, pair: gl.PreferencePair) -> Sequences:
        prompt = model.tokenizer(pair.prompt)["input_ids"]
        chosen, rejected = (
            torch.tensor([prompt + model.tokenizer(answer, add_special_tokens=False)["input_ids"]])
            for answer in (pair.chosen, pair.rejected)
        )
        return cls(chosen, rejected, len(prompt))

    def ends(self, model: Any) -> tuple[Tensor, Tensor]:
        """Embeddings [1, pos, d_model] of the prompt and of the baseline: <unk> everywhere but at BOS."""
        ids = self.chosen[:, : self.n_prompt]
        masked = torch.full_like(ids, model.tokenizer.unk_token_id)
        masked[:, 0] = ids[:, 0]
        return model.W_E[ids].detach(), model.W_E[masked].detach()


def logprob(model: Any, embeddings: Tensor, ids: Tensor, n_prompt: int) -> Tensor:
    """log p(answer | prompt) [batch] from one uncached pass, logits at every position.

    The prompt's embeddings are put in where block 0 begins, which is where `attribute` takes its gradients.
    """

    def replace_prompt(stream: Tensor, hook: Any) -> Tensor:
        return torch.cat([embeddings, stream[:, n_prompt:]], dim=1)

    tokens = ids.expand(len(embeddings), -1)
    logits = model.run_with_hooks(tokens, fwd_hooks=[(BLOCK_INPUT, replace_prompt)])
    return _of_answer(logits, tokens, n_prompt)


def logprob_of_text(model: Any, tokens: Tensor, n_prompt: int) -> Tensor:
    """log p(answer | prompt) [batch] from one uncached pass over prompt + answer, logits at every position."""
    return _of_answer(model(tokens), tokens, n_prompt)


def _of_answer(logits: Tensor, tokens: Tensor, n_prompt: int) -> Tensor:
    logprobs = logits.log_softmax(dim=-1)[:, n_prompt - 1 : -1]
    return logprobs.gather(-1, tokens[:, n_prompt:, None]).sum(dim=(1, 2))


def captum_scores(
    model: Any, pairs: Sequence[gl.PreferencePair], steps: int, internal_batch_size: int | None
) -> list[Tensor]:
    """captum's IntegratedGradients on the gap, Gauss-Legendre, a pair at a time; the model as it was loaded.

    captum asks autograd for the input's gradient alone, so although the parameters want gradients, no
    weight gradient is computed here: the contender is as fast as captum can make it.
    """
    from captum.attr import IntegratedGradients

    def scores(pair: gl.PreferencePair) -> Tensor:
        text = Sequences.of(model, pair)
        x, baseline = text.ends(model)

        def gap(embeddings: Tensor) -> Tensor:
            chosen = logprob(model, embeddings, text.chosen, text.n_prompt)
            return chosen - logprob(model, embeddings, text.rejected, text.n_prompt)

        attributions = IntegratedGradients(gap).attribute(
            x, baseline, n_steps=steps, method="gausslegendre", internal_batch_size=internal_batch_size
        )
        return attributions[0].sum(dim=-1).detach().float()

    return [scores(pair) for pair in pairs]


def released_pattern(model: Any, pairs: Sequence[gl.PreferencePair], steps: int, k: int = 3) -> Tensor:
    """Vectors [layer, d_model] the released code's way, written anew from its description.

    A pair at a time and a step at a time; gradients of all weights; logits at every position; the whole
    attribution once for S⁺ and again for S⁻; each log-probability computed twice; one pass for the hidden
    states of each variant. (Its mistakes are left out: this computes what it meant to.)
    """
    differences: dict[str, list[Tensor]] = {"plus": [], "minus": []}
    for pair in pairs:
        text = Sequences.of(model, pair)
        x, baseline = text.ends(model)
        whole = _hidden_states(model, x, text)
        for side, largest in (("plus", True), ("minus", False)):
            scores = _one_step_at_a_time(model, x, baseline, text, steps)
            scores[0] = -torch.inf if largest else torch.inf
            masked = x.clone()
            top = scores.topk(k, largest=largest).indices
            masked[:, top] = baseline[:, top]
            differences[side].append(whole - _hidden_states(model, masked, text))
    plus, minus = (_first_components(torch.stack(rows)) for rows in differences.values())
    return plus - minus


def _one_step_at_a_time(model: Any, x: Tensor, baseline: Tensor, text: Sequences, steps: int) -> Tensor:
    total = torch.zeros_like(x)
    for step in range(steps):
        leaf = (baseline + (step + 0.5) / steps * (x - baseline)).requires_grad_(True)
        for ids, sign in ((text.chosen, 1.0), (text.rejected, -1.0)):
            with torch.no_grad():
                logprob(model, leaf, ids, text.n_prompt)  # the second time: for the value it logs
            (sign * logprob(model, leaf, ids, text.n_prompt)).sum().backward()
        assert leaf.grad is not None
        total += leaf.grad
        model.zero_grad()
    return ((x - baseline) * total / steps)[0].sum(dim=-1)


def _hidden_states(model: Any, embeddings: Tensor, text: Sequences) -> Tensor:
    seen: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[[Tensor, Any], None]:
        return lambda h, hook: seen.__setitem__(layer, h[0, -1].detach())

    hooks = [(f"blocks.{layer}.hook_resid_post", keep(layer)) for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        model.run_with_hooks(
            text.chosen[:, : text.n_prompt],
            fwd_hooks=[(BLOCK_INPUT, lambda stream, hook: embeddings), *hooks],
        )
    return torch.stack([seen[layer] for layer in sorted(seen)])


def _first_components(deltas: Tensor) -> Tensor:
    return torch.stack([gl.pca_direction(deltas[:, layer], None) for layer in range(deltas.shape[1])])
