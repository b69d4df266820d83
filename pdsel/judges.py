"""Who wins: `judge(prompts, outputs, baseline_outputs)` returns the probability that the output beats the baseline."""

import numpy as np
import pandas as pd

from pdsel.checks import DataError
from pdsel.notesworld import gold_aspects, gold_utility


def gold_judge(prompts, outputs, baseline_outputs):
    """The judge of the notes world, who knows the truth: 1 if the gold utility is higher, 0 if lower, .5 on a tie.

    Parameters
    ----------
    prompts, outputs, baseline_outputs : list of str, length n

    Returns
    -------
    numpy.ndarray, shape (n,)
        In {0, .5, 1}; swapping outputs and baselines gives 1 minus it.

    Examples
    --------
    >>> gold_judge(["notes size tiny ; tell size ="], ["size tiny ."], ["size huge ."])
    array([1.])
    """
    if not len(prompts) == len(outputs) == len(baseline_outputs):
        raise DataError(
            f"prompts, outputs, baseline_outputs: {len(prompts)}, {len(outputs)} and {len(baseline_outputs)} texts; give "
            "one output and one baseline per prompt"
        )
    utilities = [
        [gold_utility(prompt, text) for text in texts]
        for prompt, *texts in zip(prompts, outputs, baseline_outputs, strict=True)
    ]
    gap = np.diff(np.array(utilities)[:, ::-1], axis=1)[:, 0]
    return np.where(np.abs(gap) < 1e-9, 0.5, (gap > 0).astype(float))


def gold_scores(prompts, outputs):
    """Gold aspects, their mean (`utility`) and the length in characters and tokens of each output.

    Returns
    -------
    pandas.DataFrame
        A row per prompt.
    """
    table = pd.DataFrame([gold_aspects(p, o) for p, o in zip(prompts, outputs, strict=True)])
    lengths = {"characters": [len(o) for o in outputs], "tokens": [len(o.split()) for o in outputs]}
    return table.assign(utility=table.mean(axis=1), **lengths)


def gold_gaps(pairs):
    """What the truth says about each pair: gold of chosen minus gold of rejected, for looking at a selection afterwards.

    Returns
    -------
    pandas.DataFrame
        Index `pair_id`; a column per gold aspect, and `utility`. A label is wrong where `utility` is negative.
    """
    chosen, rejected = (gold_scores(list(pairs["prompt"]), list(pairs[side])) for side in ("chosen", "rejected"))
    gaps = (chosen - rejected).drop(columns=["characters", "tokens"]).round(12)
    return gaps.set_index(pd.Index(list(pairs["pair_id"]), name="pair_id"))
