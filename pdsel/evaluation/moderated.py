"""Many comparisons over few seeds: each variance between seeds borrows from all the others, and never falls by it.

With three seeds chance makes some variances tiny, and the smallest p values then belong to the luckiest variances.
Moderated variances (Smyth 2004, the limma package) are the remedy of genomics, which has thousands of comparisons and few
replicates: every variance is drawn towards what is common to all, and the degrees of freedom grow by what that is worth.
A comparison whose variance truly is larger must not gain from its neighbours, so here a variance is only ever raised.
`pdsel.experiments.calibration` measures what this does to false stars and to power.
"""

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from pdsel.evaluation.estimates import CONFIDENCE

STAR_SEEDS = 8  # from which on false stars stay below 7 % of families, see `results/calibration`
FEWEST_COMPARISONS = 3  # the spread of fewer variances says nothing about what they have in common
FLOOR = 1e-5  # of the median variance: one that is 0 by chance has no logarithm (as in limma)
NO_EXCESS = 1e-8  # variances that spread no more than this beyond chance are taken as equal


def mean_and_variances(table):
    """The mean of a table of seeds x prompts, and the two things that its uncertainty is made of.

    A value is the sum of a mean, what the seed adds, what the prompt adds, and chance (two crossed random effects). The
    variance of the seeds' means over their number covers seeds and chance; what prompts add is estimated from the mean
    squares of the analysis of variance. Where each seed has its own prompts, the seeds' means differ by the choice of
    prompts already, and prompts add nothing. With a single seed only prompts vary, and they take the seeds' place.

    Parameters
    ----------
    table : pandas.DataFrame, shape (seeds, prompts)
        NaN where a seed was not judged on a prompt.

    Returns
    -------
    dict
        `value`, `seeds`; `replicates` and `variance`: how many there are of what is drawn anew, the seeds (the prompts where
        there is one seed), and how their means vary; `prompt_variance`, what prompts add to the variance of the mean.

    Examples
    --------
    >>> import pandas as pd
    >>> found = mean_and_variances(pd.DataFrame([[0.0, 2.0], [4.0, 6.0]]))  # seeds differ by 4, prompts by 2, no chance
    >>> found["value"], found["variance"], round(found["prompt_variance"], 9)
    (3.0, 8.0, 1.0)
    """
    seeds, prompts = table.shape
    of_seeds, of_prompts = table.mean(axis=1), table.mean(axis=0)
    value = float(np.nanmean(table.to_numpy()))
    drawn, prompt_variance = of_prompts, 0.0
    if seeds > 1:
        drawn = of_seeds
    if seeds > 1 and prompts > 1:
        chance = _chance(table.sub(of_seeds, axis=0).sub(of_prompts, axis=1) + value)
        prompt_variance = max(float(of_prompts.var(ddof=1)) - chance / seeds, 0.0) / prompts
    return {
        "value": value,
        "seeds": seeds,
        "replicates": len(drawn),
        "variance": float(drawn.var(ddof=1)),
        "prompt_variance": prompt_variance,
    }


def _chance(residuals):
    """The mean square of what seeds and prompts leave over; infinite where each seed has its own prompts: nothing is left."""
    freedom = int(residuals.notna().to_numpy().sum()) - sum(residuals.shape) + 1
    return float(np.nansum(residuals.to_numpy() ** 2) / freedom) if freedom > 0 else float("inf")


def variance_prior(variances, freedom):
    """What many variances have in common: a scaled inverse chi-square, fitted to their logarithms (Smyth 2004, section 6.2).

    Parameters
    ----------
    variances, freedom : array-like, shape (m,)
        Variances above 0, and the degrees of freedom of each.

    Returns
    -------
    (float, float)
        The prior's degrees of freedom, infinite where the variances spread no more than chance makes them, and its variance.

    Examples
    --------
    >>> variance_prior([4.0, 4.0, 4.0], [7, 7, 7])
    (inf, 4.0)
    >>> prior_freedom, common = variance_prior([0.1, 4.0, 50.0], [7, 7, 7])  # far more spread than 7 degrees of freedom allow
    >>> prior_freedom < 1
    True
    """
    variances, freedom = np.asarray(variances, dtype=float), np.asarray(freedom, dtype=float)
    log_variances = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = log_variances.var(ddof=1) - polygamma(1, freedom / 2).mean()
    if excess < NO_EXCESS:
        return float("inf"), float(variances.mean())
    half = _inverse_trigamma(excess)
    return 2 * half, float(np.exp(log_variances.mean() + digamma(half) - np.log(half)))


