"""The commands that `make` calls: `python -m pdsel.pipeline run|compare|publish|plan|readme|base ...`."""

import argparse
import shlex
import sys

from pdsel.checks import DataError

SHAPE = ("hidden", "layers", "heads")  # of the base model


def parse(arguments=None):
    """The command line as a namespace; `command` names the sub-command."""
    parser = argparse.ArgumentParser(prog="python -m pdsel.pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "run": "run the graph of a profile",
        "compare": "compare the run of a profile with the reference; exit with 1 where they differ",
        "publish": "make the run of a profile the reference",
        "plan": "say what runs of profiles will take",
        "readme": "write README's tables from the reference",
        "base": "train the shipped models of the notes world anew, or another one into a folder",
    }.items():
        commands.add_parser(name, help=text, description=text)
    choices = commands.choices
    for name in ("run", "compare", "publish"):
        choices[name].add_argument("profile", help="a file in notebooks/profiles, or the path of one")
    choices["run"].add_argument("--cores", default="all")
    choices["run"].add_argument("--gpu-jobs", default="1")
    choices["run"].add_argument("--targets", default="table all")
    choices["run"].add_argument("--snakemake", default="", help="more for Snakemake, such as --snakemake=--dry-run")
    choices["plan"].add_argument("profiles", nargs="+")
    choices["base"].add_argument(
        "folder", nargs="?", help="where another model goes; default: the shipped ones' folders"
    )
    choices["base"].add_argument("--seed", type=int, help="default: as shipped")
    for name in SHAPE:
        choices["base"].add_argument(f"--{name}", type=int, help="default: as shipped")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run a sub-command; returns the exit status."""
    given = parse(arguments)
    try:
        return COMMANDS[given.command](given) or 0
    except (DataError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1


# Each command imports what it needs, so that `plan` does not wait for what `base` loads.
def _run(given):
    from pdsel.pipeline.run import run

    options = {"cores": given.cores, "gpu_jobs": given.gpu_jobs, "targets": given.targets.split()}
    return run(given.profile, **options, arguments=shlex.split(given.snakemake))


def _compare(given):
    from pdsel.pipeline.profiles import find_profile
    from pdsel.pipeline.run import report

    return not report(find_profile(given.profile).stem)


def _publish(given):
    from pdsel.pipeline.profiles import find_profile
    from pdsel.pipeline.run import publish

    return publish(find_profile(given.profile).stem)


def _plan(given):
    from pdsel.pipeline.costs import plan

    print("\n\n".join(plan(name) for name in given.profiles))


def _readme(given):
    from pdsel.pipeline.report import readme

    readme()


def _base(given):
    from pdsel.pipeline.build_base import SHAPES, build

    options = {name: value for name, value in vars(given).items() if name in (*SHAPE, "seed") and value is not None}
    for folder in [given.folder] if given.folder else SHAPES:
        print(build(folder, **options))


COMMANDS = {
    "run": _run,
    "compare": _compare,
    "publish": _publish,
    "plan": _plan,
    "readme": _readme,
    "base": _base,
}

if __name__ == "__main__":
    sys.exit(main())
