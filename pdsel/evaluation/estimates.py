"""Who wins, by how much, and how sure we are: metrics with 95 % intervals over prompts."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pdsel.checks import DataError, refuse

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    `value, standard_error, low, high` share one unit (percent for win rates). `low` and `high` bound the 95 % interval,
    `variant` says how the number was computed, and `n` from how many prompts.
    """

    value: float
    standard_error: float
    low: float
    high: float
    variant: str
    n: int

    def __str__(self):
        return interval(self.value, self.low, self.high)

    @property
    def signed(self):
        """The text of a difference: every number carries its sign.

        >>> Estimate(1.5, 0.5, 0.5, 2.5, "by hand", 9).signed
        '+1.5 [+0.5, +2.5]'
        """
        return interval(self.value, self.low, self.high, signed=True)


def interval(value, low, high, *, digits=1, signed=False):
    """A number and its 95 % interval as text, or the number alone where the interval is NaN.

    Parameters
    ----------
    value, low, high : float
        In one unit.
    digits : int
        How many digits follow the decimal point.
    signed : bool
        Whether every number carries its sign, as a difference should.

    Returns
    -------
    str

    Examples
    --------
    >>> interval(52.345, 48.1, 56.62)
    '52.3 [48.1, 56.6]'
    >>> interval(0.5, 0.25, 0.75, digits=2, signed=True)
    '+0.50 [+0.25, +0.75]'
    >>> interval(0.5, float("nan"), float("nan"))
    '0.5'
    """
    style = f"{'+' if signed else ''}.{digits}f"
    if math.isnan(low) or math.isnan(high):
        return f"{value:{style}}"
    return f"{value:{style}} [{low:{style}}, {high:{style}}]"


def blank(why):
    """What stands in a table where there is no number, and why.

    >>> blank("only 0 % longer")
    '– (only 0 % longer)'
    """
    return f"– ({why})"


def win_rate(preference):
    """How often the model beats the baseline; a tie counts half.

    Parameters
    ----------
    preference : array-like, shape (n,)
        Probability that the model beats the baseline on each prompt, in [0, 1]; see `from_alpaca_eval` for 1..2.

    Returns
    -------
    Estimate
        In percent, with the standard error of the mean and an interval by bootstrap over prompts.

    Raises
    ------
    ValueError
        If there are no prompts, or values that are NaN or outside [0, 1].

    Examples
    --------
    >>> win_rate([1, 1, 0.5, 0]).value
    62.5
    """
    return bootstrap_mean(100 * checked_preferences(preference), variant="mean preference, bootstrap over prompts")


def winning_score(preference):
    """(wins - losses) / n + 1, in [0, 2]; 1 is a draw (the paper's AW against OVA).

    Parameters
    ----------
    preference : array-like, shape (n,)
        In [0, 1]; a value above one half is a win, one below it a loss.

    Examples
    --------
    >>> winning_score([1, 0.9, 0.5, 0]).value
    1.25
    """
    return bootstrap_mean(
        1 + np.sign(checked_preferences(preference) - 0.5), variant="winning score, bootstrap over prompts"
    )


def bootstrap_mean(values, *, variant="mean, bootstrap over prompts", seed=0):
    """The mean of `values` with a percentile bootstrap interval over them, as an `Estimate`.

    >>> bootstrap_mean([0.5, 0.5, 0.5]).low
    0.5
    """
    values = np.asarray(values, dtype=float)
    refuse(np.flatnonzero(~np.isfinite(values)), "values", "is NaN or infinite at positions", "drop these prompts")
    mean = float(values.mean())
    if len(values) == 1 or np.ptp(values) == 0:
        return Estimate(mean, 0.0 if len(values) > 1 else float("nan"), mean, mean, variant, len(values))
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 10_000_000 // len(values)),
        method="percentile",
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Estimate(mean, float(stats.sem(values)), float(low), float(high), variant, len(values))


def from_alpaca_eval(preference):
    """AlpacaEval's preferences (1: the baseline wins, 2: the model wins, 0 and 1.5: a draw) as probabilities.

    >>> from_alpaca_eval([1, 2, 0, 1.5, 1.25]).tolist()
    [0.0, 1.0, 0.5, 0.5, 0.25]
    """
    values = np.asarray(preference, dtype=float)
    return np.where(values == 0, 1.5, values) - 1


def checked_preferences(preference):
    """The preferences as an array of shape (n,), refused unless all are in [0, 1]."""
    values = np.asarray(preference, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"preference: shape {values.shape}; give one value per prompt, at least one")
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    refuse(
        bad,
        "preference",
        "is NaN or outside [0, 1] at positions",
        "give the probability that the model wins; convert AlpacaEval's 1..2 with from_alpaca_eval",
    )
    return values
