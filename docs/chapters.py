"""The notebooks as chapters of the book: as a run executed them, or as they are committed, where no run did.

What a page cannot show is taken out: widgets without their kernel, the bookkeeping of papermill, and memory addresses.
"""

import json
import re
from pathlib import Path

RUNS = ("mini", "toy", "class", "smoke")  # of results/local; the first that executed a notebook is shown
METHOD = "PD"  # notebook 04 is executed once per method
WIDGET = "application/vnd.jupyter.widget-view+json"


def executed(root, name):
    """The path of a notebook as the first of `RUNS` executed it; None where none did, or only an older version of it."""
    committed = _sources(Path(root, "notebooks", f"{name}.ipynb"))
    for run in RUNS:
        folder = Path(root, "results", "local", run)
        for stem in (name, f"{name}-{METHOD}"):
            found = sorted(folder.glob(f"**/local/notebooks/{stem}.ipynb"))
            if found and not _failed(found[0]) and _sources(found[0]) == committed:
                return found[0]
    return None


def _failed(path):
    return json.loads(path.read_text())["metadata"].get("papermill", {}).get("exception")


def _sources(path):
    """What the cells of a notebook say, without those that papermill put in."""
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if "injected-parameters" not in cell["metadata"].get("tags", [])]


def lay_out(root, folder):
    """Write a chapter for every notebook of `root/notebooks` into `folder`, where it changed, and remove all others."""
    folder.mkdir(exist_ok=True)
    names = {path.stem for path in Path(root, "notebooks").glob("*.ipynb")}
    for old in folder.glob("*.ipynb"):
        if old.stem not in names:
            old.unlink()
    for name in sorted(names):
        source = executed(root, name) or Path(root, "notebooks", f"{name}.ipynb")
        text = json.dumps(chapter(json.loads(source.read_text())), indent=1)
        target = folder / f"{name}.ipynb"
        if not target.exists() or target.read_text() != text:
            target.write_text(text)


def chapter(notebook):
    """A notebook as the book shows it."""
    metadata = notebook["metadata"]
    metadata.pop("widgets", None)
    metadata.pop("papermill", None)
    ran = any(cell.get("outputs") for cell in notebook["cells"])
    cells = []
    for cell in notebook["cells"]:
        cell["metadata"].pop("papermill", None)
        if "injected-parameters" in cell["metadata"].get("tags", []):
            continue
        if cell["cell_type"] == "code":
            cell["outputs"] = [shown for output in cell["outputs"] if (shown := _output(output))]
            _words(cell)
        cells.append(cell)
    if not ran:
        cells.insert(1, _note())
    return notebook | {"cells": cells}


def _note():
    text = "```{note}\nNo run of this notebook was there when the book was built: `make run` executes it.\n```"
    return {"cell_type": "markdown", "id": "not-executed", "metadata": {}, "source": text}


def _output(output):
    """An output without widgets; None if nothing is left."""
    data = output.get("data")
    if data is None:
        return output
    data.pop(WIDGET, None)
    if "image/png" in data or "text/html" in data or "text/markdown" in data:
        data.pop("text/plain", None)
    return output if data else None


def _words(cell):
    """Hand the words of a cell's figure to the page, as its alternative text."""
    for output in cell["outputs"]:
        words = output.get("metadata", {}).get("image/png", {}).get("alt")
        if words:
            cell["metadata"].setdefault("mystnb", {}).setdefault("image", {})["alt"] = words


def to_chapters(app, page, source):
    """Let links to the repository's notebooks lead to their chapters."""
    source[0] = re.sub(r"\]\((?:\.\./)+notebooks/(\w+\.ipynb)", r"](/notebooks/\1", source[0])
