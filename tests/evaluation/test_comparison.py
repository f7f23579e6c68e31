"""Unsteered beside steered text: both are what the model itself says, and what differs is marked."""

from __future__ import annotations

import random

import pytest
import torch

import grains_lens as gl
from grains_lens.evaluation.comparison import changed_words
from grains_lens.prompts.batching import encode_prompts_for

PROMPTS = ["the old fox eats", "is this tea safe ?"]


@pytest.fixture(scope="module")
def steer(llama):
    """Steering hard enough to change what is said."""
    generator = torch.Generator().manual_seed(0)
    directions = {layer: torch.randn(llama.cfg.d_model, generator=generator) for layer in range(3)}
    vectors = gl.SteeringVectors.of_layers(directions, method="random")
    return lambda strength: gl.steering(llama, vectors, strength=strength, rule=gl.add, unit="raw")


def greedily(model, prompt, n):
    """The oracle: the most probable token, again and again, without a cache."""
    ids = list(encode_prompts_for(model, [prompt])[0].ids)
    start = len(ids)
    for _ in range(n):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == model.tokenizer.eos_token_id:
            break
    return model.tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_either_side_is_what_the_model_says_token_by_token(llama, steer):
    seen = gl.compare_generations(llama, PROMPTS, steer(3.0), max_new_tokens=6)
    with torch.no_grad():
        assert seen.unsteered == tuple(greedily(llama, prompt, 6) for prompt in PROMPTS)
        with steer(3.0):
            assert seen.steered == tuple(greedily(llama, prompt, 6) for prompt in PROMPTS)
    assert seen.prompts == tuple(PROMPTS)
    assert 0 < seen.n_changed <= len(PROMPTS)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_strength_zero_changes_nothing_also_when_sampled(llama, steer, temperature):
    seen = gl.compare_generations(llama, PROMPTS, steer(0.0), max_new_tokens=6, temperature=temperature)
    assert seen.unsteered == seen.steered
    assert seen.n_changed == 0


def test_the_seed_alone_decides_what_is_sampled_and_the_callers_random_state_stays(llama, steer):
    state = torch.get_rng_state()
    sampled = [
        gl.compare_generations(llama, PROMPTS, steer(3.0), max_new_tokens=8, temperature=2.0, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert sampled[0] == sampled[1] != sampled[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_settings_are_refused_before_anything_is_said(llama, steer):
    bad = {
        "prompts is empty": {"prompts": []},
        "max_new_tokens=0": {"max_new_tokens": 0},
        "temperature=-1": {"temperature": -1.0},
        "temperature=nan": {"temperature": float("nan")},
    }
    for message, settings in bad.items():
        with pytest.raises(ValueError, match=message):
            gl.compare_generations(llama, **{"prompts": PROMPTS, "steering": steer(1.0)} | settings)
    with steer(1.0) as _, pytest.raises(ValueError, match="on already"):
        on = steer(1.0)
        on.install()
        try:
            gl.compare_generations(llama, PROMPTS, on)
        finally:
            on.remove()


def test_marked_words_are_those_of_one_side_alone():
    was, now = changed_words("yes , it is always safe .", "no , it is never safe .")
    assert [word for word, changed in was if changed] == ["yes", "always"]
    assert [word for word, changed in now if changed] == ["no", "never"]


def test_texts_stay_whole_equal_ones_are_unmarked_and_what_is_left_unmarked_is_common():
    draw = random.Random(0)
    for _ in range(200):
        one, other = (" ".join(draw.choices("a b c , . <i> 深".split(), k=draw.randrange(9))) for _ in "ab")
        was, now = changed_words(one, other)
        assert "".join(word for word, _ in was) == one
        assert "".join(word for word, _ in now) == other
        kept = [[w for w, changed in side if not changed and not w.isspace()] for side in (was, now)]
        assert kept[0] == kept[1]
        assert not any(changed for side in changed_words(one, one) for _, changed in side)


def test_the_plain_view_puts_changed_words_in_brackets():
    shown = repr(gl.GenerationComparison(("p ?",), ("it is safe",), ("it is wrong",)))
    assert "it is [safe]" in shown
    assert "it is [wrong]" in shown
    assert "1 of 1" in shown


def test_what_a_model_says_steers_no_terminal():
    compared = gl.GenerationComparison(("a\nb\x1b[2J",), ("is \x9b safe",), ("is\x00 \u202e not",))
    shown = repr(compared)
    assert "a\nb\\x1b[2J" in shown
    assert shown.replace("\n", "").isprintable()
