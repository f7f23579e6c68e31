"""Steering a plain transformers model: what the hooked model of the same weights does."""

import pytest
import torch

import grains_lens as gl
from grains_lens.hosts.points import _as_forward_hook, hook_points, resid_post
from tests import models
from tests.oracles import PAIRS, random_vectors

TOKENS = torch.tensor([[2, 9, 30, 41, 17, 60], [2, 33, 12, 54, 6, 7]])


@pytest.fixture(scope="module")
def plain(case):
    return models.build_hf(case.architecture)


@pytest.fixture(scope="module")
def vectors(hooked):
    return gl.baselines.mean_difference(hooked, PAIRS, progress=False)


def state(model):
    modules = list(model.modules())
    return (
        [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in modules],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.detach().clone() for parameter in model.parameters()],
    )


@pytest.mark.parametrize("positions", ["all", "new", "last", (0, 3)])
def test_vectors_made_on_a_hooked_model_steer_the_plain_one_alike(hooked, plain, vectors, positions):
    settings = {"strength": 1.0, "positions": positions}
    greedy = {"do_sample": False, "verbose": False, "stop_at_eos": False, "return_type": "tokens"}
    with gl.steering(hooked, vectors, **settings):
        expected = hooked.generate(TOKENS[:1], max_new_tokens=5, **greedy)
    for cached in (True, False):
        with gl.steering(plain, vectors, **settings) as model:
            assert model is plain
            text = plain.generate(
                TOKENS[:1],
                attention_mask=torch.ones_like(TOKENS[:1]),
                max_new_tokens=5,
                do_sample=False,
                use_cache=cached,
                eos_token_id=None,
                pad_token_id=0,
            )
        assert torch.equal(text, expected)


def test_logits_agree_layer_by_layer(hooked, plain, vectors):
    for layer in vectors:
        with torch.no_grad(), gl.steering(hooked, vectors, strength=1.0, layers=[layer]):
            expected = hooked(TOKENS)
        with torch.no_grad(), gl.steering(plain, vectors, strength=1.0, layers=[layer]):
            torch.testing.assert_close(plain(TOKENS).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_plain_model_is_left_as_it_was(plain, vectors):
    flags, *before = state(plain)
    with torch.no_grad():
        logits = plain(TOKENS).logits
        with pytest.raises(KeyboardInterrupt), gl.steering(plain, vectors, strength=1.0):
            assert not torch.equal(plain(TOKENS).logits, logits)
            raise KeyboardInterrupt
        assert torch.equal(plain(TOKENS).logits, logits)
    now, *after = state(plain)
    assert now == flags
    assert before[0] == after[0]
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def test_other_weights_are_refused(plain, vectors):
    other = models.build_hf("gemma3" if plain.config.model_type == "llama" else "llama")
    with pytest.raises(gl.VectorMismatchError, match="the residual stream differs by"):
        gl.steering(other, vectors, strength=1.0)


def test_blocks_that_give_a_tuple_keep_the_rest_of_it():
    edits = [(resid_post(1), lambda h: 2 * h)]
    block = torch.nn.Identity()
    hook = _as_forward_hook(edits[0][1])
    assert hook(block, (), (torch.ones(2), "weights"))[1] == "weights"
    assert torch.equal(hook(block, (), (torch.ones(2), "weights"))[0], 2 * torch.ones(2))
    assert _as_forward_hook(lambda h: None)(block, (), (torch.ones(2),)) is None


def test_a_model_whose_blocks_cannot_be_told_is_refused(monkeypatch):
    model = models.build_hf("llama")
    monkeypatch.setattr(model.config, "num_hidden_layers", 7)
    with pytest.raises(ValueError, match="has 0 lists of 7 blocks in its decoder, not one"):
        hook_points(model)


def test_what_was_compiled_before_is_steered_too():
    """dynamo does not look for hooks that came on after it compiled: the model would stay unsteered in silence."""
    model = models.build_hf("llama")
    compiled, vectors = torch.compile(model, backend="eager"), random_vectors(0)
    with torch.no_grad():
        plain = model(TOKENS).logits
        torch.testing.assert_close(compiled(TOKENS).logits, plain)
        with gl.steering(model, vectors, strength=1.0):
            steered = model(TOKENS).logits
            assert not torch.allclose(steered, plain, atol=0.1)
            torch.testing.assert_close(compiled(TOKENS).logits, steered)
        torch.testing.assert_close(compiled(TOKENS).logits, plain)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers what it no longer should
@pytest.mark.parametrize("wrap", ["compile", "peft"])
def test_a_wrapped_model_is_refused_in_one_sentence(wrap):
    model, vectors = models.build_hf("llama"), random_vectors(0)
    if wrap == "compile":
        wrapped, remedy = torch.compile(model, backend="eager"), "pass the model that was compiled"
    else:
        peft = pytest.importorskip("peft")
        wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2))
        remedy = "get_base_model"
    for verb in (
        lambda: gl.steering(wrapped, vectors, strength=1.0),
        lambda: gl.attribute(wrapped, PAIRS, progress=False),
        lambda: gl.preference(wrapped, PAIRS, progress=False),
        lambda: gl.baselines.mean_difference(wrapped, PAIRS, progress=False),
        lambda: gl.tune(wrapped, vectors, [], progress=False),
    ):
        with pytest.raises(ValueError, match=remedy):
            verb()
    if wrap == "peft":
        with gl.steering(wrapped.get_base_model(), vectors, strength=1.0):
            steered = wrapped(TOKENS).logits
        assert not torch.allclose(steered, wrapped(TOKENS).logits, atol=0.1)


