"""The tokens that are chosen are those that brute force would choose."""

from __future__ import annotations

import pytest
import torch

from grains_lens.attribution.selection import top_tokens


def by_brute_force(scores, k, sign, eligible):
    """Pick the strongest token that is left, the first of equals, until k are picked or none has the sign."""
    scores = [score if sign == "positive" else -score for score in scores.tolist()]
    left = [index for index, allowed in enumerate(eligible.tolist()) if allowed and scores[index] > 0]
    chosen = []
    while left and len(chosen) < k:
        best = left[0]
        for index in left:
            if scores[index] > scores[best]:
                best = index
        chosen.append(best)
        left.remove(best)
    return chosen


@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_the_strongest_come_first_as_by_brute_force(sign):
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        n = int(torch.randint(4, 40, (), generator=generator))
        # A few values only, so that there are ties and zeros.
        scores = torch.randint(-4, 5, (n,), generator=generator).float()
        eligible = torch.rand(n, generator=generator) < 0.8
        eligible[0] = True
        k = int(torch.randint(1, int(eligible.sum()) + 1, (), generator=generator))
        assert top_tokens(scores, k, sign=sign, eligible=eligible).tolist() == by_brute_force(
            scores, k, sign, eligible
        )


def test_of_equal_scores_the_first_are_chosen_in_order():
    for n in (5, 64, 5000):
        assert top_tokens(torch.ones(n), 3).tolist() == [0, 1, 2]
        assert top_tokens(-torch.ones(n), 3, sign="negative").tolist() == [0, 1, 2]


def test_negating_the_scores_swaps_the_signs():
    scores = torch.randn(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(top_tokens(scores, 5), top_tokens(-scores, 5, sign="negative"))
    assert not set(top_tokens(scores, 25).tolist()) & set(top_tokens(scores, 25, sign="negative").tolist())


def test_fewer_come_back_where_fewer_have_the_sign():
    scores = torch.tensor([0.0, -1.0, 2.0, 0.0])
    assert top_tokens(scores, 3).tolist() == [2]
    assert top_tokens(scores, 3, sign="negative").tolist() == [1]
    none = top_tokens(torch.zeros(4), 3)
    assert none.tolist() == []
    assert none.dtype == torch.int64


def test_tokens_that_are_not_eligible_are_never_chosen():
    scores = torch.tensor([9.0, 1.0, 2.0, 8.0])
    eligible = torch.tensor([False, True, True, False])
    assert top_tokens(scores, 2, eligible=eligible).tolist() == [2, 1]
    assert top_tokens(-scores, 2, sign="negative", eligible=eligible).tolist() == [2, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_will_do(dtype):
    assert top_tokens(torch.tensor([1.0, -3.0, 2.0], dtype=dtype), 2).tolist() == [2, 0]


def test_bad_input_is_refused():
    scores, eligible = torch.ones(4), torch.tensor([True, True, False, False])
    with pytest.raises(ValueError, match="k=0 selects nothing: it must be at least 1"):
        top_tokens(scores, 0)
    with pytest.raises(ValueError, match=r"k=5 is more than the 4 tokens .*lower k"):
        top_tokens(scores, 5)
    with pytest.raises(ValueError, match=r"k=3 is more than the 2 tokens .*\(of 4 in the prompt; special"):
        top_tokens(scores, 3, eligible=eligible)
    for bad in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(ValueError, match=r"scores hold NaN or infinite values; see that .*gradients"):
            top_tokens(torch.tensor([1.0, bad]), 1)


def test_an_unknown_sign_is_refused_with_the_nearest_known_one(unchecked):
    with pytest.raises(ValueError, match=r"sign='positiv' is not known.*Did you mean 'positive'"):
        top_tokens(torch.ones(4), 1, sign="positiv")  # type: ignore[arg-type]
