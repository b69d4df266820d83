"""Length control: by hand, against scipy and simulation, and against AlpacaEval's own leaderboard."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from pdsel.evaluation import (
    from_alpaca_eval,
    joint_difficulty,
    length_controlled_win_rate,
    preferences_at_equal_length,
    win_rate,
)
from pdsel.evaluation.length_control import _at_equal_length


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
    spread = (1 / (1 + np.exp(-0.8 * difficulty - 0.3))).std()
    assert found.standard_error == pytest.approx(100 * spread / np.sqrt(2000))  # no noise: the choice of prompts alone


def test_gamed_baselines_weigh_a_tenth_and_have_no_constant():
    """Against a plain likelihood, maximised by scipy."""
    baseline, model, difficulty = lengths(100)
    preference = np.random.default_rng(1).random(100)
    gamed = pd.DataFrame({"x": [0.9, -0.9, 0.5], "difficulty": [-1.0, 0.5, 2.0], "pref": [0.02, 0.95, 0.1]})
    gap = np.tanh((baseline - model) / (baseline - model).std())

    def loss(w):
        own, other = w[0] * gap + w[1] * difficulty + w[2], w[0] * gamed["x"] + w[1] * gamed["difficulty"]
        each = [
            preference * log_expit(own) + (1 - preference) * log_expit(-own),
            0.1 * (gamed["pref"] * log_expit(other) + (1 - gamed["pref"]) * log_expit(-other)),
        ]
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
    "too few": (
        {"length_model": [1.0]},
        r"length_model: shape \(1,\), preference has \(200,\); give one value per prompt",
    ),
    "NaN": (
        {"length_baseline": np.full(200, np.nan)},
        r"length_baseline is NaN or infinite.*: 200 \(first: 0, 1, 2, 3, 4\)\. Remedy",
    ),
    "equal": (
        {"length_model": lengths()[0] + 5},
        "length_baseline - length_model is the same everywhere.*use win_rate",
    ),
    "difficulty": ({"difficulty": np.full(200, np.inf)}, "difficulty is NaN or infinite at positions: 200 .*Remedy"),
}


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


def simulated(rng, n=300):
    """Preferences that depend on length, difficulty and chance; what they are at equal length is known."""
    difficulty = rng.normal(size=n)
    baseline, model = rng.integers(200, 2000, n).astype(float), rng.integers(600, 2400, n).astype(float)
    gap = np.tanh((baseline - model) / (baseline - model).std())
    preference = (rng.random(n) < expit(0.8 * gap + 0.7 * difficulty - 0.4)).astype(float)
    return preference, baseline, model, difficulty


def test_the_interval_covers_the_rate_at_equal_length():
    """The truth is the mean over all prompts there could be, not over those drawn."""
    rng = np.random.default_rng(0)
    truth = 100 * expit(0.7 * rng.normal(size=1_000_000) - 0.4).mean()
    covered = []
    for _ in range(500):
        *judged, difficulty = simulated(rng)
        found = length_controlled_win_rate(*judged, difficulty=difficulty)
        covered.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_standard_error_is_the_bootstraps():
    rng = np.random.default_rng(1)
    *judged, difficulty = simulated(rng)
    values = []
    for _ in range(300):
        drawn = rng.integers(0, len(difficulty), len(difficulty))
        again = [column[drawn] for column in judged]
        values.append(length_controlled_win_rate(*again, difficulty=difficulty[drawn]).value)
    found = length_controlled_win_rate(*judged, difficulty=difficulty)
    assert found.standard_error == pytest.approx(np.std(values), rel=0.15)


def test_the_contribution_of_a_prompt_is_what_leaving_it_out_takes():
    """The jackknife's pseudo-values, by refitting without each prompt; a wrong sign of a term shows in single prompts."""
    rng = np.random.default_rng(3)
    n = 80
    gap, difficulty = np.tanh(rng.normal(size=n)), rng.normal(size=n)
    y = (rng.random(n) < expit(1.5 * gap - difficulty + 0.5)).astype(float)
    design = np.column_stack([gap, difficulty, np.ones(n)])
    contributions = _at_equal_length(y, design)
    without = np.array([_at_equal_length(np.delete(y, i), np.delete(design, i, axis=0)).mean() for i in range(n)])
    pseudo_values = n * contributions.mean() - (n - 1) * without
    assert np.corrcoef(contributions, pseudo_values)[0, 1] > 0.99
    assert contributions.std() == pytest.approx(pseudo_values.std(), rel=0.15)


def test_equal_lengths_throughout_leave_the_win_rate():
    preference = np.random.default_rng(0).random(50)
    found = length_controlled_win_rate(preference, np.full(50, 7), np.full(50, 7))
    assert found.value == pytest.approx(100 * preference.mean())


