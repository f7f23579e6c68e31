"""The seam: our hooks come and go alone, and prompts can be continued as often as one likes."""

import pytest
import torch

import grains_lens as gl
from grains_lens.hosts.batch import TokenBatch, left_padded
from grains_lens.hosts.forward import advance, extend, prefill
from grains_lens.hosts.model import frozen
from grains_lens.hosts.points import RESID_PRE_0, Hooks, bare, edited, hook_point, resid_post
from tests import architectures, models
from tests.oracles import PAIRS, same_state, state_of

CPU = torch.device("cpu")
TOKENS = torch.tensor([[2, 9, 30, 41, 17, 60, 22, 8, 11, 14], [2, 33, 12, 54, 6, 7, 90, 100, 5, 4]])


def test_block_output_hooks_are_resid_post_for_every_layer(hooked):
    seen = {}
    edits = [
        (resid_post(layer), lambda h, layer=layer: seen.__setitem__(layer, h))
        for layer in range(models.N_LAYERS)
    ]
    with torch.no_grad():
        with edited(hooked, edits):
            hooked(TOKENS)
        _, cache = hooked.run_with_cache(TOKENS)
    for layer in range(models.N_LAYERS):
        assert torch.equal(seen[layer], cache["resid_post", layer])


def test_resid_post_is_the_block_output_that_hugging_face_reports(hooked, case):
    seen = {}
    edits = [
        (resid_post(layer), lambda h, layer=layer: seen.__setitem__(layer, h))
        for layer in range(models.N_LAYERS)
    ]
    reference = models.build_hf(case.architecture)
    streams = []
    layers = reference.transformer.h if case.architecture == "gpt2" else reference.model.layers
    for block in layers:
        block.register_forward_hook(
            lambda module, inputs, out: streams.append(out[0] if isinstance(out, tuple) else out)
        )
    with torch.no_grad(), edited(hooked, edits):
        hooked(TOKENS)
        reference(TOKENS)
    for layer, expected in enumerate(streams):
        torch.testing.assert_close(seen[layer], expected, rtol=1e-4, atol=1e-4)


def test_a_continued_prompt_gives_the_logits_of_the_whole_text_again_and_again(hooked, case):
    """Left-padded, against plain unpadded Hugging Face passes; twice, since a used cache is silently wrong."""
    reference = models.build_hf(case.architecture)
    lengths, new = (7, 5), 3
    prompts = left_padded(
        [row[:n].tolist() for row, n in zip(TOKENS, lengths, strict=True)], torch.device("cpu")
    )
    with torch.no_grad():
        first, prefix = prefill(hooked, prompts)
        assert first.shape[1] == 1
        for _ in range(2):
            more = extend(hooked, prefix, TOKENS[:, 7 : 7 + new])
            for row, n in enumerate(lengths):
                text = torch.cat([TOKENS[row, :n], TOKENS[row, 7 : 7 + new]])
                expected = reference(text[None]).logits[0, n - 1 :]
                torch.testing.assert_close(
                    torch.cat([first, more], dim=1)[row], expected, rtol=1e-4, atol=1e-4
                )


def test_a_hook_in_the_last_block_sees_every_position_of_a_prompt(hooked):
    """Where nobody looks, the last block's MLP runs at the prompt's last position alone."""
    seen = {}
    names = [resid_post(models.N_LAYERS - 1), f"blocks.{models.N_LAYERS - 1}.hook_mlp_out"]
    prompts = TokenBatch(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool))
    with torch.no_grad():
        plain, _ = prefill(hooked, prompts)
        with edited(hooked, [(n, lambda h, n=n: seen.__setitem__(n, h)) for n in names]):
            watched, _ = prefill(hooked, prompts)
        logits, cache = hooked.run_with_cache(TOKENS)
    torch.testing.assert_close(plain, logits[:, -1:])
    torch.testing.assert_close(watched, plain)
    for name in names:
        torch.testing.assert_close(seen[name], cache[name])


def test_gradients_flow_through_the_continued_prompt(hooked):
    """∂ logits behind the prompt / ∂ the prompt's embeddings equals that of one uncached pass."""
    prompt, answer = TOKENS[:1, :6], TOKENS[:1, 6:9]
    batch = TokenBatch(prompt, torch.ones_like(prompt, dtype=torch.bool))
    with torch.no_grad():
        _, cache = hooked.run_with_cache(prompt)
    stream = cache["blocks.0.hook_resid_pre"]
    results = []
    for cached in (True, False):
        leaf = stream.clone().requires_grad_(True)
        if cached:
            with edited(hooked, [(RESID_PRE_0, lambda h, leaf=leaf: leaf)]):
                _, prefix = prefill(hooked, batch)
            logits = extend(hooked, prefix, answer)
        else:
            edit = lambda h, leaf=leaf: torch.cat([leaf, h[:, 6:]], dim=1)  # noqa: E731
            with edited(hooked, [(RESID_PRE_0, edit)]):
                logits = hooked(torch.cat([prompt, answer], dim=1))[:, 6:]
        (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[..., 5].sum(), leaf)
        results.append(gradient)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_frozen_stops_weight_gradients_and_gives_the_users_flags_back(hooked):
    parameters = list(hooked.parameters())
    was = [parameter.requires_grad for parameter in parameters]
    parameters[0].requires_grad_(False)
    hooked.train()
    try:
        before = state_of(hooked)
        with pytest.raises(RuntimeError, match="on purpose"), frozen(hooked):
            assert not any(parameter.requires_grad for parameter in hooked.parameters())
            assert not any(module.training for module in hooked.modules())
            raise RuntimeError("on purpose")
        assert same_state(before, state_of(hooked))
    finally:
        hooked.eval()
        for parameter, flag in zip(parameters, was, strict=True):
            parameter.requires_grad_(flag)


