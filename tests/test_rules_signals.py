"""Signals: what each is, that they are computed once, and the rules that build pairs from samples."""

import inspect
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from pdsel import rules
from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.engine.scoring import response_logps
from pdsel.experiments.grid_plan import METHODS
from pdsel.notesworld import BASE_MODEL
from pdsel.notesworld.settings import PROXIES, PROXY_BASE
from pdsel.pairs import make_pairs
from pdsel.proxies import fit_proxies, load_proxy, score_margins
from pdsel.ratings import load_ratings
from pdsel.rules import signals as measured
from pdsel.rules.built import BUILT, _accepted, build
from pdsel.rules.signals import SAMPLES, SIGNALS
from pdsel.rules.store import Signals, _value_digest, inputs_of, pairs_for
from pdsel.selection import random_scores, select
from pdsel.training import train_dpo


@pytest.fixture(scope="module")
def few(rated_file):
    """96 pairs: a few steps of training, the first of which only warms up."""
    return make_pairs(load_ratings(rated_file)).select(range(96))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("signals")


@pytest.fixture(scope="module")
def signals(few, folder):
    return Signals(few, base=BASE_MODEL, seed=0, folder=folder)


def test_every_rule_can_be_computed_and_its_cost_is_told(signals):
    scores = rules.score_all(signals)
    assert list(scores) == list(rules.RULES) and np.isfinite(scores.to_numpy()).all()
    seconds = rules.describe(signals)["seconds"]
    assert seconds["RAND"] == 0 and (seconds.drop(["RAND", "PD(rati.)"]) > 0).all()
    assert seconds["DM-ADD"] > seconds["RAF"] and seconds["DM-ADD"] > seconds["margin(implicit)"]
    parts = ["pooled", "pooled_rewards", "pooled_model"]
    assert seconds["RAF"] == pytest.approx(sum(signals._known[name].seconds for name in parts))


def test_F5_pd_is_one_method_everywhere():
    """The league's PD, the grid's and what DMPO reads have proxies of one setting; only what is named otherwise differs."""
    assert measured.PROXIES == PROXIES | {"model": PROXY_BASE}
    same = [name for name, changes in METHODS.items() if changes.get("proxies") is PROXIES]
    assert same == ["DMPO", "PD", "PD(high)"]
    other = [name for name, changes in METHODS.items() if changes.get("rule") == "PD"]
    assert other == [name for name in other if name.startswith("PD(")] and "PD" not in other


def test_margins_are_those_of_the_grids_proxies(signals, few):
    mine = score_margins(few, fit_proxies(few, model=PROXY_BASE, seed=0, **PROXIES))
    pd.testing.assert_frame_equal(signals["margins"], mine, check_exact=True)


def test_margins_of_one_model_for_all_aspects_are_those_of_its_every_name(few, tmp_path):
    tiny = {"kind": "shared", "model": PROXY_BASE, "learning_rate": 1e-4, "batch_size": 16}
    measured.aspect_models(few, None, 0, tiny, tmp_path)
    first = next(tmp_path.glob("*/proxy.json")).parent
    named = {aspect: load_proxy(first, aspect) for aspect in sorted(set(few["aspect"]))}
    assert len(named) > 1
    pd.testing.assert_frame_equal(measured.margins(few, tmp_path), score_margins(few, named), check_exact=True)


def test_signals_come_from_disk_and_not_again(signals, few, folder, monkeypatch):
    known = {name: signals[name] for name in SIGNALS}

    def never(*args, **kwargs):
        raise AssertionError("computed again")

    for name in SIGNALS:
        compute = _with_signature(never, SIGNALS[name].compute)
        monkeypatch.setitem(SIGNALS, name, replace(SIGNALS[name], compute=compute))
    again = Signals(few.select(range(len(few) - 1, -1, -1)), base=BASE_MODEL, seed=0, folder=folder)
    for name, value in known.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(again[name], value, check_exact=True)
        elif isinstance(value, pd.Series):
            pd.testing.assert_series_equal(again[name], value, check_exact=True, check_names=False)
        else:
            assert again[name] == value and value.is_dir()
    with pytest.raises(AssertionError, match="computed again"):
        Signals(few, base=BASE_MODEL, seed=1, folder=folder)["samples"]
    with pytest.raises(AssertionError, match="computed again"):
        Signals(few.select(range(40)), base=BASE_MODEL, seed=0, folder=folder)["reference_logps"]


