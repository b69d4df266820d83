"""How sure is a PD? Bootstrap replicates of the proxies give each pair's PD a standard error."""

import numpy as np
import pandas as pd

from pdsel.checks import DataError, refuse
from pdsel.divergence import aligned
from pdsel.experiments.proxy_quality import divergence_of
from pdsel.notesworld.settings import QUANTILE
from pdsel.selection import select


def divergence_error(replicates, aspect, *, quantile=QUANTILE, weights=None):
    """The standard error of every PD: its spread over bootstrap replicates of the proxies.

    It says how far PD moves if the same raters label other prompts of the same kind; it does not say how far all
    replicates are off together.

    Parameters
    ----------
    replicates : iterable of pandas.DataFrame, shape (n, kappa)
        Raw margins, index `pair_id`, a column per aspect: a table per replicate, which is forgotten once it was read.
    aspect : pandas.Series, shape (n,)
        `pair_id` to the aspect of the label.
    quantile, weights
        As for the PD whose error is wanted.

    Returns
    -------
    pandas.Series, shape (n,)
        Standard deviation (n - 1) over replicates, in the unit of PD, index `pair_id` as in the first table.

    Raises
    ------
    ValueError
        For fewer than two replicates, or replicates over different pairs.

    Examples
    --------
    Two replicates. The second finds b's margin on p half as large as that on r, so PD of p is -1.0 and then -0.5:

    >>> index = pd.Index(["p", "q", "r"], name="pair_id")
    >>> tables = [pd.DataFrame({"a": [0.0, 1.0, 0.0], "b": [b, 0.0, 1.0]}, index=index) for b in (1.0, 0.5)]
    >>> aspect = pd.Series({"p": "a", "q": "b", "r": "a"})
    >>> divergence_error(tables, aspect, quantile=1.0).round(4).to_dict()  # 0.5 / sqrt(2)
    {'p': 0.3536, 'q': 0.0, 'r': 0.0}
    """
    index, values = None, []
    for margins in replicates:
        divergence = divergence_of(margins, aspect, quantile=quantile, weights=weights)
        index = divergence.index if index is None else index
        absent = divergence.index.symmetric_difference(index)
        refuse(absent, "replicates: pair_id", "is in some replicates only", "score every pair")
        values.append(divergence.loc[index].to_numpy())
    if len(values) < 2:
        raise DataError(f"replicates: {len(values)} given; a spread needs at least two. Remedy: replicates=4 or more")
    return pd.Series(np.std(values, axis=0, ddof=1), index=index, name="standard_error")


def near_cut(scores, standard_error, share):
    """How many kept pairs are within one standard error of not being kept.

    Parameters
    ----------
    scores, standard_error : pandas.Series, shape (n,)
        PD (the lowest are kept) and its error, index `pair_id`.
    share : float
        lambda.

    Returns
    -------
    dict
        `cut`, the largest kept score; `kept`; `kept_near`, kept pairs whose score plus one standard error is above the
        cut; `dropped_near`, pairs not kept whose score minus one is not.

    Examples
    --------
    >>> scores = pd.Series({"a": -2.0, "b": -1.0, "c": -0.9, "d": 1.0})
    >>> near_cut(scores, pd.Series(0.2, index=scores.index), 0.5)
    {'cut': -1.0, 'kept': 2, 'kept_near': 1, 'dropped_near': 1}
    """
    standard_error = aligned(standard_error, scores.index, "standard_error")
    kept = select(scores, share)
    cut = scores.loc[kept].max()
    dropped = scores.index.difference(kept)
    above = scores.loc[kept] + standard_error.loc[kept] > cut
    below = scores.loc[dropped] - standard_error.loc[dropped] <= cut
    return {"cut": float(cut), "kept": len(kept), "kept_near": int(above.sum()), "dropped_near": int(below.sum())}
