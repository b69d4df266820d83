"""The paper's claims, each with its test on the grid: an estimate with an interval, and a verdict."""

import pandas as pd

from pdsel.checks import DataError
from pdsel.evaluation import mean_over_prompts_and_seeds
from pdsel.notesworld.settings import CONFLICT as HIGH
from pdsel.notesworld.settings import LOW_CONFLICT as LOW

MARGIN = 2.0  # points of win rate that we call no difference, for "at least" and "hardly changes"

VERDICTS = {  # test: when it holds, and when it does not; neither is inconclusive
    "above": (lambda found: found.low > 0, lambda found: found.high < 0),
    "at least": (lambda found: found.low > -MARGIN, lambda found: found.high < -MARGIN),
    "same": (
        lambda found: found.low > -MARGIN and found.high < MARGIN,
        lambda found: found.low > MARGIN or found.high < -MARGIN,
    ),
}


def contrast(outcomes, terms, *, constant=0.0, metric="win_rate"):
    """A weighted sum of policies' metrics, paired by seed and prompt, with its interval over both.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        A row per policy and prompt: `seed, prompt_id`, the metric, and the columns that `terms` look in.
    terms : list of (float, dict)
        Weights, and the column values that tell the policy: `(1, {"method": "PD", "conflict": 0.3})`.
    constant : float
        Added to the sum.
    metric : str

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If a term finds no policy, or two of one seed.

    Examples
    --------
    >>> outcomes = pd.DataFrame({"method": ["PD", "PD", "ALL", "ALL"], "seed": 0, "prompt_id": ["a", "b"] * 2,
    ...                          "win_rate": [80.0, 90.0, 70.0, 70.0]})
    >>> contrast(outcomes, [(1, {"method": "PD"}), (-1, {"method": "ALL"})]).value
    15.0
    """
    total = constant
    for weight, where in terms:
        rows = outcomes
        for column, value in where.items():
            rows = rows[rows[column] == value]
        if rows.empty or rows.duplicated(["seed", "prompt_id"]).any():
            raise DataError(f"outcomes: {where} finds {'no policy' if rows.empty else 'several policies of one seed'}")
        total = total + weight * rows.pivot(index="seed", columns="prompt_id", values=metric)
    return mean_over_prompts_and_seeds(total.dropna(how="all"))


def of(method, conflict=HIGH, study="methods", **more):
    """Where to find a policy of the grid."""
    return {"study": study, "method": method, "conflict": conflict} | more


def claims(share_found):
    """The ten claims: a sentence, and its parts (what is tested, terms, constant, test).

    Parameters
    ----------
    share_found : float
        The share at which PD's win rate is highest in the study of shares.
    """
    pd_high = of("PD")
    best = of("PD", study="shares", share=share_found)

    def beats(one, other, factor=1.0):
        return [(1, of(one)), (-factor, of(other))]

    def changed(setting):
        return [(1, of("PD", study="sensitivity", setting=setting)), (-1, pd_high)]

    return [
        ("PD beats a random share of the same size", [("PD - RAND", beats("PD", "RAND"), 0, "above")]),
        ("PD beats filtering by one pooled reward", [("PD - RAF", beats("PD", "RAF"), 0, "above")]),
        ("PD's 30 % of the data is at least as good as all of it", [("PD - ALL", beats("PD", "ALL"), 0, "at least")]),
        (
            "PD beats relabelling everything, by 10 % relative",
            [(f"PD - 1.1 {name}", beats("PD", name, 1.1), 0, "above") for name in ("OVA", "AVG")],
        ),
        (
            "The most conflicting pairs are worse than no training",
            [("SFT - PD(high)", [(-1, of("PD(high)"))], 50, "above")],
        ),
        ("PD gains from length mitigation", [("PD - PD(nl)", beats("PD", "PD(nl)"), 0, "above")]),
        (
            "DMPO lies between ALL and PD",
            [("DMPO - ALL", beats("DMPO", "ALL"), 0, "above"), ("PD - DMPO", beats("PD", "DMPO"), 0, "above")],
        ),
        (
            "Conflict hurts ALL, not PD",
            [
                ("ALL at 10 % - at 30 %", [(1, of("ALL", LOW)), (-1, of("ALL"))], 0, "above"),
                ("PD at 30 % - at 10 %", [(1, pd_high), (-1, of("PD", LOW))], 0, "at least"),
            ],
        ),
        (
            "There is a best share between little and all",
            [
                (
                    f"PD at {share_found:.0%} - at 10 %",
                    [(1, best), (-1, of("PD", study="shares", share=0.1))],
                    0,
                    "above",
                ),
                (f"PD at {share_found:.0%} - ALL", [(1, best), (-1, of("ALL"))], 0, "above"),
            ],
        ),
        (
            "Proxy size, p_r, gamma and rho hardly matter",
            [
                (name, changed(setting), 0, "same")
                for name, setting in {
                    "large proxies": "large base",
                    "p_r 0.25": "p_r 0.25",
                    "p_r 0.5": "p_r 0.5",
                    "gamma 0.5": "gamma 0.5",
                    "gamma 0.75": "gamma 0.75",
                    "gamma 1": "gamma 1",
                    "rho minus": "rho 0.02 minus",
                    "rho plus": "rho 0.02 plus",
                }.items()
            ],
        ),
    ]


