"""What people said of the responses to rated inputs, and how often a reward agrees with them."""

import numpy as np
import pandas as pd
from datasets import Dataset

from pdsel.data.messages import as_answer
from pdsel.data.subsets import random_key
from pdsel.engine.chat import as_messages
from pdsel.pairs import compare_responses, make_pairs, pair_id
from pdsel.ratings import load_ratings
from pdsel.selection import random_scores, select

MEAN = "mean"  # of the aspects
BREAK = "\n\n"  # between a plain prompt and its answer


def halves(ratings):
    """The rated inputs in two halves, the same for every seed: those to train on, and unseen ones.

    Parameters
    ----------
    ratings : datasets.Dataset
        Ratings table.

    Returns
    -------
    (datasets.Dataset, datasets.Dataset)
    """
    ids = ratings["prompt_id"][:]
    order = sorted(range(len(ids)), key=lambda row: random_key("half", ids[row]))
    middle = (len(order) + 1) // 2
    return ratings.select(sorted(order[:middle])), ratings.select(sorted(order[middle:]))


def rated_halves(corpus):
    """The two halves of a corpus, see `halves`."""
    return halves(load_ratings(corpus.ratings, clean=True))


def training_pairs(ratings, *, size, seed, chat=True):
    """Pairs of disjoint parts, one label each, as the trainers read them; natural conflict."""
    pairs = make_pairs(ratings, size=size, seed=seed)
    return as_messages(pairs) if chat else pairs.map(lambda row: {"prompt": row["prompt"] + BREAK})


def read_as(prompts, *, chat=True):
    """Prompts as the model reads them: as chat messages, or as plain text that ends with an empty line.

    >>> read_as(["Why?"]), read_as(["Why?"], chat=False)
    ([[{'role': 'user', 'content': 'Why?'}]], ['Why?\\n\\n'])
    """
    return [[{"role": "user", "content": text}] if chat else text + BREAK for text in prompts]


def answered_as(texts, *, chat=True):
    """Answers in the form that belongs to `read_as`."""
    return [as_answer(text) for text in texts] if chat else list(texts)


def responses(ratings):
    """All rated responses.

    Returns
    -------
    pandas.DataFrame
        Index `prompt_id, model`; columns `prompt, response` and a rating per aspect, and their mean.
    """
    frames = []
    for row in ratings:
        table = pd.DataFrame(row["ratings"]).assign(
            prompt=row["prompt"], response=row["responses"], model=row["models"]
        )
        frames.append(table.assign(prompt_id=row["prompt_id"]))
    table = pd.concat(frames).set_index(["prompt_id", "model"])
    return table.assign(mean=table[list(ratings[0]["ratings"])].mean(axis=1).round(6)).rename(columns={"mean": MEAN})


def people_pairs(ratings):
    """Every two responses to one input, and by how much people prefer the first.

    Returns
    -------
    pandas.DataFrame
        `prompt_id, first, second` (names of systems), a gap per aspect in rating points, and that of their mean.
    """
    compared = compare_responses(ratings)
    aspects = list(compared.columns[4:])
    systems = [row["models"] for row in ratings.select_columns(["models"])]
    ids = ratings["prompt_id"][:]
    places = list(zip(compared["row"], compared["first"], compared["second"], strict=True))
    named = pd.DataFrame(
        {
            "prompt_id": [ids[row] for row, _, _ in places],
            "first": [systems[row][first] for row, first, _ in places],
            "second": [systems[row][second] for row, _, second in places],
        }
    )
    return named.join(compared[aspects]).assign(**{MEAN: compared[aspects].mean(axis=1).round(6)})


def pairs_by_mean(ratings, *, size, seed=0, chat=True):
    """A pairs table whose labels are people's mean ratings: every two responses that these separate, or `size` of them.

    All pairs have one aspect, "mean", so that a single reward is fitted to them.
    """
    people, said = people_pairs(ratings), responses(ratings)
    people = people[people[MEAN] != 0]
    swapped = people[MEAN] < 0
    better = people["first"].where(~swapped, people["second"])
    worse = people["second"].where(~swapped, people["first"])
    rows = []
    for prompt, chosen, rejected in zip(people["prompt_id"], better, worse, strict=True):
        first, second = said.loc[(prompt, chosen)], said.loc[(prompt, rejected)]
        if first["response"] != second["response"]:
            texts = {
                "prompt": first["prompt"],
                "chosen": first["response"],
                "rejected": second["response"],
                "aspect": MEAN,
            }
            rows.append({"pair_id": pair_id(*texts.values()), "prompt_id": prompt} | texts)
    table = pd.DataFrame(rows).drop_duplicates("pair_id").sort_values("pair_id", ignore_index=True)
    if size is not None and size < len(table):
        kept = select(random_scores(table, seed=seed), size / len(table))
        table = table[table["pair_id"].isin(kept)]
    pairs = Dataset.from_pandas(table, preserve_index=False)
    return as_messages(pairs) if chat else pairs.map(lambda row: {"prompt": row["prompt"] + BREAK})


def right(rewards, people, by=MEAN):
    """How often a reward orders people's pairs as their ratings do, for each input.

    Parameters
    ----------
    rewards : pandas.Series
        By `prompt_id, model`.
    people : pandas.DataFrame
        From `people_pairs`.
    by : str
        The aspect, or "mean".

    Returns
    -------
    pandas.Series
        By `prompt_id`, percent; equal rewards count half, pairs that people do not separate are left out.

    Examples
    --------
    >>> people = pd.DataFrame({"prompt_id": ["p", "p"], "first": ["a", "a"], "second": ["b", "c"], "mean": [5.0, -1.0]})
    >>> rewards = pd.Series([2.0, 1.0, 1.0], index=pd.MultiIndex.from_tuples([("p", "a"), ("p", "b"), ("p", "c")]))
    >>> right(rewards, people).to_dict()
    {'p': 50.0}
    """
    people = people[people[by] != 0]
    gap = _rewards_of(rewards, people, "first") - _rewards_of(rewards, people, "second")
    agrees = (1 + np.sign(gap) * np.sign(people[by].to_numpy())) / 2
    return 100 * pd.Series(agrees, index=people["prompt_id"]).groupby(level=0).mean()


def _rewards_of(rewards, people, side):
    places = pd.MultiIndex.from_arrays([people["prompt_id"], people[side]])
    return rewards.reindex(places).to_numpy()
