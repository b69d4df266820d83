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


# Of proxies, by kind: chosen by accuracy on held-out pairs of their own aspect, on the worlds of seeds 101 and 102.
TRAINING = {
    "implicit": {"learning_rate": 3e-3, "epochs": 4, "loss_type": ["sigmoid", "sft"]},
    "shared": {"learning_rate": 3e-3, "epochs": 4, "loss_type": ["sigmoid", "sft"]},
    "classifier": {"learning_rate": 6e-3, "epochs": 10},
}
BALANCE = 1.0  # tau, of the length-balanced sampling of an aspect's pairs
IMPLICIT = {"kind": "implicit", **TRAINING["implicit"]}
SHARED = {"kind": "shared", "length_balance": BALANCE, **TRAINING["shared"]}
CLASSIFIER = {"kind": "classifier", "length_balance": BALANCE, **TRAINING["classifier"]}
# A probe reads the policy's own reference, whose pass over the pairs DPO needs anyway.
PROBE = {"kind": "probe", "length": "nuisance", "base": "notesworld"}
PROXIES = IMPLICIT | {"length_balance": BALANCE}  # PD's own; without the balance it is PD(nl)

# Of policies. Consistent pairs drive a small policy off the language, so every loss gets the chosen response's likelihood.
LOSS_TYPE = ["sigmoid", "sft"]
BATCH = 16  # pairs of a step
DPO = {"beta": 0.5, "learning_rate": 2e-3}  # the same for all, where methods are not tuned one by one
TUNED = {  # by method: what `pdsel.experiments.grid_plan.choose` found on the validation worlds
    "OVA": {"learning_rate": 1e-3, "max_steps": 250, "beta": 0.5},
    "AVG": {"learning_rate": 2e-3, "max_steps": 250, "beta": 0.1},
    "ALL": {"learning_rate": 1e-3, "max_steps": 250, "beta": 0.1},
    "RAND": {"learning_rate": 1e-3, "max_steps": 250, "beta": 0.5},
    "PD(rati.)": {"learning_rate": 2e-3, "max_steps": 250, "beta": 0.5},
    "DMPO": {"learning_rate": 2e-3, "max_steps": 250, "beta": 0.5},
    "RAF": {"learning_rate": 2e-3, "max_steps": 250, "beta": 0.5},
    "PD": {"learning_rate": 1e-3, "max_steps": 250, "beta": 0.5},
    "PD(high)": {"learning_rate": 2e-3, "max_steps": 75, "beta": 0.1},
    "PD(probe)": {"learning_rate": 2e-3, "max_steps": 250, "beta": 0.1},
    "PD(nl)": {"learning_rate": 1e-3, "max_steps": 250, "beta": 0.1},
    "PD(shared)": {"learning_rate": 2e-3, "max_steps": 250, "beta": 0.5},
    "PD(classifier)": {"learning_rate": 1e-3, "max_steps": 250, "beta": 0.5},
}

PAIRS = 4000  # of a world in the grid and the league
STUDY_PAIRS = 4000  # of a world in the studies of proxies, whatever the number of its aspects
LARGE_PAIRS = 8000  # of a world in the study of sizes
HELD_OUT_PAIRS = 1000  # of prompts that nobody trains on, to tune by

SHARE = 0.3  # lambda, the share of the pairs that a rule keeps
QUANTILE = 0.9  # gamma, the quantile of a proxy's margins at which they are clipped
LOW_CONFLICT = 0.1  # share of the pairs whose label contradicts the overall rating
CONFLICT = 0.3  # the same share as in UltraFeedback
CONFLICTS = [LOW_CONFLICT, 0.2, CONFLICT]

NEW_TOKENS = 24  # at most, in a response that is generated
SAMPLES = 4  # a prompt, at temperature 1: a policy is its distribution, not the likeliest text
