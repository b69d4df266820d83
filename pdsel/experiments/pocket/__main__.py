"""`python -m pdsel.experiments.pocket start|run|tables ...`: what the profile starts from, the cells, their tables."""

import argparse
import sys

from pdsel.checks import DataError
from pdsel.experiments.pocket.settings import CELLS, DATA, MODEL


def parse(arguments=None):
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(prog="python -m pdsel.experiments.pocket", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="make the folder that the profile pocket starts from")
    run = commands.add_parser("run", help="compute the cells; what is there is not computed again")
    for command in (start, run):
        command.add_argument("--data", default=DATA, help="the folder of WebNLG's three files")
        command.add_argument("--model", default=MODEL, help="the folder of the model: make pocket-model")
        command.add_argument("--folder", default=CELLS, help="where the cells are kept")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--large-seeds", nargs="*", type=int, default=[], help="of pocket-large; none: only pocket")
    run.add_argument("--jobs", type=int, default=1, help="processes that share the device")
    run.add_argument("--deadline", type=float, help="seconds after which nothing is begun")
    run.add_argument("--pack", help="a folder for zip files of the cells, written at the end")
    tables = commands.add_parser("tables", help="make the tables of the cells")
    tables.add_argument("--data", default=DATA)
    tables.add_argument("--cells", nargs="+", default=[CELLS], help="folders of cells, or of zip files of them")
    tables.add_argument("--out", default="results/pocket")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run a sub-command; returns the exit status."""
    given = parse(arguments)
    try:
        return {"start": _start, "run": _run, "tables": _tables}[given.command](given)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1


def _start(given):
    from pdsel.experiments.pocket.cells import Lab
    from pdsel.experiments.pocket.start import start

    for name, path in start(Lab(given.data, given.model, given.folder)).items():
        print(f"{name}: {path}")
    return 0


def _run(given):
    from pdsel.experiments.pocket.cells import Lab
    from pdsel.experiments.pocket.run import everything, pack, pocket, run, save_record

    lab = Lab(given.data, given.model, given.folder)
    tasks = everything(given.seeds, given.large_seeds) if given.large_seeds else pocket(given.seeds)
    state = run(tasks, lab, jobs=given.jobs, deadline=given.deadline)
    save_record(state, lab)
    if given.pack:
        print(*pack(given.folder, given.pack), sep="\n")
    print(f"{len(state['done'])} done, {len(state['failed'])} failed, {len(state['left'])} left")
    return 1 if state["failed"] else 0


def _tables(given):
    from pdsel.experiments.pocket.tables import save_tables

    for path in save_tables(given.cells, given.data, given.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
