"""What the grid is made of: a list per question, of names of settings (where there are several) and cells to run."""

from pdsel.experiments.grid import METHODS, cell
from pdsel.notesworld.settings import (
    BALANCED,
    CLASSIFIER,
    CONFLICT,
    CONFLICTS,
    IMPLICIT,
    LARGE_PAIRS,
    LOW_CONFLICT,
    SHARE,
)
from pdsel.rules.methods import FULL

HIGHEST = CONFLICT  # where the questions beside the main table are asked
LOWEST, FLIPPED = LOW_CONFLICT, 0.25  # a quarter turned around makes 10 % conflict 30 %: .75 x .1 + .25 x .9
SHARES = [0.1, 0.2, 0.3, 0.5, 0.7]  # 1 is ALL
VALIDATION_SEEDS = [101, 102]  # worlds that no table shows
BETAS, RATES = [0.05, 0.1, 0.3], [1e-4, 2e-4, 4e-4, 8e-4]
BALANCES = [None, 0.25, 0.5, 1.0]
ALL_STEPS = 75  # of ALL: 2 400 pairs in batches of 32


def validation(seeds=VALIDATION_SEEDS):
    """DPO's beta and learning rate, by the two methods that select nothing.

    >>> len(validation([101]))
    24
    """
    return [
        ("", cell(method, seed=seed, conflict=HIGHEST, beta=beta, learning_rate=rate))
        for seed in seeds
        for beta in BETAS
        for rate in RATES
        for method in ("ALL", "RAND")
    ]


def methods(seeds, conflicts=CONFLICTS):
    """Every method at every conflict level, at the same share; Tables 1 and 2.

    >>> len(methods([0]))
    36
    """
    return [
        ("", cell(method, seed=seed, conflict=conflict, families=True))
        for seed in seeds
        for conflict in conflicts
        for method in METHODS
    ]


def shares(seeds):
    """Rules against the share they keep; the usual share's cells are those of `methods`."""
    return [
        ("", cell(method, seed=seed, conflict=HIGHEST, share=share, families=share == SHARE))
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
        ("", cell(method, seed=seed, conflict=HIGHEST, n_pairs=LARGE_PAIRS))
        for seed in seeds
        for method in [*FULL, "RAND", "RAF", "PD(rati.)", "PD", "PD(high)", "PD(nl)"]
    ]


def sensitivity(seeds, large_base):
    """PD with one setting changed: gamma, tau, rho with either sign, p_r, and the size of the proxies."""
    usual = BALANCED.get("length_balance")
    changes = {
        **{f"gamma {quantile:g}": {"quantile": quantile} for quantile in (0.5, 0.75, 1.0)},
        **{f"tau {tau:g}": {"proxies": IMPLICIT | {"length_balance": tau}} for tau in BALANCES[1:] if tau != usual},
        **{
            f"rho {rho:g} {sign}": {"proxies": BALANCED | {"length_penalty": rho, "length_sign": sign}}
            for rho in (0.02,)
            for sign in ("minus", "plus")
        },
        **{f"p_r {share:g}": {"proxies": BALANCED | {"share": share}} for share in (0.25, 0.5)},
        "large base": {"proxies": BALANCED | {"base": large_base}},
    }
    return [
        (name, cell("PD", seed=seed, conflict=HIGHEST, **change)) for seed in seeds for name, change in changes.items()
    ]


def reseeded(seeds, world=0):
    """PD on one world with proxies that were trained with other seeds: how much of a kept set is chance?"""
    return [
        (f"proxies' seed {seed}", cell("PD", seed=world, conflict=HIGHEST, proxies=BALANCED | {"seed": seed}))
        for seed in seeds
    ]


def followups(seeds):
    """Why a claim fails: p_r at equal proxy steps, length mitigation of proxies that like length, conflict by noise."""
    passes = IMPLICIT["epochs"]
    changes = [
        *[
            (
                f"p_r {share:g}, as many steps",
                "PD",
                {"proxies": BALANCED | {"share": share, "epochs": round(passes / share)}},
            )
            for share in (0.25, 0.5)
        ],
        ("tau 1", "PD(classifier)", {"proxies": CLASSIFIER | {"length_balance": 1.0}}),
        *[("noise", method, {"conflict": LOWEST, "flipped": FLIPPED}) for method in ("ALL", "PD")],
    ]
    return [
        (name, cell(method, seed=seed, **{"conflict": HIGHEST} | change))
        for seed in seeds
        for name, method, change in changes
    ]


def gentler(seeds):
    """Does training harder undo a selection? As many steps as ALL, and more pairs, with a stronger KL term or a lower rate."""
    changes = {
        "as many steps, beta 0.3": {"max_steps": ALL_STEPS, "beta": 0.3},
        "as many steps, rate 5e-5": {"max_steps": ALL_STEPS, "learning_rate": 5e-5},
        "8 000 pairs, rate 5e-5": {"n_pairs": LARGE_PAIRS, "learning_rate": 5e-5},
    }
    return [
        (name, cell(method, seed=seed, conflict=HIGHEST, **change))
        for seed in seeds
        for name, change in changes.items()
        for method in ("ALL", "RAND", "RAF", "PD")
    ]


def choose(table, *, over=("beta", "learning_rate"), by="utility"):
    """The setting with the best mean over methods and worlds: DPO's, by the methods that select nothing.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per cell of `validation`, with its `utility`.

    Returns
    -------
    (dict, pandas.DataFrame)
        The setting, and the means of all, best first.
    """
    means = table.groupby(list(over))[by].mean().sort_values(ascending=False).reset_index()
    return means.loc[0, list(over)].to_dict(), means
