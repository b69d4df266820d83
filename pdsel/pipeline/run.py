"""`make run`: the graph of notebooks, the main table as soon as it is ready, and the comparison with the reference."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from pdsel.artifacts import save_table, seal_notebooks
from pdsel.checks import DataError
from pdsel.pipeline.compare import compare
from pdsel.pipeline.profiles import find_profile, load_profile

LOCK = Path(".snakemake", "make-run.lock")
LAST_LINES = 30  # of the log of a notebook that failed
TARGETS = ("table", "all")  # the main table first, then the rest


def run(profile, *, cores="all", gpu_jobs=1, targets=TARGETS, arguments=()):
    """Run the graph of a profile, in the repository's root; returns the exit status.

    Parameters
    ----------
    profile : str
        The name of a file in `notebooks/profiles`, or the path of one.
    cores : str or int
        The number of cores that Snakemake may use.
    gpu_jobs : int
        The number of jobs that may use a GPU at once.
    targets : sequence of str
        Rules or files to make, one after the other.
    arguments : sequence of str
        More arguments for Snakemake, such as `--dry-run`.
    """
    path = find_profile(profile)
    load_profile(path, notebooks="notebooks")  # reports a mistake in one line, before Snakemake starts
    results = Path("results", "local", path.stem)
    lock = _lock()
    for target in targets:
        command = [sys.executable, "-m", "snakemake", "--snakefile", "notebooks/Snakefile", "--cores", str(cores)]
        command += ["--resources", f"gpu={gpu_jobs}", "--rerun-incomplete", "--nolock"]
        command += [*arguments, "--config", f"profile={profile}", "--", target]
        start = time.time()
        status = _finish(command, lock)
        if status:
            if status != os.EX_TEMPFAIL:  # a job that was told to stop has not failed, whatever its log says
                _show_failed_logs(results, start)
            return status
        table = results / "tables" / "table1.md"
        if target == "table" and table.exists():
            print(table.read_text(), flush=True)
    if "all" in targets and "--dry-run" not in arguments:
        seal_notebooks(results)
        report(path.stem)
        print(f"Tables and figures: {results}. Executed notebooks: {results}/local/notebooks, and those of each run")
        print(
            f"in {results}/*/local/notebooks. Read next: make lab NOTEBOOK=06_results, then 03b_rules, 11_paper_claims."
        )
    return 0


def report(name):
    """Print the comparison of a run with the reference; return whether they are the same."""
    run_folder, reference = Path("results", "local", name), Path("results", name)
    if not reference.is_dir():
        print(f"Nothing to compare with: there is no reference {reference}.")
        return False
    try:
        comparison = compare(run_folder, reference)
    except DataError as error:
        print(f"No comparison: {error}")
        return False
    print(comparison)
    return comparison.same


def publish(name):
    """Make the finished run of a profile the reference, without its `local` folders."""
    run_folder, reference = Path("results", "local", name), Path("results", name)
    if not (run_folder / "manifest.json").exists():
        raise DataError(f"{run_folder} holds no finished run. Remedy: make run PROFILE={name}")
    for path in [path for path in reference.rglob("*") if path.is_file()]:
        name_within = path.relative_to(reference)
        if "local" not in name_within.parts and not (run_folder / name_within).exists():
            path.unlink()  # the new run has no such file
    shutil.copytree(run_folder, reference, dirs_exist_ok=True, ignore=shutil.ignore_patterns("local", "*.partial"))
    note_minutes(name)
    print(f"The run in {run_folder} is the reference now: git diff --stat {reference} shows what changed.")


def note_minutes(name):
    """Write how long each notebook of the run of a profile took into the reference, for README; return the path."""
    from pdsel.pipeline.report import time_notebooks

    return save_table(time_notebooks(Path("results", "local", name)), Path("results", name, "minutes.csv"))


def _show_failed_logs(results, since):
    """Print the ends of the logs of notebooks that failed after a time, in seconds."""
    for log in sorted(results.rglob("local/logs/*.log")):
        text = log.read_text(encoding="utf-8", errors="replace")
        if log.stat().st_mtime >= since and "Traceback" in text:
            print(f"\n{log}:", *text.splitlines()[-LAST_LINES:], sep="\n", file=sys.stderr)


def _lock():
    """Take a lock, so that no second run starts in this folder.

    The system releases it when the program ends, even by a kill.
    """
    LOCK.parent.mkdir(exist_ok=True)
    lock = open(LOCK, "w")  # noqa: SIM115 - held until the program ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError("make run is already running in this folder: wait for it, or stop it first") from None
    except OSError as error:
        print(
            f"This file system has no locks ({error}): do not start a second make run in this folder.", file=sys.stderr
        )
    return lock


def _finish(command, lock):
    """Run a command and return its exit status; it holds the lock as well, since it may outlive this program."""
    process = subprocess.Popen(command, pass_fds=[lock.fileno()])

    def stop(*_):
        process.send_signal(signal.SIGINT)  # which ends its jobs; told to terminate, it would wait for them
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # the interrupt reaches Snakemake, too, which stops its jobs
        print("\nStopped. The same command resumes.", file=sys.stderr)
        return os.EX_TEMPFAIL
