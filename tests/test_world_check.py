"""The acceptance test of the notes world: its labels of known quality, its bounds on made-up frames, and its command."""

from functools import wraps

import numpy as np
import pandas as pd
import pytest

from pdsel.artifacts import load_table
from pdsel.evaluation.judges import gold_gaps, gold_judge
from pdsel.evaluation.judges.audit import NOTES_NULLS
from pdsel.experiments import grid, world_check
from pdsel.experiments import grid_plan as plan
from pdsel.experiments.world_check import (
    FLIPS,
    TRAINED,
    Trial,
    aspect_shares,
    fixed_answers,
    rates,
    rightly_labelled,
    rises,
    run_check,
    trials,
    verdicts,
)
from pdsel.notesworld import ASPECTS, best_response, gold_utility
from pdsel.pipeline.__main__ import main
from pdsel.plots import plot_world_check, use_style

BUDGETS = list(plan.BUDGETS)


# --- labels of known quality ---


def test_right_labels_are_those_of_gold_and_ties_are_dropped(pairs):
    gaps = gold_gaps(pairs)["utility"]
    right = rightly_labelled(pairs)
    assert len(right) == (gaps != 0).sum() < len(pairs)
    assert (gold_gaps(right)["utility"] > 0).all()
    texts = {frozenset([row["prompt"], row["chosen"], row["rejected"]]) for row in pairs}
    assert {frozenset([row["prompt"], row["chosen"], row["rejected"]]) for row in right} <= texts


def test_labels_turned_around_are_wrong_and_as_many_as_said(pairs):
    wrong = {share: (gold_gaps(rightly_labelled(pairs, turned=share))["utility"] < 0).mean() for share in (0.2, 0.5, 1)}
    assert wrong[1] == 1
    assert wrong[0.2] == pytest.approx(0.2, abs=0.08) and wrong[0.5] == pytest.approx(0.5, abs=0.1)
    kept, again, other = (set(rightly_labelled(pairs, turned=0.5, seed=seed)["pair_id"]) for seed in (0, 0, 1))
    assert kept == again != other


def test_trials_are_every_kind_at_two_budgets_on_worlds_of_no_table():
    asked = trials()
    assert len(asked) == len(set(asked)) == 3 * 2 * (len(FLIPS) + len(TRAINED))
    assert {trial.budget for trial in asked} == set(BUDGETS)
    used = {*plan.VALIDATION_SEEDS, *range(5)}
    assert not {trial.seed for trial in asked} & {*used, *(seed + grid.OTHER_WORLD for seed in used)}


# --- the bounds ---


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([50, 52, 55], True),
        ([50, 48, 55], True),  # two points down are level
        ([50, 47.9, 60], False),
        ([50, 52, 54.9], False),  # not five in all
        ([60, 55, 50], False),
    ],
)
def test_a_win_rate_rises(values, said):
    assert rises(values) is said


def test_shares_of_the_variance_by_hand():
    """Two aspects move by 2 and 1, two stay: cov with their mean over 4 var is 2/3 and 1/3; all shares sum to 1."""
    table = pd.DataFrame({"kind": list("ab"), "seed": 0, "budget": ""})
    values = dict(zip(ASPECTS, [[0.0, 2.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]], strict=True))
    table = table.assign(**values, utility=np.mean(list(values.values()), axis=0))
    assert aspect_shares(table).tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    twice = pd.concat([table, table.assign(utility=table["utility"])])  # prompts are averaged first
    assert aspect_shares(twice).tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])


LEVELS = dict(zip([f"flip {share:g}" for share in FLIPS], [50, 53, 56, 58, 60], strict=True))
LEVELS |= {"RAND": 52, "PD": 57, "PD(gold)": 61, "PD(high)": 40, "ALL": 55}
ANSWERS = {"ideal": 90, "silent": 1, "all maybe": 30}


def made_up(levels=LEVELS, answers=ANSWERS):
    """Outcomes of two seeds, each with three prompts of its own, whose win rates are known; quality moves all aspects alike."""
    frames = {}
    for name, kinds, budgets in [("trained", levels, BUDGETS), ("fixed", answers, [""])]:
        rows = [
            {
                "kind": kind,
                "seed": seed,
                "budget": budget,
                "prompt_id": f"{seed}-{number}",
                "preference": (level + spread) / 100,
                "utility": level / 100,
                "characters": 40 + 10 * number,
            }
            | dict.fromkeys(ASPECTS, level / 100)
            for kind, level in kinds.items()
            for budget in budgets
            for seed in (0, 1)
            for number, spread in enumerate((-1, 0, 1))
        ]
        frames[name] = pd.DataFrame(rows)
    return frames["trained"], frames["fixed"].drop(columns="budget")