CONDITIONS = {  # of training: where to find the policies, and ALL's where it is the same under both
    "2 400 pairs, one pass": ({"study": "methods"}, {}),
    "as many steps as ALL": ({"study": "equal steps"}, {"study": "methods"}),
    "... and beta 0.3": ({"study": "gentler", "setting": "as many steps, beta 0.3"}, {}),
    "... and rate 5e-5": ({"study": "gentler", "setting": "as many steps, rate 5e-5"}, {}),
    "8 000 pairs, one pass": ({"study": "sizes"}, {}),
    "8 000 pairs, rate 5e-5": ({"study": "gentler", "setting": "8 000 pairs, rate 5e-5"}, {}),
}


def by_condition(outcomes, others=("RAND", "RAF", "ALL"), *, metric="win_rate"):
    """What PD gains over other methods under each of `CONDITIONS`, as text: estimate, interval, verdict.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        All studies, see `pdsel.experiments.grid_tables.load_grid`.
    others : sequence of str
        "ALL" is tested for *at least*, the others for *above*.
    """
    rows = []
    for name, (where, of_all) in CONDITIONS.items():
        row = {"training": name, "PD": f"{contrast(outcomes, [(1, of('PD', **where))], metric=metric).value:.1f}"}
        for other in others:
            there = where | (of_all if other == "ALL" else {})
            found = contrast(outcomes, [(1, of("PD", **where)), (-1, of(other, **there))], metric=metric)
            said = verdict([(found, "at least" if other == "ALL" else "above")])
            row[f"PD - {other}"] = f"{found.signed} {said}"
        rows.append(row)
    return pd.DataFrame(rows)


def judged(outcomes, *, metric="win_rate"):
    """Every claim with its estimates and verdict; of several parts, all must hold, and one that does not hold decides.

    Returns
    -------
    pandas.DataFrame
        `claim, estimate, verdict`.
    """
    kept = outcomes[(outcomes["study"] == "shares") & (outcomes["method"] == "PD") & (outcomes["share"] > 0.1)]
    share_found = float(kept.groupby("share")[metric].mean().idxmax())
    rows = []
    for sentence, parts in claims(share_found):
        found = [
            (name, contrast(outcomes, terms, constant=constant, metric=metric), test)
            for name, terms, constant, test in parts
        ]
        text = "; ".join(f"{name}: {estimate.signed}" for name, estimate, _ in found)
        rows.append({"claim": sentence, "estimate": text, "verdict": verdict([(e, test) for _, e, test in found])})
    return pd.DataFrame(rows)


def verdict(parts):
    """ "holds", "does not hold" or "inconclusive", from estimates and their tests."""
    if any(VERDICTS[test][1](estimate) for estimate, test in parts):
        return "does not hold"
    return "holds" if all(VERDICTS[test][0](estimate) for estimate, test in parts) else "inconclusive"
