"""Methods against each other: over prompts and seeds, paired, corrected for how many there are, and ranked."""

from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pdsel.checks import DataError, refuse, require_columns
from pdsel.evaluation.estimates import CONFIDENCE, RESAMPLES, Estimate, checked_preferences
from pdsel.evaluation.moderated import mean_and_variances, moderated_t
from pdsel.evaluation.soft_logistic import soft_logistic

# The ridge of Bradley-Terry strengths. It is far too weak to matter, but keeps a method that never wins from minus infinity.
WEAK = 1e-6
TAILS = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]


def mean_over_prompts_and_seeds(table, *, seed=0):
    """The mean of a table of seeds x prompts, and how far it would move with other seeds and other prompts.

    Each draw resamples both (Owen 2007): prompts with replacement, and one seed fewer than there are, since the mean of k
    seeds drawn from k varies too little by the factor (k - 1)/k, which matters when seeds are few (Rao & Wu 1988). The
    interval is Student's, with Satterthwaite's degrees of freedom: near k - 1 where seeds differ, near the number of
    prompts where only prompts differ. Where each seed has its own prompts, only seeds are resampled: their means already
    differ by the choice of prompts.

    Parameters
    ----------
    table : pandas.DataFrame, shape (seeds, prompts)
        NaN where a seed was not judged on a prompt, as when each seed has its own prompts.
    seed : int
        The seed of the resampling.

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
    values, known = _values_and_known(table)
    refuse(table.index[known.sum(axis=1) == 0], "seeds", "have no prompt", "drop them")
    refuse(table.columns[known.sum(axis=0) == 0], "prompts", "have no value", "drop them")
    seeds, prompts = known.shape
    nested = seeds > 1 and known.sum(axis=0).max() == 1  # each seed has its own prompts
    value = float(values.sum() / known.sum())
    variant = _bootstrap_variant(seeds, prompts, nested)
    if known.sum() == 1:
        return Estimate(value, float("nan"), value, value, variant, prompts)
    error = float(_resampled_means(values, known, nested, seed).std(ddof=1))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, _freedom(values, known))) * error
    return Estimate(value, error, value - half, value + half, variant, prompts)


def _values_and_known(table):
    """Two arrays of the table's shape: its values with 0 for NaN, and 1 where there is a value, else 0."""
    return table.fillna(0.0).to_numpy(dtype=float), table.notna().to_numpy(dtype=float)


def _bootstrap_variant(seeds, prompts, nested):
    resampled = []
    if not nested:
        resampled.append(f"{prompts} prompts")
    if seeds > 1:
        resampled.append(f"{seeds} seeds")
    return f"bootstrap over {' and '.join(resampled)}, Student's t"


def _resampled_means(values, known, nested, seed):
    """The mean in each of `RESAMPLES` draws of seeds and prompts, shape (RESAMPLES,)."""
    seed_counts, prompt_counts = _drawn_counts(*known.shape, seed)
    if nested:
        return (seed_counts @ values.sum(axis=1)) / (seed_counts @ known.sum(axis=1))
    totals = ((seed_counts @ values) * prompt_counts).sum(axis=1)
    return totals / ((seed_counts @ known) * prompt_counts).sum(axis=1)


# A table of many methods resamples the same seeds and prompts for each, and drawing them is what takes long.
@lru_cache(maxsize=2)
def _drawn_counts(seeds, prompts, seed):
    """How often each seed and each prompt is drawn, in arrays with a row per draw; a single seed always counts once."""
    rng = np.random.default_rng(seed)
    seed_counts = np.ones((RESAMPLES, 1))
    if seeds > 1:
        seed_counts = rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), RESAMPLES)
    prompt_counts = rng.multinomial(prompts, np.full(prompts, 1 / prompts), RESAMPLES)
    for counts in (seed_counts, prompt_counts):
        counts.setflags(write=False)
    return seed_counts, prompt_counts


def _freedom(values, known):
    """Satterthwaite's degrees of freedom of a sum of two variances: of the seeds' means and of the prompts' means."""
    every_seed_has_its_own_prompts = known.sum(axis=0).max() == 1 and len(known) > 1
    components = []
    for axis in (1,) if every_seed_has_its_own_prompts else (1, 0):
        means = values.sum(axis=axis) / known.sum(axis=axis)
        if len(means) > 1:
            components.append((float(means.var(ddof=1)) / len(means), len(means) - 1))
    total = sum(variance for variance, _ in components)
    weighted = sum(variance**2 / freedom for variance, freedom in components)
    return total**2 / weighted if weighted > 0 else components[0][1]


