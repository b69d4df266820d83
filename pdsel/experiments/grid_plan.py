"""What the grid is made of: the settings of one policy, and for each question a list of the policies to train.

A list holds pairs: the name of a setting ("" where the question has one setting only), and a `Cell`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from itertools import product

from pdsel.notesworld.settings import (
    BALANCE,
    BATCH,
    CLASSIFIER,
    CONFLICT,
    CONFLICTS,
    DPO,
    IMPLICIT,
    LARGE_PAIRS,
    LOW_CONFLICT,
    PAIRS,
    PROBE,
    PROXIES,
    QUANTILE,
    SHARE,
    SHARED,
    TUNED,
)
from pdsel.rules.methods import FULL

SHARES = [0.1, 0.2, SHARE, 0.5, 0.7]  # a share of 1 is ALL
ALL_STEPS = PAIRS // BATCH  # one pass over all pairs
BUDGETS = {"one pass": -1, "as many steps as ALL": ALL_STEPS}  # of optimisation steps
# Every method is tuned over the same grid, on worlds and prompts that no table shows.
VALIDATION_SEEDS = [101, 102]
RATES, STEPS, BETAS = [1e-3, 2e-3], [round(SHARE * ALL_STEPS), ALL_STEPS], [0.1, 0.5]
SETTING = ["learning_rate", "max_steps", "beta"]  # what is tuned
BALANCES = [0.25, 0.5, 1.0]

METHODS = {  # a method's name in the tables: where its cells differ from the usual settings
    "OVA": {},
    "AVG": {},
    "ALL": {},
    "RAND": {},
    "PD(rati.)": {},
    "DMPO": {"proxies": PROXIES},
    "RAF": {"proxies": IMPLICIT},
    "PD": {"proxies": PROXIES},
    "PD(high)": {"proxies": PROXIES},
    "PD(probe)": {"rule": "PD", "proxies": PROBE},
    "PD(nl)": {"rule": "PD", "proxies": IMPLICIT},
    "PD(shared)": {"rule": "PD", "proxies": SHARED},
    "PD(classifier)": {"rule": "PD", "proxies": CLASSIFIER},
}


@dataclass(frozen=True)
class Cell:
    """The settings of one policy of the grid.

    Attributes
    ----------
    method : str
        Its name in the tables.
    seed : int
        Of the world, the selection, the training, and the prompts it is judged on.
    conflict : float
        The share of the pairs whose label contradicts the overall rating.
    rule : str
        One of `pdsel.rules.methods.FULL`, which train on all pairs, or a rule of `pdsel.rules`.
    share : float
        lambda, the share of the pairs that the rule keeps; a method that trains on all pairs does not read it.
    n_pairs : int
    proxies : dict or None
        Keywords of `pdsel.fit_proxies` for a rule that reads margins; a `base` names another model to start from.
    quantile : float
        gamma of PD.
    max_steps : int
        Optimisation steps; -1 is one pass over the pairs.
    beta, learning_rate : float
        Of DPO.
    families : bool, optional
        Whether the policy also answers the five families of prompts.
    flipped : float, optional
        The share of the labels that are turned around at random.
    loss : str, optional
        One of `pdsel.rules.alternatives.ALTERNATIVES`, by default DPO.
    held_out : bool, optional
        Whether its accuracy on pairs that nobody trains on is measured: what a method is tuned by.
    base : str, optional
        The model that policies start from and are compared with, by default the shipped one.
    raters : tuple of (str, float), optional
        How the raters differ from the usual ones, as keywords of `pdsel.experiments.proxy_studies.make_world`.

    Optional settings that are not given do not enter the name.
    """

    method: str
    seed: int
    conflict: float
    rule: str
    share: float
    n_pairs: int
    proxies: dict | None
    quantile: float
    max_steps: int
    beta: float
    learning_rate: float
    families: bool | None = None
    flipped: float | None = None
    loss: str | None = None
    held_out: bool | None = None
    base: str | None = None
    raters: tuple | None = None

    @property
    def settings(self):
        """The settings as a dict, without the optional ones that are not given."""
        optional = ("families", "flipped", "loss", "held_out", "base", "raters")
        return {name: value for name, value in asdict(self).items() if name not in optional or value is not None}

    @property
    def name(self):
        """The cell's name in the tables: 16 hexadecimal digits, a digest of its settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]


