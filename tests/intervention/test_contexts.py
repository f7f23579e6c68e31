"""Steering: exactly the rule, exactly where, and nothing left behind."""

import copy
import threading

import pytest
import torch

import grains_lens as gl
from grains_lens.intervention.edits import unit_vectors
from tests import models
from tests.oracles import PAIRS, random_vectors, same_state, state_of

TOKENS = torch.tensor([[2, 9, 30, 41, 17, 60], [2, 33, 12, 54, 6, 7]])


@pytest.fixture(scope="module")
def vectors():
    return random_vectors(7)


def streams(model, tokens=TOKENS):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    return [cache["resid_post", layer] for layer in range(models.N_LAYERS)]


def logits(model, tokens=TOKENS):
    with torch.no_grad():
        return model(tokens)


@pytest.mark.parametrize("unit", ["residual", "absolute", "raw"])
def test_one_layer_gets_exactly_the_rule(hooked, vectors, unit):
    added = {
        "raw": vectors[1],
        "absolute": vectors[1] / vectors[1].norm(),
        "residual": 3.0 * vectors[1] / vectors[1].norm(),
    }[unit]
    before = streams(hooked)[1]
    with gl.steering(hooked, vectors, strength=0.7, layers=[1], unit=unit):
        after = streams(hooked)[1]
    moved = before + 0.7 * added
    expected = moved * before.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)


def test_plain_addition_adds(hooked, vectors):
    before = streams(hooked)[0]
    with gl.steering(hooked, vectors, strength=2.0, layers=[0], rule=gl.add, unit="raw"):
        torch.testing.assert_close(streams(hooked)[0], before + 2 * vectors[0])


def test_a_users_own_rule_is_taken(hooked, vectors):
    with gl.steering(hooked, vectors, strength=1.0, layers=[0], rule=lambda h, v: 0 * h + v, unit="raw"):
        steered = streams(hooked)[0]
    torch.testing.assert_close(steered, vectors[0].expand_as(steered))


def test_norms_are_kept_at_every_layer_and_position(hooked, vectors):
    """Each layer's output has the length it had before its own steering: seen by a hook in front of ours."""
    lengths = {}
    points = [hooked.hook_dict[f"blocks.{layer}.hook_resid_post"] for layer in range(models.N_LAYERS)]
    handles = [
        point.register_forward_hook(lambda m, i, h, layer=layer: lengths.__setitem__(layer, h.norm(dim=-1)))
        for layer, point in enumerate(points)
    ]
    try:
        with gl.steering(hooked, vectors, strength=1.5):
            for layer, steered in enumerate(streams(hooked)):
                torch.testing.assert_close(steered.norm(dim=-1), lengths[layer], rtol=1e-5, atol=1e-5)
    finally:
        for handle in handles:
            handle.remove()


def test_strength_zero_is_the_identity_bit_for_bit(hooked, vectors):
    plain = logits(hooked)
    zeros = (0.0, [0.0] * models.N_LAYERS, torch.zeros(2, 1), torch.zeros(2, models.N_LAYERS))
    for strength in zeros:
        with gl.steering(hooked, vectors, strength=strength):
            assert torch.equal(logits(hooked), plain)


def test_layers_below_the_steered_one_are_untouched(hooked, vectors):
    before = streams(hooked)
    with gl.steering(hooked, vectors, strength=1.0, layers=[1]):
        after = streams(hooked)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-3)
    assert not torch.allclose(before[2], after[2], atol=1e-3)


def test_strengths_a_layer_equal_nested_single_layers(hooked, vectors):
    with gl.steering(hooked, vectors, strength=[0.5, 0.0, -1.0]):
        together = logits(hooked)
    with (
        gl.steering(hooked, vectors, strength=0.5, layers=[0]),
        gl.steering(hooked, vectors, strength=-1.0, layers=[2]),
    ):
        assert torch.equal(logits(hooked), together)


@pytest.mark.parametrize("columns", [1, models.N_LAYERS])
def test_each_batch_row_can_have_a_strength_of_its_own(hooked, vectors, columns):
    strength = torch.tensor([[0.0], [0.8]]).expand(2, columns)
    plain = logits(hooked)
    with gl.steering(hooked, vectors, strength=0.8):
        steered = logits(hooked)
    with gl.steering(hooked, vectors, strength=strength):
        rows = logits(hooked)
    assert torch.equal(rows[0], plain[0])
    torch.testing.assert_close(rows[1], steered[1], rtol=1e-5, atol=1e-5)