def paired_difference(outcomes, one, other, *, metric="preference", seed=0):
    """How much higher a metric is for `one` method than for `other`, on the same prompts and seeds.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        A row per method, prompt and, where there is a column of that name, `seed`: `method, prompt_id` and the metric.
    one, other : str
        Names of methods.
    metric : str
        A numeric column. "preference" gives percentage points of win rate, any other column its own unit.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If a method is missing, or if only one of the two was judged on a prompt (of a seed).

    Examples
    --------
    >>> outcomes = pd.DataFrame({"method": ["PD", "PD", "ALL", "ALL"], "prompt_id": ["a", "b"] * 2,
    ...                          "utility": [0.75, 1.0, 0.25, 0.5]})
    >>> paired_difference(outcomes, "PD", "ALL", metric="utility").value
    0.5
    """
    return mean_over_prompts_and_seeds(_differences(outcomes, one, other, metric), seed=seed)


def _differences(outcomes, one, other, metric):
    """The metric of `one` minus that of `other`: a table of seeds x prompts."""
    require_columns(outcomes.columns, ["method", "prompt_id", metric], "outcomes")
    methods = set(outcomes["method"])
    missing = [name for name in (one, other) if name not in methods]
    refuse(missing, "outcomes: method", "is missing", f"use two of {sorted(methods)}")
    ours, theirs = (_by_seed_and_prompt(outcomes, name, metric) for name in (one, other))
    refuse(
        ours.index.symmetric_difference(theirs.index),
        "(seed, prompt_id)",
        f"is judged for only one of {one} and {other}",
        "judge both on the same prompts",
    )
    unit = 100 if metric == "preference" else 1
    return ((ours - theirs) * unit).unstack("prompt_id")


def _by_seed_and_prompt(outcomes, method, metric):
    """The metric of one method, indexed by seed and prompt_id; the seed is 0 where outcomes name none."""
    keyed = outcomes if "seed" in outcomes else outcomes.assign(seed=0)
    values = keyed[keyed["method"] == method].set_index(["seed", "prompt_id"])[metric]
    refuse(
        values.index[values.index.duplicated()], f"prompt_id of {method}", "occurs twice in a seed", "keep one row each"
    )
    refuse(values.index[values.isna()], f"{metric} of {method}", "is NaN", "drop these prompts for both methods")
    return values


def compare_methods(outcomes, *, metric="preference", reference=None):
    """Paired differences between methods, with p values corrected for the number of comparisons (Holm).

    Over several seeds the tests are moderated t tests (`pdsel.evaluation.moderated`), calibrated where there are many
    comparisons and few seeds: of simulated families of 50 without any difference, at most 7 % have a corrected p below .05,
    from `moderated.STAR_SEEDS` seeds on. With one seed they are paired t tests over prompts, and say nothing of other seeds.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        See `paired_difference`.
    metric : str
    reference : str, optional
        Compare every method with this one; without it, every pair of methods is compared.

    Returns
    -------
    pandas.DataFrame
        `one, other, difference, low, high, p, p_holm, seeds`. The intervals are uncorrected 95 % intervals, and `p` belongs to
        the same Student's t, two-sided; `p_value_text` writes it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> outcomes = pd.concat([pd.DataFrame({"method": m, "prompt_id": range(50), "utility": rng.normal(mean, 1, 50)})
    ...                       for m, mean in [("PD", 1.0), ("ALL", 0.0), ("RAND", 0.0)]])
    >>> compare_methods(outcomes, metric="utility", reference="PD")[["one", "other"]].values.tolist()
    [['PD', 'ALL'], ['PD', 'RAND']]
    """
    methods = list(dict.fromkeys(outcomes["method"]))
    if reference is None:
        pairs = list(combinations(methods, 2))
    else:
        unknown = [] if reference in methods else [reference]
        refuse(unknown, "reference", "is not a method", f"use one of {methods}")
        pairs = [(reference, method) for method in methods if method != reference]
    if not pairs:
        raise DataError(f"outcomes: {len(methods)} method; a comparison needs 2")
    # Each method's rows are found once, as there may be thousands of pairs of methods.
    rows = dict(list(outcomes.groupby("method", sort=False)))
    both = (_differences(pd.concat([rows[one], rows[other]]), one, other, metric) for one, other in pairs)
    means = pd.DataFrame([mean_and_variances(differences) for differences in both])
    tests = moderated_t(means).rename(columns={"value": "difference"})
    found = pd.DataFrame(pairs, columns=["one", "other"]).join(tests)
    found["p_holm"] = multipletests(found["p"], method="holm")[1]
    return found[["one", "other", "difference", "low", "high", "p", "p_holm", "seeds"]]