def _with_signature(function, like):
    import functools

    return functools.wraps(like)(lambda *args, **kwargs: function())


def test_given_signals_cost_nothing_and_change_the_key_of_what_reads_them(few, tmp_path):
    zero = pd.DataFrame(0.0, index=list(few["pair_id"]), columns=["chosen", "rejected"])
    ours = Signals(few, base=BASE_MODEL, folder=tmp_path, pooled_rewards=zero)
    assert (ours["pooled"] == 0).all() and ours.seconds("pooled") < 1
    other = Signals(few, base=BASE_MODEL, folder=tmp_path, pooled_rewards=zero.assign(chosen=1.0))
    assert (other["pooled"] == 1).all()
    with pytest.raises(ValueError, match="signal 'moon': use one of"):
        ours["moon"]


def test_what_is_given_is_known_by_its_values_ids_and_columns():
    values = pd.Series([1.0, 2.0], index=["p", "q"], name="pooled")
    others = [values + 1, values.rename(index={"p": "r"}), values.to_frame(), values.to_frame("another")]
    digests = [_value_digest(value) for value in [values, *others]]
    assert _value_digest(values.copy()) == digests[0]
    assert len(set(digests)) == len(digests)


def test_the_base_model_is_read_once_for_all_keys(few, tmp_path, monkeypatch):
    """A digest of an 8 B model reads 16 GB."""
    digests = []

    def counted(model):
        digests.append(model)
        return "digest"

    monkeypatch.setattr("pdsel.rules.store.model_digest", counted)
    signals = Signals(few, base=BASE_MODEL, folder=tmp_path)
    for name in SIGNALS:
        signals._settings(name)
    assert sorted(digests) == sorted([BASE_MODEL, PROXY_BASE])


def test_every_signal_of_a_rule_asks_for_at_least_what_its_inputs_do():
    for name, signal in SIGNALS.items():
        assert signal.cost >= measured.cost(inputs_of(name)), name


CHANGED = {
    "chosen": lambda text: text + " surely",
    "rejected": lambda text: "glad " + text,
    "prompt": lambda text: text + " ;",
    "prompt_id": lambda name: "x" + name,
    "aspect": lambda name: name[::-1],
    "rating_gaps": lambda gaps: {aspect: 2 * gap for aspect, gap in gaps.items()},
}


@pytest.mark.parametrize("column", CHANGED)
def test_a_changed_pairs_table_reads_nothing_old(few, tmp_path, monkeypatch, column):
    """Ids that people bring along say nothing about the texts: every column is part of the key."""
    calls = []

    def counted(pairs):
        calls.append(len(pairs))
        return measured.words(pairs)

    monkeypatch.setitem(SIGNALS, "words", replace(SIGNALS["words"], compute=counted))
    small = few.select(range(4))
    for table in (small, small, small.map(lambda row: {column: CHANGED[column](row[column])})):
        Signals(table, base=BASE_MODEL, folder=tmp_path)["words"]
    assert calls == [4, 4], "once for the table, once for the changed one"