def test_the_sum_of_vectors_equals_nesting_where_the_rule_is_linear(hooked, vectors):
    other = gl.SteeringVectors(
        vectors.directions.flip(0), vectors.layers, vectors.residual_norm, vectors.provenance
    )
    settings = {"rule": gl.add, "unit": "raw"}
    with gl.steering(hooked, vectors + other, strength=0.5, **settings):
        together = logits(hooked)
    with (
        gl.steering(hooked, vectors, strength=0.5, **settings),
        gl.steering(hooked, other, strength=0.5, **settings),
    ):
        torch.testing.assert_close(logits(hooked), together, rtol=1e-4, atol=1e-4)


def test_hook_lists_do_what_the_context_does(hooked, vectors):
    with gl.steering(hooked, vectors, strength=0.6):
        steered = logits(hooked)
    hooks = gl.steering_hooks(hooked, vectors, strength=0.6)
    with torch.no_grad():
        assert torch.equal(hooked.run_with_hooks(TOKENS, fwd_hooks=hooks), steered)
        with hooked.hooks(fwd_hooks=hooks):
            assert torch.equal(hooked(TOKENS), steered)


def test_capture_hooks_read_what_run_with_cache_reads(hooked, vectors):
    into = {}
    with gl.steering(hooked, vectors, strength=0.6):
        expected = streams(hooked)
        with torch.no_grad():
            hooked.run_with_hooks(TOKENS, fwd_hooks=gl.capture_hooks(hooked, [0, 2], into))
    assert sorted(into) == [0, 2]
    for layer, stream in into.items():
        assert torch.equal(stream, expected[layer])


# --- decoding ------------------------------------------------------------------------------------


def test_generation_is_steered_alike_with_and_without_a_cache(hooked, vectors):
    texts = {}
    with gl.steering(hooked, vectors, strength=0.5):
        for cached in (True, False):
            texts[cached] = hooked.generate(
                TOKENS[:1],
                max_new_tokens=6,
                do_sample=False,
                use_past_kv_cache=cached,
                verbose=False,
                stop_at_eos=False,
                return_type="tokens",
            )
        naive = TOKENS[:1]
        for _ in range(6):
            naive = torch.cat([naive, logits(hooked, naive)[:, -1:].argmax(dim=-1)], dim=-1)
    assert torch.equal(texts[True], texts[False])
    assert torch.equal(texts[True], naive)


def test_norms_are_kept_while_decoding_one_token_at_a_time(hooked, vectors):
    """The released code normalises over positions, which at one-token steps leaves only signs."""
    ratios, lengths = [], []
    point = hooked.hook_dict["blocks.1.hook_resid_post"]
    before = point.register_forward_hook(lambda m, i, h: lengths.append(h.norm(dim=-1)))
    try:
        with gl.steering(hooked, vectors, strength=1.0, layers=[1]):
            after = point.register_forward_hook(lambda m, i, h: ratios.append(h.norm(dim=-1) / lengths[-1]))
            try:
                hooked.generate(
                    TOKENS[:1],
                    max_new_tokens=5,
                    do_sample=False,
                    verbose=False,
                    stop_at_eos=False,
                    return_type="tokens",
                )
            finally:
                after.remove()
    finally:
        before.remove()
    assert [ratio.shape[-1] for ratio in ratios] == [6, 1, 1, 1, 1]
    for ratio in ratios:
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=1e-5, atol=1e-5)


def test_bfloat16_streams_keep_their_dtype_and_their_norms(case, tmp_path, vectors):
    model = models.build(case, tmp_path).to(torch.bfloat16)
    lengths = []
    point = model.hook_dict["blocks.1.hook_resid_post"]
    with torch.no_grad():
        point.register_forward_hook(lambda m, i, h: lengths.append(h.float().norm(dim=-1)))
        with gl.steering(model, vectors, strength=1.0, layers=[1]):
            point.register_forward_hook(lambda m, i, h: lengths.append(h.float().norm(dim=-1)))
            assert model(TOKENS).dtype == torch.bfloat16
    torch.testing.assert_close(lengths[1], lengths[0], rtol=2**-7, atol=0)


# --- safety --------------------------------------------------------------------------------------


