"""How good are proxies and the PD they give, where the truth is known? (Where it is not: `pdsel.diagnostics`.)"""

import numpy as np
import pandas as pd
from scipy.special import expit

from pdsel.divergence import preference_divergence, scale_margins
from pdsel.notesworld.settings import QUANTILE, SHARE
from pdsel.selection import select

BINS = 10  # of predicted confidence, for the calibration error


def divergence_of(margins, aspect, *, quantile=QUANTILE, weights=None):
    """PD from raw margins: they are made comparable, and the other aspects' are added up.

    Parameters
    ----------
    margins : pandas.DataFrame, shape (n, kappa)
        Raw margins, index `pair_id`, a column per aspect.
    aspect : pandas.Series, shape (n,)
        `pair_id` to the aspect of the label.
    quantile, weights
        As in `pdsel.scale_margins` and `pdsel.preference_divergence`.

    Returns
    -------
    pandas.Series, shape (n,)

    Examples
    --------
    >>> margins = pd.DataFrame({"a": [9.0, 1.0], "b": [4.0, 9.0]}, index=["p", "q"])
    >>> divergence_of(margins, pd.Series({"p": "a", "q": "b"})).tolist()
    [-1.0, -1.0]
    """
    return preference_divergence(scale_margins(margins, aspect, quantile=quantile), aspect, weights=weights)


def proxy_quality(margins, truth, aspect, *, length_gap=None):
    """How each proxy does on the pairs of the *other* aspects, the only ones where its opinion counts.

    Parameters
    ----------
    margins : pandas.DataFrame, shape (n, kappa)
        Raw margins, index `pair_id`, a column per aspect.
    truth : pandas.DataFrame, shape (n, kappa)
        Who is better by how much, same index and columns: gold gaps, or the raters' own.
    aspect : pandas.Series, shape (n,)
        `pair_id` to the aspect of the label.
    length_gap : pandas.Series, shape (n,), optional
        Length of chosen minus rejected, any unit.

    Returns
    -------
    pandas.DataFrame, a row per aspect
        `accuracy`: share of pairs ordered as the truth does, ties of the truth left out, a margin of 0 counting half.
        `calibration_error`: mean distance between the confidence sigma(|margin|) and the accuracy at that confidence. With
        a length gap, `length`: correlation of the margin with it, and `truth_length`: that of the truth.

    Examples
    --------
    >>> index = ["p", "q", "r"]
    >>> margins = pd.DataFrame({"a": [9.0, 1.0, -2.0], "b": [4.0, 9.0, 9.0]}, index=index)
    >>> truth = pd.DataFrame({"a": [1.0, 2.0, 1.0], "b": [1.0, 0.0, 1.0]}, index=index)
    >>> proxy_quality(margins, truth, pd.Series(["a", "b", "b"], index=index))["accuracy"]
    aspect
    a    0.5
    b    1.0
    Name: accuracy, dtype: float64
    """
    rows = {name: _quality(margins[name], truth[name], aspect != name, length_gap) for name in truth.columns}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("aspect")


def _quality(margin, truth, others, length_gap):
    ranked = others & truth.notna() & (truth != 0)
    margin = margin[ranked].to_numpy()
    right = np.where(margin == 0, 0.5, np.sign(margin) == np.sign(truth[ranked]))
    row = {
        "accuracy": float(right.mean()) if len(right) else np.nan,
        "calibration_error": calibration_error(margin, right),
    }
    if length_gap is not None:
        gap = length_gap[ranked].to_numpy()
        row |= {"length": correlation(margin, gap), "truth_length": correlation(truth[ranked].to_numpy(), gap)}
    return row


