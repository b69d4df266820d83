"""The class's notebooks as slides: `python -m pdsel.teaching.slides RUN FOLDER`, or `make slides`.

Each cell's slide type says where it goes: a slide, one below the last (subslide), or nowhere (skip). The pages fetch
reveal.js and MathJax when they are opened; a third argument is the address of a reveal.js of your own.
"""

import sys
from pathlib import Path

import nbformat

from pdsel.artifacts import save_text
from pdsel.checks import DataError

LESSON = ("00_idea", "01_data", "02_proxies", "03_selection", "04_dpo-PD", "05_evaluation")


def write_slides(run, folder, reveal=""):
    """Turn the lesson's notebooks into slides, as a run executed them.

    Parameters
    ----------
    run : str or Path
        The folder of a run, such as `results/local/class`.
    folder : str or Path
        Where the pages go, one a notebook.
    reveal : str
        The address of reveal.js; "": the one on the web that nbconvert names.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        If the run has not executed a notebook of the lesson.
    """
    from nbconvert import SlidesExporter  # slow to import

    exporter = SlidesExporter(reveal_scroll=True, reveal_theme="white", exclude_input_prompt=True)
    exporter.exclude_output_prompt = True
    if reveal:
        exporter.reveal_url_prefix = reveal
    written = []
    for name in LESSON:
        found = sorted(Path(run).glob(f"**/local/notebooks/{name}.ipynb"))
        if not found:
            raise DataError(f"{run} holds no executed {name}. Remedy: make run PROFILE={Path(run).name}")
        page, _ = exporter.from_notebook_node(nbformat.read(found[0], 4))
        written.append(save_text(page, Path(folder, f"{name}.html")))
    return written


def slide_types(notebook):
    """The slide type of each cell that is shown, in order; a cell without one goes on with the slide before.

    >>> from nbformat.v4 import new_markdown_cell, new_notebook
    >>> cells = [new_markdown_cell("# A", metadata={"slideshow": {"slide_type": "slide"}}), new_markdown_cell("B")]
    >>> slide_types(new_notebook(cells=cells))
    ['slide', '']
    """
    types = [cell.metadata.get("slideshow", {}).get("slide_type", "") for cell in notebook.cells]
    return [kind for kind in types if kind != "skip"]


if __name__ == "__main__":
    for path in write_slides(*sys.argv[1:]):
        print(path)
