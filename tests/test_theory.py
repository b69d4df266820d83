"""The selection theorem, with fixed margins and with intervals, against a brute force; DMPO's loss against MODPO's."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pdsel.divergence import preference_divergence
from pdsel.objectives import dmpo_loss, reward_margin
from pdsel.selection import select
from pdsel.theory import (
    best_subset,
    bound,
    gain,
    gradient_weight,
    interval_bounds,
    most_negative,
    regret,
    separating_step,
    subset_masks,
)

LN3 = np.log(3)
KAPPAS = st.integers(1, 16)
MARGINS = st.floats(-0.5, 0.5)
STEPS = st.floats(0.01, 2)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_most_negative_pd_beats_every_other_subset(share):
    rng = np.random.default_rng(round(100 * share))
    for _ in range(200):
        scores, kappa = rng.normal(scale=1.5, size=12), int(rng.integers(1, 17))
        c0 = rng.uniform(-0.5, 0.5)
        c2 = c0 + rng.uniform(0.02, 1.0)
        kept = select(pd.Series(scores), share)
        indices, lowest = best_subset(scores, len(kept), c0, c2, kappa)
        assert list(indices) == sorted(kept)
        assert lowest == pytest.approx(bound(scores, np.isin(np.arange(12), kept), c0, c2, kappa), rel=1e-12)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.data(), MARGINS, STEPS, KAPPAS)
def test_no_subset_is_below_the_most_negative(scores, data, c0, step, kappa):
    """Also with ties and with gains that vanish in rounding, where the best subset is not unique."""
    n_kept = data.draw(st.integers(1, len(scores)))
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(scores)[:n_kept]] = True
    ours = bound(scores, mask, c0, c0 + step, kappa)
    assert ours <= best_subset(scores, n_kept, c0, c0 + step, kappa)[1] * (1 + 1e-12)


@given(st.floats(-5, 5), STEPS, MARGINS, STEPS, KAPPAS)
def test_gain_is_positive_bounded_and_decreasing(a, further, c0, step, kappa):
    less, more = gain([a, a + further], c0, c0 + step, kappa)
    assert kappa * step * (1 + 1e-9) > less > more > 0


@given(st.floats(-1e6, 1e6), MARGINS, STEPS, KAPPAS)
def test_gain_is_finite_and_within_its_limits_for_any_pd(a, c0, step, kappa):
    value = gain(a, c0, c0 + step, kappa)
    assert 0 <= value <= kappa * step + 1e-9


@given(st.floats(-5, 5), MARGINS, KAPPAS)
def test_gain_has_the_slope_of_the_proof(a, c0, kappa):
    slope = (gain(a + 1e-5, c0, c0 + 0.5, kappa) - gain(a - 1e-5, c0, c0 + 0.5, kappa)) / 2e-5
    sigma = gradient_weight(0, [-(kappa * c0 + a), -(kappa * (c0 + 0.5) + a)], kappa)  # sigma(-(-u)) = sigma(u)
    assert slope == pytest.approx(sigma[0] - sigma[1], abs=1e-8)


def test_gain_by_hand():
    """kappa = 1, margins 0 and ln 3: sigma goes 1/4 to 1/2, 1/2 to 3/4, 3/4 to 9/10."""
    assert np.exp(gain([-LN3, 0, LN3], 0, LN3, 1)) == pytest.approx([2, 3 / 2, 6 / 5])
    assert gain(0, 0, LN3 / 4, 4) == pytest.approx(np.log(3 / 2))  # only kappa * margin counts
    assert gain(-1000, 0, 0.5, 4) == pytest.approx(2)  # the linear end, kappa * (c2 - c0)
    assert gain(0.3, 0.2, 0.2, 4) == 0


def test_gradient_weight_by_hand():
    assert gradient_weight(0, [-LN3, 0, LN3], 4) == pytest.approx([3 / 4, 1 / 2, 1 / 4])
    assert gradient_weight(LN3 / 4, 0, 4) == pytest.approx(1 / 4)
    assert gradient_weight([-1000, 1000], 0, 4) == pytest.approx([1, 0])


def test_gradient_weight_is_the_gradient_of_the_loss():
    logps = torch.tensor([-2.0, -3.0, 0.5], dtype=torch.float64, requires_grad=True)
    other, divergence = torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64), torch.tensor([-1.0, 0.0, 2.0])
    margin = reward_margin(logps, other, other, other, beta=0.1)
    margin.retain_grad()
    (-torch.nn.functional.logsigmoid(4 * margin + divergence)).sum().backward()
    weight = gradient_weight(margin.detach().numpy(), divergence.numpy(), 4)
    assert -margin.grad.numpy() == pytest.approx(4 * weight)


def test_bound_by_hand():
    scores = [-LN3, 0, LN3]
    assert bound(scores, [True, False, False], 0, LN3, 1) == pytest.approx(-np.log(1 / 2 * 1 / 2 * 3 / 4) / 3)
    assert bound(scores, [False, False, True], 0, LN3, 1) == pytest.approx(-np.log(1 / 4 * 1 / 2 * 9 / 10) / 3)
    assert bound([0, 0], [False, False], 0, 1, 4) == pytest.approx(np.log(2))


def test_bound_is_the_untrained_loss_minus_the_gains():
    scores = np.array([0.4, -1.0, 1.3, -0.2])
    masks = subset_masks(4, 2)
    untrained = bound(scores, np.zeros(4, dtype=bool), 0.1, 0.6, 3)
    gains = np.array([gain(scores[mask], 0.1, 0.6, 3).sum() for mask in masks])
    assert bound(scores, masks, 0.1, 0.6, 3) == pytest.approx(untrained - gains / 4)


def test_subset_masks_are_all_subsets():
    masks = subset_masks(7, 3)
    assert masks.shape == (35, 7) and (masks.sum(axis=1) == 3).all() and len(np.unique(masks, axis=0)) == 35


def test_best_subset_refuses_what_it_cannot_try():
    with pytest.raises(ValueError, match="pd: 21 pairs .* at most 20 .*Remedy"):
        best_subset(np.zeros(21), 3, 0, 1, 4)
    with pytest.raises(ValueError, match="n_kept=0 is not in 1..4"):
        best_subset(np.zeros(4), 0, 0, 1, 4)
    with pytest.raises(ValueError, match="n_kept=5 is not in 1..4"):
        best_subset(np.zeros(4), 5, 0, 1, 4)
    with pytest.raises(ValueError, match=r"pd is NaN or infinite at a position: 1 \(first: 1\)"):
        best_subset([0.0, np.nan], 1, 0, 1, 4)


def rewards_to_pd(rng, n, kappa, reward_range, extreme):
    """PD of n pairs from rewards in [0, r]; the extreme ones sit at the corners, where |PD| reaches (kappa - 1) r."""
    rewards = rng.uniform(0, reward_range, size=(2, n, kappa - 1))
    if extreme:
        rewards = np.where(rewards < reward_range / 2, 0, reward_range)
    return -(rewards[0] - rewards[1]).sum(axis=1)


@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.99, 1.0, 3.0])  # of the step that the paper's condition asks for
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_most_negative_pd_is_lowest_at_both_ends_with_the_condition_and_without(share, ratio):
    rng, kept = np.random.default_rng(round(100 * (share + ratio))), round(12 * share)
    masks = subset_masks(12, kept)
    for world in range(40):
        kappa, reward_range, c0 = int(rng.integers(2, 9)), rng.uniform(0.2, 3), rng.uniform(-1, 1)
        step = ratio * separating_step(kappa, reward_range)
        scores = rewards_to_pd(rng, 12, kappa, reward_range, extreme=world % 2)
        width = rng.uniform(0, 0.99) * step
        ends = interval_bounds(scores, masks, c0, c0 + step, kappa, width)
        ours = interval_bounds(scores, most_negative(scores, kept), c0, c0 + step, kappa, width)
        for end, our in zip(ends, ours, strict=True):
            assert our <= end.min() * (1 + 1e-12)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.data(), MARGINS, STEPS, KAPPAS, st.floats(0, 0.99))
def test_any_margins_in_the_intervals_stay_between_the_ends(scores, data, c0, step, kappa, part):
    """And no selection is below the most negative PD by more than kappa * width, whatever its own margins are."""
    n, width = len(scores), part * step
    masks = subset_masks(n, data.draw(st.integers(1, n)))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    margin = np.where(masks, c0 + step - width, c0) + width * rng.uniform(size=masks.shape)
    loss = bound(scores, masks, margin, margin, kappa)
    lowest, highest = interval_bounds(scores, masks, c0, c0 + step, kappa, width)
    assert (lowest * (1 - 1e-9) <= loss).all() and (loss <= highest * (1 + 1e-9)).all()
    worst_ours = interval_bounds(scores, most_negative(scores, masks[0].sum()), c0, c0 + step, kappa, width)[1]
    assert worst_ours - lowest.min() <= kappa * width + 1e-9


def test_interval_bounds_by_hand():
    """kappa = 1, untrained in [0, ln 3], trained in [ln 3, 2 ln 3]: sigmas 1/2, 3/4 and 9/10."""
    lowest, highest = interval_bounds([0, 0], [[True, False], [True, True]], 0, 2 * LN3, 1, LN3)
    assert np.exp(-2 * lowest) == pytest.approx([9 / 10 * 3 / 4, 81 / 100])
    assert np.exp(-2 * highest) == pytest.approx([3 / 4 * 1 / 2, 9 / 16])
    assert interval_bounds([1, 2], [True, False], 0, 1, 4, 0)[0] == bound([1, 2], [True, False], 0, 1, 4)
    for width in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"width=.* is not in \[0, c2 - c0\) = \[0, 1\)\. Remedy"):
            interval_bounds([1, 2], [True, False], 0, 1, 4, width)


@given(st.integers(2, 16), st.floats(0.1, 5), st.floats(-2, 2), st.data())
def test_condition_of_the_paper_is_what_separates_trained_from_untrained(kappa, reward_range, c0, data):
    most, step = (kappa - 1) * reward_range, separating_step(kappa, reward_range)
    trained, untrained = data.draw(st.lists(st.floats(-most, most), min_size=2, max_size=2))
    assert kappa * (c0 + step) + trained >= kappa * c0 + untrained - 1e-9
    assert kappa * (c0 + 0.99 * step) - most < kappa * c0 + most  # a smaller step: the two extreme pairs break it


def test_separating_step_by_hand():
    assert separating_step(4, 1.0) == 1.5
    assert separating_step(2, 3.0) == 3.0
    assert separating_step(1, 1.0) == 0  # one aspect: PD is 0


def test_spread_margins_break_exactness_though_the_condition_holds():
    """Why both ends say nothing about every point between: the second pair learns more, and the PD are close."""
    c0, c2, width = 0.0, 2.0, 0.2
    assert c2 - c0 - 2 * width >= separating_step(4, 1.0)
    untrained, trained = [c0 + width, c0], [c2 - width, c2]
    assert list(best_subset([-0.1, 0.0], 1, untrained, trained, 4)[0]) == [1]
    excess, best = regret([-0.1, 0.0], 1, untrained, trained, 4)
    left, right = gain(-0.1, 0.2, 1.8, 4), gain(0.0, 0.0, 2.0, 4)
    assert excess == pytest.approx((right - left) / 2) and 0.145 < excess < 0.146 < 4 * width
    assert best + excess == pytest.approx(bound([-0.1, 0.0], [True, False], untrained, trained, 4))


@given(st.integers(2, 9), st.floats(0.1, 1), st.floats(1, 3), st.data())
def test_condition_makes_the_most_negative_pd_best_for_the_probability_of_error(kappa, reward_range, ratio, data):
    """The loss sigma(-(kappa * M + PD)) is not convex: with c0 = 0 its gain falls on all PD only under the condition."""
    most, step = (kappa - 1) * reward_range, separating_step(kappa, reward_range)
    less, more = sorted(data.draw(st.lists(st.floats(-most, most), min_size=2, max_size=2)))

    def gain_in_probability(a, c2):
        return gradient_weight(0, a, kappa) - gradient_weight(c2, a, kappa)

    assert gain_in_probability(less, ratio * step) >= gain_in_probability(more, ratio * step) - 1e-12
    short = 0.9 * step  # the gain peaks at -kappa * short / 2, which is above the lowest possible PD
    assert gain_in_probability(-most, short) < gain_in_probability(-kappa * short / 2, short)


def test_a_gap_of_kappa_times_the_width_is_safe_once_trained_pairs_have_no_loss_left():
    """The answer to the notebook's second exercise."""
    kappa, width, far = 4, 0.1, 100.0
    for kept in (-3.0, -0.5, 1.0):
        smallest = gain(kept, width, far - width, kappa)
        assert smallest == pytest.approx(gain(kept + kappa * width, 0, far, kappa))
        assert smallest < gain(kept + 0.9 * kappa * width, 0, far, kappa)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.data(), MARGINS, STEPS, KAPPAS)
