"""How Sphinx builds the book: `make book`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import chapters
import docstrings

project = "pdsel"
author = "The pdsel authors"
copyright = "The pdsel authors"
release = version = importlib.metadata.version("pdsel")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = []
default_role = "literal"  # docstrings put code between single backticks

# Pages. A formula is drawn by the copy of MathJax that lies beside it: nothing is fetched.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
mathjax_path = "mathjax/tex-chtml.js"
nb_execution_mode = "off"  # notebooks come as they were executed by a run, see `chapters.py`
nb_merge_streams = True
nb_ipywidgets_js = {}  # a slider needs a kernel; the page shows the picture beside it
suppress_warnings = ["mystnb.unknown_mime_type"]

# API. Heavy libraries are imported, so that signatures and docstrings are the real ones.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "pdsel"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app):
    """Lay the notebooks out as chapters before Sphinx looks for pages."""
    chapters.lay_out(Path(app.srcdir).parent, Path(app.srcdir, "notebooks"))
    app.connect("source-read", chapters.to_chapters)
    app.connect("autodoc-process-docstring", docstrings.to_markup, priority=400)  # before napoleon
