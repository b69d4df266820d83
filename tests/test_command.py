"""The console command: options that are the notebook's, a selection with its report, and answers to bad input."""

import json
import runpy
import sys
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest

from pdsel.artifacts import read_manifest
from pdsel.command.__main__ import main, parser
from pdsel.command.run import NOTEBOOK, parameters
from pdsel.notesworld import model_path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = files("pdsel") / "examples" / "rated.jsonl"


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection") / "kept"
    assert main(["select", str(EXAMPLE), "-o", str(folder), "--share", "0.25", "--steps", "0"]) == 0
    return folder


def test_the_command_runs_the_notebook_of_the_lesson():
    assert NOTEBOOK.read_bytes() == (ROOT / "notebooks" / "07_your_data.ipynb").read_bytes()
    given = vars(parser().parse_args(["select", "mine.jsonl", "--training", "epochs=3,lora_rank=8"]))
    assert set(given) == {"command", *parameters()}
    assert given["training"] == {"epochs": 3, "lora_rank": 8} and given["share"] == parameters()["share"][0]


def test_a_selection_leaves_pairs_a_manifest_and_a_report(selected):
    kept = pd.read_parquet(selected / "preferences" / "train.parquet")
    assert kept["pd"].is_monotonic_increasing and len(kept) == round(0.25 * 265)
    assert read_manifest("07_your_data", selected)["facts"]["n_kept"] == len(kept)
    page = (selected / "report.html").read_text()
    for part in ["Read aloud", "What would warn you?", "data:image/png;base64", "Manifest", kept["chosen"][0]]:
        assert part in page, part
    assert "import pandas" not in page and "https://cdn" not in page, "no code, and nothing is fetched"


def test_trl_trains_ten_steps_on_a_selection(selected, tmp_path, monkeypatch):
    script = ROOT / "docs" / "use" / "train_dpo.py"
    arguments = [str(selected / "preferences"), model_path("notesworld"), str(tmp_path / "policy")]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    trainer = runpy.run_path(str(script), run_name="__main__")["trainer"]
    assert trainer.state.global_step == 10
    assert (tmp_path / "policy" / "model.safetensors").exists()
    code = [line for line in script.read_text().splitlines() if line and not line.startswith(("import", "from", '"""'))]
    assert len(code) <= 10, "ten lines"


def test_what_a_selection_writes_is_read_again(selected, capsys):
    assert main(["check", str(selected / "preferences" / "train.parquet")]) == 0
    said = capsys.readouterr().out
    assert "66 pairs read" in said and "has to come from proxies" in said and "Few pairs" in said


def test_check_says_what_is_in_a_file(capsys):
    assert main(["check", str(EXAMPLE)]) == 0
    said = capsys.readouterr().out
    assert "265 pairs, labelled on 4 aspects" in said and "no proxy has to be trained" in said


def test_report_makes_a_page_of_every_executed_notebook(selected, capsys):
    assert main(["report", str(selected)]) == 0
    index = Path(capsys.readouterr().out.strip())
    assert "07 · Your data in" in index.read_text() and (index.parent / "your_data.html").exists()


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["check", "nowhere.jsonl"], "there is no file at nowhere.jsonl"),
        (["check", "{pairs}"], "column missing: aspect; present are"),
        (["report", "{folder}"], "holds no executed notebook"),
        (["select", "nowhere.jsonl", "-o", "{folder}/out"], "there is no file at nowhere.jsonl"),
    ],
)
def test_a_mistake_is_answered_in_words(arguments, answer, tmp_path, capsys):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "Why?", "chosen": "Because.", "rejected": "No."}))
    (tmp_path / "empty").mkdir()
    given = [part.format(pairs=pairs, folder=tmp_path / "empty") for part in arguments]
    assert main(given) == 1
    assert answer in capsys.readouterr().err