def test_regret_is_zero_with_one_margin_and_small_with_spread_ones(scores, data, c0, step, kappa):
    n = len(scores)
    n_kept = data.draw(st.integers(1, n))
    assert regret(scores, n_kept, c0, c0 + step, kappa)[0] <= 1e-12
    width, rng = step / 2, np.random.default_rng(data.draw(st.integers(0, 9)))
    untrained, trained = rng.uniform(c0, c0 + width, n), rng.uniform(c0 + step - width, c0 + step, n)
    assert 0 <= regret(scores, n_kept, untrained, trained, kappa)[0] <= kappa * width + 1e-9


def modpo_loss(logratio_chosen, logratio_rejected, margins, label, weights, beta):
    """MODPO (Zhou et al. 2024) on one pair that is labelled on the aspect `label`, from its definition."""
    others = sum(weights[k] * margins[k] for k in weights if k != label)
    policy = beta * logratio_chosen - beta * logratio_rejected
    return -torch.nn.functional.logsigmoid(policy / weights[label] - others / weights[label])


@pytest.mark.parametrize("weights", [[1 / 4] * 4, [0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
def test_dmpo_is_modpo(weights):
    """Uniform weights give DMPO; general ones give the weighted divergence, with 1/w_k in the place of kappa."""
    rng = np.random.default_rng(0)
    aspects, n, beta = ["a", "b", "c", "d"], 50, 0.3
    weights = dict(zip(aspects, weights, strict=True))
    margins = pd.DataFrame(rng.normal(size=(n, 4)), columns=aspects)
    label = pd.Series(rng.choice(aspects, size=n))
    chosen, rejected, reference_chosen, reference_rejected = torch.tensor(rng.normal(-20, 4, size=(4, n)))

    uniform = len(set(weights.values())) == 1
    divergence = preference_divergence(margins, label, weights=None if uniform else weights).to_numpy()
    kappa = 4 if uniform else torch.tensor((1 / label.map(weights)).to_numpy())
    logps = (chosen, rejected, reference_chosen, reference_rejected)
    ours = dmpo_loss(*logps, torch.tensor(divergence), beta=beta, aspects=kappa)
    ratios = zip(chosen - reference_chosen, rejected - reference_rejected, strict=True)
    pairs = zip(ratios, margins.to_dict("records"), label, strict=True)
    theirs = torch.stack([modpo_loss(*ratio, gaps, aspect, weights, beta) for ratio, gaps, aspect in pairs])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_theory_imports_no_torch():
    code = "import sys, pdsel.theory; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
