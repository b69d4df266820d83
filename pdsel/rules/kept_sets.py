"""What the kept sets are like, and how similar they are to each other."""

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from pdsel.rules.baselines import words


def kept_quality(pairs, kept, gaps=None):
    """What the pairs that each rule keeps are like; the last row is of all pairs.

    Parameters
    ----------
    pairs : datasets.Dataset
    kept : pandas.DataFrame
        `method, pair_id`, see `pdsel.rules.keep_all`.
    gaps : pandas.DataFrame, optional
        The true gaps, with a column `utility`, by `pair_id` (`pdsel.evaluation.judges.gold_gaps`): adds `wrong` and `utility`.

    Returns
    -------
    pandas.DataFrame, a row per method
        `wrong`: labels that the truth contradicts, percent. `utility`: mean true gap. `conflict`: labels that the overall
        rating contradicts, percent. `balance`: effective number of aspects, exp of the entropy of their shares, from 1 to
        kappa. `longer`: mean words of chosen less rejected. `n`.
    """
    length = words(pairs)
    facts = pd.DataFrame(
        {"aspect": list(pairs["aspect"]), "conflict": 100.0 * np.array(list(pairs["conflict"]))}, index=length.index
    ).assign(longer=length["chosen"] - length["rejected"])
    if gaps is not None:
        facts = facts.assign(wrong=100.0 * (gaps["utility"] < 0), utility=gaps["utility"])
    rows = {method: _row(facts.loc[ids]) for method, ids in kept.groupby("method", sort=False)["pair_id"]}
    table = pd.DataFrame.from_dict(rows | {"all pairs": _row(facts)}, orient="index").rename_axis("method")
    order = ["wrong", "utility", "conflict", "balance", "longer", "n"]
    return table[[column for column in order if column in table]].astype({"n": int})


def _row(facts):
    shares = facts["aspect"].value_counts(normalize=True)
    balance = float(np.exp(-(shares * np.log(shares)).sum()))
    return facts.drop(columns="aspect").mean().to_dict() | {"balance": balance, "n": len(facts)}


def overlap(kept):
    """The Jaccard similarity of every two kept sets, in [0, 1].

    >>> kept = pd.DataFrame({"method": list("aabb"), "pair_id": list("pqqr")})
    >>> overlap(kept).loc["a", "b"].round(3)
    np.float64(0.333)
    """
    held = pd.crosstab(kept["method"], kept["pair_id"]).loc[list(kept["method"].unique())]
    values = held.to_numpy(dtype=float)
    both = values @ values.T
    size = values.sum(axis=1)
    return pd.DataFrame(both / (size[:, None] + size[None, :] - both), index=held.index, columns=list(held.index))


def family_tree(similarity):
    """The average linkage of the rules by 1 - overlap, for scipy's dendrogram.

    Returns
    -------
    numpy.ndarray, shape (rules - 1, 4)
    """
    distance = 1 - similarity.to_numpy()
    np.fill_diagonal(distance, 0.0)
    return linkage(squareform(distance, checks=False), method="average")
