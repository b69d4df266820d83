"""Executed notebooks as pages of HTML, each whole in itself: figures inside, nothing fetched."""

import json
from html import escape
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from pdsel.artifacts import check_notebook, writing
from pdsel.checks import DataError

# JupyterLab's look without what it would fetch: scripts for formulas, diagrams and widgets.
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}<meta http-equiv="Content-Security-Policy" content="{{ policy }}">{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_css %}<style>main { max-width: 60em; margin: 0 auto; padding: 0 1em }</style>{% endblock %}
"""
# A response that is shown may hold HTML: in these pages no script runs, nothing is fetched, and no form is sent.
POLICY = (
    "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
)
TEMPLATE = TEMPLATE.replace("{{ policy }}", POLICY)
INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ font: 16px/1.5 sans-serif; max-width: 45em; margin: 2em auto; padding: 0 1em }}</style></head>
<body><h1>{title}</h1><ul>
{items}
</ul></body></html>
"""


def write_page(executed, path, *, manifest=None, code=False):
    """Write an executed notebook as a page of HTML; returns its path.

    Parameters
    ----------
    executed, path : Path
        The notebook, and the page.
    manifest : Path, optional
        A stage's manifest, to stand at the end.
    code : bool
        Show the code cells, too.
    """
    notebook = read_notebook(executed)
    notebook.metadata["title"] = title_of(notebook) or executed.stem
    if manifest is not None and manifest.exists():
        text = json.dumps(json.loads(manifest.read_text()), indent=1)
        notebook.cells.append(nbformat.v4.new_markdown_cell(f"## Manifest\n\n```json\n{text}\n```"))
    exporter = HTMLExporter(raw_template=TEMPLATE, exclude_input=not code, embed_images=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    body, _ = exporter.from_notebook_node(notebook)
    with writing(path) as scratch:
        scratch.write_text(body, encoding="utf-8")
    return path


def write_pages(folder, *, code=False):
    """Write a page for every executed notebook below a folder, and an index of them; returns the path of the index.

    Raises
    ------
    ValueError
        If there is no executed notebook.
    """
    folder = Path(folder)
    pages = []
    for executed in sorted(folder.rglob("*.ipynb")):
        check_notebook(executed, folder)
        notebook = read_notebook(executed)
        if any(cell.get("outputs") for cell in notebook.cells):
            name = "-".join(executed.relative_to(folder).with_suffix(".html").parts)
            write_page(executed, folder / "report" / name, code=code)
            pages.append((name, title_of(notebook) or executed.stem))
    if not pages:
        raise DataError(f"{folder} holds no executed notebook. Remedy: pdsel select, or make run, leaves some")
    items = "\n".join(f'<li><a href="{escape(name)}">{escape(title)}</a></li>' for name, title in pages)
    index = folder / "report" / "index.html"
    with writing(index) as scratch:
        scratch.write_text(INDEX.format(title=escape(folder.resolve().name), items=items), encoding="utf-8")
    return index


def read_notebook(path):
    """An executed notebook, of any version of the format.

    Raises
    ------
    ValueError
        If the file is not a notebook, or only a part of one.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        nbformat.ValidationError,
    ) as error:
        what = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{path} is not a whole notebook ({what}). Remedy: delete it, and run it again") from error
    return notebook


def title_of(notebook):
    """The first heading of a notebook; None without one.

    >>> title_of(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Your data\\n\\ntext")]))
    'Your data'
    """
    lines = (line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines())
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), None)
