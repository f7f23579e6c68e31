"""Steering rules: the length is kept, position by position, and the direction is that of the sum."""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import pytest
import torch

import grains_lens as gl
from grains_lens.intervention.edits import unit_for
from grains_lens.intervention.rules import add, add_keeping_norm, project_out, rotate_toward
from grains_lens.vectors.identity import describe

RULES = [add, add_keeping_norm, project_out, rotate_toward]

norm = torch.linalg.vector_norm


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_dimensions_by_hand():
    # (3, 4) + (5, 2) = (8, 6), of length 10, brought to length 5.
    h, v = torch.tensor([3.0, 4.0]), torch.tensor([5.0, 2.0])
    torch.testing.assert_close(add(h, v), torch.tensor([8.0, 6.0]))
    torch.testing.assert_close(add_keeping_norm(h, v), torch.tensor([4.0, 3.0]))
    # A vector at a right angle, as long as h is: h turns by 45 degrees.
    turned = add_keeping_norm(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(turned, torch.tensor([math.sqrt(2), math.sqrt(2)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0, -3.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_length_of_every_position_is_kept(dtype, strength, scale):
    # Positions of very different length, as attention sinks are; converted, as steering does.
    h = (scale * draw(3, 5, 16) * torch.tensor([0.1, 1.0, 1.0, 10.0, 1.0])[:, None]).to(dtype)
    h = h.nan_to_num(posinf=6e4, neginf=-6e4).float()
    v = (strength * draw(16, seed=1)).to(dtype).float()
    torch.testing.assert_close(norm(add_keeping_norm(h, v), dim=-1), norm(h, dim=-1), rtol=1e-5, atol=0)


def test_the_direction_is_that_of_the_sum():
    h, v = draw(4, 7, 16), draw(16, seed=1)
    cosine = torch.cosine_similarity(add_keeping_norm(h, v), h + v, dim=-1)
    torch.testing.assert_close(cosine, torch.ones(4, 7), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_strength_0_is_the_identity_bit_for_bit(rule):
    h = torch.cat([draw(2, 5, 16), 1e4 * draw(2, 5, 16, seed=2), torch.zeros(2, 5, 16)])
    assert torch.equal(rule(h, 0.0 * draw(16, seed=1)), h)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(16,), (1, 1, 16), (3, 1, 16), (1, 5, 16), (3, 5, 16)])
def test_vectors_broadcast_over_rows_and_positions(rule, shape):
    h, v = draw(3, 5, 16), draw(*shape, seed=1)
    together = rule(h, v)
    everywhere = v.expand(3, 5, 16)
    for row in range(3):
        for position in range(5):
            alone = rule(h[row, position], everywhere[row, position])
            torch.testing.assert_close(together[row, position], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_one_position_at_a_time_is_as_all_at_once(rule):
    h, v = draw(3, 5, 16), draw(16, seed=1)
    one_by_one = torch.cat([rule(h[:, [position]], v) for position in range(5)], dim=1)
    torch.testing.assert_close(one_by_one, rule(h, v), rtol=1e-6, atol=1e-6)


def test_a_turn_of_the_axes_turns_the_result():
    h, v = draw(3, 5, 16).double(), draw(16, seed=1).double()
    turn = torch.linalg.qr(draw(16, 16, seed=2).double()).Q
    torch.testing.assert_close(add_keeping_norm(h @ turn, v @ turn), add_keeping_norm(h, v) @ turn)


def test_where_the_sum_vanishes_h_stays():
    h = draw(2, 4, 16)
    v = torch.zeros(2, 4, 16)
    v[0, 1] = -h[0, 1]
    steered = add_keeping_norm(h, v)
    assert torch.equal(steered[0, 1], h[0, 1])
    assert torch.equal(add_keeping_norm(torch.zeros(3), torch.zeros(3)), torch.zeros(3))


def test_gradients_stay_finite_where_the_sum_vanishes():
    h = draw(3, 16).requires_grad_()
    v = torch.stack([-h.detach()[0], torch.zeros(16), draw(16, seed=1)]).requires_grad_()
    (add_keeping_norm(h, v) * draw(3, 16, seed=2)).sum().backward()
    assert h.grad is not None
    assert v.grad is not None
    assert torch.isfinite(h.grad).all()
    assert torch.isfinite(v.grad).all()


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_changed_in_place(rule):
    h, v = draw(3, 5, 16), draw(16, seed=1)
    before = h.clone(), v.clone()
    rule(h, v).zero_()
    assert torch.equal(h, before[0])
    assert torch.equal(v, before[1])


# --- directional ablation ------------------------------------------------------------------------


def test_projecting_out_removes_the_component_and_nothing_else():
    h, v = draw(3, 5, 16), draw(16, seed=1)
    axis = v / v.norm()
    for share in (0.5, 1.0, 2.0):
        changed = project_out(h, share * axis)
        torch.testing.assert_close(changed @ axis, (1 - share) * (h @ axis), rtol=1e-5, atol=1e-5)
        rest = h - (h @ axis)[..., None] * axis
        torch.testing.assert_close(changed - (changed @ axis)[..., None] * axis, rest, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(project_out(h, -share * axis), changed)


def test_projecting_out_twice_is_once_and_mirroring_twice_is_nothing():
    h, axis = draw(3, 5, 16), draw(16, seed=1)
    axis = axis / axis.norm()
    once = project_out(h, axis)
    torch.testing.assert_close(project_out(once, axis), once, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(project_out(project_out(h, 2 * axis), 2 * axis), h, rtol=1e-5, atol=1e-5)


def test_projecting_out_by_hand():
    torch.testing.assert_close(
        project_out(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0])), torch.tensor([3.0, 0.0])
    )


# --- turning -------------------------------------------------------------------------------------


def angle_between(a, b):
    # Kahan: exact for small and for nearly flat angles, where arccos is not.
    a, b = a.double(), b.double()
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def test_turning_by_hand():
    quarter = torch.tensor([0.0, 7.0]) / 7.0 * (math.pi / 4)
    turned = rotate_toward(torch.tensor([2.0, 0.0]), quarter)
    torch.testing.assert_close(turned, torch.tensor([math.sqrt(2), math.sqrt(2)]))


@pytest.mark.parametrize("theta", [1e-4, 0.1, 1.0, -0.7, 3.0])
def test_h_turns_by_the_angle_towards_v_and_keeps_its_length(theta):
    h, v = 10 * draw(3, 5, 16), draw(16, seed=1)
    v = v / v.norm()
    turned = rotate_toward(h, theta * v)
    target = math.copysign(1.0, theta) * v
    before = angle_between(h, target)
    turn = torch.minimum(before, torch.tensor(abs(theta)).double())
    torch.testing.assert_close(norm(turned, dim=-1), norm(h, dim=-1), rtol=1e-5, atol=0)
    torch.testing.assert_close(angle_between(turned, h), turn, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(angle_between(turned, target), before - turn, rtol=1e-3, atol=1e-5)


def test_no_turn_goes_past_v():
    h, v = draw(3, 5, 16), draw(16, seed=1)
    turned = rotate_toward(h, 100 * v)
    torch.testing.assert_close(turned, norm(h, dim=-1, keepdim=True) * v / v.norm(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("tilt", [0.0, 1e-8, 1e-6, 1e-4])
@pytest.mark.parametrize("sign", [1, -1])
def test_nearly_parallel_and_opposite_vectors_stay_finite_and_keep_the_length(scale, tilt, sign):
    h = scale * draw(64, 16)
    v = sign * h / h.norm(dim=-1, keepdim=True) + tilt * draw(64, 16, seed=1)
    h.requires_grad_()
    turned = rotate_toward(h, v)
    torch.testing.assert_close(norm(turned, dim=-1), norm(h, dim=-1), rtol=1e-5, atol=0)
    if sign == 1:
        torch.testing.assert_close(turned, h, rtol=0, atol=5 * max(tilt, 1e-6) * 10 * scale)
    elif tilt == 0:
        assert torch.equal(turned, h)
    (gradient,) = torch.autograd.grad((turned * draw(64, 16, seed=2)).sum(), h)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("rule", [project_out, rotate_toward])
def test_zeros_stay(rule):
    h = draw(4, 16)
    assert torch.equal(rule(h, torch.zeros(16)), h)
    assert torch.equal(rule(torch.zeros(4, 16), draw(16)), torch.zeros(4, 16))


# --- rules of a direction ------------------------------------------------------------------------


def doubled(h, v):
    """Add it twice."""
    return h + 2 * v


class Mirror:
    """A rule that is no function."""

    def __call__(self, h, v):
        return h - v


@gl.of_direction
def decorated(h, v):
    """Take it away."""
    return h - v


@pytest.mark.parametrize("unit", ["residual", "raw", "absolute"])
def test_a_marked_rule_is_given_a_direction_of_length_one_in_every_unit(unit):
    assert unit_for(gl.of_direction(doubled), unit) == unit_for(project_out, unit) == "absolute"
    assert unit_for(gl.of_direction(Mirror()), unit) == "absolute"
    assert unit_for(doubled, unit) == unit_for(add, unit) == unit  # marking leaves the rule itself alone


@pytest.mark.parametrize("rule", [project_out, rotate_toward, decorated])
def test_a_marked_rule_reads_as_the_function_it_holds(rule):
    assert rule.__name__ == describe(rule) == rule.rule.__name__
    assert inspect.getdoc(rule) == inspect.getdoc(rule.rule)
    h, v = draw(2, 3, 16), draw(16, seed=1)
    assert torch.equal(rule(h, v), rule.rule(h, v))


@pytest.mark.parametrize("rule", [project_out, decorated, gl.of_direction(doubled), gl.of_direction(Mirror)])
def test_a_marked_rule_is_pickled_and_copied(rule):
    """Studies send rules to other processes."""
    for again in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)):
        assert again == rule
        assert unit_for(again, "raw") == "absolute"
