"""The win rate at equal length: AlpacaEval 2's length-controlled win rate (arXiv 2404.04475)."""

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import sparse, stats
from scipy.special import expit

from pdsel.checks import DataError, refuse, require_columns
from pdsel.evaluation.estimates import CONFIDENCE, Estimate, checked_preferences
from pdsel.evaluation.soft_logistic import soft_logistic

OVERLAP = 0.1  # of the prompts: on so many a model must be the longer one, and on so many the shorter one
GAMED_WEIGHT = 0.2 / 2  # AlpacaEval's regularisation, shared by its two gamed baselines
LENGTH_ONLY = "length only (unreliable: no difficulty given)"
JOINT = "length, difficulty estimated jointly from {} policies"


def length_controlled_win_rate(preference, length_baseline, length_model, *, difficulty=None, gamed=None):
    """The win rate the model would have if its outputs were as long as the baseline's.

    A logistic regression of the preference on `tanh((length_baseline - length_model) / sd)`, the prompt's difficulty and a
    constant; the length-controlled win rate is its mean prediction at length feature 0.

    Parameters
    ----------
    preference : array-like, shape (n,)
        Probability that the model beats the baseline, in [0, 1].
    length_baseline, length_model : array-like, shape (n,)
        Characters of the outputs.
    difficulty : array-like, shape (n,), optional
        The difficulty of each prompt for the baseline; `preferences_at_equal_length` estimates it for a new prompt set.
        Without it the fit is on length alone, and `variant` says that this is unreliable.
    gamed : pandas.DataFrame, optional
        Rows of deliberately short and long baselines that regularise the fit: `x` (their own tanh length feature),
        `difficulty`, `pref` in [0, 1]. Each row has weight 0.1 and no constant.

    Returns
    -------
    Estimate
        In percent; the standard error covers the choice of prompts (influence function), the interval is normal.

    Raises
    ------
    ValueError
        For NaN, values outside [0, 1], unequal numbers of values, `gamed` without `difficulty`, or a difference in length
        that is the same everywhere and not 0.

    Notes
    -----
    These are the distances from the published numbers of 20 models on the AlpacaEval 2 leaderboard, which
    tests/test_evaluation.py checks. With the leaderboard's difficulties and gamed rows: 0.09 points on average, at most
    0.28, rank correlation .997. On length alone: 6.3 points, at most 22.8, nearly always too high, rank correlation .91,
    which is worse than the raw win rate's .97. With difficulties estimated jointly from the 20 models and no gamed rows:
    1.0 points, at most 3.2, rank correlation .98.

    Examples
    --------
    >>> wins, ours = [1, 0, 1, 0, 1, 1, 0, 1], [80, 20, 90, 30, 40, 60, 70, 50]
    >>> estimate = length_controlled_win_rate(wins, [50] * 8, ours)
    >>> round(estimate.value, 1), estimate.variant
    (61.1, 'length only (unreliable: no difficulty given)')
    """
    y = checked_preferences(preference)
    gap = _same_length(y, length_baseline, "length_baseline") - _same_length(y, length_model, "length_model")
    columns = [_length_feature(gap)]
    if gamed is not None:
        _check_gamed(gamed, difficulty)
    variant = LENGTH_ONLY
    if difficulty is not None:
        columns.append(_same_length(y, difficulty, "difficulty"))
        variant = "length, difficulty" + (", gamed baselines" if gamed is not None else "")
    contributions = 100 * _at_equal_length(y, np.column_stack([*columns, np.ones_like(y)]), gamed)
    value, error = float(contributions.mean()), float(contributions.std() / np.sqrt(len(y)))
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * error
    return Estimate(value, error, max(0.0, value - half), min(100.0, value + half), variant, len(y))


