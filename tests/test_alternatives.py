"""Alternatives to DPO's loss and order: each plan by hand, and the loss of two steps against its formula."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from scipy.optimize import minimize

from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.engine.scoring import encode, response_logps
from pdsel.engine.trainers import down_sampled
from pdsel.notesworld import BASE_MODEL
from pdsel.proxies import Proxy
from pdsel.rules.alternatives import ALTERNATIVES, target_margins, train_alternative, train_plan
from pdsel.rules.alternatives import plan_of as plan_from
from pdsel.rules.margins import BETA
from pdsel.training import train_dpo, train_with_offset, training_log

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


@pytest.fixture
def models(tmp_path):
    """A folder of two aspects' implicit proxies."""
    for aspect in "ab":
        folder = tmp_path / aspect
        folder.mkdir()
        Proxy(aspect, "implicit", str(folder), BASE_MODEL, 0.1, 0.0, 1024, 1.0, 1, 1).save()
    return tmp_path


def sides(chosen, rejected):
    return pd.DataFrame({"chosen": chosen, "rejected": rejected}, index=list("pqr")[: len(chosen)], dtype=float)


TOKENS = sides([10, 20], [30, 40])  # 25 on average, and beta is .1
POOLED = pd.Series({"q": 3.0, "p": -1.0, "r": 1.0})
MARGINS = pd.DataFrame(
    {"a": [9, 1, 9], "b": [2, 9, -2]}, index=list("pqr"), dtype=float
)  # the others': 1, 1, -1 scaled
LOG2, LOG3 = float(np.log(2)), float(np.log(3))
UNIT = 1 / BETA  # nats of a log-ratio that are a reward of 1
# implicit margins .75 + log 3 and .25; targets .75 and .25, of mean .5, are where both pairs' derivatives agree:
# .5 sigma(-log 3) + T log 1.5 = .125 + T log 1.5, and .5 sigma(0) + T log .5 = .25 + T log .5, so T = .125 / log 3
PROBE, TARGET = sides([UNIT * (0.75 + LOG3), UNIT * 0.25], [0, 0]), {"mean": 0.5, "temperature": 0.125 / LOG3}
HAND = {  # alternative: its signals, options, and the whole plan; numbers by pair as lists
    "DPO": (["three"], {}, {}),
    "robust DPO": (["three"], {}, {"loss_type": "robust", "label_smoothing": 0.1}),
    "Dr. DPO": (["three"], {}, {"loss": {"name": "Dr. DPO", "temperature": 1.0}}),
    "IPO": ([TOKENS], {"beta": 0.1}, {"loss_type": "ipo", "beta": 2.5}),
    "SimPO": ([TOKENS], {"beta": 0.1}, {"loss": {"name": "SimPO", "target": 1.25}, "beta": 2.5}),  # gamma / beta = .5
    "DPOP": (["three"], {}, {"loss": {"name": "DPOP", "penalty": 50.0}}),
    "DPO-Shift": (["three"], {}, {"loss": {"name": "DPO-Shift", "factor": 0.95}}),
    "DPO+SFT": (["three"], {}, {"loss_type": ["sigmoid", "sft"]}),
    "WPO": (["three"], {}, {"loss": {"name": "WPO"}, "use_weighting": True}),
    "ODPO": (["three"], {}, {"offset": [0, -0.5 * LOG2, -LOG2]}),  # own gaps 1, 2, 4: half of their logarithms
    # F4: w of a is 2/3, of b 1/3: scales 3/2, 3, 3/2; offsets -(1/2) * 1, -(2/1) * 1, -(1/2) * -1
    "MODPO": (["three", MARGINS], {"weights": {"a": 2, "b": 1}}, {"offset": [-0.5, -2, 0.5], "scale": [1.5, 3, 1.5]}),
    "MERGE": (["models"], {}, {"merge": ["a", "b"]}),  # folders
    "LD-DPO": (["three"], {}, {"ld_alpha": 0.5}),
    "R-DPO": ([sides([5, 2, 3], [3, 6, 3])], {}, {"offset": [0.04, -0.08, 0]}),
    "SamPO": (["three"], {}, {"loss": {"name": "SamPO"}}),
    "LN-DPO": ([TOKENS], {"beta": 0.1}, {"loss_type": "sigmoid_norm", "beta": 2.5}),
    "gamma-PO": ([PROBE, 0 * PROBE], TARGET, {"offset": [-0.25, 0.25]}),  # F3: .5 - .75, .5 - .25
    # the guide's margins, at beta .5: .5 * 4 and .5 * (1 - 3)
    "Pre-DPO": ([sides([4, 1], [0, 3]), sides([0, 0], [0, 0])], {"beta": 0.5}, {"offset": [-2, 1]}),
    "Curry-DPO": (["three", POOLED], {}, {"order": ["q", "r", "p"]}),
    "Curry-DPO(stages)": (["three", POOLED], {}, {"stages": [["q", "r"], ["p"]]}),
    "sDPO": (["three"], {}, {"stages": [["p", "q"], ["r"]]}),
}
BY_PAIR = ("offset", "scale")


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_an_alternative_by_hand(request, name):
    """Every one of them: one without a line above fails."""
    signals, options, expected = HAND[name]
    found = [request.getfixturevalue(signal) if isinstance(signal, str) else signal for signal in signals]
    plan = plan_of(name, *found, **options)
    assert plan.keys() == expected.keys()
    for key, value in plan.items():
        if key in BY_PAIR:
            assert value.to_dict() == pytest.approx(dict(zip("pqr", expected[key], strict=False)), abs=1e-6)
        elif key == "merge":
            assert [path.rsplit("/", 1)[1] for path in value] == expected[key]
        else:
            assert value == (pytest.approx(expected[key]) if isinstance(value, float) else expected[key])


