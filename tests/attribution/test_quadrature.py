"""Quadrature on [0, 1]: exact as far as the theory says, and what captum integrates with."""

from __future__ import annotations

import pytest
import torch

from grains_lens.attribution.quadrature import path_derivative, quadrature

RULES = ["gauss_legendre", "trapezoid", "midpoint"]


def integral(rule, steps, degree):
    nodes, weights = quadrature(rule, steps)
    return float((weights * nodes**degree).sum())


@pytest.mark.parametrize("steps", [2, 3, 8, 50])
@pytest.mark.parametrize("rule", RULES)
def test_nodes_ascend_within_the_path_and_mirror_themselves(rule, steps):
    nodes, weights = quadrature(rule, steps)
    assert nodes.dtype == weights.dtype == torch.float64
    assert nodes.shape == weights.shape == (steps,)
    assert nodes.diff().gt(0).all()
    assert nodes[0] >= 0
    assert nodes[-1] <= 1
    assert weights.gt(0).all()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(nodes, 1 - nodes.flip(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(weights, weights.flip(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10])
def test_gauss_legendre_is_exact_up_to_twice_its_steps_and_no_further(steps):
    for degree in range(2 * steps):
        assert integral("gauss_legendre", steps, degree) == pytest.approx(1 / (degree + 1), abs=1e-14)
    # The known error of the first degree beyond: (n!)⁴ / ((2n + 1) (2n)!²) of x^{2n}.
    factorial = torch.arange(1, 2 * steps + 1, dtype=torch.float64).cumprod(0)
    error = factorial[steps - 1] ** 4 / ((2 * steps + 1) * factorial[-1] ** 2)
    missing = 1 / (2 * steps + 1) - integral("gauss_legendre", steps, 2 * steps)
    assert missing == pytest.approx(float(error), abs=1e-15)


@pytest.mark.parametrize("rule", ["trapezoid", "midpoint"])
def test_the_newton_cotes_rules_are_exact_for_lines_and_of_second_order(rule):
    for steps in (2, 3, 10):
        for degree in (0, 1):
            assert integral(rule, steps, degree) == pytest.approx(1 / (degree + 1), abs=1e-14)
    width = {"trapezoid": lambda steps: 1 / (steps - 1), "midpoint": lambda steps: 1 / steps}[rule]
    share = {"trapezoid": 1 / 6, "midpoint": -1 / 12}[rule]
    for steps in (2, 5, 40):
        assert integral(rule, steps, 2) - 1 / 3 == pytest.approx(share * width(steps) ** 2, abs=1e-14)


def test_only_the_trapezoid_rule_has_the_end_points():
    for rule in RULES:
        nodes, _ = quadrature(rule, 7)
        assert ((nodes[0] == 0) and (nodes[-1] == 1)) == (rule == "trapezoid")


@pytest.mark.parametrize("steps", [2, 5, 20])
@pytest.mark.parametrize(
    ("rule", "name"),
    [("gauss_legendre", "gausslegendre"), ("trapezoid", "riemann_trapezoid"), ("midpoint", "riemann_middle")],
)
def test_nodes_and_weights_are_captums(rule, name, steps):
    captum = pytest.importorskip("captum.attr._utils.approximation_methods")
    step_sizes, alphas = captum.approximation_parameters(name)
    expected = torch.tensor(step_sizes(steps), dtype=torch.float64)
    if rule == "trapezoid":
        # Captum's are 1/n wide for n − 1 intervals, and so do not sum to 1.
        expected *= steps / (steps - 1)
    nodes, weights = quadrature(rule, steps)
    torch.testing.assert_close(nodes, torch.tensor(alphas(steps), dtype=torch.float64), rtol=0, atol=1e-7)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rule", "steps"), [("gauss_legendre", 0), ("midpoint", -1), ("trapezoid", 1)])
def test_too_few_steps_are_refused(rule, steps):
    least = 2 if rule == "trapezoid" else 1
    with pytest.raises(ValueError, match=rf"steps={steps} is too few for the {rule} rule.* at least {least}"):
        quadrature(rule, steps)


def test_an_unknown_rule_is_refused_with_the_nearest_known_one(unchecked):
    with pytest.raises(ValueError, match=r"rule='gauss' is not known.*Did you mean 'gauss_legendre'"):
        quadrature("gauss", 10)  # type: ignore[arg-type]


def derivative(rule, steps, function):
    """The derivative at the rule's nodes, from the function's values at the nodes and the ends."""
    nodes, _ = quadrature(rule, steps)
    points = torch.cat([torch.zeros(1), nodes, torch.ones(1)]).double()
    return path_derivative(rule, steps) @ function(points)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 300])
def test_gauss_legendre_differentiates_polynomials_exactly(steps):
    nodes, _ = quadrature("gauss_legendre", steps)
    for degree in {0, 1, 2, steps // 2, min(steps + 1, 30)}:
        expected = degree * nodes ** max(degree - 1, 0)
        actual = derivative("gauss_legendre", steps, lambda at, degree=degree: at**degree)
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 3, 9, 60])
def test_every_rule_differentiates_a_straight_line_exactly(rule, steps):
    torch.testing.assert_close(
        derivative(rule, steps, lambda at: 3 * at - 1), torch.full((steps,), 3.0).double()
    )


@pytest.mark.parametrize("rule", ["trapezoid", "midpoint"])
def test_evenly_spaced_rules_differentiate_with_a_quadratic_error(rule):
    """Also a function that makes polynomials through evenly spaced points swing (Runge's)."""

    def error(steps):
        nodes, _ = quadrature(rule, steps)
        at = 10 * (nodes - 0.5)
        expected = -20 * at / (1 + at**2) ** 2
        actual = derivative(rule, steps, lambda x: 1 / (1 + (10 * (x - 0.5)) ** 2))
        return float((actual - expected).abs().max())

    assert error(400) < 0.3 * error(200) < 0.09 * error(100)
