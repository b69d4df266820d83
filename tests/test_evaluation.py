"""Metrics by hand, their intervals, and the tidy tables of every method."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from pdsel.evaluation import (
    Estimate,
    apart,
    bootstrap_mean,
    from_alpaca_eval,
    interval,
    length_controlled_win_rate,
    lengths_apart,
    means,
    measure,
    scored,
    win_rate,
    winning_score,
    winning_scores,
)

TENTHS = st.integers(0, 10).map(lambda tenth: tenth / 10)


def test_win_rate_by_hand():
    found = win_rate([1, 1, 0.5, 0])
    assert (found.value, found.n) == (62.5, 4)
    assert found.standard_error == pytest.approx(100 * np.std([1, 1, 0.5, 0], ddof=1) / 2)
    assert found.variant == "mean preference, bootstrap over prompts"


def test_winning_score_by_hand():
    assert winning_score([1, 0.9, 0.5, 0]).value == 1.25  # two wins, a draw, a loss: (2 - 1) / 4 + 1
    assert (winning_score([1, 1]).value, winning_score([0, 0]).value, winning_score([0.5]).value) == (2, 0, 1)


@given(st.lists(TENTHS, min_size=1, max_size=30))
@settings(max_examples=25)
def test_intervals_hold_the_value_within_the_scale(preference):
    for estimate, top in [(win_rate(preference), 100), (winning_score(preference), 2)]:
        assert -1e-9 <= estimate.low <= estimate.value + 1e-9 and estimate.value <= estimate.high + 1e-9 <= top + 2e-9
        assert estimate.n == len(preference)


@given(st.lists(TENTHS, min_size=1, max_size=20))
@settings(max_examples=20)
def test_swapping_the_sides_mirrors_the_metrics(preference):
    swapped = 1 - np.array(preference)
    assert win_rate(swapped).value == pytest.approx(100 - win_rate(preference).value)
    assert winning_score(swapped.round(9)).value == pytest.approx(2 - winning_score(preference).value)


def test_the_bootstrap_is_deterministic_and_near_the_normal_interval():
    preference = np.random.default_rng(0).random(400)
    found = win_rate(preference)
    assert found == win_rate(preference)
    assert bootstrap_mean(preference) != bootstrap_mean(preference, seed=1)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * found.standard_error, rel=0.1)


def test_an_interval_reads_the_same_everywhere():
    assert interval(52.345, 48.1, 56.62) == "52.3 [48.1, 56.6]" == str(Estimate(52.345, 2, 48.1, 56.62, "by hand", 9))
    assert interval(1.5, -0.5, 3.5, digits=2, signed=True) == "+1.50 [-0.50, +3.50]"
    assert interval(1.5, np.nan, np.nan) == "1.5"


def test_an_estimate_is_frozen_and_reads_well():
    found = Estimate(61.25, 1.0, 59.0, 63.44, "by hand", 4)
    assert str(found) == "61.2 [59.0, 63.4]"
    with pytest.raises(AttributeError):
        found.value = 100


def test_one_prompt_has_no_standard_error():
    found = win_rate([0.7])
    assert (found.value, found.low, found.high) == (70, 70, 70) and np.isnan(found.standard_error)


BAD_PREFERENCES = {
    "none": ([], r"preference: shape \(0,\); give one value per prompt, at least one"),
    "table": ([[0.5, 0.5]], r"preference: shape \(1, 2\)"),
    "NaN": ([float("nan")] * 7, r"preference is NaN or outside \[0, 1\].*: 7 \(first: 0, 1, 2, 3, 4\)\. Remedy"),
    "above 1": ([0.5, 1.5], r"preference is NaN or outside.*: 1 \(first: 1\).*from_alpaca_eval"),
    "below 0": ([-0.1], r"preference is NaN or outside.*: 1 \(first: 0\)"),
}


@pytest.mark.parametrize(
    "metric", [win_rate, winning_score, lambda values: length_controlled_win_rate(values, [1], [2])]
)
@pytest.mark.parametrize(("preference", "problem"), BAD_PREFERENCES.values(), ids=BAD_PREFERENCES)
def test_bad_preferences_are_refused(metric, preference, problem):
    with pytest.raises(ValueError, match=problem):
        metric(preference)


def test_alpaca_evals_scale_becomes_a_probability():
    assert from_alpaca_eval([1, 2, 0, 1.5, 1.25]).tolist() == [0, 1, 0.5, 0.5, 0.25]
    with pytest.raises(ValueError, match=r"positions: 1 \(first: 1\)"):
        win_rate(from_alpaca_eval([1.5, 3]))


def outcomes_of(methods, n=40, seed=0):
    """Made-up outcomes of methods that differ in strength and length; SFT is the baseline."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=n)
    frames = []
    for place, method in enumerate(["SFT", *methods]):
        chance = np.full(n, 0.5) if method == "SFT" else expit(hard + 0.5 * place + rng.normal(0, 0.3, n))
        frames.append(
            pd.DataFrame(
                {
                    "method": method,
                    "prompt_id": [f"q{i}" for i in range(n)],
                    "preference": chance,
                    "characters": rng.integers(40, 80, n) + 5 * place,
                    "utility": chance,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def test_measure_is_tidy():
    outcomes = pd.DataFrame(
        {
            "method": ["SFT"] * 4 + ["PD"] * 4,
            "prompt_id": ["q0", "q1", "q2", "q3"] * 2,
            "characters": [10] * 8,
            "preference": [0.5, 0.5, 0.5, 0.5, 1.0, 0.5, 1.0, 0.5],
            "utility": [0.2, 0.4, 0.2, 0.4, 0.6, 0.6, 0.6, 0.6],
        }
    )
    table = measure(outcomes)
    assert list(table) == ["method", "metric", "value", "standard_error", "low", "high", "n", "variant"]
    assert table.set_index(["method", "metric"])["value"].round(9).to_dict() == {
        ("SFT", "win_rate"): 50,
        ("SFT", "length_controlled_win_rate"): 50,
        ("SFT", "utility"): 0.3,
        ("SFT", "characters"): 10,
        ("PD", "win_rate"): 75,
        ("PD", "length_controlled_win_rate"): 75,
        ("PD", "utility"): 0.6,
        ("PD", "characters"): 10,
    }
    assert set(table["n"]) == {4}


def test_measure_says_how_difficulty_was_found():
    for methods, words in [(["PD"], "length only (unreliable"), (["PD", "ALL"], "estimated jointly from 2 policies")]:
        table = measure(outcomes_of(methods)).set_index(["method", "metric"])
        assert words in table.loc[("PD", "length_controlled_win_rate"), "variant"]
        assert words not in table.loc[("PD", "win_rate"), "variant"]


def test_measure_over_seeds_widens_to_what_seeds_do():
    one = outcomes_of(["PD", "ALL"])
    apart = one.assign(preference=np.where(one["method"] == "PD", one["preference"] * 0.5, one["preference"]))
    table = measure(pd.concat([one.assign(seed=0), apart.assign(seed=1)], ignore_index=True))
    width = (table["high"] - table["low"])[(table["metric"] == "win_rate")].to_numpy()
    assert width[0] == 0 and width[1] > 3 * width[2]  # SFT draws with itself; PD differs between seeds; ALL does not
    assert "2 seeds" in table["variant"].iloc[-1]


@pytest.mark.parametrize(
    ("longer", "shorter", "said"),
    [
        (10, 10, ""),
        (9, 91, "only 9 % longer"),
        (91, 9, "only 9 % shorter"),
        (100, 0, "only 0 % shorter"),
        (5, 5, "only 5 % longer, only 5 % shorter"),
        (0, 0, ""),
    ],
)
def test_lengths_overlap_where_a_tenth_is_on_either_side(longer, shorter, said):
    """Of 100 prompts; where all outputs are equally long there is nothing to control for."""
    ours = np.array([60] * longer + [40] * shorter + [50] * (100 - longer - shorter))
    assert lengths_apart(ours, np.full(100, 50)) == said
    other_side = {"longer": "shorter", "shorter": "longer"}
    mirrored = [
        part.replace(word, other_side[word]) for part in said.split(", ") for word in other_side if word in part
    ]
    assert sorted(lengths_apart(np.full(100, 50), ours).split(", ")) == sorted(mirrored or [""])


def test_no_win_rate_at_equal_length_where_lengths_lie_apart():
    """One function decides: the column is NaN, the table is blank and says why, and other methods keep their numbers."""
    outcomes = outcomes_of(["PD", "ALL", "RAF"])
    short = outcomes.assign(characters=outcomes["characters"].where(outcomes["method"] != "PD", 30))
    short.loc[short["method"] == "PD", "characters"] += np.arange(40) % 3
    assert apart(short).to_dict() == {"SFT": "", "PD": "only 0 % longer", "ALL": "", "RAF": ""}
    blank = scored(short).groupby("method")["length_controlled_win_rate"].agg(lambda values: values.isna().all())
    assert blank.to_dict() == {"SFT": False, "PD": True, "ALL": False, "RAF": False}
    table = measure(short).set_index(["method", "metric"])
    row = table.loc[("PD", "length_controlled_win_rate")]
    assert row[["value", "low", "high"]].isna().all() and row["variant"] == "only 0 % longer"
    before = measure(outcomes).set_index(["method", "metric"])
    assert table.loc[("PD", "win_rate"), "value"] == before.loc[("PD", "win_rate"), "value"]
    assert table["value"].isna().sum() == 1


def test_seeds_are_taken_together_when_lengths_are_compared():
    one = outcomes_of(["PD", "ALL"])
    other = one.assign(characters=np.where(one["method"] == "PD", 200 + np.arange(len(one)) % 7, one["characters"]))
    both = pd.concat([one.assign(seed=0), other.assign(seed=1)], ignore_index=True)
    assert apart(one)["PD"] == "" and apart(other)["PD"] == "only 0 % shorter" and apart(both)["PD"] == ""
    apart_in_both = pd.concat([other.assign(seed=seed) for seed in (0, 1)], ignore_index=True)
    prompts = scored(apart_in_both)
    found = means(prompts, ["method"], "length_controlled_win_rate").set_index("method")["value"]
    assert np.isnan(found["PD"]) and found["SFT"] == 50 and found.notna().sum() == 2


def test_methods_in_any_order_measure_the_same():
    outcomes = outcomes_of(["PD", "ALL", "RAF"])
    shuffled = outcomes.sample(frac=1, random_state=0)
    one, other = (measure(t).set_index(["method", "metric"])["value"].sort_index() for t in (outcomes, shuffled))
    pd.testing.assert_series_equal(one, other, rtol=1e-6)


def test_winning_scores_weigh_every_prompt_set_alike():
    outcomes = pd.DataFrame(
        {
            "method": "PD",
            "prompt_id": list("abcd"),
            "dataset": ["long", "long", "long", "short"],
            "preference": [0.9, 0.8, 0.5, 0.2],
        }
    )
    table = winning_scores(outcomes).set_index("dataset")["value"]
    assert table.round(9).to_dict() == {"mean": round((5 / 3 + 0) / 2, 9), "long": round(5 / 3, 9), "short": 0.0}
