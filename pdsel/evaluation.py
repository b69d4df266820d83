"""Who wins, by how much, and how sure we are: metrics with 95 % intervals over prompts."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit

from pdsel.checks import DataError, refuse, require_columns

RESAMPLES = 2000
CONFIDENCE = 0.95
GAMED_WEIGHT = 0.2 / 2  # AlpacaEval's regularisation, shared by its two gamed baselines


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    `value, standard_error, low, high` share one unit (percent for win rates); `low` and `high` bound the 95 % interval;
    `variant` says how it was computed, `n` from how many prompts.
    """

    value: float
    standard_error: float
    low: float
    high: float
    variant: str
    n: int

    def __str__(self):
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def win_rate(preference):
    """How often the model beats the baseline, ties counted half.

    Parameters
    ----------
    preference : array-like, shape (n,)
        Probability that the model beats the baseline on each prompt, in [0, 1]; see `from_alpaca_eval` for 1..2.

    Returns
    -------
    Estimate
        In percent; standard error of the mean, interval by bootstrap over prompts.

    Raises
    ------
    ValueError
        For no prompts, NaN, or values outside [0, 1].

    Examples
    --------
    >>> win_rate([1, 1, 0.5, 0]).value
    62.5
    """
    return bootstrap_mean(100 * _preferences(preference), variant="mean preference, bootstrap over prompts")


def winning_score(preference):
    """(wins - losses) / n + 1, in [0, 2]; 1 is a draw (the paper's AW against OVA).

    Parameters
    ----------
    preference : array-like, shape (n,)
        In [0, 1]; above one half is a win, below a loss.

    Examples
    --------
    >>> winning_score([1, 0.9, 0.5, 0]).value
    1.25
    """
    return bootstrap_mean(1 + np.sign(_preferences(preference) - 0.5), variant="winning score, bootstrap over prompts")


