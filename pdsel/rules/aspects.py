"""Rules that read the opinions of several aspects: `margins` of their proxies, or the ratings themselves."""

import numpy as np
import pandas as pd
from scipy.special import logit

from pdsel.divergence import preference_divergence, rating_divergence, scale_margins
from pdsel.notesworld.settings import QUANTILE
from pdsel.selection import POOLED

VOTES = (0.55, 0.99)  # bounds of an aspect's accuracy, so that no vote is void and none decides alone


def opinions(pairs, margins, *, quantile=QUANTILE):
    """The other aspects' scaled margins of every pair; NaN in the column of its own aspect, which the label has settled.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    margins : pandas.DataFrame, shape (n, kappa)
        Raw margins by `pair_id`; a pooled reward's column is not read.
    quantile : float in (0, 1]
        gamma, see `pdsel.scale_margins`.

    Returns
    -------
    pandas.DataFrame, shape (n, kappa)
        In [-1, 1].

    Examples
    --------
    >>> margins = pd.DataFrame({"a": [9.0, 1.0], "b": [4.0, 9.0]}, index=["p", "q"])
    >>> opinions({"pair_id": ["p", "q"], "aspect": ["a", "b"]}, margins)
         a    b
    p  NaN  1.0
    q  1.0  NaN
    """
    aspect = pd.Series(list(pairs["aspect"]), index=list(pairs["pair_id"]))
    names = sorted(name for name in margins if name != POOLED)
    scaled = scale_margins(margins[names], aspect, quantile=quantile)
    labels = aspect.loc[scaled.index].to_numpy()
    return scaled.mask(labels[:, None] == np.array(names)[None, :])


def divergence(pairs, margins, *, quantile=QUANTILE):
    """PD from the proxies' margins (2508.07638): lowest kept, "PD(high)" keeps the other end.

    >>> margins = pd.DataFrame({"a": [9.0, 1.0], "b": [4.0, 9.0]}, index=["p", "q"])
    >>> divergence({"pair_id": ["p", "q"], "aspect": ["a", "b"]}, margins).tolist()
    [-1.0, -1.0]
    """
    aspect = pd.Series(list(pairs["aspect"]), index=list(pairs["pair_id"]))
    return preference_divergence(opinions(pairs, margins, quantile=quantile), aspect)


def divergence_of_ratings(pairs):
    """PD(rati.), lowest kept (2508.07638): PD from the raters' own gaps, see `pdsel.rating_divergence`."""
    return rating_divergence(pairs)


def weighted_divergence(pairs, margins, *, weights, quantile=QUANTILE):
    """The divergence of MODPO's loss (2310.03708): -sum over k' != k of (w_k' / w_k) * m_k'.

    That loss is -log sigma((M - sum over k' != k of w_k' m_k') / w_k), as in the released `MODPOTrainer`. Its w is what a user
    wants of the policy, one policy for every w; with equal weights it is PD.

    >>> margins = pd.DataFrame({"a": [9.0, 1.0], "b": [2.0, 9.0]}, index=["p", "q"])
    >>> pairs = {"pair_id": ["p", "q"], "aspect": ["a", "b"]}
    >>> weighted_divergence(pairs, margins, weights={"a": 2.0, "b": 1.0}).tolist()  # -(1/2) * 1 and -(2/1) * 1
    [-0.5, -2.0]
    """
    aspect = pd.Series(list(pairs["aspect"]), index=list(pairs["pair_id"]))
    return preference_divergence(opinions(pairs, margins, quantile=quantile), aspect, weights=weights)


