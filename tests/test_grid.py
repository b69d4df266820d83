"""The grid: tiny policies trained twice, stored and read; its tables; and the claims on made-up outcomes of known truth."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest
from datasets import Dataset
from scipy import stats

from pdsel.artifacts import digest, load_table
from pdsel.evaluation import Estimate, means
from pdsel.evaluation.judges import gold_judge
from pdsel.experiments import grid
from pdsel.experiments import grid_plan as plan
from pdsel.experiments.claims import (
    CHOSEN,
    at,
    by_condition,
    claim_rows,
    estimate,
    evaluate_claims,
    follow_ups,
    minus,
    paired,
    paper_claims,
    reasons,
    with_chosen_share,
)
from pdsel.experiments.grid_tables import (
    conflict_rows,
    is_grid,
    load_families,
    load_grid,
    rates_by_conflict,
    save_grid,
)
from pdsel.experiments.verdicts import MARGIN, TOO_FEW, joint_verdict, simultaneous, verdict, verdict_over_seeds
from pdsel.notesworld import best_response, gold_utility, split_of
from pdsel.notesworld.settings import BATCH, CONFLICT, CONFLICTS, DPO, LARGE_PAIRS, PROXIES, SHARE, TUNED
from pdsel.pipeline.report import shown_blocks
from pdsel.ratings import prompt_id
from pdsel.rules.methods import FULL, SELECTED
from pdsel.selection import random_scores, select

ROOT = Path(__file__).parent.parent
TOY = ROOT / "results" / "toy"
TINY = {"n_pairs": 60, "max_steps": 2}
TINY_PROXIES = {"kind": "implicit", "learning_rate": 1e-3, "epochs": 4}
FIVE = [0, 1, 2, 3, 4]
FEW_STEPS = {name: {"max_steps": 75} for name in plan.METHODS if name not in FULL}  # as if tuning had chosen them


@pytest.fixture(scope="module", autouse=True)
def few_prompts():
    """A dozen questions instead of a thousand, two answers to each, and steps that do not depend on what was tuned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "N_PROMPTS", 6)
        patch.setattr(grid, "N_FAMILY", 1)
        patch.setattr(grid, "SAMPLES", 2)
        patch.setattr(plan, "TUNED", FEW_STEPS)
        forget()
        yield
    forget()


def forget():
    """What is computed once a process."""
    for remembered in (grid.questions, grid.baseline, grid.world, grid.held_out_pairs):
        remembered.cache_clear()


def tiny(method, **changes):
    cell = plan.cell(method, seed=0, conflict=0.3, **TINY | changes)
    return replace(cell, proxies=TINY_PROXIES) if cell.proxies else cell


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    cells = [tiny(method, families=True) for method in ("OVA", "ALL", "DMPO", "RAND", "RAF", "PD")]
    return folder, cells, grid.run_policies(cells, folder)


def test_every_method_is_a_cell_with_the_same_training_but_for_what_was_tuned():
    for method in plan.METHODS:
        cell = plan.cell(method, seed=3, conflict=0.1)
        assert cell.rule in [*FULL, *SELECTED]
        assert {"beta": cell.beta, "learning_rate": cell.learning_rate} == DPO
        assert cell.max_steps == (plan.ALL_STEPS if method in FULL else 75)
        assert cell.share == (1.0 if cell.rule in FULL else SHARE)
        assert cell.settings == json.loads(json.dumps(cell.settings))  # what is stored is what is asked


def test_what_was_tuned_is_a_methods_usual_and_a_study_may_change_it(monkeypatch):
    monkeypatch.setattr(plan, "TUNED", {"PD": {"learning_rate": 1e-3, "max_steps": 75, "beta": 0.1}})
    tuned = plan.cell("PD", seed=0, conflict=0.3)
    assert (tuned.learning_rate, tuned.max_steps, tuned.beta) == (1e-3, 75, 0.1)
    assert plan.cell("PD", seed=0, conflict=0.3, **DPO).beta == DPO["beta"]
    assert plan.cell("RAND", seed=0, conflict=0.3).max_steps == plan.ALL_STEPS


def test_a_policy_is_trained_on_what_its_rule_keeps(stored):
    _, cells, (outcomes, table, kept) = stored
    table = table.set_index("method")
    pairs = grid.world(0, 0.3, 60)
    assert table["n_trained"].loc[["ALL", "RAND", "RAF", "PD"]].tolist() == [60, 18, 18, 18]
    expected = select(random_scores(pairs, seed=0), 0.3)
    assert kept[table.loc["RAND", "cell"]] == list(expected) and kept[table.loc["ALL", "cell"]] == []
    assert set(table["steps"]) == {2} and (table["training_seconds"] > 0).all()
    assert table.loc["ALL", "selection_seconds"] == 0 < table.loc["PD", "selection_seconds"]
    assert outcomes.groupby("cell").size().tolist() == [11] * len(cells)
    assert outcomes["preference"].between(0, 1).all()


