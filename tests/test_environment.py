"""The doors agree: pyproject.toml, environment.yml, constraints.txt, the Makefile, CITATION.cff."""

import ast
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pdsel.pipeline.__main__ import parse

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()

CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}  # conda's name: the name on PyPI
NOT_PROJECT = {"python", "pip"}  # what a conda environment needs besides
TORCH_FAMILY = re.compile(r"(torch|triton|pytorch-triton|nvidia|cuda)", re.IGNORECASE)


def requirements(lines):
    """`{canonical name: version bounds}` of requirement lines."""
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each.specifier for each in parsed}


def declared():
    """What a complete environment has: the package, its notebooks, the book and the tests."""
    extras = [
        line for name in ("notebooks", "book", "pocket", "test") for line in PROJECT["optional-dependencies"][name]
    ]
    return requirements(PROJECT["dependencies"] + extras)


def conda():
    """environment.yml as `(conda requirements, pip requirements, what pip installs from here)`, under PyPI's names."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    from_conda = [re.sub(r"(?<![<>=!~])=(?!=)", "==", line) for line in listed if isinstance(line, str)]
    named = {CONDA_NAMES.get(name, name): bounds for name, bounds in requirements(from_conda).items()}
    (from_pip,) = (entry["pip"] for entry in listed if isinstance(entry, dict))
    local = [line for line in from_pip if line.startswith("-")]
    return named, requirements(line for line in from_pip if line not in local), local


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_conda_environment_has_the_same_packages_and_bounds():
    named, piped, local = conda()
    assert not set(named) & set(piped), "a package is listed for conda and for pip"
    both = {name: bounds for name, bounds in (named | piped).items() if name not in NOT_PROJECT}
    assert both == declared()
    assert local == ["-e ."]


def test_conda_python_is_one_the_project_supports():
    (version,) = conda()[0]["python"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{version.version}.0")


def test_this_python_is_one_the_project_supports():
    assert SpecifierSet(PROJECT["requires-python"]).contains(".".join(map(str, sys.version_info[:3])))


def test_constraints_are_exact_and_unique():
    assert [line for line in pinned() if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)] == []
    names = [canonicalize_name(line.split("==")[0]) for line in pinned()]
    assert len(names) == len(set(names))


def test_constraints_satisfy_the_declared_bounds():
    exact = {name: next(iter(bounds)).version for name, bounds in requirements(pinned()).items()}
    wanted = {name: bounds for name, bounds in declared().items() if name != "torch"}
    assert sorted(set(wanted) - set(exact)) == [], "not in constraints.txt: run make lock"
    outside = {name: exact[name] for name, bounds in wanted.items() if not bounds.contains(exact[name])}
    assert outside == {}, "outside pyproject.toml's bounds: run make lock"


def test_constraints_leave_torch_alone():
    assert [line for line in pinned() if TORCH_FAMILY.match(line)] == []


def test_the_makefile_installs_a_torch_within_bounds():
    line = re.search(r"^TORCH \?= (torch==\S+)$", MAKEFILE, re.MULTILINE).group(1)
    assert declared()["torch"].contains(line.split("==")[1])


def test_installed_versions_are_within_the_declared_bounds():
    here = {canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()}
    outside = {
        name: here.get(name, "missing")
        for name, bounds in requirements(PROJECT["dependencies"]).items()
        if name not in here or not bounds.contains(here[name], prereleases=True)
    }
    assert outside == {}, "run make env"


def test_the_package_imports_only_what_it_declares():
    imported = {}
    for path in sorted((ROOT / "pdsel").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in names:
                imported.setdefault(name.split(".")[0], path.relative_to(ROOT).as_posix())
    distributions = importlib.metadata.packages_distributions()
    of_experiments = [line for name in ("notebooks", "pocket") for line in PROJECT["optional-dependencies"][name]]
    allowed = {*requirements(PROJECT["dependencies"] + of_experiments), "pdsel"}
    optional = set(PROJECT["optional-dependencies"])  # imported where it is asked for, with its own message
    foreign = {
        module: path
        for module, path in imported.items()
        if module not in sys.stdlib_module_names
        and module not in {"pdsel", *optional}
        and not allowed & {canonicalize_name(name) for name in distributions.get(module, [])}
    }
    assert foreign == {}, "imported without being among pyproject.toml's dependencies"


def test_package_data_patterns_find_files():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package, globs in patterns.items():
        for pattern in globs:
            assert list((ROOT / package.replace(".", "/")).glob(pattern)), f"{package}: nothing matches {pattern}"


def targets():
    """The Makefile's targets, in order."""
    rules = re.sub(r"^define .*?^endef$", "", MAKEFILE, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^([a-z][a-z-]*):(?! *[A-Z]+ *:=)", rules, re.MULTILINE)


def make(*arguments):
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_help_tells_of_every_target():
    told = make("help")
    assert make() == told, "make alone shows the help"
    for target in targets():
        assert re.search(rf"^ *make {target} +\w", told, re.MULTILINE), f"{target} has no ## help text"


def test_the_doors_are_there():
    promised = {
        "help",
        "env",
        "run",
        "compare",
        "test",
        "test-lab",
        "lab",
        "lesson",
        "slides",
        "reference",
        "results",
        "clean",
        "clean-runs",
    }
    promised |= {"lint", "lock", "notesworld-base"}
    assert promised <= set(targets())
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE.replace("\\\n", ""), re.MULTILINE).group(1).split()
    assert sorted(phony) == sorted(targets())


