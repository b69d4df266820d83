"""One bar at a time, none where nobody looks, and nothing left of it in a notebook."""

import nbformat
import papermill
import pytest

from pdsel.engine.progress import Progress

CELL = """
from pdsel.engine.progress import Progress
for outer in Progress(range(2), desc="outer"):
    for inner in Progress(range(2), desc="inner"):
        pass
"""


BROKEN = """
from pdsel.engine.progress import Progress
bar = Progress(range(2))
for each in bar:
    break
"""


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """What a notebook with two nested bars shows, under variables of the environment."""

    def run(*cells, **variables):
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in [*cells, CELL]])
        nbformat.write(notebook, tmp_path / "bars.ipynb")
        options = {"kernel_name": "python3", "progress_bar": False}
        return papermill.execute_notebook(tmp_path / "bars.ipynb", tmp_path / "out.ipynb", **options).cells[-1].outputs

    return run


def test_a_notebook_keeps_nothing_of_a_bar(outputs):
    (only,) = outputs()
    assert only.data == {"text/plain": ""}


def test_a_bar_that_was_left_open_hides_no_later_one(outputs):
    assert len(outputs(BROKEN)) == 1


def test_a_run_of_the_graph_draws_no_bar(outputs):
    assert outputs(PDSEL_RUN="1") == [] and outputs(TQDM_DISABLE="1") == []


def test_of_bars_within_bars_the_outermost_is_drawn(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with Progress(total=1) as outer:
        assert not outer.disable and Progress(range(3)).disable
    with Progress(total=1) as next_one:
        assert not next_one.disable
