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


def data_map(pooled_rewards):
    """*Alignment Data Map* (2505.23114): high quality, low variability; lowest kept.

    The paper (from notes on it) maps a prompt by the mean of its responses' rewards, quality, and their variance,
    variability, and trains on the third of high mean and low variance: good answers that are hard to tell apart. Of two
    responses quality is (r_w + r_l) / 2 and variability ((r_w - r_l) / 2)^2. Pairs of at least median quality come first, by
    variability, and then the others, by quality; the median as the edge of the region is our reading.

    >>> rewards = pd.DataFrame({"chosen": [5.0, 4.0, 0.0], "rejected": [1.0, 4.0, 1.0]}, index=["p", "q", "r"])
    >>> data_map(rewards).sort_values().index.tolist()  # quality 3, 4, .5; variability 4, 0, .25
    ['q', 'p', 'r']
    """
    quality = pooled_rewards.mean(axis=1)
    variability = ((pooled_rewards["chosen"] - pooled_rewards["rejected"]) / 2) ** 2
    last = variability.max() + (quality.max() - quality)
    return variability.where(quality >= quality.median(), last)


def past_boundary(pairs, pooled_rewards, sample_rewards):
    """Whether the policy's samples win at least half of their duels with the given responses to the same prompts (2508.10530).

    If they do, the given data can teach no new kind of response, only which to prefer. A duel is one sample against one side
    of a given pair; in the paper (from notes on it) a preference model votes, on 2 000 prompts, here the reward on all.

    >>> pairs = {"pair_id": ["p"], "prompt_id": ["x"]}
    >>> given = pd.DataFrame({"chosen": [1.0], "rejected": [0.0]}, index=["p"])
    >>> past_boundary(pairs, given, pd.Series([0.4, -0.4], index=["x", "x"]))  # of four duels .4 against 0 is won
    False
    """
    prompts = pd.Series(list(pairs["prompt_id"]), index=list(pairs["pair_id"]))
    sides = pd.concat([pooled_rewards["chosen"], pooled_rewards["rejected"]])
    given = sides.groupby(sides.index.map(prompts)).agg(list)
    duels = [
        np.sign(np.subtract.outer(ours.to_numpy(), np.array(given[prompt]))).ravel()
        for prompt, ours in sample_rewards.groupby(level=0)
    ]
    return bool(np.concatenate(duels).mean() >= 0)  # won minus lost
