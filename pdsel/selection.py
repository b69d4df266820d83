"""From scores and a share to kept ids. A score says how good a pair is; only `select` decides which pairs are kept."""

import hashlib

import numpy as np
import pandas as pd

from pdsel.checks import DataError, is_number, refuse, refuse_repeated, require_ids, require_numbers, require_series
from pdsel.divergence import aligned

POOLED = "pooled"  # the margin column of the one reward that is trained on all pairs


def select(scores, share, *, keep="lowest", standard_error=None):
    """The ids of the `round(share * n)` best pairs, best first.

    Parameters
    ----------
    scores : pandas.Series, shape (n,)
        Score by `pair_id`.
    share : float in (0, 1]
        The paper's lambda.
    keep : {"lowest", "highest"}
        Which end of the scores is the best.
    standard_error : pandas.Series, optional
        How uncertain each score is, by `pair_id`, in the scores' unit; entries of other pairs are ignored. Pairs are then
        ranked by a cautious score, the worse end of the interval: `scores + standard_error` for "lowest" (an upper
        confidence bound of PD), `scores - standard_error` for "highest" (a lower confidence bound of a reward). Uncertain
        pairs are ranked lower; the number of kept pairs stays the same. Pass a multiple,
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
    require_series(scores, "scores")
    require_ids(scores.index, "scores")
    n_kept = _how_many(share, len(scores))
    refuse_repeated(scores.index, "scores: pair_id", "occurs more than once", "drop repeats")
    scores = require_numbers(scores, "scores")
    unknown = scores.index[scores.isna()]
    refuse(unknown, f"scores ({scores.name or 'unnamed'})", "is NaN", "score or drop these pairs")

    cost = scores if keep == "lowest" else -scores
    if standard_error is not None:
        cost = cost + _checked_errors(standard_error, scores.index)
    # A stable sort leaves ties in the order of their ids. It takes three seconds for a million pairs; a partition at the cut
    # that compares ids only where scores tie would take one.
    try:
        ranked = cost.sort_index().sort_values(kind="stable")
    except TypeError:
        raise DataError(
            "scores: the ids are of several types, so ties have no order. Remedy: make all of them text"
        ) from None
    return ranked.index[:n_kept]


def _how_many(share, n):
    """The number of n pairs that a share keeps."""
    if not is_number(share) or not 0 < share <= 1:
        raise DataError(f"share={share!r} is not in (0, 1]: it is the fraction of pairs to keep, such as 0.3")
    n_kept = round(share * n)
    if n_kept == 0:
        raise DataError(f"share={share} of {n} pairs keeps no pair. Remedy: a larger share or more pairs")
    return n_kept


def _checked_errors(standard_error, index):
    """The standard errors in the order of `index`."""
    require_series(standard_error, "standard_error")
    errors = require_numbers(aligned(standard_error, index, "standard_error"), "standard_error")
    usable = (errors >= 0) & (errors < np.inf)
    refuse(index[~usable], "standard_error", "is negative, NaN or infinite", "estimate it, or drop these pairs")
    return errors


def random_scores(pairs, *, seed=0):
    """RAND: a uniform draw in [0, 1) per pair, from a digest of seed and `pair_id`, so that row order does not matter.

    The digest includes a word besides seed and id, because `make_pairs` leaves out pairs by the digest of these alone to
    reach a conflict level, and the lowest draws would otherwise be the same pairs at every level.

    >>> random_scores({"pair_id": ["p", "q"]}, seed=3).round(3).to_dict()
    {'p': 0.71, 'q': 0.208}
    """
    ids = list(pairs["pair_id"])
    digests = [hashlib.sha256(f"random {seed}:{name}".encode()).hexdigest() for name in ids]
    draws = [int(digest[:13], 16) / 16**13 for digest in digests]
    return pd.Series(draws, index=ids, name="random")
