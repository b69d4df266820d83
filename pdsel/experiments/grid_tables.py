"""The grid's results as files and tables: what notebook 11 writes, and 06 and the claims read."""

import json
from pathlib import Path

import pandas as pd

from pdsel.artifacts import load_table, save_table
from pdsel.evaluation import apart, blank, interval, means, scored
from pdsel.experiments.grid_plan import sft_cell
from pdsel.experiments.published import LC_BY_CONFLICT

SETTINGS = ["method", "seed", "conflict", "share", "n_pairs", "max_steps", "steps"]


def is_grid(results):
    """Whether a results folder holds a grid (`cells.csv`) rather than runs of the notebooks."""
    return Path(results, "cells.csv").exists()


def save_grid(results, studies, run, baseline, against_ova):
    """Run the studies and write their tables.

    Parameters
    ----------
    results : str or Path
    studies : dict
        Name to a list of (setting, `Cell`), see `pdsel.experiments.grid_plan`.
    run : callable
        `run(cells)`, see `pdsel.experiments.grid.run_policies`.
    baseline : pandas.DataFrame
        SFT's outcomes, as those of a cell for each seed, see `pdsel.experiments.grid.baseline_outcomes`.
    against_ova : callable
        `against_ova(outcomes, cells)`: preferences on the families against OVA's outputs of the same seed and conflict.

    Returns
    -------
    list of path
    """
    asked = [(study, setting, cell) for study, cells in studies.items() for setting, cell in cells]
    distinct = {cell.name: cell for _, _, cell in asked}
    outcomes, records, kept = run(list(distinct.values()))
    records = records.set_index("cell", drop=False)
    table = pd.DataFrame(
        [{"study": study, "setting": setting} | records.loc[cell.name].to_dict() for study, setting, cell in asked]
    )
    table["proxies"] = [_as_text(settings) for settings in table["proxies"]]
    held_out = outcomes[outcomes["dataset"] == "held out"].drop(columns=["dataset", "output"])
    base = baseline.drop(columns=["dataset", "output"])
    tables = {
        "cells.csv": table.drop(columns=["families", "raters"], errors="ignore"),
        "outcomes.parquet": pd.concat([held_out, base], ignore_index=True),
        "families.parquet": against_ova(outcomes, table[table["study"] == "methods"]),
        "kept.parquet": _kept_sets(table, kept),
    }
    return [save_table(table, Path(results, name)) for name, table in tables.items()]


def _as_text(proxies):
    return json.dumps(proxies, sort_keys=True) if isinstance(proxies, dict) else ""


def _kept_sets(table, kept):
    """The kept ids of the studies whose kept sets are compared: `cell, rank, pair_id`."""
    compared = set(table.loc[table["study"].isin(["methods", "reseeded"]), "cell"])
    parts = [
        pd.DataFrame({"cell": name, "rank": range(len(ids)), "pair_id": ids})
        for name, ids in kept.items()
        if name in compared
    ]
    return pd.concat(parts, ignore_index=True)


def load_grid(results, study=None):
    """Outcomes prompt by prompt with their cell's settings, SFT's among them for every seed and conflict level.

    Returns
    -------
    pandas.DataFrame
        `study, setting, cell`, the columns of `SETTINGS`, `prompt_id, preference, win_rate` (percent), gold aspects,
        `utility, characters, tokens`.
    """
    cells, outcomes = load_table(Path(results, "cells.csv")), load_table(Path(results, "outcomes.parquet"))
    cells["setting"] = cells["setting"].fillna("")
    if study:
        cells = cells[cells["study"] == study]
    world = cells[["study", "seed", "conflict", "n_pairs"]].drop_duplicates()
    sft = world.assign(cell=world["seed"].map(sft_cell), method="SFT", setting="", share=0.0, max_steps=0, steps=0)
    known = pd.concat([cells[["study", "setting", "cell", *SETTINGS]], sft], ignore_index=True)
    found = known.merge(outcomes, on="cell")
    return found.assign(win_rate=100 * found["preference"])


def load_families(results):
    """Preferences against OVA on the five families of prompts, of the study of methods."""
    cells = load_table(Path(results, "cells.csv"))
    known = cells.loc[cells["study"] == "methods", ["cell", "method", "seed", "conflict"]]
    table = load_table(Path(results, "families.parquet"))
    sft = table[table["cell"] == "SFT"].drop(columns="cell").assign(method="SFT")
    return pd.concat(
        [known.merge(table.drop(columns=["seed", "conflict"]), on="cell").drop(columns="cell"), sft], ignore_index=True
    )


def kept_overlap(results, *, seed, conflict):
    """Jaccard similarity of what the rules keep on one world, and of what PD keeps with proxies of other seeds.

    Returns
    -------
    pandas.DataFrame
        Square, in [0, 1]; rules in the order of the study, then the reseeded ones.
    """
    cells = load_table(Path(results, "cells.csv"))
    where = (cells["seed"] == seed) & (cells["conflict"] == conflict) & cells["study"].isin(["methods", "reseeded"])
    kept = load_table(Path(results, "kept.parquet")).groupby("cell")["pair_id"].agg(set)
    sets = {
        row["method"] if row["study"] == "methods" else row["setting"]: kept[row["cell"]]
        for _, row in cells[where].iterrows()
        if row["cell"] in kept.index
    }
    table = {a: {b: len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for b in sets} for a in sets}
    return pd.DataFrame(table).loc[list(sets), list(sets)]


def rates_by_conflict(runs):
    """Table 2 as numbers: every method's win rate at every conflict level, and the one at equal length where lengths overlap.

    Parameters
    ----------
    runs : pandas.DataFrame
        The study of methods, see `load_grid`.

    Returns
    -------
    pandas.DataFrame
        `method, conflict, metric, value, low, high, seeds`, and `blank`: why there is no number, or "".
    """
    tables = []
    for conflict, rows in runs.drop(columns="win_rate").groupby("conflict"):
        prompts = scored(rows.drop(columns="conflict"))
        trained = prompts[prompts["method"] != "SFT"]
        for metric in ("win_rate", "length_controlled_win_rate"):
            found = means(trained, ["method"], metric)
            why = found["method"].map(apart(rows)).where(found["value"].isna(), "")
            tables.append(found.assign(conflict=conflict, metric=metric, blank=why))
    columns = ["method", "conflict", "metric", "value", "low", "high", "seeds", "blank"]
    return pd.concat(tables, ignore_index=True)[columns]


def conflict_rows(rates):
    """Table 2 as text: win rate, LC (the win rate at equal length) and the paper's LC, for every method and conflict level.

    The paper's number of a level stands in the column of that level; a method that was not run at a level has a dash there.

    Parameters
    ----------
    rates : pandas.DataFrame
        See `rates_by_conflict`.
    """
    rows = []
    for method, of_method in rates.groupby("method", sort=False):
        row = {"method": method}
        for conflict, found in of_method.groupby("conflict"):
            texts = {each["metric"]: _rate(each) for each in found.to_dict("records")}
            text = f"{texts['win_rate']}; LC {texts['length_controlled_win_rate']}"
            if method in LC_BY_CONFLICT.index and conflict in LC_BY_CONFLICT:
                text += f"; paper: LC {LC_BY_CONFLICT.loc[method, conflict]:.2f}"
            row[f"{100 * conflict:.0f} %"] = text
        rows.append(row)
    return pd.DataFrame(rows).fillna("–")


def _rate(row):
    return blank(row["blank"]) if row["blank"] else interval(row["value"], row["low"], row["high"])
