"""README's blocks: tables as Markdown, sentences, and what several runs of a folder say together."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pdsel.artifacts import Stage, save_table
from pdsel.experiments import published
from pdsel.pipeline.report import (
    MISSING,
    fill_blocks,
    findings,
    load_nulls,
    load_outcomes,
    main_table,
    ranks_beside_paper,
    write_pages,
)
from pdsel.pipeline.text import length_note, main_rows, markdown, null_note, null_rows


def test_blocks_are_filled_and_the_rest_is_kept():
    text = "# a\n<!-- begin:one -->\nold\n<!-- end:one -->\nkept \\1\n<!-- begin:two --><!-- end:two -->\n"
    filled = fill_blocks(text, {"one": r"| \1 | $x |", "two": "2"})
    assert filled == (
        "# a\n<!-- begin:one -->\n| \\1 | $x |\n<!-- end:one -->\nkept \\1\n<!-- begin:two -->\n2\n<!-- end:two -->\n"
    )
    assert fill_blocks(filled, {"one": r"| \1 | $x |", "two": "2"}) == filled
    assert fill_blocks(text, {}) == text


@pytest.mark.parametrize(("text", "count"), [("nothing", 0), (2 * "<!-- begin:one --><!-- end:one -->", 2)])
def test_a_block_without_its_one_pair_of_markers_is_refused(text, count):
    with pytest.raises(ValueError, match=f"block 'one' occurs {count} times; it needs one begin and one end marker"):
        fill_blocks(text, {"one": "new"})


def test_a_page_gets_the_blocks_it_has_markers_for(tmp_path):
    path, tables = tmp_path / "README.md", tmp_path / "results" / "tables"
    tables.mkdir(parents=True)
    (tables / "main.md").write_text("| new |\n")
    (tables / "other.md").write_text("unused")
    path.write_text(
        "text\n<!-- begin:main -->\n| old |\n<!-- end:main -->\n<!-- begin:gone -->\n9\n<!-- end:gone -->\n"
    )
    assert write_pages([path], [tmp_path / "results"], profiles=[]) == [path]
    assert path.read_text() == (
        f"text\n<!-- begin:main -->\n| new |\n<!-- end:main -->\n<!-- begin:gone -->\n{MISSING}\n<!-- end:gone -->\n"
    )
    assert write_pages([path], [tmp_path / "results"], profiles=[]) == []


def test_markdown_tables_keep_what_cells_say():
    frame = pd.DataFrame({"method": ["PD", "ALL"], "a|b": [1, 20], "text": [" 1.50 ", ""]})
    lines = markdown(frame).splitlines()
    assert lines == [r"| method | a\|b | text |", "| --- | --- | --- |", "| PD | 1 |  1.50  |", "| ALL | 20 |  |"]
    assert markdown(pd.DataFrame({"a": []})).splitlines() == ["| a |", "| --- |"]


def test_outcomes_of_a_folder_without_runs_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no outcomes.parquet: run the pipeline first"):
        load_outcomes(tmp_path)


def finished_run(folder, nulls=None, **parameters):
    """A run's folder with outcomes and, where its judges were audited, the wins of constant answers."""
    stage = Stage("05_evaluation", folder, **parameters)
    outcomes = pd.DataFrame({"method": ["SFT"], "prompt_id": ["q0"], "preference": [0.5]})
    written = [save_table(outcomes, folder / "outcomes.parquet")]
    if nulls is not None:
        table = pd.DataFrame(nulls, columns=["null", "judge", "value", "low", "high"])
        written.append(save_table(table, folder / "nulls.csv"))
    stage.finish(*written)


def test_outcomes_carry_the_level_and_seed_of_their_manifest(tmp_path):
    for seed in (0, 1):
        finished_run(tmp_path / f"seed{seed}", conflict=0.3, seed=seed)
    assert load_outcomes(tmp_path)[["conflict", "seed"]].values.tolist() == [[0.3, 0], [0.3, 1]]


def test_constants_of_one_run_have_its_interval_over_prompts(tmp_path):
    finished_run(tmp_path / "seed0", [("silent", "gold", 6.0, 5.0, 7.0)], conflict=0.3, seed=0)
    finished_run(tmp_path / "seed1", conflict=0.3, seed=1)  # was not audited
    rates = load_nulls(tmp_path)
    assert null_rows(rates).to_dict("records") == [{"constant answer": "silent", "gold: wins (%)": "6.0 [5.0, 7.0]"}]
    assert null_note(rates) == "The strongest of these constants wins 6 % under gold (silent)."


