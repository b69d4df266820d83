"""Draws the pairs that a proxy is trained on: a share of its aspect's, a bootstrap draw, or a draw balanced by length."""

import math
from dataclasses import dataclass

import numpy as np

from pdsel.checks import DataError
from pdsel.engine.scoring import response_lengths


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How pairs are drawn from a part.

    Parameters
    ----------
    share : float in (0, 1]
        p_r, the share of the part that is used.
    length_balance : float, optional
        tau, see `balance_by_length`.
    resample : int, optional
        The number of a bootstrap draw. Prompts are drawn, since the pairs of a prompt share responses: as many as the part has,
        with replacement, each with all its pairs.
    seed : int
    """

    share: float = 1.0
    length_balance: float | None = None
    resample: int | None = None
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise DataError(f"share={self.share} is not in (0, 1]: it is the share of the aspect's pairs to train on")


def training_ids(pairs, aspect, *, model, **draw):
    """The ids of the pairs that one proxy is trained on; the order of the rows does not matter.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    aspect : str or None
        The part to draw from; `None` for all pairs.
    model : str
        The model whose tokenizer counts lengths, for `length_balance`.
    **draw
        See `Draw`.

    Returns
    -------
    list of str
        The `pair_id` of each pair, repeated if the pair is drawn more than once.

    Raises
    ------
    ValueError
        For an aspect that labels no pair, or a share outside (0, 1].
    """
    draw = Draw(**draw)
    table = pairs.select_columns(["pair_id", "aspect"]).to_pandas()
    part = table if aspect is None else table[table["aspect"] == aspect]
    if part.empty:
        raise DataError(f"aspect={aspect!r} labels no pair; the table has {sorted(table['aspect'].unique())}")
    rng = np.random.default_rng([draw.seed, 404])
    ids = np.sort(part["pair_id"].to_numpy(dtype=str))
    ids = np.sort(rng.choice(ids, max(1, round(draw.share * len(ids))), replace=False))
    if draw.resample is not None:
        ids = _bootstrap(pairs, ids, np.random.default_rng([draw.seed, 405, draw.resample]))
    if draw.length_balance is None:
        return list(ids)
    longer = _longer(pairs, table["pair_id"].to_numpy(dtype=str), ids, model)
    return list(balance_by_length(ids[longer], ids[~longer], draw.length_balance, rng))


def _bootstrap(pairs, ids, rng):
    """The pairs of prompts that are drawn with replacement; a pair is repeated as often as its prompt."""
    table = pairs.select_columns(["pair_id", "prompt_id"]).to_pandas()
    of_prompt = table[table["pair_id"].isin(ids)].groupby("prompt_id")["pair_id"].agg(list)
    drawn = rng.choice(len(of_prompt), len(of_prompt))
    return np.sort(np.concatenate([of_prompt.iloc[i] for i in drawn]).astype(str))


def _longer(pairs, names, ids, model):
    """Whether the chosen response is at least as long as the rejected one, for each of `ids`."""
    wanted = np.unique(ids)
    rows = pairs.select(np.flatnonzero(np.isin(names, wanted)))
    longer = response_lengths(model, rows["chosen"]) >= response_lengths(model, rows["rejected"])
    known = dict(zip(rows["pair_id"], longer, strict=True))
    return np.array([known[name] for name in ids])


def balance_by_length(plus, minus, tau, rng):
    """Draw as many ids as given, from `plus` with probability exp(f+/tau) / (exp(f+/tau) + exp(f-/tau)).

    Parameters
    ----------
    plus, minus : array of str
        Ids of pairs whose chosen response is at least as long as the rejected one, and of the others; f+ and f- are their
        shares.
    tau : float > 0
        As tau grows to infinity, both groups are drawn equally often; as it falls to 0, only the majority is drawn. Near
        balance, .5 keeps the shares, and a smaller tau makes the majority larger: with f+ = .6, the share of "+" in the draw
        is .69, .60, .55 and .50 at tau .25, .5, 1 and infinity. The paper's tau is 1; below .5 this balances nothing.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        Ids. Within a group, the numbers of times that two ids occur differ by at most one.

    >>> balanced = balance_by_length(np.array(["a", "b", "c"]), np.array(["d"]), float("inf"), np.random.default_rng(0))
    >>> sorted(map(str, balanced))[-2:]
    ['d', 'd']
    """
    n = len(plus) + len(minus)
    if tau <= 0:
        raise DataError(f"length_balance={tau}: the temperature tau is positive; None turns balancing off")
    if len(plus) == 0 or len(minus) == 0:
        return np.concatenate([plus, minus])
    p_plus = 1 / (1 + np.exp((len(minus) - len(plus)) / n / tau))
    n_plus = round(n * p_plus)
    drawn = [_cycle(group, size, rng) for group, size in [(plus, n_plus), (minus, n - n_plus)]]
    return np.concatenate(drawn)


def _cycle(ids, size, rng):
    """`size` ids; every id is used before any is used again."""
    rounds = max(1, math.ceil(size / len(ids)))
    return np.concatenate([rng.permutation(ids) for _ in range(rounds)])[:size]
