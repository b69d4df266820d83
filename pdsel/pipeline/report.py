"""Tables from result files, the paper's numbers beside ours, and the generated blocks of README.

`python -m pdsel.pipeline.report README.md results/mini results/toy` rewrites the blocks between `<!-- begin:NAME -->` and
`<!-- end:NAME -->`.
"""

import json
import re
import sys
from pathlib import Path

import pandas as pd

from pdsel.artifacts import load_table, read_manifest, slug, writing
from pdsel.evaluation import measure, paired_difference, scored, winning_scores
from pdsel.experiments.claims import verdict
from pdsel.experiments.grid_tables import is_grid, load_families, load_grid

ORDER = ["SFT", "OVA", "AVG", "ALL", "DMPO", "RAND", "RAF", "PD(rati.)", "PD", "PD(high)"]
ASPECTS = ["instruction_following", "honesty", "truthfulness", "helpfulness"]
OUTCOMES = ["method", "prompt_id", "seed", "conflict", "preference", *ASPECTS, "utility", "characters", "tokens"]
NEEDS_PROXIES = {"DMPO": "aspects", "PD": "aspects", "PD(high)": "aspects", "RAF": "pooled"}
PUBLISHED = pd.DataFrame(  # Llama-3.1-8B, UltraFeedback, 30 %; from a public summary of the paper
    {
        "WR": [7.08, 14.35, 16.63, 15.18, 19.42, 14.72, 19.64, 18.85, 21.00],
        "LC": [14.00, 19.96, 22.21, 21.14, 24.73, 19.56, 23.34, 25.38, 26.11],
        "AW": [0.64, 1.00, 1.15, 1.08, 1.25, 1.02, 1.18, 1.23, 1.24],
        "GPU hours": [0.0, 33.6, 33.6, 33.6, 42.1, 10.1, 16.2, 10.1, 18.6],
    },
    index=pd.Index(ORDER[:-1], name="method"),
)


def cells(results):
    """The folders of a results folder's runs, one per conflict level and seed."""
    found = [path.parent for path in Path(results).glob("*/outcomes.parquet")]
    return sorted(
        cell for cell in found if Path(cell, "manifests", "05_evaluation.json").exists()
    )  # the league has none


def load_outcomes(results, file="outcomes.parquet"):
    """The outcomes of all runs, with `conflict` and `seed` from their manifests; `families.parquet` holds those for AW."""
    if is_grid(results):
        return load_families(results) if file == "families.parquet" else load_grid(results, "methods")[OUTCOMES]
    frames = []
    for cell in cells(results):
        parameters = read_manifest("05_evaluation", cell)["parameters"]
        found = {"seed": parameters["seed"], "fell": parameters["conflict"] is None}
        conflict = _conflict_found(cell) if found["fell"] else parameters["conflict"]
        frames.append(load_table(cell / file).assign(conflict=conflict, **found))
    if not frames:
        raise FileNotFoundError(f"{results} holds no outcomes.parquet: run the pipeline first (make run)")
    table = pd.concat(frames, ignore_index=True)
    if table["fell"].any():  # a level left as it fell is one level for all seeds: the mean of what was found
        table.loc[table["fell"], "conflict"] = round(table.loc[table["fell"], "conflict"].mean(), 3)
    return table.drop(columns="fell")


def _conflict_found(cell):
    facts = read_manifest("01_data", cell)["facts"]
    return facts["conflicting"] / facts["n_pairs"]


