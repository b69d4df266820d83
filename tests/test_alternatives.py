"""Alternatives to DPO's loss and order: each plan by hand, and the loss of two steps against its formula."""

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from scipy.optimize import minimize

from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.engine.scoring import encode, response_logps
from pdsel.notesworld import BASE_MODEL
from pdsel.rules.alternatives import ALTERNATIVES, target_margins, train_alternative, train_plan
from pdsel.training import train_dpo, training_log

ONE_BATCH = {
    "batch_size": 64,
    "max_steps": 2,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "learning_rate": 1e-3,
    "logging_steps": 1,
}


def plan_of(name, *signals, **options):
    return ALTERNATIVES[name].plan(*signals, **options)


@pytest.fixture(scope="module")
def few(pairs):
    return pairs.select(range(48))


@pytest.fixture
def three():
    gaps = [{"a": 1.0, "b": -2.0}, {"a": 0.0, "b": 2.0}, {"a": 4.0, "b": 1.0}]
    return Dataset.from_dict({"pair_id": list("pqr"), "aspect": ["a", "b", "a"], "rating_gaps": gaps})


def sides(chosen, rejected):
    return pd.DataFrame({"chosen": chosen, "rejected": rejected}, index=list("pqr")[: len(chosen)], dtype=float)


TOKENS = sides([10, 20], [30, 40])  # 25 on average, and beta is .1
POOLED = pd.Series({"q": 3.0, "p": -1.0, "r": 1.0})
MARGINS = pd.DataFrame(
    {"a": [9, 1, 9], "b": [2, 9, -2]}, index=list("pqr"), dtype=float
)  # the others': 1, 1, -1 scaled
LOG2, LOG3 = float(np.log(2)), float(np.log(3))
# implicit margins .75 + log 3 and .25; targets .75 and .25, of mean .5, are where both pairs' derivatives agree:
# .5 sigma(-log 3) + T log 1.5 = .125 + T log 1.5, and .5 sigma(0) + T log .5 = .25 + T log .5, so T = .125 / log 3
PROBE, TARGET = sides([7.5 + 10 * LOG3, 2.5], [0, 0]), {"mean": 0.5, "temperature": 0.125 / LOG3}
HAND = {  # alternative: its signals, options, and the whole plan; offsets by pair
    "DPO": (["three"], {}, {}),
    "robust DPO": (["three"], {}, {"loss_type": "robust", "label_smoothing": 0.1}),
    "IPO": ([TOKENS], {}, {"loss_type": "ipo", "beta": 2.5}),
    "WPO": (["three"], {}, {"use_weighting": True}),
    "ODPO": (["three"], {}, {"offset": [0, -0.5 * LOG2, -LOG2]}),  # own gaps 1, 2, 4: half of their logarithms
    "MODPO": (["three", MARGINS], {"weights": {"a": 2, "b": 1}}, {"offset": [-0.5, -2, 0.5], "scale": 2}),
    "LD-DPO": (["three"], {}, {"ld_alpha": 0.5}),
    "R-DPO": ([sides([5, 2, 3], [3, 6, 3])], {}, {"offset": [0.04, -0.08, 0]}),
    "gamma-PO": ([PROBE, 0 * PROBE], TARGET, {"offset": [-0.75, -0.25]}),
    "Curry-DPO": (["three", POOLED], {}, {"order": ["q", "r", "p"]}),
    "Curry-DPO(stages)": (["three", POOLED], {}, {"stages": [["q", "r"], ["p"]]}),
    "sDPO": (["three"], {}, {"stages": [["p", "q"], ["r"]]}),
    "length-normalised": ([TOKENS], {}, {"loss_type": "sigmoid_norm", "beta": 2.5}),
}


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_an_alternative_by_hand(three, name):
    """Every one of them: one without a line above fails."""
    signals, options, expected = HAND[name]
    plan = plan_of(name, *(three if isinstance(signal, str) else signal for signal in signals), **options)
    offset = plan.pop("offset", pd.Series(dtype=float))
    assert offset.to_dict() == pytest.approx(dict(zip("pqr", expected.get("offset", []), strict=False)), abs=1e-6)
    rest = {key: value for key, value in expected.items() if key != "offset"}
    assert plan.keys() == rest.keys()
    assert all(plan[key] == (pytest.approx(rest[key]) if isinstance(rest[key], float) else rest[key]) for key in plan)