def policies(count, n=120, seed=0):
    """Policies of rising strength on prompts of known difficulty, and the difficulty."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1.2, n)
    frames = []
    for place in range(count):
        baseline, model = rng.integers(200, 2000, n), rng.integers(200, 2000, n) + 100 * place
        gap = np.tanh((baseline - model) / (baseline - model).std())
        chance = expit(0.5 * gap + difficulty + 0.2 * place - 0.5)
        frames.append(
            pd.DataFrame(
                {
                    "method": f"m{place}",
                    "prompt_id": [f"q{i}" for i in range(n)],
                    "preference": chance,
                    "length_baseline": baseline,
                    "length_model": model,
                }
            )
        )
    return pd.concat(frames, ignore_index=True), difficulty


def test_difficulty_is_found_from_enough_policies():
    spreads = []
    for count, near in [(2, 0.9), (12, 0.97)]:
        outcomes, difficulty = policies(count)
        found = joint_difficulty(outcomes).loc[[f"q{i}" for i in range(120)]]
        assert np.corrcoef(found, difficulty)[0, 1] > near
        spreads.append(found.std() / difficulty.std())
    assert 0.2 < spreads[0] < 0.5 < 0.6 < spreads[1] < 1  # the prior shrinks what few policies say


def test_difficulty_and_equal_length_ignore_the_order_of_rows():
    outcomes, _ = policies(4)
    shuffled = outcomes.sample(frac=1, random_state=0)
    pd.testing.assert_series_equal(joint_difficulty(outcomes), joint_difficulty(shuffled), rtol=1e-5, atol=1e-7)
    again = preferences_at_equal_length(shuffled).loc[outcomes.index]
    pd.testing.assert_series_equal(preferences_at_equal_length(outcomes), again, rtol=1e-5, atol=1e-6)


def test_the_baseline_has_no_say_in_difficulty():
    outcomes, _ = policies(3)
    itself = outcomes[outcomes["method"] == "m0"].assign(method="SFT", preference=0.5)
    both = pd.concat([outcomes, itself], ignore_index=True)
    found = preferences_at_equal_length(both, baseline="SFT")
    assert (found[both["method"] == "SFT"] == 0.5).all()
    assert found[: len(outcomes)].tolist() == preferences_at_equal_length(outcomes).tolist()
    assert found.attrs["variant"] == "length, difficulty estimated jointly from 3 policies"


def test_difficulty_needs_two_methods_and_its_columns():
    outcomes, _ = policies(1)
    with pytest.raises(ValueError, match="at least 2 methods"):
        joint_difficulty(outcomes)
    with pytest.raises(ValueError, match="outcomes: column missing: 1 .*length_model"):
        joint_difficulty(outcomes.drop(columns="length_model"))


@pytest.fixture(scope="module")
def rated(shared):
    """The judge's preferences in our layout."""
    table = pd.read_parquet(shared / "alpaca_eval" / "annotations.parquet")
    return table.assign(
        method=table["model"].astype(str),
        prompt_id=table["index"],
        length_baseline=table["len_1"],
        length_model=table["len_2"],
        preference=from_alpaca_eval(table["preference"]),
    )


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
        alone = length_controlled_win_rate(preference, *lengths)
        rows[model] = {"wr": win_rate(preference), "lc": controlled, "alone": alone}
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


def facts(ours, published):
    """Mean and largest distance from the published numbers, mean signed distance, and rank correlation."""
    error = ours - published
    return error.abs().mean(), error.abs().max(), error.mean(), ours.corr(published, method="spearman")


def quoted(text):
    """The numbers of the docstring's note, in the order that `facts` gives them."""
    found = re.search(text, " ".join(length_controlled_win_rate.__doc__.split()))
    return [float(number.rstrip(".")) for number in found.groups()]


def test_the_docs_say_how_wrong_each_variant_is(leaderboard, rated):
    table, estimates = leaderboard
    published = table["length_controlled_winrate"]
    mean, most, _, rank = facts(table["lc"], published)
    pattern = r"gamed rows: ([\d.]+) points on average, at most ([\d.]+), rank correlation ([\d.]+)"
    assert quoted(pattern) == pytest.approx([mean, most, rank], abs=0.006)
    mean, most, signed, rank = facts(table["alone"], published)
    pattern = r"On length alone: ([\d.]+) points, at most ([\d.]+), nearly always too high, rank correlation ([\d.]+)"
    assert quoted(pattern) == pytest.approx([mean, most, rank], abs=0.06)
    assert signed > 0.97 * mean
    assert quoted(r"worse than the raw win rate's ([\d.]+)") == pytest.approx(
        [facts(table["wr"], published)[3]], abs=0.006
    )
    assert {estimate.variant for estimate in estimates["alone"]} == {"length only (unreliable: no difficulty given)"}
    joint = 100 * preferences_at_equal_length(rated).groupby(rated["method"]).mean()
    mean, most, _, rank = facts(joint, published)
    pattern = r"no gamed rows: ([\d.]+) points, at most ([\d.]+), rank correlation ([\d.]+)"
    assert quoted(pattern) == pytest.approx([mean, most, rank], abs=0.06)


def test_difficulty_found_jointly_resembles_the_given_one(shared, rated):
    given = pd.read_csv(shared / "alpaca_eval" / "instruction_difficulty.csv").set_index("index")[
        "instruction_difficulty"
    ]
    found = joint_difficulty(rated)
    found.index = found.index.astype(int)
    assert found.corr(given) > 0.85


def test_the_baseline_judged_against_itself_gets_half(shared):
    """The leaderboard lists its own baseline: every preference a draw, every difference in length nil."""
    given = pd.read_csv(shared / "alpaca_eval" / "instruction_difficulty.csv")["instruction_difficulty"]
    gamed = pd.read_csv(shared / "alpaca_eval" / "gamed_rows.csv")
    same = np.full(805, 1000)
    found = length_controlled_win_rate(np.full(805, 0.5), same, same, difficulty=given, gamed=gamed)
    assert found.value == pytest.approx(50, abs=1e-6)


def test_a_model_that_never_wins_gets_nothing(shared):
    given = pd.read_csv(shared / "alpaca_eval" / "instruction_difficulty.csv")["instruction_difficulty"]
    gamed = pd.read_csv(shared / "alpaca_eval" / "gamed_rows.csv")
    rng = np.random.default_rng(0)
    for never in (0.0, 1.0):
        found = length_controlled_win_rate(
            np.full(805, never), rng.integers(1, 999, 805), rng.integers(1, 999, 805), difficulty=given, gamed=gamed
        )
        assert found.value == found.low == found.high == 100 * never