def lengths_apart(length_model, length_baseline):
    """Why two sets of outputs cannot be compared at equal length: "" where their lengths overlap, or are all equal.

    A win rate at equal length is read off a curve. Where a model is nearly always shorter than the baseline there is no
    curve on the other side, and the number is an extrapolation that may exceed what any policy can reach. So it is given only
    where the model is longer on at least a tenth of the prompts, and shorter on at least a tenth. Every table asks here.

    Parameters
    ----------
    length_model, length_baseline : array-like, shape (n,)
        Characters of the outputs.

    Returns
    -------
    str
        On how few prompts the model is the longer one, or the shorter one.

    Examples
    --------
    >>> lengths_apart([10, 20, 40], [20, 20, 20])
    ''
    >>> lengths_apart([10, 12, 20], [20, 20, 20])
    'only 0 % longer'
    """
    gap = np.asarray(length_model, dtype=float) - np.asarray(length_baseline, dtype=float)
    if not gap.any():
        return ""
    shares = {"longer": np.mean(gap > 0), "shorter": np.mean(gap < 0)}
    return ", ".join(f"only {int(100 * share)} % {side}" for side, share in shares.items() if share < OVERLAP)


def _length_feature(gap):
    """AlpacaEval's feature: tanh of the difference in its own standard deviations; 0 if all lengths are equal."""
    if gap.std() == 0 and gap[0] != 0:
        raise DataError("length_baseline - length_model is the same everywhere: nothing to control for; use win_rate")
    return np.tanh(gap / (gap.std() or 1.0))


def _at_equal_length(y, design, gamed=None):
    """Pseudo-values, one per prompt: their mean is the mean prediction with the length feature at 0.

    The value of prompt i is that mean plus n times what the mean would move by if the prompt were repeated (its
    influence), so the spread of the values is the spread of the estimate.
    """
    if np.ptp(y) == 0 and y[0] in (0, 1):  # the model always loses, or always wins: so it would at any length
        return y.copy()
    target, rows, weight = _with_gamed(y, design, gamed)
    used = rows.any(axis=0)  # the length feature is 0 where all lengths are equal
    rows, design = rows[:, used], design[:, used]
    fit = sm.GLM(target, rows, family=sm.families.Binomial(), var_weights=weight).fit()
    equal_length = design.copy()
    if used[0]:
        equal_length[:, 0] = 0.0
    p, fitted = expit(equal_length @ fit.params), fit.fittedvalues
    information = (rows * (weight * fitted * (1 - fitted))[:, None]).T @ rows
    gradient_of_sum = (p * (1 - p)) @ equal_length
    parameter_influence = design @ np.linalg.pinv(information) @ gradient_of_sum
    influence = (p - p.mean()) + (y - fitted[: len(y)]) * parameter_influence
    return p.mean() + influence - influence.mean()


def _with_gamed(y, design, gamed):
    """Targets, rows and weights of the fit: the prompts, and the rows of the gamed baselines below them."""
    if gamed is None:
        return y, design, np.ones_like(y)
    gamed_rows = np.column_stack([gamed["x"], gamed["difficulty"], np.zeros(len(gamed))])
    weight = np.concatenate([np.ones_like(y), np.full(len(gamed), GAMED_WEIGHT)])
    return np.concatenate([y, gamed["pref"]]), np.vstack([design, gamed_rows]), weight


