"""Rules that need nothing but ratings, on data that people rated: the ratings stand in for the proxies' margins."""

from datasets import Dataset

from pdsel.rules import RULES, available, score_all

NAMES = {"PD": "PD(rati.)", "RAF": "mean gap"}  # what a rule on margins is called when these are ratings


def rating_signals(gaps, label, *, judge="overall_gap"):
    """`pairs`, `margins` and `pooled` of one aspect's labels, from ratings alone; the judge's are left out.

    The margins are the rating gaps. The one reward on everything is the mean of all gaps, the label's own among them, each
    divided by its largest.

    Parameters
    ----------
    gaps : pandas.DataFrame
        From `pdsel.experiments.human_ratings.label_on`.
    label, judge : str
        The aspect that labels, and the column that will judge.

    Returns
    -------
    dict
    """
    margins = gaps.drop(columns=["prompt_id", "overall_gap", judge], errors="ignore")
    largest = margins.abs().max()
    pooled = (margins / largest.where(largest > 0, 1.0)).mean(axis=1)
    pairs = Dataset.from_dict({"pair_id": list(gaps.index), "aspect": [label] * len(gaps)})
    return {"pairs": pairs, "margins": margins, "pooled": pooled}


def field_scores(gaps, label, *, judge="overall_gap", seed=0):
    """A score per pair and rule, the lowest kept first, for `human_ratings.agreement_table`: every rule that ratings suffice for.

    Beside those of `RULES`: GAP, the label's own gap, and ALL. Gaps are scaled by their largest (gamma = 1), as ratings are.

    >>> import pandas as pd
    >>> gaps = pd.DataFrame({"a": [2.0, 1.0], "b": [1.0, -1.0], "c": [-1.0, -2.0]}, index=["p", "q"])
    >>> field_scores(gaps, "a")[["PD(rati.)", "RC", "mean gap"]].round(3).values.tolist()  # RC: -min(1, -.5), -min(-1, -1)
    [[-0.5, 0.5, -0.5], [2.0, 1.0, 0.5]]
    """
    signals = rating_signals(gaps, label, judge=judge)
    ours = [name for name in available(signals) if name != "PD(rati.)"]  # PD of these margins is it
    scores = score_all(signals, ours, seed=seed, quantile=1.0)
    signs = {name: 1.0 if RULES[name].keeps == "lowest" else -1.0 for name in scores}
    return (scores * signs).rename(columns=NAMES).assign(GAP=-gaps[label], ALL=0.0)
