"""A judge by its name, as the notebooks' parameters give it."""

from pdsel.evaluation.judges.gold import gold_judge
from pdsel.evaluation.judges.llm import LLMJudge


def named_judge(name, *, llm_judge="", llm_url="", llm_options=None, cache=None):
    """The judge of that name.

    Parameters
    ----------
    name : str
        "gold" (the notes world's truth), the model named by `llm_judge`, or a reward model: a path or hub id.
    llm_judge, llm_url : str
        A language model, and the address of the endpoint that serves it.
    llm_options : dict, optional
        Other options of `LLMJudge`.
    cache : str or Path, optional
        The file with the language model's answers.

    Returns
    -------
    callable
        `judge(prompts, outputs, baseline_outputs)`, the probability that the output wins.

    Examples
    --------
    >>> named_judge("gold") is gold_judge
    True
    >>> named_judge("judge-7b", llm_judge="judge-7b", llm_url="http://localhost:8000/v1", cache="answers.sqlite").model
    'judge-7b'
    """
    if name == "gold":
        return gold_judge
    if name == llm_judge:
        return LLMJudge(name, base_url=llm_url, cache=cache, **(llm_options or {}))
    from pdsel.evaluation.judges.reward import reward_judge  # needs torch

    return reward_judge(name)