def test_a_context_leaves_the_model_bit_for_bit_as_it_was(hooked, vectors):
    plain, before = logits(hooked), state_of(hooked)
    with gl.steering(hooked, vectors, strength=1.0) as model:
        assert model is hooked
        assert not torch.equal(logits(hooked), plain)
    assert same_state(before, state_of(hooked))
    assert torch.equal(logits(hooked), plain)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_so_does_a_failure_inside_nested_contexts(hooked, vectors, interruption):
    plain, before = logits(hooked), state_of(hooked)
    with (
        pytest.raises(interruption),
        gl.steering(hooked, vectors, strength=1.0),
        gl.steering(hooked, vectors, strength=-0.3),
    ):
        raise interruption
    assert same_state(before, state_of(hooked))
    assert torch.equal(logits(hooked), plain)


def test_a_failing_rule_leaves_the_model_as_it_was(hooked, vectors):
    def fails(h, v):
        raise KeyboardInterrupt

    before = state_of(hooked)
    with pytest.raises(KeyboardInterrupt), gl.steering(hooked, vectors, strength=1.0, rule=fails):
        logits(hooked)
    assert same_state(before, state_of(hooked))


def test_the_users_own_hooks_at_the_same_point_survive(hooked, vectors):
    seen = []
    hooked.add_hook("blocks.1.hook_resid_post", lambda h, hook: seen.append(1))
    try:
        with gl.steering(hooked, vectors, strength=1.0):
            logits(hooked)
        logits(hooked)
        assert len(seen) == 2
    finally:
        hooked.reset_hooks()


def test_steering_survives_transformer_lens_contexts_inside_it(hooked, vectors):
    """3.9's bridge strips every hook of a point when one of its own contexts at it ends."""
    with gl.steering(hooked, vectors, strength=1.0):
        steered = logits(hooked)
        with hooked.hooks(fwd_hooks=[("blocks.1.hook_resid_post", lambda h, hook: None)]):
            pass
        hooked.run_with_cache(TOKENS)
        assert torch.equal(logits(hooked), steered)


def test_contexts_may_end_in_any_order(hooked, vectors):
    plain, before = logits(hooked), state_of(hooked)
    one = gl.steering(hooked, vectors, strength=1.0).install()
    with gl.steering(hooked, vectors, strength=0.4, layers=[0]):
        only_inner = logits(hooked)
        one.remove()
        assert not torch.equal(logits(hooked), only_inner)
    assert torch.equal(logits(hooked), plain)
    assert same_state(before, state_of(hooked))


def test_install_and_remove_serve_notebooks(hooked, vectors):
    plain = logits(hooked)
    steered = gl.steering(hooked, vectors, strength=1.0)
    assert repr(steered).startswith("Steering(off: layers 0, 1, 2 at strength 1 (")
    assert torch.equal(logits(hooked), plain)
    assert steered.install() is steered
    once = logits(hooked)
    steered.install()
    assert torch.equal(logits(hooked), once)
    assert not torch.equal(once, plain)
    with pytest.raises(RuntimeError, match="already on"), steered:
        pass
    steered.remove()
    steered.remove()
    assert torch.equal(logits(hooked), plain)


def test_evaluation_inside_a_context_is_steered(hooked, vectors):
    base = gl.preference(hooked, PAIRS, progress=False)
    with gl.steering(hooked, vectors, strength=1.0):
        steered = gl.preference(hooked, PAIRS, progress=False)
    assert not torch.allclose(base.gaps, steered.gaps, atol=1e-3)
    torch.testing.assert_close(gl.preference(hooked, PAIRS, progress=False).gaps, base.gaps)


