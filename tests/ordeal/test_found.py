"""What the ordeal found, a case each: what was answered with another exception, or not at all, before."""

import gzip
import json
import os
import signal
import sqlite3
import threading
import warnings
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from fake_endpoint import FakeEndpoint, Handler

import pdsel
from ordeal.faults import full_disk, read_only
from pdsel.artifacts import ArtifactError, Stage, read_manifest, save_table, seal_notebooks, verify
from pdsel.checks import DataError
from pdsel.command.page import write_pages
from pdsel.data.layouts import read_rating
from pdsel.data.markdown import markdown
from pdsel.data.store import Store
from pdsel.engine.reference_cache import ReferenceCache
from pdsel.evaluation.judges.cache import AnswerCache
from pdsel.evaluation.judges.llm import LLMJudge
from pdsel.notesworld import BASE_MODEL
from pdsel.pipeline.profiles import load_profile
from pdsel.pipeline.run import _finish

PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No.", "aspect": "honesty"}
OTHER = PAIR | {"prompt": "Where?"}
RATED = {
    "instruction": "Why?",
    "completions": [{"response": text, "annotations": {"a": 1, "b": 2}} for text in ("x", "y")],
}
LINE = json.dumps(RATED).encode()

# ---- files that are read

FILES = {
    "text that is not UTF-8": (
        "r.jsonl",
        LINE.replace(b"Why", "Wé".encode("latin-1")),
        "cannot be read .*utf-8.*Remedy",
    ),
    "half a gzipped file": (
        "r.jsonl.gz",
        gzip.compress(LINE * 50)[:60],
        "cannot be read .*Remedy: check that the file is whole",
    ),
    "a gzipped file with a changed byte": (
        "r.jsonl.gz",
        gzip.compress(LINE)[:-8] + b"\0" * 8,
        "cannot be read .*Remedy",
    ),
    "no gzipped file": ("r.jsonl.gz", LINE, "cannot be read .*Remedy"),
    "no Parquet file": ("r.parquet", b"PAR1" + b"\0" * 40 + b"PAR1", "cannot be read .*Remedy"),
    "a number of 5000 digits": ("r.jsonl", b'{"instruction": ' + b"9" * 5000 + b"}", "line 1, is not a JSON object"),
    "nesting of 100 000 levels": ("r.jsonl", b"[" * 100_000, "line 1, is not a JSON object"),
    "a model's name of half a surrogate pair": (
        "r.jsonl",
        json.dumps(RATED | {"source": "\ud83d"}).encode(),
        "source: row 1 holds .*broken Unicode",
    ),
    "an aspect without a name": ("r.jsonl", LINE.replace(b'"b"', b'" "'), "name of an aspect is blank"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read(name, tmp_path):
    file, data, answer = FILES[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(DataError, match=answer):
        pdsel.load_ratings(tmp_path / file)


def test_limits_of_other_kinds_were_not_noticed(tmp_path):
    """1.5 never equals a count of rows, so that all were read."""
    (tmp_path / "r.jsonl").write_bytes(LINE)
    for limit in (1.5, True, "1", 0):
        with pytest.raises(DataError, match="is not a whole number from 1 on"):
            pdsel.load_ratings(tmp_path / "r.jsonl", limit=limit)


def test_names_of_columns_are_cut_in_a_message(tmp_path):
    long = {"prompt": "p", "resp" + "[" * 5000 + "onse": "x", "helpfulness": 1} | {f"c{n}": 0 for n in range(500)}
    for load in (pdsel.load_ratings, pdsel.load_preferences):
        (tmp_path / "r.jsonl").write_text(json.dumps(long))
        with pytest.raises(DataError) as raised:
            load(tmp_path / "r.jsonl")
        assert len(str(raised.value)) < 2000


PAIRS = {
    "a column that a later row lacks": (
        [PAIR | {"margins": {"a": 1.0}}, OTHER],
        {},
        "row 2: column missing: .*margins",
    ),
    "a row that is no object": ([PAIR, 3], {}, "row 2 is not an object"),
    "ratings in words": (
        [PAIR | {"chosen_ratings": {"a": "good"}, "rejected_ratings": {"a": 1}}],
        {},
        "row 1: a rating is text. Remedy",
    ),
    "ratings in a list": (
        [PAIR | {"margins": [1.0]}],
        {},
        "row 1: column does not name the aspects: 1 .first: margins",
    ),
    "a text and a number in one column": ([PAIR | {"id": 1}, OTHER | {"id": "x"}], {}, "the rows make no table"),
    "an overall gap in words": ([PAIR | {"overall_gap": "much"}], {}, "row 1: a rating is text"),
    "columns named by a list": ([PAIR], {"columns": {"prompt": ["prompt"]}}, "columns names a column by no text"),
    "an aspect that is a number": ([PAIR], {"aspect": 3}, "aspect=3 is no name"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_that_cannot_be_read(name, tmp_path):
    rows, options, answer = PAIRS[name]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=answer):
        pdsel.load_preferences(tmp_path / "p.jsonl", **options)


TABLES = {
    "responses of None": ({"responses": None}, "column holds another kind of value: 1 .first: responses"),
    "ratings of None": ({"ratings": None}, "column holds another kind of value: 1 .first: ratings"),
    "models that are too few": ({"models": ["m"]}, "models is not one for each response"),
    "prompts that are numbered": ({"prompt_id": 3}, "column holds another kind of value: 1 .first: prompt_id"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_ratings_table_of_another_shape(name, tmp_path):
    change, answer = TABLES[name]
    (tmp_path / "r.jsonl").write_bytes(LINE)
    (row,) = pdsel.load_ratings(tmp_path / "r.jsonl").to_list()
    with pytest.raises(DataError, match=answer):
        pdsel.make_pairs(Dataset.from_list([row | change]))


# ---- profiles

GRIDS = {
    "conflict in words": ("conflicts: [much], seeds: [0], methods: [PD]", "conflicts of 'grid' is .*shares in .0, 1."),
    "conflict in percent": ("conflicts: [30], seeds: [0], methods: [PD]", "conflicts of 'grid' is .*shares"),
    "a seed in words": ("conflicts: [0.3], seeds: [one], methods: [PD]", "seeds of 'grid' is .*whole numbers"),
    "a method that is a list": (
        "conflicts: [0.3], seeds: [0], methods: [[PD]]",
        "methods of 'grid' is .*names such as PD",
    ),
    "no list": ("conflicts: 0.3, seeds: [0], methods: [PD]", "conflicts of 'grid' is 0.3. Remedy: a list"),
    "two levels in one folder": ("conflicts: [0.301, 0.3], seeds: [0], methods: [PD]", "would share folders"),
    "a seed given twice": ("conflicts: [0.3], seeds: [0, 0], methods: [PD]", "would share folders"),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_that_cannot_be_run(name, tmp_path):
    grid, answer = GRIDS[name]
    (tmp_path / "mine.yaml").write_text(f"grid: {{{grid}}}")
    with pytest.raises(DataError, match=answer):
        load_profile(tmp_path / "mine.yaml", notebooks=tmp_path)


@pytest.mark.parametrize(
    "data", [b"grid: \xe9", b"extends: [a]", b"extends: ../up", b"without: 3", b"a: 2020-13-45"], ids=str
)
def test_a_profile_that_cannot_be_read(data, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(data)
    with pytest.raises(DataError, match=r"mine\.yaml.*Remedy"):
        load_profile(tmp_path / "mine.yaml", notebooks=tmp_path)


# ---- replies of a judge

REPLIES = {
    "deep nesting": b"[" * 100_000,
    "infinitely many tokens": b'{"choices": [{"message": {"content": "m"}}], "usage": {"prompt_tokens": Infinity}}',
    "a token that is a number": b'{"choices": [{"message": {"content": null}, "logprobs": '
    b'{"content": [{"top_logprobs": [{"token": 3, "logprob": -1}]}]}}]}',
    "a log-probability of 400 digits": b'{"choices": [{"message": {"content": null}, "logprobs": '
    b'{"content": [{"top_logprobs": [{"token": "m", "logprob": ' + b"9" * 400 + b"}]}]}}]}",
}


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("status", [200, 400])
def test_a_reply_that_cannot_be_read_counts_as_none(name, status, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Handler, "fault_garbage", lambda self, body: self.reply(status, REPLIES[name]), raising=False)
    with FakeEndpoint() as server:
        server.fault = lambda text, times: "garbage"
        judge = LLMJudge("judge", base_url=server.url, cache=tmp_path / "a.sqlite", retries=0, backoff=0, missing="nan")
        assert np.isnan(judge(["Why?"], ["a"], ["b"])).all()


# ---- rot


def changed(path, before, after):
    text = path.read_text()
    assert before in text
    times = path.stat()
    path.write_text(text.replace(before, after))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_changed_manifest_is_noticed(tmp_path):
    path = Stage("01_data", tmp_path, share=0.3).finish(save_table(pd.DataFrame({"x": [1]}), tmp_path / "x.csv"))
    assert verify("01_data", tmp_path)["parameters"] == {"share": 0.3}
    changed(path, "0.3", "0.8")
    with pytest.raises(ArtifactError, match=r"01_data\.json is damaged.*Remedy: run 01_data again"):
        read_manifest("01_data", tmp_path)
    path.write_text("{")
    with pytest.raises(ArtifactError, match=r"01_data\.json is damaged .*Remedy"):
        read_manifest("01_data", tmp_path)


def test_a_changed_cell_is_computed_anew(tmp_path):
    values = iter([1.25, 1.25, 1.25])

    def compute():
        return pd.DataFrame({"x": [next(values)] * 3}), {"n": 3}

    store = Store(tmp_path)
    store.computed("cell", {}, compute)
    for pattern in ("*.parquet", "*.json"):
        (path,) = tmp_path.glob(pattern)
        data = path.read_bytes()
        path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
        with pytest.warns(UserWarning, match="is damaged.*Remedy: it is computed anew"):
            table, record = store.computed("cell", {}, compute)
        assert table["x"].tolist() == [1.25] * 3 and record == {"n": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.computed("cell", {}, compute)


def test_a_cell_of_an_older_version_is_read(tmp_path):
    """A cell that took hours is not thrown away because it has no seal."""
    store = Store(tmp_path)
    store.computed("cell", {}, lambda: {"x": 1})
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    del content["seal"]
    path.write_text(json.dumps(content))
    assert store.computed("cell", {}, lambda: {"x": 2}) == {"x": 1}


def test_a_changed_file_of_references_is_left_out(tmp_path):
    cache = ReferenceCache(tmp_path, BASE_MODEL, "float32")
    cache.write({"a": -1.5})
    (path,) = tmp_path.rglob("*.parquet")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    with pytest.warns(UserWarning, match="is damaged, so its values are computed anew"):
        assert cache.read() == {}
    path.write_bytes(data)
    assert cache.read() == {"a": -1.5}


def test_a_changed_answer_is_asked_again(tmp_path):
    path = tmp_path / "a.sqlite"
    with AnswerCache.open(path) as answers:
        answers.store("k", {"content": "m", "top_logprobs": [["m", -0.5]]})
        answers.store("l", {"content": "M", "top_logprobs": None})
    connection = sqlite3.connect(path)
    connection.execute("UPDATE answers SET answer = replace(answer, '-0.5', '-0.7') WHERE key = 'k'")
    connection.execute('INSERT INTO answers VALUES (\'old\', \'{"content": "m", "top_logprobs": null}\')')
    connection.commit()
    connection.close()
    with AnswerCache.open(path) as answers, pytest.warns(UserWarning, match="1 stored answers are damaged"):
        assert set(answers.load(["k", "l", "old"])) == {"l", "old"}, "one of an older version has no seal"


def notebook(path, text):
    cells = [nbformat.v4.new_markdown_cell("# Results")]
    cells.append(nbformat.v4.new_code_cell("show()", outputs=[nbformat.v4.new_output("stream", text=text)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_an_executed_notebook_that_changed_is_not_reported(tmp_path):
    path = notebook(tmp_path / "local" / "notebooks" / "06_results.ipynb", "win rate 81.5 %")
    os.utime(path, (1e9, 1e9))
    seal_notebooks(tmp_path)
    write_pages(tmp_path)
    changed(path, "81.5", "91.5")
    seal_notebooks(tmp_path)  # as the end of a run that did nothing: the notebook was not written since
    with pytest.raises(ArtifactError, match=r"06_results\.ipynb is not what the run wrote. Remedy"):
        write_pages(tmp_path)
    notebook(path, "win rate 70.0 %")  # executed again
    assert write_pages(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"nbformat": 4, "cells": [3]}'], ids=str)
def test_a_part_of_a_notebook_is_not_reported(data, tmp_path):
    (tmp_path / "a.ipynb").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.ipynb is not a whole notebook.*Remedy"):
        write_pages(tmp_path)


# ---- faults


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_what_cannot_be_written_says_why(fault, tmp_path):
    tmp_path.chmod(0o755)
    path = tmp_path / "results" / "x.csv"
    save_table(pd.DataFrame({"x": range(3)}), path)
    before = path.read_bytes()
    blocked = full_disk(10) if fault == "full" else read_only(tmp_path / "results")
    remedy = "Remedy: make room" if fault == "full" else "Remedy: write to a folder that you may write to"
    with pytest.raises(ArtifactError, match=rf"x\.csv was not written: .*{remedy}"), blocked:
        save_table(pd.DataFrame({"x": range(3000)}), path)
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == ["x.csv"]


def test_a_folder_of_preferences_that_may_only_be_read_says_why(tmp_path):
    tmp_path.chmod(0o755)
    pair = {"pair_id": "p", "prompt": "Why?", "chosen": "So.", "rejected": "No.", "aspect": "a"}
    pairs = Dataset.from_list([pair])
    pdsel.export_preferences(pairs, ["p"], tmp_path / "kept")
    with pytest.raises(DataError, match="Remedy: write to a folder"), read_only(tmp_path / "kept"):
        pdsel.export_preferences(pairs, ["p"], tmp_path / "kept")


def test_a_run_that_is_told_to_end_says_how_to_resume(capfd):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with open(os.devnull) as lock:
            assert _finish(["sleep", "5"], SimpleNamespace(fileno=lock.fileno)) == os.EX_TEMPFAIL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "Stopped. The same command resumes." in capfd.readouterr().err


# ---- hostile content


def test_html_in_a_table_is_text(tmp_path):
    table = markdown(pd.DataFrame({"chosen": ["<script>alert(1)</script>", "p < .01"]}))
    assert "<script" not in table and "&lt;script>" in table and "p < .01" in table
    path = tmp_path / "a.ipynb"
    output = nbformat.v4.new_output("display_data", {"text/markdown": table})
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])]), path)
    write_pages(tmp_path)
    page = (tmp_path / "report" / "a.html").read_text()
    assert "<script>alert" not in page and "default-src 'none'" in page


def test_standard_errors_in_a_frame_are_refused():
    scores = pd.Series([0.0, 1.0], index=["p", "q"])
    with pytest.raises(DataError, match="standard_error is a DataFrame, not a pandas.Series"):
        pdsel.select(scores, 0.5, standard_error=scores.abs().to_frame())


def test_labels_of_several_kinds_that_no_column_has_are_named():
    margins = pd.DataFrame({0: [0.0, 1.0], 1: [1.0, 0.0]}, index=["p", "q"])
    labels = pd.Series([float("nan"), "honesty"], index=["p", "q"])
    for function in (pdsel.scale_margins, pdsel.preference_divergence):
        with pytest.raises(DataError, match="missing for an aspect: 2 .first: honesty, nan"):
            function(margins, labels)


def test_a_rating_of_many_digits_is_no_rating():
    with pytest.raises(DataError, match="is text"):
        read_rating(10**400)


@pytest.mark.parametrize(("status", "shown"), [(1, True), (os.EX_TEMPFAIL, False)])
def test_the_log_of_a_notebook_is_shown_where_it_failed_and_not_where_it_was_stopped(
    status, shown, tmp_path, monkeypatch, capfd
):
    from pdsel.pipeline import run as runs

    def finish(command, lock):
        log = tmp_path / "results" / "local" / "mini" / "conflict30-seed0" / "local" / "logs" / "04_dpo.log"
        log.parent.mkdir(parents=True)
        log.write_text("Traceback (most recent call last):\nDataError: share=2")
        return status

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "load_profile", lambda *_, **__: {})
    monkeypatch.setattr(runs, "_finish", finish)
    assert runs.run("mini") == status
    assert ("DataError: share=2" in capfd.readouterr().err) == shown
