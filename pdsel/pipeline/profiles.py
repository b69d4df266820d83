"""Profiles: one YAML file with a section per notebook, checked against what the notebooks declare before anything runs."""

from pathlib import Path

import yaml

from pdsel.checks import DataError, refuse

GRID = "grid"  # the section that spans the runs: conflict levels, seeds, methods
GRID_KEYS = {"conflicts", "seeds", "methods"}
RUNNING = {"hardware", "resources"}  # what the runs get: read by `make plan` and by the Snakefile
EXTENDS = "extends"  # the profile whose sections these add to, key by key


def load_profile(path, *, notebooks=None):
    """The profile, with every key checked.

    Parameters
    ----------
    path : str or Path
        A YAML file, such as `notebooks/profiles/mini.yaml`.
    notebooks : str or Path, optional
        The folder of the notebooks that its sections are for; default: the one that holds the profiles' folder.

    Returns
    -------
    dict
        `{"grid": {...}, "<notebook>": {parameter: value}}`, and `hardware` and `resources` where the file has them.

    Raises
    ------
    ValueError
        If the file is missing, a section is no notebook, or a key is not a parameter of its notebook (papermill would
        only warn).
    """
    path = Path(path)
    profile = _read(path)
    grid = profile.get(GRID) or {}
    if set(grid) != GRID_KEYS:
        raise DataError(f"{path}: section {GRID!r} needs exactly {sorted(GRID_KEYS)}, it has {sorted(grid)}")
    for section, values in profile.items():
        if section == GRID or section in RUNNING:
            continue
        notebook = Path(notebooks or path.parent.parent, f"{section}.ipynb")
        if not notebook.exists():
            raise DataError(f"{path}: section {section!r} names no notebook; there is no {notebook.name}")
        declared = declared_parameters(notebook)
        unknown = sorted(set(values or {}) - set(declared))
        if unknown:
            raise DataError(f"{path}: {section} declares no parameter {unknown}. Remedy: use one of {declared}")
    return profile


def _read(path):
    """The sections of a file, added to those of the profile that it extends."""
    known = sorted(file.stem for file in path.parent.glob("*.yaml"))
    if not path.exists():
        raise DataError(f"profile {path.stem!r} does not exist; there are {known}")
    try:
        profile = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no YAML: {error}") from error
    base = profile.pop(EXTENDS, None) if isinstance(profile, dict) else None
    sections = {"the profile": profile} | (profile if isinstance(profile, dict) else {})
    refuse(
        [name for name, section in sections.items() if not isinstance(section or {}, dict)],
        f"{path}: section",
        "is no mapping of keys to values",
        "write `key: value` lines below it",
    )
    if base is None:
        return profile
    whole = _read(path.with_name(f"{base}.yaml"))
    return whole | {name: (whole.get(name) or {}) | (values or {}) for name, values in profile.items()}


def declared_parameters(notebook):
    """The names in a notebook's cell tagged `parameters`, in order."""
    from papermill import inspect_notebook

    return list(inspect_notebook(str(notebook)))