def test_second_readings_by_hand(three):
    assert plan_of("ODPO", three, squash="identity", strength=1)["offset"].tolist() == [-1, -2, -4]
    tokens = sides([5, 2, 3], [3, 6, 3])
    assert plan_of("R-DPO", tokens, sign="minus")["offset"].tolist() == pytest.approx([-0.04, 0.08, 0])


def test_F4_modpo_without_weights_is_dmpo(three):
    """Equal weights 1 / kappa, given or not: the margin times kappa, and PD."""
    equal = plan_of("MODPO", three, MARGINS)
    assert equal["offset"].tolist() == [-1, -1, 1] and equal["scale"] == 2
    given = plan_of("MODPO", three, MARGINS, weights={"a": 7, "b": 7})
    assert given["offset"].tolist() == [-1, -1, 1] and given["scale"].tolist() == [2, 2, 2]


def test_F4_modpo_is_the_released_trainers_loss(three):
    """(M - sum of w_k' m_k') / w_k inside the sigmoid, from its definition, pair by pair."""
    weights, aspects = {"a": 0.8, "b": 0.2}, list(three["aspect"])
    plan = plan_of("MODPO", three, MARGINS, weights=weights)
    opinions, margin = [1, 1, -1], 0.3  # of the other aspect, scaled
    for row, own in enumerate(aspects):
        other = "b" if own == "a" else "a"
        released = (margin - weights[other] * opinions[row]) / weights[own]
        assert plan["scale"].iloc[row] * margin + plan["offset"].iloc[row] == pytest.approx(released)


def test_F3_targets_are_centred_as_in_the_released_trainer():
    """Its steps on p, of which gamma - gamma_0 comes: no pull on all margins at once, and a large margin is asked for more."""
    margins = np.array([2.0, 0.0, -3.0, 0.5, 1.0])
    probe = pd.DataFrame({"chosen": UNIT * margins, "rejected": 0.0})
    offset = plan_of("gamma-PO", probe, 0 * probe)["offset"]
    n, gamma_0, tau = len(margins), 4.0, 10.0
    p = np.full(n, 1 / n)
    for _ in range(2000):  # the released code takes 20
        gradient = tau * (1 + np.log(n * p)) + gamma_0 / (1 + np.exp(margins - gamma_0 * n * p))
        p = p * np.exp(-0.05 * gradient)
        p = p / p.sum()
    assert offset.to_numpy() == pytest.approx(gamma_0 - gamma_0 * n * p, abs=1e-6)
    assert offset.mean() == pytest.approx(0) and offset.idxmin() == 0 and offset.idxmax() == 2


