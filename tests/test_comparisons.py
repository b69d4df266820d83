"""Methods against each other: coverage of every interval by simulation, scipy's tests, Bradley-Terry by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from pdsel.evaluation import (
    bradley_terry,
    compare_methods,
    duels,
    head_to_head,
    mean_over_prompts_and_seeds,
    p_value_text,
    paired_difference,
    win_rate,
)
from pdsel.evaluation.judges import gold_judge
from pdsel.notesworld import draw_prompts

SIMULATED = 500


@pytest.mark.parametrize("truth", [0.2, 0.5, 0.85])
@pytest.mark.parametrize("kind", ["0 or 1", "probabilities"])
def test_the_bootstrap_interval_of_a_win_rate_covers_it(truth, kind):
    rng = np.random.default_rng(0)
    shape = (SIMULATED, 200)
    drawn = rng.random(shape) < truth if kind == "0 or 1" else rng.beta(truth, 1 - truth, shape)
    covered = [found.low <= 100 * truth <= found.high for found in map(win_rate, drawn.astype(float))]
    assert 0.93 <= np.mean(covered) <= 0.97


def seeds_by_prompts(rng, *, seeds, prompts, of_seeds, own_prompts=False):
    """Differences with a known mean of 0: what seeds, prompts and chance add."""
    chance = rng.normal(0, 0.2, (seeds, prompts))
    table = rng.normal(0, of_seeds, (seeds, 1)) + chance + rng.normal(0, 0.3, (seeds if own_prompts else 1, prompts))
    if not own_prompts:
        return pd.DataFrame(table)
    return pd.DataFrame({(s, p): {s: table[s, p]} for s in range(seeds) for p in range(prompts)}).sort_index()


@pytest.mark.parametrize("of_seeds", [0.02, 0.1])
@pytest.mark.parametrize("own_prompts", [False, True])
def test_the_interval_over_prompts_and_seeds_covers(of_seeds, own_prompts, monkeypatch):
    monkeypatch.setattr("pdsel.evaluation.comparisons.RESAMPLES", 500)  # quicker; the default is four times that
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(SIMULATED):
        table = seeds_by_prompts(
            rng, seeds=5, prompts=40 if own_prompts else 100, of_seeds=of_seeds, own_prompts=own_prompts
        )
        found = mean_over_prompts_and_seeds(table)
        covered.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.975


def test_prompts_alone_would_be_too_sure():
    """Why seeds are resampled: an interval over prompts misses the truth most of the time when seeds differ."""
    rng = np.random.default_rng(0)
    covered = {"prompts": [], "both": []}
    for _ in range(60):
        table = seeds_by_prompts(rng, seeds=5, prompts=100, of_seeds=0.2)
        for name, found in [
            ("both", mean_over_prompts_and_seeds(table)),
            ("prompts", mean_over_prompts_and_seeds(table.mean().to_frame().T)),
        ]:
            covered[name].append(found.low <= 0 <= found.high)
    assert np.mean(covered["prompts"]) < 0.7 < 0.88 < np.mean(covered["both"])


def test_one_seed_is_students_interval_over_prompts():
    values = np.random.default_rng(0).normal(3, 1, 200)
    found = mean_over_prompts_and_seeds(pd.DataFrame([values]))
    low, high = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == (
        pytest.approx(values.mean()),
        pytest.approx(low, abs=0.02),
        pytest.approx(high, abs=0.02),
    )
    assert found.variant == "bootstrap over 200 prompts, Student's t" and found.n == 200


def test_seeds_with_prompts_of_their_own_are_students_interval_over_seeds():
    rng = np.random.default_rng(0)
    table = seeds_by_prompts(rng, seeds=6, prompts=30, of_seeds=0.5, own_prompts=True)
    means = table.mean(axis=1)
    found = mean_over_prompts_and_seeds(table)
    assert found.standard_error == pytest.approx(stats.sem(means), rel=0.08)
    assert (found.high - found.value) / found.standard_error == pytest.approx(stats.t.ppf(0.975, 5))
    assert found.variant == "bootstrap over 6 seeds, Student's t"


@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(2, 9))
@settings(max_examples=20, deadline=None)
def test_the_mean_ignores_the_order_of_seeds_and_prompts(number, seeds, prompts):
    rng = np.random.default_rng(number)
    table = pd.DataFrame(rng.random((seeds, prompts)))
    found = mean_over_prompts_and_seeds(table)
    again = mean_over_prompts_and_seeds(table.iloc[rng.permutation(seeds), rng.permutation(prompts)])
    assert found.value == pytest.approx(again.value) and found.low <= found.value <= found.high
    assert found.standard_error == pytest.approx(again.standard_error, rel=0.25, abs=1e-12)


def outcomes(shift=0.3, n=80, seeds=(0, 1, 2)):
    rng = np.random.default_rng(0)
    frames = []
    for seed in seeds:
        for place, method in enumerate(["PD", "ALL", "RAND"]):
            frames.append(
                pd.DataFrame(
                    {"method": method, "prompt_id": range(n), "seed": seed, "utility": rng.normal(-shift * place, 1, n)}
                )
            )
    return pd.concat(frames, ignore_index=True)


def test_a_difference_is_paired_by_seed_and_prompt():
    table = outcomes()
    table["utility"] += table["prompt_id"] * 100.0  # prompts differ far more than methods, and it must not matter
    found = paired_difference(table, "PD", "ALL", metric="utility")
    assert found.standard_error < 0.3
    back = paired_difference(table.sample(frac=1, random_state=0), "ALL", "PD", metric="utility")
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_a_preference_differs_in_percentage_points():
    table = pd.DataFrame(
        {"method": ["PD", "PD", "ALL", "ALL"], "prompt_id": [0, 1, 0, 1], "preference": [1, 0.5, 0.5, 0.5]}
    )
    assert paired_difference(table, "PD", "ALL").value == 25


def test_a_p_value_is_never_printed_as_nothing():
    assert [p_value_text(p) for p in (1.0, 0.04996, 0.0001, 0.00009, 0.0)] == ["1.0000", "0.0500", "0.0001"] + [
        "< 0.0001"
    ] * 2


def test_p_values_are_those_of_a_paired_t_test_and_holms():
    table = outcomes(seeds=(0,), n=400, shift=0.15)
    found = compare_methods(table, metric="utility")
    wide = table.pivot(index="prompt_id", columns="method", values="utility")
    expected = [
        stats.ttest_rel(wide[one], wide[other]).pvalue for one, other in zip(found["one"], found["other"], strict=True)
    ]
    assert found["p"].tolist() == pytest.approx(expected, rel=0.25, abs=1e-4)
    # Holm by hand: the smallest times 3, the next times 2, the last once; never decreasing
    order = np.argsort(found["p"])
    by_hand = np.minimum(1, np.maximum.accumulate(found["p"].to_numpy()[order] * [3, 2, 1]))
    assert found["p_holm"].to_numpy()[order].tolist() == pytest.approx(by_hand.tolist())
    outside = (found["low"] > 0) | (found["high"] < 0)
    assert (outside == (found["p"] < 0.05)).all()


def test_no_difference_is_no_finding():
    table = outcomes()
    same = pd.concat([table, table[table["method"] == "PD"].assign(method="COPY")])
    row = compare_methods(same, metric="utility", reference="COPY").set_index("other").loc["PD"]
    assert (row["difference"], row["p"], row["p_holm"]) == (0, 1, 1)


BAD_OUTCOMES = {
    "no such method": (lambda t: t, {"one": "PDX"}, "outcomes: method is missing: 1 .*PDX.*use two of"),
    "no metric": (lambda t: t.drop(columns="utility"), {}, "outcomes: column missing: 1 .*utility"),
    "one side only": (lambda t: t.iloc[1:], {}, r"\(seed, prompt_id\) is judged for only one of PD and ALL: 1"),
    "twice": (lambda t: pd.concat([t, t.iloc[:1]]), {}, "prompt_id of PD occurs twice"),
    "NaN": (lambda t: t.assign(utility=t["utility"].where(t.index > 0)), {}, "utility of PD is NaN: 1 "),
}


@pytest.mark.parametrize(("spoil", "change", "problem"), BAD_OUTCOMES.values(), ids=BAD_OUTCOMES)
def test_bad_outcomes_are_refused(spoil, change, problem):
    with pytest.raises(ValueError, match=problem):
        paired_difference(spoil(outcomes()), **({"one": "PD", "other": "ALL"} | change), metric="utility")


def test_a_comparison_needs_two_methods_and_a_known_reference():
    with pytest.raises(ValueError, match="1 method; a comparison needs 2"):
        compare_methods(outcomes().query("method == 'PD'"), metric="utility")
    with pytest.raises(ValueError, match="reference is not a method: 1 .*SFT"):
        compare_methods(outcomes(), metric="utility", reference="SFT")


def fought(strengths, n=60, seed=0, exact=False):
    """Duels of methods with known strengths; exact probabilities or wins drawn from them."""
    rng = np.random.default_rng(seed)
    rows = []
    names = list(strengths.keys())
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            chance = expit(strengths[one] - strengths[other])
            wins = np.full(n, chance) if exact else (rng.random(n) < chance).astype(float)
            rows.append(pd.DataFrame({"one": one, "other": other, "prompt": range(n), "preference": wins}))
    return pd.concat(rows, ignore_index=True)


def test_bradley_terry_finds_the_strengths():
    strengths = {"A": 1.0, "B": 0.25, "C": -0.25, "D": -1.0}
    exact = bradley_terry(fought(strengths, exact=True), resamples=2)
    assert exact["strength"].to_dict() == pytest.approx(strengths, abs=1e-4)
    assert list(exact.index) == ["A", "B", "C", "D"]
    against = [expit(1.0 - strengths[m]) for m in "BCD"]
    assert exact.loc["A", "win_rate"] == pytest.approx(100 * np.mean(against), abs=0.01)


def test_the_intervals_of_strengths_cover_them():
    strengths = pd.Series({"A": 0.8, "B": 0.0, "C": -0.8})
    covered = []
    for seed in range(60):
        found = bradley_terry(fought(strengths, n=100, seed=seed), resamples=100).loc[strengths.index]
        covered.extend((found["low"] < strengths) & (strengths < found["high"]))
    assert 0.88 < np.mean(covered) < 0.99
    assert found["rank_low"].tolist() == found["rank_high"].tolist() == [1, 2, 3]


def test_two_methods_are_the_log_odds_of_their_win_rate():
    table = fought({"A": 0.0, "B": 0.0}, n=50, seed=3)
    found = bradley_terry(table, resamples=2)["strength"]
    assert abs(found["A"] - found["B"]) == pytest.approx(abs(logit(table["preference"].mean())), abs=1e-3)


def test_a_method_that_never_wins_has_a_finite_strength():
    table = pd.DataFrame({"one": "A", "other": "B", "prompt": range(20), "preference": 1.0})
    found = bradley_terry(table, resamples=5)
    assert np.isfinite(found["strength"]).all() and found.index[0] == "A" and found.loc["B", "win_rate"] < 0.1


def test_bradley_terry_ignores_who_is_named_first():
    table = fought({"A": 0.5, "B": 0.0, "C": -0.5})
    turned = table.rename(columns={"one": "other", "other": "one"}).assign(preference=1 - table["preference"])
    one, other = (bradley_terry(t, resamples=20)["strength"].sort_index() for t in (table, turned))
    assert one.tolist() == pytest.approx(other.tolist(), abs=1e-6)


def test_head_to_head_is_what_the_judge_says():
    prompts = draw_prompts(20, split="eval", seed=0)
    outputs = {
        "right": [f"{p.split()[1]} {p.split()[2]} ." for p in prompts],
        "none": [""] * 20,
        "polite": ["glad to help ."] * 20,
    }
    met = duels(gold_judge, prompts, outputs)
    assert len(met) == 3 * 20 and set(met) == {"one", "other", "prompt", "preference"}
    table = head_to_head(met)
    assert table.loc["right", "none"] == pytest.approx(
        win_rate(gold_judge(prompts, outputs["right"], outputs["none"])).value
    )
    assert (table + table.T == 100).all().all()
    assert bradley_terry(met, resamples=5).index[0] == table.mean(axis=1).idxmax()