def test_samples_and_folders_may_be_given(few, signals, tmp_path):
    """Samples repeat their prompt's id; a folder of models is known by what is in it."""
    small = few.select(range(4))
    ids = sorted(set(small["prompt_id"])) * 2
    rows = pd.Index(ids, name="prompt_id")
    samples = pd.DataFrame({"prompt": "tell", "response": [f"home cave {n}" for n in range(len(ids))]}, index=rows)
    given = {"samples": samples, "pooled_model": signals["pooled_model"]}
    rewards = Signals(small, base=BASE_MODEL, folder=tmp_path, **given)["sample_rewards"]
    proxy = load_proxy(Path(signals["pooled_model"], "pooled"))
    asked = list(samples["prompt"]), list(samples["response"])
    expected = proxy.beta * (response_logps(proxy.path, *asked) - response_logps(PROXY_BASE, *asked))
    assert rewards.to_numpy() == pytest.approx(expected)
    again = Signals(
        small, base=BASE_MODEL, folder=tmp_path, **given | {"samples": samples.assign(response="home lake")}
    )
    assert (again["sample_rewards"].to_numpy() != rewards.to_numpy()).any()


def test_log_probabilities_ignore_padding_and_the_prompt(signals, few):
    """One text at a time, without a batch: no padding is summed and no mask is missing."""
    net, tokenizer = load_causal(BASE_MODEL).eval(), load_tokenizer(BASE_MODEL)
    table = few.to_pandas().set_index("pair_id")
    for name, row in table.iloc[:5].iterrows():
        start = len(tokenizer(row["prompt"])["input_ids"])
        ids = torch.tensor([tokenizer(row["prompt"] + row["chosen"] + tokenizer.eos_token)["input_ids"]])
        with torch.inference_mode():
            out = net(input_ids=ids, output_hidden_states=True)
        logps = out.logits.float().log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[start - 1 :, 0]
        assert signals["reference_logps"].loc[name, "chosen"] == pytest.approx(float(logps.sum()), abs=1e-4)
        assert signals["tokens"].loc[name, "chosen"] == len(logps)
        alone = torch.tensor([tokenizer(row["chosen"] + tokenizer.eos_token)["input_ids"]])
        with torch.inference_mode():
            nll = net(input_ids=alone, labels=alone).loss
        assert signals["unprompted_nll"].loc[name, "chosen"] == pytest.approx(float(nll), abs=1e-4)
        state = out.hidden_states[-1][0]
        other = torch.tensor([tokenizer(row["prompt"] + row["rejected"] + tokenizer.eos_token)["input_ids"]])
        with torch.inference_mode():
            rejected = net(input_ids=other, output_hidden_states=True).hidden_states[-1][0]
        difference = state[start:].mean(0) - rejected[start:].mean(0)
        assert signals["features"].loc[name].to_numpy() == pytest.approx(difference.numpy(), abs=1e-4)
        known = signals["response_features"].loc[[row["prompt_id"]]].set_index("response")
        assert known.loc[row["chosen"]].to_numpy() == pytest.approx(state[start:].mean(0).numpy(), abs=1e-4)
        # CHES: from the prompt's last token to the response's last but one, as the authors' `ches.py` cuts
        chosen_sum, rejected_sum = state[start - 1 : -1].sum(0), rejected[start - 1 : -1].sum(0)
        products = [float(chosen_sum @ rejected_sum), float(chosen_sum @ chosen_sum)]
        assert signals["hidden_products"].loc[name, ["both", "chosen"]].tolist() == pytest.approx(products, rel=1e-4)


class Standin(torch.nn.Module):
    """All 66 words alike likely, or the likelier the nearer their number is to the mean of those attended to, on both sides."""

    config, device = SimpleNamespace(), torch.device("cpu")

    def __init__(self, uniform):
        super().__init__()
        self.uniform = uniform

    def forward(self, input_ids, attention_mask=None, output_hidden_states=False):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mean = ((input_ids + 1.0) * mask).sum(dim=1) / mask.sum(dim=1)
        distance = (torch.arange(66.0) - mean[:, None]).abs()[:, None].expand(-1, input_ids.shape[1], -1)
        states = input_ids[..., None] + mean[:, None, None]
        return SimpleNamespace(logits=-distance * (not self.uniform), hidden_states=[states])


