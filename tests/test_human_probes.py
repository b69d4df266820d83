"""Opposed labels among what probes keep, on people's ratings and by hand."""

from functools import partial
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from pdsel.artifacts import digest
from pdsel.data.gaps import rating_gaps
from pdsel.engine.feature_files import PairFeatures
from pdsel.experiments.human_probes import OPPOSED_COLUMNS, opposed_cell, opposed_table, rated_pairs
from pdsel.experiments.proxy_studies import run_cells
from pdsel.notesworld import BASE_MODEL
from pdsel.ratings import load_ratings


def knowing(pairs, noise=1.0):
    """Features that hold the ratings themselves, and noise: what a model that reads as people do would give."""
    gaps = rating_gaps(pairs)
    rng = np.random.default_rng(0)
    values = (gaps / gaps.abs().max()).to_numpy() + noise * rng.normal(size=gaps.shape)
    logps = pd.DataFrame(0.0, index=gaps.index, columns=["chosen", "rejected"])
    return PairFeatures(gaps.index, {"mid": values.astype(np.float32)}, logps, BASE_MODEL, 1024, 0, 0.0)


@pytest.mark.parametrize(("file", "judges"), [("topical_chat_usr.jsonl", 2), ("webnlg/ratings.jsonl", 1)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_features_that_know_what_people_mean_keep_few_opposed_labels(shared, file, judges):
    path = shared / file
    if not path.exists():
        pytest.skip(f"{path} is not here: nothing that people rated")
    pairs = rated_pairs(load_ratings(path, clean=True), size=600)
    table = opposed_table(pairs, knowing(pairs, noise=0.3), sets={"mid": [["mid"]]}).set_index(["features", "rule"])
    for judge in ["others", "overall"][:judges]:
        shares = table[judge]
        assert shares["mid", "PD"] < shares["", "ALL"] < shares["mid", "PD(high)"]
        assert (table[f"{judge}_low"] <= shares).all() and (shares <= table[f"{judge}_high"]).all()
    assert table["overall"].isna().all() == (judges == 1)
    assert table.loc[("", "PD(rati.)"), "others"] == 0
    assert table.loc[("mid", "PD"), "right"] > 60


def test_opposed_labels_by_hand(hand_pairs):
    """Of four labels on a, b opposes two; PD(rati.) keeps the two that it does not oppose."""
    rows = [("a", {"a": 1.0, "b": gap, "c": 0.0}, -gap) for gap in (2.0, 1.0, -1.0, -2.0)]
    rows += [("b", {"a": 1.0, "b": 1.0, "c": 1.0}, 1.0), ("b", {"a": 1.0, "b": 2.0, "c": 1.0}, 1.0)]
    pairs = hand_pairs(*rows)
    table = opposed_table(pairs, knowing(pairs), sets={}, share=0.5).set_index("rule")
    assert table.loc["ALL", ["others", "overall", "n"]].tolist() == pytest.approx([100 * 2 / 6, 100 * 2 / 6, 6])
    assert table.loc["PD(rati.)", "others"] == 0 and table.loc["PD(rati.)", "n"] == 3


def test_an_interval_over_prompts_is_wider_than_one_over_pairs(hand_pairs):
    rows = [("a", {"a": 1.0, "b": gap}, 1.0) for gap in [1.0] * 20 + [-1.0] * 20]
    rows += [("b", {"a": 1.0, "b": 1.0}, 1.0)] * 2
    widths = []
    for size in (1, 10):
        pairs = hand_pairs(*rows, prompt_id=[f"q{i // size}" for i in range(42)])
        row = opposed_table(pairs, knowing(pairs), sets={}).set_index("rule").loc["ALL"]
        widths.append(row["others_high"] - row["others_low"])
    assert widths[1] > 2 * widths[0]


def test_a_rated_file_is_a_cell_of_the_store(tmp_path):
    path = files("pdsel") / "examples" / "rated.jsonl"
    cell = {"data": "example", "path": str(path), "content": digest(path), "base": BASE_MODEL, "seed": 0}
    monkeypatched = pytest.MonkeyPatch()
    monkeypatched.setattr("pdsel.experiments.human_probes.as_messages", lambda pairs: pairs)  # the base knows no chat
    monkeypatched.setattr("pdsel.experiments.human_probes.opposed_table", partial(opposed_table, sets={"hd": [["hd"]]}))
    table = run_cells([cell], opposed_cell, tmp_path)
    monkeypatched.undo()
    assert list(table["rule"]) == ["ALL", "RAND", "PD(rati.)", "PD", "PD(high)"] and table["pairs"].nunique() == 1
    assert set(OPPOSED_COLUMNS) <= set(table.columns)
    pd.testing.assert_frame_equal(run_cells([cell], opposed_cell, tmp_path), table)  # read, for it takes no chat