def test_MERGE_takes_policies_of_single_aspects_only(models):
    Proxy("b", "classifier", str(models / "b"), BASE_MODEL, 0.1, 0.0, 1024, 1.0, 1, 1).save()
    with pytest.raises(ValueError, match=r"MERGE: proxy is no policy of one aspect: 1 \(first: b\)"):
        plan_of("MERGE", models)


def test_MERGE_is_the_mean_of_the_weights(few, models, tmp_path):
    """Two policies, one of them moved: the merged one moved half as far, and it took no step."""
    paths = [tmp_path / "a", tmp_path / "b"]
    start = load_causal(BASE_MODEL)
    for path, by in zip(paths, [0.0, 0.25], strict=True):
        moved = load_causal(BASE_MODEL)
        with torch.no_grad():
            for weight in moved.parameters():
                weight.add_(by)
        moved.save_pretrained(path)
        load_tokenizer(BASE_MODEL).save_pretrained(path)
        Proxy(
            path.name, "implicit", str(path), BASE_MODEL, 0.1, 0.0, 1024, 1.0, 1, 1
        ).save()  # its seal is of these files
    signals = {"aspect_policies": models}
    merged = train_alternative("MERGE", few, signals, model=BASE_MODEL, output_dir=tmp_path / "merged", max_steps=9)
    for name, weight in load_causal(merged).state_dict().items():
        torch.testing.assert_close(weight, start.state_dict()[name] + 0.125)
    assert training_log(merged)["steps"] == 0 and training_log(merged)["history"]
    assert response_logps(merged, list(few["prompt"])[:2], list(few["chosen"])[:2]).shape == (2,)


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
    "DMPO": lambda ids: {"offset": pd.Series(np.linspace(-1, 1, len(ids)), index=ids), "scale": 4},
    "MODPO": lambda ids: {
        "offset": pd.Series(np.linspace(-1, 1, len(ids)), index=ids),
        "scale": pd.Series(np.linspace(1.2, 5, len(ids)), index=ids),
    },
    "R-DPO": lambda ids: {"offset": pd.Series(np.linspace(0.3, -0.3, len(ids)), index=ids)},
    "gamma-PO": lambda ids: {"offset": pd.Series(np.linspace(-0.9, -0.1, len(ids)), index=ids)},
}


@pytest.mark.parametrize("name", OURS)
def test_the_loss_is_the_formula(few, tmp_path, name):
    """-log sigma(scale * beta * log-ratios + offset), at the reference and one step away from it."""
    plan = OURS[name](list(few["pair_id"]))
    offset, scale = plan["offset"].to_numpy(), np.array(plan.get("scale", 1))
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
    assert abs(expected - plain[1]) > 5e-4


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


@dataclass
class Sides:
    """Of one pair, token by token: log-ratios, log-probabilities and what WPO measures them in, chosen before rejected."""

    ratios: tuple
    logps: tuple
    aligned: tuple
    n_shared: int  # tokens of the shorter response
    sampled: tuple  # which tokens SamPO draws

    @property
    def margin(self):
        return self.ratios[0].sum() - self.ratios[1].sum()


@pytest.fixture(scope="module")
def before(few):
    """Token by token, under the base model."""
    return token_logps(few, BASE_MODEL)


def sides_of(few, before, now):
    """Of every pair, under a policy whose tokens have the log-probabilities `now`."""
    found = []
    for old, new, drawn in zip(before, now, drawn_tokens(few), strict=True):
        ratios = tuple(new[side][0] - old[side][0] for side in (0, 1))
        logps, aligned = (tuple(new[side][part] for side in (0, 1)) for part in (0, 1))
        found.append(Sides(ratios, logps, aligned, min(map(len, ratios)), drawn))
    return found


