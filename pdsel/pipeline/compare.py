"""Compares a run with the committed reference, stage by stage: data, margins, kept ids, outcomes.

`python -m pdsel.pipeline compare mini` prints the comparison (`make compare`). Tables are compared by their bytes and, if these
differ, by their values; seconds, machines and commits do not count. The report names what else may explain a difference:
settings, versions of libraries, device, threads.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pdsel.artifacts import digest, load_table, read_sealed
from pdsel.checks import DataError
from pdsel.evaluation import interval

DATA = {".csv", ".parquet"}
KEYS = {"cell"}  # names of computed cells: they change with the version of the code
METRIC = "win_rate"


@dataclass
class Comparison:
    """What differs between a run and its reference; `str` gives the report.

    Attributes
    ----------
    n_files : int
        The number of tables that the reference lists.
    files : list of tuple
        Stage, file and problem of each differing table, in the order of the stages.
    kept : pandas.Series
        Method to the Jaccard index of the kept ids of both; for methods that keep all pairs, of all pairs.
    win_rates : pandas.DataFrame
        `reference, low, high, run` in percent, a row per conflict level and method.
    made_with : list of str
        Settings and circumstances that differ.
    """

    n_files: int
    files: list
    kept: pd.Series
    win_rates: pd.DataFrame
    made_with: list = field(default_factory=list)

    @property
    def same(self):
        """Whether every table, every kept id and every win rate is the reference's."""
        return not self.files and (self.kept == 1).all() and self.distance == 0

    @property
    def distance(self):
        """The largest distance of a win rate from the reference's, in points."""
        return (self.win_rates["run"] - self.win_rates["reference"]).abs().max() if len(self.win_rates) else 0.0

    def __str__(self):
        identical = int((self.kept == 1).sum())
        found = f"kept ids identical for {identical} of {len(self.kept)} methods; "
        found += f"win rates within {self.distance:.1f} points"
        if self.same:
            lines = [f"Reproduced: {found}; {self.n_files} of {self.n_files} tables have the same values."]
        else:
            first = self.files[0][0] if self.files else "the table of win rates"
            lines = [f"Not reproduced: {first} differs first; {found}."]
        lines += [f"  {stage}: {file} {problem}" for stage, file, problem in self.files]
        for method, share in self.kept[self.kept < 1].items():
            lines.append(f"  {method}: {100 * share:.1f} % of the ids that either kept are in both")
        for (conflict, method), row in self.win_rates[self.win_rates["run"] != self.win_rates["reference"]].iterrows():
            place = "inside" if row["low"] <= row["run"] <= row["high"] else "OUTSIDE"
            expected = interval(row["reference"], row["low"], row["high"])
            lines.append(
                f"  {method} at {conflict:.0%} conflict: {row['run']:.1f} %, {place} the reference's {expected} %"
            )
        if self.made_with:
            lines.append(f"Settings or circumstances that differ: {'; '.join(self.made_with)}.")
        return "\n".join(lines)


def compare(run, reference):
    """Compare the results folder of a run with that of the reference.

    Raises
    ------
    DataError
        If one of them holds no finished run or an unreadable file.
    """
    made, expected = _stages(run), _stages(reference)
    files = [difference for name in expected for difference in _differences(name, run, reference, made, expected)]
    return Comparison(
        n_files=sum(len(_tables(manifest)) for manifest in expected.values()),
        files=files,
        kept=_agreement(_readable(kept_ids, run), _readable(kept_ids, reference)),
        win_rates=_both_win_rates(run, reference),
        made_with=_circumstances(made, expected),
    )


def kept_ids(results):
    """The ids that each method of a results folder trains on, as sets; for a method that trains on all pairs, their digest."""
    results, kept = Path(results), {}
    for path in sorted(results.glob("*/kept.csv")):
        for method, ids in load_table(path).groupby("method")["pair_id"]:
            kept.setdefault(method, set()).update((path.parent.name, name) for name in ids)
    selected = set(kept)
    for path in sorted(results.glob("*/manifests/04_dpo-*.json")):
        manifest = json.loads(path.read_text())
        method = manifest["parameters"]["method"]
        if method not in selected:
            kept.setdefault(method, set()).add((path.parts[-3], manifest["inputs"]["local/pairs.parquet"]))
    if (results / "kept.parquet").exists():  # a grid has one table for all its runs
        runs = load_table(results / "cells.csv").query("study == 'methods'")[["cell", "method", "seed", "conflict"]]
        table = load_table(results / "kept.parquet").merge(runs, on="cell")
        for method, group in table.groupby("method"):
            kept[method] = set(zip(group["seed"], group["conflict"], group["pair_id"], strict=True))
    return kept


def _agreement(made, expected):
    shares = {}
    for method, ids in expected.items():
        other = made.get(method, set())
        shares[method] = len(ids & other) / len(ids | other)
    return pd.Series(shares, dtype=float)