def test_constants_of_several_runs_are_pooled_and_the_text_says_so(tmp_path):
    for seed, value in enumerate([6.0, 10.0, 14.0]):
        wins = [("silent", "gold", value, value - 1, value + 1), ("polite", "gold", 1.0, 0.0, 2.0)]
        finished_run(tmp_path / f"seed{seed}", wins, conflict=0.3, seed=seed)
    rates = load_nulls(tmp_path)
    half = stats.sem([6, 10, 14]) * stats.t.ppf(0.975, 2)
    expected = [10.0, max(10 - half, 0), 10 + half, 3]
    assert rates.loc[0, ["value", "low", "high", "runs"]].tolist() == pytest.approx(expected)
    assert list(null_rows(rates)) == ["constant answer", "gold: wins (%), mean of 3 runs"]
    assert null_note(rates) == "The strongest of these constants wins 10 % under gold (silent), mean of 3 runs."


def test_a_folder_without_audits_has_no_table_of_constants(tmp_path):
    finished_run(tmp_path / "seed0", conflict=0.3, seed=0)
    assert null_rows(load_nulls(tmp_path)).empty


def outcomes_at(conflicts, seeds, methods=("SFT", "OVA", "ALL", "RAND", "RAF", "PD")):
    """Made-up outcomes: each method wins a little more than the one before; PD's outputs are always the shortest."""
    rng = np.random.default_rng(0)
    frames = []
    for conflict in conflicts:
        for seed in seeds:
            for place, method in enumerate(methods):
                chance = 0.5 if method == "SFT" else rng.normal(0.5 + 0.05 * place, 0.02, 40).clip(0, 1)
                characters = rng.integers(40, 60, 40) - 30 * (method == "PD")
                rows = {"method": method, "seed": seed, "conflict": conflict, "prompt_id": range(40)}
                frames.append(pd.DataFrame(rows).assign(preference=chance, characters=characters))
    return pd.concat(frames, ignore_index=True)


def test_the_papers_numbers_stand_beside_ours_of_their_own_level():
    """The paper's main table is at 10 %; at 20 and 30 % it has LC alone, elsewhere nothing."""
    outcomes = outcomes_at([0.1, 0.25, 0.3], [0])
    table = main_table(outcomes)
    costs = pd.DataFrame(0.0, index=outcomes["method"].unique(), columns=["training_seconds", "selection_seconds"])
    low, between, high = (main_rows(table, costs, conflict).set_index("method") for conflict in (0.1, 0.25, 0.3))
    assert low.loc["PD", "paper at 10 %: WR, LC, AW"] == "21.00, 26.11, 1.24"
    assert high.loc["PD", "paper at 30 %: LC"] == "24.71" and high.loc["OVA", "paper at 30 %: LC"] == ""
    assert not any("paper" in column for column in between)
    assert published.MAIN["LC"].loc[published.LC_BY_CONFLICT.index].tolist() == published.LC_BY_CONFLICT[0.1].tolist()


def test_our_order_is_compared_with_the_papers_of_the_same_level():
    table = main_table(outcomes_at([0.1, 0.3], [0]))
    low, high = (ranks_beside_paper(table, conflict) for conflict in (0.1, 0.3))
    assert list(low.columns.unique(0)) == ["WR", "LC"] and list(high.columns.unique(0)) == ["LC"]
    assert low.loc[["PD", "RAF", "SFT"], ("WR", "ours")].tolist() == [1, 2, 6]
    assert low.loc[["PD", "RAF", "SFT"], ("WR", "paper")].tolist() == [1, 2, 6]
    assert "PD" not in high.index or high.loc["PD"].isna().all(), "its lengths lie apart"
    assert ranks_beside_paper(table, 0.25).empty


@pytest.mark.parametrize(
    ("seeds", "head", "said"),
    [([0], "on this seed", "holds"), (range(3), "verdict", "too few seeds"), (range(5), "verdict", "holds")],
)
def test_one_seed_gives_no_verdict_on_a_method(seeds, head, said):
    found = findings(outcomes_at([0.3], seeds), 0.3).set_index("claim")
    assert list(found) == [
        "test",
        "win rate (points)",
        f"win rate: {head}",
        "at equal length (points)",
        f"at equal length: {head}",
    ]
    row = found.loc["PD above RAND at the same budget"]
    assert row["test"] == "above" and row[f"win rate: {head}"] == said
    assert row["at equal length (points)"] == "– (PD: only 0 % longer)" and row[f"at equal length: {head}"] == ""
    assert found.loc["PD with a share of the data at least at ALL", "test"] == "at least within 2 points"


def test_the_note_on_length_says_why_a_number_is_missing():
    outcomes = outcomes_at([0.3], [0])
    note = length_note(outcomes, main_table(outcomes), 0.3)
    assert note.startswith("PD's outputs are shorter than SFT's on 100 % of the prompts and longer on 0 %.")
    assert note.endswith("none is given at equal length: the lengths overlap too little.")
    assert "] % at equal length." in length_note(outcomes, main_table(outcomes), 0.3, method="RAF")
