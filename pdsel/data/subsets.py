"""Subsets of prompts and pairs: exact conflict levels and what the data can supply, samples, and held-out pairs."""

import hashlib
from numbers import Integral

import numpy as np
import pandas as pd

from pdsel.checks import DataError, is_number, require_columns
from pdsel.data.gaps import rating_gaps

LEVELS = (0.1, 0.2, 0.3)  # the paper's shares of conflicting pairs


def random_key(seed, name):
    """A key for sorting at random; it depends on `name`, so that the order of the rows does not matter.

    >>> random_key(0, "p1") == random_key(0, "p1") != random_key(1, "p1")
    True
    """
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def capacity(n_conflict, n_agree, level):
    """The largest number of pairs of which exactly this share is conflicting, to rounding.

    >>> capacity(3, 7, 0.3), capacity(3, 7, 0.1), capacity(0, 7, 0.1)
    (10, 7, 0)
    """
    bounds = [n / share for n, share in [(n_conflict, level), (n_agree, 1 - level)] if share > 0]
    n = int(min(bounds) + 1e-9)  # 3 / (1 - .7) is 9.999...
    return n if round(level * n) <= n_conflict else 0


def subsample(table, conflict, size, seed):
    """Leave pairs out until the conflict level and size are met; which ones is decided by digest, not by position.

    Parameters
    ----------
    table : pandas.DataFrame
        `pair_id, conflict`, and whatever else.
    conflict : float, optional
    size : int, optional
    seed : int

    Returns
    -------
    pandas.DataFrame
        Sorted by `pair_id`.
    """
    if conflict is None:
        most = len(table)
        if size is None:
            return table
    else:
        if not is_number(conflict) or not 0 <= conflict <= 1:
            raise DataError(f"conflict={conflict!r} is not a share; give a number in [0, 1] or None")
        n_conflict, n_agree = int(table["conflict"].sum()), int((~table["conflict"]).sum())
        most = capacity(n_conflict, n_agree, conflict)
        if most == 0:
            raise DataError(
                f"conflict={conflict}: the data hold {n_conflict} conflicting and {n_agree} agreeing pairs and can supply "
                f"{most} pairs at this level. Remedy: another level, more prompts, or conflict=None"
            )
    size = most if size is None else size
    if not is_number(size, Integral) or not 0 < size <= most:
        raise DataError(
            f"size={size!r}: the data can supply {most} pairs at conflict={conflict}. Remedy: a smaller size"
        )
    ranked = table.assign(key=[random_key(seed, name) for name in table["pair_id"]]).sort_values("key")
    if conflict is not None:
        n_conflict = round(conflict * size)
        parts = [(ranked[ranked["conflict"]], n_conflict), (ranked[~ranked["conflict"]], size - n_conflict)]
        ranked = pd.concat([part.head(n) for part, n in parts])
    return ranked.head(size).drop(columns="key").sort_values("pair_id")


def at_level(pairs, *, conflict=None, size=None, seed=0):
    """Leave pairs out until the conflict level and size are met, as `make_pairs` does.

    Use it for pairs that were filtered after `make_pairs`: a level that is drawn last is exact.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    conflict, size, seed
        As in `pdsel.make_pairs`.

    Returns
    -------
    datasets.Dataset
        Sorted by `pair_id`.

    Raises
    ------
    ValueError
        If the data cannot supply so many pairs; the message says how many they can.

    Examples
    --------
    >>> from datasets import Dataset
    >>> pairs = Dataset.from_dict({"pair_id": ["a", "b", "c"], "conflict": [True, True, False]})
    >>> at_level(pairs, conflict=0.5)["conflict"][:]
    [True, False]
    """
    table = pairs.select_columns(["pair_id", "conflict"]).to_pandas().sort_values("pair_id")
    return pairs.select(subsample(table, conflict, size, seed).index)