def load_costs(results):
    """Seconds of training and of selection (proxies and their scoring) per method, mean over runs."""
    if is_grid(results):
        table = load_table(Path(results, "cells.csv")).query("study == 'methods'")
        found = table.groupby("method")[["training_seconds", "selection_seconds"]].mean()
        return pd.concat([found, pd.DataFrame(0.0, index=["SFT"], columns=found.columns)])
    rows = []
    for cell in cells(results):
        proxies = read_manifest("02_proxies", cell)["facts"]
        for method in load_table(cell / "outcomes.parquet")["method"].unique():
            trained = (
                0.0 if method == "SFT" else read_manifest(f"04_dpo-{slug(method)}", cell)["facts"]["training_seconds"]
            )
            kind = NEEDS_PROXIES.get(method)
            selected = proxies[f"{kind}_seconds"] if kind else 0.0
            rows.append((method, trained, selected))
    table = pd.DataFrame(rows, columns=["method", "training_seconds", "selection_seconds"])
    return table.groupby("method").mean()


def main_table(outcomes, families=None):
    """Table 1: a row per conflict level, method and metric, with intervals over prompts and, where there are several, seeds.

    Parameters
    ----------
    outcomes, families : pandas.DataFrame
        See `load_outcomes`; without `families` there is no winning score.
    """
    tables = []
    for conflict, group in outcomes.groupby("conflict"):
        parts = [measure(group.drop(columns="conflict"))]
        if families is not None and len(families):
            scores = winning_scores(families[families["conflict"] == conflict])
            parts.append(scores[scores["dataset"] == "mean"].drop(columns="dataset"))
        tables.append(pd.concat(parts).assign(conflict=conflict, seeds=group["seed"].nunique()))
    table = pd.concat(tables)
    table["method"] = pd.Categorical(table["method"], _ordered(table["method"]))
    return table.sort_values(["conflict", "method", "metric"], ignore_index=True)


def _ordered(methods):
    present = list(dict.fromkeys(methods))
    return [name for name in ORDER if name in present] + [name for name in present if name not in ORDER]


def main_rows(table, costs, conflict):
    """Table 1 of one conflict level as text, ready for `markdown`; the published numbers in the last column."""
    rows = []
    for method, group in table[table["conflict"] == conflict].groupby("method", observed=True):
        found = group.set_index("metric")
        paper = PUBLISHED.loc[method] if method in PUBLISHED.index else None
        rows.append(
            {
                "method": method,
                "gold utility": interval(found.loc["utility"], ".3f") if "utility" in found.index else "unknown",
                "win rate vs SFT (%)": interval(found.loc["win_rate"], ".1f"),
                "length-controlled (%)": interval(found.loc["length_controlled_win_rate"], ".1f"),
                "winning score vs OVA": interval(found.loc["winning_score"], ".2f")
                if "winning_score" in found.index
                else "",
                "length (characters)": f"{found.loc['characters', 'value']:.0f}",
                "training (s)": f"{costs.loc[method, 'training_seconds']:.0f}",
                "selection (s)": f"{costs.loc[method, 'selection_seconds']:.0f}",
                "paper: WR, LC (%), AW": ""
                if paper is None
                else f"{paper['WR']:.2f}, {paper['LC']:.2f}, {paper['AW']:.2f}",
            }
        )
    return pd.DataFrame(rows)


def interval(row, style):
    """An estimate with its interval as text: `0.5 [0.4, 0.6]`."""
    return f"{row['value']:{style}} [{row['low']:{style}}, {row['high']:{style}}]"


def markdown(rows):
    """A frame of text as a Markdown table.

    >>> print(markdown(pd.DataFrame({"a": ["1"], "b": ["2"]})))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def aspect_rows(table, conflict):
    """The mean gold score of each method's outputs on every aspect at one conflict level, as text; empty for other judges."""
    names = [name for name in ASPECTS if name in set(table["metric"])]
    found = table[(table["conflict"] == conflict) & table["metric"].isin(names)]
    text = found.assign(text=[interval(row, ".3f") for _, row in found.iterrows()])
    wide = text.pivot(index="method", columns="metric", values="text").reindex(columns=names)
    return wide.rename(columns=lambda name: name.replace("_", " ")).rename_axis(columns=None).reset_index()