def test_two_threads_may_run_one_steered_model(llama, vectors):
    with gl.steering(llama, vectors, strength=1.0):
        expected = logits(llama)
        results = []
        threads = [threading.Thread(target=lambda: results.append(logits(llama))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 2
    for result in results:
        torch.testing.assert_close(result, expected)


def test_a_failure_half_way_through_switching_on_leaves_nothing(hooked, vectors, monkeypatch):
    before = state_of(hooked)
    last = hooked.hook_dict["blocks.2.hook_resid_post"]
    steered = gl.steering(hooked, vectors, strength=1.0, positions="new")

    def fails(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(last, "register_forward_hook", fails)
        with pytest.raises(KeyboardInterrupt):
            steered.install()
    assert same_state(before, state_of(hooked))
    refused = []

    def steer():
        try:
            with steered:
                pass
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=steer)
    thread.start()
    thread.join()
    assert not refused


def test_a_second_thread_that_would_steer_is_refused_and_may_later(llama, vectors):
    refused, steered = [], []

    def steer():
        try:
            with gl.steering(llama, vectors, strength=1.0):
                steered.append(logits(llama))
        except RuntimeError as error:
            refused.append(str(error))

    def in_a_thread():
        thread = threading.Thread(target=steer)
        thread.start()
        thread.join()

    plain = logits(llama)
    with gl.steering(llama, vectors, strength=1.0), gl.steering(llama, vectors, strength=-1.0):
        here = logits(llama)
        in_a_thread()
        assert torch.equal(logits(llama), here)
    assert ["another thread is steering this model" in message for message in refused] == [True]
    in_a_thread()
    assert len(steered) == 1
    assert len(refused) == 1
    assert torch.equal(logits(llama), plain)


def test_threads_that_run_one_steered_model_count_their_own_positions(llama, vectors):
    """Each decodes a prompt of its own, the passes of the two taking turns."""
    prompts = [TOKENS[:1], TOKENS[1:, :4]]
    turns, texts, failures = threading.Barrier(2, timeout=60), {}, []

    def write(which, wait):
        tokens = prompts[which]
        for _ in range(4):
            wait()
            tokens = torch.cat([tokens, logits(llama, tokens)[:, -1:].argmax(dim=-1)], dim=-1)
        return tokens

    def run(which):
        try:
            texts[which] = write(which, turns.wait)
        except BaseException as error:
            failures.append(error)
            turns.abort()

    with gl.steering(llama, vectors, strength=1.5, positions="new"):
        expected = [write(which, lambda: None) for which in range(2)]
    with gl.steering(llama, vectors, strength=1.5, positions="new"):
        threads = [threading.Thread(target=run, args=(which,)) for which in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    for which in range(2):
        assert torch.equal(texts[which], expected[which])


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": float("nan")}, r"strength=nan must be finite"),
        ({"strength": [1.0, 2.0]}, r"strength has shape \(2,\); a number, one per layer \(\[3\]\)"),
        ({"strength": 1.0, "layers": [3]}, r"layers=\[3\]: layer 3 is not there; available are 0 to 2"),
        ({"strength": 1.0, "unit": "relative"}, r"unit='relative' is not known; known are 'residual'"),
    ],
    ids=["nan", "shape", "layers", "unit"],
)
def test_bad_settings_get_one_clear_sentence(llama, vectors, settings, message):
    with pytest.raises(ValueError, match=message):
        gl.steering(llama, vectors, **settings)


def test_a_batch_of_other_size_than_the_row_strengths_is_refused(llama, vectors):
    with (
        gl.steering(llama, vectors, strength=torch.ones(3, 1)),
        pytest.raises(ValueError, match="strength has 3 rows and the batch 2"),
    ):
        logits(llama)


def test_unit_vectors_have_the_lengths_their_units_promise(vectors):
    torch.testing.assert_close(unit_vectors(vectors, "residual").norm(dim=-1), vectors.residual_norm)
    torch.testing.assert_close(unit_vectors(vectors, "absolute").norm(dim=-1), torch.ones(3))
    assert torch.equal(unit_vectors(vectors, "raw"), vectors.directions)


# --- which layer gets which strength -------------------------------------------------------------


@pytest.mark.parametrize(
    "strength", [[0.9, 0.3], torch.tensor([[0.9, 0.3], [0.0, 0.6]])], ids=["layer", "row"]
)
def test_each_layer_gets_the_strength_that_stands_where_it_stands(hooked, vectors, strength):
    turned = torch.as_tensor(strength).flip(-1)
    with gl.steering(hooked, vectors, strength=turned, layers=[0, 2]):
        expected = logits(hooked)
    with gl.steering(hooked, vectors, strength=strength, layers=[2, 0]):
        assert torch.equal(logits(hooked), expected)
    hooks = gl.steering_hooks(hooked, vectors, strength=strength, layers=[2, 0])
    with torch.no_grad():
        assert torch.equal(hooked.run_with_hooks(TOKENS, fwd_hooks=hooks), expected)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([2, 0, 2], r"layers=\[2, 0, 2\] names layer 2 twice"),
        ({2, 0}, r"layers=\{0, 2\} has no order"),
        ([0.5], r"layers=\[0.5\]: 0.5 is not a whole number"),
    ],
    ids=["twice", "set", "fraction"],
)
def test_layers_that_strengths_cannot_go_with_are_refused(llama, vectors, layers, message):
    with pytest.raises(ValueError, match=message):
        gl.steering(llama, vectors, strength=[0.9, 0.3], layers=layers)


