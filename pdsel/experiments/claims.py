"""The paper's claims, each with its test on the grid: an estimate with an interval, a verdict, and why it may not hold.

A policy of the grid is addressed by the values of its columns, see `at`. A claim has parts; each part is a `Contrast`, a
weighted sum of policies' metrics that is put to one test. All policies of a contrast share their seeds and prompts.
"""

from dataclasses import dataclass

import pandas as pd

from pdsel.checks import DataError
from pdsel.evaluation import mean_over_prompts_and_seeds
from pdsel.experiments.grid_plan import FLIPPED, spaced
from pdsel.notesworld.settings import CONFLICT, LARGE_PAIRS, LOW_CONFLICT, PAIRS, SHARE

MARGIN = 2.0  # points of win rate that we call no difference, for "at least" and "same"
DRAW = 50  # the win rate of SFT against itself, percent
FEWEST = 0.1  # the smallest share in the study of shares
FRACTIONS = {0.25: "a quarter", 0.5: "half"}


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of policies' metrics, and the test that a claim puts it to.

    Attributes
    ----------
    name : str
        What is estimated, in the words of the table.
    terms : sequence of (float, dict)
        Weights, and where to find the policy, see `at`.
    test : {"above", "at least", "same"}
        The sum is above 0; no more than `MARGIN` below 0; no more than `MARGIN` from 0.
    constant : float
        Added to the sum.
    """

    name: str
    terms: list
    test: str = "above"
    constant: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and the contrasts that must all pass their tests for it to hold."""

    sentence: str
    parts: list


def at(method, conflict=CONFLICT, study="methods", **more):
    """Where to find a policy of the grid: the values of its columns.

    >>> at("PD", study="sensitivity", setting="gamma 1")
    {'study': 'sensitivity', 'method': 'PD', 'conflict': 0.3, 'setting': 'gamma 1'}
    """
    return {"study": study, "method": method, "conflict": conflict} | more


def minus(first, second, *, factor=1.0):
    """The terms of first - factor * second, each a policy as `at` gives it."""
    return [(1.0, first), (-factor, second)]


def paired(outcomes, terms, *, metric="win_rate"):
    """A weighted sum of policies' metrics, seed by seed and prompt by prompt.

    Only seeds that every policy was trained with enter: where one study has five seeds and another three, the sum has three.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        A row per policy and prompt: `seed, prompt_id`, the metric, and the columns that `terms` look in.
    terms : sequence of (float, dict)
        Weights, and the column values that tell the policy, see `at`.
    metric : str

    Returns
    -------
    pandas.DataFrame, shape (seeds, prompts)

    Raises
    ------
    ValueError
        If a term finds no policy, or two of one seed; if the policies have no seed in common.

    Examples
    --------
    >>> outcomes = pd.DataFrame({"method": ["PD", "PD", "ALL"], "seed": [0, 1, 0], "prompt_id": "a",
    ...                          "win_rate": [80.0, 90.0, 70.0]})
    >>> paired(outcomes, [(1, {"method": "PD"}), (-1, {"method": "ALL"})])
    prompt_id     a
    seed
    0          10.0
    """
    tables = [_of_policy(outcomes, where, metric) for _, where in terms]
    seeds = tables[0].index
    for table in tables[1:]:
        seeds = seeds.intersection(table.index)
    if seeds.empty:
        raise DataError(
            f"outcomes: {[where for _, where in terms]} have no seed in common. Remedy: train them with the same seeds"
        )
    total = 0.0
    for (weight, _), table in zip(terms, tables, strict=True):
        total = total + weight * table.loc[seeds]
    return total


def _of_policy(outcomes, where, metric):
    """The metric of one policy, seeds x prompts."""
    for column, value in where.items():
        outcomes = outcomes[outcomes[column] == value]
    if outcomes.empty:
        raise DataError(f"outcomes: {where} finds no policy. Remedy: train it, or name one that was trained")
    if outcomes.duplicated(["seed", "prompt_id"]).any():
        raise DataError(f"outcomes: {where} finds several policies of one seed. Remedy: name more of its columns")
    return outcomes.pivot(index="seed", columns="prompt_id", values=metric)


def estimate(outcomes, terms, *, constant=0.0, metric="win_rate"):
    """A weighted sum of policies' metrics with its 95 % interval over seeds and prompts; arguments as for `paired`.

    Returns
    -------
    Estimate

    Examples
    --------
    >>> outcomes = pd.DataFrame({"method": ["PD", "PD", "ALL", "ALL"], "seed": 0, "prompt_id": ["a", "b"] * 2,
    ...                          "win_rate": [80.0, 90.0, 70.0, 70.0]})
    >>> estimate(outcomes, minus({"method": "PD"}, {"method": "ALL"})).value
    15.0
    """
    return mean_over_prompts_and_seeds(constant + paired(outcomes, terms, metric=metric))


