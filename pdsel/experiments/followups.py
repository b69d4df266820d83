"""Why a claim does not hold: what follow-up runs of the grid, and its own bookkeeping, say about each."""

from pdsel.experiments.claims import HIGH, LOW, contrast, of


def reasons(outcomes, cells, facts, overlap):
    """A sentence with numbers for each claim that a follow-up was run for.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        All studies, see `pdsel.experiments.grid_tables.load_grid`.
    cells : pandas.DataFrame
        `cells.csv`: a row per policy and study.
    facts : pandas.DataFrame
        See `pdsel.experiments.gridpairs.pair_facts`.
    overlap : pandas.DataFrame
        See `pdsel.experiments.grid_tables.kept_overlap`.

    Returns
    -------
    dict
        Claim (see `pdsel.experiments.claims.claims`) to text.
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
