"""The figures: every function takes frames and returns a matplotlib figure.

What may live here: functions that draw a figure, and the look of all figures (`style`). Nothing here computes a result, so
figures can be drawn again from the committed tables alone. Of the other rooms, this one imports only `checks` and
`artifacts`. Names are imported on first use.
"""

import lazy_loader

_attach = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data": [
            "plot_agreement",
            "plot_conflict",
            "plot_divergence",
            "plot_length",
            "plot_length_bias",
            "plot_overlap",
            "plot_proxies",
        ],
        "evaluation": [
            "plot_aspects",
            "plot_frontier",
            "plot_head_to_head",
            "plot_nulls",
            "plot_win_rates",
            "plot_winning_scores",
        ],
        "grid": [
            "plot_by_conflict",
            "plot_by_share",
            "plot_conflict_levels",
            "plot_dumbbells",
            "plot_kept_overlap",
            "plot_sensitivity",
            "plot_world_check",
        ],
        "human": ["plot_human_agreement", "plot_human_shares"],
        "idea": ["plot_bound_intervals", "plot_bounds", "plot_gradient_weights", "plot_idea", "plot_spread"],
        "pocket": ["plot_kept_by_rule", "plot_unseen"],
        "results": ["plot_cost", "plot_training"],
        "rules": ["plot_league", "plot_league_grid", "plot_rule_costs", "plot_rule_overlap", "plot_rule_quality"],
        "sliders": ["slide_budget", "slide_gain", "slide_share", "slide_weights"],
        "studies": [
            "plot_failures",
            "plot_length_study",
            "plot_proxy_grid",
            "plot_selection_cost",
            "plot_uncertainty",
            "plot_weights",
        ],
        "style": ["BLUE", "COLORS", "GREEN", "GREY", "ORANGE", "save_figure", "use_style"],
    },
)
__getattr__, __dir__, __all__ = _attach