def test_frozen_reaches_what_a_bridge_does_not_register(hooked):
    """Modes of the transformers model inside, whose embedding dropout (GPT-2) no bridge has in its own tree."""
    hooked.train()
    inner = getattr(hooked, "original_model", hooked)
    inner.train()
    one = next(m for m in inner.modules() if not list(m.children()))
    one.training = False  # the user's own, to come back as it was
    try:
        before = state_of(hooked)
        with frozen(hooked):
            assert not any(module.training for module in inner.modules())
            assert not any(parameter.requires_grad for parameter in inner.parameters())
        assert same_state(before, state_of(hooked))
    finally:
        hooked.eval()
        inner.eval()


@pytest.mark.parametrize("architecture", ["GPTJ", "GPTNeoX", "Phi"])
def test_a_model_in_train_mode_is_scored_and_recognised_as_in_eval_mode(architecture, tmp_path):
    """Dropout that the bridge has not wrapped stays off while a verb runs."""
    model = architectures.build_bridge(architecture, tmp_path)
    pairs = PAIRS[:2]
    dropouts = [m for m in model.original_model.modules() if isinstance(m, torch.nn.Dropout)]
    for dropout in dropouts:
        dropout.p = 0.3
    calm = gl.preference(model, pairs, progress=False).gaps
    vectors = gl.baselines.mean_difference(model, pairs, progress=False)
    model.train()
    assert any(dropout.training for dropout in dropouts)
    torch.testing.assert_close(gl.preference(model, pairs, progress=False).gaps, calm)
    gl.steering(model, vectors, strength=1.0)
    assert all(dropout.training for dropout in dropouts)


def test_an_unknown_hook_name_is_refused_before_any_hook_goes_on(hooked):
    before = state_of(hooked)
    edits = [(resid_post(0), lambda h: h), ("blocks.0.hook_resid_pots", lambda h: h)]
    with pytest.raises(
        ValueError, match=r"hook name='blocks\.0\.hook_resid_pots' is not known.*Did you mean"
    ):
        Hooks(hooked, edits).install()
    assert same_state(before, state_of(hooked))


def test_a_failure_half_way_through_installing_leaves_nothing_behind(hooked, monkeypatch):
    before = state_of(hooked)
    hooks = Hooks(hooked, [(resid_post(0), lambda h: h), (resid_post(1), lambda h: h)])
    point = hook_point(hooked, resid_post(1))

    def fail(hook):
        raise KeyboardInterrupt

    monkeypatch.setattr(point, "register_forward_hook", fail)
    with pytest.raises(KeyboardInterrupt):
        hooks.install()
    monkeypatch.undo()
    assert same_state(before, state_of(hooked))


def test_bare_leaves_everybodys_hooks_out_and_puts_them_back(hooked):
    hooked.add_hook("blocks.1.hook_resid_post", lambda h, hook: h * 0)
    try:
        with torch.no_grad():
            changed = hooked(TOKENS)
            with bare(hooked):
                plain = hooked(TOKENS)
            assert torch.equal(changed, hooked(TOKENS))
    finally:
        hooked.reset_hooks()
    with torch.no_grad():
        assert torch.equal(plain, hooked(TOKENS))
    assert not torch.equal(plain, changed)


def test_a_model_that_is_not_hooked_is_told_apart(case):
    with pytest.raises(ValueError, match=r"not a hooked model: pass a TransformerBridge"):
        hook_point(models.build_hf(case.architecture), "hook_embed")


def test_a_prefix_that_advances_gives_the_same_logits_and_leaves_the_first_one_alone(hooked):
    prompts = left_padded([row[:n].tolist() for row, n in zip(TOKENS, (7, 5), strict=True)], CPU)
    with torch.no_grad():
        _, start = prefill(hooked, prompts)
        expected = extend(hooked, start, TOKENS[:, 7:])
        for _ in range(2):
            prefix, seen = start, []
            for at in range(7, 10):
                logits, prefix = advance(hooked, prefix, TOKENS[:, at : at + 1])
                seen.append(logits)
            torch.testing.assert_close(torch.cat(seen, dim=1), expected, rtol=1e-4, atol=1e-4)
            assert prefix.mask.shape[1] == start.mask.shape[1] + 3
