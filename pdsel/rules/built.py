"""Rules that build pairs anew from the policy's samples: they return a pairs table, not scores of a given one."""

import hashlib
from operator import itemgetter

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.special import expit

from pdsel.checks import DataError, refuse
from pdsel.notesworld.settings import QUANTILE
from pdsel.pairs import pair_id
from pdsel.rules import Rule, needs
from pdsel.rules.rewards import past_boundary
from pdsel.selection import random_scores, select

BUILT_ASPECT = "built"  # these pairs are not labelled on one aspect
DRAWN = 5  # samples of which the worst is rejected (2502.16825)
ACCEPTED = 4  # samples of a prompt, of the eight there are, that are paired (2309.06657 takes 8 of 64)


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


def sweet_spot_pairs(pairs, samples, sample_rewards, *, share, seed=0, drawn=DRAWN):
    """*Finding the Sweet Spot* (2502.16825): the best sample of a prompt against the worst of five random ones.

    The paper finds a rejected response at mu - 2 sigma best, and its recipe (from notes on it) takes the worst of five random
    samples for that, however many there are to find the best among. A random draw of the prompts meets the budget, which may
    be more than there are prompts: then all.
    """
    reward, duels = sample_rewards.to_numpy(), []
    for prompt, places in _places(samples):
        few = _generator(prompt, seed).permutation(places)[:drawn]
        duels.append((prompt, places[np.argmax(reward[places])], few[np.argmin(reward[few])]))
    return _budgeted(_table(samples, duels), round(share * len(pairs)), seed)


def statistically_rejected(pairs, samples, sample_rewards, *, share, seed=0, accepted=ACCEPTED, beta=0.5):
    """RSO (2309.06657): pairs of samples that statistical rejection sampling accepts, labelled by the reward.

    A sample is accepted with probability exp((r - r_max) / beta), r_max the largest reward of those not accepted yet, and
    all are gone through again until there are enough: samples of the policy that is best for the reward, as far as the
    candidates reach. They are paired at random, each with one other ("first-round-rank"), and trained on with DPO's loss
    ("sigmoid-norm"). Compared with Algorithm 1 of the paper, which accepts 8 of 64 candidates at beta .5; of the eight here
    four. A random draw of the pairs meets the budget.
    """
    reward, duels = sample_rewards.to_numpy(), []
    for prompt, places in _places(samples):
        rng = _generator(prompt, seed)
        taken = rng.permutation(_accepted(places, reward, min(accepted, len(places)), beta, rng))
        for i, j in zip(taken[::2], taken[1::2], strict=False):
            duels.append((prompt, i, j) if reward[i] >= reward[j] else (prompt, j, i))
    return _budgeted(_table(samples, duels), round(share * len(pairs)), seed)


def _accepted(places, reward, size, beta, rng):
    """The first `size` positions that rejection sampling accepts."""
    taken, left = [], list(places)
    while len(taken) < size:
        chances = np.exp((reward[left] - reward[left].max()) / beta)
        passed = [
            place for place, chance, draw in zip(left, chances, rng.random(len(left)), strict=True) if draw < chance
        ]
        taken += passed
        left = [place for place in left if place not in passed]
    return np.array(taken[:size], dtype=int)


def given_or_sampled(pairs, pooled_rewards, samples, sample_rewards, *, share, seed=0):
    """*Is On-Policy Data always the Best Choice* (2508.10530, once *Diversity First, Quality Later*): one or the other data.

    The paper (from notes on it) sees two stages: alignment first injects preferences, which diverse data serve, the given
    ones, and then refines them, which data of high quality serve, pairs of the policy's own samples. `past_boundary` says
    which stage the policy is in. On-policy pairs are here the best against the worst sample of a prompt, and a random draw
    meets the budget on either side, our readings.
    """
    size = round(share * len(pairs))
    if not past_boundary(pairs, pooled_rewards, sample_rewards):
        return _budgeted(pairs, size, f"given {seed}")  # not the draw of RAND
    reward, duels = sample_rewards.to_numpy(), []
    for prompt, places in _places(samples):
        duels.append((prompt, places[np.argmax(reward[places])], places[np.argmin(reward[places])]))
    return _budgeted(_table(samples, duels), size, seed)


BUILT = {
    "RS-DPO": Rule(rejection_sampled, "built", "2402.10038"),
    "RSO": Rule(statistically_rejected, "built", "2309.06657"),
    "sweet spot(built)": Rule(sweet_spot_pairs, "built", "2502.16825"),
    "diversity, quality": Rule(given_or_sampled, "built", "2508.10530"),
}


def build(name, signals, *, share, seed=0):
    """The pairs that a rule of `BUILT` makes; `signals` is as for `pdsel.rules.score`."""
    if name not in BUILT:
        raise DataError(f"rule={name!r}: use one of {list(BUILT)}")
    wanted = needs(BUILT[name].score)
    refuse([need for need in wanted if need not in signals], f"rule {name!r}: signal", "is absent", "compute it first")
    return BUILT[name].score(*(signals[need] for need in wanted), share=share, seed=seed)


def _generator(prompt, seed):
    """Random numbers of a prompt's own, whatever the order of the prompts."""
    digest = hashlib.sha256(f"built {seed}:{prompt}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))


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
