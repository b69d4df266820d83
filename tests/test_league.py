"""The league: the cells it asks for, policies of any rule and loss, its table and recommendations, kept sets and figures."""

import hashlib
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from pdsel import plots
from pdsel.evaluation import paired_difference
from pdsel.evaluation.judges import gold_gaps
from pdsel.experiments import grid, league, league_tables
from pdsel.experiments import grid_plan as plan
from pdsel.notesworld.people import NOISE
from pdsel.notesworld.settings import DPO
from pdsel.plots.style import use_style
from pdsel.rules import RULES, available, keep_all, needs
from pdsel.rules.alternatives import ALTERNATIVES
from pdsel.rules.built import BUILT
from pdsel.rules.kept_sets import family_tree, kept_quality, overlap
from pdsel.rules.signals import SIGNALS


def cells_of(asked):
    return [cell for _, cell in asked]


def test_an_option_that_a_cell_does_not_use_is_not_in_its_name():
    """What was computed before an option was thought of is not computed again: the digest of these settings alone."""
    settings = {
        "method": "PD",
        "seed": 0,
        "conflict": 0.3,
        "rule": "PD",
        "share": 0.3,
        "n_pairs": 4000,
        "proxies": None,
        "quantile": 0.9,
        "max_steps": 250,
        "beta": 0.5,
        "learning_rate": 0.002,
        "families": True,
    }
    cell = plan.Cell(**settings)
    assert cell.settings == settings and cell.flipped is cell.loss is cell.base is cell.raters is None
    assert cell.name == hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16] == PINNED
    assert replace(cell, loss="IPO").name != cell.name != replace(cell, raters=(("noise", 0.24),)).name


PINNED = "e1e83deb26489fd9"


def test_every_rule_and_loss_has_a_cell_of_the_same_training():
    asked = cells_of(league.cells([3], shares=[0.3], conflicts=[0.1]))
    # DPO with the likelihood of the chosen response is ALL, MODPO with equal weights is DMPO
    others = [name for name in ALTERNATIVES if name not in ("DPO", "DPO+SFT", "MODPO")]
    assert [cell.method for cell in asked] == [*RULES, *BUILT, "ALL", "DMPO", *others]
    for cell in asked:
        assert {"beta": cell.beta, "learning_rate": cell.learning_rate} == DPO
        assert cell.max_steps == league.STEPS == plan.ALL_STEPS // 2, "as many steps, whatever the number of pairs"
        assert (cell.seed, cell.conflict) == (3, 0.1)
        assert cell.share == (1.0 if cell.method in league.OTHERS else 0.3)
    assert len({cell.name for cell in asked}) == len(asked)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """Four policies of 60 pairs and two steps, judged on six prompts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "N_PROMPTS", 6)
        patch.setattr(grid, "SAMPLES", 2)
        grid.questions.cache_clear(), grid.baseline.cache_clear()
        folder = tmp_path_factory.mktemp("league")
        names = ["RAND", "SeRA", "RS-DPO", "R-DPO", "ALL"]
        asked = [
            ("", replace(cell, n_pairs=60, max_steps=2, families=False)) for _, cell in league.cells([0], names=names)
        ]
        run = partial(grid.run_policies, folder=folder / "cells")
        league.save_league(folder, asked, run, grid.baseline_outcomes([0]))
        yield folder
    grid.questions.cache_clear(), grid.baseline.cache_clear()


def test_policies_of_any_rule_and_loss(tiny_run):
    outcomes, chosen = league.load_league(tiny_run)
    table = chosen.set_index("method")
    assert table["n_trained"].to_dict() == {"RAND": 18, "SeRA": 18, "RS-DPO": 18, "R-DPO": 60, "ALL": 60}
    assert (table["steps"] == 2).all()
    assert (table["selection_seconds"].drop(["RAND", "ALL"]) > 0).all() and table.loc["ALL", "selection_seconds"] == 0
    assert outcomes.groupby("method").size().to_dict() == dict.fromkeys([*table.index, "SFT"], 6)
    found = league.league_table(outcomes, chosen, against=["RAND"])
    assert set(found.index) == set(table.index) and found["win_rate"].between(0, 100).all()


def test_F12_selective_dpo_trains_from_easy_to_hard(monkeypatch):
    """On its kept pairs in the order of their held-out losses, without shuffling; other rules' policies see them mixed."""
    asked = {}

    def train_plan(plan, pairs, **options):
        asked.update(plan, pairs=pairs, seed=options["seed"])
        return "path"

    def train_alternative(name, *args, **options):
        return name if args and options else None

    monkeypatch.setattr(grid, "train_plan", train_plan)
    monkeypatch.setattr(grid, "train_alternative", train_alternative)
    kept = grid.TrainingSet(pairs="the kept pairs", kept=["easy", "harder", "hard"], seconds=0.0)
    cells = {name: cells_of(league.cells([0], names=[name]))[0] for name in ("SelectiveDPO", "SeRA")}
    assert grid.train_policy(cells["SelectiveDPO"], kept, {}, output_dir="path") == "path"
    assert asked == {"order": ["easy", "harder", "hard"], "pairs": "the kept pairs", "seed": 0}
    assert grid.train_policy(cells["SeRA"], kept, {}, output_dir="path") == "DPO"