def voted_divergence(pairs, margins, *, quantile=QUANTILE):
    """PD with every aspect's vote weighed by how often it is right, lowest kept: -sum over k' != k of w_k' * m_k'.

    Ours, after PD: w_k' is the log-odds of the proxy's agreeing with the labels of the other aspects' pairs, as independent
    voters are weighed. Nothing is divided by the label's own weight, as MODPO's loss does with a user's: evidence for a label
    is no smaller because its aspect is trusted.

    >>> margins = pd.DataFrame({"a": [9.0, 1.0], "b": [2.0, 9.0]}, index=["p", "q"])
    >>> votes = voted_divergence({"pair_id": ["p", "q"], "aspect": ["a", "b"]}, margins)
    >>> votes.round(3).tolist()  # either agrees with the other's label: accuracy 1, held below .99
    [-4.595, -4.595]
    """
    others = opinions(pairs, margins, quantile=quantile)
    agreed = others.gt(0).where(others.ne(0), 0.5).where(others.notna()).astype(float).mean()
    weights = logit(agreed.fillna(0.5).clip(*VOTES))
    return 0.0 - (others * weights).sum(axis=1)


def reward_consistency(pairs, margins, *, quantile=QUANTILE):
    """The worst of the other aspects' margins, highest kept (Reward Consistency, 2504.11337).

    From the abstract: pairs whose chosen response wins on every objective are kept, a filter of no given size.
    Our reading for a given share: the smallest margin, which is positive exactly for pairs that pass, so those come first.

    >>> margins = pd.DataFrame({"a": [0.0, 0.0], "b": [4.0, -2.0], "c": [2.0, 4.0]}, index=["p", "q"])
    >>> pairs = {"pair_id": ["p", "q", "r", "s"], "aspect": ["a", "a", "b", "c"]}
    >>> margins.loc["r"], margins.loc["s"] = [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]
    >>> reward_consistency(pairs, margins, quantile=1.0).tolist()  # p: min(4/4, 2/4); q: min(-2/4, 4/4)
    [0.5, -0.5, 0.25, 0.25]
    """
    return opinions(pairs, margins, quantile=quantile).min(axis=1)


def consistent_gap(pairs, margins, *, quantile=QUANTILE):
    """Pairs that win on every aspect first, by the sum of the other aspects' margins; highest kept (2504.11337).

    From a summary: the paper's second step picks the largest gap among the consistent candidates of a prompt; here among
    all pairs, our reading.
    """
    others = opinions(pairs, margins, quantile=quantile)
    failed = ~(others.min(axis=1) > 0)
    return others.sum(axis=1) - 2 * others.shape[1] * failed  # sums lie within +-(kappa - 1)


def mean_less_deviation(pairs, margins, *, quantile=QUANTILE):
    """Mean minus standard deviation of the other aspects' margins, highest kept (after 2505.23114).

    The paper's rule is `pdsel.rules.rewards.data_map`, over the responses to a prompt. Ours, over aspects, is another thing
    with the same form: mean and spread of the other aspects' opinions of one pair. A difference trades the two off;
    `high_mean_low_variance` takes the region instead. With two aspects there is one opinion, and this is PD.

    >>> margins = pd.DataFrame({"a": [0.0, 1.0, 1.0], "b": [4.0, 0.0, 1.0], "c": [2.0, 2.0, 0.0]}, index=["p", "q", "r"])
    >>> mean_less_deviation({"pair_id": ["p", "q", "r"], "aspect": ["a", "b", "c"]}, margins, quantile=1.0).tolist()
    [1.0, 1.0, 0.25]
    """
    others = opinions(pairs, margins, quantile=quantile)
    return others.mean(axis=1) - others.std(axis=1, ddof=0)


def high_mean_low_variance(pairs, margins, *, quantile=QUANTILE):
    """Pairs whose mean is at least the median, by variance; then the rest by mean. Lowest kept (after 2505.23114).

    Over aspects' opinions, as `mean_less_deviation` explains; the median as the region's edge is our reading.
    """
    others = opinions(pairs, margins, quantile=quantile)
    mean, variance = others.mean(axis=1), others.var(axis=1, ddof=0)  # in [-1, 1] and [0, 1]
    return variance.where(mean >= mean.median(), 3 - mean)