FINDINGS = [  # a claim, the two methods whose difference it is about, and its test
    ("PD above RAND at the same budget", "PD", "RAND", "above"),
    ("PD above RAF at the same budget", "PD", "RAF", "above"),
    ("PD at least at PD(rati.), its oracle", "PD", "PD(rati.)", "at least"),
    ("PD(high) below SFT", "SFT", "PD(high)", "above"),
    ("PD with a share of the data at least at ALL", "PD", "ALL", "at least"),
]


def findings(outcomes, conflict):
    """The claims that one run can test, by win rate and by win rate at equal length, differences paired by prompt (and seed).

    Parameters
    ----------
    outcomes : pandas.DataFrame
        See `load_outcomes`. A claim about a method that was not run is left out.
    conflict : float

    Returns
    -------
    pandas.DataFrame
        Text, ready for `markdown`; verdicts as in `pdsel.experiments.claims`.
    """
    table = scored(outcomes[outcomes["conflict"] == conflict].drop(columns="conflict"))
    rows, methods = [], set(table["method"])
    for claim, one, other, test in FINDINGS:
        row = {"claim": claim}
        for name, metric in {"win rate": "win_rate", "at equal length": "length_controlled_win_rate"}.items():
            if {one, other} <= methods:
                found = paired_difference(table, one, other, metric=metric)
                row[f"{name} (points)"] = f"{one} - {other}: {found.signed}"
                row[f"{name}: verdict"] = verdict(found, test)
        rows += [row] * (len(row) > 1)
    return pd.DataFrame(rows)


def null_rows(results):
    """How often constant answers win under each judge, as text; empty where no run audited its judges beside the gold one."""
    found = [load_table(cell / "nulls.csv") for cell in cells(results) if (cell / "nulls.csv").exists()]
    if not found:
        return pd.DataFrame()
    rates = found[0].assign(text=[interval(row, ".1f") for _, row in found[0].iterrows()])
    table = rates.pivot(index="null", columns="judge", values="text")
    table = table.loc[rates["null"].unique(), rates["judge"].unique()]
    return table.rename_axis("constant answer").rename(columns="{}: wins (%)".format).reset_index()


def gather_manifests(results):
    """All stage manifests of a results folder in one dictionary, for `results/<profile>/manifest.json`."""
    files = sorted([*Path(results).glob("*/manifests/*.json"), *Path(results).glob("manifests/11_*.json")])
    stages = {f"{file.parts[-3]}/{file.stem}": json.loads(file.read_text()) for file in files}
    return {"job_seconds": round(sum(stage["seconds"] for stage in stages.values()), 1), "stages": stages}


def fill_blocks(text, blocks):
    """Replace the generated blocks of a Markdown text.

    >>> fill_blocks("<!-- begin:a -->old<!-- end:a -->", {"a": "new"})
    '<!-- begin:a -->\\nnew\\n<!-- end:a -->'
    """
    for name, body in blocks.items():
        pattern = rf"(<!-- begin:{name} -->).*?(<!-- end:{name} -->)"
        text, count = re.subn(
            pattern, lambda found, body=body: f"{found[1]}\n{body}\n{found[2]}", text, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"block {name!r} occurs {count} times; it needs one begin and one end marker")
    return text


def readme_blocks(results):
    """The blocks of README that come from a results folder."""
    tables = Path(results) / "tables"
    return {path.stem: path.read_text().rstrip() for path in sorted(tables.glob("*.md"))}


def main(readme, *folders):
    """Rewrite README's generated blocks from the tables of these results folders; `toy_table1` is `table1` of `toy`."""
    text = Path(readme).read_text()
    found = {}
    for results in reversed(folders):  # the first folder that has a table wins
        tables = readme_blocks(results)
        found |= tables | {f"{Path(results).name}_{name}": text for name, text in tables.items()}
    blocks = {name: body for name, body in found.items() if f"begin:{name} " in text}
    with writing(readme) as scratch:
        scratch.write_text(fill_blocks(text, blocks))


if __name__ == "__main__":
    main(*sys.argv[1:])
