"""`python -m mutants` with this folder's parent on PYTHONPATH: `make mutants`. It resumes.

Mutants that change nothing that a test could see are named, with the reason, in `reasons.csv` beside this file.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "build" / "mutmut"))  # what `make mutants` installs
import pandas as pd

from mutants.mutate import ROOT, known_mutants, sample
from mutants.survey import PATIENCE, SURVIVED, Unharmed, preload, run

ROOMS = ["pdsel/*.py", "pdsel/evaluation/**/*.py", "pdsel/rules/*.py"]
OTHERS = {"pdsel/__init__.py", "pdsel/artifacts.py", "pdsel/judges.py"}  # doors, and files that are not of the lesson
REASONS = Path(__file__).with_name("reasons.csv")
TEXT = """Would a small fault be noticed? {count} faults were drawn at random (seed {seed}) from the {every} that mutmut
{version} makes of the lesson, the evaluation and the rules, and for {n} of them the tests were run that cover the module.
Faults in words alone, and in the arguments of a refusal, are left out.

{counts}

{noticed} of the {changing} that change behaviour were noticed when first tried, {share} % (95 % interval: {low} to {high}).
Tests were written for what was not; now {now} are noticed.

Machine: {cores} cores. Made by `make mutants`.

### Survivors

{survivors}
"""


def parse(arguments=None):
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="modules whose path holds this")
    parser.add_argument("--tried", action="store_true", help="report what the journal holds; nothing is run")
    parser.add_argument(
        "--part", type=int, nargs=2, default=[0, 1], metavar=("I", "N"), help="only every N-th module, from the I-th on"
    )
    parser.add_argument("--known", action="store_true", help="only the faults that once were not noticed")
    parser.add_argument("--local", type=Path, default=Path("results/local/mutants"))
    parser.add_argument("--results", type=Path, default=Path("results/mutants"))
    return parser.parse_args(arguments)


def modules(only=""):
    """The paths of the modules in which faults are made."""
    found = {str(path.relative_to(ROOT)) for room in ROOMS for path in ROOT.glob(room)} - OTHERS
    return sorted(path for path in found if only in path)


class Journal:
    """Outcomes by mutant, a JSON line each; a mutant is tried again where it survived, since a test may be new.

    `known` has the last entry of each, and `first` the outcome of when it was first tried.
    """

    def __init__(self, path):
        self.path, self.known, self.first = path, {}, {}
        for line in path.read_text().splitlines() if path.exists() else []:
            self._take(json.loads(line))
        path.parent.mkdir(parents=True, exist_ok=True)

    def _take(self, entry):
        self.known[entry["key"]] = entry
        self.first.setdefault(entry["key"], entry["outcome"])

    def note(self, entry):
        """Add an entry."""
        self._take(entry)
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")


def main(arguments=None):
    """Try the mutants and write the report; returns 1 if a known fault is not noticed."""
    given = parse(arguments)
    known, drawn, every = known_mutants(), [], 0
    if not given.known:
        drawn, every = sample(modules(given.only), given.count, given.seed)
    journal, unharmed = Journal(given.local / "journal.jsonl"), None
    first, step = given.part  # parts share the journal, and each has its own logs
    logs = given.local / f"part{first}"
    if given.tried:
        known, drawn = [], [mutant for mutant in drawn if mutant.key in journal.known]
    else:
        preload()
        unharmed = Unharmed(given.local / "unharmed.jsonl", logs / "unharmed.log")
    paths = sorted({mutant.path for mutant in [*known, *drawn]})[first::step]
    chosen = [mutant for mutant in [*known, *drawn] if mutant.path in paths]
    rows = [_tried(mutant, journal, unharmed, logs / "last.log") for mutant in chosen]
    if step > 1:
        return 0
    if not given.known:
        _write_report(pd.DataFrame(rows[len(known) :]), every, given)
    missed = [row for row in rows[: len(known)] if row["outcome"] == SURVIVED]
    for row in missed:
        print(f"not noticed: {row['module']}, line {row['line']}: {row['after']}")
    return int(bool(missed))


def _tried(mutant, journal, unharmed, log):
    """The outcome of a mutant as a row; without `unharmed` it is taken as it was."""
    entry = journal.known.get(mutant.key)
    if entry is None or (entry["outcome"] == SURVIVED and unharmed is not None):
        patience = 60 + PATIENCE * unharmed.seconds(mutant.path)
        outcome, seconds = run(mutant.path, mutant.source, patience, log)
        entry = {"key": mutant.key, "outcome": outcome, "module": mutant.path, "line": mutant.line}
        entry |= {"before": mutant.before, "after": mutant.after}
        journal.note(entry)
        print(
            f"{outcome} in {seconds:.0f} s: {mutant.path}, line {mutant.line}: {mutant.before} -> {mutant.after}",
            flush=True,
        )
    return entry | {"first": journal.first[mutant.key]}


def _write_report(table, every, given):
    from importlib.metadata import version

    from scipy.stats import binomtest

    from pdsel.artifacts import save_table, save_text
    from pdsel.data.markdown import markdown

    reasons = pd.read_csv(REASONS) if REASONS.exists() else pd.DataFrame(columns=["key", "reason"])
    table = table.merge(reasons, on="key", how="left")
    survived = table[table["first"] == SURVIVED]
    same = survived["reason"].fillna("").str.startswith("the same")
    changing = len(table) - same.sum()
    noticed, now = ((table[when] != SURVIVED).sum() for when in ("first", "outcome"))
    counts = table.groupby(["module", "first"]).size().unstack(fill_value=0).reset_index()
    shown = survived.assign(now=survived["outcome"])[["module", "line", "before", "after", "now", "reason"]]
    shown = shown.fillna("a test is missing")
    save_table(table.drop(columns="key"), given.results / "mutants.csv")
    facts = {"n": len(table), "every": every, "seed": given.seed, "cores": os.cpu_count(), "version": version("mutmut")}
    interval = binomtest(int(noticed), max(1, int(changing))).proportion_ci(method="wilson")
    facts |= {"counts": markdown(counts), "share": round(100 * noticed / max(1, changing), 1), "count": given.count}
    facts |= {
        "low": round(100 * interval.low),
        "high": round(100 * interval.high),
        "noticed": noticed,
        "now": now,
        "changing": changing,
    }
    save_text(TEXT.format(**facts, survivors=markdown(shown)).rstrip(), given.results / "tables" / "mutants.md")
    print(f"{noticed} of {changing} noticed: {given.results}/tables/mutants.md")


if __name__ == "__main__":
    sys.exit(main())