def bootstrap_mean(values, *, variant="mean, bootstrap over prompts", seed=0):
    """The mean of `values` with a percentile bootstrap interval over them, as `Estimate`.

    >>> bootstrap_mean([0.5, 0.5, 0.5]).low
    0.5
    """
    values = np.asarray(values, dtype=float)
    refuse(np.flatnonzero(~np.isfinite(values)), "values", "is NaN or infinite at positions", "drop these prompts")
    mean = float(values.mean())
    if len(values) == 1 or np.ptp(values) == 0:
        return Estimate(mean, 0.0 if len(values) > 1 else float("nan"), mean, mean, variant, len(values))
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=max(1, 10_000_000 // len(values)), method="percentile",
        confidence_level=CONFIDENCE, rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = result.confidence_interval
    return Estimate(mean, float(stats.sem(values)), float(low), float(high), variant, len(values))


def length_controlled_win_rate(preference, length_baseline, length_model, *, difficulty=None, gamed=None):
    """The win rate the model would have if its outputs were as long as the baseline's (AlpacaEval 2's LC, 2404.04475).

    A logistic regression of the preference on `tanh((length_baseline - length_model) / sd)`, the prompt's difficulty and a
    constant; LC is its mean prediction at length feature 0.

    Parameters
    ----------
    preference : array-like, shape (n,)
        Probability that the model beats the baseline, in [0, 1].
    length_baseline, length_model : array-like, shape (n,)
        Characters of the outputs.
    difficulty : array-like, shape (n,), optional
        Of each prompt, for the baseline. Without it the fit is on length alone: it ranks models worse than the raw win rate
        does, and `variant` says so.
    gamed : pandas.DataFrame, optional
        Rows of deliberately short and long baselines that regularise the fit: `x` (their own tanh length feature),
        `difficulty`, `pref` in [0, 1]. They get weight 0.1 each and no constant.

    Returns
    -------
    Estimate
        In percent; standard error by the delta method with a robust covariance, interval normal.

    Raises
    ------
    ValueError
        For NaN, values outside [0, 1], unequal lengths, or no variation in length.

    Examples
    --------
    >>> wins, ours = [1, 0, 1, 0, 1, 1, 0, 1], [80, 20, 90, 30, 40, 60, 70, 50]
    >>> estimate = length_controlled_win_rate(wins, [50] * 8, ours)
    >>> round(estimate.value, 1), estimate.variant
    (61.1, 'length only (unreliable: no difficulty given)')
    """
    y = _preferences(preference)
    gap = _same_length(y, length_baseline, "length_baseline") - _same_length(y, length_model, "length_model")
    if gap.std() == 0:
        raise DataError("length_baseline - length_model is the same everywhere: nothing to control for; use win_rate")
    columns = [np.tanh(gap / gap.std())]
    variant = "length only (unreliable: no difficulty given)"
    if gamed is not None:
        _check_gamed(gamed, difficulty)
    if difficulty is not None:
        columns.append(_same_length(y, difficulty, "difficulty"))
        variant = "length, difficulty" + (", gamed baselines" if gamed is not None else "")
    design = np.column_stack([*columns, np.ones_like(y)])
    target, weight = y, np.ones_like(y)
    if gamed is not None:
        extra = np.column_stack([gamed["x"], gamed["difficulty"], np.zeros(len(gamed))])
        design, target = np.vstack([design, extra]), np.concatenate([y, gamed["pref"]])
        weight = np.concatenate([weight, np.full(len(gamed), GAMED_WEIGHT)])
    fit = sm.GLM(target, design, family=sm.families.Binomial(), var_weights=weight).fit(cov_type="HC0")
    return _at_equal_length(fit, design[: len(y)], variant)


def _at_equal_length(fit, design, variant):
    """Mean prediction with the length feature at 0, and its standard error by the delta method."""
    level = design.copy()
    level[:, 0] = 0.0
    p = expit(level @ fit.params)
    gradient = (p * (1 - p)) @ level / len(p)
    value, error = 100 * float(p.mean()), 100 * float(np.sqrt(gradient @ fit.cov_params() @ gradient))
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * error
    return Estimate(value, error, max(0.0, value - half), min(100.0, value + half), variant, len(p))


def _check_gamed(gamed, difficulty):
    if difficulty is None:
        raise DataError(
            "gamed is given without difficulty, which its rows are fitted with. Remedy: give both or neither"
        )
    require_columns(gamed.columns, ["x", "difficulty", "pref"], "gamed")
    for column in ["x", "difficulty", "pref"]:
        refuse(
            gamed.index[~np.isfinite(gamed[column])],
            f"gamed[{column!r}]",
            "is NaN or infinite in rows",
            "drop these rows",
        )
    refuse(
        gamed.index[~gamed["pref"].between(0, 1)], "gamed['pref']", "is outside [0, 1] in rows", "use from_alpaca_eval"
    )


def _same_length(y, values, column):
    values = np.asarray(values, dtype=float)
    if values.shape != y.shape:
        raise DataError(f"{column}: shape {values.shape}, preference has {y.shape}; give one value per prompt")
    refuse(np.flatnonzero(~np.isfinite(values)), column, "is NaN or infinite at positions", "give a finite number each")
    return values


def from_alpaca_eval(preference):
    """AlpacaEval's preferences (1 baseline wins, 2 model wins, 0 and 1.5 draws) as probabilities.

    >>> from_alpaca_eval([1, 2, 0, 1.5, 1.25]).tolist()
    [0.0, 1.0, 0.5, 0.5, 0.25]
    """
    values = np.asarray(preference, dtype=float)
    return np.where(values == 0, 1.5, values) - 1


def _preferences(preference):
    values = np.asarray(preference, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"preference: shape {values.shape}; give one value per prompt, at least one")
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    refuse(bad, "preference", "is NaN or outside [0, 1] at positions",
           "give the probability that the model wins; convert AlpacaEval's 1..2 with from_alpaca_eval")  # fmt: skip
    return values


def tabulate(estimates):
    """A tidy table from `{(method, metric): Estimate}`: `method, metric, value, standard_error, low, high, n, variant`.

    >>> tabulate({("PD", "win_rate"): win_rate([1, 1])})[["method", "metric", "value"]].values.tolist()
    [['PD', 'win_rate', 100.0]]
    """
    rows = [
        {"method": method, "metric": metric, "value": e.value, "standard_error": e.standard_error, "low": e.low,
         "high": e.high, "n": e.n, "variant": e.variant}
        for (method, metric), e in estimates.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


METRICS = {"preference": win_rate, "preference_ova": winning_score}
NAMES = {"preference": "win_rate", "preference_ova": "winning_score"}


def measure(outcomes):
    """Every metric of every method, from a table with a row per method and prompt.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        `method, prompt_id`, `preference` (against SFT), `preference_ova` (against OVA), and any numeric columns whose
        means are of interest (gold aspects, lengths).

    Returns
    -------
    pandas.DataFrame
        Tidy, see `tabulate`; `preference` becomes `win_rate`, `preference_ova` becomes `winning_score`.
    """
    values = [column for column in outcomes if column not in ("method", "prompt_id")]
    return tabulate({
        (method, NAMES.get(column, column)): METRICS.get(column, bootstrap_mean)(group[column].to_numpy())
        for method, group in outcomes.groupby("method", sort=False) for column in values
    })  # fmt: skip
