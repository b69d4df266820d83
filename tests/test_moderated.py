"""Moderated tests: the parts of a variance against statsmodels, plain cases against scipy, the prior against known priors."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import polygamma
from statsmodels.stats.anova import anova_lm

from pdsel.evaluation import best_methods, compare_methods, guarded_variances, mean_and_variances, moderated_t
from pdsel.evaluation.moderated import variance_prior


def table_of(seeds=4, prompts=30, number=0):
    rng = np.random.default_rng(number)
    of_seeds, of_prompts = rng.normal(1, 2, (seeds, 1)), rng.normal(0, 3, prompts)
    return pd.DataFrame(of_seeds + of_prompts + rng.normal(0, 1, (seeds, prompts)))


def test_the_parts_of_a_variance_are_those_of_the_analysis_of_variance():
    table = table_of()
    long = table.rename_axis("seed").reset_index().melt("seed", var_name="prompt")
    squares = anova_lm(smf.ols("value ~ C(seed) + C(prompt)", long).fit())["mean_sq"]
    found = mean_and_variances(table)
    assert found["variance"] == pytest.approx(squares["C(seed)"] / 30)
    assert found["prompt_variance"] == pytest.approx((squares["C(prompt)"] - squares["Residual"]) / 4 / 30)
    assert (found["value"], found["replicates"]) == (pytest.approx(long["value"].mean()), 4)


def test_prompts_of_each_seed_add_nothing_to_what_seeds_do():
    values = table_of(3, 5)
    own = pd.DataFrame({(seed, prompt): {seed: values.loc[seed, prompt]} for seed in range(3) for prompt in range(5)})
    found = mean_and_variances(own)
    assert found["prompt_variance"] == 0 and found["variance"] == pytest.approx(values.mean(axis=1).var(ddof=1))


def test_a_single_seed_is_a_t_test_over_prompts():
    table = table_of(1, 40)
    expected = stats.ttest_1samp(table.iloc[0], 0)
    found = moderated_t(pd.DataFrame([mean_and_variances(table)] * 3)).iloc[0]
    assert found["p"] == pytest.approx(expected.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected.confidence_interval()))


def test_two_comparisons_have_nothing_to_borrow():
    """Each is Student's t over the seeds' means."""
    means = np.random.default_rng(0).normal(1, 2, (2, 8))
    rows = [{"value": m.mean(), "variance": m.var(ddof=1)} for m in means]
    found = moderated_t(pd.DataFrame(rows).assign(seeds=8, replicates=8, prompt_variance=0.0))
    assert found["p"].tolist() == pytest.approx([stats.ttest_1samp(m, 0).pvalue for m in means])


@pytest.mark.parametrize("prior_freedom", [2.0, 6.0, 20.0])
def test_the_prior_that_variances_came_from_is_found(prior_freedom):
    rng = np.random.default_rng(0)
    true = 9.0 * prior_freedom / rng.chisquare(prior_freedom, 20_000)
    found = variance_prior(true * rng.chisquare(7, 20_000) / 7, np.full(20_000, 7))
    assert found == (pytest.approx(prior_freedom, rel=0.1), pytest.approx(9.0, rel=0.03))


def test_the_prior_by_hand():
    """The spread of the logarithms is what 7 and d0 degrees of freedom make together: trigamma(3.5) + trigamma(d0 / 2)."""
    spread = np.sqrt(polygamma(1, 3.5) + polygamma(1, 2.0))
    freedom, _ = variance_prior(np.exp(spread * np.array([-1.0, 0.0, 1.0])), [7, 7, 7])
    assert freedom == pytest.approx(4.0)


def test_a_variance_is_only_ever_raised():
    variances = np.array([0.5, 1.0, 2.0, 30.0])
    freedom, common = variance_prior(variances, np.full(4, 7))
    moderated = (freedom * common + 7 * variances) / (freedom + 7)
    guarded, total = guarded_variances(variances, np.full(4, 7))
    assert guarded.tolist() == pytest.approx(np.maximum(moderated, variances).tolist())
    assert guarded[0] > 0.5 and guarded[3] == 30 and total.tolist() == pytest.approx([min(freedom + 7, 28)] * 4)


def test_variances_of_zero_are_moderated_like_the_smallest():
    guarded, freedom = guarded_variances([0.0, 2.0, 3.0, 4.0], [7] * 4)
    assert 0 < guarded[0] < 2 and np.isfinite(freedom).all()
    assert guarded_variances([0.0, 0.0, 0.0], [7] * 3)[0].tolist() == [0, 0, 0]


@given(st.integers(0, 2**16), st.floats(0.01, 100))
@settings(max_examples=20)
def test_units_and_order_change_no_p_value(number, unit):
    rng = np.random.default_rng(number)
    means = pd.DataFrame({"value": rng.normal(0, 1, 6), "variance": rng.chisquare(4, 6), "prompt_variance": 0.1})
    means = means.assign(seeds=5, replicates=5)
    scaled = means.assign(value=unit * means["value"])
    scaled[["variance", "prompt_variance"]] *= unit**2
    order = rng.permutation(6)
    again = moderated_t(scaled.iloc[order])["p"]
    assert again.to_numpy() == pytest.approx(moderated_t(means)["p"].to_numpy()[order])


def outcomes_of(means, *, seeds=8, prompts=20, of_seeds=1.0, number=0):
    """Made-up win rates: what every method's policies win on average, and how much its seeds differ."""
    rng = np.random.default_rng(number)
    frames = []
    for method, mean in means.items():
        for seed in range(seeds):
            values = mean + rng.normal(0, of_seeds) + rng.normal(0, 2, prompts)
            frames.append(
                pd.DataFrame({"method": method, "seed": seed, "prompt_id": range(prompts), "win_rate": values})
            )
    return pd.concat(frames, ignore_index=True)