def not_met(trained, fixed):
    found = verdicts(trained, fixed)
    return list(dict.fromkeys(found.loc[~found["met"], "bound"]))


def test_a_world_that_is_as_it_should_be_meets_every_bound():
    found = verdicts(*made_up())
    assert list(found) == ["bound", "budget", "found", "met"] and found["met"].all()
    assert len(found) == 5 * len(BUDGETS) + 2 and set(found["budget"]) == {*BUDGETS, ""}
    told = found[found["budget"].isin([BUDGETS[0], ""])].set_index("bound")["found"]
    assert told["fewer wrong labels, higher win rate"] == "50.0, 53.0, 56.0, 58.0, 60.0"
    assert told["PD from gold above PD above RAND"] == "61.0, 57.0, 52.0"
    assert told["PD(high) is the worst rule"] == "PD(high) 40.0"
    assert told["all methods 5 points below the ideal"] == "29.0"  # 90 - 61
    assert told["answers that weigh nothing below 35 %"] == "all maybe 30.0"
    assert told["an aspect carries 15 to 35 % of the variance"].startswith("instruction_following 25 %, honesty 25 %")


@pytest.mark.parametrize(
    ("levels", "answers", "bound"),
    [
        ({"flip 0.2": 50}, {}, "fewer wrong labels, higher win rate"),
        ({"PD": 62}, {}, "PD from gold above PD above RAND"),
        ({"RAND": 35}, {}, "PD(high) is the worst rule"),
        ({}, {"ideal": 65}, "all methods 5 points below the ideal"),
        ({}, {"all maybe": 36}, "answers that weigh nothing below 35 %"),
    ],
)
def test_a_bound_that_is_not_met_is_named_alone(levels, answers, bound):
    assert not_met(*made_up(LEVELS | levels, ANSWERS | answers)) == [bound]


def test_quality_that_goes_with_length_and_an_aspect_that_is_all_of_it_are_named():
    trained, fixed = made_up()
    assert not_met(trained.assign(characters=trained["utility"]), fixed) == ["utility does not go with length"]
    assert not_met(trained.assign(characters=-trained["utility"]), fixed) == ["utility does not go with length"]
    others = dict.fromkeys(ASPECTS[1:], 0.5)
    one = trained.assign(**others, utility=(trained[ASPECTS[0]] + 1.5) / 4)
    assert not_met(one, fixed) == ["an aspect carries 15 to 35 % of the variance"]


def test_a_bound_is_met_at_each_budget_or_not():
    trained, fixed = made_up()
    worse = trained.copy()
    worse.loc[(worse["kind"] == "PD") & (worse["budget"] == BUDGETS[1]), "preference"] = 0.45
    found = verdicts(worse, fixed).query("bound == 'PD from gold above PD above RAND'").set_index("budget")["met"]
    assert found.to_dict() == {BUDGETS[0]: True, BUDGETS[1]: False}


def test_rates_are_means_over_seeds_and_prompts():
    trained, fixed = made_up()
    table = rates(trained).set_index(["kind", "budget"])
    assert len(table) == 2 * len(LEVELS) and table.loc[("PD", BUDGETS[0]), "win_rate"] == pytest.approx(57)
    assert (table["low"] <= table["win_rate"]).all() and (table["win_rate"] <= table["high"]).all()
    utility = rates(fixed, by=("kind",)).set_index("kind")["utility"].to_dict()
    assert utility == pytest.approx({"ideal": 0.9, "silent": 0.01, "all maybe": 0.3})


# --- what is measured ---


@pytest.fixture
def small(monkeypatch):
    """Policies of 60 pairs and two steps, judged by two answers to each of six prompts."""
    for name, value in {"N_PROMPTS": 6, "SAMPLES": 2}.items():
        monkeypatch.setattr(grid, name, value)
    tiny = {"n_pairs": 60, "max_steps": 2}
    monkeypatch.setattr(world_check, "cell", lambda method, **settings: plan.cell(method, **settings | tiny))
    remembered = (grid.questions, grid.baseline)
    for each in remembered:
        each.cache_clear()
    yield
    for each in remembered:
        each.cache_clear()


