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
from pdsel.experiments.claims import claim_rows
from pdsel.experiments.verdicts import NOT_RUN
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


WHY = {  # what was changed between the editions that bears on a claim, for those that are judged differently
    "PD beats filtering by one pooled reward": (
        "Every seed has prompts of its own now, and every prompt several answers, so the interval is narrower and a small "
        "difference is seen."
    ),
    "PD beats relabelling everything, by 10 % of what that gains over a draw": (
        "OVA and AVG used to follow the raters' taste for length away from the short answers that won; now length is neutral "
        "to the truth, and their labels are wrong less often than those of ALL."
    ),
    "There is a best share between little and all": (
        "On this world one pass over the smallest share takes too few steps to learn from: with as many steps as ALL takes, "
        "the smallest share loses far less (see the study of shares)."
    ),
}


def changed_verdicts(before, now):
    """The claims whose verdict is another one than in the first edition, with the estimates of both, and why.

    Parameters
    ----------
    before, now : pandas.DataFrame
        See `pdsel.experiments.claims.evaluate_claims`.

    Returns
    -------
    pandas.DataFrame
        `claim, conflict, first edition, second edition, why`; claims that were not run in one of the two are left out.

    Examples
    --------
    >>> part = {"claim": "PD beats a random share of the same size", "conflict": "30 %", "part": "PD - RAND", "low": 1.0,
    ...         "high": 3.0, "test": "above", "trained": "", "seeds": 5, "part_verdict": "holds", "verdict": "holds"}
    >>> before, now = pd.DataFrame([part | {"value": 2.0}]), pd.DataFrame([part | {"value": 2.5, "verdict": "inconclusive"}])
    >>> changed_verdicts(before, now)["second edition"].item()
    'inconclusive: PD - RAND: +2.5 [+1.0, +3.0]'
    >>> changed_verdicts(before, before).empty
    True
    """
    key = ["claim", "conflict"]
    both = claim_rows(before).merge(claim_rows(now), on=key, suffixes=(" before", " now"))
    ran = (both[["verdict before", "verdict now"]] != NOT_RUN).all(axis=1)
    both = both[ran & (both["verdict before"] != both["verdict now"])]
    both["first edition"] = both["verdict before"] + ": " + both["estimate before"]
    both["second edition"] = both["verdict now"] + ": " + both["estimate now"]
    both["why"] = [WHY.get(claim, "") for claim in both["claim"]]
    return both[[*key, "first edition", "second edition", "why"]].reset_index(drop=True)
