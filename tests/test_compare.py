"""A run beside the reference: equal, or different at a stage that is named, or not comparable for a reason that is said."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pdsel.artifacts import digest, load_table, read_manifest, save_table, sealed
from pdsel.checks import DataError
from pdsel.evaluation import interval
from pdsel.pipeline import run
from pdsel.pipeline.__main__ import main
from pdsel.pipeline.compare import compare

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "mini"
CELL = "conflict30-seed0"


@pytest.fixture
def copy(tmp_path):
    """A run that is the reference's twin."""
    return shutil.copytree(REFERENCE, tmp_path / "mini")


def change_manifest(folder, stage, change):
    path = folder / CELL / "manifests" / f"{stage}.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(sealed(manifest)))


@pytest.mark.parametrize("name", ["mini", "toy"])
def test_a_reference_reproduces_itself(name):
    found = compare(ROOT / "results" / name, ROOT / "results" / name)
    assert found.same and str(found).startswith("Reproduced: kept ids identical for ")
    assert "win rates within 0.0 points" in str(found) and len(str(found).splitlines()) == 1


def test_mini_trains_nine_methods():
    assert "kept ids identical for 9 of 9 methods" in str(compare(REFERENCE, REFERENCE))


def test_seconds_commits_and_machines_are_not_compared_but_circumstances_are_said(copy):
    def elsewhere(manifest):
        manifest["seconds"] += 100
        manifest["facts"]["training_seconds"] = 100
        manifest["environment"] |= {"commit": "f" * 40, "dirty": True, "threads": "8"}
        manifest["environment"]["versions"]["torch"] = "2.12.0"

    there = read_manifest("04_dpo-PD", REFERENCE / CELL)["environment"]
    change_manifest(copy, "04_dpo-PD", elsewhere)
    found = compare(copy, REFERENCE)
    assert found.same
    assert found.made_with == [f"torch {there['versions']['torch']} -> 2.12.0", f"threads {there['threads']} -> 8"]


def test_columns_of_seconds_are_not_compared(copy, tmp_path):
    reference = shutil.copytree(REFERENCE, tmp_path / "reference")
    for seconds, folder in enumerate([copy, reference]):
        path = folder / CELL / "pairs_summary.csv"
        save_table(load_table(path).assign(training_seconds=seconds), path)
    assert compare(copy, reference).same


def test_other_data_is_the_first_difference(copy):
    def other_pairs(manifest):
        manifest["outputs"]["local/pairs.parquet"] = "0" * 64

    change_manifest(copy, "01_data", other_pairs)
    path = copy / CELL / "metrics.csv"
    save_table(load_table(path).assign(value=0), path)
    found = compare(copy, REFERENCE)
    assert [(stage, file) for stage, file, _ in found.files] == [
        (f"{CELL}/01_data", "local/pairs.parquet"),
        (f"{CELL}/05_evaluation", "metrics.csv"),
    ]
    assert not found.same and f"Not reproduced: {CELL}/01_data differs first" in str(found)


def test_other_margins_with_the_same_selection_are_a_difference(copy):
    def other_margins(manifest):
        manifest["outputs"]["local/margins.parquet"] = "0" * 64
        manifest["parameters"]["learning_rate"] = 0.5

    rate = read_manifest("02_proxies", REFERENCE / CELL)["parameters"]["learning_rate"]
    change_manifest(copy, "02_proxies", other_margins)
    text = str(compare(copy, REFERENCE))
    assert "02_proxies differs first; kept ids identical for 9 of 9 methods" in text
    assert f"learning_rate {rate} -> 0.5 (02_proxies)" in text


def test_other_kept_ids_are_counted_by_method(copy):
    path = copy / CELL / "kept.csv"
    kept = load_table(path)
    kept.loc[kept.index[kept["method"] == "PD"][:10], "pair_id"] = [f"other{i}" for i in range(10)]
    save_table(kept, path)
    found = compare(copy, REFERENCE)
    n = (kept["method"] == "PD").sum()
    assert found.kept["PD"] == (n - 10) / (n + 10) and (found.kept.drop("PD") == 1).all()
    assert "03_selection differs first; kept ids identical for 8 of 9 methods" in str(found)
    assert "kept.csv differs in pair_id" in str(found)