def test_what_is_stored_is_read_not_computed(stored, monkeypatch):
    folder, cells, (outcomes, table, _) = stored

    @wraps(grid.policy_cell)
    def never(cell, folder):
        raise AssertionError("computed again")

    monkeypatch.setattr(grid, "policy_cell", never)
    again, same, _ = grid.run_policies(cells[::-1], folder)
    pd.testing.assert_frame_equal(table.iloc[::-1].reset_index(drop=True), same)
    assert len(again) == len(outcomes)


def test_the_first_failure_of_a_worker_stops_the_grid(tmp_path):
    """What has not begun is not computed: of hundreds of policies the first may fail after a minute."""
    fails = tiny("no such rule")
    others = [replace(tiny("ALL"), seed=seed) for seed in range(1, 9)]
    with pytest.raises(ValueError, match="no such rule"):
        grid.run_policies([fails, *others], tmp_path, jobs=2)
    assert not any(grid.is_stored(cell, tmp_path) for cell in others[3:])


def test_processes_started_by_a_grid_draw_no_bars(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    monkeypatch.delenv("HF_DATASETS_DISABLE_PROGRESS_BARS", raising=False)
    code = "from tqdm.auto import tqdm; list(tqdm(range(3)))"
    with grid.quiet_processes():
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stderr == ""
    assert os.environ["TQDM_DISABLE"] == "0" and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ


def test_the_same_cell_gives_the_same_bytes_elsewhere(stored, tmp_path):
    folder, cells, _ = stored
    grid.run_policies([cells[-1]], tmp_path)
    name = next(tmp_path.glob("policy-*.parquet")).name
    assert digest(tmp_path / name) == digest(folder / name)


def test_a_cell_of_other_code_libraries_or_models_is_not_read(stored, monkeypatch):
    folder, cells, _ = stored
    assert grid.is_stored(cells[0], folder)
    with monkeypatch.context() as patch:
        patch.setattr("pdsel.data.store.__version__", "another")
        assert not grid.is_stored(cells[0], folder)
    with monkeypatch.context() as patch:
        patch.setattr(grid, "base_digest", lambda name: f"another {name}")
        assert not grid.is_stored(cells[0], folder)
    assert grid.is_stored(cells[0], folder)


def test_rules_that_share_proxies_share_their_training(stored):
    folder, _, (_, table, _) = stored
    seconds = table.set_index("method")["selection_seconds"]
    assert seconds["PD"] == seconds["DMPO"] != seconds["RAF"]
    for signal in ("aspect_models", "pooled_model"):
        assert len(list(folder.glob(f"{signal}-*.json"))) == 1


def test_the_grids_files_come_back_as_tables(stored, tmp_path):
    folder, cells, _ = stored
    studies = {"methods": [("", cell) for cell in cells], "again": [("name", cells[-1])]}
    written = save_grid(
        tmp_path, studies, partial(grid.run_policies, folder=folder), grid.baseline_outcomes([0]), grid.against_ova
    )
    assert is_grid(tmp_path) and all(path.exists() for path in written)
    runs = load_grid(tmp_path, "methods")
    assert runs.groupby("method").size().to_dict() == dict.fromkeys(["SFT", *(cell.method for cell in cells)], 6)
    assert (runs.loc[runs["method"] == "SFT", "preference"] == 0.5).all()
    assert load_grid(tmp_path, "again")["setting"].unique().tolist() == ["name", ""]
    families = load_families(tmp_path)
    assert families.groupby("method").size().to_dict() == dict.fromkeys(["SFT", *(cell.method for cell in cells)], 5)
    assert (families.loc[families["method"] == "OVA", "preference"] == 0.5).all()
    found = means(runs, ["method", "conflict"])
    row = found.set_index("method").loc["PD"]
    assert row["value"] == pytest.approx(runs.loc[runs["method"] == "PD", "win_rate"].mean()) and row["seeds"] == 1


def test_the_pairs_behind_the_grid(stored):
    folder, cells, (_, table, _) = stored
    facts = grid.pair_facts([cells[-1]], folder)
    assert len(facts) == 60 and facts["kept"].sum() == 18 and facts["conflict"].sum() == 18
    assert facts.loc[facts["kept"], "PD"].max() <= facts.loc[~facts["kept"], "PD"].min()
    wrong = table.set_index("method")["wrong_labels"]
    assert facts["gold_wrong"].mean() == wrong["ALL"] and facts.loc[facts["kept"], "gold_wrong"].mean() == wrong["PD"]


def test_labels_turned_around_are_another_cell(stored, tmp_path):
    noisy = tiny("ALL", flipped=0.5)
    assert "flipped" not in tiny("ALL").settings and noisy.name != tiny("ALL").name
    _, table, _ = grid.run_policies([noisy], tmp_path)
    pairs, turned = grid.world(0, 0.3, 60), grid.world(0, 0.3, 60, 0.5)
    assert len(set(pairs["pair_id"]) & set(turned["pair_id"])) == 30 and len(set(turned["pair_id"])) == 60
    assert set(turned["chosen"]) | set(turned["rejected"]) == set(pairs["chosen"]) | set(pairs["rejected"])
    assert table["wrong_labels"][0] == pytest.approx(0.5, abs=0.2)


# --- what a policy's numbers are ---


def test_numbers_of_a_policy_are_means_over_its_draws(monkeypatch):
    """Of its two answers to a prompt one is ideal and one is empty; SFT's are empty, but for the likeliest, which is ideal."""
    streams = []

    def drawn(model, prompts, *, max_new_tokens, temperature=0.0, seed=0):
        if not temperature:
            return [best_response(prompt) for prompt in prompts] if model == "SFT" else [""] * len(prompts)
        streams.append(seed)
        ideal = 0 if model == "SFT" else len(prompts) // 2
        return [best_response(prompt) if row < ideal else "" for row, prompt in enumerate(prompts)]

    monkeypatch.setattr(grid, "generate", drawn)
    monkeypatch.setattr(grid, "model_path", lambda name: "SFT")
    grid.baseline.cache_clear()
    found = grid.outcomes("policy", grid.Evaluation(3))
    grid.baseline.cache_clear()
    prompts = list(grid.questions(3, False)["prompt"])
    best = [best_response(prompt) for prompt in prompts]
    half = [gold_utility(prompt, text) / 2 for prompt, text in zip(prompts, best, strict=True)]
    assert found["utility"].tolist() == pytest.approx(half) and found["output"].tolist() == best
    assert found["characters"].tolist() == [len(text) / 2 for text in best]
    silent = [""] * len(prompts)
    assert found["preference"].to_numpy() == pytest.approx((gold_judge(prompts, best, silent) + 0.5) / 2)
    assert found["greedy"].to_numpy() == pytest.approx(gold_judge(prompts, silent, best))
    assert found["prompt_id"].tolist() == [f"3-{prompt_id(prompt)}" for prompt in prompts]
    assert sorted(streams) == [6, 7], "SFT's stream and the policy's"


def test_sft_draws_with_a_stream_of_its_own_whatever_the_seed(monkeypatch):
    """With the same random numbers, a policy that did not move would give SFT's very answers."""
    streams = {"SFT": [], "policy": []}

    def drawn(model, prompts, *, max_new_tokens, temperature=0.0, seed=None):
        streams[model] += [] if seed is None else [seed]
        return [""] * len(prompts)

    monkeypatch.setattr(grid, "generate", drawn)
    monkeypatch.setattr(grid, "model_path", lambda name: "SFT")
    grid.baseline.cache_clear()
    for seed in range(5):
        grid.outcomes("policy", grid.Evaluation(seed))
    grid.baseline.cache_clear()
    assert len(set(streams["SFT"])) == len(set(streams["policy"])) == 5
    assert not set(streams["SFT"]) & set(streams["policy"])


def test_sfts_own_outcomes_are_draws_one_cell_a_seed():
    table = grid.baseline_outcomes([0, 1])
    assert table.groupby("cell").size().to_dict() == {"SFT, seed 0": 6, "SFT, seed 1": 6}
    assert (table["preference"] == 0.5).all() and (table["greedy"] == 0.5).all()
    assert table["utility"].between(0, 1).all() and table["utility"].std() > 0
    assert table["prompt_id"].str.split("-").str[0].tolist() == ["0"] * 6 + ["1"] * 6
    asked = [set(grid.questions(seed, False)["prompt"]) for seed in (0, 1)]
    assert asked[0] != asked[1], "every seed has prompts of its own"


def test_held_out_pairs_share_no_prompt_with_the_world(monkeypatch):
    """By hand: of the other world's prompts b and c, b is one of this world's; and the real ones, at a small size."""
    prompts = {0: ["a", "b"], grid.OTHER_WORLD: ["b", "c"]}
    monkeypatch.setattr(
        grid, "make_world", lambda seed, **options: (Dataset.from_dict({"prompt": prompts[seed]}), None)
    )
    forget()
    assert grid.held_out_pairs(0, 0.3)["prompt"][:] == ["c"]
    monkeypatch.undo()
    monkeypatch.setattr(grid, "PAIRS", 200)
    monkeypatch.setattr(grid, "HELD_OUT_PAIRS", 50)
    forget()
    held_out, trained = grid.held_out_pairs(0, 0.3), grid.world(0, 0.3, 200)
    assert 40 < len(held_out) <= 50 and not set(held_out["prompt"]) & set(trained["prompt"])
    assert {split_of(prompt) for prompt in held_out["prompt"]} == {"select"}, "no evaluation prompt is tuned by"
    assert np.mean(held_out["conflict"]) == pytest.approx(0.3, abs=0.05)
    forget()


def test_a_cell_of_validation_says_how_often_it_orders_held_out_pairs_as_labelled(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "PAIRS", 60)
    monkeypatch.setattr(grid, "HELD_OUT_PAIRS", 40)
    forget()
    cells = [tiny("RAND", held_out=True), tiny("RAND")]
    assert cells[0].name != cells[1].name and "held_out" not in cells[1].settings
    _, table, _ = grid.run_policies(cells, tmp_path)
    assert 0 <= table["held_out_accuracy"][0] <= 1 and np.isnan(table["held_out_accuracy"][1])
    forget()


# --- the plan ---


def test_every_method_is_tuned_over_the_same_settings_on_worlds_of_no_table():
    cells = pd.DataFrame([cell.settings for _, cell in plan.validation()])
    tried = cells.groupby("method")[plan.SETTING].apply(lambda rows: sorted(map(tuple, rows.to_numpy())))
    assert set(tried.index) == set(plan.METHODS) and all(each == tried["PD"] for each in tried)
    assert len(set(tried["PD"])) == len(plan.RATES) * len(plan.STEPS) * len(plan.BETAS)
    assert len(tried["PD"]) == len(set(tried["PD"])) * len(plan.VALIDATION_SEEDS)
    assert cells["held_out"].all() and (cells["conflict"] == CONFLICT).all()
    assert not set(plan.VALIDATION_SEEDS) & {cell.seed for _, cell in plan.methods(FIVE)}


def test_tuning_takes_the_highest_mean_accuracy_on_held_out_pairs_and_tells_the_bound():
    """Two worlds and two rates: PD's means are .75 and .7, RAND's .6 and .65; what gold says is told, and not read."""
    tried = pd.DataFrame(
        {
            "method": ["PD"] * 4 + ["RAND"] * 4,
            "seed": [101, 102] * 4,
            "learning_rate": [1e-3, 1e-3, 2e-3, 2e-3] * 2,
            "max_steps": 75,
            "beta": 0.5,
            "held_out_accuracy": [0.8, 0.7, 0.9, 0.5, 0.6, 0.6, 0.5, 0.8],
            "utility": [0.6, 0.7, 0.8, 0.8, 0.5, 0.5, 0.4, 0.4],
        }
    )
    chosen = {
        "PD": {"learning_rate": 1e-3, "max_steps": 75, "beta": 0.5},
        "RAND": {"learning_rate": 2e-3, "max_steps": 75, "beta": 0.5},
    }
    assert plan.choose(tried) == plan.choose(tried.drop(columns="utility")) == chosen
    table = plan.tuning(tried)
    assert table["method"].tolist() == ["PD", "RAND"], "the best utility first"
    assert table["held_out_accuracy"].tolist() == pytest.approx([0.75, 0.65])
    assert table["utility"].tolist() == pytest.approx([0.65, 0.4]) and table["bound"].tolist() == [0.8, 0.5]
    assert table.set_index("method")[plan.SETTING].to_dict("index") == chosen


def test_flips_take_a_low_conflict_to_each_level():
    """Of a share f turned around, s becomes s (1 - f) + (1 - s) f: from .1, .1 + .8 f."""
    assert [plan.flips_for(level) for level in (0.1, 0.2, 0.3)] == [0, 0.125, 0.25]
    assert plan.flips_for(0.4, start=0.2) == pytest.approx(1 / 3, abs=1e-6)
    asked = {(setting, cell.conflict, cell.flipped) for setting, cell in plan.noise([0])}
    assert asked == {("noise, 20 %", 0.1, 0.125), ("noise, 30 %", 0.1, 0.25)}


def test_every_share_is_trained_at_two_budgets_with_one_rate_and_beta():
    asked = plan.shares([0])
    rows = pd.DataFrame([{"budget": budget, **cell.settings} for budget, cell in asked])
    assert rows.groupby("budget")["max_steps"].unique().map(list).to_dict() == {
        "one pass": [-1],
        "as many steps as ALL": [plan.ALL_STEPS],
    }
    one, many = (rows.loc[rows["budget"] == budget, ["method", "share"]].values.tolist() for budget in plan.BUDGETS)
    assert one == many and [row for row in one if row[0] == "PD"] == [["PD", share] for share in plan.SHARES]
    assert [row for row in one if row[0] == "ALL"] == [["ALL", 1.0]]
    assert (rows["beta"] == DPO["beta"]).all() and (rows["learning_rate"] == DPO["learning_rate"]).all()
    assert len({cell.name for _, cell in asked}) == len(asked)


def test_twice_the_pairs_take_twice_the_steps():
    cells = [cell for _, cell in plan.sizes([0])]
    assert {(cell.n_pairs, cell.max_steps) for cell in cells} == {(LARGE_PAIRS, LARGE_PAIRS // BATCH)}
    assert LARGE_PAIRS // BATCH == 2 * plan.ALL_STEPS


def test_another_base_is_that_of_the_policies_and_not_of_the_proxies():
    cells = {cell.method: cell for _, cell in plan.another_base([0], "elsewhere")}
    assert {cell.base for cell in cells.values()} == {"elsewhere"} and {"ALL", "RAND", "RAF", "PD"} == set(cells)
    assert cells["PD"].proxies == PROXIES and "base" not in cells["RAF"].proxies and cells["ALL"].proxies is None


def test_reseeded_proxies_see_the_same_world():
    cells = [cell for _, cell in plan.reseeded([1, 2])]
    assert {cell.seed for cell in cells} == {0} and [cell.proxies["seed"] for cell in cells] == [1, 2]


def test_no_two_cells_of_a_study_are_the_same():
    studies = [plan.validation(), plan.methods(FIVE), plan.sizes(FIVE), plan.sensitivity(FIVE), plan.noise(FIVE)]
    for cells in [*studies, plan.another_base(FIVE, "base"), plan.reseeded(FIVE)]:
        assert len({cell.name for _, cell in cells}) == len(cells)
    assert {cell.conflict for _, cell in plan.methods([0])} == set(CONFLICTS)


def test_the_settings_are_those_that_tuning_chose():
    """`TUNED` is what `choose` finds in the committed study of validation, so that nothing was tuned by hand."""
    cells = load_table(TOY / "cells.csv")
    tried = cells[cells["study"] == "validation"]
    if tried.empty:
        pytest.skip("results/toy has no study of validation yet: make reference PROFILE=toy")
    assert plan.choose(tried) == TUNED


# --- the claims, on made-up outcomes ---


STRENGTH = {
    "OVA": 60,
    "AVG": 62,
    "ALL": 70,
    "RAND": 66,
    "PD(rati.)": 70,
    "DMPO": 75,
    "RAF": 72,
    "PD": 80,
    "PD(high)": 40,
    "PD(nl)": 77,
    "PD(shared)": 78,
    "PD(classifier)": 75,
    "PD(probe)": 79,
}


def made_up(strength=STRENGTH, n=60, noise=0.5):
    """Outcomes of every cell of the plan with known win rates: conflict hurts ALL, noise all, and the best share is .3."""
    rng = np.random.default_rng(0)
    studies = {
        "methods": plan.methods(FIVE),
        "shares": plan.shares(FIVE),
        "sensitivity": plan.sensitivity(FIVE, "base"),
        "noise": plan.noise(FIVE),
        "sizes": plan.sizes(FIVE),
    }
    frames = []
    for study, cells in studies.items():
        for setting, cell in cells:
            value = strength[cell.method]
            if study == "shares" and cell.method != "ALL":
                value -= 40 * abs(cell.share - 0.3)
            if cell.method == "ALL":
                value -= 20 * (cell.conflict - 0.3)
            if study == "noise":
                value -= 10
            drawn = pd.DataFrame({"prompt_id": range(n), "win_rate": value + rng.normal(0, noise, n)})
            frames.append(
                drawn.assign(
                    study=study,
                    setting=setting,
                    method=cell.method,
                    seed=cell.seed,
                    conflict=cell.conflict,
                    share=cell.share,
                    steps=cell.max_steps if cell.max_steps > 0 else round(plan.ALL_STEPS * cell.share),
                )
            )
    return pd.concat(frames, ignore_index=True)


def verdicts_at(page, conflict):
    """The verdict of every claim at a level, in the order of the page."""
    return claim_rows(page).query("conflict == @conflict").set_index("claim")["verdict"]


def test_all_claims_hold_where_they_are_true():
    page = evaluate_claims(made_up())
    rows = claim_rows(page)
    assert rows.groupby("conflict").size().to_dict() == {"10 %": 9, "10 %, 30 %": 1, "30 %": 9}
    assert set(verdicts_at(page, "30 %")) == set(verdicts_at(page, "10 %, 30 %")) == {"holds"}
    # At 10 % neither other shares nor other settings were run.
    assert verdicts_at(page, "10 %").tolist() == ["holds"] * 7 + ["not run"] * 2


def test_a_claim_names_share_steps_seeds_level_and_test():
    rows = claim_rows(evaluate_claims(made_up())).set_index(["claim", "conflict"])
    whole = rows.loc[("PD's 30 % of the data is at least as good as all of it", "30 %")]
    assert whole["trained on"] == "PD: 30 %, 75 steps; ALL: 100 %, 250 steps"
    assert (whole["test"], whole["seeds"]) == ("at least within 2 points", 5)
    assert rows.loc[("PD beats a random share of the same size", "10 %"), "test"] == "above"
    settings = rows.loc[("Proxy size, p_r, gamma and rho hardly matter", "30 %")]
    assert settings["test"] == "all same within 2 points, 95 % each; fails by one, Bonferroni over 8"
    assert settings["trained on"] == "PD: 30 %, 75 steps"
    between = rows.loc[("DMPO lies between ALL and PD", "30 %"), "trained on"]
    assert between == "PD: 30 %, 75 steps; DMPO, ALL: 100 %, 250 steps"
    across = rows.loc[("Conflict hurts ALL, not PD", "10 %, 30 %"), "test"]
    assert across == "all above, at least within 2 points, 95 % each; fails by one, Bonferroni over 2"


def test_a_claim_says_on_how_many_seeds_it_rests():
    """Five seeds of the methods and three of the changed settings: a claim about both rests on three, and has no verdict."""
    outcomes = made_up()
    outcomes = outcomes[(outcomes["study"] != "sensitivity") | (outcomes["seed"] < 3)]
    rows = claim_rows(evaluate_claims(outcomes)).query("conflict == '30 %'").set_index("claim")
    assert rows.loc["PD beats filtering by one pooled reward", ["seeds", "verdict"]].tolist() == [5, "holds"]
    few = rows.loc["Proxy size, p_r, gamma and rho hardly matter"]
    assert few["seeds"] == 3 and few["verdict"] == TOO_FEW and few["estimate"].count("[") == 8
    outcomes = outcomes[(outcomes["study"] != "sizes") | (outcomes["seed"] == 0)]
    large = by_condition(outcomes).set_index("training").loc["8 000 pairs, as many steps as ALL"]
    assert large["seeds"] == 1 and large["PD - RAND: above"].endswith(TOO_FEW)


def test_seeds_with_prompts_of_their_own_are_compared_where_both_were_trained():
    """PD has three seeds and ALL two; the prompts of the third seed have no value of ALL, and are left out."""
    outcomes = pd.DataFrame(
        {"method": method, "seed": seed, "prompt_id": f"{seed}-{prompt}", "win_rate": strength + prompt}
        for method, strength, seeds in [("PD", 80.0, 3), ("ALL", 70.0, 2)]
        for seed in range(seeds)
        for prompt in range(4)
    )
    found = estimate(outcomes, minus({"method": "PD"}, {"method": "ALL"}))
    assert (found.value, found.low, found.high) == (10.0, 10.0, 10.0)


def test_claims_fall_where_they_are_false():
    strength = STRENGTH | {"RAND": 85, "ALL": 90, "PD(high)": 55, "PD(nl)": 80, "DMPO": 95}
    page = verdicts_at(evaluate_claims(made_up(strength)), "30 %")
    falls = [sentence for sentence, said in page.items() if said == "does not hold"]
    assert [text.split()[0] for text in falls] == ["PD", "PD's", "The", "DMPO", "There"]
    assert page["PD gains from length mitigation"] == "inconclusive"


def test_one_setting_among_eight_fails_only_beyond_all_intervals():
    """A part that is outside by its own interval alone leaves the claim open: eight were tried."""
    outcomes = made_up()
    changed = outcomes["setting"] == "gamma 1"
    by_seed = outcomes["seed"].map(dict(zip(FIVE, [-3.2, -5.0, -6.0, -7.0, -8.8], strict=True)))
    outcomes.loc[changed, "win_rate"] += by_seed[changed]
    page = evaluate_claims(outcomes)
    part = page[(page["part"] == "gamma 1") & (page["conflict"] == "30 %")].iloc[0]
    assert part["high"] < -MARGIN < part["all_high"] and part["part_verdict"] == "inconclusive"
    assert part["verdict"] == "inconclusive"


def test_ten_percent_relative_is_of_the_excess_over_a_draw():
    """A method at 60 gains 10 over a draw, so PD must be above 61."""
    for pd_strength, said in [(60.5, "does not hold"), (61.0, "inconclusive"), (61.5, "holds")]:
        strength = STRENGTH | {"PD": pd_strength, "OVA": 60, "AVG": 60}
        page = verdicts_at(evaluate_claims(made_up(strength)), "30 %")
        assert page["PD beats relabelling everything, by 10 % of what that gains over a draw"] == said


def test_no_seed_chooses_the_share_that_it_is_tested_at():
    """By hand: of three seeds, seed 0 alone prefers .5, so the others choose .3 for it, and with it they choose .5."""
    rates = {0: {0.3: 60, 0.5: 80}, 1: {0.3: 70, 0.5: 60}, 2: {0.3: 70, 0.5: 60}}
    rows = [
        {"seed": seed, "share": share, "win_rate": rate} for seed, of in rates.items() for share, rate in of.items()
    ]
    here = {"study": "shares", "setting": "one pass", "method": "PD", "conflict": 0.3, "prompt_id": "a"}
    outcomes = pd.DataFrame(rows).assign(**here)
    chosen = with_chosen_share(outcomes).query("study == @CHOSEN").set_index("seed")
    assert chosen["share"].to_dict() == {0: 0.3, 1: 0.5, 2: 0.5}
    assert chosen["win_rate"].mean() == 60 < outcomes.groupby("share")["win_rate"].mean().max()
    assert CHOSEN == "chosen share" and with_chosen_share(outcomes[outcomes["seed"] == 0])["study"].eq("shares").all()
    longer = outcomes.assign(setting="as many steps as ALL", win_rate=100 - outcomes["win_rate"])
    both = with_chosen_share(pd.concat([outcomes, longer])).query("study == @CHOSEN").set_index("seed")
    assert both["share"].to_dict() == chosen["share"].to_dict(), "the other budget has no say"


def test_a_best_share_among_equal_ones_is_no_finding():
    """All shares are alike and seeds noisy: the highest of many means must not look like a best share."""
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(200):
        rates = pd.DataFrame({"share": plan.SHARES * 5, "seed": np.repeat(FIVE, 5), "win_rate": rng.normal(60, 3, 25)})
        here = {"study": "shares", "setting": "one pass", "method": "PD", "conflict": 0.3, "prompt_id": "a"}
        outcomes = rates.assign(**here)
        mean = with_chosen_share(outcomes).groupby("study")["win_rate"].mean()
        best = rates[rates["share"] > 0.1].groupby("share")["win_rate"].mean().max()
        gains.append((mean[CHOSEN] - 60, best - 60))
    chosen_elsewhere, chosen_here = np.mean(gains, axis=0)
    assert abs(chosen_elsewhere) < 0.3 < 1 < chosen_here


def test_follow_ups_say_what_the_outcomes_say():
    outcomes = made_up().assign(honesty=0.5, instruction_following=0.7)
    runs = outcomes[["study", "setting", "method", "conflict"]].drop_duplicates()
    cells = runs.assign(wrong_labels=np.where(runs["method"] == "RAF", 0.12, 0.08))
    facts = pd.DataFrame(
        {
            "conflict_level": [0.1, 0.3] * 2,
            "aspect": ["honesty"] * 2 + ["instruction_following"] * 2,
            "conflict": [0.1, 0.2, 0.1, 0.4],
        }
    )
    overlap = pd.DataFrame({"PD": {"RAF": 0.25}})
    why = reasons(outcomes, cells, facts, overlap)
    assert set(why) <= {claim.sentence for claim in paper_claims()}
    page = evaluate_claims(made_up(STRENGTH | {"RAF": 80}))
    first = follow_ups(page, why).splitlines()[0]
    said = "(at 10 %: inconclusive; at 30 %: inconclusive). One reward"
    assert first.startswith(f"- *PD beats filtering by one pooled reward* {said}")
    assert "12.0 % of RAF's" in why["PD beats filtering by one pooled reward"]
    assert "share 25 % of the pairs" in why["PD beats filtering by one pooled reward"]
    conflict = why["Conflict hurts ALL, not PD"]
    assert "40 % of the labels on instruction following" in conflict and "it is 0.70 at 10 %" in conflict
    assert conflict.count("-10.") + conflict.count("-9.") >= 2  # noise takes ten points off either


def test_what_pd_gains_under_each_way_of_training():
    table = by_condition(made_up()).set_index("training")
    assert list(table.index) == [
        "each method as it was tuned",
        "the same settings, one pass",
        "the same settings, as many steps as ALL",
        "8 000 pairs, as many steps as ALL",
    ]
    assert set(table["PD"]) <= {"79.9", "80.0", "80.1"}
    assert all(text.startswith(("+13.", "+14.")) and text.endswith("] holds") for text in table["PD - RAND: above"])
    steps = [(75, 250), (75, 250), (250, 250), (500, 500)]
    assert table["trained on"].tolist() == [
        f"PD, RAND, RAF: 30 %, {part} steps; ALL: 100 %, {whole} steps" for part, whole in steps
    ]
    assert (table["seeds"] == 5).all() and "PD - ALL: at least within 2 points" in table
    worse = by_condition(made_up(STRENGTH | {"RAND": 90})).set_index("training")
    assert all(text.endswith("] does not hold") for text in worse["PD - RAND: above"])
    outcomes = made_up()
    assert len(by_condition(outcomes[outcomes["study"] != "shares"])) == 2, "what was not run has no row"


def test_a_contrast_by_hand():
    outcomes = pd.DataFrame(
        {
            "study": "methods",
            "method": ["PD"] * 4 + ["OVA"] * 4,
            "conflict": 0.3,
            "seed": [0, 0, 1, 1] * 2,
            "prompt_id": list("abab") * 2,
            "win_rate": [80.0, 90, 70, 80, 50, 60, 50, 60],
        }
    )
    found = estimate(outcomes, minus(at("PD"), at("OVA"), factor=1.1), constant=5)
    assert found.value == pytest.approx(80 - 60.5 + 5)
    with pytest.raises(ValueError, match="finds no policy"):
        estimate(outcomes, [(1, at("RAF"))])
    lacking = outcomes[(outcomes["method"] != "OVA") | (outcomes["seed"] == 0)]
    assert len(paired(lacking, minus(at("PD"), at("OVA")))) == 1  # of PD's two seeds
    apart = outcomes.assign(seed=outcomes["seed"] + 2 * (outcomes["method"] == "OVA"))
    with pytest.raises(ValueError, match="have no seed in common. Remedy: train them with the same seeds"):
        estimate(apart, minus(at("PD"), at("OVA")))
    with pytest.raises(ValueError, match="several policies of one seed"):
        estimate(pd.concat([outcomes, outcomes]), [(1, at("PD"))])


@pytest.mark.parametrize(
    ("test", "low", "high", "said"),
    [
        ("above", 0.1, 5, "holds"),
        ("above", -0.1, 5, "inconclusive"),
        ("above", -5, -0.1, "does not hold"),
        ("at least", -MARGIN + 0.1, 5, "holds"),
        ("at least", -MARGIN - 1, 0, "inconclusive"),
        ("at least", -9, -MARGIN - 0.1, "does not hold"),
        ("same", -1, 1, "holds"),
        ("same", -1, MARGIN + 1, "inconclusive"),
        ("same", MARGIN + 0.1, 9, "does not hold"),
        ("same", -9, -MARGIN - 0.1, "does not hold"),
    ],
)
def test_verdicts(test, low, high, said):
    assert verdict(Estimate((low + high) / 2, 1.0, low, high, "by hand", 10), test) == said


def test_a_verdict_needs_five_seeds():
    found = Estimate(5.0, 1.0, 3.0, 7.0, "by hand", 10)
    assert [verdict_over_seeds(found, "above", seeds) for seeds in (1, 4, 5)] == [TOO_FEW, TOO_FEW, "holds"]


def test_simultaneous_intervals_are_bonferronis_over_the_seeds():
    found = Estimate(-6.0, 1.5, -9.9, -2.1, "by hand", 500)
    wider = simultaneous(found, parts=8, seeds=3)
    assert wider.high - wider.value == pytest.approx(1.5 * stats.t.ppf(1 - 0.05 / 16, 2))
    assert verdict(found, "same") == "does not hold" and verdict(found, "same", wider) == "inconclusive"
    assert simultaneous(found, parts=1, seeds=3) == found == simultaneous(found, parts=8, seeds=1)


def test_a_part_holds_by_its_own_interval():
    """That all parts hold needs no correction: the wider interval only decides whether one fails."""
    found = Estimate(5.0, 1.0, 1.0, 9.0, "by hand", 500)
    assert verdict(found, "above", simultaneous(found, parts=8, seeds=5)) == "holds"


def test_one_part_that_fails_decides_and_all_must_hold():
    assert joint_verdict(["holds", TOO_FEW, "inconclusive"]) == TOO_FEW
    assert joint_verdict(["holds", "holds"]) == "holds"
    assert joint_verdict(["holds", "inconclusive"]) == "inconclusive"
    assert joint_verdict(["holds", "inconclusive", "does not hold"]) == "does not hold"


def test_every_claim_names_policies_of_the_plan():
    known = {"methods": plan.methods([0]), "shares": plan.shares([0]), "sensitivity": plan.sensitivity([0], "base")}
    planned = {
        (study, setting, cell.method, cell.conflict) for study, cells in known.items() for setting, cell in cells
    } | {(CHOSEN, "", "PD", CONFLICT)}
    for claim in paper_claims():
        for part in claim.parts:
            asked = [where for _, where in part.terms]
            names = {(w["study"], w.get("setting", ""), w["method"], w["conflict"]) for w in asked}
            assert names <= planned, claim.sentence


def test_table_2_has_the_papers_numbers_of_the_same_level_beside_ours():
    rng = np.random.default_rng(0)
    frames = []
    for method in ("SFT", "PD", "AVG", "RAF"):
        for seed in (0, 1):
            for conflict in (0.1, 0.2, 0.3, 0.25):
                frame = pd.DataFrame({"prompt_id": range(40), "preference": rng.random(40)})
                longer = rng.integers(-5, 6, 40) if method != "RAF" else rng.integers(-5, 0, 40)
                characters = 50 + (longer if method != "SFT" else 0)
                frames.append(
                    frame.assign(method=method, seed=seed, conflict=conflict, characters=characters, win_rate=0.0)
                )
    rates = rates_by_conflict(pd.concat(frames, ignore_index=True))
    table = conflict_rows(rates).set_index("method")
    assert table.loc["PD", "10 %"].endswith("; paper: LC 26.11") and table.loc["PD", "30 %"].endswith(
        "; paper: LC 24.71"
    )
    assert "paper" not in table.loc["AVG", "10 %"] + table.loc["PD", "25 %"]
    assert table.loc["RAF", "20 %"].endswith("; LC – (only 0 % longer); paper: LC 22.62")
    row = rates.query("method == 'PD' and metric == 'win_rate' and conflict == .1").iloc[0]
    assert table.loc["PD", "10 %"].startswith(f"{row['value']:.1f} [{row['low']:.1f}, ") and row["blank"] == ""
    blank = rates.query("method == 'RAF' and metric == 'length_controlled_win_rate'")
    assert blank["value"].isna().all() and set(blank["blank"]) == {"only 0 % longer"} and (rates["seeds"] == 2).all()


@pytest.mark.parametrize(
    ("notebook", "options"), [("06_results", {"results": "."}), ("11_paper_claims", {"folder": ".", "write": True})]
)
def test_the_committed_tables_come_from_the_committed_numbers(notebook, options, tmp_path):
    """What `make results PROFILE=toy` does: no training, the same tables byte for byte."""
    copy = tmp_path / "toy"
    shutil.copytree(TOY, copy, ignore=shutil.ignore_patterns("local", "figures", "tables"))
    options = {name: str(copy) if value == "." else value for name, value in options.items()}
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{notebook}.ipynb",
        tmp_path / "out.ipynb",
        options,
        cwd=ROOT / "notebooks",
        kernel_name="python3",
        progress_bar=False,
    )
    redone = sorted((copy / "tables").iterdir())
    assert len(redone) >= 4
    for path in redone:
        assert path.read_bytes() == (TOY / "tables" / path.name).read_bytes(), path.name


def test_the_book_says_what_the_tables_of_the_grid_say():
    book = shown_blocks(ROOT)
    for name in (
        "table1",
        "aspects",
        "table2",
        "ten_claims",
        "followups",
        "conditions",
        "league",
        "recommended",
    ):
        shown = book.get(f"toy_{name}") or book[name]
        assert shown == {(TOY / "tables" / f"{name}.md").read_text().rstrip()}, name
