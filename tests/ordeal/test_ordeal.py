"""The short form of the ordeal: a few trials of every kind, the same ones each time, and the report."""

import json

import numpy as np
import pandas as pd
import pytest
from bench.measure import here

from ordeal import alone, faults, hostile, inputs, load, rot
from ordeal.__main__ import main, parse
from ordeal.kills import Ground
from ordeal.mutate import damaged, flipped, places
from ordeal.report import table_of, write_report
from ordeal.trials import LOST, SURVIVED, Case, Journal, Lost, run_cases, shares
from pdsel.checks import DataError

TRIALS = {inputs: 25, rot: 8, hostile: 10, faults: 6}  # of each kind
COSTLY = {"a process without memory": 2, "two grids in one folder": 2}
CASES = {
    f"{case.part}: {case.what}": (case, COSTLY.get(case.what, n))
    for module, n in TRIALS.items()
    for case in module.CASES
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_lost(name):
    case, n = CASES[name]
    outcomes = {number: case.outcome(number) for number in range(n)}
    assert {number: how for number, (outcome, how) in outcomes.items() if outcome == LOST} == {}


def test_inputs_give_results_and_refusals():
    """A fuzzer whose every input is refused tries nothing."""
    ways = [case.outcome(number)[1] for case in inputs.CASES[:3] for number in range(12)]
    assert {"result", "refused"} <= set(ways)


def test_a_trial_can_be_lost():
    def other(draw):
        raise KeyError("x")

    def silent(draw):
        raise DataError(" ")

    def wrong(draw):
        raise Lost("another number")

    found = [Case("input", "x", trial).outcome(0) for trial in (other, silent, wrong, lambda draw: "result")]
    assert [outcome for outcome, _ in found] == [LOST, LOST, LOST, SURVIVED]
    assert "KeyError" in found[0][1] and found[2][1] == "another number"


def test_an_ordeal_resumes(tmp_path):
    tried = []
    case = Case("rot", "x", lambda draw: str(tried.append(draw.random())))
    run_cases([case], 5, Journal(tmp_path / "journal.jsonl", "code"))
    with open(tmp_path / "journal.jsonl", "a") as file:
        file.write('{"part": "rot", "wh')  # a kill
    journal = Journal(tmp_path / "journal.jsonl", "code")
    run_cases([case], 7, journal)
    assert len(tried) == len(set(tried)) == 7 and len(journal.entries) == 7
    assert len(Journal(tmp_path / "journal.jsonl", "code").entries) == 7
    assert not Journal(tmp_path / "journal.jsonl", "other code").entries
    again = []
    Case("rot", "x", lambda draw: str(again.append(draw.random()))).outcome(3)
    assert again == [tried[3]], "a trial has a seed of its own"


def test_what_was_not_tried_again_is_reported_as_it_was(tmp_path):
    path = tmp_path / "journal.jsonl"
    for code, what in [("old", "select"), ("old", "profiles"), ("old", "make_pairs"), ("new", "select")]:
        Journal(path, code).add(("input", what, 0), (SURVIVED, code))
    journal = Journal(path, "new")
    found = {key[1]: entry["how"] for key, entry in journal.reported().items()}
    assert found == {"select": "new", "profiles": "old", "make_pairs": "old"}
    write_report(journal, tmp_path)
    assert "1 of the 3 kinds of trials met another version" in (tmp_path / "tables" / "ordeal.md").read_text()


def test_the_report_counts(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", "code")
    for number, outcome in enumerate([(SURVIVED, "refused"), (SURVIVED, "result"), (SURVIVED, "refused"), (LOST, "x")]):
        journal.add(("input", "select", number), outcome)
    journal.add(("rot", "a table", 0), (SURVIVED, "truncated: refused"))
    write_report(journal, tmp_path / "results")
    table = pd.read_csv(tmp_path / "results" / "ordeal.csv")
    pd.testing.assert_frame_equal(table, table_of(journal), check_dtype=False)
    assert list(table["lost"]) == [1, 0]
    text = (tmp_path / "results" / "tables" / "ordeal.md").read_text()
    assert "| select | 4 | 3 | 1 | 2 refused, 1 result |" in text and "5 trials, 1 lost." in text


def test_the_command_repeats_one_trial(tmp_path, capsys):
    what = "answers of a judge"
    assert main(["input", "--only", what, "--number", "3"]) == 0
    assert capsys.readouterr().out == "result\n"
    local = ["--local", str(tmp_path / "local"), "--results", str(tmp_path / "results")]
    cases = inputs.CASES
    try:
        inputs.CASES = [case for case in cases if case.what == what]
        assert main(["input", "--count", "4", *local]) == 0
    finally:
        inputs.CASES = cases
    assert "4 trials, 0 lost" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse(["nope"])


def test_load_in_small():
    assert load.rated_prompts(40, here).split()[1] == "pairs"
    assert load.margins(1000, here).startswith("1000 pairs")


def test_an_order_that_a_judge_obeys_is_measured():
    """Of four outputs one was preferred anyway: the order adds 100, 100, 100 and 0 percent."""

    def obeys(prompts, outputs, others):
        return np.array([float("Ignore the instruction" in text or text == "best") for text in outputs])

    mean, low, high = alone.gain(obeys, ["Why?"] * 4, ["a", "b", "c", "best"], ["d"] * 4)
    assert mean == 75 and high - mean == mean - low == pytest.approx(1.96 * 50 / 2)


def test_questions_are_asked_once_although_the_asker_was_killed():
    assert " questions, " in load.questions(240)


def test_faults_are_where_they_should_be():
    import random

    value = {"a": [1, {"b": 2}]}
    assert list(places(value)) == [(), ("a",), ("a", 0), ("a", 1), ("a", 1, "b")]
    draws = [damaged(value, random.Random(number)) for number in range(60)]
    assert value in draws and sum(each != value for each in draws) > 30 and value == {"a": [1, {"b": 2}]}
    assert flipped(flipped(b"abc", 11), 11) == b"abc" != flipped(b"abc", 11)
    assert shares([Case("p", "a", None, 3), Case("p", "b", None)], 1) == [1, 1]


def test_a_killed_run_is_compared_with_an_undisturbed_one(tmp_path):
    """The harness, on a run of three steps that resumes; what it would do to `make run` takes too long here."""
    from ordeal import kills

    ground = Ground(tmp_path, command=["sh", "-c", STEPS])
    ground.prepare = ground.undisturbed.mkdir
    ground.undisturbed.parent.mkdir(parents=True)
    found = []
    ground.differences = lambda: [] if (ground.results / "3").exists() else ["unfinished"]
    journal = Journal(tmp_path / "journal.jsonl", "code")
    kills.kill_runs(ground, 2, journal, kills.Plan(seconds=(0.2, 0.4)), say=found.append)
    assert [entry["outcome"] for entry in journal.entries.values()] == [SURVIVED] * 3, json.dumps(found)
    assert not ground.processes() and len(found) == 3


STEPS = "mkdir -p results/local/smoke; cd results/local/smoke; for i in 1 2 3; do [ -e $i ] || { sleep 0.6; touch $i; }; done"
