"""The paper's claims, each with its test on the grid: an estimate with an interval, a verdict, and why it may not hold.

A policy of the grid is addressed by the values of its columns, see `at`. A claim has parts; each part is a `Contrast`, a
weighted sum of policies' metrics that is put to one test. All policies of a contrast share their seeds and prompts.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pdsel.checks import DataError
from pdsel.evaluation import interval, mean_over_prompts_and_seeds
from pdsel.experiments.grid_plan import BALANCES, BUDGETS, flips_for, spaced
from pdsel.experiments.verdicts import NOT_RUN, TESTS, joint_verdict, simultaneous, verdict_over_seeds
from pdsel.notesworld.settings import BALANCE, CONFLICT, LARGE_PAIRS, LOW_CONFLICT, SHARE

DRAW = 50  # the win rate of SFT against itself, percent
FEWEST = 0.1  # the smallest share in the study of shares
CHOSEN = "chosen share"  # the study that `with_chosen_share` adds
ONE_PASS, AS_ALL = BUDGETS  # of steps, in the study of shares


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
        See `pdsel.experiments.verdicts`.
    constant : float
        Added to the sum.
    """

    name: str
    terms: list
    test: str = "above"
    constant: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, the contrasts that must all pass their tests for it to hold, and the conflict level, as text."""

    sentence: str
    parts: list
    conflict: str


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
    found = [_of_policy(outcomes, where) for _, where in terms]
    seeds = set.intersection(*(set(rows["seed"]) for rows in found))
    if not seeds:
        raise DataError(
            f"outcomes: {[where for _, where in terms]} have no seed in common. Remedy: train them with the same seeds"
        )
    total = 0.0
    for (weight, _), rows in zip(terms, found, strict=True):
        rows = rows[rows["seed"].isin(seeds)]  # before the pivot: every seed has prompts of its own
        total = total + weight * rows.pivot(index="seed", columns="prompt_id", values=metric)
    return total


def _find(outcomes, where):
    """Which rows are of a policy, as an array of booleans."""
    found = np.ones(len(outcomes), dtype=bool)
    for column, value in where.items():
        found &= (outcomes[column] == value).to_numpy()
    return found


def _of_policy(outcomes, where):
    """The rows of one policy."""
    outcomes = outcomes[_find(outcomes, where)]
    if outcomes.empty:
        raise DataError(f"outcomes: {where} finds no policy. Remedy: train it, or name one that was trained")
    if outcomes.duplicated(["seed", "prompt_id"]).any():
        raise DataError(f"outcomes: {where} finds several policies of one seed. Remedy: name more of its columns")
    return outcomes


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
    return _estimated(outcomes, terms, metric, constant)[0]


def paper_claims(conflict=CONFLICT):
    """The ten claims of the paper at one conflict level; the one across levels is the same whatever the level.

    The paper's "10 % relative" is of AlpacaEval's win rates at 20 to 26 %, against a far stronger baseline. A win rate against
    SFT starts at 50, so here it is a tenth of what a method gains over that draw: the two scales cannot be compared.

    Parameters
    ----------
    conflict : float

    Returns
    -------
    list of Claim
    """
    low, high, fewest = (f"{100 * part:.0f} %" for part in (LOW_CONFLICT, CONFLICT, FEWEST))
    here = f"{100 * conflict:g} %"

    def policy(method, **more):
        return at(method, conflict, **more)

    def changed(name, setting):
        """PD with one setting changed is the same as PD."""
        other = policy("PD", study="sensitivity", setting=setting)
        return Contrast(name, minus(other, policy("PD")), test="same")

    def ahead(method):
        """PD's excess over a draw is more than a tenth larger than a method's."""
        terms = minus(policy("PD"), policy(method), factor=1.1)
        return Contrast(f"(PD - {DRAW}) - 1.1 ({method} - {DRAW})", terms, constant=0.1 * DRAW)

    def kept(method, **more):
        """A method of the study of shares, whose steps follow the pairs."""
        return policy(method, study="shares", setting=ONE_PASS, **more)

    chosen = policy("PD", study=CHOSEN)
    return [
        Claim(
            "PD beats a random share of the same size",
            [Contrast("PD - RAND", minus(policy("PD"), policy("RAND")))],
            here,
        ),
        Claim(
            "PD beats filtering by one pooled reward",
            [Contrast("PD - RAF", minus(policy("PD"), policy("RAF")))],
            here,
        ),
        Claim(
            f"PD's {100 * SHARE:.0f} % of the data is at least as good as all of it",
            [Contrast("PD - ALL", minus(policy("PD"), policy("ALL")), test="at least")],
            here,
        ),
        Claim(
            "PD beats relabelling everything, by 10 % of what that gains over a draw",
            [ahead("OVA"), ahead("AVG")],
            here,
        ),
        Claim(
            "The most conflicting pairs are worse than no training",
            [Contrast("SFT - PD(high)", [(-1.0, policy("PD(high)"))], constant=DRAW)],
            here,
        ),
        Claim(
            "PD gains from length mitigation",
            [Contrast("PD - PD(nl)", minus(policy("PD"), policy("PD(nl)")))],
            here,
        ),
        Claim(
            "DMPO lies between ALL and PD",
            [
                Contrast("DMPO - ALL", minus(policy("DMPO"), policy("ALL"))),
                Contrast("PD - DMPO", minus(policy("PD"), policy("DMPO"))),
            ],
            here,
        ),
        Claim(
            "Conflict hurts ALL, not PD",
            [
                Contrast(f"ALL at {low} - at {high}", minus(at("ALL", LOW_CONFLICT), at("ALL"))),
                Contrast(f"PD at {high} - at {low}", minus(at("PD"), at("PD", LOW_CONFLICT)), test="at least"),
            ],
            f"{low}, {high}",
        ),
        Claim(
            "There is a best share between little and all",
            [
                Contrast(f"PD at its best - at {fewest}", minus(chosen, kept("PD", share=FEWEST))),
                Contrast("PD at its best - ALL", minus(chosen, kept("ALL"))),
            ],
            here,
        ),
        Claim(
            "Proxy size, p_r, gamma and rho hardly matter",
            [
                changed("large proxies", "large base"),
                changed("p_r 0.25", "p_r 0.25"),
                changed("p_r 0.5", "p_r 0.5"),
                changed("gamma 0.5", "gamma 0.5"),
                changed("gamma 0.75", "gamma 0.75"),
                changed("gamma 1", "gamma 1"),
                changed("rho minus", "rho 0.02 minus"),
                changed("rho plus", "rho 0.02 plus"),
            ],
            here,
        ),
    ]


def with_chosen_share(outcomes, *, metric="win_rate"):
    """Outcomes with one more study: PD at its best share, which for every seed is chosen by the other seeds.

    Every share is trained for one pass. A share that is chosen by the win rates that it is then tested on looks better than it
    is (the winner's curse). Here no seed has a say in its own share, so nothing is counted twice, and no other policy has to
    be trained. `FEWEST` and all pairs are what the best share is compared with, so they are not among the candidates.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        All studies, see `pdsel.experiments.grid_tables.load_grid`.
    metric : str

    Returns
    -------
    pandas.DataFrame
        With a single seed there is nothing to choose by, and outcomes are returned as they are.

    Examples
    --------
    >>> outcomes = pd.DataFrame({"study": "shares", "setting": "one pass", "method": "PD", "conflict": 0.3, "prompt_id": "a",
    ...                          "share": [0.3, 0.5] * 3, "seed": [0, 0, 1, 1, 2, 2], "win_rate": [9, 8, 1, 2, 1, 2]})
    >>> chosen = with_chosen_share(outcomes).query("study == 'chosen share'")  # seed 0 alone prefers .3
    >>> chosen.set_index("seed")["share"].to_dict()
    {0: 0.5, 1: 0.3, 2: 0.3}
    """
    of_pd = outcomes[_find(outcomes, {"study": "shares", "setting": ONE_PASS, "method": "PD"})]
    of_pd = of_pd[of_pd["share"] > FEWEST]
    parts = [outcomes]
    for _, candidates in of_pd.groupby("conflict"):
        means = candidates.pivot_table(index="seed", columns="share", values=metric)
        if len(means) < 2:
            continue
        for seed in means.index:
            share = means.drop(index=seed).mean().idxmax()
            here = (candidates["seed"] == seed) & (candidates["share"] == share)
            parts.append(candidates[here].assign(study=CHOSEN))
    return pd.concat(parts, ignore_index=True)


def evaluate_claims(outcomes, conflicts=(LOW_CONFLICT, CONFLICT), *, metric="win_rate"):
    """Every claim at every conflict level, part by part: its estimate, its test, and the verdicts.

    A part holds by its own 95 % interval. Where a claim has several parts it does not hold as soon as one of them fails, so
    a part fails by its simultaneous interval only. The claims are questions of their own: nothing is corrected for how many
    there are. Worlds, prompts and answers are drawn anew for every seed; the base model is the same for all, and no interval
    covers its choice.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        All studies, see `pdsel.experiments.grid_tables.load_grid`.
    conflicts : sequence of float
    metric : str

    Returns
    -------
    pandas.DataFrame
        A row per claim, conflict level and part: `claim, conflict, part, value, low, high`, `all_low, all_high` (the
        simultaneous interval), `test, trained` (share and steps of the claim's policies), `seeds, part_verdict`, and its
        joint `verdict`. Parts whose policies are not among the outcomes are "not run".
    """
    outcomes = with_chosen_share(outcomes, metric=metric)
    rows = {}
    for same_claim in zip(*(paper_claims(conflict) for conflict in conflicts), strict=True):
        for claim in same_claim:
            rows[claim.sentence, claim.conflict] = _evaluate(claim, outcomes, metric)
    return pd.concat(rows.values(), ignore_index=True)


def _evaluate(claim, outcomes, metric):
    """The rows of one claim."""
    rows = []
    were_run = [part for part in claim.parts if all(_find(outcomes, where).any() for _, where in part.terms)]
    terms = [term for part in were_run for term in part.terms]
    trained = trained_on(outcomes, terms) if terms else ""
    for part in claim.parts:
        row = {"claim": claim.sentence, "conflict": claim.conflict, "part": part.name, "test": TESTS[part.test]}
        row["trained"] = trained
        if part not in were_run:
            rows.append(row | {"seeds": 0, "part_verdict": NOT_RUN})
            continue
        found, seeds = _estimated(outcomes, part.terms, metric, part.constant)
        wider = simultaneous(found, parts=len(claim.parts), seeds=seeds)
        row |= {"value": found.value, "low": found.low, "high": found.high}
        row |= {"all_low": wider.low, "all_high": wider.high}
        said = verdict_over_seeds(found, part.test, seeds, wider)
        rows.append(row | {"seeds": seeds, "part_verdict": said})
    table = pd.DataFrame(rows)
    columns = ["claim", "conflict", "part", "value", "low", "high", "all_low", "all_high", "test", "trained", "seeds"]
    return table.reindex(columns=[*columns, "part_verdict"]).assign(verdict=joint_verdict(list(table["part_verdict"])))


def _estimated(outcomes, terms, metric, constant=0.0):
    """The estimate of a sum of policies' metrics, and how many seeds it rests on."""
    sums = constant + paired(outcomes, terms, metric=metric)
    return mean_over_prompts_and_seeds(sums), len(sums)


def trained_on(outcomes, terms):
    """What the policies of a contrast were trained on, as text: the share of the pairs and the steps, the fewest first.

    >>> outcomes = pd.DataFrame({"method": ["PD", "RAND", "ALL"], "share": [0.3, 0.3, 1.0], "steps": [23, 23, 75]})
    >>> trained_on(outcomes, [(1, {"method": name}) for name in ("PD", "RAND", "ALL")])
    'PD, RAND: 30 %, 23 steps; ALL: 100 %, 75 steps'
    """
    rows = pd.concat([outcomes[_find(outcomes, where)] for _, where in terms])
    steps = rows.groupby(["share", "method"], sort=False)["steps"].agg(["min", "max"]).astype(int).reset_index()
    same = steps.groupby(["share", "min", "max"])["method"].agg(", ".join)
    return "; ".join(f"{names}: {100 * share:.0f} %, {_span(*span)} steps" for (share, *span), names in same.items())


def _span(fewest, most):
    """Steps that may differ between seeds, where a method drops some pairs.

    >>> _span(23, 23), _span(65, 68)
    ('23', '65 to 68')
    """
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"


def claim_rows(claims):
    """The claims as text, a row per claim and conflict level.

    Parameters
    ----------
    claims : pandas.DataFrame
        See `evaluate_claims`.

    Returns
    -------
    pandas.DataFrame
        `claim, conflict, trained on, seeds` (the fewest of the parts), `estimate` (points, 95 % intervals), `test, verdict`.
        The test of several parts says by which intervals it fails.
    """
    rows = []
    for (sentence, conflict), parts in claims.groupby(["claim", "conflict"], sort=False):
        known = parts[parts["part_verdict"] != NOT_RUN]
        texts = [
            f"{row['part']}: {interval(row['value'], row['low'], row['high'], signed=True)}"
            for row in known.to_dict("records")
        ]
        test = ", ".join(dict.fromkeys(parts["test"]))
        if len(parts) > 1:
            test = f"all {test}, 95 % each; fails by one, Bonferroni over {len(parts)}"
        rows.append(
            {
                "claim": sentence,
                "conflict": conflict,
                "trained on": parts["trained"].iloc[0],
                "seeds": parts["seeds"].min(),
                "estimate": "; ".join(texts),
                "test": test,
                "verdict": parts["verdict"].iloc[0],
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
    Condition("each method as it was tuned", {"study": "methods"}),
    *(
        Condition(
            f"the same settings, {budget}",
            {"study": "shares", "setting": budget, "share": SHARE},
            where_all={"study": "shares", "setting": budget, "share": 1.0},
        )
        for budget in BUDGETS
    ),
    Condition(f"{spaced(LARGE_PAIRS)} pairs, as many steps as ALL", {"study": "sizes"}),
]


def by_condition(outcomes, others=("RAND", "RAF", "ALL"), *, conflict=CONFLICT, metric="win_rate"):
    """What PD gains over other methods under each of `CONDITIONS`, as text: estimate, 95 % interval, verdict.

    Every difference is a question of its own: nothing is corrected for how many there are.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        All studies, see `pdsel.experiments.grid_tables.load_grid`. A condition without PD's policies is left out.
    others : sequence of str
        "ALL" is tested for *at least*, the others for *above*.
    conflict : float
    metric : str

    Returns
    -------
    pandas.DataFrame
        `training`, `trained on` (share and steps), `seeds` (the fewest of the row), `PD`, and a column per other method that
        names the test.
    """
    rows = []
    for condition in CONDITIONS:
        ours = at("PD", conflict, **condition.where)
        if not _find(outcomes, ours).any():
            continue
        found, seeds = _estimated(outcomes, [(1.0, ours)], metric)
        row = {"training": condition.name, "trained on": "", "seeds": seeds, "PD": f"{found.value:.1f}"}
        policies = [(1.0, ours)]
        for other in others:
            where, test = condition.where, "above"
            if other == "ALL":
                where, test = condition.where_all or condition.where, "at least"
            theirs = at(other, conflict, **where)
            found, seeds = _estimated(outcomes, minus(ours, theirs), metric)
            row[f"PD - {other}: {TESTS[test]}"] = f"{found.signed} {verdict_over_seeds(found, test, seeds)}"
            row["seeds"] = min(row["seeds"], seeds)
            policies.append((1.0, theirs))
        rows.append(row | {"trained on": trained_on(outcomes, policies)})
    return pd.DataFrame(rows)


def follow_ups(claims, why):
    """What follow-up runs say about the claims that do not hold everywhere, as a list in Markdown.

    Parameters
    ----------
    claims : pandas.DataFrame
        See `evaluate_claims`.
    why : dict
        See `reasons`.
    """
    lines = []
    for sentence, rows in claims.groupby("claim", sort=False):
        verdicts = rows.drop_duplicates("conflict").set_index("conflict")["verdict"]
        if sentence in why and (verdicts != "holds").any():
            said = "; ".join(f"at {conflict}: {verdict}" for conflict, verdict in verdicts.items())
            lines.append(f"- *{sentence}* ({said}). {why[sentence]}")
    return "\n".join(lines)


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
    worlds, settings = _spread_over_worlds(outcomes), set(outcomes["setting"])
    said = {
        "PD beats filtering by one pooled reward": _one_pooled_reward(cells, overlap),
        "DMPO lies between ALL and PD": worlds,
        "There is a best share between little and all": f"{worlds} {_more_steps(outcomes)}",
    }
    if any(_tau(balance) in settings for balance in BALANCES):
        said["PD gains from length mitigation"] = _length_mitigation(outcomes)
    if "noise" in set(outcomes["study"]):
        said["Conflict hurts ALL, not PD"] = _kinds_of_conflict(outcomes, facts)
    if "p_r 0.25" in settings:
        said["Proxy size, p_r, gamma and rho hardly matter"] = _fewer_pairs(cells)
    return said


def _tau(balance):
    return f"tau {balance:g}"


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
    changes, ran = [], set(outcomes["setting"])
    for balance in BALANCES:
        if _tau(balance) in ran:
            other = at("PD", study="sensitivity", setting=_tau(balance))
            changes.append(f"{estimate(outcomes, minus(other, at('PD'))).signed} at tau {balance:g}")
    return (
        f"PD balances its proxies' pairs by length with tau {BALANCE:g}, PD(nl) does not. Other values change its win rate by "
        f"{', '.join(changes)} points. Notebook 08 shows how much of a taste for length the proxies have to begin with."
    )


def _kinds_of_conflict(outcomes, facts):
    """Is it conflict that does no harm, or the way it is made?"""
    share = facts.groupby(["conflict_level", "aspect"])["conflict"].mean()[CONFLICT]
    aspect = share.idxmax()
    aspect_name = aspect.replace("_", " ")
    low, high = (estimate(outcomes, [(1.0, at("ALL", level))], metric=aspect) for level in (LOW_CONFLICT, CONFLICT))
    by_noise = {}
    for method in ("ALL", "PD"):
        noisy = at(method, LOW_CONFLICT, study="noise", setting=f"noise, {100 * CONFLICT:g} %")
        by_noise[method] = estimate(outcomes, minus(noisy, at(method, LOW_CONFLICT))).signed
    return (
        f"A label that contradicts the overall rating need not be wrong. {100 * share[aspect]:.0f} % of the labels on "
        f"{aspect_name} do, more than of any other aspect; leaving such pairs out to reach a low level leaves out what "
        f"teaches {aspect_name}: ALL's gold score on it is {low.value:.2f} at {100 * LOW_CONFLICT:.0f} % and "
        f"{high.value:.2f} at {100 * CONFLICT:.0f} %. With conflict by noise instead, "
        f"{100 * flips_for(CONFLICT):g} % of the {100 * LOW_CONFLICT:.0f} % world's labels turned around "
        f"at random, the win rate changes by {by_noise['ALL']} points for ALL and {by_noise['PD']} for PD."
    )


def _more_steps(outcomes):
    change = {}
    for method in ("PD", "RAND"):
        longer, shorter = (at(method, study="shares", setting=budget, share=SHARE) for budget in (AS_ALL, ONE_PASS))
        change[method] = estimate(outcomes, minus(longer, shorter)).signed
    return (
        f"Steps count beside pairs: with as many as ALL takes, the win rate at a share of {100 * SHARE:.0f} % changes by "
        f"{change['PD']} points for PD and {change['RAND']} for RAND."
    )


def _fewer_pairs(cells):
    parts = [
        f"{setting}: {_wrong_labels(cells, 'sensitivity', 'PD', setting):.0f} % wrong labels kept"
        for setting in ("p_r 0.25", "p_r 0.5")
    ]
    return (
        f"Proxies on a part of an aspect's pairs see less. {'; '.join(parts)}. The usual proxies keep "
        f"{_wrong_labels(cells, 'methods', 'PD'):.0f} % wrong labels."
    )