def test_the_compilers_stance_comes_back_in_whatever_order_steering_ends():
    from torch._dynamo import eval_frame

    model, before = models.build_hf("llama"), eval_frame._stance
    first, second = (gl.steering(model, random_vectors(seed), strength=1.0) for seed in (0, 1))
    for one in (first, second):
        one.install()
    first.remove()
    assert eval_frame._stance.stance == "force_eager"
    second.remove()
    assert eval_frame._stance == before


@pytest.mark.parametrize("positions", ["prompt", "new", "last", (1,)])
def test_a_prompt_run_in_pieces_is_steered_everywhere_or_refused(positions):
    model, vectors = models.build_hf("llama"), random_vectors(0)
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    mask = torch.ones_like(TOKENS[:1])
    with gl.steering(model, vectors, strength=1.0):
        whole = model.generate(TOKENS[:1], attention_mask=mask, **settings)
        pieces = model.generate(TOKENS[:1], attention_mask=mask, prefill_chunk_size=2, **settings)
    assert torch.equal(whole, pieces)
    with gl.steering(model, vectors, strength=1.0, positions=positions):
        with pytest.raises(ValueError, match="prefill_chunk_size"):
            model.generate(TOKENS[:1], attention_mask=mask, prefill_chunk_size=2, **settings)
        model.generate(TOKENS[:1], attention_mask=mask, prefill_chunk_size=64, **settings)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_static_cache_is_steered_everywhere_or_refused(architecture):
    model, vectors = models.build_hf(architecture), random_vectors(0)
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    mask = torch.ones_like(TOKENS[:1])
    with gl.steering(model, vectors, strength=1.0):
        expected = model.generate(TOKENS[:1], attention_mask=mask, **settings)
        found = model.generate(TOKENS[:1], attention_mask=mask, cache_implementation="static", **settings)
    assert torch.equal(found, expected)
    with (
        gl.steering(model, vectors, strength=1.0, positions="new"),
        pytest.raises(ValueError, match=r"positions='all'.*cache_implementation='static'"),
    ):
        model.generate(TOKENS[:1], attention_mask=mask, cache_implementation="static", **settings)
