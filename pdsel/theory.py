"""Why the most negative PD is kept: DMPO's gain per pair, the bounds on its loss, and all subsets by brute force.

Numpy and scipy only, no torch. Source: arXiv 2508.07638, the section on data selection.
"""

from itertools import combinations
from math import comb

import numpy as np
from scipy.special import expit, log_expit

from pdsel.checks import DataError, refuse

MAX_PAIRS = 20  # comb(20, 10) = 184 756 subsets take a second and 40 MB; each further pair doubles both


def gradient_weight(margin, pd, kappa):
    """How hard a pair pulls on the policy: sigma(-(kappa * M + PD)).

    The gradient of DMPO's loss is -kappa * sigma(-(kappa * M + PD)) * grad M. Only the middle factor depends on PD: at the
    same margin, conflict (PD > 0) weighs less than consensus (PD < 0).

    Parameters
    ----------
    margin : float or array-like
        The policy's reward margin M, see `pdsel.objectives.reward_margin`.
    pd : float or array-like
        Preference divergence, in the unit of the rewards; broadcasts with `margin`.
    kappa : float
        Number of aspects.

    Returns
    -------
    float or numpy.ndarray
        In (0, 1), without unit.

    Examples
    --------
    >>> gradient_weight(0.0, [-np.log(3), 0.0, np.log(3)], kappa=4)
    array([0.75, 0.5 , 0.25])
    """
    return expit(-(kappa * np.asarray(margin, dtype=float) + np.asarray(pd, dtype=float)))


def gain(pd, c0, c2, kappa):
    """How much the loss of a pair falls when its margin rises from c0 to c2, g(PD).

    g(a) = log sigma(kappa * c2 + a) - log sigma(kappa * c0 + a), and as (log sigma)'(u) = 1 - sigma(u),

        g'(a) = sigma(kappa * c0 + a) - sigma(kappa * c2 + a) < 0    for every c0 < c2, because sigma increases.

    So the more negative the PD, the larger the gain. It lies between 0 (a -> +inf: the loss was near zero anyway) and
    kappa * (c2 - c0) (a -> -inf: the loss is linear there).

    Parameters
    ----------
    pd : float or array-like, shape (n,)
        Preference divergence, in the unit of the rewards.
    c0, c2 : float or array-like
        The margin without and with training on the pair, in the same unit.
    kappa : float
        Number of aspects.

    Returns
    -------
    float or numpy.ndarray, shape (n,)
        In nats.

    Examples
    --------
    With kappa = 1, c0 = 0 and c2 = ln 3 the four sigmas are fractions, for PD = 0: g = ln(3/4) - ln(1/2) = ln 1.5.

    >>> np.exp(gain([-np.log(3), 0.0, np.log(3)], c0=0.0, c2=np.log(3), kappa=1)).round(6)
    array([2. , 1.5, 1.2])
    """
    pd = np.asarray(pd, dtype=float)
    return log_expit(kappa * np.asarray(c2) + pd) - log_expit(kappa * np.asarray(c0) + pd)


def bound(pd, trained_mask, c0, c2, kappa):
    """Upper bound on DMPO's mean loss over *all* pairs after training on some of them.

    A trained pair reaches at least margin c2, every other at least c0. The loss -log sigma(kappa * M + PD) falls as M
    rises, so with S the trained pairs

        n * mean loss <= sum_{i in S} -log sigma(kappa * c2 + PD_i) + sum_{i not in S} -log sigma(kappa * c0 + PD_i)
                       = sum_i -log sigma(kappa * c0 + PD_i) - sum_{i in S} g(PD_i).

    The first sum does not depend on S: choosing S means choosing whose `gain` to collect.

    Parameters
    ----------
    pd : array-like, shape (n,)
        Preference divergence, in the unit of the rewards.
    trained_mask : array-like of bool, shape (..., n)
        Which pairs are trained on; leading axes stand for several selections.
    c0, c2 : float or array-like, shape (n,)
        The margins of pairs that are not trained on and of those that are. The theorem needs the same two numbers for all.
    kappa : float
        Number of aspects.

    Returns
    -------
    float or numpy.ndarray, shape (...)
        In nats.

    Examples
    --------
    Two pairs, training on one of them. The consensus pair (PD = -ln 3) first, then the conflicting one:

    >>> masks = [[True, False], [False, True]]
    >>> np.exp(-2 * bound([-np.log(3), np.log(3)], masks, c0=0.0, c2=np.log(3), kappa=1)).round(6)  # 1/2*3/4, 1/4*9/10
    array([0.375, 0.225])
    """
    margin = np.where(trained_mask, c2, c0)
    return -log_expit(kappa * margin + np.asarray(pd, dtype=float)).mean(axis=-1)


def subset_masks(n, n_kept):
    """Every way to keep `n_kept` of `n` pairs.

    Returns
    -------
    numpy.ndarray of bool, shape (comb(n, n_kept), n)
        A row per subset, in lexicographic order of the kept positions.

    Raises
    ------
    ValueError
        For more than 20 pairs, or an `n_kept` outside 1..n.

    Examples
    --------
    >>> subset_masks(3, 2).astype(int)
    array([[1, 1, 0],
           [1, 0, 1],
           [0, 1, 1]])
    """
    if n > MAX_PAIRS:
        raise DataError(
            f"pd: {n} pairs have comb({n}, {n_kept}) subsets to try; at most {MAX_PAIRS} pairs are allowed. Remedy: a "
            "sample of the pairs, or pdsel.selection.select, which is equivalent by the theorem"
        )
    if not 1 <= n_kept <= n:
        raise DataError(f"n_kept={n_kept} is not in 1..{n} (the number of pairs). Remedy: keep one to all of them")
    masks = np.zeros((comb(n, n_kept), n), dtype=bool)
    np.put_along_axis(masks, np.array(list(combinations(range(n), n_kept))), True, axis=1)
    return masks