@pytest.mark.parametrize(("part", "place"), [(0.5, "inside"), (10, "OUTSIDE")])
def test_other_win_rates_are_held_against_the_references_interval(copy, part, place):
    """PD wins less by a half of the interval's lower arm, or by ten of them."""
    path = copy / "tables" / "table1.csv"
    table = load_table(path)
    here = (table["method"] == "PD") & (table["metric"] == "win_rate")
    (row,) = table[here].to_dict("records")
    points = part * (row["value"] - row["low"])
    table.loc[here, "value"] -= points
    save_table(table, path)
    found = compare(copy, REFERENCE)
    assert not found.same and found.distance == pytest.approx(points)
    theirs = interval(row["value"], row["low"], row["high"])
    assert f"PD at 30% conflict: {row['value'] - points:.1f} %, {place} the reference's {theirs} %" in str(found)


def test_other_outcomes_say_which_column_and_by_how_much(copy):
    path = copy / CELL / "outcomes.parquet"
    outcomes = pd.read_parquet(path)
    outcomes.loc[3, "preference"] += 0.25
    outcomes.to_parquet(path, index=False)
    (found,) = compare(copy, REFERENCE).files
    assert found == (f"{CELL}/05_evaluation", "outcomes.parquet", "differs in preference, numbers by up to 0.25")


def test_the_same_values_in_other_bytes_are_the_same(copy):
    path = copy / CELL / "outcomes.parquet"
    before = digest(path)
    pd.read_parquet(path).to_parquet(path, index=False, compression="gzip")
    assert digest(path) != before and compare(copy, REFERENCE).same


def test_a_stage_that_was_not_run_is_a_difference(copy):
    (copy / CELL / "manifests" / "03b_rules.json").unlink()
    assert (f"{CELL}/03b_rules", "", "was not run") in compare(copy, REFERENCE).files


@pytest.mark.parametrize(
    ("breaks", "problem"),
    [
        (lambda folder: shutil.rmtree(folder / CELL), "holds no finished stage"),
        (lambda folder: (folder / CELL / "manifests" / "01_data.json").write_text("{"), "01_data.json is broken"),
        (lambda folder: (folder / "tables" / "table1.csv").unlink(), "is broken or unfinished"),
        (lambda folder: (folder / CELL / "kept.csv").write_bytes(b""), "is broken or unfinished"),
    ],
)
def test_a_broken_run_or_reference_is_one_clear_sentence(copy, breaks, problem):
    breaks(copy)
    for pair in [(copy, REFERENCE), (REFERENCE, copy)]:
        with pytest.raises(DataError, match=problem) as told:
            compare(*pair)
        assert len(str(told.value).splitlines()) == 1


def test_make_compare_exits_with_one_where_the_run_differs(copy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "mini"]) == 1  # no reference
    shutil.copytree(copy, tmp_path / "results" / "mini")
    assert main(["compare", "mini"]) == 1  # no run
    assert "No comparison: results/local/mini holds no finished stage" in capsys.readouterr().out
    shutil.copytree(copy, tmp_path / "results" / "local" / "mini")
    assert main(["compare", "mini"]) == 0
    change_manifest(tmp_path / "results" / "local" / "mini", "01_data", lambda manifest: manifest["outputs"].clear())
    assert main(["compare", "mini"]) == 1


def test_a_run_becomes_the_reference_without_its_local_files(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, reference = Path("results/local/mini"), Path("results/mini")
    shutil.copytree(copy, made)
    (made / CELL / "local").mkdir()
    (made / CELL / "local" / "notes.txt").write_text("large")
    for name in ("stale.csv", "local/hours.csv"):
        (reference / name).parent.mkdir(parents=True, exist_ok=True)
        (reference / name).write_text("old")
    run.publish("mini")
    assert not (reference / "stale.csv").exists() and not (reference / CELL / "local").exists()
    assert (reference / "local" / "hours.csv").exists()  # an older clone's computed cells
    assert compare(made, reference).same
