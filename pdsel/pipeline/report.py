"""Which tables and blocks README and the book have: the results of a folder's runs as frames, and the generated parts.

`python -m pdsel.pipeline readme` rewrites the blocks between `<!-- begin:NAME -->` and `<!-- end:NAME -->` in README and in
the pages of `docs`.
"""

import json
import re
from pathlib import Path

import pandas as pd

from pdsel.artifacts import load_table, read_manifest, save_text, slug
from pdsel.evaluation import apart, blank, measure, paired_difference, scored, winning_scores
from pdsel.experiments.grid_tables import is_grid, load_families, load_grid
from pdsel.experiments.published import published_at
from pdsel.experiments.study_tables import over_seeds
from pdsel.experiments.verdicts import TESTS, verdict, verdict_over_seeds
from pdsel.pipeline.text import (
    ASPECTS,
    ORDER,
    found_lines,
    markdown,
    notebook_rows,
    short_rows,
    time_of_run,
    work_of_grid,
    work_of_runs,
)

OUTCOMES = ["method", "prompt_id", "seed", "conflict", "preference", *ASPECTS, "utility", "characters", "tokens"]
NEEDS_PROXIES = {"DMPO": "aspects", "PD": "aspects", "PD(high)": "aspects", "RAF": "pooled"}
SHOWN = ("results/mini", "results/toy")  # the folders whose tables README and the book show
COUNTED = ("results/ordeal", "results/mutants")  # what tests of tests found, of one table each
LARGE = ("small", "paper", "paper-helpsteer")  # the profiles whose costs the book shows
MISSING = "*Not among the committed results.*"
# Figures that a grid may lack, each with its words.
FIGURES = {
    "sizes": "Win rate of every method with the usual number of pairs and with more",
    "sensitivity": "Change of PD's win rate when one setting is changed, with intervals; the band is no difference to speak of",
    "proxies": "Accuracy of each kind of proxy against the share of pairs it is trained on, for two sizes of base",
    "probe_kinds": "Accuracy of probes and of the other kinds of proxy against the share of pairs they see",
    "probe_costs": "What selecting and training on the kept pairs cost beside training on all, by the size of the policy",
    "length": "What each length mitigation leaves of the distance to the truth, per kind of proxy",
    "failures": "What PD keeps in each case, and whether the diagnostics warned",
}


def runs(results):
    """The folders of a results folder's runs, one per conflict level and seed.

    A folder of outcomes without the manifest of an evaluation, such as the league's, is not a run.
    """
    folders = [path.parent for path in Path(results).glob("*/outcomes.parquet")]
    return sorted(folder for folder in folders if Path(folder, "manifests", "05_evaluation.json").exists())


def load_outcomes(results, file="outcomes.parquet"):
    """The outcomes of all runs, with `conflict` and `seed` from their manifests.

    Parameters
    ----------
    results : str or Path
        A folder of runs, or of a grid.
    file : str
        `families.parquet` holds the outcomes for the winning score.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    """
    if is_grid(results):
        return load_families(results) if file == "families.parquet" else load_grid(results, "methods")[OUTCOMES]
    frames = []
    for folder in runs(results):
        parameters = read_manifest("05_evaluation", folder)["parameters"]
        fell = parameters["conflict"] is None
        conflict = _conflict_of(folder) if fell else parameters["conflict"]
        frames.append(load_table(folder / file).assign(conflict=conflict, seed=parameters["seed"], fell=fell))
    if not frames:
        raise FileNotFoundError(f"{results} holds no outcomes.parquet: run the pipeline first (make run)")
    outcomes = pd.concat(frames, ignore_index=True)
    # A level that was left as it fell is one level for all seeds: the mean of what was found.
    if outcomes["fell"].any():
        outcomes.loc[outcomes["fell"], "conflict"] = round(outcomes.loc[outcomes["fell"], "conflict"].mean(), 3)
    return outcomes.drop(columns="fell")


def _conflict_of(folder):
    """The share of conflicting pairs that a run found."""
    facts = read_manifest("01_data", folder)["facts"]
    return facts["conflicting"] / facts["n_pairs"]


