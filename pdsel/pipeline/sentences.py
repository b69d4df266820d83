"""Numbers in prose: sentences of README and the notebooks, written from result tables."""

from pathlib import Path

from pdsel.artifacts import load_table
from pdsel.experiments.grid_tables import is_grid
from pdsel.pipeline.report import cells, interval


def headline(table, conflict):
    """The numbers to expect, as a sentence."""
    found = table[(table["conflict"] == conflict) & (table["metric"] == "win_rate")].set_index("method")
    trained_on = {
        "PD": "PD's share of the pairs",
        "RAND": "a random share of the same size",
        "PD(high)": "the most conflicting share",
        "ALL": "all pairs",
    }
    parts = [
        f"on {what} {interval(found.loc[method], '.1f')} %"
        for method, what in trained_on.items()
        if method in found.index
    ]
    return (
        f"At {100 * conflict:.0f} % conflict, win rates against SFT on held-out prompts: trained {', '.join(parts)} "
        f"(95 % intervals over prompts{' and seeds' if found['seeds'].max() > 1 else ''})."
    )


def length_note(outcomes, table, conflict, method="PD", baseline="SFT"):
    """How far a method's length-controlled win rate can be trusted, as a sentence: how often its outputs are the shorter."""
    run = outcomes[outcomes["conflict"] == conflict].pivot(
        index=["seed", "prompt_id"], columns="method", values="characters"
    )
    shorter, longer = (100 * (run[method] < run[baseline]).mean(), 100 * (run[method] > run[baseline]).mean())
    found = table[(table["conflict"] == conflict) & (table["method"] == method)].set_index("metric")
    plain, level = (interval(found.loc[name], ".1f") for name in ("win_rate", "length_controlled_win_rate"))
    return (
        f"{method}'s outputs are shorter than {baseline}'s on {shorter:.0f} % of the prompts and longer on {longer:.0f} %. "
        f"Its win rate is {plain} %, and {level} % at equal length"
        + (", which is an extrapolation: hence the wide interval." if max(shorter, longer) > 90 else ".")
    )


def null_note(results):
    """The strongest constant under each judge, as a sentence."""
    rates = load_table(next(cell / "nulls.csv" for cell in cells(results) if (cell / "nulls.csv").exists()))
    best = rates.loc[rates.groupby("judge", sort=False)["value"].idxmax()]
    parts = [f"{row['value']:.0f} % under {row['judge']} ({row['null']})" for _, row in best.iterrows()]
    return f"The strongest of these constants wins {', '.join(parts)}."


def work_done(manifests, results):
    """What the run cost, as a sentence."""
    if is_grid(results):
        return _grid_work(load_table(Path(results, "cells.csv")).drop_duplicates("cell"), manifests)
    stages = manifests["stages"].values()
    steps = sum(stage["facts"].get("steps", 0) for stage in stages)
    where = next(iter(stages))["environment"]
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("torch", "transformers", "trl"))
    devices = ", ".join(sorted({stage["environment"]["device"] for stage in stages}))
    return (
        f"The run's {len(stages)} stages did {manifests['job_seconds'] / 60:.1f} minutes of work in all ({steps} steps of DPO) "
        f"on {devices}, {where['threads']} thread a job; Python {where['python']}, {versions}."
    )


def _grid_work(policies, manifests):
    shared = policies.drop_duplicates(
        ["seed", "conflict", "n_pairs", "proxies", "selection_seconds"]
    )  # proxies of many rules
    hours = {
        name: table[f"{name}_seconds"].sum() / 3600
        for name, table in {"training": policies, "selection": shared}.items()
    }
    versions = next(iter(manifests["stages"].values()))["environment"]["versions"]
    return (
        f"The grid is {len(policies)} policies and {policies['steps'].sum():,} steps of DPO: {hours['training']:.1f} hours of "
        f"training and {hours['selection']:.1f} of proxies, one thread each, "
        f"not counting worlds, outputs and judging. torch {versions['torch']}, transformers {versions['transformers']}, "
        f"trl {versions['trl']}."
    )
