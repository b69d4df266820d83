"""Exercises: a check accepts its solution and refuses wrong answers, notebooks carry the text, the solutions run."""

import re
from pathlib import Path

import nbformat
import numpy
import pandas
import papermill
import pytest

from pdsel.checks import DataError
from pdsel.teaching import EXERCISES, QUESTIONS, bet, check, exercise_table, quiz, slides
from pdsel.teaching.handout import ASPECT, MARGINS, PROMPTS, answers, write_handout
from pdsel.teaching.lesson import BESIDE, LESSON, lay_out
from pdsel.teaching.place import MARK, exercise_cells
from pdsel.teaching.questions import quiz_page
from pdsel.teaching.registry import exercise_page
from pdsel.teaching.slides import write_slides

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


def test_the_pages_of_the_quiz_and_of_the_exercises_are_what_the_code_says():
    """To mend it: make exercises."""
    for name, page in {"quiz": quiz_page(), "exercises": exercise_page()}.items():
        assert (ROOT / "docs" / "learn" / f"{name}.md").read_text() == page + "\n"


def test_the_quiz_has_ten_questions_whose_right_answers_are_spread(monkeypatch, capsys):
    assert len(QUESTIONS) == 10
    for question in QUESTIONS:
        assert len(set(question.options)) == 3 and question.because.endswith(".")
        verdicts = [question.verdict(option) for option in question.options]
        assert [verdict.startswith("Yes.") for verdict in verdicts].index(True) == question.right
    assert {question.right for question in QUESTIONS} == {0, 1, 2}
    monkeypatch.setenv("PDSEL_RUN", "1")
    quiz()
    assert capsys.readouterr().out.count("Markdown") == 20


def test_a_choice_in_the_quiz_is_answered_at_once():
    from pdsel.teaching.bets import buttons
    from pdsel.teaching.questions import _reply

    question = QUESTIONS[0]
    choice = buttons(question.options)
    reply = _reply(question, choice)
    choice.value = question.options[0]
    assert reply.value.startswith("Not yet")
    choice.value = question.options[question.right]
    assert reply.value.startswith("Yes.")


def test_the_handout_has_two_pages_and_the_pairs_of_notebook_00(tmp_path):
    pdf = write_handout(tmp_path / "handout.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page ") == 2
    cells = {cell.id: cell.source for cell in nbformat.read(ROOT / "notebooks" / "00_idea.ipynb", 4).cells}
    shown = {"pd": pandas, "np": numpy}
    exec(cells["idea-21a"] + "\n" + cells["idea-21"], shown)
    assert shown["margins"].equals(MARGINS) and shown["aspect"].tolist() == ASPECT.tolist()
    texts = shown["pairs"][["prompt", "chosen", "rejected"]].replace("`", "", regex=True)
    assert texts.apply(tuple, axis=1).to_dict() == PROMPTS
    assert answers().idxmin() == "z1" and answers().idxmax() == "z4"


@pytest.mark.parametrize("name", [name.split("-")[0] for name in LESSON])
def test_slides_have_headings_and_leave_out_set_up_and_exercises(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "")
        tags = set(cell.metadata.get("tags", []))
        if tags & {"parameters", "hide-input"} or cell.id.startswith(MARK):
            assert kind == "skip", cell.id
        elif cell.cell_type == "markdown" and cell.source.startswith(("# ", "## ")):
            assert kind in ("slide", "skip"), cell.id
    assert notebook.cells[0].metadata["slideshow"]["slide_type"] == "slide"


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has executed the lesson; its notebooks have no outputs here."""
    for name in (*LESSON, *BESIDE):
        source = ROOT / "notebooks" / f"{name.split('-')[0]}.ipynb"
        executed = tmp_path / "class" / "local" / "notebooks" / f"{name}.ipynb"
        executed.parent.mkdir(parents=True, exist_ok=True)
        executed.write_text(source.read_text())
    return tmp_path / "class"


@pytest.fixture
def carriers(tmp_path, monkeypatch):
    """Packages that carry reveal.js and MathJax, with next to nothing in them."""
    for package, inside in (slides.REVEAL, slides.MATHJAX):
        place = tmp_path / "site" / package / inside
        for file in [place] if place.suffix else [place / "LICENSE", place / "dist" / "reveal.js"]:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
        (tmp_path / "site" / package / "__init__.py").write_text("")
    for part in ("math", "notes"):
        (tmp_path / "site" / "sphinx_revealjs" / "_static/revealjs/plugin" / part).mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_slides_need_the_packages_that_carry_their_scripts(run, tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "find_spec", lambda package: None)
    with pytest.raises(DataError, match=r"carry reveal.js and MathJax. Remedy: pip install -e '.\[book\]'"):
        write_slides(run, tmp_path / "slides")


def test_slides_are_made_from_a_run_and_fetch_nothing(run, tmp_path, carriers):
    with pytest.raises(DataError, match="holds no executed 00_idea. Remedy: make run PROFILE=absent"):
        write_slides(tmp_path / "absent", tmp_path)
    page = write_slides(run, tmp_path / "slides")[0].read_text()
    assert "reveal" in page and "seven lines" in page and "check(" not in page
    fetched = re.findall(r'<(?:script|link)[^>]*(?:src|href)="([^"]*)"', page)
    assert sorted(fetched) == [
        "reveal.js/dist/reveal.css",
        "reveal.js/dist/reveal.js",
        "reveal.js/dist/theme/white.css",
        "reveal.js/plugin/math/math.js",
        "reveal.js/plugin/notes/notes.js",
    ]
    assert (tmp_path / "slides" / "mathjax.js").exists() and (tmp_path / "slides" / "reveal.js" / "LICENSE").exists()


def test_the_lesson_is_a_copy_that_is_not_written_over(run, tmp_path):
    lesson = tmp_path / "lesson"
    assert len(lay_out(run, lesson, ROOT / "notebooks")) == len(LESSON) + len(BESIDE)
    assert (lesson / "04_dpo.ipynb").exists() and (lesson / "solutions" / "solutions.ipynb").exists()
    (lesson / "00_idea.ipynb").write_text("worked on")
    assert lay_out(run, lesson, ROOT / "notebooks") == []
    assert (lesson / "00_idea.ipynb").read_text() == "worked on"