def load_costs(results):
    """Seconds of training and of selection (proxies and their scoring) per method, mean over runs."""
    columns = ["training_seconds", "selection_seconds"]
    if is_grid(results):
        policies = load_table(Path(results, "cells.csv")).query("study == 'methods'")
        untrained = pd.DataFrame(0.0, index=["SFT"], columns=columns)
        return pd.concat([policies.groupby("method")[columns].mean(), untrained])
    rows = []
    for folder in runs(results):
        for method in load_table(folder / "outcomes.parquet")["method"].unique():
            rows.append((method, _training_seconds(method, folder), _selection_seconds(method, folder)))
    return pd.DataFrame(rows, columns=["method", *columns]).groupby("method").mean()


def _training_seconds(method, folder):
    if method == "SFT":
        return 0.0
    return read_manifest(f"04_dpo-{slug(method)}", folder)["facts"]["training_seconds"]


def _selection_seconds(method, folder):
    if method not in NEEDS_PROXIES:
        return 0.0
    return read_manifest("02_proxies", folder)["facts"][f"{NEEDS_PROXIES[method]}_seconds"]


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
    table["method"] = pd.Categorical(table["method"], _ordered(list(dict.fromkeys(table["method"]))))
    return table.sort_values(["conflict", "method", "metric"], ignore_index=True)


def _ordered(methods):
    """The paper's methods in the paper's order, then the others."""
    return [name for name in ORDER if name in methods] + [name for name in methods if name not in ORDER]


# A claim, the two methods whose difference it is about, and its test.
FINDINGS = [
    ("PD above RAND at the same budget", "PD", "RAND", "above"),
    ("PD above RAF at the same budget", "PD", "RAF", "above"),
    ("PD at least at PD(rati.), its oracle", "PD", "PD(rati.)", "at least"),
    ("PD(high) below SFT", "SFT", "PD(high)", "above"),
    ("PD with a share of the data at least at ALL", "PD", "ALL", "at least"),
]


def findings(outcomes, conflict):
    """The claims that one run can test, by win rate and by win rate at equal length, differences paired by prompt (and seed).

    A single seed gives no verdict on a method, only one on the policies that were trained: its column is headed so.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        See `load_outcomes`. A claim about a method that was not run is left out.
    conflict : float

    Returns
    -------
    pandas.DataFrame
        Text, ready for `markdown`; tests and verdicts as in `pdsel.experiments.verdicts`. At equal length there is no
        difference from a method whose lengths lie apart from the baseline's.
    """
    here = outcomes[outcomes["conflict"] == conflict].drop(columns="conflict")
    prompts, why_not = scored(here), apart(here)
    seeds, rows = here["seed"].nunique(), []
    said = "on this seed" if seeds == 1 else "verdict"
    for claim, better, worse, test in FINDINGS:
        if not {better, worse} <= set(why_not.index):
            continue
        row = {"claim": claim, "test": TESTS[test]}
        for name, metric in {"win rate": "win_rate", "at equal length": "length_controlled_win_rate"}.items():
            blanks = [f"{method}: {why_not[method]}" for method in (better, worse) if why_not[method]]
            if metric == "length_controlled_win_rate" and blanks:
                row |= {f"{name} (points)": blank(", ".join(blanks)), f"{name}: {said}": ""}
                continue
            difference = paired_difference(prompts, better, worse, metric=metric)
            row[f"{name} (points)"] = f"{better} - {worse}: {difference.signed}"
            row[f"{name}: {said}"] = (
                verdict(difference, test) if seeds == 1 else verdict_over_seeds(difference, test, seeds)
            )
        rows.append(row)
    return pd.DataFrame(rows)


def ranks_beside_paper(table, conflict):
    """The places of the methods by every metric that the paper published for this conflict level, ours and the paper's.

    Parameters
    ----------
    table : pandas.DataFrame
        From `main_table`.
    conflict : float

    Returns
    -------
    pandas.DataFrame
        Index method, for the methods that both tables have; columns (metric, "ours" or "paper"), 1 being the best. Without
        columns where the paper has nothing. A length-controlled win rate that is not given has no place.
    """
    names = {"WR": "win_rate", "LC": "length_controlled_win_rate", "AW": "winning_score"}
    ours = table[table["conflict"] == conflict].pivot(index="method", columns="metric", values="value").astype(float)
    ranks = {}
    for metric, paper in published_at(conflict).items():
        if names[metric] in ours:
            both = pd.DataFrame({"ours": ours[names[metric]], "paper": paper}).dropna().rank(ascending=False)
            ranks |= {(metric, who): places for who, places in both.items()}
    return pd.DataFrame(ranks).convert_dtypes()


