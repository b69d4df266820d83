"""Runs the tests that cover a faulty module, each time in a process of its own that is forked before pdsel is imported."""

import ast
import contextlib
import hashlib
import importlib
import json
import os
import signal
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

from mutants.mutate import ROOT

KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"
LIBRARIES = ["torch", "transformers", "trl", "datasets", "peft", "pandas", "scipy.stats", "sklearn", "statsmodels.api"]
LIBRARIES += ["openai", "hypothesis", "pytest", "pyarrow.parquet", "nbformat", "matplotlib.pyplot", "papermill"]
SLOW = {  # tests of long chains, which run last, and only for the modules that they import from by name
    f"test_{name}.py"
    for name in [
        "pipeline",
        "dry_run",
        "launch",
        "grid",
        "runs",
        "book",
        "league",
        "training",
        "judges",
        "world_check",
        "human",
        "notesworld",
    ]
}
PATIENCE = 5  # times the seconds without a fault


def preload():
    """Import what every test needs, once, but for pdsel itself."""
    for name in LIBRARIES:
        importlib.import_module(name)


def tests_of(path):
    """The tests that cover a module: its examples, the tests named after it, the quick ones that import from it, and last
    the slow ones that name it.
    """
    dotted = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    names = sorted((ROOT / "tests").glob("test_*.py"))
    own = [file for file in names if file.stem == f"test_{Path(path).stem}"]
    others = [file for file in names if file not in own and file.name not in SLOW and _imports(file, dotted)]
    slow = [
        file for file in names if file not in own and file.name in SLOW and f"from {dotted} import" in file.read_text()
    ]
    return [path, *(str(file.relative_to(ROOT)) for file in own + others + slow)]


def _imports(file, dotted):
    """Whether a file of tests imports a module, or a name of the package that the module is in."""
    room, _, last = dotted.rpartition(".")
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import) and any(alias.name == dotted for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module == dotted:
            return True
        if isinstance(node, ast.ImportFrom) and node.module == room:
            names = {alias.name for alias in node.names}
            if last in names or (room != "pdsel" and names) or names & _defined(dotted):
                return True
    return False


def _defined(dotted):
    source = ROOT.joinpath(*dotted.split(".")).with_suffix(".py")
    body = ast.parse(source.read_text()).body if source.exists() else []
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def run(path, source, seconds, log, tests=None):
    """Run the tests of a module whose source is this; returns the outcome and the seconds it took.

    Parameters
    ----------
    path : str
    source : str
    seconds : float
        After which the tests are ended: a fault may make a loop endless.
    log : Path
        Gets what pytest says.
    tests : list of str, optional
        Default: `tests_of(path)`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        _in_child(path, source, log, tests or tests_of(path))
    while time.monotonic() - start < seconds:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            outcome = SURVIVED if os.waitstatus_to_exitcode(status) == 0 else KILLED
            return outcome, time.monotonic() - start
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TIMEOUT, time.monotonic() - start


class Unharmed:
    """How long the tests take without a fault: each file is run once, for all modules that it covers, and has to pass.

    Parameters
    ----------
    file : Path
        Where the seconds are kept; several processes may share it.
    log : Path
        Gets what pytest says.
    """

    def __init__(self, file, log):
        self.file, self.log = file, log
        sources = sorted([*ROOT.glob("pdsel/**/*.py"), *ROOT.glob("tests/**/*.py")])
        self.code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]

    def seconds(self, path):
        """Those of all tests of a module."""
        return sum(self._of_file(test) for test in tests_of(path))

    def _of_file(self, test):
        known = [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []
        for entry in known:
            if entry["tests"] == test and entry["code"] == self.code:
                return entry["seconds"]
        outcome, seconds = run(test, Path(ROOT, test).read_text(), 1800, self.log, [test])
        if outcome != SURVIVED and not _is_empty(self.log):
            raise SystemExit(f"{test} fails without a fault: {self.log}")
        with open(self.file, "a") as file:
            file.write(json.dumps({"tests": test, "code": self.code, "seconds": round(seconds, 1)}) + "\n")
        return seconds


def _is_empty(log):
    """Whether pytest found no test, as in a module without examples."""
    return "no tests ran" in log.read_text()


def _in_child(path, source, log, tests):
    """Run pytest and end this process with its status."""
    status = 99
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        _replace_source(str(ROOT / path), source)
        import pytest

        # Plain asserts: a module that is given by its path would else be rewritten, from the disk and past the fault.
        arguments = ["-x", "-q", "--doctest-modules", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
        status = int(pytest.main([*arguments, *tests]))
    finally:
        sys.stdout.flush()
        os._exit(status)


def _replace_source(file, source):
    """Make the import of a file take this source, whatever is cached."""
    get_code = SourceFileLoader.get_code

    def mutated(loader, name):
        return loader.source_to_code(source.encode(), file) if loader.path == file else get_code(loader, name)

    SourceFileLoader.get_code = mutated