def best_methods(outcomes, *, metric="preference"):
    """The methods among which the best one is, with 95 % confidence: all that the best observed one does not surely beat.

    The best observed method is compared with every other (`compare_methods`). It was chosen by the numbers that it is tested
    on, so the correction is Bonferroni's and one-sided, not Holm's: for whichever method is truly the best, the chance that
    any other surely beats it is at most 5 %, and so is the chance that it is missing here (multiple comparisons with the best,
    Hsu 1984).

    Parameters
    ----------
    outcomes : pandas.DataFrame
        See `paired_difference`.
    metric : str
        The higher, the better.

    Returns
    -------
    list of str
        The best observed method first, then the others by their mean.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> outcomes = pd.concat([pd.DataFrame({"method": m, "prompt_id": range(50), "utility": rng.normal(mean, 1, 50)})
    ...                       for m, mean in [("PD", 1.0), ("ALL", 0.9), ("RAND", 0.0)]])
    >>> best_methods(outcomes, metric="utility")
    ['PD', 'ALL']
    """
    means = outcomes.groupby("method", sort=False)[metric].mean().sort_values(ascending=False, kind="stable")
    best = means.index[0]
    if len(means) == 1:
        return [best]
    found = compare_methods(outcomes, metric=metric, reference=best).set_index("other")
    level = (1 - CONFIDENCE) / len(found)
    return [best, *(name for name in means.index[1:] if found.loc[name, "p"] / 2 > level)]


def p_value_text(p):
    """A p value with four decimals; one that would round to nothing is a bound, since no test is ever certain.

    >>> p_value_text(0.0213), p_value_text(0.0)
    ('0.0213', '< 0.0001')
    """
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def duels(judge, prompts, outputs):
    """Every method against every other, prompt by prompt.

    Parameters
    ----------
    judge : callable
        `judge(prompts, outputs, baseline_outputs)`, see `pdsel.evaluation.judges`. It is asked once per pair of methods.
    prompts : list, length n
    outputs : dict
        The name of a method to its list of n texts.

    Returns
    -------
    pandas.DataFrame
        `one, other, prompt` (the position of the prompt) and `preference`, the probability that `one` beats `other`.
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
    """The win rate (%) of the row's method against the column's method; 50 on the diagonal.

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
    """One scale for all methods: the difference of two strengths is the log odds of winning (Bradley & Terry 1952).

    Unlike Elo ratings, strengths do not depend on the order of the duels. Intervals come from resampling prompts, since
    a prompt affects all of its duels.

    Parameters
    ----------
    duels : pandas.DataFrame
        See `duels`. Not every pair of methods needs to have met.
    resamples, seed : int
        How often prompts are resampled, and the seed of the resampling.

    Returns
    -------
    pandas.DataFrame
        Index `method`, best first: `strength` (nats, mean 0) with `low` and `high`; `win_rate`, the percentage that the
        strengths give the method against its average opponent; `rank_low` and `rank_high`, 1 being the best.

    Examples
    --------
    >>> met = pd.DataFrame({"one": ["A", "B"], "other": ["B", "C"], "prompt": [0, 0], "preference": [0.75, 0.75]})
    >>> bradley_terry(met, resamples=2)["strength"].diff().round(2).to_dict()  # ln 3 apart
    {'A': nan, 'B': -1.1, 'C': -1.1}
    """
    require_columns(duels.columns, ["one", "other", "prompt", "preference"], "duels")
    checked_preferences(duels["preference"])
    met = duels.pivot(index=["one", "other"], columns="prompt", values="preference")
    methods = pd.Index(dict.fromkeys([*duels["one"], *duels["other"]]), name="method")
    design = _duel_design(met.index, methods)
    preferences, known = _values_and_known(met)
    prompts = met.shape[1]

    draws = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), resamples)
    drawn = np.array([_strengths(design, preferences, known, prompt_counts) for prompt_counts in draws])
    strength = _strengths(design, preferences, known, np.ones(prompts))

    low, high = np.quantile(drawn, TAILS, axis=0)
    rank_low, rank_high = np.quantile(stats.rankdata(-drawn, axis=1), TAILS, axis=0).round()
    columns = {
        "strength": strength,
        "low": low,
        "high": high,
        "win_rate": _average_win_rates(strength),
        "rank_low": rank_low,
        "rank_high": rank_high,
    }
    return pd.DataFrame(columns, index=methods).sort_values("strength", ascending=False, kind="stable")


def _duel_design(pairs, methods):
    """A row per pair of methods: 1 for the method whose wins are counted, -1 for its opponent."""
    design = np.zeros((len(pairs), len(methods)))
    for row, (one, other) in enumerate(pairs):
        design[row, methods.get_loc(one)] = 1
        design[row, methods.get_loc(other)] = -1
    return design


def _strengths(design, preferences, known, prompt_counts):
    """The strengths that fit the duels best, with mean 0, when prompt j counts `prompt_counts[j]` times."""
    duels = known @ prompt_counts
    wins = preferences @ prompt_counts
    held = duels > 0
    fit = soft_logistic(design[held], wins[held] / duels[held], weight=duels[held], penalty=WEAK)
    return fit - fit.mean()


def _average_win_rates(strength):
    """The win rate (%) of each method against its average opponent, by the strengths."""
    against = 100 / (1 + np.exp(strength[None, :] - strength[:, None]))
    draw_with_itself = 50
    return (against.sum(axis=1) - draw_with_itself) / (len(strength) - 1)
