"""What the first edition of the notes world measured: its committed outcomes, taken apart by aspect.

In that world a prompt asked for one to three facts, some unknown, and an answer that told more than was asked, or was polite,
lost on instruction following. Its outcomes are kept in `results/first`; the world itself is gone.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from pdsel.artifacts import load_table
from pdsel.evaluation import means
from pdsel.notesworld import ASPECTS
from pdsel.notesworld.people import NOISE


def load_first(folder):
    """The outcomes of every method and of SFT, prompt by prompt, at 30 % conflict.

    Returns
    -------
    pandas.DataFrame
        `method, seed, wrong_labels, prompt_id`, the gold aspects, `characters`.
    """
    table = load_table(Path(folder, "methods.parquet"))
    return table.assign(method=table["method"].astype(str), prompt_id=table["prompt_id"].astype(str))


def gain_by_aspect(outcomes, method, other):
    """How much each aspect adds to the difference in utility between two methods; the sum is the difference.

    >>> table = pd.DataFrame({"method": ["A", "B"], **{name: [1.0, 1.0] for name in ASPECTS}})
    >>> table.loc[0, "honesty"] = 0.6
    >>> gain_by_aspect(table, "B", "A").round(2).to_dict()["honesty"]
    0.1
    """
    scores = outcomes.groupby("method")[ASPECTS].mean()
    return (scores.loc[method] - scores.loc[other]) / len(ASPECTS)


def judged_by(outcomes, aspects):
    """Every policy's win rate against SFT on every prompt, in percent, by a gold judge who looks at these aspects only.

    Returns
    -------
    pandas.DataFrame
        `method, seed, prompt_id, win_rate`.
    """
    sft = outcomes[outcomes["method"] == "SFT"].set_index("prompt_id")[aspects].mean(axis=1)
    policies = outcomes[outcomes["method"] != "SFT"]
    gap = policies[aspects].mean(axis=1) - policies["prompt_id"].map(sft)
    judged = policies[["method", "seed", "prompt_id"]]
    return judged.assign(win_rate=100 * norm.cdf(gap / (np.sqrt(2) * NOISE)))


def with_and_without(outcomes, aspect):
    """Win rates by all aspects, and by all but one, with 95 % intervals over seeds and prompts.

    Returns
    -------
    pandas.DataFrame
        `condition, method, value, low, high, seeds`.
    """
    others = [name for name in ASPECTS if name != aspect]
    conditions = {"all aspects": ASPECTS, f"without {aspect}": others}
    tables = [judged_by(outcomes, names).assign(condition=condition) for condition, names in conditions.items()]
    return means(pd.concat(tables, ignore_index=True), ["condition", "method"])
