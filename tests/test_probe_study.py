"""The study of probes: its cells on a small world, and what the committed table says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pdsel.artifacts import load_table
from pdsel.experiments.probe_study import (
    SETS,
    choose_default,
    default_cell,
    probe_cell,
    probe_cells,
    same_as_shipped,
    uncertainty_cell,
)
from pdsel.experiments.proxy_quality import agreement
from pdsel.experiments.proxy_studies import agreement_rows, failure_cell, kind_cells, proxy_cell, run_cells
from pdsel.pipeline.report import shown_blocks
from pdsel.pipeline.text import agreement_table, cost_rows, failure_rows, markdown, probe_rows

ROOT = Path(__file__).parent.parent
TOY = ROOT / "results" / "toy"
SMALL = {"seed": 7, "n_pairs": 120}


def test_a_cell_is_a_row_per_aspect_with_its_settings_and_what_was_chosen(tmp_path):
    cells = [SMALL | {"features": "hd", "length_as": "nuisance", "share": 0.5}]
    table = run_cells(cells, probe_cell, tmp_path)
    assert list(table["aspect"]) == ["helpfulness", "honesty", "instruction_following", "truthfulness"]
    for name, value in cells[0].items():
        assert (table[name] == value).all()  # no column of results bears the name of a setting
    assert (table["blocks"] == "hd").all() and table["own_accuracy"].between(0, 1).all()
    assert table["accuracy"].mean() > 0.5 and table["seconds"].gt(0).all()
    assert probe_rows(table, ["features", "share"]).shape == (1, 6)


def test_an_uncertainty_cell_counts_what_it_says():
    [row] = uncertainty_cell(**SMALL, n_replicates=5)
    assert row["seconds"] > 0 and 0 < row["error"] < row["spread"] and row["shift"] > 0
    assert all(0 <= row[name] <= 1 for name in ("wrong_all", "wrong_kept", "wrong_kept_cautious"))


def test_every_set_of_blocks_and_every_way_with_length_is_tried_once_for_each_seed():
    cells = pd.DataFrame(probe_cells(range(3), balances=[1.0]))
    assert not cells.duplicated().any()
    assert set(cells["features"]) == set(SETS) and set(cells["length_as"]) == {"feature", "nuisance", "none"}
    assert (cells.groupby("seed").size() == len(SETS) + 2 + 1).all()


def test_a_default_is_chosen_by_the_aspects_own_labels(monkeypatch):
    """No truth is read: what gold says of these worlds may be anything."""
    monkeypatch.setattr("pdsel.experiments.probe_study.variant_gaps", lambda *given: None)
    losses = pd.DataFrame(default_cell(seed=7, share=1.0, n_pairs=60))
    n_sets = len({tuple(blocks) for sets in SETS.values() for blocks in sets})
    assert len(losses) == losses["aspect"].nunique() * losses["strength"].nunique() * n_sets
    chosen, means = choose_default(losses)
    assert means["loss"].is_monotonic_increasing and len(means) == n_sets * losses["strength"].nunique()
    of_chosen = losses[(losses["blocks"] == chosen["blocks"]) & (losses["strength"] == chosen["strength"])]
    assert of_chosen["loss"].mean() == pytest.approx(means["loss"].min())


def test_kinds_are_compared_on_the_same_pairs_from_stored_cells(tmp_path, monkeypatch):
    cells = kind_cells([7], ["implicit", "probe"], n_pairs=60)
    table = run_cells(cells, proxy_cell, tmp_path)
    assert list(table.groupby("kind").size()) == [4, 4]
    monkeypatch.setattr("pdsel.experiments.proxy_studies.fit_proxies", None)  # nothing is fitted again
    [row] = agreement_rows(cells, tmp_path).to_dict("records")
    assert row["kind"] == "probe" and -1 <= row["spearman"] <= 1 and 0 <= row["jaccard"] <= 1


def test_agreement_by_hand():
    one = pd.Series(range(10), index=[f"p{i}" for i in range(10)], dtype=float)
    assert agreement(one, one, share=0.3) == pytest.approx({"spearman": 1, "jaccard": 1, "chance": 0.3 / 1.7})
    assert agreement(one, -one, share=0.3)["jaccard"] == 0
    moved = one.copy()
    moved["p2"], moved["p9"] = 9.0, 2.0  # of three kept pairs, two are the same: 2 of 4
    assert agreement(one, moved, share=0.3)["jaccard"] == 0.5


def test_a_failure_cell_takes_probes():
    rows = pd.DataFrame(failure_cell(seed=7, case="wrong sign", kind="probe", n_pairs=100))
    assert len(rows) == 4 and rows["accuracy"].between(0, 1).all() and "seen_warning" in rows


@pytest.fixture(scope="module")
def committed():
    if not (TOY / "probe_kinds.csv").exists():
        pytest.skip("the study of probes is not committed: make run PROFILE=toy TARGETS=studies")
    return load_table(TOY / "probe_kinds.csv")


def test_the_committed_study_is_complete(committed):
    cells = committed.groupby(["base", "kind", "share"])["seed"].nunique()
    assert len(cells) == 2 * 4 * 3 and (cells == 5).all()
    blocks = load_table(TOY / "probe_blocks.csv")
    assert set(blocks["features"]) == set(SETS) and blocks["seed"].nunique() == 5
    failures = load_table(TOY / "probe_failures.csv")
    assert failures.groupby("kind")["case"].nunique().to_dict() == {"probe": 6, "implicit": 6}
    costs = load_table(TOY / "probe_costs.csv")
    assert set(costs["kind"]) == {"probe", "implicit"} and set(costs["wider"]) == {1, 2, 4, 8, 12}


def test_the_committed_default_is_the_shipped_one(committed):
    """It is the first row of the committed losses on validation worlds."""
    means = load_table(TOY / "probe_default.csv")
    assert same_as_shipped(means.loc[0, ["blocks", "axes", "strength"]].to_dict())


def test_committed_kinds_are_those_of_the_study_of_proxies(committed):
    columns = ["seed", "base", "kind", "share", "aspect", "accuracy", "wrong_kept"]
    theirs = load_table(TOY / "proxies.csv")[columns]
    both = committed[columns].merge(theirs, on=columns[:5], suffixes=("", " of 08"))
    assert len(both) == len(theirs)
    for name in ("accuracy", "wrong_kept"):
        np.testing.assert_allclose(both[name], both[f"{name} of 08"], atol=1e-6)


def test_the_book_and_the_committed_tables_say_what_the_rows_say(committed):
    blocks = load_table(TOY / "probe_blocks.csv")
    plain = (blocks["length_as"] == "feature") & blocks["length_balance"].isna()
    expected = {
        "probes": probe_rows(committed, ["base", "kind", "share"]),
        "probes_blocks": probe_rows(blocks[plain], ["features"]),
        "probes_agreement": agreement_table(load_table(TOY / "probe_agreement.csv")),
        "probes_failures": failure_rows(load_table(TOY / "probe_failures.csv")),
        "probes_costs": cost_rows(load_table(TOY / "probe_costs.csv")),
    }
    for name, rows in expected.items():
        assert (TOY / "tables" / f"{name}.md").read_text() == markdown(rows) + "\n", name
    assert shown_blocks(ROOT)["probes"] == {markdown(expected["probes"])}


def test_tables_are_in_order_and_numbers_are_short():
    rows = [{"kind": kind, "share": share, "seed": 0} for share in (0.5, 1.0) for kind in ("probe", "implicit")]
    values = dict.fromkeys(["accuracy", "calibration_error", "spearman", "wrong_kept"], 0.5)
    table = probe_rows(pd.DataFrame(rows).assign(**values), ["kind", "share"])
    assert table[["kind", "p_r"]].values.tolist() == [
        ["probe", "1"],
        ["probe", "0.5"],
        ["implicit", "1"],
        ["implicit", "0.5"],
    ]
