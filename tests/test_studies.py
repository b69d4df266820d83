"""Summaries of the studies, the standard error of PD, and that committed study tables say what the book says."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pdsel.artifacts import load_table, verify
from pdsel.divergence import preference_divergence, scale_margins
from pdsel.experiments.study_tables import length_gains, length_means, name_setting, over_seeds
from pdsel.experiments.uncertainty import divergence_error, near_cut
from pdsel.pipeline.report import shown_blocks
from pdsel.pipeline.text import failure_rows, length_rows, length_verdict, markdown, proxy_rows
from pdsel.selection import select

ROOT = Path(__file__).parent.parent
TOY = ROOT / "results" / "toy"
NAMES = ["a", "b", "c"]


def replicates(n_replicates=6, n=40, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    index = pd.Index([f"{i:03d}" for i in range(n)], name="pair_id")
    true = pd.DataFrame(rng.normal(size=(n, 3)), columns=NAMES, index=index)
    aspect = pd.Series(rng.choice(NAMES, n), index=index)
    return [true + noise * rng.normal(size=true.shape) for _ in range(n_replicates)], aspect


def test_standard_error_is_the_spread_of_pd_over_replicates():
    tables, aspect = replicates()
    found = divergence_error(tables, aspect, quantile=0.8)
    values = np.array([preference_divergence(scale_margins(t, aspect, quantile=0.8), aspect) for t in tables])
    np.testing.assert_allclose(found, values.std(axis=0, ddof=1))
    pd.testing.assert_index_equal(found.index, tables[0].index)


def test_standard_error_ignores_the_order_of_rows_and_replicates():
    tables, aspect = replicates()
    found = divergence_error(tables, aspect)
    other = divergence_error((t.sample(frac=1, random_state=i) for i, t in enumerate(tables[::-1])), aspect)
    np.testing.assert_allclose(other.loc[found.index], found)


def test_equal_replicates_have_no_error_and_one_replicate_is_refused():
    tables, aspect = replicates(1)
    assert divergence_error(tables * 3, aspect).max() < 1e-12
    with pytest.raises(ValueError, match="a spread needs at least two"):
        divergence_error(tables, aspect)


@pytest.mark.parametrize("short", [0, 1])
def test_replicates_over_different_pairs_are_named(short):
    tables, aspect = replicates(3)
    tables[short] = tables[short].iloc[1:]
    with pytest.raises(ValueError, match=r"is in some replicates only: 1 \(first: 000\)"):
        divergence_error(tables, aspect)


def test_a_missing_standard_error_is_named():
    scores = pd.Series({"a": -1.0, "b": 0.0})
    with pytest.raises(ValueError, match=r"standard_error.*b"):
        near_cut(scores, scores.iloc[:1].abs(), 0.5)


def test_near_cut_counts_by_hand_and_by_brute_force():
    tables, aspect = replicates()
    scores = preference_divergence(scale_margins(tables[0], aspect), aspect)
    error = divergence_error(tables, aspect)
    found = near_cut(scores, error, 0.3)
    kept = set(select(scores, 0.3))
    cut = max(scores[name] for name in kept)
    assert found["kept_near"] == sum(scores[name] + error[name] > cut for name in kept)
    assert found["dropped_near"] == sum(scores[name] - error[name] <= cut for name in set(scores.index) - kept)
    assert near_cut(scores, 0 * error, 0.3)["kept_near"] == 0


def test_over_seeds_is_scipys_t_interval_and_averages_aspects_first():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"kind": np.repeat(["x", "y"], 12), "seed": np.tile(np.repeat([0, 1, 2], 4), 2), "accuracy": rng.random(24)}
    )
    found = over_seeds(table, ["kind"], ["accuracy"]).set_index("kind").loc["x"]
    means = table[table["kind"] == "x"].groupby("seed")["accuracy"].mean()
    low, high = stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
    assert found.tolist() == pytest.approx([means.mean(), low, high])
    assert math.isnan(over_seeds(table[table["seed"] == 0], ["kind"], ["accuracy"])["accuracy_low"].iloc[0])


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({}, "none"),
        ({"length_penalty": 0.05, "length_sign": "minus"}, "rho .05 minus"),
        ({"length_balance": 1.0}, "tau 1"),
        ({"length_penalty": float("nan"), "length_sign": float("nan"), "length_balance": 0.25}, "tau .25"),
    ],
)
def test_settings_have_names(row, name):
    assert name_setting(row) == name


def length_table():
    rows = []
    for setting, excess in [
        ({}, 0.4),
        ({"length_penalty": 0.02, "length_sign": "plus"}, -0.1),
        ({"length_balance": 0.5}, 0.2),
    ]:
        for seed in (0, 1):
            rows += [
                {
                    "kind": "classifier",
                    "seed": seed,
                    "aspect": a,
                    "length": 0.1 + excess + 0.02 * seed,
                    "truth_length": 0.1,
                    "raters_length": 0.3,
                    "accuracy": 0.7,
                    "wrong_kept": 0.1,
                }
                | setting
                for a in NAMES
            ]
    return pd.DataFrame(rows)


def test_the_verdict_names_the_remedy_that_gains_most_and_whether_surely():
    gains = length_gains(length_table()).set_index("setting")
    assert gains["gain"].to_dict() == pytest.approx({"rho .02 plus": 0.32, "tau .5": 0.2})  # .4 - .1, .42 - .08
    assert gains.loc["tau .5", "gain_low"] == pytest.approx(0.2)  # the same in both seeds
    verdict = length_verdict(length_table())
    assert "correlation with length is +0.20 above the truth's" in verdict
    assert "+0.41 from the truth's without a remedy, 0.41 in size. Most is taken off by rho .02 plus: 0.32 [" in verdict
    assert "surely" in verdict
    assert list(length_rows(length_table())["mitigation"]) == ["none", "rho .02 plus", "tau .5"]
    assert length_means(length_table())["distance"].tolist() == pytest.approx([0.41, 0.09, 0.21])


def test_a_page_takes_a_table_from_the_first_folder_that_has_it(tmp_path):
    from pdsel.pipeline.report import write_pages

    for folder, files in {"one": {"a": "first"}, "two": {"a": "second", "b": "only"}}.items():
        (tmp_path / folder / "tables").mkdir(parents=True)
        for name, body in files.items():
            (tmp_path / folder / "tables" / f"{name}.md").write_text(body)
    path = tmp_path / "README.md"
    path.write_text("<!-- begin:a --><!-- end:a --> <!-- begin:b --><!-- end:b -->")
    assert write_pages([path], [tmp_path / "one", tmp_path / "two"], profiles=[]) == [path]
    assert "first" in path.read_text() and "only" in path.read_text() and "second" not in path.read_text()


def test_failure_rows_count_warned_worlds():
    table = pd.DataFrame(
        {
            "case": "noisy",
            "seed": [0, 0, 1, 1],
            "aspect": ["a", "b"] * 2,
            "spearman": 0.5,
            "wrong_all": 0.3,
            "wrong_kept": 0.1,
            "seen_warning": ["", "its proxy ...", np.nan, ""],
        }
    )
    row = failure_rows(table).iloc[0]
    assert row["worlds with a warning"] == "1 of 2"
    assert row["warned about"] == "b"


def test_committed_studies_are_what_their_tables_and_the_book_say():
    """Every number of the book's studies comes from the committed CSV files."""
    book = shown_blocks(ROOT)
    length = load_table(TOY / "length.csv")
    expected = {
        "proxies": markdown(proxy_rows(load_table(TOY / "proxies.csv"))),
        "length": markdown(length_rows(length)),
        "length_verdict": length_verdict(length),
        "failures": markdown(failure_rows(load_table(TOY / "failures.csv"))),
    }
    for name, text in expected.items():
        assert (TOY / "tables" / f"{name}.md").read_text() == text + "\n", name
        assert book[name] == {text}, name
    for stage in ("08_proxy_study", "09_failures"):
        assert verify(stage, TOY)["environment"]["versions"]["trl"]


def test_the_committed_proxy_table_is_complete_and_implicit_is_good_enough():
    table = load_table(TOY / "proxies.csv")
    cells = table.groupby(["base", "kind", "share"])["seed"].nunique()
    assert cells.index.nlevels == 3 and len(cells) == 2 * 3 * 3
    assert (cells == 3).all()
    full = over_seeds(table[table["share"] == 1], ["base", "kind"], ["accuracy"]).set_index(["base", "kind"])
    assert full.loc[("small", "implicit"), "accuracy"] >= 0.75
