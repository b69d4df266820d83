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

from pdsel.artifacts import digest
from pdsel.evaluation import Estimate, means
from pdsel.experiments import grid
from pdsel.experiments import grid_plan as plan
from pdsel.experiments.claims import (
    MARGIN,
    at,
    by_condition,
    estimate,
    evaluate_claims,
    harder,
    joint_verdict,
    minus,
    paired,
    paper_claims,
    reasons,
    verdict,
)
from pdsel.experiments.grid_tables import conflict_rows, is_grid, load_families, load_grid, save_grid
from pdsel.notesworld.settings import DPO, SHARE
from pdsel.rules.methods import FULL, SELECTED
from pdsel.selection import random_scores, select

TINY = {"n_pairs": 60, "max_steps": 2}
TINY_PROXIES = {"kind": "implicit", "learning_rate": 1e-3, "epochs": 4}


@pytest.fixture(scope="module", autouse=True)
def few_prompts():
    """A dozen questions instead of a thousand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "N_PROMPTS", 6)
        patch.setattr(grid, "N_FAMILY", 1)
        grid.questions.cache_clear(), grid.baseline.cache_clear()
        yield
    grid.questions.cache_clear(), grid.baseline.cache_clear()


def tiny(method, **changes):
    cell = plan.cell(method, seed=0, conflict=0.3, **TINY | changes)
    return replace(cell, proxies=TINY_PROXIES) if cell.proxies else cell


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    cells = [tiny(method, families=True) for method in ("OVA", "ALL", "DMPO", "RAND", "RAF", "PD")]
    return folder, cells, grid.run_policies(cells, folder)


def test_every_method_is_a_cell_with_the_same_training():
    for method in plan.METHODS:
        cell = plan.cell(method, seed=3, conflict=0.1)
        assert cell.rule in [*FULL, *SELECTED]
        assert {"beta": cell.beta, "learning_rate": cell.learning_rate} == DPO
        assert cell.share == (1.0 if cell.rule in FULL else SHARE)
        assert cell.settings == json.loads(json.dumps(cell.settings))  # what is stored is what is asked


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
    with grid._without_bars():
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
        patch.setattr("pdsel.__version__", "another")
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
        tmp_path, studies, partial(grid.run_policies, folder=folder), grid.baseline_outcomes(), grid.against_ova
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


def test_validation_chooses_the_best_mean_over_methods():
    table = pd.DataFrame(
        {
            "beta": [0.1, 0.1, 0.3, 0.3],
            "learning_rate": 2e-4,
            "method": ["ALL", "RAND"] * 2,
            "utility": [0.9, 0.8, 0.95, 0.7],
        }
    )
    setting, tried = plan.choose(table)
    assert setting == {"beta": 0.1, "learning_rate": 2e-4} and tried["utility"].tolist() == pytest.approx([0.85, 0.825])


STRENGTH = {
    "OVA": 60,
    "AVG": 62,
    "ALL": 70,
    "RAND": 66,
    "PD(rati.)": 70,
    "DMPO": 74,
    "RAF": 72,
    "PD": 80,
    "PD(high)": 40,
    "PD(nl)": 77,
    "PD(shared)": 78,
    "PD(classifier)": 75,
    "PD(probe)": 79,
}


def made_up(strength=STRENGTH, n=60, noise=0.5):
    """Outcomes of every cell of the plan with known win rates: conflict hurts ALL, and the best share is .3."""
    rng = np.random.default_rng(0)
    studies = {
        "methods": plan.methods([0, 1, 2]),
        "shares": plan.shares([0, 1, 2]),
        "sensitivity": plan.sensitivity([0, 1, 2], "base"),
        "follow-ups": plan.followups([0, 1, 2]),
        "equal steps": plan.equal_steps([0, 1, 2]),
        "sizes": plan.sizes([0, 1, 2]),
        "gentler": plan.gentler([0, 1, 2]),
    }
    frames = []
    for study, cells in studies.items():
        for setting, cell in cells:
            value = strength[cell.method]
            if study == "shares":
                value -= 40 * abs(cell.share - 0.3)
            if cell.method == "ALL":
                value -= 20 * (cell.conflict - 0.3)
            if setting == "noise":
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
                )
            )
    return pd.concat(frames, ignore_index=True)


def test_all_claims_hold_where_they_are_true():
    page = evaluate_claims(made_up())
    assert len(page) == 10
    assert page["verdict"].tolist() == ["holds"] * 10
    assert page["seeds"].tolist() == [3] * 10


def test_a_claim_says_on_how_many_seeds_it_rests():
    """Five seeds of the methods and three of the changed settings: a claim about both rests on three."""
    outcomes = made_up()
    outcomes = outcomes[(outcomes["study"] != "sensitivity") | (outcomes["seed"] < 2)]
    seeds = evaluate_claims(outcomes).set_index("claim")["seeds"]
    assert seeds["PD beats filtering by one pooled reward"] == 3
    assert seeds["Proxy size, p_r, gamma and rho hardly matter"] == 2
    outcomes = outcomes[(outcomes["study"] != "equal steps") | (outcomes["seed"] == 0)]
    assert by_condition(outcomes).set_index("training")["seeds"].to_dict()["as many steps as ALL"] == 1


def test_claims_fall_where_they_are_false():
    strength = STRENGTH | {"RAND": 85, "ALL": 90, "PD(high)": 55, "PD(nl)": 80, "DMPO": 95}
    page = evaluate_claims(made_up(strength)).set_index("claim")["verdict"]
    falls = [sentence for sentence, said in page.items() if said == "does not hold"]
    assert [text.split()[0] for text in falls] == ["PD", "PD's", "The", "DMPO", "There"]
    assert page["PD gains from length mitigation"] == "inconclusive"


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
    assert set(why) <= {claim.sentence for claim in paper_claims(0.3)}
    assert "12.0 % of RAF's" in why["PD beats filtering by one pooled reward"]
    assert "share 25 % of the pairs" in why["PD beats filtering by one pooled reward"]
    conflict = why["Conflict hurts ALL, not PD"]
    assert "40 % of the labels on instruction following" in conflict and "it is 0.70 at 10 %" in conflict
    assert conflict.count("-10.") + conflict.count("-9.") >= 2  # noise takes ten points off either


def test_what_pd_gains_under_each_way_of_training():
    table = by_condition(made_up()).set_index("training")
    assert len(table) == 6 and set(table["PD"]) <= {"79.9", "80.0", "80.1"}
    assert all(text.startswith(("+13.", "+14.")) and text.endswith("] holds") for text in table["PD - RAND"])
    worse = by_condition(made_up(STRENGTH | {"RAND": 90})).set_index("training")
    assert all(text.endswith("] does not hold") for text in worse["PD - RAND"])


def test_the_cost_of_training_harder_is_read_off_the_aspects():
    outcomes = made_up().assign(truthfulness=1.0, honesty=0.9, helpfulness=0.8)
    outcomes.loc[outcomes["study"] == "equal steps", "helpfulness"] = 0.5
    assert "helpfulness 0.80 after one pass" in harder(outcomes) and "helpfulness 0.50 with as many" in harder(outcomes)


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


def test_one_part_that_fails_decides_and_all_must_hold():
    assert joint_verdict(["holds", "holds"]) == "holds"
    assert joint_verdict(["holds", "inconclusive"]) == "inconclusive"
    assert joint_verdict(["holds", "inconclusive", "does not hold"]) == "does not hold"


def test_every_claim_names_policies_of_the_plan():
    known = {"methods": plan.methods([0]), "shares": plan.shares([0]), "sensitivity": plan.sensitivity([0], "base")}
    planned = {(study, cell.method) for study, cells in known.items() for _, cell in cells}
    for claim in paper_claims(0.3):
        for part in claim.parts:
            assert {(where["study"], where["method"]) for _, where in part.terms} <= planned


def test_table_2_has_the_papers_numbers_beside_ours():
    rows = pd.DataFrame(
        {"method": ["PD", "PD", "AVG", "AVG"], "conflict": [0.1, 0.3] * 2, "value": 50.0, "low": 49.0, "high": 51.0}
    )
    table = conflict_rows(rows, rows)
    assert table["paper: LC"].tolist() == ["26.11, 25.17, 24.71", ""]
    assert table["10 %"][0] == "50.0 [49.0, 51.0]; LC 50.0 [49.0, 51.0]"


ROOT = Path(__file__).parent.parent
TOY = ROOT / "results" / "toy"


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


def test_readme_says_what_the_tables_of_the_grid_say():
    readme = (ROOT / "README.md").read_text()
    for name in (
        "table1",
        "aspects",
        "table2",
        "ten_claims",
        "followups",
        "sizes",
        "conditions",
        "harder",
        "league",
        "recommended",
    ):
        assert (TOY / "tables" / f"{name}.md").read_text().rstrip() in readme, name
