"""What tests compare with: plain Hugging Face models, naive loops, captum. None of it uses grains_lens' engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import grains_lens as gl
from grains_lens import PreferencePair
from tests import models

PAIRS = [
    PreferencePair(
        "what does the old fox eats at the cold river ? answer :", "red leaf", "small stone today"
    ),
    PreferencePair("the cat likes", "milk", "salt water"),
    PreferencePair("is this tea safe ? answer :", "yes always", "no"),
    PreferencePair("when she sleeps in the warm house , what do they see ?", "two white dog .", "a tree"),
    PreferencePair("where does the bird move ? answer :", "to the root", "on the road"),
]


def random_vectors(seed: int) -> gl.SteeringVectors:
    """Random directions at every layer of the zoo's models, belonging to none."""
    return gl.SteeringVectors(
        directions=torch.randn(
            models.N_LAYERS, models.D_MODEL, generator=torch.Generator().manual_seed(seed)
        ),
        layers=tuple(range(models.N_LAYERS)),
        residual_norm=torch.tensor([2.0, 3.0, 4.0]),
        provenance=gl.Provenance("random"),
    )


def full_ids(tokenizer: Any, prompt: str, answer: str, bos: bool) -> tuple[list[int], int]:
    """Ids of the running text, and how many of them are the prompt's."""
    start = [tokenizer.bos_token_id] if bos else []
    prompt_ids = start + tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return prompt_ids + tokenizer(answer, add_special_tokens=False)["input_ids"], len(prompt_ids)


def own_bos(model: Any) -> bool:
    """Whether the model's tokenizer puts BOS first by itself, as the zoo's does on every class."""
    return model.tokenizer("a")["input_ids"][:1] == [model.tokenizer.bos_token_id]


def hf_token_logprobs(hf_model: Any, ids: list[int], n_prompt: int) -> Tensor:
    """log p of each token behind the prompt, from one plain unpadded forward pass."""
    with torch.no_grad():
        logprobs = hf_model(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
    return torch.stack([logprobs[at - 1, ids[at]] for at in range(n_prompt, len(ids))])


def hf_answer_logprob(hf_model: Any, tokenizer: Any, prompt: str, answer: str, bos: bool) -> float:
    """log p(answer | prompt) summed over tokens."""
    return float(hf_token_logprobs(hf_model, *full_ids(tokenizer, prompt, answer, bos)).sum())


def uncached_gap(model: Any, pair: PreferencePair) -> Any:
    """f as captum wants it: embeddings [batch, pos, d_model] of the prompt to the gap [batch], no cache, full
    logits, hooks by transformer-lens itself."""
    bos = own_bos(model)
    sequences = [
        full_ids(model.tokenizer, pair.prompt, answer, bos) for answer in (pair.chosen, pair.rejected)
    ]

    def logprob(embeddings: Tensor, ids: list[int], n_prompt: int) -> Tensor:
        tokens = torch.tensor([ids]).expand(len(embeddings), -1)

        def replace_prompt(stream: Tensor, hook: Any) -> Tensor:
            return torch.cat([embeddings.to(stream.dtype), stream[:, n_prompt:]], dim=1)

        logits = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_resid_pre", replace_prompt)])
        logprobs = logits.float().log_softmax(dim=-1)[:, n_prompt - 1 : -1]
        return logprobs.gather(-1, tokens[:, n_prompt:, None]).sum(dim=(1, 2))

    def gap(embeddings: Tensor) -> Tensor:
        chosen, rejected = (logprob(embeddings, *sequence) for sequence in sequences)
        return chosen - rejected

    return gap


def block_input(model: Any, pair: PreferencePair, *, masked: Tensor | None = None, token: int = 1) -> Tensor:
    """What enters block 0 for the prompt [1, pos, d_model], with some positions' tokens exchanged for `token`."""
    ids, n_prompt = full_ids(model.tokenizer, pair.prompt, "", own_bos(model))
    tokens = torch.tensor([ids[:n_prompt]])
    if masked is not None:
        tokens[0, masked] = token
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    return cache["blocks.0.hook_resid_pre"].clone()


def state_of(model: Any) -> dict[str, Any]:
    """All that a context must leave as it found it, on any model."""
    with torch.no_grad():
        model(torch.tensor([[4, 5]]))  # a bridge puts on capture hooks of its own in its first pass
    points = {id(point): point for point in model.hook_dict.values()}.values()
    # A bridge does not register all that the transformers model inside it has.
    inner = getattr(model, "original_model", model)
    modules = list(dict.fromkeys([*model.modules(), *inner.modules()]))
    return {
        "hooks": [list(point._forward_hooks) for point in points],
        "module hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules
        ],
        "grad flags": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [parameter.grad is None for parameter in model.parameters()],
        "modes": [module.training for module in modules],
        "buffers": {name: buffer.clone() for name, buffer in model.named_buffers()},
        "weights": [parameter.detach().clone() for parameter in model.parameters()],
    }


def same_state(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether two results of `state_of` are equal, bit for bit."""
    plain = ("hooks", "module hooks", "grad flags", "gradients", "modes")
    return (
        all(before[name] == after[name] for name in plain)
        and before["buffers"].keys() == after["buffers"].keys()
        and all(torch.equal(before["buffers"][name], after["buffers"][name]) for name in before["buffers"])
        and all(torch.equal(a, b) for a, b in zip(before["weights"], after["weights"], strict=True))
    )