def test_one_lucky_variance_makes_no_finding():
    """Three seeds that agree by chance on a small difference; the seeds of the other methods disagree."""
    outcomes = outcomes_of({"PD": 60, "a": 60, "b": 60, "c": 60, "d": 60}, seeds=3, of_seeds=4.0)
    lucky = outcomes[outcomes["method"] == "PD"].assign(method="lucky")
    lucky["win_rate"] += np.array([-4.3, -4.9, -5.7])[lucky["seed"]]
    found = compare_methods(pd.concat([outcomes, lucky]), metric="win_rate", reference="PD").set_index("other")
    alone = stats.ttest_1samp([-4.3, -4.9, -5.7], 0).pvalue
    assert 5 * alone < 0.05 < found.loc["lucky", "p_holm"] and found.loc["lucky", "seeds"] == 3


def test_many_alike_variances_find_what_each_alone_cannot():
    found = compare_methods(
        outcomes_of({"PD": 60, **dict.fromkeys("abcdefghij", 57.0)}), metric="win_rate", reference="PD"
    )
    assert (found["p_holm"] < 0.05).mean() > 0.7


def test_the_best_method_and_those_it_does_not_surely_beat():
    outcomes = outcomes_of({"far": 40, "best": 60, "near": 59.8, "also near": 59.5})
    names = best_methods(outcomes, metric="win_rate")
    assert set(names) == {"best", "near", "also near"}
    means = outcomes.groupby("method")["win_rate"].mean()
    assert names == sorted(names, key=means.get, reverse=True)
    assert best_methods(outcomes[outcomes["method"] == "far"], metric="win_rate") == ["far"]
    shuffled = outcomes.sample(frac=1, random_state=0)
    assert set(best_methods(shuffled, metric="win_rate")) == set(names)


def test_the_interval_by_hand():
    """Variance 8 from 8 seeds is a standard error of 1; alike variances give 3 x 7 degrees of freedom, whose t is 2.0796."""
    means = pd.DataFrame(
        {"value": [3.0, 0.0, 0.0], "seeds": 8, "replicates": 8, "variance": 8.0, "prompt_variance": 0.0}
    )
    found = moderated_t(means)
    assert list(found["standard_error"]) == pytest.approx([1, 1, 1])
    assert list(found["low"]) == pytest.approx([3 - 2.0796, -2.0796, -2.0796], abs=1e-4)
    assert list(found["high"]) == pytest.approx([3 + 2.0796, 2.0796, 2.0796], abs=1e-4)