@pytest.fixture
def two_lengths(monkeypatch):
    """A short pair and a long one, and a function that puts a stand-in in the model's place."""

    def stand_in(uniform):
        for module in ("pdsel.engine.scoring", "pdsel.rules.signals"):
            monkeypatch.setattr(f"{module}.load_causal", lambda base: Standin(uniform))

    table = {
        "pair_id": ["long", "short"],
        "prompt": ["tell home =", "tell size ="],
        "chosen": [" home cave maybe . food moss .", " size tiny ."],
        "rejected": [" home cave .", " size tiny . size huge ."],
    }
    return Dataset.from_dict(table), stand_in


def test_padding_adds_nothing_to_a_log_probability(two_lengths):
    """65 other words as likely: a response of n words and the end of text is (n + 1) log(1 / 66), in any batch."""
    pairs, stand_in = two_lengths
    stand_in(uniform=True)
    lengths = pd.DataFrame({"chosen": [8, 4], "rejected": [4, 7]}, index=["long", "short"])
    pd.testing.assert_frame_equal(measured.tokens(pairs, BASE_MODEL), lengths, check_names=False, check_dtype=False)
    logps = measured.reference_logps(pairs, BASE_MODEL)
    assert logps.to_numpy() == pytest.approx(-np.log(66) * lengths.to_numpy(), rel=1e-5)
    assert measured.unprompted_nll(pairs, BASE_MODEL).to_numpy() == pytest.approx(np.full((2, 2), np.log(66)), rel=1e-5)


def test_padding_is_not_attended_to(two_lengths):
    """A causal model with padding on the right hides a missing mask; one that looks both ways does not."""
    pairs, stand_in = two_lengths
    stand_in(uniform=False)
    for signal in (measured.reference_logps, measured.unprompted_nll, measured.features, measured.hidden_products):
        alone = pd.concat([signal(pairs.select([row]), BASE_MODEL) for row in range(2)])
        pd.testing.assert_frame_equal(signal(pairs, BASE_MODEL), alone)


def test_the_reference_is_where_probes_start(few, tmp_path):
    """At step 0 an implicit margin is 0: base and reference are scored alike."""
    ours = Signals(few, base=BASE_MODEL, folder=tmp_path)
    assert np.allclose(measured._both_sides(BASE_MODEL, few) - ours["reference_logps"], 0)


def test_a_draw_is_one_number_a_prompt_and_another_with_another_seed(few):
    one, again, other = (pd.Series(measured._draws(few, f"probe {seed}"), few["prompt_id"][:]) for seed in (0, 0, 1))
    assert one.groupby(level=0).nunique().max() == 1 and one.nunique() > 10
    assert (one == again).all() and (one != other).mean() > 0.9


def test_held_out_losses_never_saw_the_prompt(few, signals, monkeypatch):
    seen = []

    def watched(pairs, **options):
        seen.append(set(pairs["prompt_id"]))
        return train_dpo(pairs, **options)

    monkeypatch.setattr(measured, "train_dpo", watched)
    found = measured.held_out_losses(few, BASE_MODEL, 0, signals["reference_logps"], signals.folder / "again")
    assert len(seen) == 2 * measured.REPEATS
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert not first & second and first | second == set(few["prompt_id"])
    pd.testing.assert_frame_equal(found, signals["held_out_losses"])
    assert (found.to_numpy() > 0).all() and not np.allclose(found, np.log(2))


def test_samples_are_the_base_models(signals, few):
    samples = signals["samples"]
    assert len(samples) == SAMPLES * len(set(few["prompt_id"])) and set(samples.index) == set(few["prompt_id"])
    assert samples["response"].nunique() > len(samples) / 4
    logps = response_logps(BASE_MODEL, list(samples["prompt"]), list(samples["response"]))
    assert signals["sample_logps"].to_numpy() == pytest.approx(logps, abs=1e-4)
    assert list(signals["sample_opinions"]) == sorted(set(few["aspect"]))


