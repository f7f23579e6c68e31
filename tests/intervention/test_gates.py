"""Gates: steered exactly where the condition holds, and a planted condition is found again."""

from dataclasses import dataclass

import pytest
import torch

import grains_lens as gl
from grains_lens.hosts.points import edited, resid_post
from grains_lens.intervention.gates import best_threshold
from tests import models
from tests.oracles import PAIRS, random_vectors, same_state, state_of

TOKENS = torch.tensor([[2, 9, 30, 41, 17, 60], [2, 33, 12, 54, 6, 7]])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vectors():
    return gl.SteeringVectors(
        directions=draw(models.N_LAYERS, models.D_MODEL, seed=7),
        layers=tuple(range(models.N_LAYERS)),
        residual_norm=torch.tensor([2.0, 3.0, 4.0]),
        provenance=gl.Provenance("random"),
    )


def streams(model, tokens=TOKENS):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    return [cache["resid_post", layer] for layer in range(models.N_LAYERS)]


def gate_at(model, layer, seed=3):
    """A gate that is open at about half of the positions."""
    direction = draw(models.D_MODEL, seed=seed)
    projections = streams(model)[layer] @ direction / direction.norm()
    return gl.ProjectionGate(direction, float(projections.median()), layer)


def test_a_layer_is_steered_where_the_gate_is_open_and_stays_bit_for_bit_elsewhere(hooked, vectors):
    gate = gate_at(hooked, 1)
    before = streams(hooked)[1]
    is_open = before @ gate.direction > gate.threshold
    assert 0 < is_open.sum() < is_open.numel()
    with gl.steering(hooked, vectors, strength=0.9, layers=[1]):
        steered = streams(hooked)[1]
    with gl.steering(hooked, vectors, strength=0.9, layers=[1], gate=gate):
        gated = streams(hooked)[1]
    assert torch.equal(gated[~is_open], before[~is_open])
    torch.testing.assert_close(gated[is_open], steered[is_open], rtol=1e-5, atol=1e-5)


def test_later_layers_follow_the_gates_decision(llama, vectors):
    gate = gate_at(llama, 0)
    is_open = streams(llama)[0] @ gate.direction > gate.threshold
    plain = {}
    with (
        torch.no_grad(),
        edited(llama, gl.capture_hooks(llama, [2], plain)),
        gl.steering(llama, vectors, strength=0.9, layers=[2], gate=gate),
    ):
        gated = streams(llama)[2]
    changed = (gated != plain[2]).any(dim=-1)
    assert torch.equal(changed, is_open)


@dataclass(frozen=True)
class Half:
    """Half open everywhere, at whatever layer is asked."""

    def __call__(self, h):
        return torch.full(h.shape[:2], 0.5)


@pytest.mark.parametrize("rule", [gl.add, gl.add_keeping_norm, gl.project_out, gl.rotate_toward])
def test_half_open_is_half_the_strength(llama, vectors, rule):
    with gl.steering(llama, vectors, strength=0.8, rule=rule, gate=Half()):
        gated = streams(llama)
    with gl.steering(llama, vectors, strength=0.4, rule=rule):
        half = streams(llama)
    torch.testing.assert_close(gated, half, rtol=1e-5, atol=1e-5)


def test_gated_text_is_the_same_with_and_without_a_cache_and_from_hook_lists(hooked, vectors):
    gate = gate_at(hooked, 0)
    settings = {"strength": 1.5, "gate": gate, "layers": [0, 1, 2]}
    greedy = {"max_new_tokens": 5, "do_sample": False, "verbose": False, "stop_at_eos": False}
    texts = []
    for cached in (True, False):
        with gl.steering(hooked, vectors, **settings):
            texts.append(
                hooked.generate(TOKENS[:1], use_past_kv_cache=cached, return_type="tokens", **greedy)
            )
    naive = TOKENS[:1]
    for _ in range(5):
        with torch.no_grad():
            hooks = gl.steering_hooks(hooked, vectors, **settings)
            logits = hooked.run_with_hooks(naive, fwd_hooks=hooks)
        naive = torch.cat([naive, logits[:, -1:].argmax(dim=-1)], dim=-1)
    assert torch.equal(texts[0], naive)
    assert torch.equal(texts[1], naive)


def test_a_gate_and_positions_must_both_agree(llama, vectors):
    gate = gate_at(llama, 0)
    before = streams(llama)[0]
    is_open = (before @ gate.direction > gate.threshold) & (torch.arange(6) < 3)
    with gl.steering(llama, vectors, strength=0.9, layers=[0], gate=gate, positions=(0, 1, 2)):
        changed = (streams(llama)[0] != before).any(dim=-1)
    assert torch.equal(changed, is_open)


def test_a_gate_leaves_the_model_as_it_was(hooked, vectors):
    before = state_of(hooked)
    gate = gl.fit_gate(hooked, PAIRS)
    with gl.steering(hooked, vectors.at(2), strength=1.0, gate=gl.ProjectionGate(gate.direction, 0.0, 2)):
        streams(hooked)
    assert same_state(before, state_of(hooked))


# --- fitting -------------------------------------------------------------------------------------