def _inverse_trigamma(value):
    """The x > 0 at which the trigamma function has a value; 1/x < trigamma(x) < 1/x + 1/x^2 bracket it.

    >>> round(_inverse_trigamma(float(polygamma(1, 3.5))), 6)
    3.5
    """
    lowest, highest = 1 / value, (1 + np.sqrt(1 + 4 * value)) / (2 * value)
    return brentq(lambda x: float(polygamma(1, x)) - value, lowest, highest)


def guarded_variances(variances, freedom):
    """Moderated variances that are never below the variances themselves, and their degrees of freedom.

    The moderated variance is (d0 s0^2 + d s^2) / (d0 + d), with d0 and s0^2 from `variance_prior`; its degrees of freedom are
    d0 + d, at most those of all variances together. Where a few comparisons vary far more than the rest, plain moderation
    lends them their neighbours' small variances and their stars are false; hence the guard.

    Parameters
    ----------
    variances, freedom : array-like, shape (m,)

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Fewer than three variances are returned as they are.

    Examples
    --------
    >>> guarded, freedom = guarded_variances([1.0, 4.0, 2.0, 3.0], [2, 2, 2, 2])  # no more spread than chance: pooled
    >>> guarded.tolist(), freedom.tolist()
    ([2.5, 4.0, 2.5, 3.0], [8.0, 8.0, 8.0, 8.0])
    """
    variances, freedom = np.asarray(variances, dtype=float), np.asarray(freedom, dtype=float)
    if len(variances) < FEWEST_COMPARISONS or not variances.any():
        return variances, freedom
    prior_freedom, common = variance_prior(np.maximum(variances, FLOOR * np.median(variances)), freedom)
    moderated = np.full_like(variances, common)
    if np.isfinite(prior_freedom):
        moderated = (prior_freedom * common + freedom * variances) / (prior_freedom + freedom)
    return np.maximum(moderated, variances), np.minimum(prior_freedom + freedom, freedom.sum())


def moderated_t(means):
    """Student's t of many means over the same seeds, with `guarded_variances`.

    Parameters
    ----------
    means : pandas.DataFrame
        A row per comparison, with the columns of `mean_and_variances`. Comparisons of a single seed stand alone: hundreds of
        prompts need no neighbours.

    Returns
    -------
    pandas.DataFrame
        `means`, with `standard_error`, `low` and `high` (the 95 % interval of one comparison), and the two-sided `p`.

    Examples
    --------
    >>> import pandas as pd
    >>> means = pd.DataFrame({"value": [3.0, 0.0, 0.0], "seeds": 8, "replicates": 8, "variance": 8.0, "prompt_variance": 0.0})
    >>> moderated_t(means)["p"].round(3).tolist()  # 3 standard errors, with 21 degrees of freedom instead of 7
    [0.007, 1.0, 1.0]
    """
    columns = ["value", "variance", "replicates", "prompt_variance"]
    values, variances, replicates, prompt_variance = means[columns].to_numpy(dtype=float).T
    freedom = replicates - 1
    if (means["seeds"] > 1).all():
        variances, freedom = guarded_variances(variances, freedom)
    error = np.sqrt(variances / replicates + prompt_variance)
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, freedom) * error
    return means.assign(
        standard_error=error, low=values - half, high=values + half, p=two_sided_p(values, error, freedom)
    )


def two_sided_p(values, error, freedom):
    """Student's two-sided p values; where nothing varies, any difference is certain and none is no finding.

    >>> two_sided_p(np.array([0.0, 2.0, 2.0]), np.array([0.0, 0.0, 1.0]), 7).round(3).tolist()
    [1.0, 0.0, 0.086]
    """
    distance = np.where(values == 0, 0.0, np.inf)
    distance = np.divide(np.abs(values), error, out=distance, where=error > 0)
    return 2 * stats.t.sf(distance, freedom)
