"""Metrics by hand, their intervals, the gold judge, and AlpacaEval's own leaderboard."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from pdsel.evaluation import (
    Estimate,
    bootstrap_mean,
    from_alpaca_eval,
    length_controlled_win_rate,
    measure,
    win_rate,
    winning_score,
)
from pdsel.judges import gold_gaps, gold_judge, gold_scores
from pdsel.notesworld import gold_utility, rated_rows, read_prompt
from pdsel.notesworld.people import NOISE

NULL = "glad to help ."
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


def test_a_bootstrap_covers_the_truth_about_as_often_as_it_says():
    draws = np.random.default_rng(0).random((200, 60)) < 0.7
    covered = [found.low <= 70 <= found.high for found in map(win_rate, draws.astype(float))]
    assert 0.88 < np.mean(covered) < 0.99


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


def lengths(n=200):
    rng = np.random.default_rng(0)
    return rng.integers(200, 2000, n).astype(float), rng.integers(200, 2000, n).astype(float), rng.normal(size=n)


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.PerfectSeparationWarning")
def test_length_control_takes_away_what_length_explains():
    baseline, model, difficulty = lengths(2000)
    gap = np.tanh((baseline - model) / (baseline - model).std())
    truth = 1 / (1 + np.exp(1.5 * gap - 0.8 * difficulty - 0.3))
    found = length_controlled_win_rate(truth, baseline, model, difficulty=difficulty)
    assert found.value == pytest.approx(100 * np.mean(1 / (1 + np.exp(-0.8 * difficulty - 0.3))))
    assert (found.variant, found.n) == ("length, difficulty", 2000)
    assert found.standard_error < 1e-9  # the model is true and the preferences are its own


def test_gamed_baselines_weigh_a_tenth_and_have_no_constant():
    """Against a plain likelihood, maximised by scipy."""
    baseline, model, difficulty = lengths(100)
    preference = np.random.default_rng(1).random(100)
    gamed = pd.DataFrame({"x": [0.9, -0.9, 0.5], "difficulty": [-1.0, 0.5, 2.0], "pref": [0.02, 0.95, 0.1]})
    gap = np.tanh((baseline - model) / (baseline - model).std())

    def loss(w):
        own, other = w[0] * gap + w[1] * difficulty + w[2], w[0] * gamed["x"] + w[1] * gamed["difficulty"]
        each = [preference * log_expit(own) + (1 - preference) * log_expit(-own),
                0.1 * (gamed["pref"] * log_expit(other) + (1 - gamed["pref"]) * log_expit(-other))]  # fmt: skip
        return -sum(part.sum() for part in each)

    best = minimize(loss, np.zeros(3), tol=1e-10).x
    found = length_controlled_win_rate(preference, baseline, model, difficulty=difficulty, gamed=gamed)
    assert found.value == pytest.approx(100 * expit(best[1] * difficulty + best[2]).mean(), abs=1e-4)
    assert found.variant == "length, difficulty, gamed baselines"


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.PerfectSeparationWarning")
def test_length_control_of_equal_sides_is_a_draw():
    baseline, model, _ = lengths()
    found = length_controlled_win_rate(np.full(400, 0.5), [*baseline, *model], [*model, *baseline])
    assert found.value == pytest.approx(50)
    assert found.variant.startswith("length only")


BAD_LENGTHS = {
    "too few": ({"length_model": [1.0]},
                r"length_model: shape \(1,\), preference has \(200,\); give one value per prompt"),
    "NaN": ({"length_baseline": np.full(200, np.nan)},
            r"length_baseline is NaN or infinite.*: 200 \(first: 0, 1, 2, 3, 4\)\. Remedy"),
    "equal": ({"length_model": lengths()[0] + 5},
              "length_baseline - length_model is the same everywhere.*use win_rate"),
    "difficulty": ({"difficulty": np.full(200, np.inf)}, "difficulty is NaN or infinite at positions: 200 .*Remedy"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "problem"), BAD_LENGTHS.values(), ids=BAD_LENGTHS)
def test_bad_lengths_are_refused(change, problem):
    baseline, model, difficulty = lengths()
    arguments = {"length_baseline": baseline, "length_model": model, "difficulty": difficulty} | change
    with pytest.raises(ValueError, match=problem):
        length_controlled_win_rate(np.full(200, 0.5), **arguments)


BAD_GAMED = {
    "missing column": lambda gamed: gamed.drop(columns="x"),
    "NaN": lambda gamed: gamed.assign(x=np.nan),
    "AlpacaEval's scale": lambda gamed: gamed.assign(pref=[1.1, 1.9]),
}


@pytest.mark.parametrize("spoil", BAD_GAMED.values(), ids=BAD_GAMED)
def test_a_bad_table_of_gamed_baselines_is_refused(spoil):
    baseline, model, difficulty = lengths()
    gamed = pd.DataFrame({"x": [0.5, -0.5], "difficulty": [0.0, 1.0], "pref": [0.1, 0.2]})
    preference = np.random.default_rng(1).random(200)
    with pytest.raises(ValueError, match="gamed"):
        length_controlled_win_rate(preference, baseline, model, difficulty=difficulty, gamed=spoil(gamed))


def test_gamed_baselines_without_difficulty_are_refused():
    gamed = pd.DataFrame({"x": [0.5, -0.5], "difficulty": [0.0, 1.0], "pref": [0.1, 0.2]})
    with pytest.raises(ValueError, match="gamed.*difficulty"):
        length_controlled_win_rate(np.random.default_rng(1).random(200), *lengths()[:2], gamed=gamed)


def test_measure_is_tidy():
    outcomes = pd.DataFrame({
        "method": ["SFT", "SFT", "PD", "PD"], "prompt_id": ["q0", "q1", "q0", "q1"],
        "preference": [0.5, 0.5, 1.0, 0.5], "preference_ova": [0.0, 0.5, 1.0, 1.0], "utility": [0.2, 0.4, 0.6, 0.6],
    })  # fmt: skip
    table = measure(outcomes)
    assert list(table) == ["method", "metric", "value", "standard_error", "low", "high", "n", "variant"]
    assert table.set_index(["method", "metric"])["value"].round(9).to_dict() == {
        ("SFT", "win_rate"): 50, ("SFT", "winning_score"): 0.5, ("SFT", "utility"): 0.3,
        ("PD", "win_rate"): 75, ("PD", "winning_score"): 2.0, ("PD", "utility"): 0.6,
    }  # fmt: skip
    assert set(table["n"]) == {2}


@pytest.fixture(scope="module")
def leaderboard(shared):
    """The published numbers of 20 models beside ours, from the judge's preferences."""
    folder = shared / "alpaca_eval"
    difficulty = pd.read_csv(folder / "instruction_difficulty.csv").set_index("index")["instruction_difficulty"]
    gamed = pd.read_csv(folder / "gamed_rows.csv")
    rows = {}
    for model, rated in pd.read_parquet(folder / "annotations.parquet").groupby("model", observed=True):
        preference, lengths = from_alpaca_eval(rated["preference"]), (rated["len_1"], rated["len_2"])
        controlled = length_controlled_win_rate(
            preference, *lengths, difficulty=difficulty.loc[rated["row"]].to_numpy(), gamed=gamed
        )
        rows[model] = {
            "wr": win_rate(preference),
            "lc": controlled,
            "alone": length_controlled_win_rate(preference, *lengths),
        }
    ours = pd.DataFrame(rows).T
    return ours.map(lambda estimate: estimate.value).join(
        pd.read_csv(folder / "published.csv").set_index("model")
    ), ours