def cell(method, *, seed, conflict, **changes):
    """The cell of a method as it was tuned, with what a study changes.

    >>> cell("ALL", seed=0, conflict=0.3, learning_rate=1e-4).learning_rate
    0.0001
    """
    usual = {
        "rule": method,
        "share": 1.0 if method in FULL else SHARE,
        "n_pairs": PAIRS,
        "proxies": None,
        "quantile": QUANTILE,
        "max_steps": ALL_STEPS,
        **DPO,
    }
    return Cell(
        method=method,
        seed=seed,
        conflict=conflict,
        **usual | METHODS.get(method, {}) | TUNED.get(method, {}) | changes,
    )


def sft_cell(seed):
    """The name of SFT's outcomes on the prompts of a seed, among those of the cells.

    >>> sft_cell(3)
    'SFT, seed 3'
    """
    return f"SFT, seed {seed}"


def spaced(number):
    """A whole number with a space between its thousands.

    >>> spaced(2400)
    '2 400'
    """
    return f"{number:,}".replace(",", " ")


def validation(seeds=VALIDATION_SEEDS):
    """Every method with every setting of the same grid: rate, steps and beta.

    >>> len(validation([101])) == len(METHODS) * len(RATES) * len(STEPS) * len(BETAS)
    True
    """
    return [
        ("", cell(method, seed=seed, conflict=CONFLICT, learning_rate=rate, max_steps=steps, beta=beta, held_out=True))
        for seed in seeds
        for method, rate, steps, beta in product(METHODS, RATES, STEPS, BETAS)
    ]


def methods(seeds, conflicts=CONFLICTS):
    """Every method at every conflict level, at the same share, as it was tuned; Tables 1 and 2.

    >>> len(methods([0])) == len(CONFLICTS) * len(METHODS)
    True
    """
    return [
        ("", cell(method, seed=seed, conflict=conflict, families=True))
        for seed in seeds
        for conflict in conflicts
        for method in METHODS
    ]


def shares(seeds):
    """Rules against the share that they keep, at two budgets of steps; the other settings are the same for all."""
    return [
        (budget, cell(method, seed=seed, conflict=CONFLICT, share=share, max_steps=steps, **DPO))
        for seed in seeds
        for budget, steps in BUDGETS.items()
        for method, part in [*product(("PD", "RAF", "RAND", "PD(rati.)"), SHARES), ("ALL", 1.0)]
        for share in [part]
    ]