def test_without_results_there_is_no_league(tmp_path):
    assert league.load_league(tmp_path) is None


@pytest.fixture
def made_up():
    """Three rules and ALL over eight seeds and 40 prompts, with known means: 60, 50, 40 and 55 % of wins."""
    rng = np.random.default_rng(0)
    rows, cells = [], []
    for seed in range(8):
        for method, level in {"PD": 0.60, "RAND": 0.50, "SeRA": 0.40, "ALL": 0.55, "SFT": 0.5}.items():
            noise = 0 if method == "SFT" else rng.normal(0, 0.02, 40)
            rows.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "seed": seed,
                        "prompt_id": [f"x{i}" for i in range(40)],
                        "preference": np.clip(level + noise, 0, 1),
                        "utility": level,
                        "characters": rng.integers(40, 60, 40),
                        "tokens": 10,
                    }
                )
            )
            if method != "SFT":
                cells.append(
                    {
                        "method": method,
                        "setting": "",
                        "seed": seed,
                        "share": 1.0 if method == "ALL" else 0.3,
                        "conflict": 0.3,
                        "wrong_labels": {"PD": 0.1, "SeRA": 0.05}.get(method, 0.3),
                        "selection_seconds": 8.0,
                        "training_seconds": 5.0,
                    }
                )
    return pd.concat(rows, ignore_index=True), pd.DataFrame(cells)


def test_the_league_table_is_the_means_and_paired_differences(made_up):
    outcomes, cells = made_up
    table = league.league_table(outcomes, cells)
    assert list(table.index) == ["PD", "ALL", "RAND", "SeRA"]
    assert table["win_rate"].to_dict() == pytest.approx({"PD": 60, "ALL": 55, "RAND": 50, "SeRA": 40}, abs=1)
    assert table["length_controlled"].to_numpy() == pytest.approx(table["win_rate"].to_numpy(), abs=1)
    assert table.loc["SeRA", "wrong"] == pytest.approx(5) and (table["seeds"] == 8).all()
    ours = outcomes.assign(win_rate=100 * outcomes["preference"])
    expected = paired_difference(ours, "SeRA", "PD", metric="win_rate")
    assert table.loc["SeRA", "minus PD"] == pytest.approx(expected.value)
    assert table.loc["SeRA", "p PD"] < 0.05 and np.isnan(table.loc["PD", "minus PD"])
    text = league_tables.league_rows(table).set_index("rule")
    assert (
        text.loc["SeRA", "- PD"].endswith("*")
        and text.loc["PD", "- PD"] == ""
        and text.loc["SeRA", "source"] == "2410.09362"
    )


