"""Rules on last-layer features: which pairs tell a linear model most, differ most, or pull the wrong way."""

import numpy as np
import pandas as pd

from pdsel.checks import DataError
from pdsel.data.messages import text_of
from pdsel.rules.margins import BETA, implicit
from pdsel.selection import random_scores

RIDGE = 1.0  # the prior information, as a multiple of the mean squared feature
MOST_WORK = 1e12  # n * n * d of a greedy design: a quarter of an hour on one core


def d_optimal(features, probe_logps, reference_logps, *, beta=BETA, ridge=RIDGE):
    """The order in which a greedy D-optimal design takes the pairs, lowest kept (*Active Learning for DPO*, 2503.01076).

    DPO made linear at the last layer is logistic regression on the difference of the two responses' features. Each step
    takes the pair that adds most to log det of the information matrix, sum of mu (1 - mu) beta^2 x x', with mu the
    probability of the label under the probe. From the abstract: DPO linear at the last layer, a D-optimal design. The
    information matrix is that model's; that features are means over the response's tokens is our reading.

    Parameters
    ----------
    features : pandas.DataFrame, shape (n, d)
        Features of chosen minus rejected by `pair_id`.
    probe_logps, reference_logps : pandas.DataFrame, shape (n, 2)
    beta, ridge : float

    Raises
    ------
    ValueError
        For so many pairs that the design, which takes time in proportion to n * n * d, would take hours.

    Examples
    --------
    Two long features are alike and a short one is across them: the second long one adds less than the short one does.

    >>> features = pd.DataFrame([[3.0, 0.0], [3.0, 0.0], [0.0, 2.0]], index=["p", "q", "r"])
    >>> none = pd.DataFrame(0.0, index=features.index, columns=["chosen", "rejected"])
    >>> d_optimal(features, none, none, ridge=0.1).to_dict()
    {'p': 0.0, 'q': 2.0, 'r': 1.0}
    """
    n, d = features.shape
    if n * n * d > MOST_WORK:
        hours, most = n * n * d / MOST_WORK / 4, int((MOST_WORK / d) ** 0.5)
        raise DataError(
            f"features: a D-optimal design of {n} pairs with {d} features each takes about {hours:.1f} hours. Remedy: leave "
            f"this rule out, or score a random sample of at most {most} pairs"
        )
    margin = implicit(probe_logps, reference_logps, beta=beta).loc[features.index].to_numpy()
    informative = beta * np.exp(-0.5 * (np.logaddexp(0, margin) + np.logaddexp(0, -margin)))  # beta sqrt(mu (1 - mu))
    order = greedy_design(informative[:, None] * features.to_numpy(dtype=float), ridge)
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    return pd.Series(ranks, index=features.index, name="d_optimal")


def greedy_design(rows, ridge):
    """The positions of the rows in the order that adds most to log det(ridge I + sum x x'); ties go to the first.

    Parameters
    ----------
    rows : numpy.ndarray, shape (n, d)
    ridge : float
        In units of the mean square of all entries.

    Returns
    -------
    numpy.ndarray of int, shape (n,)
    """
    inverse = np.eye(rows.shape[1]) / (ridge * (np.square(rows).mean() or 1.0))
    gains = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    order, free = [], np.ones(len(rows), dtype=bool)
    for _ in range(len(rows)):
        best = int(np.argmax(np.where(free, gains, -np.inf)))
        order.append(best)
        free[best] = False
        moved = inverse @ rows[best]
        size = 1 + rows[best] @ moved
        inverse -= np.outer(moved, moved) / size  # Sherman-Morrison
        gains -= np.square(rows @ moved) / size
    return np.array(order)


def hidden_similarity(hidden_products):
    """CHES, lowest kept (2410.08847): <H_w, H_l> - |H_w|^2, with H the sum of a response's hidden states in the last layer.

    *Unintentional Unalignment* shows that DPO makes a chosen response less probable, with others like it more probable, where
    this is high: the centred hidden embedding similarity of the two. The states are those from which the response's tokens
    are predicted, as in the authors' `ches.py` (princeton-nlp/unintentional-unalignment), under the model to be aligned.

    Parameters
    ----------
    hidden_products : pandas.DataFrame, shape (n, 2)
        `both`, <H_w, H_l>, and `chosen`, <H_w, H_w>.

    Examples
    --------
    >>> hidden_similarity(pd.DataFrame({"both": [2.0], "chosen": [5.0]}, index=["p"])).tolist()
    [-3.0]
    """
    return hidden_products["both"] - hidden_products["chosen"]


def normalised_similarity(hidden_products, tokens):
    """Length-normalised CHES, lowest kept (2410.08847): <H_w, H_l> / (n_w n_l) - |H_w|^2 / n_w^2, n tokens.

    With this one the authors filter data whose responses differ in length.
    """
    both = hidden_products["both"] / (tokens["chosen"] * tokens["rejected"])
    return both - hidden_products["chosen"] / tokens["chosen"] ** 2


def annotation_efficient(pairs, response_features, *, diversity=1.0, seed=0):
    """AEPO (2405.13541): of every prompt first the two responses that stand for all and differ most; lowest kept.

    *Annotation-Efficient Preference Optimization* chooses which responses to a prompt are given to raters, before there is a
    label. Of a pair it maximises the mean similarity of either response to the others less `diversity` times their
    similarity to each other; with two responses its search is exact (compared with `diverse_mbr.py` of
    CyberAgentAILab/annotation-efficient-po). There similarity is the cosine of sentence embeddings, here of mean states of
    the last layer. A kept pair costs one label, as with every rule: the best pair of each prompt comes first, prompts in
    random order, then the second best.

    Parameters
    ----------
    pairs : datasets.Dataset
    response_features : pandas.DataFrame
        `response` and a column per dimension, indexed by `prompt_id`: every response once.
    diversity : float
        lambda.
    seed : int
        Of the order of the prompts.
    """
    table = pd.DataFrame({"prompt": list(pairs["prompt_id"])}, index=list(pairs["pair_id"]))
    for side in ("chosen", "rejected"):
        table[side] = [text_of(text) for text in pairs[side]]
    values = [
        _representative(group, response_features.loc[[prompt]].set_index("response"), diversity)
        for prompt, group in table.groupby("prompt")
    ]
    rank = pd.concat(values)[table.index].groupby(table["prompt"]).rank(method="first", ascending=False)
    return rank + random_scores({"pair_id": table["prompt"]}, seed=f"AEPO {seed}").to_numpy()


def _representative(pairs, features, diversity):
    """AEPO's objective for every pair of one prompt."""
    vectors = features.to_numpy(dtype=float)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    alike = units @ units.T
    np.fill_diagonal(alike, 0.0)
    to_others = alike.sum(axis=1) / max(len(features) - 1, 1)
    i, j = (features.index.get_indexer(pairs[side]) for side in ("chosen", "rejected"))
    return pd.Series((to_others[i] + to_others[j]) / 2 - diversity * alike[i, j], index=pairs.index)