def test_answers_that_need_no_training_meet_each_of_sfts_draws(small, monkeypatch):
    """By hand: of SFT's two answers one is ideal, a draw with the ideal, and one is empty, a draw with silence."""
    prompts = list(grid.questions(201, False)["prompt"])
    best, silent = [best_response(prompt) for prompt in prompts], [""] * len(prompts)
    monkeypatch.setattr(world_check, "baseline", lambda evaluation: ([best, silent], None))
    table = fixed_answers([201]).set_index("kind")
    assert list(dict.fromkeys(table.index)) == ["ideal", *NOTES_NULLS]
    ours = gold_judge(prompts, best, silent)
    assert table.loc["ideal", "preference"].tolist() == pytest.approx((0.5 + ours) / 2)
    assert table.loc["silent", "preference"].tolist() == pytest.approx((1 - ours + 0.5) / 2)
    ideal = [gold_utility(prompt, text) for prompt, text in zip(prompts, best, strict=True)]
    assert table.loc["ideal", "utility"].tolist() == pytest.approx(ideal)


def test_policies_of_the_check_are_trained_on_what_they_are_named_after(small, tmp_path, monkeypatch):
    """Real ones, kept and read again: right labels alone, half of them turned around, and PD from the truth."""
    kinds = ["flip 0", "flip 0.5", "PD(gold)", "ALL"]
    monkeypatch.setattr(world_check, "trials", lambda seeds: [Trial(kind, 201, BUDGETS[0]) for kind in kinds])
    table = run_check(tmp_path)
    wrong = table.groupby("kind")["wrong_labels"].first()
    assert wrong["flip 0"] == 0 < wrong["flip 0.5"] and wrong["PD(gold)"] < wrong["ALL"]
    assert table.groupby("kind").size().to_dict() == dict.fromkeys(kinds, 6) and (table["steps"] == 2).all()
    assert not {"dataset", "output"} & set(table) and table["utility"].between(0, 1).all()

    @wraps(world_check.check_cell)
    def never(trial, folder):
        raise AssertionError("computed again")

    monkeypatch.setattr(world_check, "check_cell", never)
    pd.testing.assert_frame_equal(run_check(tmp_path), table)


# --- the command and its figure ---


@pytest.mark.parametrize(("levels", "status", "met"), [({}, 0, "yes"), ({"PD(high)": 70}, 1, "no")])
def test_the_command_fails_where_a_bound_is_not_met(levels, status, met, tmp_path, monkeypatch, capsys):
    trained, fixed = made_up(LEVELS | levels)
    monkeypatch.setattr(world_check, "run_check", lambda folder: trained)
    monkeypatch.setattr(world_check, "fixed_answers", lambda: fixed)
    assert main(["world-check", "--results", str(tmp_path / "world"), "--cells", str(tmp_path / "cells")]) == status
    printed, folder = capsys.readouterr().out, tmp_path / "world"
    line = next(line for line in printed.splitlines() if "PD(high) is the worst rule" in line)
    assert line.endswith(f"| {met} |") and (folder / "bounds.md").read_text().strip() in printed
    pd.testing.assert_frame_equal(load_table(folder / "trained.csv"), rates(trained), check_dtype=False)
    assert len(load_table(folder / "bounds.csv")) == 12 and (folder / "scale.svg").exists()
    assert sorted(load_table(folder / "fixed.csv")["kind"]) == sorted(ANSWERS)


def test_the_figure_puts_everything_on_one_scale():
    use_style()
    trained, fixed = made_up()
    axes = plot_world_check(rates(trained), rates(fixed, by=("kind",))).axes[0]
    assert axes.get_title("left") == "The best trained policy stays 29 points below the ceiling"
    flips = [f"{100 * share:.0f} % of right labels flipped" for share in FLIPS]
    names = [label.get_text() for label in axes.get_yticklabels()]
    # Nulls by win rate, labels from useless to perfect, rules by win rate, and the ideal on top.
    assert names == ["silent", "all maybe", *flips, "PD(high)", "RAND", "ALL", "PD", "PD(gold)", "ideal"]
    _, legend = axes.get_legend_handles_labels()
    assert legend == ["no training", *BUDGETS]
    dots = [tuple(map(float, dot)) for found in axes.collections for dot in found.get_offsets()]
    place = names.index("PD")
    assert sum(1 for x, y in dots if round(x) == 57 and y == place) == 2, "one for each budget"
    assert {round(float(line.get_xdata()[0])) for line in axes.lines} == {90, 50}, "the ceiling, and SFT against itself"
