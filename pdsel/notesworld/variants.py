"""Other worlds with the same prompts and responses: one with two opposed aspects, or one with any number of aspects.

A world is a dict of aspect to `function(prompt, response) -> float in [0, 1]`; the mean of its aspects is its utility.
`write_ratings(..., aspects=world)` has the responses rated by it, and `variant_gaps` tells the truth about its pairs.
"""

from functools import lru_cache, partial
from types import MappingProxyType

import numpy as np
import pandas as pd

from pdsel.checks import DataError
from pdsel.notesworld.world import ASPECTS, gold_aspects, read_prompt, read_response

FEWEST, MOST = 3, 19  # tokens of a response with conciseness 1, and with 0: the 1st and 98th percentile of lengths
SURPLUS_COST = 0.25  # focus lost per attribute told unasked
MIXED = ["covered", "honesty", "truthfulness", "helpfulness", "focused", "polite"]  # what mixture_aspects mixes
LEAD = 0.5  # weight of a mixture's leading feature; without one, all aspects would correlate by .8 and more


# Every aspect of a world asks for the same responses in turn.
@lru_cache(maxsize=4096)
def features(prompt, response):
    """Measures of a response, each in [0, 1]: the gold aspects and five more.

    *covered* is the share of the asked attributes that it speaks of. *focused* is 1, less .25 for every attribute told
    unasked. *polite* is 1 with the filler, else 0. *concise* is 1 at 3 tokens, and 0 at 19 or more. *complete* gives a
    point for every note, asked or not, that is told as it is (an unknown one: hedged) and half a point for a note told
    wrongly, relative to the number of notes.

    Returns
    -------
    mapping
        Feature to float. It is read-only, because it is cached.

    >>> measured = features("notes color red ; size ? ; home cave ; tell home =", "home cave . also color blue .")
    >>> [measured[name] for name in ("covered", "focused", "polite", "concise", "complete")]
    [1.0, 0.75, 0.0, 0.75, 0.5]
    """
    notes, asked = read_prompt(prompt)
    sentences = read_response(response)
    told = {name: value for _, name, value in reversed(sentences) if name in notes}  # the first word on a note counts
    right = [name for name, value in told.items() if notes[name] == value]
    n_surplus = len({name for _, name, _ in sentences if name is not None} - set(asked))
    n_tokens = len(response.split())
    more = {
        "covered": len(told.keys() & set(asked)) / len(asked),
        "focused": max(0.0, 1 - SURPLUS_COST * n_surplus),
        "polite": float(any(kind == "filler" for kind, _, _ in sentences)),
        "concise": min(1.0, max(0.0, (MOST - n_tokens) / (MOST - FEWEST))),
        "complete": (len(told) + len(right)) / 2 / len(notes),
    }
    return MappingProxyType(gold_aspects(prompt, response) | more)


def feature(prompt, response, *, name):
    """One of `features`."""
    return features(prompt, response)[name]


def mixture(prompt, response, *, weights):
    """The weighted sum of `features`; `weights` is a tuple of `(feature, weight)`."""
    measured = features(prompt, response)
    return min(1.0, sum(weight * measured[name] for name, weight in weights))


GOLD = {name: partial(feature, name=name) for name in ASPECTS}  # the standard world
OPPOSED = {name: partial(feature, name=name) for name in ["concise", "complete", "honesty", "truthfulness"]}


def mixture_aspects(kappa, *, seed=0):
    """A world of `kappa` aspects, each a random convex mixture of the features in `MIXED`.

    Half of an aspect's weight is on a leading feature, and the rest is spread over all at random. Every feature leads once
    before any leads again. Aspect i is the same for every kappa: the world of 2 is the beginning of the world of 16.
    For two responses to a prompt, the gaps of two aspects correlate by .47 on average among four aspects (90 % of these
    correlations lie between .19 and .77), and by .58 among sixteen (.24 to .97, because only six features can lead).

    Parameters
    ----------
    kappa : int >= 1
    seed : int

    Returns
    -------
    dict
        "aspect_01", "aspect_02", ... to `function(prompt, response)`.

    Raises
    ------
    ValueError
        For a kappa below 1.

    >>> list(mixture_aspects(2))
    ['aspect_01', 'aspect_02']
    >>> round(mixture_aspects(1)["aspect_01"]("notes color red ; tell color =", "color red . glad to help ."), 6)
    1.0
    """
    if kappa < 1:
        raise DataError(f"kappa={kappa}: a world has at least one aspect, and a divergence needs two")
    return {f"aspect_{i + 1:02d}": partial(mixture, weights=_weights(i, seed)) for i in range(kappa)}


def _weights(number, seed):
    """The weights of one aspect; they depend on its number and the seed only."""
    turn, place = divmod(number, len(MIXED))
    lead = np.random.default_rng([seed, 606, turn]).permutation(len(MIXED))[place]
    weights = (1 - LEAD) * np.random.default_rng([seed, 707, number]).dirichlet(np.ones(len(MIXED)))
    weights[lead] += LEAD
    return tuple(zip(MIXED, map(float, weights), strict=True))


def variant_scores(prompts, responses, aspects):
    """The true scores of each response in a world: a row per prompt, a column per aspect, and their mean, `utility`."""
    scores = [[judge(p, r) for judge in aspects.values()] for p, r in zip(prompts, responses, strict=True)]
    table = pd.DataFrame(scores, columns=list(aspects), dtype=float)
    return table.assign(utility=table.mean(axis=1))


def variant_gaps(pairs, aspects):
    """The true scores of the chosen response minus those of the rejected one, for each pair.

    It is to any world what `pdsel.evaluation.judges.gold_gaps` is to the standard one.

    Parameters
    ----------
    pairs : datasets.Dataset, n pairs
    aspects : dict
        The world.

    Returns
    -------
    pandas.DataFrame, shape (n, kappa + 1)
        Index `pair_id`; a column per aspect, and `utility`, their mean. A label is wrong where `utility` is negative.

    >>> from datasets import Dataset
    >>> pair = {"pair_id": ["z"], "prompt": ["notes color red ; size tiny ; tell color ="], "chosen": ["color red ."],
    ...         "rejected": ["color red . also size tiny ."]}
    >>> variant_gaps(Dataset.from_dict(pair), {name: OPPOSED[name] for name in ("concise", "complete")})
             concise  complete  utility
    pair_id
    z           0.25      -0.5   -0.125
    """
    prompts = list(pairs["prompt"])
    chosen, rejected = (variant_scores(prompts, list(pairs[side]), aspects) for side in ("chosen", "rejected"))
    return (chosen - rejected).round(12).set_index(pd.Index(list(pairs["pair_id"]), name="pair_id"))