# --- pairs built anew ---


@pytest.fixture
def drawn():
    """Two prompts with three samples each, one repeated and one empty; rewards worked by hand."""
    index = pd.Index(list("xxxyyy"), name="prompt_id")
    samples = pd.DataFrame({"prompt": ["X"] * 3 + ["Y"] * 3, "response": ["a", "b", "c", "a", "a", " "]}, index=index)
    ids = [f"z{i}" for i in range(10)]
    return {
        "pairs": Dataset.from_dict({"pair_id": ids, "prompt_id": ["x"] * 5 + ["y"] * 5}),
        "margins": pd.DataFrame({"k": [0.5] * 10}),
        "pooled_rewards": pd.DataFrame({"chosen": 0.0, "rejected": -1.0}, index=ids),
        "samples": samples,
        "sample_opinions": pd.DataFrame({"k": [1.0, 0.0, -1.0, 3.0, 0.0, 0.0]}, index=index),
        "sample_rewards": pd.Series([4.0, 1.0, -5.0, 3.0, 0.0, 0.0], index=index),
    }


BUILT_BY_HAND = {  # prompt, chosen, rejected
    # rewards 2, 0, -2 in units of the margins: sigma(2) = .88 and sigma(4) = .98 pass .7; y has one distinct sample
    "RS-DPO": [("X", "a", "b"), ("X", "a", "c"), ("X", "b", "c")],
    # all three are accepted, since four are wanted; the draw pairs the second with the third
    "RSO": [("X", "b", "c")],
    # F6: of three the five drawn are all; 4 is best and -5 worst; y has nobody to lose
    "sweet spot(built)": [("X", "a", "c")],
    # F11: of 60 duels with 0 and -1 the samples win 40 and lose 10: past the boundary, so the best against the worst
    "diversity, quality": [("X", "a", "c")],
}


@pytest.mark.parametrize("name", BUILT)
def test_built_pairs_by_hand(drawn, name):
    """Every rule that builds pairs: one without a line above fails."""
    built = build(name, drawn, share=1.0)
    assert sorted(zip(built["prompt"], built["chosen"], built["rejected"], strict=True)) == BUILT_BY_HAND[name]
    assert set(built["prompt_id"]) == {"x"} and list(built["pair_id"]) == sorted(set(built["pair_id"]))


@pytest.fixture
def many():
    """300 prompts of eight samples, named by their rank from the best, 0, to the worst, 7."""
    rng = np.random.default_rng(0)
    rows = [(f"x{i:03d}", str(rank), -float(rank) / 4) for i in range(300) for rank in rng.permutation(8)]
    names, texts, rewards = zip(*rows, strict=True)
    index = pd.Index(names, name="prompt_id")
    return {
        "pairs": Dataset.from_dict({"pair_id": list(map(str, range(300)))}),
        "samples": pd.DataFrame({"prompt": names, "response": texts}, index=index),
        "sample_rewards": pd.Series(rewards, index=index),
    }


def test_F6_the_rejected_sample_is_the_worst_of_five_and_not_of_all(many):
    """The worst of all is among five of eight in 5/8 of the prompts, the second worst decides in 3/8 * 5/7."""
    built = build("sweet spot(built)", many, share=1.0)
    assert len(built) == 300 and set(built["chosen"]) == {"0"}
    found = pd.Series(list(built["rejected"])).value_counts(normalize=True)
    assert found["7"] == pytest.approx(5 / 8, abs=0.08) and found["6"] == pytest.approx(15 / 56, abs=0.08)
    assert set(found.index) <= {"4", "5", "6", "7"}
    other = build("sweet spot(built)", many, share=1.0, seed=1)
    assert list(other["rejected"]) != list(built["rejected"])


