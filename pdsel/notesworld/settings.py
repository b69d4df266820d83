"""The settings of the experiments on the notes world, each written once, and where its base models lie.

This module imports nothing of the world, so that whoever trains or selects can read it without coming near to gold.
"""

from pathlib import Path

BASE_MODEL = str(Path(__file__).parent / "base_model")
PROXY_BASE = str(Path(__file__).parent / "proxy_base")  # a quarter of the size: proxies are smaller than policies
MODELS = {"notesworld": BASE_MODEL, "notesworld-small": PROXY_BASE}


def model_path(name):
    """The path of a shipped model, `"notesworld"` or `"notesworld-small"`; any other name or path is returned as it is.

    >>> model_path("org/model")
    'org/model'
    """
    return MODELS.get(name, name)
TRAINING = {
    "implicit": {"learning_rate": 1e-3, "epochs": 2},
    "shared": {"learning_rate": 1e-3, "epochs": 2},
    "classifier": {"learning_rate": 3e-3, "epochs": 5},
}
IMPLICIT = {"kind": "implicit", **TRAINING["implicit"]}
SHARED = {"kind": "shared", **TRAINING["shared"]}
CLASSIFIER = {"kind": "classifier", **TRAINING["classifier"]}
# On validation worlds this balance came nearest to the truth's correlation with length.
BALANCED = {**IMPLICIT, "length_balance": 0.25}

# Of policies: chosen by `pdsel.experiments.grid_plan.choose` on validation worlds.
DPO = {"beta": 0.1, "learning_rate": 2e-4}

PAIRS = 2400  # of a world in the grid and the league
STUDY_PAIRS = 2000  # of a world in the studies of proxies, whatever the number of its aspects
LARGE_PAIRS = 8000  # of a world in the study of sizes

SHARE = 0.3  # lambda, the share of the pairs that a rule keeps
QUANTILE = 0.9  # gamma, the quantile of a proxy's margins at which they are clipped
LOW_CONFLICT = 0.1  # share of the pairs whose label contradicts the overall rating
CONFLICT = 0.3  # the same share as in UltraFeedback
CONFLICTS = [LOW_CONFLICT, 0.2, CONFLICT]

NEW_TOKENS = 24  # at most, in a response that is generated
