"""Every rule and every alternative loss on the same pairs, budget, seeds and judge: the cells to run, and the league table."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pdsel.artifacts import digest, load_table, save_table
from pdsel.data.store import Store
from pdsel.evaluation import apart, compare_methods, means, scored
from pdsel.experiments.grid_plan import ALL_STEPS, cell, sft_cell
from pdsel.notesworld.settings import CONFLICT, DPO, LOW_CONFLICT, SHARE
from pdsel.rules import RULES
from pdsel.rules.alternatives import ALTERNATIVES
from pdsel.rules.built import BUILT

SHARES, CONFLICTS = [0.1, SHARE, 0.5], [LOW_CONFLICT, CONFLICT]  # the league table's are SHARE and CONFLICT
# On all pairs. DPO with the likelihood of the chosen response is ALL here, and MODPO with equal weights is DMPO.
OTHERS = ["ALL", "DMPO", *[name for name in ALTERNATIVES if name not in ("DPO", "MODPO", "DPO+SFT")]]
STEPS = ALL_STEPS // 2  # of every rule and loss
FILES = ["cells.csv", "outcomes.parquet"]
USUAL = ""  # the condition of the league table
CONDITIONS = {  # what raters are like: the name of a condition, and how its cells differ from the usual ones
    USUAL: {},
    "noisy raters": {"raters": (("noise", 0.24),)},  # twice the usual error
    "raters fond of length": {"raters": (("length_bias", 0.048),)},  # four times the usual taste for a token
}


def cells(seeds, *, shares=(SHARE,), conflicts=(CONFLICT,), names=None, condition=USUAL):
    """The cells of the league: every rule at every share, and every loss on all pairs. A list as those of `grid_plan` are.

    All are trained alike: the same rate, beta and number of steps, whatever the number of pairs.

    Parameters
    ----------
    seeds, shares, conflicts : sequence
    names : iterable of str, optional
        Rules and losses; by default all.
    condition : str
        One of `CONDITIONS`.

    Returns
    -------
    list of (str, Cell)
        The condition, and the settings of a policy.

    Examples
    --------
    >>> len(cells([0])) == len(RULES) + len(BUILT) + len(OTHERS)
    True
    >>> cells([0], names=["PD"], condition="noisy raters")[0][1].raters
    (('noise', 0.24),)
    """
    names = [*RULES, *BUILT, *OTHERS] if names is None else list(names)
    asked = []
    for seed in seeds:
        for conflict in conflicts:
            for name in names:
                changes = {"max_steps": STEPS} | DPO | CONDITIONS[condition]
                if name in ALTERNATIVES:
                    changes |= {"rule": "ALL", "loss": name}
                for share in [1.0] if name in OTHERS else shares:
                    asked.append((condition, cell(name, seed=seed, conflict=conflict, share=share, **changes)))
    return asked


def save_league(results, asked, run, baseline):
    """Run the cells and write `cells.csv` and `outcomes.parquet`; arguments as for `pdsel.experiments.grid_tables.save_grid`.

    Returns
    -------
    list of path
    """
    outcomes, table, _ = run([settings for _, settings in asked])
    condition = {settings.name: condition for condition, settings in asked}
    table = table.drop(columns=["proxies", "families", "quantile", "raters"], errors="ignore")
    table = table.assign(study="league", setting=table["cell"].map(condition))
    held_out = pd.concat([outcomes, baseline]).query("dataset == 'held out'")
    kept = held_out[["cell", "prompt_id", "preference", "utility", "characters", "tokens"]].reset_index(drop=True)
    tables = dict(zip(FILES, [table, kept], strict=True))
    return [save_table(each, Path(results, name)) for name, each in tables.items()]


def is_league(results):
    """Whether a results folder holds a league."""
    return all(Path(results, name).exists() for name in FILES)


def _load(results, condition):
    """The cells of a condition, and the outcomes of all."""
    table, outcomes = (load_table(Path(results, name)) for name in FILES)
    # In a file without any other condition the column is empty, hence numbers.
    return table[table["setting"].astype(object).fillna(USUAL) == condition], outcomes


def load_league(results, *, share=SHARE, conflict=CONFLICT, condition=USUAL):
    """Outcomes prompt by prompt at one share and conflict level, SFT's for every seed, and the cells; `None` where not run.

    Parameters
    ----------
    results : str or Path
    share, conflict : float
    condition : str
        One of `CONDITIONS`.

    Returns
    -------
    (pandas.DataFrame, pandas.DataFrame) or None
    """
    if not is_league(results):
        return None
    table, outcomes = _load(results, condition)
    chosen = table[(table["conflict"] == conflict) & table["share"].isin([share, 1.0])]
    if chosen.empty:
        return None
    seeds = sorted(chosen["seed"].unique())
    sft = pd.DataFrame({"seed": seeds, "cell": [sft_cell(seed) for seed in seeds], "method": "SFT"})
    known = pd.concat([chosen[["cell", "method", "seed"]], sft], ignore_index=True)
    return known.merge(outcomes, on="cell").drop(columns="cell"), chosen


def league_grid(results):
    """The win rate of every rule and loss at every share and conflict level that was run; `None` where there is no league.

    Returns
    -------
    pandas.DataFrame
        `method, share, conflict, win_rate, low, high, seeds`, percent, in the order of the cells; a share of 1 is all pairs.
        What was not run has no row.
    """
    if not is_league(results):
        return None
    table, outcomes = _load(results, USUAL)
    judged = table[["cell", "method", "seed", "share", "conflict"]].merge(outcomes, on="cell")
    judged = judged.assign(win_rate=100 * judged["preference"])
    return means(judged, ["method", "share", "conflict"], "win_rate").rename(columns={"value": "win_rate"})


def league_orders(grid, *, share=SHARE, conflict=CONFLICT):
    """Whether the order of the rules holds at other shares and conflict levels.

    The worlds are the same at every share and level, so orders that are alike are not yet a replication on new worlds.

    Parameters
    ----------
    grid : pandas.DataFrame
        From `league_grid`.
    share, conflict : float
        The condition that the others are compared with.

    Returns
    -------
    pandas.DataFrame
        A row per condition, those of `SHARES` and `CONFLICTS` that were not run among them: `share, conflict`, `rules` (how
        many were run), `spearman` (of win rates, over the rules also run in the condition compared with; NaN for fewer than
        3), `best` ("not run" where none was), and the places of `PD` and `RAND`, from 1.

    Examples
    --------
    >>> grid = pd.DataFrame({"method": ["PD", "SeRA", "RAND"] * 2, "share": [0.3] * 3 + [0.1] * 3, "conflict": 0.3,
    ...                      "win_rate": [60.0, 50.0, 40.0, 50.0, 60.0, 40.0]})
    >>> league_orders(grid).loc[3:4, ["share", "spearman", "best", "PD"]].values.tolist()
    [[0.1, 0.5, 'SeRA', 2], [0.3, 1.0, 'PD', 1]]
    """
    rules = grid[grid["share"] < 1]
    wide = rules.pivot(index="method", columns=["conflict", "share"], values="win_rate")
    planned = [(level, part) for level in CONFLICTS for part in SHARES]
    wide = wide.reindex(columns=pd.MultiIndex.from_tuples(sorted({*wide.columns, *planned, (conflict, share)})))
    rows = []
    for (level, part), values in wide.items():
        known = values.dropna()
        both = wide.loc[known.index, [(conflict, share)]].dropna().index
        alike = known[both].corr(wide.loc[both, (conflict, share)], method="spearman") if len(both) > 2 else np.nan
        place = known.rank(ascending=False, method="min")
        rows.append(
            {
                "share": part,
                "conflict": level,
                "rules": len(known),
                "spearman": alike,
                "best": "not run" if known.empty else known.idxmax(),
            }
            | {name: place.get(name, pd.NA) for name in ("PD", "RAND")}
        )
    return pd.DataFrame(rows).astype({"PD": "Int64", "RAND": "Int64"})


def league_table(outcomes, chosen, *, against=("PD", "RAND")):
    """A row per rule or loss, best win rate first.

    Parameters
    ----------
    outcomes, chosen : pandas.DataFrame
        From `load_league`.
    against : sequence of str
        Methods that every other is compared with; those that were not run are left out, and where there is but one method
        there is nothing to compare.

    Returns
    -------
    pandas.DataFrame
        Index `method`: `win_rate, low, high` against SFT, `length_controlled, lc_low, lc_high` and `lc_blank` (why there is
        none, or ""), `utility` (gold), `wrong` (labels trained on, percent), `selection_seconds`, `training_seconds`,
        `seeds`; and for each of `against` the paired difference in points of win rate, `minus PD`, its `p PD` (Holm-corrected
        over all that are compared with PD, see `compare_methods`), and so on; NaN where the two were not run on the same seeds.
        With a single seed intervals and tests are over prompts alone.
    """
    return _table(scored(outcomes), chosen, against).join(apart(outcomes).rename("lc_blank"))


def league_rates(results, *, share=SHARE, conflict=CONFLICT):
    """`league_table` of one share and conflict level; `None` where the league was not run there."""
    found = load_league(results, share=share, conflict=conflict)
    return league_table(*found) if found else None


def stored(function, results, folder, **settings):
    """A table of the league, which takes up to half a minute: computed once, so that a stopped run goes on behind it.

    Parameters
    ----------
    function : callable
        `function(results, **settings)` returns a frame.
    results, folder : str or Path
        The league's tables, and where what is computed of them is kept (see `pdsel.data.store`).
    """
    league = {name: digest(Path(results, name)) for name in FILES}
    compute = partial(function, results, **settings)
    return Store(folder, code=(function,)).computed(function.__name__, {"league": league} | settings, compute)


def league_means(results, *, against=("PD", "RAND")):
    """The same of the mean over all conditions that were run, for rules and losses run in each of them.

    Shares of one world are no independent runs: a world's win rates are averaged first, intervals are over worlds and prompts.

    Returns
    -------
    pandas.DataFrame or None
        As `league_table`; `None` where there is no league.
    """
    if not is_league(results):
        return None
    table, _ = _load(results, USUAL)
    conditions = table.loc[table["share"] < 1, ["share", "conflict"]].drop_duplicates()
    parts = [load_league(results, share=share, conflict=level) for share, level in conditions.itertuples(index=False)]
    everywhere = set.intersection(*(set(chosen["method"]) for _, chosen in parts)) | {"SFT"}
    shown = [outcomes[outcomes["method"].isin(everywhere)] for outcomes, _ in parts]
    prompts = pd.concat([scored(outcomes) for outcomes in shown]).groupby(
        ["method", "seed", "prompt_id"], as_index=False
    )
    # A method without a length-controlled win rate in one condition has no mean of it over all.
    mean = prompts[["win_rate", "length_controlled_win_rate", "utility"]].mean(skipna=False)
    blanks = pd.DataFrame([apart(outcomes) != "" for outcomes in shown]).sum()
    why = {method: f"lengths apart in {count} of {len(parts)}" for method, count in blanks[blanks > 0].items()}
    found = _table(mean, pd.concat([chosen for _, chosen in parts]), against)
    return found.assign(lc_blank=found.index.map(lambda method: why.get(method, "")))


def _table(prompts, chosen, against):
    trained = prompts[prompts["method"] != "SFT"]
    plain = means(trained, ["method"], "win_rate").set_index("method").rename(columns={"value": "win_rate"})
    level = means(trained, ["method"], "length_controlled_win_rate").set_index("method")
    level = level.rename(columns={"value": "length_controlled", "low": "lc_low", "high": "lc_high"}).drop(
        columns="seeds"
    )
    facts = chosen.groupby("method")[["wrong_labels", "selection_seconds", "training_seconds"]].mean()
    facts = facts.assign(wrong=100 * facts.pop("wrong_labels"), utility=trained.groupby("method")["utility"].mean())
    table = plain.join(level).join(facts)
    for name in (name for name in against if name in table.index):
        seeds = trained.groupby("method")["seed"].agg(lambda column: frozenset(column))
        comparable = trained[trained["method"].isin(seeds.index[seeds == seeds[name]])]
        if comparable["method"].nunique() < 2:
            continue
        found = compare_methods(comparable, metric="win_rate", reference=name).set_index("other")
        table[f"minus {name}"], table[f"p {name}"] = -found["difference"], found["p_holm"]
    return table.sort_values("win_rate", ascending=False)
