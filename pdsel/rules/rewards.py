"""Rules on the rewards of single responses, and on samples of the policy beside them."""

import numpy as np
import pandas as pd

SPOT = -2.0  # where the rejected response should lie, in standard deviations from its prompt's mean


def chosen_quality(pooled_rewards):
    """The reward of the chosen response, highest kept (*What Matters in Data for DPO*, 2508.18312).

    From the abstract: what is chosen matters most, what is rejected little. The score is our reading. A Bradley-Terry reward
    is known only up to a constant per prompt; as is usual, it is compared across prompts all the same.

    >>> chosen_quality(pd.DataFrame({"chosen": [2.0], "rejected": [5.0]}, index=["p"])).tolist()
    [2.0]
    """
    return pooled_rewards["chosen"]


def sweet_spot(pairs, pooled_rewards, sample_rewards, *, spot=SPOT):
    """How far the rejected response is from mu - 2 sigma, lowest kept (*Finding the Sweet Spot*, 2502.16825).

    mu and sigma are those of the rewards of the policy's samples for the prompt. The paper builds its pairs so (from notes on
    it; see `pdsel.rules.built.sweet_spot_pairs`); our reading for given pairs scores |(r_l - mu) / sigma + 2|.

    Parameters
    ----------
    pairs : datasets.Dataset
    pooled_rewards : pandas.DataFrame, shape (n, 2)
    sample_rewards : pandas.Series
        Rewards of samples by `prompt_id`, which repeats.

    Examples
    --------
    >>> rewards = pd.DataFrame({"chosen": [1.0, 1.0], "rejected": [-3.0, 0.0]}, index=["p", "q"])
    >>> samples = pd.Series([-1.0, 3.0, -1.0, 3.0], index=["x"] * 4)  # mean 1, standard deviation 2
    >>> sweet_spot({"pair_id": ["p", "q"], "prompt_id": ["x", "x"]}, rewards, samples).tolist()
    [0.0, 1.5]
    """
    prompts = pd.Series(list(pairs["prompt_id"]), index=list(pairs["pair_id"]))
    by_prompt = sample_rewards.groupby(level=0)
    mean, spread = by_prompt.mean(), by_prompt.std(ddof=0)
    typical = float(np.sqrt(np.square(spread).mean())) or 1.0  # for prompts whose samples are all alike
    spread = spread.where(spread > 0, typical)
    return ((pooled_rewards["rejected"] - prompts.map(mean)) / prompts.map(spread) - spot).abs()


def diversity_or_quality(pairs, features, pooled_rewards, sample_rewards):
    """Diversity before the boundary between two stages, quality after it; highest kept (2508.10530).

    The paper (*Diversity First, Quality Later*, renamed *Is On-Policy Data always the Best Choice for DPO-based LM
    Alignment?*; from notes on it): alignment first injects preferences, which diverse data serve, then refines them, which
    data of high quality serve. Its diverse data are the given ones, its good ones the policy's samples. Between given pairs,
    our reading: diversity is the distance between the two responses' features, quality the reward of the chosen one, the
    boundary `past_boundary`.
    """
    if past_boundary(pairs, pooled_rewards, sample_rewards):
        return pooled_rewards["chosen"]
    return pd.Series(np.linalg.norm(features.to_numpy(dtype=float), axis=1), index=features.index)


def past_boundary(pairs, pooled_rewards, sample_rewards):
    """Whether the policy's samples are on average at least as good as the given responses to the same prompts.

    If they are, the given data can teach no new kind of response, only which to prefer. The paper lets a preference model
    vote on every sample against every given response; the boundary is where either side has half of the votes. Ours compares
    mean rewards.

    >>> pairs = {"pair_id": ["p"], "prompt_id": ["x"]}
    >>> given = pd.DataFrame({"chosen": [1.0], "rejected": [0.0]}, index=["p"])
    >>> past_boundary(pairs, given, pd.Series([0.4, 0.4], index=["x", "x"]))
    False
    """
    prompts = pd.Series(list(pairs["prompt_id"]), index=list(pairs["pair_id"]))
    given = pooled_rewards.mean(axis=1).groupby(prompts).mean()
    samples = sample_rewards.groupby(level=0).mean().loc[given.index]
    return bool((samples - given).mean() >= 0)