def test_raw_win_rates_are_the_published_ones(leaderboard):
    table, _ = leaderboard
    assert len(table) == 20
    assert (table["wr"] - table["win_rate"]).abs().max() < 1e-6


def test_length_controlled_win_rates_are_near_the_published_ones(leaderboard):
    table, estimates = leaderboard
    error = (table["lc"] - table["length_controlled_winrate"]).abs()
    assert error.mean() <= 0.2 and error.max() <= 0.7
    assert table["lc"].corr(table["length_controlled_winrate"], method="spearman") >= 0.995
    for estimate in estimates["lc"]:
        assert estimate.variant == "length, difficulty, gamed baselines"
        assert estimate.low < estimate.value < estimate.high and 0 < estimate.standard_error < 3


def test_length_alone_ranks_worse_than_the_raw_win_rate_and_says_so(leaderboard):
    table, estimates = leaderboard
    published = table["length_controlled_winrate"]
    assert table["alone"].corr(published, method="spearman") < table["wr"].corr(published, method="spearman")
    assert (table["alone"] - published).mean() > 5
    assert {estimate.variant for estimate in estimates["alone"]} == {"length only (unreliable: no difficulty given)"}


@pytest.fixture(scope="module")
def answered():
    """Prompts of the notes world with two responders' answers each."""
    rows = rated_rows(200, seed=5)
    return [row["instruction"] for row in rows], *[[row["completions"][i]["response"] for row in rows] for i in (0, 1)]


