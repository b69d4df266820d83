"""How good are proxies and the PD they give, where the truth is known? (Where it is not: `pdsel.diagnostics`.)"""

import numpy as np
import pandas as pd
from scipy.special import expit

from pdsel.divergence import preference_divergence, scale_margins
from pdsel.selection import select

BINS = 10  # of predicted confidence, for the calibration error


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
        `accuracy`: share of pairs ordered as the truth does, ties of the truth left out. `calibration_error`: mean
        distance between the confidence sigma(|margin|) and the accuracy at that confidence. With a length gap,
        `length`: correlation of the margin with it, `truth_length`: that of the truth, and `length_bias`: the partial
        correlation of the margin with it given the truth, 0 for a judge that is led by the truth alone.

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
    margin, right = margin[ranked].to_numpy(), np.sign(margin[ranked]) == np.sign(truth[ranked])
    row = {"accuracy": float(right.mean()), "calibration_error": calibration_error(margin, right.to_numpy())}
    if length_gap is not None:
        gap, true = length_gap[ranked].to_numpy(), truth[ranked].to_numpy()
        row |= {"length": correlation(margin, gap), "truth_length": correlation(true, gap),
                "length_bias": correlation(_given(margin, true), _given(gap, true))}  # fmt: skip
    return row


def correlation(x, y):
    """Pearson's; NaN if either does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else np.nan


def _given(x, truth):
    """What is left of x when the truth has explained what it can, by a straight line."""
    design = np.column_stack([np.ones(len(truth)), truth])
    return x - design @ np.linalg.lstsq(design, x, rcond=None)[0]


def calibration_error(margin, right, *, bins=BINS):
    """Expected calibration error of a Bradley-Terry reward: sigma(|margin|) against how often it is right.

    Parameters
    ----------
    margin : array-like, shape (n,)
        Reward margins, in nats.
    right : array-like of bool, shape (n,)
        Whether the sign is right.
    bins : int
        Equally filled, so that no bin is a handful of pairs.

    Returns
    -------
    float
        In [0, 1]; 0 is calibrated.

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
    return round(float(sum(gaps) / len(order)), 12)


def divergence_quality(margins, truth, aspect, wrong, *, share=0.3, quantile=0.9):
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
        gamma of the scaling.

    Returns
    -------
    dict
        `spearman` of PD with the truth's PD; `overlap`, the share of the kept pairs that the truth's PD keeps too;
        `wrong_kept` and `wrong_all`, the shares of wrong labels among the kept and among all pairs.
    """
    ours, best = (
        preference_divergence(scale_margins(table[list(truth.columns)], aspect, quantile=quantile), aspect)
        for table in (margins, truth)
    )
    kept, ideal = select(ours, share), select(best, share)
    return {
        "spearman": float(ours.corr(best, method="spearman")),
        "overlap": float(kept.isin(ideal).mean()),
        "wrong_kept": float(wrong.loc[kept].mean()),
        "wrong_all": float(wrong.mean()),
    }


def held_out_accuracy(replicates, proxies, aspect):
    """How often proxies order pairs of their *own* aspect as labelled, pairs they were not trained on. Needs no truth.

    Parameters
    ----------
    replicates : list of pandas.DataFrame
        Raw margins, a table per set of proxies: of one set trained with `share` < 1, or of bootstrap replicates.
    proxies : list of dict
        Aspect to `Proxy`, the sets that gave them.
    aspect : pandas.Series
        `pair_id` to the aspect of the label.

    Returns
    -------
    pandas.DataFrame, a row per aspect
        `accuracy` (NaN where nothing was held out) and `n`, the pairs it is over, counted once per set.
    """
    right = {name: [] for name in replicates[0]}
    for margins, fitted in zip(replicates, proxies, strict=True):
        for name, proxy in fitted.items():
            own = margins.index[(aspect == name) & ~margins.index.isin(proxy.trained_on)]
            right[name] += list(margins.loc[own, name] > 0)
    rows = {name: {"accuracy": np.mean(x) if x else np.nan, "n": len(x)} for name, x in right.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("aspect")
