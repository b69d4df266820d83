"""Writes the exercises of the registry into the notebooks, as their last cells."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

from pdsel.teaching.registry import EXERCISES

MARK = "exercises-"  # how the ids of these cells begin
NO_SLIDE = {"slideshow": {"slide_type": "skip"}}
HEADING = (
    "## Exercises\n\nPut your answer in the place of `...`: `check` says yes, not yet, or a hint. Solutions, "
    "with their reasons, "
    "are in `solutions/solutions.ipynb`."
)
IMPORT = "from pdsel.teaching import check"
WORLD = f"{IMPORT}, small_world\n\nworld = small_world()"


def exercise_cells(notebook):
    """The cells of a notebook's exercises; none if it has none.

    Parameters
    ----------
    notebook : str
        Its number, such as "03b".

    Returns
    -------
    list of nbformat cells

    >>> [cell.id for cell in exercise_cells("00b")][:3]
    ['exercises-00b', 'exercises-00b-import', 'exercises-00b-1']
    """
    own = [each for each in EXERCISES.values() if each.notebook == notebook]
    if not own:
        return []
    world = any("small_world" in each.question for each in own)
    needed = new_code_cell(WORLD if world else IMPORT, id=f"{MARK}{notebook}-import")
    cells = [new_markdown_cell(HEADING, id=f"{MARK}{notebook}"), needed]
    for each in own:
        name = f"{MARK}{notebook}-{each.number.split('.')[1]}"
        minutes = f"{each.minutes} minute{'s' if each.minutes > 1 else ''}"
        cells.append(new_markdown_cell(f"**{each.number}** ({minutes}). {each.question}", id=name))
        cells.append(new_code_cell(f'answer = ...\ncheck("{each.number}", answer)', id=f"{name}-check"))
    for cell in cells:
        cell.metadata.update(NO_SLIDE)
    return cells


def place(path):
    """Replace the exercise cells of a notebook by those of the registry; returns whether the file has changed."""
    path = Path(path)
    before = path.read_text()
    notebook = nbformat.reads(before, as_version=4)
    cells = [cell for cell in notebook.cells if not cell.id.startswith(MARK)]
    notebook.cells = cells + exercise_cells(path.stem.split("_")[0])
    after = nbformat.writes(notebook) + "\n"
    if after != before:
        path.write_text(after)
    return after != before
