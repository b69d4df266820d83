"""Other worlds with the same prompts and responses: one with two opposed aspects, or one with any number of aspects.

A world is a dict of aspect to `function(prompt, response) -> float in [0, 1]`; the mean of its aspects is its utility.
`write_ratings(..., aspects=world)` has the responses rated by it, and `variant_gaps` tells the truth about its pairs.
"""

from functools import lru_cache, partial
from types import MappingProxyType

import numpy as np
import pandas as pd

from pdsel.checks import DataError
from pdsel.notesworld.world import ASPECTS, CLAIMS, FILLER, gold_aspects, read_prompt, told

# What mixture_aspects mixes.
MIXED = ["instruction_following", "honesty", "truthfulness", "helpfulness", "varied", "polite"]
LEAD = 0.5  # weight of a mixture's leading feature; without one, all aspects would correlate by .8 and more


# Every aspect of a world asks for the same responses in turn.
@lru_cache(maxsize=4096)
def features(prompt, response):
    """Measures of a response, each in [0, 1]: the gold aspects and four more.

    *bold* is what the words claim on average, and *cautious* the opposite; a note that is missing or altered earns nothing on
    either. *varied* is the share of different words among those told. *polite* is 1 with the filler, else 0.

    Returns
    -------
    mapping
        Feature to float. It is read-only, because it is cached.

    >>> prompt = "notes home lake ; food fruit ; mood angry ; tell boldly home and food ="
    >>> measured = features(prompt, "home lake surely . food moss surely .")
    >>> [round(measured[name], 2) for name in ("bold", "cautious", "varied", "polite")]
    [0.45, 0.05, 1.0, 0.0]
    """
    words = told(read_prompt(prompt), response)
    claims = [CLAIMS[word] for word in words if word is not None]
    more = {
        "bold": sum(claims) / len(words),
        "cautious": sum(1 - claim for claim in claims) / len(words),
        "varied": len(set(words) - {None}) / len(claims) if claims else 0.0,
        "polite": float(FILLER in response),
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
OPPOSED = {name: partial(feature, name=name) for name in ["bold", "cautious", "honesty", "truthfulness"]}


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
    >>> prompt = "notes home lake ; food fruit ; mood angry ; tell boldly home and food ="
    >>> 0 < mixture_aspects(1)["aspect_01"](prompt, "home lake likely . food fruit maybe .") < 1
    True
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
    >>> pair = {"pair_id": ["z"], "prompt": ["notes home lake ; food fruit ; mood angry ; tell boldly home and food ="],
    ...         "chosen": ["home lake surely . food fruit surely ."], "rejected": ["home lake surely . food fruit doubtful ."]}
    >>> variant_gaps(Dataset.from_dict(pair), {name: OPPOSED[name] for name in ("bold", "cautious")})
             bold  cautious  utility
    pair_id
    z         0.4      -0.4      0.0
    """
    prompts = list(pairs["prompt"])
    chosen, rejected = (variant_scores(prompts, list(pairs[side]), aspects) for side in ("chosen", "rejected"))
    return (chosen - rejected).round(12).set_index(pd.Index(list(pairs["pair_id"]), name="pair_id"))
