"""What the grid is made of: the settings of one policy, and for each question a list of the policies to train.

A list holds pairs: the name of a setting ("" where the question has one setting only), and a `Cell`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from pdsel.notesworld.settings import (
    BALANCED,
    CLASSIFIER,
    CONFLICT,
    CONFLICTS,
    DPO,
    IMPLICIT,
    LARGE_PAIRS,
    LOW_CONFLICT,
    PAIRS,
    QUANTILE,
    SHARE,
    SHARED,
)
from pdsel.rules.methods import FULL

# With a quarter of the labels turned around, a conflict of 10 % becomes 30 %: .75 x .1 + .25 x .9.
FLIPPED = 0.25
SHARES = [0.1, 0.2, SHARE, 0.5, 0.7]  # a share of 1 is ALL
VALIDATION_SEEDS = [101, 102]  # of worlds that no table shows
BETAS, RATES = [0.05, 0.1, 0.3], [1e-4, 2e-4, 4e-4, 8e-4]
BALANCES = [0.25, 0.5, 1.0]
ALL_STEPS = 75  # of ALL: `PAIRS` in batches of 32

METHODS = {  # a method's name in the tables: where its cells differ from the usual settings
    "OVA": {},
    "AVG": {},
    "ALL": {},
    "RAND": {},
    "PD(rati.)": {},
    "DMPO": {"proxies": BALANCED},
    "RAF": {"proxies": IMPLICIT},
    "PD": {"proxies": BALANCED},
    "PD(high)": {"proxies": BALANCED},
    "PD(nl)": {"rule": "PD", "proxies": IMPLICIT},
    "PD(shared)": {"rule": "PD", "proxies": SHARED},
    "PD(classifier)": {"rule": "PD", "proxies": CLASSIFIER},
    "PD(probe)": {"rule": "PD", "proxies": {"kind": "probe"}},
}


@dataclass(frozen=True)
class Cell:
    """The settings of one policy of the grid.

    Attributes
    ----------
    method : str
        Its name in the tables.
    seed : int
        Of the world, the selection and the training.
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

    Optional settings that are not given are no part of the name, since cells had names before there were such settings.
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

    @property
    def settings(self):
        """The settings as a dict, without the optional ones that are not given."""
        optional = ("families", "flipped", "loss")
        return {name: value for name, value in asdict(self).items() if name not in optional or value is not None}

    @property
    def name(self):
        """The cell's name in the tables: 16 hexadecimal digits, a digest of its settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]


def cell(method, *, seed, conflict, **changes):
    """The cell of a method, with what a study changes.

    >>> cell("ALL", seed=0, conflict=0.3, learning_rate=1e-4).learning_rate
    0.0001
    """
    usual = {
        "rule": method,
        "share": 1.0 if method in FULL else SHARE,
        "n_pairs": PAIRS,
        "proxies": None,
        "quantile": QUANTILE,
        "max_steps": -1,
        **DPO,
    }
    return Cell(method=method, seed=seed, conflict=conflict, **usual | METHODS.get(method, {}) | changes)


def spaced(number):
    """A whole number with a space between its thousands.

    >>> spaced(2400)
    '2 400'
    """
    return f"{number:,}".replace(",", " ")


def validation(seeds=VALIDATION_SEEDS):
    """DPO's beta and learning rate, by the two methods that select nothing.

    >>> len(validation([101]))
    24
    """
    return [
        ("", cell(method, seed=seed, conflict=CONFLICT, beta=beta, learning_rate=rate))
        for seed in seeds
        for beta in BETAS
        for rate in RATES
        for method in ("ALL", "RAND")
    ]


def methods(seeds, conflicts=CONFLICTS):
    """Every method at every conflict level, at the same share; Tables 1 and 2.

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
    """Rules against the share that they keep; the cells at the usual share are those of `methods`."""
    return [
        ("", cell(method, seed=seed, conflict=CONFLICT, share=share, families=share == SHARE))
        for seed in seeds
        for share in SHARES
        for method in ("PD", "RAF", "RAND")
    ]