def verdict(found, test):
    """What an estimate says about a test of `Contrast`: "holds", "does not hold" or "inconclusive".

    >>> from pdsel.evaluation import Estimate
    >>> verdict(Estimate(1.0, 0.5, low=0.1, high=1.9, variant="by hand", n=9), "above")
    'holds'
    """
    if test == "above":
        holds, fails = found.low > 0, found.high < 0
    elif test == "at least":
        holds, fails = found.low > -MARGIN, found.high < -MARGIN
    elif test == "same":
        holds = found.low > -MARGIN and found.high < MARGIN
        fails = found.low > MARGIN or found.high < -MARGIN
    else:
        raise DataError(f"test={test!r}: use 'above', 'at least' or 'same'")
    if fails:
        return "does not hold"
    return "holds" if holds else "inconclusive"


def joint_verdict(verdicts):
    """The verdict on a claim from those on its parts: one that does not hold decides, and all must hold.

    >>> joint_verdict(["holds", "inconclusive"])
    'inconclusive'
    """
    if "does not hold" in verdicts:
        return "does not hold"
    return "inconclusive" if "inconclusive" in verdicts else "holds"


def paper_claims(best_share):
    """The ten claims of the paper.

    Parameters
    ----------
    best_share : float
        The share at which PD's win rate is highest, see `best_share_of`.

    Returns
    -------
    list of Claim
    """
    low, high, fewest = (f"{100 * part:.0f} %" for part in (LOW_CONFLICT, CONFLICT, FEWEST))
    pd_best = at("PD", study="shares", share=best_share)
    pd_fewest = at("PD", study="shares", share=FEWEST)
    return [
        Claim(
            "PD beats a random share of the same size",
            [Contrast("PD - RAND", minus(at("PD"), at("RAND")))],
        ),
        Claim(
            "PD beats filtering by one pooled reward",
            [Contrast("PD - RAF", minus(at("PD"), at("RAF")))],
        ),
        Claim(
            f"PD's {100 * SHARE:.0f} % of the data is at least as good as all of it",
            [Contrast("PD - ALL", minus(at("PD"), at("ALL")), test="at least")],
        ),
        Claim(
            "PD beats relabelling everything, by 10 % relative",
            [
                Contrast("PD - 1.1 OVA", minus(at("PD"), at("OVA"), factor=1.1)),
                Contrast("PD - 1.1 AVG", minus(at("PD"), at("AVG"), factor=1.1)),
            ],
        ),
        Claim(
            "The most conflicting pairs are worse than no training",
            [Contrast("SFT - PD(high)", [(-1.0, at("PD(high)"))], constant=DRAW)],
        ),
        Claim(
            "PD gains from length mitigation",
            [Contrast("PD - PD(nl)", minus(at("PD"), at("PD(nl)")))],
        ),
        Claim(
            "DMPO lies between ALL and PD",
            [
                Contrast("DMPO - ALL", minus(at("DMPO"), at("ALL"))),
                Contrast("PD - DMPO", minus(at("PD"), at("DMPO"))),
            ],
        ),
        Claim(
            "Conflict hurts ALL, not PD",
            [
                Contrast(f"ALL at {low} - at {high}", minus(at("ALL", LOW_CONFLICT), at("ALL"))),
                Contrast(f"PD at {high} - at {low}", minus(at("PD"), at("PD", LOW_CONFLICT)), test="at least"),
            ],
        ),
        Claim(
            "There is a best share between little and all",
            [
                Contrast(f"PD at {best_share:.0%} - at {fewest}", minus(pd_best, pd_fewest)),
                Contrast(f"PD at {best_share:.0%} - ALL", minus(pd_best, at("ALL"))),
            ],
        ),
        Claim(
            "Proxy size, p_r, gamma and rho hardly matter",
            [
                _changed("large proxies", "large base"),
                _changed("p_r 0.25", "p_r 0.25"),
                _changed("p_r 0.5", "p_r 0.5"),
                _changed("gamma 0.5", "gamma 0.5"),
                _changed("gamma 0.75", "gamma 0.75"),
                _changed("gamma 1", "gamma 1"),
                _changed("rho minus", "rho 0.02 minus"),
                _changed("rho plus", "rho 0.02 plus"),
            ],
        ),
    ]


def _changed(name, setting):
    """PD with one setting changed is the same as PD."""
    return Contrast(name, minus(at("PD", study="sensitivity", setting=setting), at("PD")), test="same")


def best_share_of(outcomes, *, metric="win_rate"):
    """The share above the fewest at which PD's mean is highest in the study of shares."""
    of_pd = outcomes[(outcomes["study"] == "shares") & (outcomes["method"] == "PD") & (outcomes["share"] > FEWEST)]
    return float(of_pd.groupby("share")[metric].mean().idxmax())


