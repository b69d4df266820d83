"""Who wins, by how much, and how sure we are: metrics with 95 % intervals, comparisons of methods, length control.

Statistics of preferences live here, and the judges that give these preferences. Nothing here trains a policy. Names
are imported on first use.
"""

import lazy_loader

_attach = lazy_loader.attach(
    __name__,
    submodules=["judges"],
    submod_attrs={
        "comparisons": [
            "best_methods",
            "bradley_terry",
            "compare_methods",
            "duels",
            "head_to_head",
            "mean_over_prompts_and_seeds",
            "p_value_text",
            "paired_difference",
        ],
        "estimates": [
            "CONFIDENCE",
            "RESAMPLES",
            "Estimate",
            "blank",
            "bootstrap_mean",
            "from_alpaca_eval",
            "interval",
            "win_rate",
            "winning_score",
        ],
        "length_control": [
            "joint_difficulty",
            "length_controlled_win_rate",
            "lengths_apart",
            "preferences_at_equal_length",
        ],
        "moderated": ["STAR_SEEDS", "guarded_variances", "mean_and_variances", "moderated_t", "variance_prior"],
        "tables": ["apart", "means", "measure", "scored", "tabulate", "winning_scores"],
    },
)
__getattr__, __dir__, __all__ = _attach
