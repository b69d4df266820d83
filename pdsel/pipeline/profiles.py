"""Profiles: YAML files with a section per notebook, checked against the notebooks' parameters before anything runs."""

import ast
from numbers import Integral
from pathlib import Path

import yaml

from pdsel.checks import DataError, is_number, refuse

PROFILES = Path(__file__).parents[2] / "notebooks" / "profiles"
GRID = "grid"  # the section that spans the runs: conflict levels, seeds, methods
GRID_KEYS = {"conflicts", "seeds", "methods"}
RUNNING = {"hardware", "resources", "without"}  # of the runs, read by `make plan` and by the Snakefile
EXTENDS = "extends"  # another profile, to whose sections these are added, key by key
WITHOUT = "without"  # a list of notebooks that are not run, whatever the profile that is extended has for them


def find_profile(name):
    """The file of a profile, given the name of one in `notebooks/profiles`, or the path of a `.yaml` file elsewhere.

    >>> find_profile("mini").name, find_profile("my/own.yaml").as_posix()
    ('mini.yaml', 'my/own.yaml')

    Raises
    ------
    ValueError
        If a profile elsewhere has the name of one in `notebooks/profiles`: both would write to the same folder.
    """
    path = Path(name)
    if path.suffix != ".yaml":
        return PROFILES / f"{name}.yaml"
    known = PROFILES / path.name
    if known.exists() and path.resolve() != known.resolve():
        raise DataError(
            f"profile {path}: {known} has the same name, so their results would mix. Remedy: rename the file"
        )
    return path


def load_profile(path, *, notebooks=None):
    """Load a profile and check every key.

    Parameters
    ----------
    path : str or Path
        A YAML file, such as `notebooks/profiles/mini.yaml`.
    notebooks : str or Path, optional
        The folder of the notebooks; default: the one that holds the profiles' folder.

    Returns
    -------
    dict
        `{"grid": {...}, "<notebook>": {parameter: value}}`, and `hardware`, `resources` and `without` if the file has them.

    Raises
    ------
    ValueError
        If the file is missing, a section does not name a notebook, a key is not a parameter of its notebook (papermill would
        only warn), or profiles extend each other in a circle.
    """
    path = Path(path)
    profile = _read(path)
    grid = profile.get(GRID) or {}
    if set(grid) != GRID_KEYS:
        found = sorted(map(str, grid))
        raise DataError(f"{path}: section {GRID!r} needs exactly {sorted(GRID_KEYS)}, it has {found}")
    _check_grid(grid, path)
    folder = Path(notebooks or path.parent.parent)
    left_out = profile.get(WITHOUT) or []
    refuse(
        [name for name in left_out if not isinstance(name, str) or not (folder / f"{name}.ipynb").exists()],
        f"{path}: {WITHOUT}",
        "names no notebook",
        "write names such as 09_failures",
    )
    for section, values in profile.items():
        if section == GRID or section in RUNNING:
            continue
        notebook = folder / f"{section}.ipynb"
        if not notebook.exists():
            raise DataError(f"{path}: section {section!r} names no notebook; there is no {notebook.name}")
        declared = declared_parameters(notebook)
        unknown = sorted(map(str, set(values or {}) - set(declared)))
        if unknown:
            raise DataError(f"{path}: {section} declares no parameter {unknown}. Remedy: use one of {declared}")
    return profile


def _check_grid(grid, path):
    """Refuse a grid whose levels, seeds and methods are no such things, or of which two would share a folder."""
    kinds = {
        "conflicts": (
            lambda level: level is None or (is_number(level) and 0 <= level <= 1),
            "shares in [0, 1], or null",
        ),
        "seeds": (lambda seed: is_number(seed, Integral) and seed >= 0, "whole numbers from 0 on"),
        "methods": (lambda method: isinstance(method, str) and method.strip(), "names such as PD"),
    }
    for name, (fits, what) in kinds.items():
        values = grid[name]
        if not isinstance(values, list) or not all(map(fits, values)):
            raise DataError(f"{path}: {name} of {GRID!r} is {values!r}. Remedy: a list of {what}")
        labels = [round(100 * value) if name == "conflicts" and value is not None else value for value in values]
        if len(set(labels)) < len(labels):
            raise DataError(f"{path}: {name} of {GRID!r}, {values!r}, would share folders. Remedy: name each one once")


def _read(path, above=()):
    """The sections of a file, added to those of the profile that it extends; the files of `above` extend this one."""
    if path in above:
        circle = " extends ".join(file.stem for file in [*above[above.index(path) :], path])
        raise DataError(f"profile {circle}. Remedy: extend another profile, or none")
    if not path.exists():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        raise DataError(f"profile {path.stem!r} does not exist; there are {known}")
    try:
        profile = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise DataError(
            f"{path} cannot be read as YAML: {error}. Remedy: write sections of `key: value` lines"
        ) from error
    base = profile.pop(EXTENDS, None) if isinstance(profile, dict) else None
    without = profile.pop(WITHOUT, []) if isinstance(profile, dict) else []
    if not isinstance(without, list):
        raise DataError(f"{path}: {WITHOUT} is {without!r}. Remedy: a list of notebooks")
    sections = {"the profile": profile} | (profile if isinstance(profile, dict) else {})
    refuse(
        [name for name, section in sections.items() if not isinstance(section or {}, dict)],
        f"{path}: section",
        "is not a mapping of keys to values",
        "write `key: value` lines below it",
    )
    if base is not None:
        if not isinstance(base, str) or not base or Path(base).name != base:
            raise DataError(f"{path}: {EXTENDS} is {base!r}. Remedy: the name of a profile, such as mini")
        beside = path.with_name(f"{base}.yaml")
        whole = _read(beside if beside.exists() else PROFILES / beside.name, (*above, path))
        profile = whole | {name: (whole.get(name) or {}) | (values or {}) for name, values in profile.items()}
    if without:
        profile = {name: values for name, values in profile.items() if name not in without} | {WITHOUT: without}
    return profile


def declared_parameters(notebook):
    """The names in a notebook's cell tagged `parameters`, in order."""
    return list(notebook_defaults(notebook))


def notebook_defaults(notebook):
    """The parameters of a notebook, name to default value."""
    from papermill import inspect_notebook  # slow to import

    return {name: ast.literal_eval(found["default"]) for name, found in inspect_notebook(str(notebook)).items()}
