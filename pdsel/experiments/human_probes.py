"""Which labels do probes keep on people's ratings? One aspect labels a pair; its ratings on the others are never read.

A label is *opposed* when the other aspects' ratings, taken together, prefer the rejected response. Probes learn from the labels
alone, so the share of opposed labels among what PD keeps says whether they learned what people meant.
"""

import numpy as np
import pandas as pd

from pdsel.divergence import rating_divergence
from pdsel.engine.chat import as_messages
from pdsel.engine.features import pair_features
from pdsel.experiments.human_ratings import percentiles, prompt_weights, resampled_mean
from pdsel.experiments.probe_study import SETS, cross_validated
from pdsel.experiments.proxy_quality import divergence_of
from pdsel.notesworld.settings import SHARE
from pdsel.pairs import make_pairs
from pdsel.proxies import fit_proxies, score_margins
from pdsel.ratings import load_ratings
from pdsel.selection import random_scores, select

JUDGES = ("others", "overall")  # who may oppose a label
OPPOSED_COLUMNS = ["data", "pairs", "features", "rule", "right", "n"] + [
    f"{judge}{end}" for judge in JUDGES for end in ("", "_low", "_high")
]


def rated_pairs(ratings, *, size=None, seed=0):
    """Make pairs that carry one label each, on one aspect, as chat messages; the pairs table of `pdsel.make_pairs`."""
    return as_messages(make_pairs(ratings, size=size, seed=seed))


def opposed_cell(*, data, path, content, base, size=None, seed=0):
    """One rated file read with one small model: `opposed_table`, for `pdsel.experiments.proxy_studies.run_cells`.

    Parameters
    ----------
    data, content : str
        The file's name in the table, and the digest of its content, which is a part of the cell's key.
    path : str
        Where the file is.
    base : str
        The frozen model.
    size : int, optional
        Pairs; default: all.
    seed : int

    Returns
    -------
    list of dict
        The rows, with the number of `pairs`.
    """
    pairs = rated_pairs(load_ratings(path, clean=True), size=size, seed=seed)
    table = opposed_table(pairs, pair_features(pairs, model=base), seed=seed)
    return table.assign(pairs=len(pairs)).to_dict("records")


def opposed_table(pairs, features, *, sets=SETS, share=SHARE, seed=0):
    """How many opposed labels each rule keeps, for probes of several sets of blocks.

    Parameters
    ----------
    pairs : datasets.Dataset
        From `rated_pairs`; every aspect of every response must be rated.
    features : PairFeatures
        Of these pairs.
    sets : dict of str to sequence of sequence of str
        Sets of blocks that a probe may choose from, by name.
    share : float
        lambda, how many pairs a rule keeps.
    seed : int
        Of the random rule and of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        A row per set and rule (PD and PD(high)), and one for each of ALL, RAND and PD(rati.), the best that perfect proxies
        could do. `right`: how often the probes order unseen prompts' pairs of their own aspect as labelled, in percent. For
        either judge (`others`: the sum of the other aspects; `overall`: people's overall score, NaN if the file has no
        overall score and the mean of the aspects was used) the opposed labels in percent, with a 95 % interval over prompts,
        such as `others, others_low, others_high`. `n`: kept.
    """
    opposed = pd.DataFrame({"others": rating_divergence(pairs) > 0}).astype(float)
    opposed["overall"] = _opposed_by_overall(pairs)
    ids, everything = opposed.index, pd.Series(0.0, index=opposed.index)
    aspect = pd.Series(list(pairs["aspect"]), index=ids)
    kept = {
        ("", "ALL"): (select(everything, 1.0), np.nan),
        ("", "RAND"): (select(random_scores(pairs, seed=seed).loc[ids], share), np.nan),
        ("", "PD(rati.)"): (select(rating_divergence(pairs), share), np.nan),
    }
    options = {"kind": "probe", "model": features.model, "max_length": features.max_length, "features": features}
    for name, candidates in sets.items():
        proxies = fit_proxies(pairs, candidates=candidates, **options)
        scores = divergence_of(score_margins(pairs, proxies, features=features), aspect)
        own = cross_validated(proxies)
        right = 100 * np.average(own["accuracy"], weights=own["n"])
        kept[name, "PD"] = select(scores, share), right
        kept[name, "PD(high)"] = select(scores, share, keep="highest"), right
    prompt = pd.Series(list(pairs["prompt_id"]), index=ids)
    rows = []
    for (name, rule), (names, right) in kept.items():
        row = {"features": name, "rule": rule, "right": right, "n": len(names)}
        for judge in opposed:
            row |= _percent(opposed.loc[names, judge], prompt.loc[names], judge, seed)
        rows.append(row)
    return pd.DataFrame(rows)


def _opposed_by_overall(pairs):
    """Whether people's overall score contradicts the label; NaN if the file has none and the mean of the aspects was used."""
    gaps = pd.DataFrame(list(pairs["rating_gaps"]), dtype=float).mean(axis=1).round(9)
    overall = np.array(pairs["overall_gap"], dtype=float)
    stood_in = np.allclose(overall, gaps, equal_nan=True)
    return np.full(len(overall), np.nan) if stood_in else (overall < 0).astype(float)


def _percent(opposed, prompt, name, seed):
    """The share of opposed labels and its interval by a bootstrap over prompts; the kept set is fixed."""
    place, prompts = pd.factorize(prompt)
    draws = 100 * resampled_mean(opposed.to_numpy(), place, prompt_weights(len(prompts), seed))
    if np.isnan(draws[0]):
        return dict.fromkeys([name, f"{name}_low", f"{name}_high"], np.nan)
    low, high = percentiles(draws[1:])
    return {name: draws[0], f"{name}_low": low, f"{name}_high": high}
