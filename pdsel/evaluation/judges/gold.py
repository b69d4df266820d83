"""The judge of the notes world, whose truth is known."""

import numpy as np
import pandas as pd
from scipy.stats import norm

from pdsel.checks import DataError
from pdsel.notesworld import gold_aspects, gold_utility
from pdsel.notesworld.people import NOISE


def gold_judge(prompts, outputs, baseline_outputs, *, noise=NOISE):
    """The judge of the notes world: how probably an unbiased rater, who errs as the raters do, prefers the output.

    The probability is Phi((u - u_baseline) / (sqrt(2) * noise)), with u the gold utility: sure where the difference is
    plain, near one half where no rater could see it. Unlike the raters, it does not favour length.

    Parameters
    ----------
    prompts, outputs, baseline_outputs : list of str, length n
    noise : float
        Standard deviation of a rater's error on the utility's [0, 1] scale; 0 gives 1, 0 and, on a tie, .5.

    Returns
    -------
    numpy.ndarray, shape (n,)
        In [0, 1]; swapping outputs and baselines gives 1 minus it.

    Examples
    --------
    >>> prompt = "notes home lake ; food fruit ; mood angry ; tell boldly home and food ="
    >>> one, both = "home lake likely .", "home lake likely . food fruit surely ."
    >>> gold_judge([prompt] * 3, [both, one, both], [one, both, both], noise=0)
    array([1. , 0. , 0.5])
    >>> gold_judge([prompt], [both], [both + " glad to help ."]).round(2)  # filler is neither good nor bad
    array([0.5])
    """
    if not len(prompts) == len(outputs) == len(baseline_outputs):
        raise DataError(
            f"prompts, outputs, baseline_outputs: {len(prompts)}, {len(outputs)} and {len(baseline_outputs)} texts; give "
            "one output and one baseline per prompt"
        )
    ours, theirs = (
        np.array([gold_utility(prompt, text) for prompt, text in zip(prompts, texts, strict=True)])
        for texts in (outputs, baseline_outputs)
    )
    gap = (ours - theirs).round(12)
    return norm.cdf(gap / (np.sqrt(2) * noise)) if noise else (1 + np.sign(gap)) / 2


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