# --- numbers that are too large ------------------------------------------------------------------


@pytest.mark.parametrize("length", [1e30, 1e-30])
@pytest.mark.parametrize("unit", ["residual", "absolute"])
def test_a_directions_length_does_not_count(llama, vectors, unit, length):
    """The squares of such numbers are infinite or 0 in float32."""
    scaled = vectors * length
    with gl.steering(llama, vectors, strength=0.7, unit=unit):
        expected = logits(llama)
    with gl.steering(llama, scaled, strength=0.7, unit=unit):
        torch.testing.assert_close(logits(llama), expected, rtol=1e-4, atol=1e-4)
    assert scaled.norms().tolist() == pytest.approx((vectors.norms() * length).tolist())
    torch.testing.assert_close(scaled.cosine(vectors), torch.ones(models.N_LAYERS))
    torch.testing.assert_close(scaled.unit().norms(), torch.ones(models.N_LAYERS))


@pytest.mark.parametrize(
    ("strength", "factor", "unit"),
    [(1.0, 1e30, "raw"), (1e20, 1.0, "residual"), ([0.0, -1e20, 1.0], 1.0, "absolute")],
)
def test_vectors_too_long_to_compute_with_are_refused(llama, vectors, strength, factor, unit):
    with pytest.raises(ValueError, match=r"strength=.* at layer \d adds a vector of length .*e\+"):
        gl.steering(llama, vectors * factor, strength=strength, unit=unit)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_steering_that_overflows_says_at_which_layer(case, tmp_path, vectors, dtype):
    model = models.build(case, tmp_path).to(dtype)
    long = vectors * 1e17
    settings = {
        "strength": 1.0,
        "layers": [1],
        "rule": lambda h, v: (h + v) * 1e30 * h.abs().max(),
        "unit": "raw",
    }
    if dtype == torch.float16:
        settings |= {"strength": 1e5, "unit": "residual", "rule": gl.add}
    with gl.steering(model, long, **settings):
        with pytest.raises(ValueError, match=rf"steering at layer 1 .* NaN or infinite in {str(dtype)[6:]}"):
            model(TOKENS)
        with pytest.raises(ValueError, match=r"pair \d: steering at layer 1"):
            gl.preference(model, PAIRS, progress=False)
        with pytest.raises(ValueError, match="steering at layer 1"):
            model.generate(TOKENS[:1], max_new_tokens=2, verbose=False, return_type="tokens")


def test_a_residual_norm_of_zero_is_no_unit(llama, vectors):
    short = gl.SteeringVectors(
        vectors.directions, vectors.layers, torch.tensor([1.0, 0.0, 1.0]), vectors.provenance
    )
    with pytest.raises(ValueError, match="residual_norm is 0 at row 1"):
        gl.steering(llama, short, strength=1.0)
    gl.steering(llama, short, strength=1.0, unit="raw")


def test_a_deep_copy_made_under_steering_is_not_steered(hooked, vectors):
    before = logits(hooked)
    for positions in ("all", "new", "last"):
        with gl.steering(hooked, vectors, strength=1.0, positions=positions):
            copied = copy.deepcopy(hooked)
            steered = logits(hooked)
            torch.testing.assert_close(logits(copied), before)
        if positions == "all":
            assert not torch.allclose(steered, before, atol=0.1)
        torch.testing.assert_close(logits(copied), before)
        with gl.steering(copied, vectors, strength=1.0, positions=positions):
            torch.testing.assert_close(logits(copied), steered)


class Stop(StopIteration):
    """A user's own exception, of the kind that generators swallow."""


def test_a_rules_own_exception_comes_out_as_it_is(llama, vectors):
    def rule(h, v):
        raise Stop("mine")

    for method in (gl.GradientTimesInput(), gl.IntegratedGradients(steps=2), gl.Occlusion()):
        with pytest.raises(Stop, match="mine"), gl.steering(llama, vectors, strength=1.0, rule=rule):
            gl.attribute(llama, PAIRS[:1], method=method, progress=False)
