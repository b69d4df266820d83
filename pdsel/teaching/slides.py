"""The lesson as slides: `python -m pdsel.teaching.slides RUN FOLDER`, or `make slides`.

Each cell's slide type says where it goes: a slide, one below the last (subslide), or nowhere (skip). The pages fetch
reveal.js and MathJax when they are opened, so they need a network.
"""

import sys
from pathlib import Path

from pdsel.artifacts import save_text
from pdsel.teaching.lesson import LESSON, executed


def write_slides(run, folder):
    """Turn the lesson's notebooks into slides, as a run executed them.

    Parameters
    ----------
    run : str or Path
        The folder of a run, such as `results/local/class`.
    folder : str or Path
        Where the pages go, one a notebook.

    Returns
    -------
    list of Path
    """
    from nbconvert import SlidesExporter  # slow to import

    look = {"reveal_theme": "white", "reveal_scroll": True, "reveal_width": "1200", "reveal_height": "800"}
    exporter = SlidesExporter(exclude_input_prompt=True, exclude_output_prompt=True, **look)
    written = []
    for name in LESSON:
        page, _ = exporter.from_notebook_node(executed(run, name))
        written.append(save_text(page, Path(folder, f"{name}.html")))
    return written


if __name__ == "__main__":
    for path in write_slides(*sys.argv[1:]):
        print(path)
