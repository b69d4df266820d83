"""pdsel: choose preference pairs by the divergence of fine-grained signals, and rerun the paper that proposed it.

Names below are imported on first use, so that `import pdsel` loads no torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "ratings": ["load_ratings"],
    "pairs": ["compare_responses", "make_pairs", "relabel"],
    "levels": ["supply"],
    "proxies": ["fit_proxies", "fit_proxy", "load_proxy", "score_margins"],
    "divergence": ["preference_divergence", "rating_divergence", "scale_margins"],
    "selection": ["select"],
    "diagnostics": ["diagnose"],
    "objectives": ["bradley_terry_loss", "dmpo_loss", "dpo_loss"],
    "training": ["train_dmpo", "train_dpo", "train_sft"],
    "generation": ["generate"],
    "judges": ["gold_judge"],
    "evaluation": ["Estimate", "compare_methods", "length_controlled_win_rate", "win_rate", "winning_score"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
_ROOMS = [
    *_HOME,
    "artifacts",
    "chat",
    "claims",
    "compute",
    "contamination",
    "eval_prompts",
    "export",
    "grid",
    "human",
    "launch",
    "models",
    "notesworld",
    "offsets",
    "outputs",
    "plan",
    "planning",
    "plots",
    "profiles",
    "quality",
    "report",
    "scoring",
    "studies",
    "summaries",
    "texts",
    "theory",
    "uncertainty",
    "workload",
]

__all__ = [*_MODULE, "__version__"]


def __getattr__(name):
    if name in _MODULE:
        return getattr(import_module(f"pdsel.{_MODULE[name]}"), name)
    if name in _ROOMS:
        return import_module(f"pdsel.{name}")
    raise AttributeError(f"module 'pdsel' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_MODULE, *_ROOMS])
