"""The labels that rules keep, against people: every rule that trains no policy, on the pairs that methods are trained on.

A label is one aspect's. Two opinions judge it that its rule need not have read: the mean of the other aspects' ratings, and
an aspect that is held out of everything (its pairs, its proxy and its place in PD), each aspect in turn.
"""

from itertools import product

import numpy as np
import pandas as pd

from pdsel.data.gaps import rating_gaps
from pdsel.engine.scoring import response_logps
from pdsel.experiments.human_ratings import percentiles, prompt_weights, resampled_mean
from pdsel.experiments.pocket.cells import features_of, key, margins, pairs_of, sft_model
from pdsel.experiments.pocket.settings import SHARES
from pdsel.proxies import fit_proxy, score_margins
from pdsel.rules import RULES, available, score_all
from pdsel.rules.signals import SIGNALS
from pdsel.selection import POOLED, select

READ = ("words", "tokens", "response_features", "hidden_products")  # signals that take one pass of the model at most
NOBODY = ""  # held out
OTHERS, HELD_OUT = "mean of others", "held-out aspect"  # who judges
NO_PROMPT = [{"role": "user", "content": ""}]


def rule_scores(lab, setting, seed):
    """A score per pair and rule, the lowest kept first.

    Returns
    -------
    pandas.DataFrame
        A row per `held_out` aspect ("" for none) and `pair_id`, a column per rule; pairs labelled on the held-out aspect have
        no row.
    """
    return lab.store.computed("rule scores", key(setting, seed), lambda: _rule_scores(lab, setting, seed))


def _rule_scores(lab, setting, seed):
    pairs, start = pairs_of(lab, setting, seed), sft_model(lab, setting)
    features = features_of(lab, setting, seed, pairs)
    signals = reading_signals(pairs, start, features) | {"margins": margins(lab, setting, seed)}
    frames = []
    for held_out in [NOBODY, *sorted(set(pairs["aspect"]))]:
        rows = np.flatnonzero(np.array(pairs["aspect"][:]) != held_out)
        part = pairs.select(rows)
        pooled = fit_proxy(part, None, kind="probe", model=start, features=features, max_length=setting.max_length)
        own = {"pairs": part, "pooled": score_margins(part, [pooled], features=features)[POOLED]}
        own["margins"] = signals["margins"].drop(columns=[POOLED, held_out], errors="ignore")
        frames.append(scores_of(signals | own, seed=seed).assign(held_out=held_out).reset_index())
    return pd.concat(frames, ignore_index=True)


def reading_signals(pairs, model, features):
    """What rules read of the pairs with one model that is not trained, by the signal's name (see `pdsel.rules.signals`)."""
    given = {"pairs": pairs, "base": model}
    signals = {}
    for name in READ:
        compute = SIGNALS[name].compute
        signals[name] = compute(**{need: given[need] for need in given if need in _parameters(compute)})
    signals["reference_logps"] = features.logps
    signals["unprompted_nll"] = -logps_without_prompt(pairs, model) / signals["tokens"]
    return signals


def _parameters(function):
    return function.__code__.co_varnames[: function.__code__.co_argcount]


def logps_without_prompt(pairs, model):
    """The log-probability of either side after an empty prompt, nats."""
    texts = [*pairs["chosen"], *pairs["rejected"]]
    prompts = ["" if isinstance(text, str) else NO_PROMPT for text in texts]
    logps = response_logps(model, prompts, texts)
    index = pd.Index(pairs["pair_id"][:], name="pair_id")
    return pd.DataFrame({"chosen": logps[: len(pairs)], "rejected": logps[len(pairs) :]}, index=index)


def scores_of(signals, *, seed=0):
    """The scores of every rule for which the signals suffice, the lowest kept first; by `pair_id`.

    >>> from datasets import Dataset
    >>> signals = {"pairs": Dataset.from_dict({"pair_id": ["p", "q"], "prompt_id": ["x", "y"]}),
    ...            "pooled": pd.Series({"p": 1.0, "q": 2.0})}
    >>> scores_of(signals)["RAF"].to_dict()
    {'p': -1.0, 'q': -2.0}
    """
    scores = score_all(signals, _scorable(signals), seed=seed)
    return scores * {name: 1.0 if RULES[name].keeps == "lowest" else -1.0 for name in scores}


