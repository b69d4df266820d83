"""Judges decide who wins: `judge(prompts, outputs, baseline_outputs)` returns the probability that the output wins.

A judge lives here, and so does what only judges need: prompts and answers of a language model, the endpoint and its
cache, audits of a judge. Names are imported on first use: the gold judge needs no torch, a reward model does.
"""

import lazy_loader

_attach = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audit": ["both_orders", "flip_rate", "null_win_rates", "position_bias"],
        "choice": ["named_judge"],
        "endpoint": ["JudgeError"],
        "gold": ["gold_gaps", "gold_judge", "gold_scores"],
        "llm": ["LLMJudge"],
        "prompt": ["load_template"],
        "reward": ["proxy_judge", "reward_judge"],
    },
)
__getattr__, __dir__, __all__ = _attach
