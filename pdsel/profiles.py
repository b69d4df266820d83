"""Profiles: one YAML file with a section per notebook, checked against what the notebooks declare before anything runs."""

from pathlib import Path

import yaml

from pdsel.checks import DataError, refuse

GRID = "grid"  # the section that spans the runs: conflict levels, seeds, methods
GRID_KEYS = {"conflicts", "seeds", "methods"}


def load_profile(path):
    """The profile, with every key checked.

    Parameters
    ----------
    path : str or Path
        A YAML file beside the folder of the notebooks: `notebooks/profiles/mini.yaml`.

    Returns
    -------
    dict
        `{"grid": {...}, "<notebook>": {parameter: value}}`.

    Raises
    ------
    ValueError
        If the file is missing, a section is no notebook, or a key is not a parameter of its notebook (papermill would
        only warn).
    """
    path = Path(path)
    known = sorted(file.stem for file in path.parent.glob("*.yaml"))
    if not path.exists():
        raise DataError(f"profile {path.stem!r} does not exist; there are {known}")
    try:
        profile = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no YAML: {error}") from error
    sections = {"the profile": profile} | (profile if isinstance(profile, dict) else {})
    refuse([name for name, section in sections.items() if not isinstance(section or {}, dict)], f"{path}: section",
           "is no mapping of keys to values", "write `key: value` lines below it")  # fmt: skip
    grid = profile.get(GRID) or {}
    if set(grid) != GRID_KEYS:
        raise DataError(f"{path}: section {GRID!r} needs exactly {sorted(GRID_KEYS)}, it has {sorted(grid)}")
    for section, values in profile.items():
        if section == GRID:
            continue
        notebook = path.parent.parent / f"{section}.ipynb"
        if not notebook.exists():
            raise DataError(f"{path}: section {section!r} names no notebook; there is no {notebook.name}")
        declared = declared_parameters(notebook)
        unknown = sorted(set(values or {}) - set(declared))
        if unknown:
            raise DataError(f"{path}: {section} declares no parameter {unknown}. Remedy: use one of {declared}")
    return profile


def declared_parameters(notebook):
    """The names in a notebook's cell tagged `parameters`, in order."""
    from papermill import inspect_notebook

    return list(inspect_notebook(str(notebook)))