def correlation(x, y):
    """Pearson's; NaN if either does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if len(x) and np.ptp(x) and np.ptp(y) else np.nan


def calibration_error(margin, right, *, bins=BINS):
    """Expected calibration error of a Bradley-Terry reward: sigma(|margin|) against how often it is right.

    Parameters
    ----------
    margin : array-like, shape (n,)
        Reward margins, in nats.
    right : array-like, shape (n,)
        Whether the sign is right: 1, 0, or .5 for a margin of 0.
    bins : int
        Equally filled, so that no bin is a handful of pairs.

    Returns
    -------
    float
        In [0, 1]; 0 is calibrated. NaN without pairs.

    Examples
    --------
    >>> calibration_error([np.log(3)] * 4, [True, True, True, False], bins=1)
    0.0
    """
    confidence = expit(np.abs(np.asarray(margin, dtype=float)))
    order = np.argsort(confidence, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    right = np.asarray(right, dtype=float)
    gaps = [len(group) * abs(confidence[group].mean() - right[group].mean()) for group in groups]
    return round(float(sum(gaps) / len(order)), 12) if len(order) else np.nan


def divergence_quality(margins, truth, aspect, wrong, *, share=SHARE, quantile=QUANTILE):
    """How good the PD from these margins is: against PD from the truth, and by what its selection keeps.

    Parameters
    ----------
    margins, truth : pandas.DataFrame, shape (n, kappa)
        As in `proxy_quality`.
    aspect : pandas.Series, shape (n,)
    wrong : pandas.Series of bool, shape (n,)
        Whether the label contradicts the truth.
    share : float
        lambda, how many pairs are kept.
    quantile : float
        gamma of the margins' scaling; the truth's is always the usual one, so that different gammas meet one yardstick.

    Returns
    -------
    dict
        `spearman` of PD with the truth's PD; `overlap`, the share of the kept pairs that the truth's PD keeps too;
        `wrong_kept` and `wrong_all`, the shares of wrong labels among the kept and among all pairs.
    """
    ours = divergence_of(margins[list(truth.columns)], aspect, quantile=quantile)
    best = divergence_of(truth, aspect)
    kept, ideal = select(ours, share), select(best, share)
    return {
        "spearman": float(ours.corr(best, method="spearman")),
        "overlap": float(kept.isin(ideal).mean()),
        "wrong_kept": float(wrong.loc[kept].mean()),
        "wrong_all": float(wrong.mean()),
    }


def agreement(one, other, *, share=SHARE):
    """How alike two rankings of the same pairs are, and the sets that they keep.

    Parameters
    ----------
    one, other : pandas.Series, shape (n,)
        PD by `pair_id`; the lowest are kept.
    share : float
        lambda.

    Returns
    -------
    dict
        `spearman`, the rank correlation; `jaccard`, pairs that both keep over pairs that either keeps; `chance`, what two
        random sets of that size have of it.

    Examples
    --------
    >>> one, other = pd.Series({"a": 1.0, "b": 2.0, "c": 3.0}), pd.Series({"a": 1.0, "b": 3.0, "c": 2.0})
    >>> {name: round(value, 3) for name, value in agreement(one, other, share=0.67).items()}  # {a, b} and {a, c}
    {'spearman': 0.5, 'jaccard': 0.333, 'chance': 0.504}
    """
    ours, theirs = set(select(one, share)), set(select(other, share))
    return {
        "spearman": float(one.corr(other, method="spearman")),
        "jaccard": len(ours & theirs) / len(ours | theirs),
        "chance": share / (2 - share),
    }


def held_out_accuracy(replicates, proxies, aspect):
    """How often proxies order pairs of their *own* aspect as labelled, pairs they were not trained on. Needs no truth.

    Parameters
    ----------
    replicates : list of pandas.DataFrame
        Raw margins, a table per set of proxies: of one set trained with `share` < 1, or, better, of bootstrap
        replicates, which hold out whole prompts.
    proxies : list of dict
        Aspect to `Proxy`, the sets that gave them.
    aspect : pandas.Series
        `pair_id` to the aspect of the label.

    Returns
    -------
    pandas.DataFrame, a row per aspect
        `accuracy` (NaN where nothing was held out) and `n`, how many different pairs it is over.
    """
    right = {name: [] for name in replicates[0]}
    for margins, fitted in zip(replicates, proxies, strict=True):
        for name, proxy in fitted.items():
            own = margins.index[(aspect == name) & ~margins.index.isin(proxy.trained_on)]
            right[name].append(margins.loc[own, name] > 0)
    rows = {name: _held_out(pd.concat(parts)) for name, parts in right.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("aspect")


def _held_out(right):
    return {"accuracy": right.mean() if len(right) else np.nan, "n": right.index.nunique()}
