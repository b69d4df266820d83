"""Baselines: chance, and rules on the length in words."""

import numpy as np

from pdsel.checks import refuse
from pdsel.data.messages import word_counts
from pdsel.selection import random_scores


def chance(pairs, *, seed=0):
    """RAND, lowest kept: a uniform draw per pair (see `pdsel.selection.random_scores`)."""
    return random_scores(pairs, seed=seed)


def words(pairs):
    """Words of either side by `pair_id`, see `pdsel.data.messages.word_counts`.

    >>> words({"pair_id": ["p"], "chosen": ["size tiny ."], "rejected": ["no"]}).loc["p"].tolist()
    [3, 1]
    """
    counts = word_counts(pairs)
    for side in counts:
        refuse(counts.index[counts[side] == 0], side, "has no words", "drop these pairs")
    return counts


def length_balance(words):
    """|log(words of chosen / words of rejected)|, lowest kept: pairs whose label length cannot explain.

    >>> import pandas as pd
    >>> length_balance(pd.DataFrame({"chosen": [2, 1], "rejected": [1, 1]}, index=["p", "q"])).round(3).tolist()
    [0.693, 0.0]
    """
    return log_length_ratio(words).abs()


def log_length_ratio(words):
    """log(words of chosen / words of rejected), lowest kept: pairs that prefer the shorter answer. The second reading."""
    return np.log(words["chosen"] / words["rejected"])
