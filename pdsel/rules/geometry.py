"""Rules on last-layer features: which pairs tell a linear model the most."""

import numpy as np
import pandas as pd

from pdsel.checks import DataError
from pdsel.rules.margins import BETA, implicit

RIDGE = 1.0  # the prior information, as a multiple of the mean squared feature
MOST_WORK = 1e12  # n * n * d of a greedy design: a quarter of an hour on one core


def d_optimal(features, probe_logps, reference_logps, *, beta=BETA, ridge=RIDGE):
    """The order in which a greedy D-optimal design takes the pairs, lowest kept (*Active Learning for DPO*, 2503.01076).

    DPO made linear at the last layer is logistic regression on the difference of the two responses' features. Each step
    takes the pair that adds most to log det of the information matrix, sum of mu (1 - mu) beta^2 x x', with mu the
    probability of the label under the probe. From the abstract: DPO linear at the last layer, a D-optimal design. The
    information matrix is that model's; that features are means over the response's tokens is our reading.

    Parameters
    ----------
    features : pandas.DataFrame, shape (n, d)
        Features of chosen minus rejected by `pair_id`.
    probe_logps, reference_logps : pandas.DataFrame, shape (n, 2)
    beta, ridge : float

    Raises
    ------
    ValueError
        For so many pairs that the design, which takes time in proportion to n * n * d, would take hours.

    Examples
    --------
    Two long features are alike and a short one is across them: the second long one adds less than the short one does.

    >>> features = pd.DataFrame([[3.0, 0.0], [3.0, 0.0], [0.0, 2.0]], index=["p", "q", "r"])
    >>> none = pd.DataFrame(0.0, index=features.index, columns=["chosen", "rejected"])
    >>> d_optimal(features, none, none, ridge=0.1).to_dict()
    {'p': 0.0, 'q': 2.0, 'r': 1.0}
    """
    n, d = features.shape
    if n * n * d > MOST_WORK:
        hours, most = n * n * d / MOST_WORK / 4, int((MOST_WORK / d) ** 0.5)
        raise DataError(
            f"features: a D-optimal design of {n} pairs with {d} features each takes about {hours:.1f} hours. Remedy: leave "
            f"this rule out, or score a random sample of at most {most} pairs"
        )
    margin = implicit(probe_logps, reference_logps, beta=beta).loc[features.index].to_numpy()
    informative = beta * np.exp(-0.5 * (np.logaddexp(0, margin) + np.logaddexp(0, -margin)))  # beta sqrt(mu (1 - mu))
    order = greedy_design(informative[:, None] * features.to_numpy(dtype=float), ridge)
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    return pd.Series(ranks, index=features.index, name="d_optimal")


def greedy_design(rows, ridge):
    """The positions of the rows in the order that adds most to log det(ridge I + sum x x'); ties go to the first.

    Parameters
    ----------
    rows : numpy.ndarray, shape (n, d)
    ridge : float
        In units of the mean square of all entries.

    Returns
    -------
    numpy.ndarray of int, shape (n,)
    """
    inverse = np.eye(rows.shape[1]) / (ridge * (np.square(rows).mean() or 1.0))
    gains = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    order, free = [], np.ones(len(rows), dtype=bool)
    for _ in range(len(rows)):
        best = int(np.argmax(np.where(free, gains, -np.inf)))
        order.append(best)
        free[best] = False
        moved = inverse @ rows[best]
        size = 1 + rows[best] @ moved
        inverse -= np.outer(moved, moved) / size  # Sherman-Morrison
        gains -= np.square(rows @ moved) / size
    return np.array(order)