def sizes(seeds):
    """Methods on twice the pairs, for twice the steps."""
    return [
        ("", cell(method, seed=seed, conflict=CONFLICT, n_pairs=LARGE_PAIRS, max_steps=LARGE_PAIRS // BATCH, **DPO))
        for seed in seeds
        for method in ["ALL", "RAND", "RAF", "PD(rati.)", "PD", "PD(high)"]
    ]


def sensitivity(seeds, large_base="notesworld"):
    """PD with one setting changed: gamma, tau, rho with either sign, p_r, and the size of the proxies."""
    changes = {f"gamma {quantile:g}": {"quantile": quantile} for quantile in (0.5, 0.75, 1.0)}
    for balance in BALANCES:
        if balance != BALANCE:
            changes[f"tau {balance:g}"] = {"proxies": IMPLICIT | {"length_balance": balance}}
    for sign in ("minus", "plus"):
        penalty = {"length_penalty": 0.02, "length_sign": sign}
        changes[f"rho {penalty['length_penalty']:g} {sign}"] = {"proxies": PROXIES | penalty}
    for share in (0.25, 0.5):
        changes[f"p_r {share:g}"] = {"proxies": PROXIES | {"share": share}}
    changes["large base"] = {"proxies": PROXIES | {"base": large_base}}
    return _at_highest_conflict(seeds, [(setting, "PD", change) for setting, change in changes.items()])


def reseeded(seeds, world=0):
    """PD on one world with proxies that were trained with other seeds: how much of a kept set is chance?"""
    return [
        (f"PD, proxies' seed {seed}", cell("PD", seed=world, conflict=CONFLICT, proxies=PROXIES | {"seed": seed}))
        for seed in seeds
    ]


def flips_for(level, start=LOW_CONFLICT):
    """The share of labels to turn around, at random, so that a conflict of `start` becomes one of `level`.

    Of f turned around, a conflict of s becomes s (1 - f) + (1 - s) f.

    >>> flips_for(0.3)  # .75 x .1 + .25 x .9 = .3
    0.25
    """
    return round((level - start) / (1 - 2 * start), 6)


def noise(seeds):
    """The same conflict levels by noise: labels of the least conflicting world are turned around at random."""
    asked = [
        (f"noise, {100 * level:g} %", method, {"conflict": LOW_CONFLICT, "flipped": flips_for(level)})
        for level in CONFLICTS
        if level != LOW_CONFLICT
        for method in ("ALL", "RAND", "RAF", "PD(rati.)", "PD")
    ]
    return _at_highest_conflict(seeds, asked)


def another_base(seeds, base):
    """The main methods from a base model that was trained with another seed: what the choice of the base adds."""
    changes = {"base": base, "proxies": None}
    asked = [(method, changes | {"proxies": METHODS[method].get("proxies")}) for method in ("ALL", "RAND", "RAF", "PD")]
    return _at_highest_conflict(seeds, [("another base", method, change) for method, change in asked])


def _at_highest_conflict(seeds, asked):
    """The cells of (setting, method, changes), for each seed; a change of the conflict level wins."""
    return [
        (setting, cell(method, seed=seed, **{"conflict": CONFLICT} | changes))
        for seed in seeds
        for setting, method, changes in asked
    ]


def choose(table):
    """The setting of every method with the highest accuracy on held-out pairs, mean over the validation worlds.

    Accuracy on held-out pairs needs labels and no truth, so it is what a user has.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per cell of `validation`, with `held_out_accuracy`.

    Returns
    -------
    dict
        Method to its setting: `TUNED` of `pdsel.notesworld.settings`.
    """
    means = table.groupby(["method", *SETTING], sort=False)["held_out_accuracy"].mean().reset_index()
    best = means.sort_values("held_out_accuracy", ascending=False, kind="stable").drop_duplicates("method")
    return best.set_index("method")[SETTING].to_dict("index")


def tuning(table):
    """What tuning chose for every method, and what it left: the setting, its gold utility, and the best over all settings.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per cell of `validation`, with `held_out_accuracy` and `utility`.

    Returns
    -------
    pandas.DataFrame
        `method, learning_rate, max_steps, beta, held_out_accuracy`; `utility` of that setting, and the `bound`, the highest
        utility of any setting.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"method": "PD", "learning_rate": [1e-3, 2e-3], "max_steps": 75, "beta": 0.1,
    ...                       "held_out_accuracy": [0.7, 0.6], "utility": [0.7, 0.8]})
    >>> tuning(table)[["learning_rate", "utility", "bound"]].values.tolist()
    [[0.001, 0.7, 0.8]]
    """
    means = table.groupby(["method", *SETTING], sort=False)[["held_out_accuracy", "utility"]].mean().reset_index()
    best = means.sort_values("held_out_accuracy", ascending=False, kind="stable").drop_duplicates("method")
    bound = means.groupby("method")["utility"].max()
    return best.assign(bound=best["method"].map(bound)).sort_values("utility", ascending=False).reset_index(drop=True)