@pytest.mark.parametrize("absent", [["PD"], ["RAND"], ["PD", "RAND"], ["PD", "RAND", "SeRA"]])
def test_a_league_without_those_it_is_compared_with(made_up, absent):
    """No column of differences from a method that was not run; one method alone has none at all."""
    outcomes, cells = (each[~each["method"].isin(absent)] for each in made_up)
    table = league.league_table(outcomes, cells)
    whole = league.league_table(*made_up)
    assert [f"minus {name}" in table for name in ("PD", "RAND")] == [name not in absent for name in ("PD", "RAND")]
    pd.testing.assert_series_equal(table["win_rate"], whole.loc[table.index, "win_rate"])
    assert len(league_tables.league_rows(table)) == len(table)
    alone = league.league_table(outcomes, cells, against=["ALL"])
    assert ("minus ALL" in alone) == (len(table) > 1)


def test_a_league_of_a_single_seed(made_up):
    """Intervals and tests are over prompts alone."""
    outcomes, cells = (each[each["seed"] == 1] for each in made_up)
    table = league.league_table(outcomes, cells)
    assert (table["seeds"] == 1).all() and table["p PD"].drop("PD").between(0, 1).all()
    assert (table["low"] < table["win_rate"]).all() and (table["win_rate"] < table["high"]).all()
    expected = outcomes.pivot(index="prompt_id", columns="method", values="preference").mul(100).mean()
    assert table.loc["SeRA", "minus PD"] == pytest.approx(expected["SeRA"] - expected["PD"])


def test_methods_of_other_seeds_are_not_compared(made_up):
    """Differences are paired by seed: one that was not run on all of PD's has none, the others theirs."""
    outcomes, cells = (each[(each["method"] != "SeRA") | (each["seed"] == 0)] for each in made_up)
    table = league.league_table(outcomes, cells)
    assert table["seeds"].to_dict() == {"PD": 8, "ALL": 8, "RAND": 8, "SeRA": 1}
    assert np.isnan(table.loc["SeRA", "minus PD"]) and table.loc["RAND", "minus PD"] == pytest.approx(-10, abs=1)
    text = league_tables.league_rows(table).set_index("rule")["- PD"]
    assert text["SeRA"] == text["PD"] == "" and text["RAND"].startswith("-")


def test_stars_need_eight_seeds(made_up):
    """A difference of 20 points over three seeds is printed without a star, and the note says why."""
    outcomes, cells = (each[each["seed"] < 3] for each in made_up)
    table = league.league_table(outcomes, cells)
    text = league_tables.league_rows(table).set_index("rule")
    assert table.loc["SeRA", "p PD"] < 0.05 and not text[["- PD", "- RAND"]].apply("".join).str.contains(r"\*").any()
    assert text.loc["SeRA", "- PD"].startswith("-") and (text["seeds"] == 3).all()
    note = "3 comparisons over 3 seeds: no stars, since with fewer than 8 seeds too many would be chance."
    assert league_tables.stars_note(table) == note
    whole = league.league_table(*made_up)
    assert "moderated t, Holm-corrected: 3 comparisons over 8 seeds" in league_tables.stars_note(whole)


def test_a_league_has_no_win_rate_at_equal_length_where_lengths_lie_apart(made_up):
    outcomes, cells = made_up
    short = outcomes.assign(characters=outcomes["characters"].where(outcomes["method"] != "SeRA", 30))
    table = league.league_table(short, cells)
    assert np.isnan(table.loc["SeRA", "length_controlled"]) and table["length_controlled"].notna().sum() == 3
    text = league_tables.league_rows(table).set_index("rule")["at equal length"]
    assert text["SeRA"] == "– (only 0 % longer)" and text["PD"].startswith("6")
    assert table["lc_blank"].to_dict() == {"PD": "", "ALL": "", "RAND": "", "SeRA": "only 0 % longer"}


# --- other shares and levels ---


