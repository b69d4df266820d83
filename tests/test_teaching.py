"""Exercises: a check accepts its solution and refuses wrong answers, notebooks carry the text, the solutions run."""

from pathlib import Path

import nbformat
import papermill
import pytest

from pdsel.checks import DataError
from pdsel.teaching import EXERCISES, bet, check, exercise_table
from pdsel.teaching.place import MARK, exercise_cells

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = ROOT / "notebooks" / "solutions" / "solutions.ipynb"


@pytest.mark.parametrize("number", EXERCISES)
def test_a_check_accepts_the_solution_and_refuses_two_wrong_answers(number):
    exercise = EXERCISES[number]
    assert check(number, exercise.solution()), check(number, exercise.solution())
    wrong = [answer for answer, _ in exercise.mistakes]
    assert len(wrong) >= 2
    for (_, why), told in zip(exercise.mistakes, map(exercise.check, wrong), strict=True):
        assert not told and why in told.text and exercise.hint in told.text
    for answer in ("words", None, [1, 2, 3], {"key": 1}, float("nan")):
        assert not check(number, answer)
    assert not check(number) and exercise.hint in check(number).text


def test_exercises_are_short_and_their_words_end():
    table = exercise_table()
    assert table["minutes"].between(1, 8).all()
    assert table.groupby(lambda number: number.split(".")[0])["minutes"].sum().max() <= 20
    for each in EXERCISES.values():
        assert each.because.endswith(".") and each.question.endswith((".", "?", ")")), each.number


def test_an_exercise_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="number='3.1': there is no such exercise. Remedy: use one of"):
        check("3.1", 1)


def test_a_number_says_on_which_side_it_lies():
    assert "It is larger than that." in check("05.1", 10).text and "It is smaller than that." in check("05.1", 40).text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_end_with_the_exercises_of_the_registry(path):
    """To mend it: make exercises."""
    found = [cell for cell in nbformat.read(path, 4).cells if cell.id.startswith(MARK)]
    if not found:
        pytest.skip("no exercises with a check are in this notebook")
    expected = exercise_cells(path.stem.split("_")[0])
    assert [(cell.id, cell.source) for cell in found] == [(cell.id, cell.source) for cell in expected]


def test_every_exercise_has_a_notebook():
    numbers = {path.stem.split("_")[0] for path in NOTEBOOKS}
    assert {each.notebook for each in EXERCISES.values()} <= numbers


def test_the_solutions_run_and_every_check_says_yes(tmp_path):
    done = papermill.execute_notebook(SOLUTIONS, tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False)
    said = [str(output.get("data", {})) for cell in done.cells for output in cell.get("outputs", [])]
    verdicts = [text for text in said if "**Yes.**" in text or "**Not yet.**" in text]
    assert len(verdicts) == len(EXERCISES) and all("**Yes.**" in text for text in verdicts)
    solved = "".join(cell.source for cell in done.cells)
    assert [number for number in EXERCISES if f'check("{number}"' not in solved] == []
    assert not any(cell.outputs for cell in nbformat.read(SOLUTIONS, 4).cells if cell.cell_type == "code")


def test_a_bet_lists_its_options_where_nobody_can_choose(monkeypatch, capsys):
    monkeypatch.setenv("PDSEL_RUN", "1")
    bet("Which end holds more wrong labels?", "the lowest", "the highest")
    assert capsys.readouterr().out.count("Markdown") == 2
