"""Alternatives to DPO's loss and order: each plan by hand, and one step's loss against its formula."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from scipy.optimize import minimize

from pdsel.notesworld import BASE_MODEL
from pdsel.rules.alternatives import ALTERNATIVES, curriculum_stages, target_margins, train_alternative, train_plan
from pdsel.scoring import response_logps
from pdsel.training import train_dpo, training_log

ONE_BATCH = {"batch_size": 64, "max_steps": 2, "lr_scheduler_type": "constant", "warmup_steps": 0, "learning_rate": 1e-3,
             "logging_steps": 1}  # fmt: skip


def plan_of(name, *signals, **options):
    return ALTERNATIVES[name].plan(*signals, **options)


@pytest.fixture(scope="module")
def few(pairs):
    return pairs.select(range(48))


@pytest.fixture
def three():
    return Dataset.from_dict({"pair_id": list("pqr"), "aspect": ["a", "b", "a"],
                              "rating_gaps": [[1.0, -2.0], [0.0, 2.0], [4.0, 1.0]]})  # fmt: skip


def sides(chosen, rejected):
    return pd.DataFrame({"chosen": chosen, "rejected": rejected}, index=list("pqr")[: len(chosen)], dtype=float)


def test_offsets_by_hand(three):
    assert plan_of("ODPO", three)["offset"].to_dict() == pytest.approx({"p": 0, "q": -0.5 * np.log(2), "r": -np.log(2)})
    assert plan_of("ODPO", three, squash="identity", strength=1)["offset"].tolist() == [-1, -2, -4]
    tokens = sides([5, 2, 3], [3, 6, 3])
    assert plan_of("R-DPO", tokens)["offset"].tolist() == pytest.approx([0.04, -0.08, 0])
    assert plan_of("R-DPO", tokens, sign="minus")["offset"].tolist() == pytest.approx([-0.04, 0.08, 0])
    margins = pd.DataFrame({"a": [9, 1, 9], "b": [2, 9, -2]}, index=list("pqr"), dtype=float)
    equal = plan_of("MODPO", three, margins, weights={"a": 1, "b": 1})
    assert equal["offset"].tolist() == [-1, -1, 1] and equal["scale"] == 2
    unequal = plan_of("MODPO", three, margins, weights={"a": 2, "b": 1})
    assert unequal["offset"].tolist() == [-0.5, -2, 0.5]


def test_beta_per_token_is_the_mean_length(three):
    tokens = sides([10, 20], [30, 40])
    assert plan_of("IPO", tokens)["beta"] == plan_of("length-normalised", tokens)["beta"] == pytest.approx(2.5)


def test_orders_and_stages(three):
    pooled = pd.Series({"q": 3.0, "p": -1.0, "r": 1.0})
    assert plan_of("Curry-DPO", three, pooled)["order"] == ["q", "r", "p"]
    assert curriculum_stages(three, pooled)["stages"] == [["q", "r"], ["p"]]
    assert plan_of("sDPO", three)["stages"] == [["p", "q"], ["r"]]


def test_target_margins_minimise_their_objective():
    margins, mean, temperature = pd.Series([2.0, 0.0, -3.0, 0.5]), 0.5, 0.2

    def objective(shares):
        u = 4 * np.exp(shares - np.logaddexp.reduce(shares))  # on the simplex, mean 1
        return np.logaddexp(0, mean * u - margins).sum() + temperature * (u * np.log(u)).sum()

    best = minimize(objective, np.zeros(4), tol=1e-12).x
    expected = mean * 4 * np.exp(best - np.logaddexp.reduce(best))
    found = target_margins(margins, mean=mean, temperature=temperature)
    assert found.to_numpy() == pytest.approx(expected, abs=1e-4) and found.mean() == pytest.approx(mean)
    assert (found.sort_values().index == margins.sort_values().index).all(), "larger targets for larger margins"
    even = target_margins(margins, mean=mean, temperature=1e4)
    assert even.to_numpy() == pytest.approx(np.full(4, mean), abs=1e-3)


def margins_after_a_step(few, plan, folder, beta):
    """Implicit margins of the policy after the first step, whose loss is the second one that is logged."""
    path = train_plan(plan, few, model=BASE_MODEL, output_dir=folder, beta=beta, **ONE_BATCH | {"max_steps": 1})
    prompts, responses = list(few["prompt"]) * 2, [*few["chosen"], *few["rejected"]]
    rewards = response_logps(path, prompts, responses) - response_logps(BASE_MODEL, prompts, responses)
    return rewards[: len(few)] - rewards[len(few) :]


def logged(few, plan, folder, beta=0.1):
    path = train_plan(plan, few, model=BASE_MODEL, output_dir=folder, beta=beta, **ONE_BATCH)
    return [point["loss"] for point in training_log(path)["history"] if "loss" in point]


OURS = {
    "ODPO": lambda ids: {"offset": pd.Series(np.linspace(-0.7, 0, len(ids)), index=ids)},
    "MODPO": lambda ids: {"offset": pd.Series(np.linspace(-1, 1, len(ids)), index=ids), "scale": 4},
    "R-DPO": lambda ids: {"offset": pd.Series(np.linspace(0.3, -0.3, len(ids)), index=ids)},
    "gamma-PO": lambda ids: {"offset": pd.Series(np.linspace(-0.9, -0.1, len(ids)), index=ids)},
}


@pytest.mark.parametrize("name", OURS)
def test_the_loss_is_the_formula(few, tmp_path, name):
    """-log sigma(scale * beta * log-ratios + offset), at the reference and one step away from it."""
    plan = OURS[name](list(few["pair_id"]))
    offset, scale = plan["offset"].to_numpy(), plan.get("scale", 1)
    moved = margins_after_a_step(few, plan, tmp_path / "one", 0.1)
    expected = [np.logaddexp(0, -(scale * 0.1 * margin + offset)).mean() for margin in (0 * moved, moved)]
    assert logged(few, plan, tmp_path / "two") == pytest.approx(expected, abs=2e-4)
    assert np.abs(moved).max() > 0.05


@pytest.fixture(scope="module")
def plain(few, tmp_path_factory):
    return logged(few, {}, tmp_path_factory.mktemp("plain") / "policy")


def test_no_plan_is_dpo(few, tmp_path, plain):
    path = train_dpo(few, model=BASE_MODEL, output_dir=tmp_path / "policy", **ONE_BATCH)
    assert [point["loss"] for point in training_log(path)["history"] if "loss" in point] == plain


def test_plain_sigmoid_ignores_smoothing_and_robust_does_not(few, tmp_path, plain):
    """Robust DPO divides by 1 - 2 epsilon; with the plain sigmoid TRL reads no label_smoothing at all."""
    assert logged(few, {"label_smoothing": 0.1}, tmp_path / "ignored") == plain
    plan = plan_of("robust DPO", few)
    margin = 0.1 * margins_after_a_step(few, plan, tmp_path / "one", 0.1)
    expected = (0.9 * np.logaddexp(0, -margin) - 0.1 * np.logaddexp(0, margin)).mean() / 0.8
    assert logged(few, plan, tmp_path / "robust")[1] == pytest.approx(expected, abs=2e-4)
    assert abs(expected - plain[1]) > 1e-3


def test_ipo_starts_at_its_target_squared(few, tmp_path):
    assert logged(few, {"loss_type": "ipo", "beta": 1.6}, tmp_path / "ipo")[0] == pytest.approx(
        (1 / 3.2) ** 2, abs=1e-4
    )


@pytest.mark.parametrize(("name", "plan"), [("WPO", {"use_weighting": True}), ("LD-DPO", {"ld_alpha": 0.5}),
                                            ("length-normalised", {"loss_type": "sigmoid_norm", "beta": 1.6})])  # fmt: skip
def test_options_of_trl_are_read(few, tmp_path, plain, name, plan):
    found = logged(few, plan, tmp_path / "policy")
    assert found[1] != plain[1] and (name == "WPO") == (found[0] < 0.65), "all but the weighted loss start at ln 2"


def test_a_curriculum_is_not_shuffled(few, tmp_path):
    """Batches of 16 in the order given: the first pairs' offsets decide the first loss."""
    ids = list(few["pair_id"])[::-1]
    plan = {"order": ids, "offset": pd.Series(np.repeat([-2.0, 0.0, 2.0], 16), index=ids)}
    path = train_plan(plan, few, model=BASE_MODEL, output_dir=tmp_path / "policy", batch_size=16, learning_rate=0.0,
                      logging_steps=1)  # fmt: skip
    losses = [point["loss"] for point in training_log(path)["history"] if "loss" in point]
    assert losses == pytest.approx(list(np.logaddexp(0, [2.0, 0.0, -2.0])), abs=2e-4)


def test_stages_move_the_reference(few, tmp_path):
    """Every stage starts at ln 2, for its reference is where it starts; one record tells of all stages."""
    path = train_alternative("sDPO", few, {"pairs": few}, model=BASE_MODEL, output_dir=tmp_path / "policy",
                             **ONE_BATCH)  # fmt: skip
    log = training_log(path)
    losses = [point["loss"] for point in log["history"] if "loss" in point]
    assert len(losses) == 4 and losses[0] == losses[2] == pytest.approx(np.log(2), abs=1e-4)
    assert log["steps"] == 4 and log["n_given"] == len(few)
    assert [folder.name for folder in tmp_path.iterdir()] == ["policy"]


def test_unknown_alternatives_and_absent_signals_are_refused(few, tmp_path):
    with pytest.raises(ValueError, match="alternative='SLiC': use one of"):
        train_alternative("SLiC", few, {}, model=BASE_MODEL, output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"alternative 'R-DPO': signal is absent: 1 \(first: tokens\)"):
        train_alternative("R-DPO", few, {"pairs": few}, model=BASE_MODEL, output_dir=tmp_path)