@pytest.fixture
def played(tmp_path, made_up):
    """A results folder: at share .3 and 30 % what `made_up` holds, at .1 SeRA on top, at 10 % PD only; ALL at 30 %."""
    outcomes, cells = made_up
    rows, judged, rules = [], [], ["PD", "RAND", "SeRA"]
    conditions = [(0.3, 0.3, 0.0, [*rules, "ALL"]), (0.1, 0.3, 0.3, rules), (0.3, 0.1, 0.0, ["PD"])]
    for share, conflict, gain, methods in conditions:
        for (method, seed), group in outcomes[outcomes["method"].isin(methods)].groupby(["method", "seed"]):
            name = f"{method} {seed} {share} {conflict}"
            known = cells[(cells["method"] == method) & (cells["seed"] == seed)].iloc[0].to_dict()
            rows.append(known | {"cell": name, "share": share if method != "ALL" else 1.0, "conflict": conflict})
            better = group["preference"] + gain * (method == "SeRA")
            judged.append(group.drop(columns=["method", "seed"]).assign(cell=name, preference=better.clip(0, 1)))
    sft = outcomes[outcomes["method"] == "SFT"]
    sft = sft.assign(cell=sft["seed"].map(plan.sft_cell)).drop(columns=["method", "seed"])
    pd.DataFrame(rows).to_csv(tmp_path / "cells.csv", index=False)
    pd.concat([*judged, sft]).to_parquet(tmp_path / "outcomes.parquet", index=False)
    return tmp_path


def test_a_policy_meets_sfts_outcomes_of_its_own_seed(played):
    """Prompts are those of a seed, and so are SFT's answers to them."""
    outcomes, _ = league.load_league(played)
    counts = outcomes.groupby("method")["seed"].value_counts().unstack()
    assert (counts == 40).all(axis=None) and "SFT" in counts.index


def test_the_grid_of_the_league_is_its_tables_at_each_condition(played):
    grid = league.league_grid(played)
    assert list(grid) == ["method", "share", "conflict", "win_rate", "low", "high", "seeds"]
    assert len(grid) == 8 and (grid["seeds"] == 8).all(), "what was not run has no row, SFT is no method"
    for share, conflict in [(0.3, 0.3), (0.1, 0.3), (0.3, 0.1)]:
        table = league.league_table(*league.load_league(played, share=share, conflict=conflict))
        here = grid[grid["share"].isin([share, 1.0]) & (grid["conflict"] == conflict)].set_index("method")
        columns = ["win_rate", "low", "high"]
        pd.testing.assert_frame_equal(here[columns], table.loc[here.index, columns])


def test_tables_of_a_league_are_computed_once_until_it_changes(played, tmp_path, monkeypatch):
    asked = {"results": played, "folder": tmp_path / "kept"}
    table = league.stored(league.league_rates, **asked, share=0.3, conflict=0.3)
    direct = league.league_table(*league.load_league(played, share=0.3, conflict=0.3))
    pd.testing.assert_frame_equal(table, direct, check_dtype=False)
    means, found = league.stored(league.league_means, **asked), league.league_means(played)
    pd.testing.assert_frame_equal(means, found, check_dtype=False)
    monkeypatch.setattr(league, "load_league", None)  # what is kept is read
    pd.testing.assert_frame_equal(league.stored(league.league_rates, **asked, share=0.3, conflict=0.3), table)
    monkeypatch.undo()
    with_condition(played, "noisy raters", "PD")
    assert league.stored(league.league_rates, **asked, share=0.5, conflict=0.2) is None, "not run"
    assert len(list((tmp_path / "kept").glob("league_rates-*.json"))) == 2


def test_orders_at_other_shares_and_levels(played):
    """SeRA, last at share .3, is first at .1: ranks 1 2 3 against 2 3 1, Spearman -.5. One rule has no order."""
    found = league.league_orders(league.league_grid(played)).set_index(["share", "conflict"])
    assert found["rules"].to_dict() == {
        (0.1, 0.1): 0,
        (0.3, 0.1): 1,
        (0.5, 0.1): 0,
        (0.1, 0.3): 3,
        (0.3, 0.3): 3,
        (0.5, 0.3): 0,
    }
    assert found.loc[(0.1, 0.3), "spearman"] == pytest.approx(-0.5) and found.loc[(0.3, 0.3), "spearman"] == 1
    assert np.isnan(found.loc[(0.3, 0.1), "spearman"]) and found.loc[(0.3, 0.1), "best"] == "PD"
    assert found.loc[(0.1, 0.3), ["best", "PD", "RAND"]].tolist() == ["SeRA", 2, 3]
    assert found.loc[(0.5, 0.3), "best"] == "not run" and pd.isna(found.loc[(0.5, 0.3), "PD"])


