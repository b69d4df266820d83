"""The lesson as slides: `python -m pdsel.teaching.slides RUN FOLDER`, or `make slides`.

Each cell's slide type says where it goes: a slide, one below the last (subslide), or nowhere (skip). The pages fetch
reveal.js and MathJax when they are opened; a third argument is the address of a reveal.js of your own.
"""

import sys
from pathlib import Path

from pdsel.artifacts import save_text
from pdsel.teaching.lesson import LESSON, executed


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
    """
    from nbconvert import SlidesExporter  # slow to import

    exporter = SlidesExporter(reveal_scroll=True, reveal_theme="white", exclude_input_prompt=True)
    exporter.exclude_output_prompt = True
    if reveal:
        exporter.reveal_url_prefix = reveal
    written = []
    for name in LESSON:
        page, _ = exporter.from_notebook_node(executed(run, name))
        written.append(save_text(page, Path(folder, f"{name}.html")))
    return written


if __name__ == "__main__":
    for path in write_slides(*sys.argv[1:]):
        print(path)