def evaluate_claims(outcomes, *, metric="win_rate"):
    """Every claim with its estimates and its verdict.

    The best share is chosen by the same win rates on which "There is a best share" is then tested, since no validation world
    was trained at other shares. Its interval ignores this choice and is too favourable to the claim: "holds" would
    overstate it, "inconclusive" and "does not hold" stand.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        All studies, see `pdsel.experiments.grid_tables.load_grid`.
    metric : str

    Returns
    -------
    pandas.DataFrame
        `claim, estimate, verdict`, and `seeds`: how many seeds the estimates rest on, the fewest of the claim's parts.
    """
    rows = []
    for claim in paper_claims(best_share_of(outcomes, metric=metric)):
        texts, verdicts, seeds = [], [], []
        for part in claim.parts:
            sums = part.constant + paired(outcomes, part.terms, metric=metric)
            found = mean_over_prompts_and_seeds(sums)
            texts.append(f"{part.name}: {found.signed}")
            verdicts.append(verdict(found, part.test))
            seeds.append(len(sums))
        rows.append(
            {
                "claim": claim.sentence,
                "estimate": "; ".join(texts),
                "verdict": joint_verdict(verdicts),
                "seeds": min(seeds),
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Condition:
    """A way of training: where its policies are, and ALL's where ALL is the same under another name."""

    name: str
    where: dict
    where_all: dict | None = None


CONDITIONS = [
    Condition(f"{spaced(PAIRS)} pairs, one pass", {"study": "methods"}),
    Condition("as many steps as ALL", {"study": "equal steps"}, where_all={"study": "methods"}),
    Condition("... and beta 0.3", {"study": "gentler", "setting": "as many steps, beta 0.3"}),
    Condition("... and rate 5e-5", {"study": "gentler", "setting": "as many steps, rate 5e-5"}),
    Condition(f"{spaced(LARGE_PAIRS)} pairs, one pass", {"study": "sizes"}),
    Condition(
        f"{spaced(LARGE_PAIRS)} pairs, rate 5e-5",
        {"study": "gentler", "setting": f"{spaced(LARGE_PAIRS)} pairs, rate 5e-5"},
    ),
]


def by_condition(outcomes, others=("RAND", "RAF", "ALL"), *, metric="win_rate"):
    """What PD gains over other methods under each of `CONDITIONS`, as text: estimate, interval, verdict.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        All studies, see `pdsel.experiments.grid_tables.load_grid`.
    others : sequence of str
        "ALL" is tested for *at least*, the others for *above*.
    metric : str

    Returns
    -------
    pandas.DataFrame
        `training, PD`, a column per other method, and `seeds`: how many the row rests on.
    """
    rows = []
    for condition in CONDITIONS:
        ours = at("PD", **condition.where)
        sums = paired(outcomes, [(1.0, ours)], metric=metric)
        row = {"training": condition.name, "PD": f"{mean_over_prompts_and_seeds(sums).value:.1f}"}
        seeds = [len(sums)]
        for other in others:
            where, test = condition.where, "above"
            if other == "ALL":
                where, test = condition.where_all or condition.where, "at least"
            sums = paired(outcomes, minus(ours, at(other, **where)), metric=metric)
            found = mean_over_prompts_and_seeds(sums)
            row[f"PD - {other}"] = f"{found.signed} {verdict(found, test)}"
            seeds.append(len(sums))
        rows.append(row | {"seeds": min(seeds)})
    return pd.DataFrame(rows)


def reasons(outcomes, cells, facts, overlap):
    """Why a claim may not hold: what follow-up runs of the grid, and its own bookkeeping, say about it.

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
        The sentence of a claim to text with numbers, for each claim that a follow-up was run for.
    """
    worlds = _spread_over_worlds(outcomes)
    return {
        "PD beats filtering by one pooled reward": _one_pooled_reward(cells, overlap),
        "PD gains from length mitigation": _length_mitigation(outcomes),
        "DMPO lies between ALL and PD": worlds,
        "Conflict hurts ALL, not PD": _kinds_of_conflict(outcomes, facts),
        "There is a best share between little and all": f"{worlds} {_more_steps(outcomes)}",
        "Proxy size, p_r, gamma and rho hardly matter": _fewer_pairs(outcomes, cells),
    }


def _spread_over_worlds(outcomes):
    main = outcomes[(outcomes["study"] == "methods") & (outcomes["conflict"] == CONFLICT)]
    by_seed = main.groupby(["method", "seed"])["win_rate"].mean()
    spread = by_seed.groupby("method").std()
    values = ", ".join(f"{method} {spread[method]:.1f}" for method in ("ALL", "DMPO", "PD"))
    return f"Worlds differ: the standard deviation of the win rate over seeds is, in points, {values}."


def _wrong_labels(cells, study, method, setting=""):
    """Percent of wrong labels in what a method was trained on, mean over seeds."""
    rows = cells[(cells["study"] == study) & (cells["method"] == method) & (cells["conflict"] == CONFLICT)]
    return 100 * rows.loc[rows["setting"].fillna("") == setting, "wrong_labels"].mean()


def _one_pooled_reward(cells, overlap):
    wrong = {method: _wrong_labels(cells, "methods", method) for method in ("ALL", "RAF", "PD")}
    return (
        "One reward trained on all labels pooled averages the aspects, much as PD does. Wrong labels: "
        f"{wrong['ALL']:.0f} % of all pairs, {wrong['RAF']:.1f} % of RAF's, {wrong['PD']:.1f} % of PD's; on "
        "the world of the figure, the two share "
        f"{100 * overlap.loc['RAF', 'PD']:.0f} % of the pairs that either keeps."
    )


def _length_mitigation(outcomes):
    mitigated = at("PD(classifier)", study="follow-ups", setting="tau 1")
    gain = estimate(outcomes, minus(mitigated, at("PD(classifier)")))
    return (
        "Implicit rewards have no taste for length to mitigate (notebook 08). Classifiers have: balancing their pairs by "
        f"length (tau 1) changes PD(classifier)'s win rate by {gain.signed} points."
    )


def _kinds_of_conflict(outcomes, facts):
    """Is it conflict that does no harm, or the way it is made?"""
    share = facts.groupby(["conflict_level", "aspect"])["conflict"].mean()[CONFLICT]
    aspect = share.idxmax()
    aspect_name = aspect.replace("_", " ")
    low, high = (estimate(outcomes, [(1.0, at("ALL", level))], metric=aspect) for level in (LOW_CONFLICT, CONFLICT))
    by_noise = {}
    for method in ("ALL", "PD"):
        noisy = at(method, LOW_CONFLICT, study="follow-ups", setting="noise")
        by_noise[method] = estimate(outcomes, minus(noisy, at(method, LOW_CONFLICT))).signed
    return (
        f"A label that contradicts the overall rating need not be wrong. {100 * share[aspect]:.0f} % of the labels on "
        f"{aspect_name} do, more than of any other aspect; leaving such pairs out to reach a low level leaves out what "
        f"teaches {aspect_name}: ALL's gold score on it is {low.value:.2f} at {100 * LOW_CONFLICT:.0f} % and "
        f"{high.value:.2f} at {100 * CONFLICT:.0f} %. With conflict by noise instead, "
        f"{FRACTIONS.get(FLIPPED, f'{100 * FLIPPED:g} %')} of the {100 * LOW_CONFLICT:.0f} % world's labels turned around "
        f"at random, the win rate changes by {by_noise['ALL']} points for ALL and {by_noise['PD']} for PD."
    )


def _more_steps(outcomes):
    change = {
        method: estimate(outcomes, minus(at(method, study="equal steps"), at(method))).signed
        for method in ("PD", "RAND")
    }
    return (
        f"Steps count beside pairs: with as many as ALL takes, the win rate at a share of {100 * SHARE:.0f} % changes by "
        f"{change['PD']} points for PD and {change['RAND']} for RAND."
    )


def _fewer_pairs(outcomes, cells):
    parts = []
    for setting in ("p_r 0.25", "p_r 0.5"):
        longer = f"{setting}, as many steps"
        change = estimate(outcomes, minus(at("PD", study="follow-ups", setting=longer), at("PD")))
        parts.append(
            f"{setting}: {_wrong_labels(cells, 'sensitivity', 'PD', setting):.0f} % wrong labels kept, "
            f"{_wrong_labels(cells, 'follow-ups', 'PD', longer):.0f} % when the proxies make as many steps as on all pairs, "
            f"and then {change.signed} points"
        )
    return (
        f"Proxies on a part of an aspect's pairs take fewer steps, and see less. {'; '.join(parts)}. The usual proxies keep "
        f"{_wrong_labels(cells, 'methods', 'PD'):.0f} % wrong labels."
    )


def harder(outcomes):
    """What becomes of PD's policies when they are trained for more steps, by aspect, as a sentence."""
    scores = {}
    for study in ("methods", "equal steps", "sizes"):
        values = {
            aspect: estimate(outcomes, [(1.0, at("PD", study=study))], metric=aspect).value
            for aspect in ("truthfulness", "honesty", "helpfulness")
        }
        scores[study] = ", ".join(f"{aspect} {value:.2f}" for aspect, value in values.items())
    return (
        f"PD reaches {scores['methods']} after one pass over {spaced(PAIRS)} pairs; {scores['equal steps']} with as many "
        f"steps as ALL takes; {scores['sizes']} on {spaced(LARGE_PAIRS)} pairs."
    )