def equal_steps(seeds, conflicts=CONFLICTS):
    """Rules at their share for as many steps as ALL takes: is it the data or the steps?"""
    return [
        ("", cell(method, seed=seed, conflict=conflict, max_steps=ALL_STEPS))
        for seed in seeds
        for conflict in conflicts
        for method in ("PD", "RAF", "RAND")
    ]


def sizes(seeds):
    """Every method of the paper on more than three times the pairs."""
    return [
        ("", cell(method, seed=seed, conflict=CONFLICT, n_pairs=LARGE_PAIRS))
        for seed in seeds
        for method in [*FULL, "RAND", "RAF", "PD(rati.)", "PD", "PD(high)", "PD(nl)"]
    ]


def sensitivity(seeds, large_base):
    """PD with one setting changed: gamma, tau, rho with either sign, p_r, and the size of the proxies."""
    changes = {f"gamma {quantile:g}": {"quantile": quantile} for quantile in (0.5, 0.75, 1.0)}
    for balance in BALANCES:
        if balance != BALANCED["length_balance"]:
            changes[f"tau {balance:g}"] = {"proxies": IMPLICIT | {"length_balance": balance}}
    for sign in ("minus", "plus"):
        penalty = {"length_penalty": 0.02, "length_sign": sign}
        changes[f"rho {penalty['length_penalty']:g} {sign}"] = {"proxies": BALANCED | penalty}
    for share in (0.25, 0.5):
        changes[f"p_r {share:g}"] = {"proxies": BALANCED | {"share": share}}
    changes["large base"] = {"proxies": BALANCED | {"base": large_base}}
    return _at_highest_conflict(seeds, [(setting, "PD", change) for setting, change in changes.items()])


def reseeded(seeds, world=0):
    """PD on one world with proxies that were trained with other seeds: how much of a kept set is chance?"""
    return [
        (f"proxies' seed {seed}", cell("PD", seed=world, conflict=CONFLICT, proxies=BALANCED | {"seed": seed}))
        for seed in seeds
    ]


def followups(seeds):
    """Why a claim fails: p_r at equal proxy steps, length mitigation of proxies that like length, conflict by noise."""
    asked = []
    for share in (0.25, 0.5):
        longer = BALANCED | {"share": share, "epochs": round(IMPLICIT["epochs"] / share)}
        asked.append((f"p_r {share:g}, as many steps", "PD", {"proxies": longer}))
    asked.append(("tau 1", "PD(classifier)", {"proxies": CLASSIFIER | {"length_balance": 1.0}}))
    for method in ("ALL", "PD"):
        asked.append(("noise", method, {"conflict": LOW_CONFLICT, "flipped": FLIPPED}))
    return _at_highest_conflict(seeds, asked)


def gentler(seeds):
    """Does training harder undo a selection? As many steps as ALL, and more pairs, with a stronger KL term or a lower rate."""
    changes = {
        "as many steps, beta 0.3": {"max_steps": ALL_STEPS, "beta": 0.3},
        "as many steps, rate 5e-5": {"max_steps": ALL_STEPS, "learning_rate": 5e-5},
        f"{spaced(LARGE_PAIRS)} pairs, rate 5e-5": {"n_pairs": LARGE_PAIRS, "learning_rate": 5e-5},
    }
    asked = [
        (setting, method, change) for setting, change in changes.items() for method in ("ALL", "RAND", "RAF", "PD")
    ]
    return _at_highest_conflict(seeds, asked)


def _at_highest_conflict(seeds, asked):
    """The cells of (setting, method, changes), for each seed; a change of the conflict level wins."""
    return [
        (setting, cell(method, seed=seed, **{"conflict": CONFLICT} | changes))
        for seed in seeds
        for setting, method, changes in asked
    ]


def choose(table, *, over=("beta", "learning_rate"), by="utility"):
    """The setting with the best mean over methods and worlds: DPO's, by the methods that select nothing.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per cell of `validation`, with its `utility`.
    over : sequence of str
        The columns that make a setting.
    by : str
        The column that is averaged; the highest mean is best.

    Returns
    -------
    (dict, pandas.DataFrame)
        The setting, and the means of all, best first.
    """
    means = table.groupby(list(over))[by].mean().sort_values(ascending=False).reset_index()
    return means.loc[0, list(over)].to_dict(), means
