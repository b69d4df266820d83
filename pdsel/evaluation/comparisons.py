"""Methods against each other: over prompts and seeds, paired, corrected for how many there are, and ranked."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pdsel.checks import DataError, refuse, require_columns
from pdsel.evaluation.estimates import CONFIDENCE, RESAMPLES, Estimate, checked_preferences
from pdsel.evaluation.soft_logistic import soft_logistic

WEAK = 1e-6  # the ridge of Bradley-Terry strengths: only keeps a method that never wins from minus infinity


def mean_over_prompts_and_seeds(table, *, seed=0):
    """The mean of a table of seeds x prompts, and how far it would move with other seeds and other prompts.

    Both are resampled in each draw (Owen 2007): prompts with replacement, and one seed less than there are, since k seeds
    drawn from k vary too little by (k - 1)/k and there are few (Rao & Wu 1988). The interval is Student's, with
    Satterthwaite's degrees of freedom: near k - 1 where seeds differ, near the prompts' number where only prompts do. Where
    each seed has its own prompts, seeds alone are resampled: their means differ by the choice of prompts already.

    Parameters
    ----------
    table : pandas.DataFrame, shape (seeds, prompts)
        NaN where a seed was not judged on a prompt, as when each seed has its own prompts.
    seed : int
        Of the resampling.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If a row or a column holds no value.

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]])
    >>> estimate = mean_over_prompts_and_seeds(table)
    >>> estimate.value, estimate.n
    (0.625, 4)
    """
    values, known = table.fillna(0.0).to_numpy(dtype=float), table.notna().to_numpy(dtype=float)
    refuse(table.index[known.sum(axis=1) == 0], "seeds", "have no prompt", "drop them")
    refuse(table.columns[known.sum(axis=0) == 0], "prompts", "have no value", "drop them")
    seeds, prompts = known.shape
    value = float(values.sum() / known.sum())
    nested = seeds > 1 and known.sum(axis=0).max() == 1
    over = [f"{prompts} prompts"] * (not nested) + [f"{seeds} seeds"] * (seeds > 1)
    variant = f"bootstrap over {' and '.join(over)}, Student's t"
    if known.sum() == 1:
        return Estimate(value, float("nan"), value, value, variant, prompts)
    rng = np.random.default_rng(seed)
    drawn = np.ones((RESAMPLES, 1)) if seeds == 1 else rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), RESAMPLES)
    weights = np.ones(prompts) if nested else rng.multinomial(prompts, np.full(prompts, 1 / prompts), RESAMPLES)
    means = ((drawn @ values) * weights).sum(axis=1) / ((drawn @ known) * weights).sum(axis=1)
    error = float(means.std(ddof=1))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, _freedom(values, known))) * error
    return Estimate(value, error, value - half, value + half, variant, prompts)


def _freedom(values, known):
    """Satterthwaite's degrees of freedom of a sum of two variances: of the seeds' means and of the prompts' means."""
    parts = []
    for axis in (1, 0) if known.sum(axis=0).max() > 1 or len(known) == 1 else (1,):
        means = values.sum(axis=axis) / known.sum(axis=axis)
        if len(means) > 1:
            parts.append((float(means.var(ddof=1)) / len(means), len(means) - 1))
    whole = sum(variance for variance, _ in parts)
    rest = sum(variance**2 / freedom for variance, freedom in parts)
    return whole**2 / rest if rest > 0 else parts[0][1]


def paired_difference(outcomes, one, other, *, metric="preference", seed=0):
    """How much more `one` has of a metric than `other`, on the same prompts and seeds.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        A row per method, prompt and, where there is a column of that name, `seed`: `method, prompt_id` and the metric.
    one, other : str
        Methods.
    metric : str
        A numeric column; "preference" gives percentage points of win rate, any other its own unit.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        For a missing method, or prompts (of a seed) that only one of the two has.

    Examples
    --------
    >>> outcomes = pd.DataFrame({"method": ["PD", "PD", "ALL", "ALL"], "prompt_id": ["a", "b"] * 2,
    ...                          "utility": [0.75, 1.0, 0.25, 0.5]})
    >>> paired_difference(outcomes, "PD", "ALL", metric="utility").value
    0.5
    """
    return mean_over_prompts_and_seeds(_differences(outcomes, one, other, metric), seed=seed)


def _differences(outcomes, one, other, metric):
    """Seeds x prompts."""
    require_columns(outcomes.columns, ["method", "prompt_id", metric], "outcomes")
    refuse(
        [name for name in (one, other) if name not in set(outcomes["method"])],
        "outcomes: method",
        "is missing",
        f"use two of {sorted(set(outcomes['method']))}",
    )
    keyed = outcomes if "seed" in outcomes else outcomes.assign(seed=0)
    sides = [keyed[keyed["method"] == name].set_index(["seed", "prompt_id"])[metric] for name in (one, other)]
    for name, side in zip((one, other), sides, strict=True):
        refuse(
            side.index[side.index.duplicated()], f"prompt_id of {name}", "occurs twice in a seed", "keep one row each"
        )
        refuse(side.index[side.isna()], f"{metric} of {name}", "is NaN", "drop these prompts for both methods")
    apart = sides[0].index.symmetric_difference(sides[1].index)
    refuse(apart, "(seed, prompt_id)", f"is judged for only one of {one} and {other}", "judge both on the same prompts")
    return ((sides[0] - sides[1]) * (100 if metric == "preference" else 1)).unstack("prompt_id")