def test_a_planted_condition_is_found_again(hooked):
    """Prompts about tea are moved along a direction at layer 1, the others are not: the gate finds it."""
    planted = draw(models.D_MODEL, seed=5)
    tea = hooked.tokenizer("tea", add_special_tokens=False)["input_ids"][0]
    about_tea = [gl.PreferencePair(f"{p.prompt} tea", p.chosen, p.rejected) for p in PAIRS]
    others = [f"{pair.prompt} milk" for pair in PAIRS]
    tokens = {}

    def see(this_tokens):
        tokens["mask"] = this_tokens

    embed = hooked.hook_dict["hook_embed"]
    embedding = embed_of(hooked, tea)
    handle = embed.register_forward_hook(
        lambda m, i, out: see(torch.isclose(out, embedding, atol=1e-5).all(dim=-1))
    )
    plant = [(resid_post(1), lambda h: h + 50 * tokens["mask"][..., None] * planted)]
    try:
        with edited(hooked, plant):
            gate = gl.fit_gate(hooked, about_tea, against=others, layer=1)
    finally:
        handle.remove()
    assert gate.balanced_accuracy == 1.0
    assert float(gate.direction @ planted / planted.norm()) > 0.99
    assert 0 < gate.threshold < 50 * float(planted.norm())


def embed_of(model, token):
    into = []
    handle = model.hook_dict["hook_embed"].register_forward_hook(lambda m, i, out: into.append(out[0, 0]))
    try:
        with torch.no_grad():
            model(torch.tensor([[token]]))
    finally:
        handle.remove()
    return into[0]


def test_a_fitted_gate_tells_the_answers_apart_it_was_fitted_on(llama):
    gate = gl.fit_gate(llama, PAIRS)
    assert 0.5 <= gate.balanced_accuracy <= 1
    assert gate.layer in range(models.N_LAYERS)
    assert float(gate.direction.norm()) == pytest.approx(1.0)
    others = [gl.fit_gate(llama, PAIRS, layer=layer).balanced_accuracy for layer in range(models.N_LAYERS)]
    assert gate.balanced_accuracy == max(others)


@pytest.mark.parametrize(
    ("opens", "closed", "threshold", "accuracy"),
    [
        ([3.0, 4.0], [0.0, 1.0], 2.0, 1.0),
        ([1.0, 4.0], [0.0, 2.0], 3.0, 0.75),
        ([1.0], [1.0], 1.0, 0.5),
        ([0.0, 10.0, 11.0], [0.5, 1.0], 5.5, 5 / 6),
    ],
)
def test_thresholds_by_hand(opens, closed, threshold, accuracy):
    assert best_threshold(torch.tensor(opens), torch.tensor(closed)) == pytest.approx((threshold, accuracy))


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (lambda h: h.sum(dim=-1) * 0 + 2, r"numbers from 0 to 1 of shape .* from 2 to 2"),
        (lambda h: torch.ones(len(h)), r"it gave shape \(2,\)"),
    ],
)
def test_a_gate_that_is_none_is_refused(llama, vectors, gate, message):
    with gl.steering(llama, vectors, strength=1.0, gate=gate), pytest.raises(ValueError, match=message):
        streams(llama)


def test_layers_in_front_of_the_gate_are_refused(llama, vectors):
    gate = gl.ProjectionGate(draw(models.D_MODEL), 0.0, 1)
    with pytest.raises(ValueError, match="gate reads the stream after layer 1, when layer 0 has been run"):
        gl.steering(llama, vectors, strength=1.0, gate=gate)


def test_bad_fits_get_one_clear_sentence(llama):
    with pytest.raises(ValueError, match="direction must be finite and not all zeros"):
        gl.ProjectionGate(torch.zeros(4), 0.0, 1)
    with pytest.raises(ValueError, match=r"against=\[\] holds no prompts"):
        gl.fit_gate(llama, PAIRS, against=[])
    with pytest.raises(ValueError, match="the same on both sets"):
        gl.fit_gate(llama, PAIRS, against=[pair.prompt for pair in PAIRS])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_opens_by_its_directions_sense_whatever_its_length(dtype):
    h = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    direction = torch.randn(6, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = gl.ProjectionGate(direction, 0.1, 0)(h)
    assert 0 < expected.sum() < expected.numel()
    for length in (1e30, 1e-30):
        assert torch.equal(gl.ProjectionGate(direction.float() * length, 0.1, 0)(h), expected)


def test_a_gate_that_cannot_tell_is_not_closed(llama):
    """NaN is above no threshold, and below none."""
    with pytest.raises(ValueError, match="threshold is NaN"):
        gl.ProjectionGate(torch.ones(4), float("nan"), 0)
    gate = gl.ProjectionGate(torch.ones(models.D_MODEL), 0.0, 1)
    broken = edited(llama, [(resid_post(0), lambda h: h * torch.nan)])
    steered = gl.steering(llama, random_vectors(1), strength=1.0, layers=[2], gate=gate)
    with broken, steered, pytest.raises(ValueError, match=r"gate must give numbers from 0 to 1.*nan"):
        llama(torch.tensor([[2, 9, 30]]))