def test_conditions_that_were_not_run(played, tmp_path):
    assert league.load_league(played, conflict=0.2) is None
    assert set(league.load_league(played, share=0.5)[1]["method"]) == {"ALL"}, "those on all pairs have no share"
    assert league.league_grid(tmp_path / "nowhere") is None
    grid = league.league_grid(played)
    orders = league.league_orders(grid, share=0.5, conflict=0.3)
    assert orders["spearman"].isna().all(), "nothing to compare with"


def test_the_mean_over_conditions_is_of_what_was_run_in_all_of_them(played, tmp_path):
    """Leaving the level out that has but PD: win rates are means of two shares, and PD's difference that of the means."""
    assert list(league.league_means(played).index) == ["PD"], "at 10 % only PD was run"
    cells = pd.read_csv(played / "cells.csv").query("conflict == 0.3")
    cells.to_csv(played / "cells.csv", index=False)
    found, grid = league.league_means(played), league.league_grid(played).set_index(["method", "share"])["win_rate"]
    assert (
        list(found.index.sort_values()) == ["ALL", "PD", "RAND", "SeRA"] and found["win_rate"].is_monotonic_decreasing
    )
    for name in ("PD", "RAND", "SeRA"):
        assert found.loc[name, "win_rate"] == pytest.approx((grid[name, 0.1] + grid[name, 0.3]) / 2)
    assert found.loc["ALL", "win_rate"] == pytest.approx(grid["ALL", 1.0])
    assert found.loc["SeRA", "minus RAND"] == pytest.approx(
        found.loc["SeRA", "win_rate"] - found.loc["RAND", "win_rate"]
    )
    assert league.league_means(tmp_path / "nowhere") is None


def test_a_mean_over_conditions_of_a_rate_that_one_of_them_lacks_is_not_given(played):
    cells = pd.read_csv(played / "cells.csv").query("conflict == 0.3")
    cells.to_csv(played / "cells.csv", index=False)
    outcomes = pd.read_parquet(played / "outcomes.parquet")
    outcomes.loc[outcomes["cell"].str.startswith("SeRA") & outcomes["cell"].str.contains(" 0.1 "), "characters"] = 30
    outcomes.to_parquet(played / "outcomes.parquet", index=False)
    table = league.league_means(played)
    assert table.loc["SeRA", "lc_blank"] == "lengths apart in 1 of 2" and np.isnan(
        table.loc["SeRA", "length_controlled"]
    )
    assert table["length_controlled"].drop("SeRA").notna().all() and table["win_rate"].notna().all()


# --- recommendations ---


def with_condition(folder, name, better):
    """The league of a folder, with the usual condition run once more under another name, where one rule wins more."""
    cells, outcomes = pd.read_csv(folder / "cells.csv"), pd.read_parquet(folder / "outcomes.parquet")
    others = cells.query("conflict == 0.3 and share != 0.1").assign(setting=name)
    again = outcomes.merge(others[["cell", "method"]], on="cell")
    again["preference"] = (again["preference"] + 0.4 * (again["method"] == better)).clip(0, 1)
    again["cell"] += f" {name}"
    cells = pd.concat([cells, others.assign(cell=others["cell"] + f" {name}")])
    cells.to_csv(folder / "cells.csv", index=False)
    pd.concat([outcomes, again.drop(columns="method")]).to_parquet(folder / "outcomes.parquet", index=False)


def test_recommendations_use_only_what_one_has(played):
    found = league_tables.recommend(played).set_index("situation")
    best = found[league_tables.BEST]
    assert best["no ratings: labels without an aspect"].startswith("RAND 50."), "SeRA is worse, PD needs aspects"
    assert best["each pair rated on one aspect"].startswith("PD 60.") and "[" in best["each pair rated on one aspect"]
    assert found["rules"].tolist() == [2, 3, 3], "ALL is no rule"
    assert (found["seeds"] == 8).all() and (found["condition"] == "usual raters").all()
    assert (found[league_tables.BESIDE] == "none").all()
    known = {need for rule in [*RULES.values(), *BUILT.values()] for need in needs(rule.score)}
    assert known <= {"pairs", *SIGNALS}, "every need has a cost"