def joint_difficulty(outcomes):
    """How hard it is to beat the baseline on each prompt, from all methods at once.

    One logistic regression of every preference: a constant and a length effect of each method, and an effect of each
    prompt, which is the difficulty. Prompt effects have a normal prior of standard deviation 1, which is what a ridge of
    strength 1 says, since a handful of methods cannot determine a prompt; the other effects have one of 10.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        A row per method and prompt: `method, prompt_id, preference, length_baseline, length_model`. Leave out the
        baseline, which only draws with itself.

    Returns
    -------
    pandas.Series
        Index `prompt_id`; positive where the methods win more easily than elsewhere.

    Raises
    ------
    ValueError
        For missing columns, bad preferences, or fewer than two methods.
    """
    require_columns(
        outcomes.columns, ["method", "prompt_id", "preference", "length_baseline", "length_model"], "outcomes"
    )
    methods, prompts = (pd.Categorical(outcomes[column].astype(str)) for column in ("method", "prompt_id"))
    if len(methods.categories) < 2:
        raise DataError("outcomes: difficulty needs at least 2 methods to be told from a method's own strength")
    y = checked_preferences(outcomes["preference"])
    gap = (outcomes["length_baseline"] - outcomes["length_model"]).astype(float)
    feature = gap.groupby(np.asarray(methods)).transform(lambda gaps: _length_feature(gaps.to_numpy())).to_numpy()
    row = np.arange(len(y))

    def block(values, codes):
        return sparse.csr_matrix((values, (row, codes)), shape=(len(y), codes.max() + 1))

    wide = np.full(len(y), 10.0)
    design = sparse.hstack(
        [block(wide, methods.codes), block(wide * feature, methods.codes), block(np.ones(len(y)), prompts.codes)]
    )
    effects = soft_logistic(design.tocsr(), y, penalty=1.0)[-len(prompts.categories) :]
    return pd.Series(effects, index=pd.Index(prompts.categories, name="prompt_id"), name="difficulty")


def preferences_at_equal_length(outcomes, *, baseline=None):
    """What each prompt contributes to the length-controlled win rate of its method, where difficulties are unknown.

    The mean over a method's prompts is its length-controlled win rate (as a probability), and their spread is that of the
    estimate, so every interval and paired test for means serves here too. Single values may lie outside [0, 1].

    Parameters
    ----------
    outcomes : pandas.DataFrame
        As for `joint_difficulty`. Where there is a column `seed`, a method is fitted anew for each seed, and all seeds
        together say how difficult a prompt is.
    baseline : str, optional
        The method that the others are judged against, if it has rows too: it gets .5, and has no say in difficulty.

    Returns
    -------
    pandas.Series
        Index as `outcomes`; `attrs["variant"]` says from how many policies the difficulty was estimated, or that a single
        policy could only be controlled for length.
    """
    policy = outcomes["method"].astype(str) + (" seed " + outcomes["seed"].astype(str) if "seed" in outcomes else "")
    others = outcomes.assign(method=policy)[outcomes["method"] != baseline]
    count = others["method"].nunique()
    difficulty = joint_difficulty(others) if count > 1 else None
    contributions = pd.Series(0.5, index=outcomes.index)
    for _, rows in others.groupby("method", sort=False):
        y = checked_preferences(rows["preference"])
        gap = (rows["length_baseline"] - rows["length_model"]).to_numpy(dtype=float)
        columns = [_length_feature(gap)]
        if difficulty is not None:
            columns.append(rows["prompt_id"].astype(str).map(difficulty).to_numpy())
        contributions[rows.index] = _at_equal_length(y, np.column_stack([*columns, np.ones_like(y)]))
    contributions.attrs["variant"] = LENGTH_ONLY if difficulty is None else JOINT.format(count)
    return contributions


def _check_gamed(gamed, difficulty):
    if difficulty is None:
        raise DataError(
            "gamed is given without difficulty, but its rows are fitted with a difficulty. Remedy: give both or neither"
        )
    columns = ["x", "difficulty", "pref"]
    require_columns(gamed.columns, columns, "gamed")
    for column in columns:
        bad = gamed.index[~np.isfinite(gamed[column])]
        refuse(bad, f"gamed[{column!r}]", "is NaN or infinite in rows", "drop these rows")
    bad = gamed.index[~gamed["pref"].between(0, 1)]
    refuse(bad, "gamed['pref']", "is outside [0, 1] in rows", "use from_alpaca_eval")


def _same_length(y, values, column):
    values = np.asarray(values, dtype=float)
    if values.shape != y.shape:
        raise DataError(f"{column}: shape {values.shape}, preference has {y.shape}; give one value per prompt")
    refuse(np.flatnonzero(~np.isfinite(values)), column, "is NaN or infinite at positions", "give finite numbers")
    return values