def test_RSO_accepts_as_the_papers_algorithm_does():
    """One candidate after the other, with a draw each, until there are enough."""
    rewards = np.random.default_rng(1).normal(size=8)
    for seed in range(20):
        rng, accepted, left = np.random.default_rng(seed), [], list(range(8))
        while len(accepted) < 4:
            best = max(rewards[i] for i in left)
            for i in list(left):
                if rng.random() < np.exp((rewards[i] - best) / 0.5):
                    accepted.append(i)
            left = [i for i in left if i not in accepted]
        assert list(_accepted(np.arange(8), rewards, 4, 0.5, np.random.default_rng(seed))) == accepted[:4]


def test_RSO_pairs_good_samples_and_labels_them_by_reward(many):
    built = build("RSO", many, share=1.0)
    ranks = pd.DataFrame({"chosen": list(built["chosen"]), "rejected": list(built["rejected"])}).astype(int)
    assert len(built) == 300 and (ranks["chosen"] < ranks["rejected"]).all()
    assert ranks.to_numpy().mean() < 2.5, "of eight drawn alike 3.5"
    assert len(build("RSO", many, share=0.2)) == 60


def test_F11_before_the_boundary_the_given_pairs_are_kept(drawn):
    """A random share of them, but not the one that RAND keeps."""
    given = drawn | {"pooled_rewards": drawn["pooled_rewards"] + 9}
    kept = build("diversity, quality", given, share=0.5)
    assert len(kept) == 5 and set(kept["pair_id"]) < set(drawn["pairs"]["pair_id"])
    assert set(kept["pair_id"]) != set(select(random_scores(drawn["pairs"]), 0.5))


def test_rejection_sampling_meets_its_budget_and_threshold(drawn):
    assert len(build("RS-DPO", drawn, share=0.2)) == 2
    strict = BUILT["RS-DPO"].score(
        *(drawn[n] for n in ("pairs", "margins", "samples", "sample_opinions")), share=1.0, threshold=0.95
    )
    assert list(zip(strict["chosen"], strict["rejected"], strict=True)) == [("a", "c")]
    with pytest.raises(ValueError, match="no two of a prompt differ enough. Remedy"):
        BUILT["RS-DPO"].score(
            drawn["pairs"], drawn["margins"], drawn["samples"], 0 * drawn["sample_opinions"], share=1.0
        )


def test_built_pairs_train(signals, tmp_path):
    pairs, kept, seconds = pairs_for("RS-DPO", signals, share=0.5)
    assert len(pairs) == 48 and kept == [] and seconds > 0
    train_dpo(pairs, model=BASE_MODEL, output_dir=tmp_path / "policy", max_steps=1)


def test_pairs_for_a_rule_are_the_kept_ones_in_table_order(signals, few):
    pairs, kept, seconds = pairs_for("SeRA", signals, share=0.25)
    scores = rules.score("SeRA", signals)
    assert kept == list(scores.sort_values(ascending=False).index[:24])
    assert list(pairs["pair_id"]) == [name for name in few["pair_id"] if name in kept] and seconds > 0


def test_F10_the_share_reaches_the_rules_that_read_it(signals):
    """At a small share half of the prompts pass the entropy, at a large one more."""
    for share in (0.1, 0.8):
        scores = rules.score("APL(given)", signals, share=share)
        assert pairs_for("APL(given)", signals, share=share)[1] == list(select(scores, share, keep="highest"))


def test_built_rules_refuse_what_they_do_not_know(drawn):
    with pytest.raises(ValueError, match="rule='RS': use one of"):
        build("RS", drawn, share=0.5)
    with pytest.raises(ValueError, match=r"signal is absent: 1 \(first: sample_opinions\)"):
        build("RS-DPO", {name: value for name, value in drawn.items() if name != "sample_opinions"}, share=0.5)


@pytest.mark.parametrize("name", BUILT)
def test_without_a_seed_the_draw_is_that_of_seed_0(name):
    assert inspect.signature(BUILT[name].score).parameters["seed"].default == 0