def test_a_condition_is_recommended_for_when_it_was_run(played):
    """Noisy raters turn the order around; raters fond of length were not run and have no row."""
    usual = league_tables.recommend(played)
    with_condition(played, "noisy raters", better="SeRA")
    found = league_tables.recommend(played).set_index("situation")
    assert list(found.index) == [*usual["situation"], "noisy raters"]
    assert found.loc["noisy raters", league_tables.BEST].startswith("SeRA ")
    pd.testing.assert_frame_equal(found.reset_index().iloc[:3], usual)
    table = league.league_table(*league.load_league(played))
    assert table.index[0] == "PD", "the league table is of the usual raters"
    assert league.league_grid(played).query("method == 'SeRA' and share == .3")["win_rate"].iloc[0] < 45


def test_rules_that_cannot_be_told_apart_are_named_together(played):
    outcomes = pd.read_parquet(played / "outcomes.parquet")
    of_rand = outcomes["cell"].str.startswith("RAND")
    outcomes.loc[of_rand, "preference"] += 0.0999
    outcomes.to_parquet(played / "outcomes.parquet", index=False)
    found = league_tables.recommend(played).set_index("situation").loc["each pair rated on one aspect"]
    assert {found[league_tables.BEST].split()[0], found[league_tables.BESIDE]} == {"PD", "RAND"}


def test_few_seeds_recommend_nothing(played, tmp_path):
    cells = pd.read_csv(played / "cells.csv")
    cells[cells["seed"] < 3].to_csv(played / "cells.csv", index=False)
    found = league_tables.recommend(played)
    assert found.empty and league_tables.BEST in found
    assert league_tables.recommend(tmp_path / "nowhere").empty


def test_conditions_have_cells_of_their_own():
    usual, noisy = (league.cells([0], names=["PD", "IPO"], condition=name) for name in ("", "noisy raters"))
    assert [condition for condition, _ in usual + noisy] == ["", "", "noisy raters", "noisy raters"]
    assert len({cell.name for _, cell in usual + noisy}) == 4
    twice = (("noise", 2 * NOISE),)
    assert [cell.raters for _, cell in usual + noisy] == [None, None, twice, twice]
    assert {situation.condition for situation in league_tables.SITUATIONS.values()} >= set(league.CONDITIONS)


def test_all_texts_of_a_league_come_at_once(played, tmp_path):
    texts = league_tables.league_texts(played)
    assert list(texts) == ["league", "league_means", "recommended", "league_grid", "league_orders", "stars"]
    assert "| 30 % | 10 % | 3 | -0.50 | SeRA | 2 | 3 |" in texts["league_orders"]
    line = next(line for line in texts["league_grid"].splitlines() if line.startswith("| ALL "))
    assert line.count("|  |") + line.count("| |") >= 1 and line.count("[") == 1, "one column is its own"
    assert league_tables.league_texts(tmp_path / "nowhere") == {}


def test_the_map_of_the_league_shows_what_was_run(played):
    use_style()
    grid = league.league_grid(played)
    low, high = plots.plot_league_grid(grid).axes
    assert [label.get_text() for label in low.get_yticklabels()] == ["PD", "SeRA", "RAND"], "best mean first"
    assert [text.get_text() for text in low.texts].count("–") == 5 and high.get_title("left").startswith(
        "conflict 30 %, ALL 5"
    )
    assert low.get_title("left") == "conflict 10 %"
    figure = low.figure
    assert figure.get_suptitle().endswith(" of 2 rules win more than a random share of the same size")
    assert figure.get_supxlabel().startswith("win rate against SFT (%); blue: more than a random share, red: less")
    one = plots.plot_league_grid(grid[(grid["share"] == 0.3) & (grid["conflict"] == 0.3)]).axes
    assert len(one) == 1 and not any(text.get_text() == "–" for text in one[0].texts)


# --- kept sets ---


