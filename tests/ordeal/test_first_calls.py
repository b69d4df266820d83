"""What a newcomer gets wrong, a call a row: the answer names the thing, its place and what to do, in one line."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dry_run import main as dry_run

import pdsel
from ordeal.trials import LONGEST
from pdsel.artifacts import Stage
from pdsel.checks import DataError
from pdsel.evaluation.judges.llm import LLMJudge
from pdsel.pipeline.__main__ import main as pipeline
from pdsel.pipeline.profiles import find_profile, load_profile

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = files("pdsel") / "examples" / "rated.jsonl"
MARGINS = pd.DataFrame({"honesty": [0.5, -0.2], "tone": [0.1, 0.4]}, index=["p", "q"])
ASPECT = pd.Series({"p": "honesty", "q": "tone"})
SCORES = pd.Series({"p": -1.0, "q": 1.0})
PAIR = {"pair_id": "p", "prompt": "Why?", "chosen": "Because.", "rejected": "No.", "aspect": "honesty"}
RATED = {
    "instruction": "Why?",
    "completions": [{"response": text, "annotations": {"a": 1, "b": 2}} for text in ("x", "y")],
}


def written(folder, text, name="mine.jsonl"):
    """Ratings from a file with this text, or with this row."""
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return pdsel.load_ratings(path)


def with_rating(value):
    row = json.loads(json.dumps(RATED))
    row["completions"][0]["annotations"]["a"] = value
    return row


def with_response(value):
    row = json.loads(json.dumps(RATED))
    row["completions"][0]["response"] = value
    return row


def train(**options):
    return pdsel.train_dpo([PAIR], **{"model": "notesworld", "output_dir": "nowhere"} | options)


FILES = {
    "a path that is wrong": (
        lambda f: pdsel.load_ratings(f / "no.jsonl"),
        r"there is no file at .*no\.jsonl; check the path",
    ),
    "a CSV": (lambda f: written(f, "a,b", "mine.csv"), r"mine\.csv'.*\.jsonl, \.jsonl\.gz or \.parquet"),
    "a JSON file": (lambda f: written(f, "[]", "mine.json"), r"mine\.json'.*\.jsonl, \.jsonl\.gz or \.parquet"),
    "an empty file": (lambda f: written(f, ""), "is empty: no prompts to read. Remedy: write one JSON object"),
    "a rating in words": (
        lambda f: written(f, with_rating("five")),
        r"ratings\['a'\] is text: 1 .*Remedy: give a finite",
    ),
    "a null response": (
        lambda f: written(f, with_response(None)),
        "responses holds a null or empty response: 1 .*Remedy",
    ),
    "a CSV that is called JSONL": (
        lambda f: written(f, "prompt,response\nWhy?,x"),
        "line 1, is not a JSON object.*one prompt",
    ),
    "a pair that is called ratings": (lambda f: written(f, PAIR), "row 1 is a pair.*Remedy: .*load_preferences"),
    "a name with a slip": (lambda f: pdsel.load_ratings("org/UltraFeedbak"), "did you mean ultrafeedback"),
    "a limit in text": (lambda f: pdsel.load_ratings(EXAMPLE, limit="3"), "limit='3' is not a whole number.*limit=100"),
    "signs in a list": (lambda f: pdsel.load_ratings(EXAMPLE, signs=["a"]), r"signs=\['a'\] is not a dict.*-1"),
}
TABLES = {
    "an unknown aspect": (
        lambda: pdsel.make_pairs(pdsel.load_ratings(EXAMPLE, limit=2), aspects=["honest", "honesty"]),
        r"present in no row: 1 \(first: honest\).*use some of",
    ),
    "an aspect that is given twice": (
        lambda: pdsel.make_pairs(pdsel.load_ratings(EXAMPLE, limit=2), aspects=["honesty", "honesty"]),
        r"occurs more than once: 1 \(first: honesty\)",
    ),
    "a single aspect": (
        lambda: pdsel.make_pairs(pdsel.load_ratings(EXAMPLE, limit=2), aspects=["honesty"]),
        "give at least two aspects",
    ),
    "conflict in percent": (
        lambda: pdsel.make_pairs(pdsel.load_ratings(EXAMPLE, limit=2), conflict=30),
        r"conflict=30 is not a share; give a number in \[0, 1\]",
    ),
    "conflict in text": (
        lambda: pdsel.make_pairs(pdsel.load_ratings(EXAMPLE, limit=2), conflict="0.3"),
        r"conflict='0.3' is not a share; give a number in \[0, 1\]",
    ),
    "a size that is too large": (
        lambda: pdsel.make_pairs(pdsel.load_ratings(EXAMPLE, limit=2), size=10**6),
        "the data can supply .*Remedy: a smaller size",
    ),
    "pairs of a frame": (lambda: pdsel.make_pairs(MARGINS), "ratings is a DataFrame.*from_pandas"),
    "pairs of a list": (lambda: pdsel.make_pairs([PAIR]), "ratings is a list.*from_list"),
    "training on a list": (train, "pairs is a list, not a datasets.Dataset"),
    "a share in percent": (lambda: pdsel.select(SCORES, 30), r"share=30 is not in \(0, 1\].*such as 0.3"),
    "a share in text": (lambda: pdsel.select(SCORES, "0.3"), r"share='0.3' is not in \(0, 1\].*such as 0.3"),
    "no share": (lambda: pdsel.select(SCORES, None), r"share=None is not in \(0, 1\].*such as 0.3"),
    "another end": (lambda: pdsel.select(SCORES, 0.5, keep="low"), "keep='low': use 'lowest' or 'highest'"),
    "scores in a list": (lambda: pdsel.select([1.0], 0.5), "scores is a list.*pandas.Series"),
    "scores in a frame": (lambda: pdsel.select(MARGINS, 0.5), "scores is a DataFrame.*one of its columns"),
    "scores in words": (
        lambda: pdsel.select(SCORES.map(lambda _: "low"), 0.5),
        "scores holds (str|object), not numbers. Remedy",
    ),
    "scores without ids": (
        lambda: pdsel.select(SCORES.set_axis([None, "q"]), 0.5),
        "an id is null. Remedy: scores.set_axis",
    ),
    "scores of mixed ids": (lambda: pdsel.select(SCORES.set_axis([1, "q"]), 0.5), "ids are of several types.*Remedy"),
    "a quantile in percent": (
        lambda: pdsel.scale_margins(MARGINS, ASPECT, quantile=90),
        "quantile=90 is not in.*such as 0.9",
    ),
    "a quantile in text": (lambda: pdsel.scale_margins(MARGINS, ASPECT, quantile="0.9"), "quantile='0.9' is not in"),
    "weights that name nothing": (
        lambda: pdsel.preference_divergence(MARGINS, ASPECT, weights={"honest": 1, "tone": 1}),
        r"\['honest'\] name none of \['honesty', 'tone'\]",
    ),
    "weights in a list": (
        lambda: pdsel.preference_divergence(MARGINS, ASPECT, weights=[1, 1]),
        "weights is a list, not a dict",
    ),
    "weights in text": (
        lambda: pdsel.preference_divergence(MARGINS, ASPECT, weights={"honesty": "1", "tone": 1}),
        r"weights is not positive and finite: 1 \(first: honesty\)",
    ),
    "aspects after reset_index": (
        lambda: pdsel.preference_divergence(MARGINS, ASPECT.reset_index(drop=True)),
        "as after reset_index: aspect.set_axis",
    ),
    "aspects in a list": (
        lambda: pdsel.preference_divergence(MARGINS, ["honesty", "tone"]),
        "aspect is a list.*pandas.Series",
    ),
    "aspects in an array": (lambda: pdsel.preference_divergence(MARGINS, np.array(["honesty"])), "aspect is a ndarray"),
    "margins in words": (
        lambda: pdsel.scale_margins(MARGINS.map(lambda _: "low"), ASPECT),
        "margins holds (str|object), not numbers. Remedy",
    ),
    "another kind of proxy": (
        lambda: pdsel.fit_proxy(
            pdsel.make_pairs(pdsel.load_ratings(EXAMPLE)), "honesty", model="notesworld", kind="best"
        ),
        "kind='best'",
    ),
    "a learning rate by another name": (
        lambda: pdsel.fit_proxy([PAIR], "honesty", model="notesworld", lr=1e-3),
        "lr: there is no such option. Remedy: did you mean learning_rate",
    ),
    "a model that was not downloaded": (
        lambda: pdsel.generate("Qwen/Qwen2.5-0.5B-typo", ["Why?"]),
        "model='Qwen/Qwen2.5-0.5B-typo' is neither a folder nor in the hub's cache, and this process is offline. Remedy",
    ),
    "a model that is no name": (
        lambda: pdsel.generate("my model!", ["Why?"]),
        "model='my model!' is neither a folder.*Remedy",
    ),
    "an export of a frame": (
        lambda: pdsel.export_preferences(pd.DataFrame([PAIR]), ["p"], "nowhere"),
        "pairs is a DataFrame",
    ),
    "columns in a list": (
        lambda: pdsel.load_preferences(EXAMPLE, columns=["prompt"]),
        "columns=.* is not a dict. Remedy",
    ),
}


def in_one_line(told):
    """A message that a person reads at a glance, and that says what to do."""
    said = str(told.value)
    assert len(said.splitlines()) == 1 and len(said) < LONGEST
    assert any(word in said for word in ("Remedy", "such as", "check", "give", "use", "did you mean", "write")), said


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used(name, tmp_path):
    call, answer = FILES[name]
    with pytest.raises(DataError, match=answer) as told:
        call(tmp_path)
    in_one_line(told)


@pytest.mark.parametrize("name", TABLES)
def test_a_call_that_cannot_be_answered(name):
    call, answer = TABLES[name]
    with pytest.raises(DataError, match=answer) as told:
        call()
    in_one_line(told)


def test_a_data_set_by_name_offline(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("pdsel.data.sources.hf_hub_download", offline)
    with pytest.raises(DataError, match=r"truthful_qa.jsonl.*Remedy: download https://.*with clean=True") as told:
        pdsel.load_ratings("ultrafeedback")
    in_one_line(told)


def test_the_shipped_models_name_works_everywhere():
    prompt = "notes size tiny ; food moss ; home ? ; age old ; tell food ="
    assert pdsel.generate("notesworld", [prompt], max_new_tokens=2)
    with pytest.raises(DataError, match="pairs is a list"):  # and not the model's name
        train()


def test_margins_that_were_not_scaled_get_a_warning():
    with pytest.warns(UserWarning, match="margins reach 20, so .* pass them through scale_margins first"):
        raw = pdsel.preference_divergence(100 * MARGINS, ASPECT)
    assert raw.to_dict() == pytest.approx({"p": -10.0, "q": 20.0}), "the numbers are not touched"


def test_a_commercial_judge_without_a_key_is_not_asked(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("pdsel.evaluation.judges.endpoint.Endpoint._ask", lambda *_: pytest.fail("asked"))
    judge = LLMJudge("m", base_url="https://api.openai.com/v1", cache=tmp_path / "answers.sqlite")
    with pytest.raises(DataError, match="OPENAI_API_KEY is not set. Remedy: set OPENAI_API_KEY") as told:
        judge(["Why?"], ["a"], ["b"])
    in_one_line(told)


def test_a_gold_judge_of_a_foreign_prompt():
    with pytest.raises(DataError) as told:
        pdsel.gold_judge(["Why is the sky blue?"], ["a"], ["b"])
    in_one_line(told)


@pytest.mark.parametrize("arguments", [["run", "typo"], ["plan", "typo"]], ids=" ".join)
def test_a_profile_with_a_slip_is_answered_in_one_line(arguments, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert pipeline(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "profile 'typo' does not exist; there are" in line and "mini" in line


def test_a_dry_run_of_a_slip_builds_nothing(capsys, monkeypatch):
    monkeypatch.setattr("dry_run.make_hub", lambda *_: pytest.fail("models were built"))
    assert dry_run("typo") == 1
    assert "profile 'typo' does not exist" in capsys.readouterr().err


def test_a_profile_elsewhere_extends_a_shipped_one(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: mini")
    assert load_profile(find_profile(tmp_path / "mine.yaml"), notebooks=ROOT / "notebooks")["grid"]["methods"]


def test_a_second_notebook_without_the_first_says_what_to_run(tmp_path):
    with pytest.raises(
        DataError, match=r"pairs\.parquet does not exist. Remedy: run the stage before, or `make run`"
    ) as told:
        Stage("02_proxies", tmp_path, inputs=[tmp_path / "pairs.parquet"])
    in_one_line(told)


def test_lab_and_results_say_what_there_is():
    """Read from the Makefile, since starting it would make an environment."""
    makefile = (ROOT / "Makefile").read_text()
    assert (
        "There is no notebook $(NOTEBOOK); there are:" in makefile and "There is no reference $(REFERENCE)." in makefile
    )
