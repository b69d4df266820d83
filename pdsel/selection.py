"""Scores and a share to kept ids. Scoring is apart from selecting; the paper's rules are named in `RULES`."""

import hashlib

import numpy as np
import pandas as pd

from pdsel.checks import DataError, refuse, refuse_repeated
from pdsel.divergence import aligned, preference_divergence, rating_divergence, scale_margins
from pdsel.pairs import relabel


def select(scores, share, *, keep="lowest", standard_error=None):
    """The ids of the `round(share * n)` best pairs, best first.

    Parameters
    ----------
    scores : pandas.Series, shape (n,)
        Score by `pair_id`.
    share : float in (0, 1]
        The paper's lambda.
    keep : {"lowest", "highest"}
        Which end is best.
    standard_error : pandas.Series, optional
        How uncertain each score is, by `pair_id`, in the scores' unit; entries of other pairs are ignored. Pairs are then
        ranked by a cautious score, the worse end of the interval: `scores + standard_error` for "lowest" (an upper
        confidence bound of PD), `scores - standard_error` for "highest" (a lower confidence bound of a reward). Uncertain
        pairs are ranked lower; how many are kept stays the same. Pass a multiple,
        such as `1.64 * standard_error`, for more caution.

    Returns
    -------
    pandas.Index
        Exactly `round(share * n)` ids (Python's rounding); ties are broken by `pair_id`, ascending.

    Raises
    ------
    ValueError
        For NaN scores, repeated ids, a share outside (0, 1] or one that keeps no pair; for a standard error that is
        absent, negative, NaN or infinite.

    Examples
    --------
    >>> scores = pd.Series({"b": -1.0, "a": -1.0, "c": 2.0, "d": 0.0})
    >>> list(select(scores, 0.5))
    ['a', 'b']
    >>> list(select(scores, 0.5, keep="highest"))
    ['c', 'd']

    Pair a's score is the least certain: at worst it is -1 + 1.5 = 0.5, behind b's -0.9 and d's 0.1.

    >>> list(select(scores, 0.5, standard_error=pd.Series({"a": 1.5, "b": 0.1, "c": 0.1, "d": 0.1})))
    ['b', 'd']
    """
    if keep not in ("lowest", "highest"):
        raise DataError(f"keep={keep!r}: use 'lowest' or 'highest'")
    if isinstance(share, bool | str) or not 0 < share <= 1:
        raise DataError(f"share={share} is not in (0, 1]: it is the fraction of pairs to keep, such as 0.3")
    refuse_repeated(scores.index, "scores: pair_id", "occurs more than once", "drop repeats")
    values = scores.to_numpy(dtype=float)
    refuse(
        scores.index[np.isnan(values)], f"scores ({scores.name or 'unnamed'})", "is NaN", "score or drop these pairs"
    )
    n_kept = round(share * len(scores))
    if n_kept == 0:
        raise DataError(f"share={share} of {len(scores)} pairs keeps no pair. Remedy: a larger share or more pairs")
    cost = values if keep == "lowest" else -values
    if standard_error is not None:
        cost = cost + _errors(standard_error, scores.index)
    return scores.index[_first(cost, scores.index, n_kept)]


def _errors(standard_error, index):
    """The standard errors in the order of `index`, checked."""
    errors = aligned(standard_error, index, "standard_error").to_numpy(dtype=float)
    usable = (errors >= 0) & (errors < np.inf)
    refuse(index[~usable], "standard_error", "is negative, NaN or infinite", "estimate it, or drop these pairs")
    return errors


def _first(values, index, n):
    """Positions of the n smallest values, ordered by (value, id)."""
    cut = np.partition(values, n - 1)[n - 1]
    sure, ties = np.flatnonzero(values < cut), np.flatnonzero(values == cut)
    free = n - len(sure)
    if free < len(ties):
        ties = ties[np.argsort(_sortable(index[ties]))[:free]]
    rows = np.concatenate([sure, ties])
    rows = rows[np.argsort(values[rows])]
    like_next = np.append(values[rows[1:]] == values[rows[:-1]], False)
    tied = rows[among := like_next | np.roll(like_next, 1)]
    rows[among] = tied[np.lexsort((_sortable(index[tied]), values[tied]))]  # ids are compared only where values tie
    return rows