def compare_methods(outcomes, *, metric="preference", reference=None):
    """Paired differences between methods, with p values corrected for the number of comparisons (Holm).

    Parameters
    ----------
    outcomes : pandas.DataFrame
        See `paired_difference`.
    metric : str
    reference : str, optional
        Compare every method with this one; else every pair of methods.

    Returns
    -------
    pandas.DataFrame
        `one, other, difference, low, high, p, p_holm`; the intervals are uncorrected 95 % intervals, and `p` is that of the
        same Student's t, two-sided.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> outcomes = pd.concat([pd.DataFrame({"method": m, "prompt_id": range(50), "utility": rng.normal(mean, 1, 50)})
    ...                       for m, mean in [("PD", 1.0), ("ALL", 0.0), ("RAND", 0.0)]])
    >>> compare_methods(outcomes, metric="utility", reference="PD")[["one", "other"]].values.tolist()
    [['PD', 'ALL'], ['PD', 'RAND']]
    """
    methods = list(dict.fromkeys(outcomes["method"]))
    refuse(
        [reference] if reference not in [None, *methods] else [], "reference", "is no method", f"use one of {methods}"
    )
    pairs = list(combinations(methods, 2)) if reference is None else [(reference, m) for m in methods if m != reference]
    if not pairs:
        raise DataError(f"outcomes: {len(methods)} method; a comparison needs 2")
    rows = []
    for one, other in pairs:
        table = _differences(outcomes, one, other, metric)
        found = mean_over_prompts_and_seeds(table)
        rows.append(
            {
                "one": one,
                "other": other,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "p": _p_value(found, table),
            }
        )
    result = pd.DataFrame(rows)
    return result.assign(p_holm=multipletests(result["p"], method="holm")[1])


def _p_value(found, table):
    if found.standard_error == 0:
        return 1.0 if found.value == 0 else 0.0
    freedom = _freedom(table.fillna(0.0).to_numpy(), table.notna().to_numpy(dtype=float))
    return float(2 * stats.t.sf(abs(found.value) / found.standard_error, freedom))


def duels(judge, prompts, outputs):
    """Every method against every other, prompt by prompt.

    Parameters
    ----------
    judge : callable
        `judge(prompts, outputs, baseline_outputs)`, see `pdsel.evaluation.judges`. It is asked once a pair of methods.
    prompts : list, length n
    outputs : dict
        Method to a list of n texts.

    Returns
    -------
    pandas.DataFrame
        `one, other, prompt` (its position) and `preference`, the probability that `one` beats `other`.
    """
    frames = [
        pd.DataFrame(
            {
                "one": one,
                "other": other,
                "prompt": range(len(prompts)),
                "preference": judge(prompts, outputs[one], outputs[other]),
            }
        )
        for one, other in combinations(outputs, 2)
    ]
    return pd.concat(frames, ignore_index=True)


def head_to_head(duels):
    """Win rate (%) of the method of the row against that of the column; 50 on the diagonal.

    >>> head_to_head(pd.DataFrame({"one": ["A"], "other": ["B"], "prompt": [0], "preference": [0.75]}))
            A     B
    A  50.0  75.0
    B  25.0  50.0
    """
    methods = list(dict.fromkeys([*duels["one"], *duels["other"]]))
    means = 100 * duels.groupby(["one", "other"])["preference"].mean()
    table = pd.DataFrame(50.0, index=methods, columns=methods)
    for (one, other), value in means.items():
        table.loc[one, other], table.loc[other, one] = value, 100 - value
    return table


def bradley_terry(duels, *, resamples=500, seed=0):
    """One scale for all methods: strengths whose difference is the log odds of winning (Bradley & Terry 1952).

    Unlike Elo ratings it depends on no order of the duels. Intervals come from resampling prompts, since what a prompt asks
    for touches all its duels.

    Parameters
    ----------
    duels : pandas.DataFrame
        See `duels`; a table of who beat whom is enough, not every pair needs to have met.
    resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        Index `method`, best first: `strength` (nats, mean 0) with `low` and `high`; `win_rate`, the percentage that the
        strengths give it against the average opponent; `rank_low` and `rank_high`, 1 being the best.

    Examples
    --------
    >>> met = pd.DataFrame({"one": ["A", "B"], "other": ["B", "C"], "prompt": [0, 0], "preference": [0.75, 0.75]})
    >>> bradley_terry(met, resamples=2)["strength"].diff().round(2).to_dict()  # ln 3 apart
    {'A': nan, 'B': -1.1, 'C': -1.1}
    """
    require_columns(duels.columns, ["one", "other", "prompt", "preference"], "duels")
    checked_preferences(duels["preference"])
    table = duels.pivot(index=["one", "other"], columns="prompt", values="preference")
    methods = pd.Index(dict.fromkeys([*duels["one"], *duels["other"]]), name="method")
    design = np.zeros((len(table), len(methods)))
    for row, (one, other) in enumerate(table.index):
        design[row, methods.get_loc(one)], design[row, methods.get_loc(other)] = 1, -1
    values, known = table.fillna(0.0).to_numpy(), table.notna().to_numpy(dtype=float)

    def strengths(weights):
        met = known @ weights
        fit = soft_logistic(
            design[met > 0], (values @ weights)[met > 0] / met[met > 0], weight=met[met > 0], penalty=WEAK
        )
        return fit - fit.mean()

    count = table.shape[1]
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    drawn = np.array([strengths(weights) for weights in draws])
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    ranks = np.quantile(stats.rankdata(-drawn, axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    best = strengths(np.ones(count))
    against = 100 / (1 + np.exp(best[None, :] - best[:, None]))
    rivals = (against.sum(axis=1) - 50) / (len(methods) - 1)
    found = pd.DataFrame(
        {
            "strength": best,
            "low": low,
            "high": high,
            "win_rate": rivals,
            "rank_low": ranks[0].round(),
            "rank_high": ranks[1].round(),
        },
        index=methods,
    )
    return found.sort_values("strength", ascending=False, kind="stable")