def _scorable(signals):
    """The rules for which there are signals; those that read ratings only where the pairs have them."""
    rated = "rating_gaps" in signals["pairs"].column_names
    return [name for name in available(signals) if rated or not RULES[name].needs_ratings]


def opinions(pairs):
    """Who says what of every label: by `pair_id`, 1 where the judge agrees with it, 0 where not, .5 where it does not care.

    Returns
    -------
    pandas.DataFrame
        A column for the mean of the other aspects, and one per aspect; an aspect's own labels are NaN in its column.

    >>> from datasets import Dataset
    >>> pairs = Dataset.from_dict({"pair_id": ["p"], "aspect": ["a"], "rating_gaps": [{"a": 1.0, "b": -3.0, "c": 1.0}]})
    >>> opinions(pairs).iloc[0].to_dict()
    {'mean of others': 0.0, 'a': nan, 'b': 0.0, 'c': 1.0}
    """
    gaps = rating_gaps(pairs)
    own = np.array(pairs["aspect"][:])[:, None] == np.array(gaps.columns)
    others = gaps.mask(own)
    said = pd.concat([others.mean(axis=1).round(6).rename(OTHERS), others], axis=1)
    return (1 + np.sign(said)) / 2


def kept_table(worlds, *, shares=SHARES, seed=0):
    """How many of the labels that each rule keeps people confirm.

    Parameters
    ----------
    worlds : list of (pandas.DataFrame, datasets.Dataset)
        For each seed, the scores from `rule_scores` and the pairs, which have ratings.
    shares : sequence of float
    seed : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        A row per `rule, share, judge` (the mean of the others, or a held-out aspect, averaged over all of them and over the
        seeds): `value, low, high` in percent, `gain, gain_low, gain_high` over all labels in points, `n` kept labels of a
        seed. 95 % percentile bootstrap over inputs, each with all its pairs; kept sets are fixed, and gains are paired.
    """
    prompts = pd.Index(sorted({name for _, pairs in worlds for name in pairs["prompt_id"]}))
    weights = prompt_weights(len(prompts), seed)
    draws, sizes = {}, {}
    for number, (scores, pairs) in enumerate(worlds):
        said = opinions(pairs)
        where = pd.Series(prompts.get_indexer(pairs["prompt_id"][:]), index=pairs["pair_id"][:])
        for held_out, part in scores.fillna({"held_out": NOBODY}).groupby("held_out"):
            table = part.drop(columns="held_out").set_index("pair_id").assign(ALL=0.0)
            name, judge = (HELD_OUT, said[held_out]) if held_out else (OTHERS, said[OTHERS])
            for rule, share in product(table, shares):
                kept = select(table[rule], 1.0 if rule == "ALL" else share)
                key = rule, share, name, held_out, number
                draws[key] = 100 * resampled_mean(judge.loc[kept].to_numpy(), where.loc[kept].to_numpy(), weights)
                sizes[key] = len(kept)
    return _summary(_means(draws), _means(sizes)[0])


def _means(rows):
    """The mean over held-out aspects and seeds, by `rule, share, judge`."""
    index = pd.MultiIndex.from_tuples(rows, names=["rule", "share", "judge", "held_out", "seed"])
    return pd.DataFrame(list(rows.values()), index=index).groupby(level=[0, 1, 2], sort=False).mean()


def _summary(drawn, sizes):
    """Values, intervals and gains over ALL, from the drawn agreements."""
    gains = drawn - drawn.xs("ALL", level="rule").reindex(drawn.index.droplevel("rule")).to_numpy()
    (low, high), (gain_low, gain_high) = (percentiles(table.iloc[:, 1:], axis=1) for table in (drawn, gains))
    columns = {
        "value": drawn[0],
        "low": low,
        "high": high,
        "gain": gains[0],
        "gain_low": gain_low,
        "gain_high": gain_high,
    }
    return pd.DataFrame(columns, index=drawn.index).assign(n=sizes.round().astype(int)).reset_index()
