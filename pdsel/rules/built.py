"""Rules that build pairs anew from the policy's samples: they return a pairs table, not scores of a given one."""

from operator import itemgetter

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.special import expit

from pdsel.checks import DataError, refuse
from pdsel.notesworld.settings import QUANTILE
from pdsel.pairs import pair_id
from pdsel.rules import Rule, needs
from pdsel.rules.rewards import SPOT
from pdsel.selection import random_scores, select

BUILT_ASPECT = "built"  # these pairs are not labelled on one aspect


def rejection_sampled(pairs, margins, samples, sample_opinions, *, share, seed=0, threshold=0.7, temperature=1.0):
    """RS-DPO (2402.10038): every two samples of one prompt whose rewards differ enough, sigma(dr / temperature) > threshold.

    From a summary. The paper trains on all of them, with a threshold of its choice; for the same budget as the rules on given
    pairs, a random draw of `round(share * n)` of them, or all if there are fewer. Our reading: the reward is the sum of the
    aspects' proxies, each divided by the same quantile of its margins as PD's, but over all given pairs.

    Parameters
    ----------
    pairs : datasets.Dataset
        The given pairs: n, and the prompts.
    margins : pandas.DataFrame, shape (n, kappa)
    samples : pandas.DataFrame
        `prompt, response`, indexed by `prompt_id`.
    sample_opinions : pandas.DataFrame
        A reward per aspect, row for row with `samples`.
    share : float in (0, 1]
    seed : int
        Of the draw.
    threshold, temperature : float
        The paper's eta and tau.

    Returns
    -------
    datasets.Dataset
        `pair_id, prompt_id, prompt, chosen, rejected, aspect`; the aspect is "built".
    """
    reward = (sample_opinions / margins[list(sample_opinions)].abs().quantile(QUANTILE)).sum(axis=1).to_numpy()
    duels = []
    for prompt, places in _places(samples):
        for i in places:
            passing = expit((reward[i] - reward[places]) / temperature) > threshold
            duels += [(prompt, i, j) for j in places[passing]]
    return _budgeted(_table(samples, duels), round(share * len(pairs)), seed)


def sweet_spot_pairs(pairs, samples, sample_rewards, *, share, seed=0, spot=SPOT):
    """*Finding the Sweet Spot* (2502.16825): the best sample of a prompt against the one nearest mu - 2 sigma.

    mu and sigma are those of the prompt's rewards, the chosen one is the best of all, as in the paper (from notes on it). It
    draws hundreds of samples and then takes the worst of five for mu - 2 sigma; with few, as here, the nearest is often the
    worst. A random draw of the prompts meets the budget, which may be more than there are prompts: then all.
    """
    reward, duels = sample_rewards.to_numpy(), []
    for prompt, places in _places(samples):
        own_rewards = reward[places]
        target = own_rewards.mean() + spot * own_rewards.std()
        best, nearest = int(np.argmax(own_rewards)), int(np.argmin(np.abs(own_rewards - target)))
        duels.append((prompt, places[best], places[nearest]))
    return _budgeted(_table(samples, duels), round(share * len(pairs)), seed)


BUILT = {
    "RS-DPO": Rule(rejection_sampled, "built", "2402.10038"),
    "sweet spot(built)": Rule(sweet_spot_pairs, "built", "2502.16825"),
}


def build(name, signals, *, share, seed=0):
    """The pairs that a rule of `BUILT` makes; `signals` is as for `pdsel.rules.score`."""
    if name not in BUILT:
        raise DataError(f"rule={name!r}: use one of {list(BUILT)}")
    wanted = needs(BUILT[name].score)
    refuse([need for need in wanted if need not in signals], f"rule {name!r}: signal", "is absent", "compute it first")
    return BUILT[name].score(*(signals[need] for need in wanted), share=share, seed=seed)


def _places(samples):
    """The prompt ids in order, each with the positions of its samples; repeated and empty texts are left out."""
    first = ~samples.reset_index().duplicated(["prompt_id", "response"]).to_numpy()
    usable = first & (samples["response"].str.strip() != "").to_numpy()
    places = pd.Series(np.flatnonzero(usable), index=samples.index[usable])
    return [(prompt, group.to_numpy()) for prompt, group in places.groupby(level=0)]


def _table(samples, duels):
    """A pairs table from tuples of a prompt's id, the position of chosen and the position of rejected."""
    prompts, responses = samples["prompt"].to_numpy(), samples["response"].to_numpy()
    pairs = [
        {
            "prompt_id": prompt,
            "prompt": prompts[i],
            "chosen": responses[i],
            "rejected": responses[j],
            "aspect": BUILT_ASPECT,
        }
        for prompt, i, j in duels
        if i != j
    ]
    if not pairs:
        raise DataError("samples: no two of a prompt differ enough. Remedy: a lower threshold, or more samples")
    named = []
    for pair in pairs:
        name = pair_id(pair["prompt"], pair["chosen"], pair["rejected"], pair["aspect"])
        named.append({"pair_id": name} | pair)
    return Dataset.from_list(sorted(named, key=itemgetter("pair_id")))


def _budgeted(table, size, seed):
    if len(table) <= size:
        return table
    kept = set(select(random_scores(table, seed=seed), size / len(table)))
    return table.select([row for row, name in enumerate(table["pair_id"]) if name in kept])