def test_jupyterlab_and_a_run_compute_with_one_thread_in_each_process():
    """On a CPU the order of sums, and so the bytes of a result, depends on the number of threads."""
    for target in ("lab", "lesson"):
        told = make("--dry-run", "--assume-old=env", target)
        commands = [line for line in told.splitlines() if "jupyter lab" in line]
        assert len(commands) == 1 and commands[0].startswith("OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} ")
    graph = (ROOT / "notebooks" / "Snakefile").read_text()
    assert graph.count("papermill {") == 1 and "OMP_NUM_THREADS=%s papermill {" in graph
    assert 'RUN = NOTEBOOK % "{threads}"' in graph and 'RUN_IN_PROCESSES = NOTEBOOK % "1"' in graph
    for rule in graph.split("\nrule ")[1:]:
        assert "threads:" not in rule or "RUN_IN_PROCESSES" in rule, f"{rule.split(':')[0]}: bytes depend on --cores"


def test_make_tells_of_every_variable_it_reads():
    told = make("help")
    for variable in re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE):
        assert re.search(rf"\b{variable}=", told), f"{variable} has no #: help text"


def test_only_the_offline_profile_is_run_offline():
    assert "HF_HUB_OFFLINE=1" in make("--dry-run", "run", "PROFILE=mini")
    assert "HF_HUB_OFFLINE" not in make("--dry-run", "run", "PROFILE=small")


def test_clean_keeps_the_runs_and_says_so():
    commands = make("--dry-run", "clean")
    assert "Your runs in results/local stay" in commands
    removed = [word for line in commands.splitlines() if line.startswith("rm ") for word in line.split()[2:]]
    assert [path for path in removed if path.startswith("results")] == ["results/local/redone"]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("run", "profile 'typo' does not exist; there are"),
        ("plan", "profile 'typo' does not exist; there are"),
        ("compare", "there is no reference results/typo"),
        ("publish", "results/local/typo holds no finished run"),
    ],
)
def test_an_unknown_profile_is_answered_in_one_line(command, answer):
    done = subprocess.run(
        [sys.executable, "-m", "pdsel.pipeline", command, "typo"], cwd=ROOT, capture_output=True, text=True
    )
    (line,) = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 1 and answer in line


def test_a_dry_run_of_an_unknown_profile_is_answered_in_one_line():
    done = subprocess.run([sys.executable, "-m", "dry_run", "typo"], cwd=ROOT / "tests", capture_output=True, text=True)
    (line,) = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 1 and "profile 'typo' does not exist; there are" in line


def test_imports_between_rooms_go_one_way():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_continuous_integration_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make test"


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert [each["name"] for each in citation["authors"]] == [each["name"] for each in PROJECT["authors"]]
    assert any(entry["value"] == "arXiv:2508.07638" for entry in citation["references"][0]["identifiers"])


@pytest.mark.parametrize("more", ["", "--dry-run", "--dry-run --forceall"])
def test_the_command_of_make_run_is_one_that_the_pipeline_knows(more):
    printed = make("--dry-run", "run", f"SNAKEMAKE_ARGS={more}").replace("\\\n", " ")
    line = next(line for line in printed.splitlines() if "-m pdsel.pipeline run" in line)
    words = shlex.split(line)
    given = parse(words[words.index("pdsel.pipeline") + 1 :])
    assert (given.command, given.profile, given.snakemake) == ("run", "mini", more)
