"""The zoo's models are what they say: the same function as the plain Hugging Face model, hooked."""

from __future__ import annotations

import pytest
import torch

from tests.models import N_LAYERS, SENTENCE, build_hf


@pytest.fixture(scope="session")
def reference(case):
    return build_hf(case.architecture)


@torch.no_grad()
def test_logits_are_those_of_the_plain_model(hooked, reference, tokenizer):
    tokens = tokenizer(SENTENCE, return_tensors="pt").input_ids
    torch.testing.assert_close(hooked(tokens), reference(tokens).logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_residual_stream_after_every_block_is_hooked(hooked, reference, tokenizer):
    tokens = tokenizer(SENTENCE, return_tensors="pt").input_ids
    expected = reference(tokens, output_hidden_states=True).hidden_states
    seen: dict[int, torch.Tensor] = {}

    def note(layer):
        return lambda residual, hook: seen.__setitem__(layer, residual.clone())

    hooks = [(f"blocks.{layer}.hook_resid_post", note(layer)) for layer in range(N_LAYERS)]
    hooked.run_with_hooks(tokens, fwd_hooks=hooks)

    assert sorted(seen) == list(range(N_LAYERS))
    # The plain model's last entry has been through the final norm already.
    for layer in range(N_LAYERS - 1):
        torch.testing.assert_close(seen[layer], expected[layer + 1], atol=1e-4, rtol=0)


@torch.no_grad()
def test_every_token_moves_the_prediction_by_nats_and_none_by_many(reference, tokenizer):
    tokens = tokenizer(SENTENCE, return_tensors="pt").input_ids
    logprobs = reference(tokens).logits.log_softmax(-1)
    assert 1 < logprobs[:, -1].std() < 5

    for position in range(1, tokens.shape[1]):
        changed = tokens.clone()
        changed[:, position] = tokenizer.unk_token_id
        moved = (reference(changed).logits.log_softmax(-1) - logprobs)[:, -1].abs().max()
        assert 0.05 < moved < 20, tokenizer.decode(tokens[0, position])


def test_bos_comes_once_and_first(hooked, tokenizer):
    for tokens in (tokenizer(SENTENCE).input_ids, hooked.to_tokens(SENTENCE, prepend_bos=True)[0].tolist()):
        assert tokens[0] == tokenizer.bos_token_id
        assert tokens.count(tokenizer.bos_token_id) == 1
        assert tokenizer.unk_token_id not in tokens


def test_two_builds_are_the_same_model(reference, case):
    for one, other in zip(reference.parameters(), build_hf(case.architecture).parameters(), strict=True):
        assert torch.equal(one, other)
