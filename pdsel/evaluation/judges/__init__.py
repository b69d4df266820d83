"""Who wins: `judge(prompts, outputs, baseline_outputs)` returns the probability that the output beats the baseline."""

from importlib import import_module

from pdsel.evaluation.judges.gold import gold_gaps, gold_judge, gold_scores

_HOME = {  # imported on first use: reward models load torch
    "JudgeError": "endpoint",
    "LLMJudge": "llm",
    "load_template": "prompt",
    "both_orders": "audit",
    "flip_rate": "audit",
    "null_win_rates": "audit",
    "position_bias": "audit",
    "proxy_judge": "reward",
    "reward_judge": "reward",
}

__all__ = [*_HOME, "gold_gaps", "gold_judge", "gold_scores"]


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"pdsel.evaluation.judges.{_HOME[name]}"), name)
    raise AttributeError(f"module 'pdsel.evaluation.judges' has no attribute {name!r}")