def _both_win_rates(run, reference):
    made, expected = _readable(_win_rates, run), _readable(_win_rates, reference)
    table = expected.rename(columns={"value": "reference"})
    table["run"] = made["value"].reindex(table.index)
    missing = table.index[table["run"].isna()]
    if len(missing):
        raise DataError(f"{run} has no win rate of {missing[0][1]}. Remedy: finish it with `make run`")
    return table


def _win_rates(results):
    table = load_table(Path(results, "tables", "table1.csv"))
    return table[table["metric"] == METRIC].set_index(["conflict", "method"])[["value", "low", "high"]]


def _stages(results):
    """The manifests of a results folder, `folder/stage` to manifest, in the order of the stages."""
    results = Path(results)
    paths = [*results.glob("*/manifests/*.json"), *results.glob("manifests/*.json")]
    if not paths:
        raise DataError(f"{results} holds no finished stage. Remedy: `make run` makes a run; the references are in git")
    paths = sorted(paths, key=lambda path: (path.stem, path))
    return {path.parent.parent.relative_to(results) / path.stem: _readable(_manifest, path) for path in paths}


def _manifest(path):
    manifest = read_sealed(path, "make it anew, or restore it from git")
    return {key: manifest[key] for key in ("parameters", "inputs", "outputs", "environment")}


def _readable(read, path):
    try:
        return read(path)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"{path} is broken or unfinished ({what}). Remedy: make it anew, or restore it from git"
        ) from error


def _tables(manifest):
    return [name for name in manifest["outputs"] if Path(name).suffix in DATA]


def _differences(name, run, reference, made, expected):
    """Stage, file and problem of each table of a stage that differs."""
    if name not in made:
        return [(str(name), "", "was not run")]
    folders = Path(run, name.parent), Path(reference, name.parent)
    found = []
    for file in _tables(expected[name]):
        problem = _problem(file, folders, (made[name], expected[name]))
        if problem:
            found.append((str(name), file, problem))
    return found


def _problem(file, folders, manifests):
    """How a table differs from the reference's; None if it does not."""
    ours, theirs = (folder / file for folder in folders)
    if theirs.exists() and not ours.exists():
        return "is missing"
    digests = [_digest(folder / file, manifest["outputs"]) for folder, manifest in zip(folders, manifests, strict=True)]
    if digests[0] == digests[1]:
        return None
    if not theirs.exists():  # large tables are not committed, only their digests
        return "is missing" if digests[0] is None else "has other bytes"
    return _distance(*(_values(path) for path in (ours, theirs)))


def _digest(path, outputs):
    """The digest of a file, or of an uncommitted file from its manifest."""
    if path.exists():
        return digest(path)
    return next((value for name, value in outputs.items() if path.match(name)), None)


def _values(path):
    table = _readable(load_table, path)
    timed = [name for name in table if name in KEYS or name.endswith("seconds")]
    return table.drop(columns=timed)


def _distance(ours, theirs):
    """How two tables differ, in words; None if they do not."""
    if ours.equals(theirs):
        return None
    if list(ours) != list(theirs) or len(ours) != len(theirs):
        return f"has {len(ours)} rows and {ours.shape[1]} columns instead of {len(theirs)} and {theirs.shape[1]}, or others"
    changed = [name for name in theirs if not ours[name].equals(theirs[name])]
    numbers = [name for name in changed if pd.api.types.is_float_dtype(theirs[name])]
    largest = max(((ours[name] - theirs[name]).abs().max() for name in numbers), default=None)
    size = "" if largest is None else f", numbers by up to {largest:.2g}"
    return f"differs in {', '.join(changed)}{size}"


def _circumstances(made, expected):
    """Settings, versions, device and threads that differ between two runs, each listed once."""
    found = {}  # what differs: the stages in which it does
    for name, theirs in expected.items():
        if name not in made:
            continue
        environments = [dict(manifest["environment"]) for manifest in (theirs, made[name])]
        versions = [environment.pop("versions") for environment in environments]
        for environment in environments:
            environment.pop("commit", None)
            environment.pop("dirty", None)
        for change in _changes(theirs["parameters"], made[name]["parameters"]):
            found.setdefault(change, []).append(name.name)
        for change in [*_changes(*versions), *_changes(*environments)]:
            found.setdefault(change, [])
    return [f"{change} ({', '.join(stages)})" if stages else change for change, stages in found.items()]


def _changes(before, after):
    """The entries whose values differ, as text."""
    names = [name for name in before if name in after and before[name] != after[name]]
    return [f"{name} {_short(before[name])} -> {_short(after[name])}" for name in names]


def _short(value):
    """A value as text; a digest by its first twelve digits."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1", str(value))
