"""The lesson as slides: `python -m pdsel.teaching.slides RUN FOLDER`, or `make slides`.

Each cell's slide type says where it goes: a slide, one below the last (subslide), or nowhere (skip). reveal.js, which shows
them, and MathJax, which draws formulas, lie beside the pages: they open without a network, and the folder can be carried.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from pdsel.artifacts import save_text
from pdsel.checks import DataError
from pdsel.teaching.lesson import LESSON, executed

# What a page needs, and the packages of the extra `book` that carry it: nothing of it is in this repository.
REVEAL = ("sphinx_revealjs", "_static/revealjs")
MATHJAX = ("sphinx-mathjax-offline", "static/mathjax/tex-svg.js")
# nbconvert's page without what it would fetch: jQuery, require.js, Mermaid, an old MathJax, and scripts for widgets.
TEMPLATE = """{% extends 'reveal/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_css %}
<style>
.reveal .slides section section { max-height: 800px; overflow-y: auto }
:root body { --r-heading-text-transform: none }
</style>
{% endblock %}
{% block footer_js %}
<script src="reveal.js/dist/reveal.js"></script>
<script src="reveal.js/plugin/notes/notes.js"></script>
<script src="reveal.js/plugin/math/math.js"></script>
<script>
Reveal.initialize({
  width: 1200, height: 800, hash: true, plugins: [RevealNotes, RevealMath.MathJax3], mathjax3: {mathjax: "mathjax.js"},
});
</script>
{% endblock %}
"""


def write_slides(run, folder):
    """Turn the lesson's notebooks into slides, as a run executed them.

    Parameters
    ----------
    run : str or Path
        The folder of a run, such as `results/local/class`.
    folder : str or Path
        Where the pages go, one a notebook, and the scripts that they need.

    Returns
    -------
    list of Path
        The pages.
    """
    from nbconvert import SlidesExporter  # slow to import

    notebooks = {name: executed(run, name) for name in LESSON}
    lay_beside(folder)
    exporter = SlidesExporter(raw_template=TEMPLATE, reveal_url_prefix="reveal.js", reveal_theme="white")
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    return [
        save_text(exporter.from_notebook_node(notebook)[0], Path(folder, f"{name}.html"))
        for name, notebook in notebooks.items()
    ]


def lay_beside(folder):
    """Copy reveal.js and MathJax into the folder of the pages.

    Raises
    ------
    ValueError
        If the packages that carry them are not installed.
    """
    found = [find_spec(package) for package, _ in (REVEAL, MATHJAX)]
    if None in found:
        raise DataError("slides need the packages that carry reveal.js and MathJax. Remedy: pip install -e '.[book]'")
    reveal, mathjax = (
        Path(spec.origin).parent / inside for spec, (_, inside) in zip(found, (REVEAL, MATHJAX), strict=True)
    )
    for part in ("dist", "plugin/math", "plugin/notes"):
        unread = shutil.ignore_patterns("*.map", "*.esm.js")
        shutil.copytree(reveal / part, Path(folder, "reveal.js", part), dirs_exist_ok=True, ignore=unread)
    shutil.copy(reveal / "LICENSE", Path(folder, "reveal.js"))
    shutil.copy(mathjax, Path(folder, "mathjax.js"))


if __name__ == "__main__":
    for path in write_slides(*sys.argv[1:]):
        print(path)
