"""The lesson's notebooks with the results of a run in place: `make lesson`, and as slides: `make slides`.

A notebook of the lesson is a copy of what a run executed, in a folder beside `notebooks`. It opens with its outputs, and
*Run all* works on that run, since the parameters of the run are in it.
"""

import shutil
import sys
from pathlib import Path

import nbformat

from pdsel.artifacts import save_text
from pdsel.checks import DataError

LESSON = ("00_idea", "01_data", "02_proxies", "03_selection", "04_dpo-PD", "05_evaluation")
BESIDE = ("00b_theory", "06_results", "07_your_data")  # opened as well, but not shown
HIDDEN = {"jupyter": {"source_hidden": True}, "slideshow": {"slide_type": "skip"}}


def executed(run, name):
    """A notebook as a run executed it, without the bookkeeping of papermill.

    Raises
    ------
    ValueError
        If the run has not executed it.
    """
    found = sorted(Path(run).glob(f"**/local/notebooks/{name}.ipynb"))
    if not found:
        raise DataError(f"{run} holds no executed {name}. Remedy: make run PROFILE={Path(run).name}")
    notebook = nbformat.read(found[0], 4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.update(HIDDEN)
    return notebook


def lay_out(run, folder="lesson", notebooks="notebooks"):
    """Copy the lesson into a folder beside `notebooks`; what is there already is kept, since it may have been worked on.

    Parameters
    ----------
    run : str or Path
        The folder of a run, such as `results/local/class`.
    folder : str or Path
    notebooks : str or Path
        Where the solutions are.

    Returns
    -------
    list of Path
        The notebooks that are new.
    """
    new = []
    for name in (*LESSON, *BESIDE):
        path = Path(folder, f"{name.split('-')[0]}.ipynb")
        if not path.exists():
            new.append(save_text(nbformat.writes(executed(run, name)), path))
    shutil.copytree(Path(notebooks, "solutions"), Path(folder, "solutions"), dirs_exist_ok=True)
    return new


if __name__ == "__main__":
    for path in lay_out(*sys.argv[1:]):
        print(path)
