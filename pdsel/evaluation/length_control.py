"""The win rate at equal length: AlpacaEval 2's length-controlled win rate (arXiv 2404.04475)."""

import numpy as np
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit

from pdsel.checks import DataError, refuse, require_columns
from pdsel.evaluation.estimates import CONFIDENCE, Estimate, checked_preferences

GAMED_WEIGHT = 0.2 / 2  # AlpacaEval's regularisation, shared by its two gamed baselines


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
    y = checked_preferences(preference)
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
