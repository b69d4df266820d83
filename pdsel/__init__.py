"""pdsel: choose preference pairs by the divergence of fine-grained signals, and rerun the paper that proposed it.

The modules here are the lesson, in the order of the data: ratings, pairs, proxies, divergence, selection, objectives,
training, generation; theory and diagnostics explain them. Everything else is in a room, a folder whose docstring says
what may live there. Names are imported on first use, so that `import pdsel` loads no torch.
"""

import lazy_loader

__version__ = "0.1.0"

_attach = lazy_loader.attach(
    __name__,
    submodules=[
        "artifacts",
        "checks",
        "data",
        "engine",
        "evaluation",
        "experiments",
        "judges",
        "notesworld",
        "pipeline",
        "plots",
        "rules",
        "theory",
    ],
    submod_attrs={
        "ratings": ["load_ratings"],
        "pairs": ["compare_responses", "make_pairs", "relabel"],
        "data.export": ["export_preferences"],
        "data.preferences": ["given_margins", "load_preferences"],
        "data.subsets": ["supply"],
        "proxies": ["fit_proxies", "fit_proxy", "load_proxy", "score_margins"],
        "divergence": ["preference_divergence", "rating_divergence", "scale_margins"],
        "selection": ["select"],
        "diagnostics": ["diagnose"],
        "objectives": ["bradley_terry_loss", "dmpo_loss", "dpo_loss"],
        "training": ["train_dmpo", "train_dpo", "train_sft"],
        "generation": ["generate"],
        "evaluation": ["Estimate", "compare_methods", "length_controlled_win_rate", "win_rate", "winning_score"],
        "evaluation.judges": ["gold_judge"],
    },
)
__getattr__, __dir__, __all__ = _attach