def test_second_readings_by_hand(three):
    assert plan_of("ODPO", three, squash="identity", strength=1)["offset"].tolist() == [-1, -2, -4]
    tokens = sides([5, 2, 3], [3, 6, 3])
    assert plan_of("R-DPO", tokens, sign="minus")["offset"].tolist() == pytest.approx([-0.04, 0.08, 0])
    equal = plan_of("MODPO", three, MARGINS, weights={"a": 1, "b": 1})
    assert equal["offset"].tolist() == [-1, -1, 1] and equal["scale"] == 2, "DMPO"


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


def token_logps(few, model):
    """Of every token of the chosen and of the rejected responses, one text at a time: an array of its log-probability and
    of that less log sum_v p_v^2, in which WPO measures it.
    """
    net, found = load_causal(model).eval(), []
    for side in ("chosen", "rejected"):
        for ids, start in encode(load_tokenizer(BASE_MODEL), list(few["prompt"]), list(few[side])):
            with torch.inference_mode():
                logps = net(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].float().log_softmax(-1)
            own = logps.gather(1, torch.tensor(ids[start:])[:, None])[:, 0]
            found.append(torch.stack([own, own - (2 * logps).logsumexp(1)]).numpy())
    return list(zip(found[: len(few)], found[len(few) :], strict=True))


def shared(ratios, other):
    """Tokens beyond the other response's length count half."""
    return ratios[: len(other)].sum() + 0.5 * ratios[len(other) :].sum()


OF_TRL = {  # the loss of a pair: log-ratios of the chosen and rejected tokens, what WPO measures them in, and beta
    "IPO": lambda c, r, *_, beta: (c.mean() - r.mean() - 1 / (2 * beta)) ** 2,
    "length-normalised": lambda c, r, *_, beta: np.logaddexp(0, -beta * (c.mean() - r.mean())),
    "LD-DPO": lambda c, r, *_, beta: np.logaddexp(0, -beta * (shared(c, r) - shared(r, c))),
    "WPO": lambda c, r, own_c, own_r, beta: (
        np.exp(own_c.mean() + own_r.mean()) * np.logaddexp(0, -beta * (c.sum() - r.sum()))
    ),
}


@pytest.mark.parametrize("name", OF_TRL)
def test_losses_of_trl_are_the_formula(few, tmp_path, name):
    """Token by token, at the reference and one step away from it."""
    plan = plan_of(name, *(TOKENS if isinstance(signal, pd.DataFrame) else few for signal in HAND[name][0]))
    moved = train_plan(plan, few, model=BASE_MODEL, output_dir=tmp_path / "one", **ONE_BATCH | {"max_steps": 1})
    before, after = token_logps(few, BASE_MODEL), token_logps(few, moved)
    for found, now in zip(logged(few, plan, tmp_path / "two"), (before, after), strict=True):
        losses = [
            OF_TRL[name](c[0] - old_c[0], r[0] - old_r[0], c[1], r[1], beta=plan.get("beta", 0.1))
            for (c, r), (old_c, old_r) in zip(now, before, strict=True)
        ]
        assert found == pytest.approx(np.mean(losses), rel=1e-3)


def test_a_curriculum_is_not_shuffled(few, tmp_path):
    """Batches of 16 in the order given: the first pairs' offsets decide the first loss."""
    ids = list(few["pair_id"])[::-1]
    plan = {"order": ids, "offset": pd.Series(np.repeat([-2.0, 0.0, 2.0], 16), index=ids)}
    path = train_plan(
        plan, few, model=BASE_MODEL, output_dir=tmp_path / "policy", batch_size=16, learning_rate=0.0, logging_steps=1
    )
    losses = [point["loss"] for point in training_log(path)["history"] if "loss" in point]
    assert losses == pytest.approx(list(np.logaddexp(0, [2.0, 0.0, -2.0])), abs=2e-4)


def test_stages_move_the_reference(few, tmp_path):
    """Every stage starts at ln 2, for its reference is where it starts; one record tells of all stages."""
    path = train_alternative("sDPO", few, {"pairs": few}, model=BASE_MODEL, output_dir=tmp_path / "policy", **ONE_BATCH)
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
