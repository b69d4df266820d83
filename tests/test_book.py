"""README and the book: short, every page in a table of contents, every link leads somewhere, every figure has its words."""

import importlib.util
import json
import re
import runpy
from pathlib import Path

import pytest

from pdsel.pipeline.report import all_blocks, blocks_of, pages

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = pages(ROOT)
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
NEEDS_SPHINX = pytest.mark.skipif(
    importlib.util.find_spec("myst_nb") is None, reason="the extra `book` is not installed: pip install -e '.[book]'"
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def name_of(path):
    return str(path.relative_to(ROOT))


def without_code(text):
    """A page without its blocks of code, in which brackets are no links."""
    return re.sub(r"^(`{3,}|:{3,})(?!.*toctree)[^\n]*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def toctrees(page):
    """The pages that the tables of contents of a page name, as names below `docs`."""
    for body in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in body.splitlines():
            if line.strip() and not line.startswith(":"):
                target = line.strip()
                yield target[1:] if target.startswith("/") else str((page.parent / target).relative_to(DOCS))


def test_readme_is_short_and_has_the_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("make run ") for line in lines) and any(line.startswith("make test ") for line in lines)


def test_every_page_and_every_notebook_is_in_a_table_of_contents():
    book = [page for page in PAGES if page.parent != ROOT]
    named = [target for page in book for target in toctrees(page)]
    expected = [str(page.relative_to(DOCS).with_suffix("")) for page in book if page != DOCS / "index.md"]
    assert sorted(named) == sorted(expected + [f"notebooks/{name}" for name in NOTEBOOKS])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page):
    for _, words, target in LINK.findall(without_code(page.read_text())):
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            assert (page.parent / path).exists(), f"[{words}]({target})"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_figures_of_a_page_have_words(page):
    for image, words, target in LINK.findall(page.read_text()):
        assert not image or len(words) > 20, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_generated_blocks_have_their_two_markers(page):
    text = page.read_text()
    begun, ended = (re.findall(rf"<!-- {word}:(\w+) -->", text) for word in ("begin", "end"))
    assert begun == ended == list(blocks_of(text))


def test_what_readme_says_in_short_comes_from_the_committed_results(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = all_blocks(profiles=[])
    for page in PAGES:
        for name, body in blocks_of(page.read_text()).items():
            assert name not in blocks or body == blocks[name], f"{name_of(page)}: {name}; run make results"


def test_every_public_module_is_on_a_page_of_the_api():
    shown = "\n".join(page.read_text() for page in (DOCS / "reference" / "api").glob("*.md"))
    named = set(re.findall(r"^\.\. automodule:: (\S+)$", shown, re.MULTILINE))
    modules = set()
    for path in (ROOT / "pdsel").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            modules.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert named == modules - {"pdsel", "pdsel.judges"}  # the door to everything, and one to `pdsel.evaluation.judges`


def test_resuming_is_told_in_five_sentences():
    text = (DOCS / "run" / "resuming.md").read_text().partition("\n\n")[2]
    assert len(re.findall(r"\.(?=\s)", text.replace("`.", "`"))) == 5


def chapters():
    """The module that lays out the chapters, which is in `docs` and not in the package."""
    spec = importlib.util.spec_from_file_location("chapters", DOCS / "chapters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_chapter_has_no_widgets_and_its_figures_keep_their_words():
    widget, picture = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "HBox()"}, {"image/png": "aGk="}
    cell = {"cell_type": "code", "metadata": {"tags": []}, "source": "", "id": "a", "execution_count": 1}
    outputs = [
        {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.jupyter.widget-view+json": {}}},
        {"output_type": "display_data", "metadata": {"image/png": {"alt": "PD wins."}}, "data": picture},
        {"output_type": "stream", "name": "stdout", "text": "said"},
    ]
    injected = cell | {"metadata": {"tags": ["injected-parameters"]}, "outputs": []}
    notebook = {"metadata": {"widgets": widget}, "cells": [injected, cell | {"outputs": outputs}]}
    made = chapters().chapter(notebook)
    (only,) = made["cells"]
    assert [output["output_type"] for output in only["outputs"]] == ["display_data", "stream"]
    assert only["metadata"]["mystnb"]["image"]["alt"] == "PD wins." and "widgets" not in made["metadata"]


def test_chapters_are_what_a_run_executed_or_what_is_committed(tmp_path):
    def write(path, *outputs, source=""):
        cell = {
            "cell_type": "code",
            "metadata": {},
            "source": source,
            "id": "a",
            "execution_count": 1,
            "outputs": outputs,
        }
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps({"metadata": {}, "cells": [cell]}))

    lay_out, made = chapters().lay_out, tmp_path / "docs" / "notebooks"
    ran = {"output_type": "stream", "name": "stdout", "text": "said by the run"}
    write("results/local/mini/conflict30-seed0/local/notebooks/04_dpo-PD.ipynb", ran)
    write("notebooks/04_dpo.ipynb")
    write("results/local/mini/local/notebooks/05_new.ipynb", ran, source="an older version")
    write("notebooks/05_new.ipynb")
    made.parent.mkdir()
    lay_out(tmp_path, made)
    assert "said by the run" in (made / "04_dpo.ipynb").read_text()
    assert "`make run` executes it" in (made / "05_new.ipynb").read_text()
    (tmp_path / "notebooks" / "05_new.ipynb").unlink()
    lay_out(tmp_path, made)
    assert [path.name for path in made.iterdir()] == ["04_dpo.ipynb"]


@NEEDS_SPHINX
def test_the_extensions_of_the_book_are_installed(monkeypatch):
    """As far as a test can see without building: `make book` builds, and takes a warning for an error."""
    monkeypatch.syspath_prepend(str(DOCS))
    settings = runpy.run_path(str(DOCS / "conf.py"))
    for name in settings["extensions"]:
        importlib.import_module(name)
