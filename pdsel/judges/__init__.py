"""Who wins: `judge(prompts, outputs, baseline_outputs)` returns the probability that the output beats the baseline."""

from pdsel.judges.gold import gold_gaps, gold_judge, gold_scores

__all__ = ["gold_gaps", "gold_judge", "gold_scores"]
