"""The bench, tiny, so that it cannot rot; it times nothing here."""

import pandas as pd
import pytest

from bench.__main__ import main
from bench.divergence import CASES, SHARE, draw_tables
from bench.features import measure_on_disk
from bench.measure import fresh, here
from bench.scoring import WAYS, draw_pairs, plain_logps, requested_tokens, save_model
from pdsel.engine.scoring import response_logps
from pdsel.pairs import pair_id


def test_the_bench_runs_and_writes_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.features.REPLICATES", 3)
    small = {"n_prompts": 12, "wide": [(40, 64), (80, 24)], "on_disk": (200, 36)}
    main(tmp_path, sizes=[100, 1000], n_prompts=1, n_rated=20, features=small, run=here)
    probes = pd.read_csv(tmp_path / "features.csv")
    assert probes["times_scoring"].notna().sum() == 2 and len(probes) == 2 + 2 + 2 * 2 + 2
    assert (probes[["seconds", "peak_mb"]] > 0).all(axis=None) and (probes["peak_mb"] >= probes["peak_mb_before"]).all()
    rated = pd.read_csv(tmp_path / "ratings.csv").loc[0]
    assert rated["prompts"] == 20 and 20 < rated["pairs"] <= 120 and rated["peak_mb"] >= rated["peak_mb_before"] > 0
    divergence, scoring = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("divergence", "scoring"))
    assert list(divergence["pairs"]) == [100] + [1000] * len(CASES)
    assert (divergence["kept"] == (SHARE * divergence["pairs"]).round()).all()
    assert list(scoring["way"]) == list(WAYS)
    assert scoring["largest_difference"].max() < 1e-4 < scoring["margin_sd"].min() / 1000
    assert (divergence[["seconds", "peak_mb"]] > 0).all(axis=None) and (scoring[["seconds", "peak_mb"]] > 0).all(
        axis=None
    )


def test_features_in_files_are_never_in_memory_together(tmp_path):
    """20 000 pairs of 4 100 columns are 313 MB in files; scoring all takes a part of that, and a fit its own pairs' columns."""
    margins, fit = fresh(measure_on_disk, 20_000, 4_100, tmp_path)
    assert margins["peak_mb"] - margins["peak_mb_before"] < 110
    assert fit["peak_mb"] - fit["peak_mb_before"] < 2.2 * 313 / 4


@pytest.mark.parametrize("case", CASES)
def test_the_tables_are_what_pdsel_makes(case):
    margins, aspect = draw_tables(50, case)
    assert margins.index.dtype == "str" and {len(name) for name in margins.index} == {len(pair_id("p", "a", "b", "k"))}
    assert sorted(margins.index) == sorted(aspect.index) and margins.index is not aspect.index
    assert margins.index.equals(aspect.index) == (case != "aspects in another order")
    assert margins.index.is_monotonic_increasing == (case == "ascending ids")
    assert (aspect.dtype == "category") == (case == "categorical aspects")


def test_the_plain_way_and_pdsels_count_the_same_tokens(tmp_path):
    model, pairs = save_model(tmp_path, seed=0), draw_pairs(1)
    texts = list(zip(pairs["prompt"], pairs["chosen"], strict=True))
    found = response_logps(model, pairs["prompt"], pairs["chosen"], max_length=2048)
    assert plain_logps(model, texts, batch_size=3) == pytest.approx(found, abs=1e-2, rel=1e-6)
    both = [len((row["prompt"] + row[side]).split()) + 1 for row in pairs for side in ("chosen", "rejected")]
    assert requested_tokens(pairs, 4) == 8 * sum(both)