def perfect(prompt):
    notes, asked = read_prompt(prompt)
    return " . ".join(f"{name} {notes[name] or 'unsure'}" for name in asked) + " ."


@pytest.mark.parametrize("noise", [{}, {"noise": 0}, {"noise": 0.5}])
def test_the_gold_judge_swapped_gives_one_minus(answered, noise):
    prompts, first, second = answered
    preference = gold_judge(prompts, first, second, **noise)
    assert gold_judge(prompts, second, first, **noise) == pytest.approx(1 - preference)
    assert (gold_judge(prompts, first, first, **noise) == 0.5).all()
    assert ((preference >= 0) & (preference <= 1)).all() and preference.std() > 0.1


def test_the_gold_judge_errs_on_the_gold_utility_as_a_rater_does(answered):
    prompts, first, second = answered
    gap = [gold_utility(p, a) - gold_utility(p, b) for p, a, b in zip(prompts, first, second, strict=True)]
    assert (gold_judge(prompts, first, second, noise=0) == (np.sign(np.round(gap, 9)) + 1) / 2).all()
    errors = np.random.default_rng(0).normal(0, NOISE, size=(2, 4000, 1))
    seen = (np.array(gap) + errors[0] - errors[1] > 0).mean(axis=0)
    assert gold_judge(prompts, first, second) == pytest.approx(seen, abs=0.03)


@pytest.mark.parametrize("noise", [{}, {"noise": 0}])
def test_an_empty_phrase_wins_next_to_nothing(answered, noise):
    prompts, first, _ = answered
    nothing = [NULL] * len(prompts)
    assert win_rate(gold_judge(prompts, nothing, [perfect(prompt) for prompt in prompts], **noise)).value < 0.1
    assert win_rate(gold_judge(prompts, nothing, first, **noise)).value < 25  # a poor responder is worse than nothing


def test_no_responder_beats_the_perfect_answer_often(answered):
    prompts, first, _ = answered
    assert win_rate(gold_judge(prompts, [perfect(prompt) for prompt in prompts], first)).value > 90


def test_the_gold_judge_refuses_unequal_numbers(answered):
    with pytest.raises(ValueError, match="prompts, outputs, baseline_outputs: 200, 1 and 200 texts; give one output"):
        gold_judge(answered[0], [NULL], answered[2])


def test_gold_scores_and_gaps_agree(pairs):
    gaps = gold_gaps(pairs)
    chosen = gold_scores(list(pairs["prompt"]), list(pairs["chosen"]))
    rejected = gold_scores(list(pairs["prompt"]), list(pairs["rejected"]))
    assert list(gaps.index) == list(pairs["pair_id"])
    assert gaps["utility"].tolist() == pytest.approx((chosen["utility"] - rejected["utility"]).tolist())
    assert list(chosen["characters"]) == [len(text) for text in pairs["chosen"]]
    assert list(chosen["tokens"]) == [len(text.split()) for text in pairs["chosen"]]
    assert (gaps["utility"] > 0).mean() > 0.6
