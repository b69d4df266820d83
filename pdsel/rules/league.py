"""Every rule and every alternative loss on the same pairs, budget, seeds and judge: the cells to run, and the league table."""

from pathlib import Path

import pandas as pd

from pdsel.artifacts import load_table, save_table
from pdsel.evaluation import compare_methods, scored
from pdsel.gridtables import means
from pdsel.rules import RULES, needs
from pdsel.rules.alternatives import ALTERNATIVES
from pdsel.rules.built import BUILT

SHARES, CONFLICTS = [0.1, 0.3, 0.5], [0.1, 0.3]
SHARE, CONFLICT = 0.3, 0.3  # of the league table
OTHERS = ["ALL", *[name for name in ALTERNATIVES if name != "DPO"]]  # on all pairs; plain DPO on them is ALL
FILES = ["cells.csv", "outcomes.parquet"]
LABELS = {"pairs", "words", "features", "tokens", "reference_logps", "unprompted_nll", "sample_logps", "probe_logps",
          "policy_logps", "held_out_losses", "pooled", "pooled_rewards", "sample_rewards", "samples"}  # fmt: skip
UNTRAINED = {"pairs", "words", "features", "tokens", "reference_logps", "unprompted_nll"}
ASPECTS = LABELS | {"margins", "sample_opinions"}
SITUATIONS = {  # what one has: the signals it allows, whether raters' gaps are there, and what to rank by
    "pairs with one label, nothing to train": (UNTRAINED, False, "win_rate"),
    "pairs with one label": (LABELS, False, "win_rate"),
    "a reward model at hand": (UNTRAINED | {"pooled", "pooled_rewards"}, False, "win_rate"),
    "one aspect rated per pair": (ASPECTS, False, "win_rate"),
    "every aspect rated": (ASPECTS, True, "win_rate"),
    "noisy labels: fewest wrong ones kept": (ASPECTS, False, "right"),
    "raters who like length: at equal length": (ASPECTS, False, "length_controlled"),
}


def cells(seeds, *, shares=(SHARE,), conflicts=(CONFLICT,), names=None):
    """The cells of the league, as the lists of `pdsel.plan` are: every rule at every share, every loss on all pairs.

    A method of the grid has the grid's very cell, so what is computed there is not computed again.

    >>> len(cells([0])) == len(RULES) + len(BUILT) + len(OTHERS)
    True
    """
    from pdsel.grid import METHODS, cell

    names = [*RULES, *BUILT, *OTHERS] if names is None else list(names)
    found = []
    for seed in seeds:
        for conflict in conflicts:
            for name in names:
                for share in shares if name not in OTHERS else [1.0]:
                    grid = (
                        {"families": share in (SHARE, 1.0)} if name in METHODS else {}
                    )  # as `pdsel.plan` asks for them
                    loss = {"rule": "ALL", "loss": name} if name in ALTERNATIVES else {}
                    found.append(("", cell(name, seed=seed, conflict=conflict, share=share, **loss, **grid)))
    return found


def save_league(results, asked, run, baseline):
    """Run the cells and write `cells.csv` and `outcomes.parquet`; arguments as for `pdsel.gridtables.save_grid`.

    Returns
    -------
    list of path
    """
    outcomes, table, _ = run([settings for _, settings in asked])
    table = table.drop(columns=["proxies", "families", "quantile"], errors="ignore").assign(study="league", setting="")
    held_out = pd.concat([outcomes, baseline.assign(cell="SFT")]).query("dataset == 'held out'")
    kept = held_out[["cell", "prompt_id", "preference", "utility", "characters", "tokens"]].reset_index(drop=True)
    tables = dict(zip(FILES, [table, kept], strict=True))
    return [save_table(each, Path(results, name)) for name, each in tables.items()]


def load_league(results, *, share=SHARE, conflict=CONFLICT):
    """Outcomes prompt by prompt at one share and conflict level, SFT's for every seed, and the cells; `None` where not run.

    Returns
    -------
    (pandas.DataFrame, pandas.DataFrame) or None
    """
    paths = [Path(results, name) for name in FILES]
    if not all(path.exists() for path in paths):
        return None
    table, outcomes = map(load_table, paths)
    chosen = table[(table["conflict"] == conflict) & table["share"].isin([share, 1.0])]
    sft = pd.DataFrame({"seed": sorted(chosen["seed"].unique()), "cell": "SFT", "method": "SFT"})
    known = pd.concat([chosen[["cell", "method", "seed"]], sft], ignore_index=True)
    return known.merge(outcomes, on="cell").drop(columns="cell"), chosen


def league_table(outcomes, chosen, *, against=("PD", "RAND")):
    """A row per rule or loss, best win rate first.

    Parameters
    ----------
    outcomes, chosen : pandas.DataFrame
        From `load_league`.
    against : sequence of str
        Methods that every other is compared with.

    Returns
    -------
    pandas.DataFrame
        Index `method`: `win_rate, low, high` against SFT, `length_controlled, lc_low, lc_high`, `utility` (gold), `wrong`
        (labels trained on, percent), `selection_seconds`, `training_seconds`, `seeds`; and for each of `against` the
        paired difference in points of win rate, `minus PD`, its `p PD` (Holm-corrected), and so on.
    """
    prompts = scored(outcomes)
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
        found = compare_methods(trained, metric="win_rate", reference=name).set_index("other")
        table[f"minus {name}"], table[f"p {name}"] = -found["difference"], found["p_holm"]
    return table.sort_values("win_rate", ascending=False)


def league_rows(table):
    """The league as text, for the documents: intervals in brackets, * where a corrected p is below .05."""

    def interval(value, low, high):
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"

    rows = []
    for name, row in table.iterrows():
        text = {"rule": name, "source": source(name), "win rate": interval(row["win_rate"], row["low"], row["high"]),
                "at equal length": interval(row["length_controlled"], row["lc_low"], row["lc_high"]),
                "utility": f"{row['utility']:.3f}", "wrong labels (%)": f"{row['wrong']:.1f}",
                "selection (s)": f"{row['selection_seconds']:.0f}"}  # fmt: skip
        for other in (column[6:] for column in table if column.startswith("minus ")):
            star = "*" if row[f"p {other}"] < 0.05 else ""
            text[f"- {other}"] = "" if name == other else f"{row[f'minus {other}']:+.1f}{star}"
        rows.append(text)
    return pd.DataFrame(rows)


def source(name):
    """Where a rule or loss comes from; "" for the paper's own reference methods."""
    return next((table[name].source for table in (RULES, BUILT, ALTERNATIVES) if name in table), "")


def recommend(table, *, top=3):
    """Which rule when: for every situation the best rules of the league that one could use there.

    Alternatives to the loss are no rules and are left out. Differences within a row may be chance: see the intervals.

    Returns
    -------
    pandas.DataFrame
        `situation, first, ...`: names with the value they are ranked by.
    """
    ranked, rows = table.assign(right=-table["wrong"]), []
    for situation, (allowed, rated, by) in SITUATIONS.items():
        usable = [name for name, rule in {**RULES, **BUILT}.items() if name in table.index
                  and set(needs(rule.score)) <= allowed and (rated or name != "PD(rati.)")]  # fmt: skip
        best = ranked.loc[usable, by].sort_values(ascending=False).head(top)
        rows.append({"situation": situation} | {f"{place + 1}.": f"{name} ({abs(value):.1f})"
                                                for place, (name, value) in enumerate(best.items())})  # fmt: skip
    return pd.DataFrame(rows)
