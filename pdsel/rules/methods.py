"""The methods of the paper's tables: four train on all pairs (`FULL`), five on the pairs that a rule keeps (`SELECTED`)."""

import numpy as np
import pandas as pd

from pdsel.checks import DataError, refuse
from pdsel.pairs import relabel


def labelled_by_overall(pairs):
    """OVA: every pair relabelled by the overall rating."""
    return relabel(pairs, by="overall")


def labelled_by_mean(pairs):
    """AVG: every pair relabelled by the mean of the aspects' ratings."""
    return relabel(pairs, by="mean_rating")


def as_labelled(pairs):
    """ALL and DMPO: the pairs as they are."""
    return pairs


FULL = {"OVA": labelled_by_overall, "AVG": labelled_by_mean, "ALL": as_labelled, "DMPO": as_labelled}
SELECTED = ["RAND", "RAF", "PD(rati.)", "PD", "PD(high)"]  # rules of `pdsel.rules.RULES`


def training_pairs(method, pairs, kept):
    """The pairs that a method of the paper's tables trains on.

    Parameters
    ----------
    method : str
        One of `FULL`, or a rule that has kept ids.
    pairs : datasets.Dataset
    kept : pandas.DataFrame or None
        `method, pair_id`, from `pdsel.rules.keep_all`; not read for methods of `FULL`.

    Returns
    -------
    datasets.Dataset
        In the order of the pairs table, whatever the order of the kept ids.

    Raises
    ------
    ValueError
        For a method without kept ids, or kept ids that are not in the pairs table.
    """
    if method in FULL:
        return FULL[method](pairs)
    if method not in set(kept["method"]):
        raise DataError(f"method={method!r}: use one of {[*FULL, *SELECTED]}, and keep its ids in 03_selection first")
    kept_ids = kept.loc[kept["method"] == method, "pair_id"]
    table_ids = pd.Series(list(pairs["pair_id"]))
    absent = kept_ids[~kept_ids.isin(table_ids)]
    refuse(absent, "pair_id", "kept but not in the pairs table", "select on these pairs")
    return pairs.select(np.flatnonzero(table_ids.isin(kept_ids)))
