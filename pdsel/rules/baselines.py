"""Rules on chance, and on length in words."""

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
    table = word_counts(pairs)
    for side in table:
        refuse(table.index[table[side] == 0], side, "holds no word", "drop these pairs")
    return table


def length_balance(words):
    """|log(words of chosen / words of rejected)|, lowest kept: pairs whose label length cannot explain.

    >>> import pandas as pd
    >>> length_balance(pd.DataFrame({"chosen": [2, 1], "rejected": [1, 1]}, index=["p", "q"])).round(3).tolist()
    [0.693, 0.0]
    """
    return log_length_ratio(words).abs()


def log_length_ratio(words):
    """log(words of chosen / words of rejected), lowest kept: pairs that prefer the shorter answer, the second reading."""
    return np.log(words["chosen"] / words["rejected"])
