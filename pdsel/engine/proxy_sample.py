"""Which of an aspect's pairs a proxy is trained on: a share, a bootstrap draw, or a draw balanced by length."""

import math

import numpy as np

from pdsel.checks import DataError
from pdsel.engine.scoring import response_lengths


def training_ids(pairs, aspect, *, model, share=1.0, length_balance=None, resample=None, seed=0):
    """The ids of the pairs that one proxy is trained on; the order of the rows does not matter.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    aspect : str or None
        Whose pairs are drawn from; `None` takes all pairs.
    model : str
        The model whose tokenizer counts lengths, for `length_balance`.
    share : float in (0, 1]
        p_r, the share of the part that is used.
    length_balance : float, optional
        tau, see `balance_by_length`.
    resample : int, optional
        The number of a bootstrap draw over prompts, because the pairs of a prompt share responses: as many prompts as the
        part has are drawn with replacement, each with all its pairs.
    seed : int

    Returns
    -------
    list of str
        `pair_id`s; an id is repeated if its pair is drawn more than once.

    Raises
    ------
    ValueError
        For an aspect that labels no pair, or a share outside (0, 1].
    """
    table = pairs.select_columns(["pair_id", "aspect"]).to_pandas()
    part = table if aspect is None else table[table["aspect"] == aspect]
    if part.empty:
        raise DataError(f"aspect={aspect!r} labels no pair; the table has {sorted(table['aspect'].unique())}")
    if not 0 < share <= 1:
        raise DataError(f"share={share} is not in (0, 1]: it is the share of the aspect's pairs to train on")
    rng = np.random.default_rng([seed, 404])
    ids = np.sort(part["pair_id"].to_numpy(dtype=str))
    ids = np.sort(rng.choice(ids, max(1, round(share * len(ids))), replace=False))
    if resample is not None:
        ids = _bootstrap(pairs, ids, np.random.default_rng([seed, 405, resample]))
    if length_balance is None:
        return list(ids)
    longer = _longer(pairs, table["pair_id"].to_numpy(dtype=str), ids, model)
    return list(balance_by_length(ids[longer], ids[~longer], length_balance, rng))


def _bootstrap(pairs, ids, rng):
    """The pairs of prompts drawn with replacement; a pair occurs as often as its prompt is drawn."""
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
        Ids whose chosen response is at least as long as / shorter than the rejected one; f+ and f- are their shares.
    tau : float > 0
        As tau grows to infinity both groups are drawn alike; as it falls to 0 only the majority is drawn. Near balance, .5
        keeps the shares as they are, and a smaller tau lets the majority grow: with f+ = .6, the share of "+" in the draw is
        .69, .60, .55 and .50 at tau .25, .5, 1 and infinity. The paper's tau is 1; below .5 this balances nothing.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        Ids. Within a group, any two ids occur equally often, or one of them once more.

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