def load_nulls(results):
    """How often constant answers win under each judge, over all runs whose judges were audited.

    Returns
    -------
    pandas.DataFrame
        `null, judge, value, low, high, runs`, in percent; no rows where no judge was audited. The interval of a single run is
        the one over its prompts; several runs (`runs` counts them) give a mean and its 95 % t-interval over the runs.
    """
    tables = []
    for folder in runs(results):
        files = [path for path in (folder / "nulls.csv", folder / "nulls_of_rewards.csv") if path.exists()]
        if files:
            tables.append(pd.concat([load_table(path) for path in files], ignore_index=True))
    if not tables:
        return pd.DataFrame(columns=["null", "judge", "value", "low", "high", "runs"])
    if len(tables) == 1:
        return tables[0][["null", "judge", "value", "low", "high"]].assign(runs=1)
    stacked = pd.concat([table.assign(seed=number) for number, table in enumerate(tables)])
    means = over_seeds(stacked, ["null", "judge"], ["value"])
    bounds = means[["value_low", "value_high"]].clip(0, 100).set_axis(["low", "high"], axis=1)
    return means[["null", "judge", "value"]].join(bounds).assign(runs=len(tables))


def work_done(manifests, results):
    """What the runs of a results folder, or its grid, cost, as a sentence."""
    if is_grid(results):
        return work_of_grid(load_table(Path(results, "cells.csv")).drop_duplicates("cell"), manifests)
    return work_of_runs(manifests)


def gather_manifests(results):
    """All stage manifests of a results folder in one dictionary, for `results/<profile>/manifest.json`."""
    files = sorted([*Path(results).glob("*/manifests/*.json"), *Path(results).glob("manifests/11_*.json")])
    stages = {f"{file.parts[-3]}/{file.stem}": json.loads(file.read_text()) for file in files}
    return {"job_seconds": round(sum(stage["seconds"] for stage in stages.values()), 1), "stages": stages}


def fill_blocks(text, blocks):
    """Replace the generated blocks of a Markdown text.

    Parameters
    ----------
    text : str
    blocks : dict
        Name to what stands between its two markers.

    Raises
    ------
    ValueError
        If a block has not exactly one pair of markers.

    Examples
    --------
    >>> fill_blocks("<!-- begin:a -->old<!-- end:a -->", {"a": "new"})
    '<!-- begin:a -->\\nnew\\n<!-- end:a -->'
    """
    for name, body in blocks.items():
        begin, end = f"<!-- begin:{name} -->", f"<!-- end:{name} -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        count = len(pattern.findall(text))
        if count != 1:
            raise ValueError(f"block {name!r} occurs {count} times; it needs one begin and one end marker")
        before, _, rest = text.partition(begin)
        after = rest.partition(end)[2]
        text = f"{before}{begin}\n{body}\n{end}{after}"
    return text


def table_blocks(folders):
    """The tables of results folders as blocks of README and of the book.

    Parameters
    ----------
    folders : sequence of str or Path

    Returns
    -------
    dict
        `table1` is the table of the first folder that has one, `toy_table1` the one of the folder `toy`.
    """
    blocks = {}
    for folder in map(Path, folders):
        for path in sorted(folder.glob("tables/*.md")):
            text = path.read_text().rstrip()
            blocks[f"{folder.name}_{path.stem}"] = text
            blocks.setdefault(path.stem, text)
    return blocks


def study_blocks(folders):
    """The figures that are not always there, as blocks of the book.

    `folders`: results folders; the first that has a figure gives it.
    """
    blocks = {}
    for name, words in FIGURES.items():
        found = [
            f"{folder}/figures/{name}.png" for folder in folders if Path(folder, "figures", f"{name}.png").exists()
        ]
        if found:
            blocks[f"figure_{name}"] = f"![{words}](../../{found[0]})"
    return blocks


def summary_blocks(grid, run):
    """What README says in short, from the tables of a grid and the manifest of a run.

    Parameters
    ----------
    grid, run : str or Path
        Results folders, such as `results/toy` and `results/mini`. What one of them lacks is left out.

    Returns
    -------
    dict
        `found, short_table, run_time, minutes` and, with links from a page of the book, `chapter_minutes`.
    """
    grid, run, blocks = Path(grid), Path(run), {}
    if (grid / "tables" / "ten_claims.csv").exists():
        blocks["found"] = found_lines(load_table(grid / "tables" / "ten_claims.csv"))
        table = load_table(grid / "tables" / "table1.csv")
        blocks["short_table"] = markdown(short_rows(table, load_table(grid / "cells.csv")))
    if (run / "manifest.json").exists():
        blocks["run_time"] = time_of_run(json.loads((run / "manifest.json").read_text()))
        titles, minutes = notebook_titles(), notebook_minutes(run)
        blocks["minutes"] = markdown(notebook_rows(titles, minutes), linked=["notebook"])
        blocks["chapter_minutes"] = markdown(
            notebook_rows(titles, minutes, folder="../../notebooks"), linked=["notebook"]
        )
    return blocks


