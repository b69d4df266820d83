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


def reasons(outcomes, cells, facts, overlap):
    """A sentence with numbers for each claim that a follow-up was run for.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        All studies, see `pdsel.experiments.grid_tables.load_grid`.
    cells : pandas.DataFrame
        `cells.csv`: a row per policy and study.
    facts : pandas.DataFrame
        See `pdsel.experiments.grid.pair_facts`.
    overlap : pandas.DataFrame
        See `pdsel.experiments.grid_tables.kept_overlap`.

    Returns
    -------
    dict
        Claim (see `claims`) to text.
    """
    spread = (
        outcomes[(outcomes["study"] == "methods") & (outcomes["conflict"] == HIGH)]
        .groupby(["method", "seed"])["win_rate"]
        .mean()
        .groupby("method")
        .std()
    )
    seeds = ", ".join(f"{name} {spread[name]:.1f}" for name in ("ALL", "DMPO", "PD"))
    worlds = f"Worlds differ: the standard deviation of the win rate over seeds is, in points, {seeds}."
    return {
        "PD beats filtering by one pooled reward": _pooled(cells, overlap),
        "PD gains from length mitigation": _length(outcomes),
        "DMPO lies between ALL and PD": worlds,
        "Conflict hurts ALL, not PD": _conflict(outcomes, facts),
        "There is a best share between little and all": f"{worlds} {_steps(outcomes)}",
        "Proxy size, p_r, gamma and rho hardly matter": _fewer_pairs(outcomes, cells),
    }


def _wrong(cells, study, method, setting=""):
    """Percent of wrong labels in what a method was trained on, mean over seeds."""
    rows = cells[(cells["study"] == study) & (cells["method"] == method) & (cells["conflict"] == HIGH)]
    return 100 * rows.loc[rows["setting"].fillna("") == setting, "wrong_labels"].mean()


def _pooled(cells, overlap):
    wrong = {name: _wrong(cells, "methods", name) for name in ("ALL", "RAF", "PD")}
    return (
        "One reward trained on all labels pooled averages the aspects, much as PD does. Wrong labels: "
        f"{wrong['ALL']:.0f} % of all pairs, {wrong['RAF']:.1f} % of RAF's, {wrong['PD']:.1f} % of PD's; on "
        "the world of the figure, the two share "
        f"{100 * overlap.loc['RAF', 'PD']:.0f} % of the pairs that either keeps."
    )


def _length(outcomes):
    plain = of("PD(classifier)")
    gain = contrast(outcomes, [(1, of("PD(classifier)", study="follow-ups", setting="tau 1")), (-1, plain)])
    return (
        "Implicit rewards have no taste for length to mitigate (notebook 08). Classifiers have: balancing their pairs by "
        f"length (tau 1) changes PD(classifier)'s win rate by {gain.signed} points."
    )


def _conflict(outcomes, facts):
    """Is it conflict that does no harm, or the way it is made?"""
    share = facts.groupby(["conflict_level", "aspect"])["conflict"].mean()
    most = share[HIGH].idxmax()
    learned = {level: contrast(outcomes, [(1, of("ALL", level))], metric=most).value for level in (LOW, HIGH)}
    noise = {
        name: contrast(outcomes, [(1, of(name, LOW, study="follow-ups", setting="noise")), (-1, of(name, LOW))])
        for name in ("ALL", "PD")
    }
    name = most.replace("_", " ")
    return (
        f"A label that contradicts the overall rating need not be wrong. {100 * share[HIGH, most]:.0f} % of the labels on "
        f"{name} do, more than of any other aspect; leaving such pairs out to reach a low level leaves out what teaches "
        f"{name}: ALL's gold score on it is {learned[LOW]:.2f} at {100 * LOW:.0f} % and {learned[HIGH]:.2f} at "
        f"{100 * HIGH:.0f} %. With conflict by noise instead, a quarter of the 10 % world's labels turned around at random, "
        f"the win rate changes by {noise['ALL'].signed} points for ALL and {noise['PD'].signed} for PD."
    )


def _steps(outcomes):
    longer = {name: contrast(outcomes, [(1, of(name, study="equal steps")), (-1, of(name))]) for name in ("PD", "RAND")}
    return (
        "Steps count beside pairs: with as many as ALL takes, the win rate at a share of 30 % changes by "
        f"{longer['PD'].signed} points for PD and {longer['RAND'].signed} for RAND."
    )


def harder(outcomes):
    """What becomes of PD's policies when they are trained for more steps, by aspect, as a sentence."""
    names = ("truthfulness", "honesty", "helpfulness")
    scores = {
        study: [contrast(outcomes, [(1, of("PD", study=study))], metric=name).value for name in names]
        for study in ("methods", "equal steps", "sizes")
    }
    said = {
        study: ", ".join(f"{name} {value:.2f}" for name, value in zip(names, values, strict=True))
        for study, values in scores.items()
    }
    return (
        f"PD reaches {said['methods']} after one pass over 2 400 pairs; {said['equal steps']} with as many steps as ALL "
        f"takes; {said['sizes']} on 8 000 pairs."
    )


def _fewer_pairs(outcomes, cells):
    parts = []
    for share in ("0.25", "0.5"):
        name = f"p_r {share}"
        longer = contrast(
            outcomes, [(1, of("PD", study="follow-ups", setting=f"{name}, as many steps")), (-1, of("PD"))]
        )
        wrong = (_wrong(cells, "sensitivity", "PD", name), _wrong(cells, "follow-ups", "PD", f"{name}, as many steps"))
        parts.append(
            f"{name}: {wrong[0]:.0f} % wrong labels kept, {wrong[1]:.0f} % when the proxies make as many steps as on all "
            f"pairs, and then {longer.signed} points"
        )
    return (
        f"Proxies on a part of an aspect's pairs take fewer steps, and see less. {'; '.join(parts)}. The usual proxies keep "
        f"{_wrong(cells, 'methods', 'PD'):.0f} % wrong labels."
    )