def drawn_tokens(few):
    """Which response tokens of either side SamPO draws, from each pair alone, without another's padding."""
    tokenizer, found = load_tokenizer(BASE_MODEL), []
    texts = [encode(tokenizer, list(few["prompt"]), list(few[side])) for side in ("chosen", "rejected")]
    for pair in zip(*texts, strict=True):
        width = max(len(ids) for ids, _ in pair)
        ids = torch.tensor([[*text, *[0] * (width - len(text))] for text, _ in pair])
        mask = torch.tensor([[int(start <= i < len(text)) for i in range(width)] for text, start in pair])
        kept = down_sampled(mask, ids)
        found.append(tuple(kept[side][start : len(text)].bool().numpy() for side, (text, start) in enumerate(pair)))
    return found


def discounted(ratios, n_shared):
    """Tokens beyond the other response's length count half."""
    return ratios[:n_shared].sum() + 0.5 * ratios[n_shared:].sum()


def nll(x):
    """-log sigma(x), the loss of a margin."""
    return np.logaddexp(0, -x)


FORMULAS = {  # the loss of a pair, from its tokens
    "IPO": lambda x, beta: (x.ratios[0].mean() - x.ratios[1].mean() - 1 / (2 * beta)) ** 2,
    "LN-DPO": lambda x, beta: nll(beta * (x.ratios[0].mean() - x.ratios[1].mean())),
    "LD-DPO": lambda x, beta: nll(beta * (discounted(x.ratios[0], x.n_shared) - discounted(x.ratios[1], x.n_shared))),
    # F9: the authors' clamp, which TRL's weights lack
    "WPO": lambda x, beta: min(1, np.exp(x.aligned[0].mean() + x.aligned[1].mean())) * nll(beta * x.margin),
    "SimPO": lambda x, beta: nll(beta * (x.logps[0].mean() - x.logps[1].mean() - 0.5)),
    "DPOP": lambda x, beta: nll(beta * (x.margin - 50 * max(0, -x.ratios[0].sum()))),
    "DPO-Shift": lambda x, beta: nll(beta * (x.ratios[0].sum() - 0.95 * x.ratios[1].sum())),
    "SamPO": lambda x, beta: nll(beta * (x.ratios[0][x.sampled[0]].sum() - x.ratios[1][x.sampled[1]].sum())),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_of_a_pair_is_the_formula(few, before, tmp_path, name):
    """Token by token, at the reference and one step away from it."""
    plan = plan_of(name, TOKENS if isinstance(HAND[name][0][0], pd.DataFrame) else few)
    moved = train_plan(plan, few, model=BASE_MODEL, output_dir=tmp_path / "one", **ONE_BATCH | {"max_steps": 1})
    for found, now in zip(logged(few, plan, tmp_path / "two"), (before, token_logps(few, moved)), strict=True):
        losses = [FORMULAS[name](pair, plan.get("beta", 0.1)) for pair in sides_of(few, before, now)]
        assert found == pytest.approx(np.mean(losses), rel=1e-3)


def test_F9_some_pairs_weigh_more_than_one_without_the_clamp(before):
    weights = [np.exp(chosen[1].mean() + rejected[1].mean()) for chosen, rejected in before]
    assert max(weights) > 1 > min(weights)


def test_DrDPO_is_the_soft_minimum_of_the_losses(few, tmp_path, plain):
    """-t log mean exp(-loss / t): less than the mean, and ln 2 where all losses are."""
    temperature = 0.02
    plan = plan_of("Dr. DPO", few, temperature=temperature)
    losses = nll(0.1 * margins_after_a_step(few, plan, tmp_path / "one", 0.1))
    expected = [np.log(2), -temperature * np.log(np.exp(-losses / temperature).mean())]
    assert logged(few, plan, tmp_path / "two") == pytest.approx(expected, abs=2e-4)
    assert expected[1] < losses.mean() - 1e-3


def mean_nll(tokens):
    """Nats of a token of the chosen responses, over all of them."""
    return -np.concatenate([chosen[0] for chosen, _ in tokens]).mean()


def test_DPO_and_SFT_is_their_sum(few, before, tmp_path):
    plan = plan_of("DPO+SFT", few)
    margin = margins_after_a_step(few, plan, tmp_path / "one", 0.1)
    after = token_logps(few, str(tmp_path / "one"))
    expected = [np.log(2) + mean_nll(before), nll(0.1 * margin).mean() + mean_nll(after)]
    assert logged(few, plan, tmp_path / "two") == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("name", ["DPOP", "IPO", "MODPO"])
def test_a_loss_takes_the_place_of_sigmoid_beside_what_the_training_adds(few, before, tmp_path, name):
    """A training with the likelihood term keeps it, whoever has the loss: ours, TRL's, or one with a scale of each pair."""
    plan = OURS[name](list(few["pair_id"])) if name in OURS else plan_of(name, TOKENS if name == "IPO" else few)
    alone = logged(few, plan, tmp_path / "alone")[0]
    both = train_plan(
        plan, few, model=BASE_MODEL, output_dir=tmp_path / "both", loss_type=["sigmoid", "sft"], **ONE_BATCH
    )
    assert training_log(both)["history"][0]["loss"] == pytest.approx(alone + mean_nll(before), abs=5e-4)


def test_SamPO_draws_as_many_tokens_as_the_shorter_response_has(few):
    """At random over the longer response, the same ones whatever the padding."""
    drawn = drawn_tokens(few)
    assert all(chosen.sum() == rejected.sum() == min(len(chosen), len(rejected)) for chosen, rejected in drawn)
    longer = [max(pair, key=len) for pair in drawn if len(pair[0]) != len(pair[1])]
    assert len(longer) > 10 and any(not mask[: mask.sum()].all() for mask in longer), "not the first ones"
    mask, ids = torch.zeros(2, 9, dtype=torch.long), torch.arange(18).reshape(2, 9)
    mask[0, 2:8], mask[1, 2:4] = 1, 1
    padded = [torch.nn.functional.pad(table, (0, 5)) for table in (mask, ids)]
    assert down_sampled(*padded)[:, :9].tolist() == down_sampled(mask, ids).tolist()


def test_PreDPO_is_DPO_against_the_guide(few, tmp_path):
    """From SFT, with a trained policy as the reference: beta times the difference of log-ratios over the guide."""
    guide = train_dpo(few, model=BASE_MODEL, output_dir=tmp_path / "guide", **ONE_BATCH)
    prompts, ids = list(few["prompt"]), list(few["pair_id"])
    logps = {
        model: pd.DataFrame({side: response_logps(model, prompts, list(few[side])) for side in ("chosen", "rejected")})
        for model in (BASE_MODEL, guide)
    }
    signals = {"policy_logps": logps[guide].set_axis(ids), "reference_logps": logps[BASE_MODEL].set_axis(ids)}
    plan = plan_from("Pre-DPO", signals, beta=0.3)
    against_guide = (logps[BASE_MODEL] - logps[guide]).eval("chosen - rejected")
    assert logged(few, plan, tmp_path / "policy", beta=0.3)[0] == pytest.approx(
        nll(0.3 * against_guide).mean(), abs=2e-4
    )
    assert against_guide.abs().max() > 0.5


def test_held_out_pairs_have_neither_offset_nor_scale(few, tmp_path):
    """Their loss is DPO's, in a training with a scale of each pair as in one without."""
    plan = OURS["MODPO"](list(few["pair_id"]))
    path = train_plan(
        plan,
        few,
        model=BASE_MODEL,
        output_dir=tmp_path / "policy",
        held_out=few.select(range(8)),
        **ONE_BATCH | {"learning_rate": 0.0},
    )
    assert training_log(path)["held_out"]["loss"] == pytest.approx(np.log(2), abs=1e-4)


def test_losses_that_cannot_be_are_refused(few, tmp_path):
    options = {"model": BASE_MODEL, "output_dir": tmp_path / "policy", "seed": 0, "beta": 0.1}
    with pytest.raises(ValueError, match="loss='hinge': use one of"):
        train_with_offset(few, [0.0] * len(few), loss={"name": "hinge"}, **options)
    with pytest.raises(ValueError, match="loss='SamPO' reads no scale of each pair. Remedy"):
        train_with_offset(few, [0.0] * len(few), scale=[1.0] * len(few), loss={"name": "SamPO"}, **options)


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
