"""Several outputs of one policy to each prompt: a policy is a distribution over texts, so its numbers are means over draws."""

import pandas as pd

from pdsel.checks import DataError


def in_draws(outputs, n_prompts):
    """The outputs to a list of prompts that was asked several times over, as one list for each time.

    >>> in_draws(["a", "b", "c", "d"], 2)
    [['a', 'b'], ['c', 'd']]
    """
    if len(outputs) % n_prompts:
        raise DataError(
            f"outputs: {len(outputs)} texts are not a multiple of {n_prompts} prompts. Remedy: ask all again"
        )
    return [outputs[start : start + n_prompts] for start in range(0, len(outputs), n_prompts)]


def lengths(prompts, outputs):
    """The characters of each output: all that is known of it where the truth is not."""
    return pd.DataFrame({"characters": [len(output) for output in outputs]})


def judged_draws(judge, prompts, draws, baseline_draws, *, describe=lengths):
    """What a judge says of a policy, and the measures of its outputs, each the mean over the draws of a prompt.

    Parameters
    ----------
    judge : callable
        `judge(prompts, outputs, baseline_outputs)`, see `pdsel.evaluation.judges`.
    prompts : list, length n
    draws, baseline_draws : list of lists of n texts
        Draw i of the policy meets draw i of the baseline.
    describe : callable
        `describe(prompts, outputs)` gives a frame with a row per prompt, such as `gold_scores`.

    Returns
    -------
    pandas.DataFrame, n rows
        `preference`, and the columns of `describe`.

    Examples
    --------
    >>> def longer(prompts, outputs, baseline_outputs):
    ...     return [float(len(a) > len(b)) for a, b in zip(outputs, baseline_outputs)]
    >>> judged_draws(longer, ["p"], [["aa"], ["a"]], [["b"], ["bb"]])
       preference  characters
    0         0.5         1.5
    """
    if len(draws) != len(baseline_draws):
        raise DataError(f"draws: {len(draws)} meet {len(baseline_draws)} of the baseline. Remedy: draw equally often")
    tables = [
        describe(prompts, ours).assign(preference=judge(prompts, ours, theirs))
        for ours, theirs in zip(draws, baseline_draws, strict=True)
    ]
    mean = sum(tables) / len(tables)
    return mean[["preference", *[name for name in mean if name != "preference"]]]
