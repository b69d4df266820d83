"""Who wins, by how much, and how sure we are: metrics with 95 % intervals."""

from pdsel.evaluation.estimates import (
    CONFIDENCE,
    RESAMPLES,
    Estimate,
    bootstrap_mean,
    from_alpaca_eval,
    measure,
    tabulate,
    win_rate,
    winning_score,
)
from pdsel.evaluation.length_control import length_controlled_win_rate

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "Estimate",
    "bootstrap_mean",
    "from_alpaca_eval",
    "length_controlled_win_rate",
    "measure",
    "tabulate",
    "win_rate",
    "winning_score",
]