def best_subset(pd, n_kept, c0, c2, kappa):
    """The subset with the lowest `bound`, found by trying all of them, to check the selection theorem.

    The theorem says that it holds the `n_kept` most negative PD: if a kept pair had a larger PD than one left out, swapping
    the two would change n * bound by g(PD kept) - g(PD left out) < 0, because g decreases (see `gain`).

    Parameters
    ----------
    pd : array-like, shape (n,)
        Preference divergence, n at most 20.
    n_kept : int
        How many pairs to train on, in 1..n.
    c0, c2, kappa
        As in `bound`.

    Returns
    -------
    indices : numpy.ndarray of int, shape (n_kept,)
        Kept positions, ascending; of several equally good subsets the first in lexicographic order.
    bound : float
        Its bound, in nats.

    Raises
    ------
    ValueError
        For more than 20 pairs, an `n_kept` outside 1..n, or a PD that is NaN or infinite.

    Examples
    --------
    >>> indices, lowest = best_subset([0.4, -1.0, 1.3, -0.2], 2, c0=0.0, c2=0.5, kappa=4)
    >>> indices, round(float(lowest), 4)
    (array([1, 3]), 0.3051)
    """
    pd = np.asarray(pd, dtype=float)
    refuse(np.flatnonzero(~np.isfinite(pd)), "pd", "is NaN or infinite at a position", "score or drop these pairs")
    masks = subset_masks(len(pd), n_kept)
    bounds = bound(pd, masks, c0, c2, kappa)
    best = bounds.argmin()
    return np.flatnonzero(masks[best]), float(bounds[best])


def most_negative(pd, n_kept):
    """The paper's choice as a mask; ties are broken by position.

    Examples
    --------
    >>> most_negative([0.4, -1.0, 1.3, -0.2], 2)
    array([False,  True, False,  True])
    """
    mask = np.zeros(len(pd), dtype=bool)
    mask[np.argsort(pd, kind="stable")[:n_kept]] = True
    return mask


def interval_bounds(pd, trained_mask, c0, c2, kappa, width):
    """The lowest and highest mean loss of a selection whose margins are only known to lie in two intervals.

    An untrained pair lies in [c0, c0 + width], a trained one in [c2 - width, c2]. The loss falls as a margin rises, so
    it is lowest with all margins at their upper ends and highest with all at their lower ends. Both are a `bound` with
    two fixed margins, c2 - c0 - width > 0 apart: the most negative PD minimise both, whatever the width. And as
    -log sigma is nowhere steeper than 1, highest - lowest <= kappa * width: no selection can beat the most negative PD
    by more. Width 0 is the theorem of `best_subset`; (c2 - c0) / 2 makes the intervals touch, more lets them overlap.

    Parameters
    ----------
    pd, trained_mask, kappa
        As in `bound`.
    c0, c2 : float
        The lowest margin of an untrained pair and the highest of a trained one, in the unit of the rewards.
    width : float
        The length of both intervals, in the same unit.

    Returns
    -------
    lowest, highest : float or numpy.ndarray, shape (...)
        In nats.

    Raises
    ------
    ValueError
        For a width outside [0, c2 - c0).

    Examples
    --------
    >>> lowest, highest = interval_bounds([0.0, 0.0], [True, False], 0.0, 2 * np.log(3), kappa=1, width=np.log(3))
    >>> np.exp(-2 * lowest).round(6), np.exp(-2 * highest).round(6)  # sigmas 9/10 * 3/4 and 3/4 * 1/2
    (np.float64(0.675), np.float64(0.375))
    """
    if not 0 <= width < c2 - c0:
        raise DataError(f"width={width} is not in [0, c2 - c0) = [0, {c2 - c0:g}). Remedy: shorter intervals")
    return bound(pd, trained_mask, c0 + width, c2, kappa), bound(pd, trained_mask, c0, c2 - width, kappa)


def separating_step(kappa, reward_range):
    """The step c2 - c0 in the paper's condition c2 - c0 >= 2 (kappa - 1) / kappa * r, for rewards in [0, r].

    PD sums kappa - 1 differences of such rewards, so |PD| <= (kappa - 1) r, and two PD are at most 2 (kappa - 1) r
    apart. From this step on, and not before, kappa * c2 + PD_i >= kappa * c0 + PD_j for all possible PD: every trained
    pair has at most the loss of every untrained one. The selection theorem holds for smaller steps too.

    Examples
    --------
    >>> separating_step(kappa=4, reward_range=1.0)
    1.5
    """
    return 2 * (kappa - 1) / kappa * reward_range


def regret(pd, n_kept, c0, c2, kappa):
    """How much worse the most negative PD are than the best subset if every pair has its own two margins.

    Parameters
    ----------
    pd, n_kept, kappa
        As in `best_subset`.
    c0, c2 : float or array-like, shape (n,)
        The margin of each pair without and with training on it.

    Returns
    -------
    excess : float
        Mean loss of the most negative PD minus that of the best subset, in nats; 0 if all pairs have the same two margins.
    best : float
        Mean loss of the best subset, in nats.

    Examples
    --------
    The second pair learns more, though its PD is higher: so training on the first is worse by 0.145 nats.

    >>> excess, best = regret([-0.1, 0.0], 1, c0=[0.2, 0.0], c2=[1.8, 2.0], kappa=4)
    >>> round(excess, 3), round(best, 3)
    (0.145, 0.202)
    """
    best = best_subset(pd, n_kept, c0, c2, kappa)[1]
    return max(0.0, float(bound(pd, most_negative(pd, n_kept), c0, c2, kappa)) - best), best