def sample_prompts(ratings, n, *, seed=0):
    """Draw `n` rows at random and keep their order; return all rows if there are fewer, or with `n=None`.

    The first rows of a public file are not a sample of it, because the file is sorted by source.

    Examples
    --------
    >>> from datasets import Dataset
    >>> sample_prompts(Dataset.from_dict({"prompt_id": ["a", "b", "c", "d"]}), 2)["prompt_id"][:]
    ['a', 'd']
    """
    if n is None or n >= len(ratings):
        return ratings
    names = list(ratings["prompt_id"])
    drawn = sorted(range(len(names)), key=lambda row: random_key(seed, f"sample {names[row]}"))[:n]
    return ratings.select(sorted(drawn))


def hold_out(pairs, n_prompts, *, seed=0):
    """Split off all pairs of `n_prompts` random prompts, on which neither proxies nor policies are then trained.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    n_prompts : int
        0 holds nothing out.
    seed : int

    Returns
    -------
    (datasets.Dataset, datasets.Dataset)
        The pairs to select from and the held-out pairs, both in the order of `pairs`.

    Raises
    ------
    ValueError
        If no pair would be left.

    Examples
    --------
    >>> from datasets import Dataset
    >>> left, unseen = hold_out(Dataset.from_dict({"pair_id": ["1", "2", "3"], "prompt_id": ["a", "a", "b"]}), 1)
    >>> left["pair_id"][:], unseen["pair_id"][:]
    (['3'], ['1', '2'])
    """
    names = list(pairs["prompt_id"])
    known = sorted(set(names), key=lambda name: random_key(seed, f"held out {name}"))
    if n_prompts and not 0 < n_prompts < len(known):
        raise DataError(f"n_held_out={n_prompts}: the pairs come from {len(known)} prompts. Remedy: a smaller number")
    unseen = set(known[:n_prompts])
    left = [row for row, name in enumerate(names) if name not in unseen]
    held_out = [row for row, name in enumerate(names) if name in unseen]
    return pairs.select(left), pairs.select(held_out)


def fully_rated(pairs):
    """The pairs of which both responses are rated on every aspect, as PD(rati.) requires.

    >>> from datasets import Dataset
    >>> gaps = [{"a": 1.0, "b": None}, {"a": 2.0, "b": -1.0}]
    >>> fully_rated(Dataset.from_dict({"pair_id": ["a", "b"], "rating_gaps": gaps}))["pair_id"][:]
    ['b']
    """
    complete = np.isfinite(rating_gaps(pairs)).all(axis=1)
    return pairs.select(np.flatnonzero(complete))


def supply(pairs, *, levels=LEVELS):
    """The natural conflict of these pairs, and how many of them there can be at each conflict level.

    Parameters
    ----------
    pairs : datasets.Dataset
        All pairs of the data: `make_pairs(ratings)` without a conflict level or size.
    levels : sequence of float in [0, 1]
        Shares of conflicting pairs; the paper's are .1, .2 and .3.

    Returns
    -------
    pandas.DataFrame
        A row per aspect (for its part alone) and one for "all". Columns: `pairs`; `conflicting`, the number of conflicting
        pairs, and `conflict`, their share; for each level `size at 0.1`, the largest number of pairs, and `share at 0.1`, that
        number as a share of `pairs`.

    Examples
    --------
    >>> from datasets import Dataset
    >>> pairs = Dataset.from_dict({"aspect": ["a", "a", "b", "b", "b"], "conflict": [True, False, False, False, True]})
    >>> supply(pairs, levels=[0.25]).loc["all"].to_dict()
    {'pairs': 5.0, 'conflicting': 2.0, 'conflict': 0.4, 'size at 0.25': 4.0, 'share at 0.25': 0.8}
    """
    require_columns(pairs.column_names, ["aspect", "conflict"], "pairs table")
    table = pairs.select_columns(["aspect", "conflict"]).to_pandas()
    counts = table.groupby("aspect")["conflict"].agg(["size", "sum"])
    counts.loc["all"] = counts.sum()
    rows = {}
    for aspect, (n, n_conflict) in counts.iterrows():
        rows[aspect] = {"pairs": n, "conflicting": n_conflict, "conflict": n_conflict / n}
        for level in levels:
            size = capacity(n_conflict, n - n_conflict, level)
            rows[aspect] |= {f"size at {level:g}": size, f"share at {level:g}": size / n}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("aspect")
