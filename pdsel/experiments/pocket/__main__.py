"""`python -m pdsel.experiments.pocket run|pack|tables ...`: compute the cells, pack them, make the tables of them."""

import argparse
import sys

from pdsel.checks import DataError

FOLDER = "results/local/pocket/cells"


def parse(arguments=None):
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(prog="python -m pdsel.experiments.pocket", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="compute the cells; what is there is not computed again")
    run.add_argument("--data", required=True, help="the folder of WebNLG's three files")
    run.add_argument("--model", required=True, help="the folder of the model: make pocket-model")
    run.add_argument("--folder", default=FOLDER, help="where the cells are kept")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--large-seeds", nargs="*", type=int, default=[], help="of pocket-large; none: only pocket")
    run.add_argument("--jobs", type=int, default=1, help="processes that share the device")
    run.add_argument("--deadline", type=float, help="seconds after which nothing is begun")
    run.add_argument("--pack", help="a folder for zip files of the cells, written at the end")
    tables = commands.add_parser("tables", help="make the tables of the cells")
    tables.add_argument("--data", required=True)
    tables.add_argument("--cells", default=FOLDER, help="a folder of cells, or of zip files of them")
    tables.add_argument("--out", default="results/pocket")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run a sub-command; returns the exit status."""
    given = parse(arguments)
    try:
        return {"run": _run, "tables": _tables}[given.command](given)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1


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