def _sortable(index):
    ids = index.to_numpy()
    return ids if ids.dtype.kind in "iuU" else ids.astype(str)


def random_scores(pairs, *, seed=0):
    """RAND: a uniform draw in [0, 1) per pair, from a digest of seed and `pair_id`, so row order does not matter.

    The digest is of more than seed and id: `make_pairs` leaves pairs out by that one to reach a conflict level, and the lowest
    draws would be the same pairs at every level.
    """
    ids = list(pairs["pair_id"])
    draws = [int(hashlib.sha256(f"random {seed}:{name}".encode()).hexdigest()[:13], 16) / 16**13 for name in ids]
    return pd.Series(draws, index=ids, name="random")


def divergence_scores(pairs, margins, *, quantile=0.9):
    """PD of every pair from the raw margins of the aspects' proxies; lowest is best (arXiv 2508.07638)."""
    aspect = pd.Series(list(pairs["aspect"]), index=list(pairs["pair_id"]))
    aspects = sorted(aspect.unique())
    return preference_divergence(scale_margins(margins[aspects], aspect, quantile=quantile), aspect)


POOLED = "pooled"  # the margin column of the one reward that is trained on all pairs

RULES = {  # name: (score of (pairs, margins, seed, quantile), which end is kept)
    "RAND": (lambda pairs, margins, seed, quantile: random_scores(pairs, seed=seed), "lowest"),
    "RAF": (lambda pairs, margins, seed, quantile: margins[POOLED], "highest"),
    "PD(rati.)": (lambda pairs, margins, seed, quantile: rating_divergence(pairs), "lowest"),
    "PD": (lambda pairs, margins, seed, quantile: divergence_scores(pairs, margins, quantile=quantile), "lowest"),
    "PD(high)": (
        lambda pairs, margins, seed, quantile: divergence_scores(pairs, margins, quantile=quantile),
        "highest",
    ),
}


def score_rules(pairs, margins, *, seed=0, quantile=0.9):
    """A column of scores per rule of `RULES`, index `pair_id`."""
    scores = {rule: score(pairs, margins, seed, quantile) for rule, (score, _) in RULES.items()}
    return pd.DataFrame(scores).loc[list(pairs["pair_id"])].rename_axis("pair_id")


def select_rules(scores, share, *, rules=RULES):
    """The kept ids of every rule in `scores`, as a table `method, rank, pair_id` (best first).

    `rules` says which end each keeps: name to (score, end), such as `pdsel.rules.RULES`.
    """
    kept = {rule: select(scores[rule], share, keep=rules[rule][1]) for rule in scores}
    tables = [pd.DataFrame({"method": rule, "rank": range(len(ids)), "pair_id": ids}) for rule, ids in kept.items()]
    return pd.concat(tables, ignore_index=True)


FULL = {  # methods that train on all pairs: how they label them
    "OVA": lambda pairs: relabel(pairs, by="overall"),
    "AVG": lambda pairs: relabel(pairs, by="mean_rating"),
    "ALL": lambda pairs: pairs,
    "DMPO": lambda pairs: pairs,
}


def training_pairs(method, pairs, kept):
    """The pairs a method of the paper's tables trains on.

    Parameters
    ----------
    method : str
        One of `FULL` or of `RULES`.
    pairs : datasets.Dataset
    kept : pandas.DataFrame
        From `select_rules`; read only for methods of `RULES`.

    Returns
    -------
    datasets.Dataset
        In the order of the pairs table, whatever the order of the kept ids.
    """
    if method in FULL:
        return FULL[method](pairs)
    if method not in set(kept["method"]):
        raise DataError(f"method={method!r}: use one of {[*FULL, *RULES]}, and keep its ids in 03_selection first")
    ids = kept.loc[kept["method"] == method, "pair_id"]
    where = np.flatnonzero(pd.Series(list(pairs["pair_id"])).isin(ids))
    refuse(
        ids[~ids.isin(list(pairs["pair_id"]))], "pair_id", "kept but not in the pairs table", "select on these pairs"
    )
    return pairs.select(where)
