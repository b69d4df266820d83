"""Who wins, by how much, and how sure we are: metrics with 95 % intervals."""

from pdsel.evaluation.comparisons import (
    bradley_terry,
    compare_methods,
    duels,
    head_to_head,
    mean_over_prompts_and_seeds,
    paired_difference,
)
from pdsel.evaluation.estimates import (
    CONFIDENCE,
    RESAMPLES,
    Estimate,
    bootstrap_mean,
    from_alpaca_eval,
    win_rate,
    winning_score,
)
from pdsel.evaluation.length_control import joint_difficulty, length_controlled_win_rate, preferences_at_equal_length
from pdsel.evaluation.tables import means, measure, scored, tabulate, winning_scores

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "Estimate",
    "bootstrap_mean",
    "bradley_terry",
    "compare_methods",
    "duels",
    "from_alpaca_eval",
    "head_to_head",
    "joint_difficulty",
    "length_controlled_win_rate",
    "mean_over_prompts_and_seeds",
    "means",
    "measure",
    "paired_difference",
    "preferences_at_equal_length",
    "scored",
    "tabulate",
    "win_rate",
    "winning_score",
    "winning_scores",
]
