"""`python -m ordeal [PART ...]` with this folder's parent on PYTHONPATH: `make ordeal`.

It resumes: trials that were noted in the journal are not repeated, as long as pdsel's code stays the same.
"""

import argparse
import os
import random
import sys
from importlib import import_module
from pathlib import Path

from ordeal.kills import SIGNALS, Ground, Plan, kill_runs
from ordeal.report import COUNTS, PARTS, write_report
from ordeal.trials import Journal, run_cases


def parse(arguments=None):
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(prog="python -m ordeal", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument("--count", type=int, help="how many trials of each part; default: " + str(COUNTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--local", default="results/local/ordeal", help="where the journal and the killed runs are kept"
    )
    parser.add_argument("--results", default="results/ordeal", help="where the report goes")
    parser.add_argument("--profile", default="smoke", help="what is run and killed")
    parser.add_argument(
        "--seconds", type=float, nargs=2, help="after which a run is killed; default: some times during each notebook"
    )
    parser.add_argument("--each", type=int, default=4, help="how often each notebook is hit")
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=["SIGKILL"])
    parser.add_argument("--only", help="repeat one kind of trial, by what it is called")
    parser.add_argument("--number", type=int, default=0, help="which trial of `--only`; what is raised is not caught")
    given = parser.parse_args(arguments)
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown} are no parts; there are {list(PARTS)}")
    return given


def cases_of(part):
    """The kinds of trials of a part."""
    return import_module(f"ordeal.{'inputs' if part == 'input' else part}").CASES


def main(arguments=None):
    """Run the ordeal; returns 1 if anything was lost."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["NO_PROXY"] = "127.0.0.1"
    given = parse(arguments)
    parts = given.parts or list(PARTS)
    if given.only:
        return _repeat(parts, given)
    journal = Journal(Path(given.local, "journal.jsonl"))
    for part in parts:
        count = COUNTS[part] if given.count is None else given.count
        if part == "kills":
            ground = Ground(Path(given.local, "ground"), given.profile)
            seconds = tuple(given.seconds) if given.seconds else None
            plan = Plan(seconds=seconds, each=given.each, signals=tuple(given.signals), seed=given.seed)
            kill_runs(ground, count, journal, plan, say=_say)
        else:
            run_cases(cases_of(part), count, journal, seed=given.seed, say=_say)
    table = write_report(journal, Path(given.results))
    for entry in journal.lost():
        _say(f"lost: {entry['part']}: {entry['what']}, number {entry['number']}: {entry['how']}")
    _say(f"{table['how_many'].sum()} trials, {table['lost'].sum()} lost: {given.results}/tables/ordeal.md")
    return int(table["lost"].sum() > 0)


def _repeat(parts, given):
    """One trial, with what it raises."""
    (case,) = [case for part in parts if part != "kills" for case in cases_of(part) if case.what == given.only]
    _say(case.trial(random.Random(f"{given.seed} {case.part} {case.what} {given.number}")))
    return 0


def _say(text):
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
