"""A shipped world is the same model as whichever class it is loaded, and attribution finds its true cues."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import grains_lens as gl
from tests import models


@pytest.fixture(scope="module")
def world():
    return gl.worlds.load("myths")


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_it_computes_what_plain_transformers_computes(world, backend):
    model = world.load_model(backend=backend)
    prompts = [pair.prompt for pair in world.behaviours["faithfulness"].pairs[:3]]
    tokens = torch.tensor(model.tokenizer(prompts)["input_ids"])
    assert (tokens[:, 0] == model.tokenizer.bos_token_id).all()
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(world.path, dtype=torch.float32)(tokens).logits
        torch.testing.assert_close(model(tokens), expected, rtol=1e-4, atol=1e-4)


def test_the_most_negative_tokens_are_the_true_undesirable_cues_more_often_than_chance(world):
    """Precision of the top 3 against the world's own truth, on prompts that hold such a cue."""
    model = world.load_model()
    for behaviour in world.behaviours.values():
        pairs = [pair for pair in behaviour.pairs[:20] if world.cues(pair.prompt).undesirable]
        attributions = gl.attribute(
            model, pairs, method=gl.IntegratedGradients(steps=20), tolerance=1.0, progress=False
        )
        precision, chance = [], []
        for pair, result in zip(pairs, attributions, strict=True):
            cues = {at + 1 for at in world.cues(pair.prompt).undesirable}  # BOS comes first
            found = set(result.top(3, "negative").tolist())
            precision.append(len(found & cues) / min(3, len(cues)))
            chance.append(min(1.0, 3 / int((~result.is_special).sum())))
        assert np.mean(precision) > 2 * np.mean(chance)
