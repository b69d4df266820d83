"""The figures: every function takes frames and returns a matplotlib figure.

What may live here: functions that draw a figure, and the look of all figures (`style`). Nothing here computes a result, so
figures can be drawn again from the committed tables alone. Of the other rooms, this one imports only `checks` and `artifacts`.
"""

from pdsel.plots.data import (
    plot_agreement,
    plot_conflict,
    plot_divergence,
    plot_length,
    plot_length_bias,
    plot_overlap,
    plot_proxies,
)
from pdsel.plots.evaluation import (
    plot_aspects,
    plot_frontier,
    plot_head_to_head,
    plot_nulls,
    plot_win_rates,
    plot_winning_scores,
)
from pdsel.plots.grid import (
    plot_by_conflict,
    plot_by_share,
    plot_conflict_levels,
    plot_dumbbells,
    plot_kept_overlap,
    plot_sensitivity,
    plot_settings,
)
from pdsel.plots.human import plot_human_agreement, plot_human_shares
from pdsel.plots.idea import plot_bound_intervals, plot_idea, plot_spread
from pdsel.plots.results import plot_cost, plot_training
from pdsel.plots.rules import (
    plot_league,
    plot_league_grid,
    plot_rule_costs,
    plot_rule_overlap,
    plot_rule_quality,
)
from pdsel.plots.studies import (
    plot_failures,
    plot_length_study,
    plot_proxy_grid,
    plot_uncertainty,
    plot_weights,
)
from pdsel.plots.style import BLUE, COLORS, GREEN, GREY, ORANGE, save_figure, use_style

__all__ = [
    "BLUE",
    "COLORS",
    "GREEN",
    "GREY",
    "ORANGE",
    "plot_agreement",
    "plot_aspects",
    "plot_bound_intervals",
    "plot_by_conflict",
    "plot_by_share",
    "plot_conflict",
    "plot_conflict_levels",
    "plot_cost",
    "plot_divergence",
    "plot_dumbbells",
    "plot_failures",
    "plot_frontier",
    "plot_head_to_head",
    "plot_human_agreement",
    "plot_human_shares",
    "plot_idea",
    "plot_kept_overlap",
    "plot_league",
    "plot_league_grid",
    "plot_length",
    "plot_length_bias",
    "plot_length_study",
    "plot_nulls",
    "plot_overlap",
    "plot_proxies",
    "plot_proxy_grid",
    "plot_rule_costs",
    "plot_rule_overlap",
    "plot_rule_quality",
    "plot_sensitivity",
    "plot_settings",
    "plot_spread",
    "plot_training",
    "plot_uncertainty",
    "plot_weights",
    "plot_win_rates",
    "plot_winning_scores",
    "save_figure",
    "use_style",
]
