"""The study of probes: its cells on a small world, and what the committed table says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pdsel.artifacts import load_table
from pdsel.experiments.probe_study import CHOSEN, SETS, probe_cell, probe_cells, uncertainty_cell
from pdsel.experiments.proxy_studies import run_cells
from pdsel.experiments.study_tables import over_seeds
from pdsel.pipeline.text import markdown, probe_rows

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
    cells = pd.DataFrame(probe_cells(range(3), shares=[0.5, 1.0], balances=[1.0]))
    assert not cells.duplicated().any()
    assert set(cells["features"]) == {CHOSEN, *SETS} and set(cells["length_as"]) == {"feature", "nuisance", "none"}
    assert (cells.groupby("seed").size() == 2 + len(SETS) + 2 + 1).all()


@pytest.fixture(scope="module")
def committed():
    return load_table(TOY / "probes.csv")


def plain(table):
    default = (table["features"] == CHOSEN) & (table["length_as"] == "feature") & table["length_balance"].isna()
    return table[(table["kind"] == "implicit") | default]


def test_the_committed_table_is_complete(committed):
    cells = plain(committed).groupby(["kind", "share"])["seed"].nunique()
    assert len(cells) == 6 and (cells == 5).all()
    assert set(committed["features"].dropna()) == {CHOSEN, *SETS}


def test_committed_implicit_rewards_are_those_of_the_study_of_kinds(committed):
    columns = ["seed", "share", "aspect", "accuracy", "wrong_kept"]
    kinds = load_table(TOY / "proxies.csv")
    kinds = kinds[(kinds["kind"] == "implicit") & (kinds["base"] == "shipped")][columns]
    ours = committed[(committed["kind"] == "implicit") & committed["seed"].isin(kinds["seed"])][columns]
    by = ["seed", "share", "aspect"]
    np.testing.assert_allclose(ours.sort_values(by).iloc[:, 3:], kinds.sort_values(by).iloc[:, 3:], atol=1e-6)


def test_committed_probes_are_right_more_often_and_keep_fewer_wrong_labels_than_implicit_rewards(committed):
    means = over_seeds(plain(committed), ["kind", "share"], ["accuracy", "wrong_kept"]).set_index(["kind", "share"])
    for share in (0.25, 0.5, 1.0):
        probe, implicit = means.loc[("probe", share)], means.loc[("implicit", share)]
        assert probe["accuracy"] > implicit["accuracy"] and probe["wrong_kept"] < implicit["wrong_kept"]


def test_readme_and_the_committed_tables_say_what_the_rows_say(committed):
    probes = committed[committed["kind"] == "probe"]
    beside = pd.concat([plain(probes), committed[committed["kind"] == "implicit"]])
    text = markdown(probe_rows(beside, ["kind", "share"]))
    assert (TOY / "tables" / "probes.md").read_text() == text + "\n"
    assert text in (ROOT / "README.md").read_text()