def notebook_titles(folder="notebooks"):
    """The title of every notebook by its name, in order: the sentence after the number in its first cell."""
    titles = {}
    for path in sorted(Path(folder).glob("*.ipynb")):
        first = "".join(json.loads(path.read_text())["cells"][0]["source"]).splitlines()[0]
        title = re.sub(r"^# (The idea: |\w+ · )?", "", first)
        titles[path.stem] = title[:1].upper() + title[1:]
    return titles


def time_notebooks(run):
    """How long papermill took for every notebook that a run executed: `notebook, seconds`, the mean where there are several.

    `run`: the folder of a run, such as `results/local/mini`.
    """
    rows = []
    for path in sorted(Path(run).glob("**/local/notebooks/*.ipynb")):
        metadata = json.loads(path.read_text())["metadata"].get("papermill", {})
        if metadata.get("duration") and not metadata.get("exception"):
            rows.append((path.stem.split("-")[0], metadata["duration"]))
    times = pd.DataFrame(rows, columns=["notebook", "seconds"]).groupby("notebook", as_index=False).mean()
    return times[times["notebook"] != "06_table"].round(1)


def notebook_minutes(reference):
    """Minutes of the notebooks that a reference was made with, by name: from `minutes.csv`, else from its manifests."""
    file = Path(reference, "minutes.csv")
    if file.exists():
        return load_table(file, index="notebook")["seconds"] / 60
    stages = json.loads(Path(reference, "manifest.json").read_text())["stages"].values()
    times = pd.DataFrame([(stage["stage"].split("-")[0], stage["seconds"]) for stage in stages])
    return times.groupby(0)[1].mean() / 60


def pages(root="."):
    """README and the pages of the book, as paths."""
    return [Path(root, "README.md"), *sorted(Path(root, "docs").rglob("*.md"))]


def blocks_of(text):
    """What stands between the markers of a page, by name.

    >>> blocks_of("<!-- begin:a -->\\nold\\n<!-- end:a -->")
    {'a': 'old'}
    """
    found = re.findall(r"<!-- begin:(\w+) -->\n(.*?)\n?<!-- end:\1 -->", text, re.DOTALL)
    return dict(found)


def shown_blocks(root="."):
    """The generated blocks of README and the book, by name: the set of texts that stand there, one where all is well."""
    shown = {}
    for path in pages(root):
        for name, body in blocks_of(path.read_text()).items():
            shown.setdefault(name, set()).add(body)
    return shown


def all_blocks(folders=SHOWN, profiles=LARGE):
    """Every block that a page may show: the tables of results folders, README's summary, and what large profiles take."""
    from pdsel.pipeline.costs import ledgers, plans  # loads torch, which notebook 06 does without
    from pdsel.pipeline.pocket_pages import pocket_blocks

    grid = next((folder for folder in folders if is_grid(folder)), folders[-1])
    blocks = table_blocks([*folders, *COUNTED]) | study_blocks(folders) | summary_blocks(grid, run=folders[0])
    blocks |= pocket_blocks()
    return blocks | plans(profiles) | ledgers(profiles) if profiles else blocks


def write_pages(paths=None, folders=SHOWN, profiles=LARGE):
    """Rewrite the generated blocks of README and of the book's pages; returns the paths that changed.

    A block that the committed results do not have is said to be missing, so that no old number stays.

    Parameters
    ----------
    paths : sequence of path, optional
        The pages; by default `pages()`.
    folders : sequence of str or Path
        Results folders: first the run whose time README tells.
    profiles : sequence of str
        The profiles whose costs are shown.
    """
    blocks, changed = all_blocks(folders, profiles), []
    for path in map(Path, pages() if paths is None else paths):
        text = path.read_text()
        names = re.findall(r"<!-- begin:(\w+) -->", text)
        filled = fill_blocks(text, {name: blocks.get(name, MISSING) for name in names})
        if filled != text:
            save_text(filled.removesuffix("\n"), path)
            changed.append(path)
    return changed