@pytest.fixture
def hand():
    pairs = Dataset.from_dict(
        {
            "pair_id": list("pqrs"),
            "aspect": list("aabb"),
            "conflict": [True, False, False, False],
            "chosen": ["x x", "x", "x", "x x x"],
            "rejected": ["y", "y", "y y y", "y"],
        }
    )
    kept = pd.DataFrame({"method": ["one", "one", "two", "two"], "pair_id": list("pqqr")})
    return pairs, kept, pd.DataFrame({"utility": [-1.0, 1.0, 0.5, 3.5]}, index=list("pqrs"))


def test_kept_quality_by_hand(hand):
    found = kept_quality(*hand)
    assert found["wrong"].tolist() == [50, 0, 25] and found["utility"].tolist() == [0, 0.75, 1]
    assert found["conflict"].tolist() == [50, 0, 25] and found["longer"].tolist() == [0.5, -1, 0.25]
    assert found["balance"].tolist() == pytest.approx([1, 2, 2]) and found["n"].tolist() == [2, 2, 4]
    assert list(found.index) == ["one", "two", "all pairs"]
    assert "wrong" not in kept_quality(*hand[:2])


def test_overlap_and_family_tree(hand):
    table = overlap(hand[1])
    assert table.to_numpy() == pytest.approx(np.array([[1, 1 / 3], [1 / 3, 1]]))
    tree = family_tree(table)
    assert tree.shape == (1, 4) and tree[0, 2] == pytest.approx(2 / 3)


def test_families_join_the_rules_that_share_most(pairs):
    gaps = gold_gaps(pairs)["utility"]
    scores = pd.DataFrame({"same": gaps, "alike": gaps + 0.01, "opposite": -gaps, "RAND": np.arange(len(gaps)) % 7})
    kept = pd.concat(
        [pd.DataFrame({"method": name, "pair_id": list(scores[name].nlargest(40).index)}) for name in scores]
    )
    tree = family_tree(overlap(kept))
    assert set(tree[0, :2]) == {0, 1} and tree[0, 2] == 0


def test_figures_show_every_rule(made_up, hand):
    use_style()
    table = league.league_table(*made_up)
    figure = plots.plot_league(table)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(table.index[::-1])
    quality = kept_quality(*hand)
    assert {label.get_text() for label in plots.plot_rule_quality(quality).axes[0].get_yticklabels()} == {"one", "two"}
    similarity = overlap(hand[1])
    shown = plots.plot_rule_overlap(similarity, family_tree(similarity)).axes[1]
    assert {label.get_text() for label in shown.get_yticklabels()} == {"one", "two"} and not shown.texts, (
        "33 % is no family"
    )
    alike = similarity.mask(similarity < 1, 0.6)
    shown = plots.plot_rule_overlap(alike, family_tree(alike)).axes[1]
    assert [text.get_text() for text in shown.texts] == ["60", "60"]
    assert shown.figure.get_suptitle() == "2 of 2 rules share at least 50 % of their pairs with another rule"
    costs = plots.plot_rule_costs(pd.DataFrame({"seconds": [0.0, 30], "right": [70.0, 90]}, index=["RAND", "PD"]))
    assert {text.get_text() for text in costs.axes[0].texts} == {"RAND", "PD"}
    assert costs.axes[0].get_title("left") == "Of 2 rules, 2 give more than every cheaper one"
    more = pd.DataFrame({"seconds": [0.0, 30, 40], "right": [70.0, 90, 50]}, index=["RAND", "PD", "PD(high)"])
    axes = plots.plot_rule_costs(more).axes[0]
    assert {text.get_text() for text in axes.texts} == {"RAND", "PD", "PD(high)"}, "what has a colour has a name"
    assert axes.get_xlabel().endswith("named: those 2, and PD(high)")


def test_a_rule_of_the_notebook_needs_what_signals_offer():
    assert available(dict.fromkeys(["pairs", *SIGNALS])) == list(RULES)
    for alternative in ALTERNATIVES.values():
        assert set(needs(alternative.plan)) <= {"pairs", *SIGNALS}
    assert keep_all(pd.DataFrame({"RAND": pd.Series({"p": 1.0, "q": 0.0})}), 0.5)["pair_id"].tolist() == ["q"]
