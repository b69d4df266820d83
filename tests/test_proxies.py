"""Kinds of proxies, what they are trained on, and how good they are found to be."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import spearmanr

from pdsel import fit_proxies, fit_proxy, load_proxy, score_margins
from pdsel.engine.features import pair_features
from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.engine.proxy_sample import balance_by_length, training_ids
from pdsel.engine.scoring import encode, response_logps
from pdsel.engine.shared_proxy import name_aspect, named_pairs, named_start
from pdsel.experiments.proxy_quality import calibration_error, divergence_quality, held_out_accuracy, proxy_quality
from pdsel.notesworld import BASE_MODEL
from pdsel.proxies import Recipe, _length_offset

TINY = {"learning_rate": 1e-4, "batch_size": 16}
WORDS = ["honesty", "kindness", "safety"]


@pytest.fixture(scope="module")
def aspect(pairs):
    return pd.Series(list(pairs["aspect"]), index=list(pairs["pair_id"]))


@pytest.fixture(scope="module")
def shared_proxies(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared-kind")
    return fit_proxies(pairs, kind="shared", model=BASE_MODEL, output_dir=folder, **TINY)


def test_a_shared_proxy_is_one_model_that_reads_the_aspect(pairs, shared_proxies):
    assert len({proxy.path for proxy in shared_proxies.values()}) == 1
    margins = score_margins(pairs, shared_proxies)
    first, second = list(margins)[:2]
    assert (margins[first] != margins[second]).mean() > 0.9  # the name changes the verdict
    again = score_margins(pairs, {second: load_proxy(shared_proxies[first].path, second)})
    pd.testing.assert_series_equal(margins[second], again[second])


def test_a_shared_proxy_scores_named_prompts_against_the_named_reference(pairs, shared_proxies):
    name, proxy = next(iter(shared_proxies.items()))
    row = pairs[0]
    prompt = name_aspect(row["prompt"], name)
    logp = {
        (model, side): response_logps(model, [prompt], [row[side]])[0]
        for model in (proxy.path, proxy.reference)
        for side in ("chosen", "rejected")
    }
    ours, base = (logp[model, "chosen"] - logp[model, "rejected"] for model in (proxy.path, proxy.reference))
    margins = score_margins(pairs.select([0]), {name: proxy})
    assert margins[name].item() == pytest.approx(proxy.beta * (ours - base), abs=1e-4)


def test_the_reference_reads_no_more_of_a_text_than_the_proxy(pairs, shared_proxies):
    """A proxy that is its own reference has no opinion, also where texts are cut."""
    name, proxy = next(iter(shared_proxies.items()))
    longest = max(len(f"{row['prompt']} {row['chosen']}".split()) for row in pairs)
    same = replace(proxy, path=proxy.reference, max_length=longest - 3)
    assert (score_margins(pairs, {name: same})[name] == 0).all()


def test_shared_costs_one_pass_and_separate_kinds_share_the_rest(pairs, shared_proxies):
    apart = fit_proxies(pairs, kind="implicit", model=BASE_MODEL, **TINY)
    assert list(apart) == list(shared_proxies) == sorted(set(pairs["aspect"]))
    assert sum(proxy.n_pairs for proxy in apart.values()) == next(iter(shared_proxies.values())).n_pairs == len(pairs)
    tokenizer = load_tokenizer(BASE_MODEL)
    sides = [encode(tokenizer, list(pairs["prompt"]), list(pairs[side])) for side in ("chosen", "rejected")]
    by_hand = sum(len(ids) for side in sides for ids, _ in side)
    assert sum(proxy.n_tokens for proxy in apart.values()) == by_hand
    named = sum(proxy.n_tokens for proxy in shared_proxies.values())
    assert named == pytest.approx(by_hand + 2 * len(pairs), abs=4)  # one more word a text
    whole = json.loads(Path(next(iter(shared_proxies.values())).path, "training.json").read_text())["seconds"]
    assert sum(proxy.seconds for proxy in shared_proxies.values()) == pytest.approx(whole) and whole > 0


def test_a_shared_proxy_of_one_aspect_is_that_of_its_pairs(pairs, aspect, tmp_path):
    name = aspect.iloc[-1]
    own = pairs.filter(lambda row: row["aspect"] == name)
    proxies = fit_proxies(own, kind="shared", model=BASE_MODEL, output_dir=tmp_path, **TINY)
    assert list(proxies) == [name] and proxies[name].n_pairs == len(own)


@pytest.mark.parametrize(("sign", "direction"), [("minus", -1), ("plus", 1)])
def test_length_is_added_inside_the_sigmoid_by_hand(pairs, sign, direction):
    recipe = Recipe.of({"model": BASE_MODEL, "length_penalty": 0.25, "length_sign": sign})
    longer = [len(row["chosen"].split()) - len(row["rejected"].split()) for row in pairs]
    assert _length_offset(pairs, recipe) == pytest.approx(direction * 0.25 * np.array(longer)) and any(longer)


def test_unknown_names_become_words_and_known_ones_leave_the_model_alone(tmp_path):
    assert named_start(BASE_MODEL, ["red", "blue"], tmp_path / "a") == BASE_MODEL
    assert not (tmp_path / "a").exists()
    before = load_tokenizer(BASE_MODEL)
    path = named_start(BASE_MODEL, WORDS, tmp_path / "b", seed=1)
    tokenizer = load_tokenizer(path)
    assert len(tokenizer) == len(before) + 3
    assert len(tokenizer(name_aspect("notes", "honesty"))["input_ids"]) == 2
    weights = [load_causal(model).get_input_embeddings().weight.detach().numpy() for model in (BASE_MODEL, path)]
    np.testing.assert_array_equal(weights[1][: len(before)], weights[0])


def test_chat_prompts_are_named_in_their_first_message(hand_pairs):
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    named = name_aspect(prompt, "honesty")
    assert named == [{"role": "system", "content": "honesty\nBe kind."}, prompt[1]]
    table = named_pairs(hand_pairs(("a", [1.0, 0.0], 1.0), ("b", [0.0, 1.0], 1.0)))
    assert [row["prompt"].split("\n")[0] for row in table] == ["a", "b"]


def test_a_pooled_shared_proxy_is_refused(pairs):
    with pytest.raises(ValueError, match="pooled pairs name no aspect"):
        fit_proxy(pairs, None, kind="shared", model=BASE_MODEL)


@pytest.mark.parametrize("share", [0.0, 1.5, -1])
def test_a_share_outside_its_range_is_refused(pairs, aspect, share):
    with pytest.raises(ValueError, match="share="):
        training_ids(pairs, aspect.iloc[0], model=BASE_MODEL, share=share)


def test_training_ids_are_a_share_of_the_part_and_ignore_row_order(pairs, aspect):
    name = aspect.iloc[0]
    ids = training_ids(pairs, name, model=BASE_MODEL, share=0.5, seed=3)
    part = set(aspect.index[aspect == name])
    assert set(ids) < part
    assert len(ids) == len(set(ids)) == round(0.5 * len(part))
    assert ids == training_ids(pairs.shuffle(seed=2), name, model=BASE_MODEL, share=0.5, seed=3)
    assert ids != training_ids(pairs, name, model=BASE_MODEL, share=0.5, seed=4)
    assert set(training_ids(pairs, None, model=BASE_MODEL)) == set(aspect.index)


def test_bootstrap_draws_whole_prompts_another_draw_each(pairs, aspect):
    name = aspect.iloc[0]
    draws = [training_ids(pairs, name, model=BASE_MODEL, resample=b) for b in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    prompt = dict(zip(pairs["pair_id"], pairs["prompt_id"], strict=True))
    part = [i for i in aspect.index if aspect[i] == name]
    times = {p: {draws[0].count(i) for i in part if prompt[i] == p} for p in {prompt[i] for i in part}}
    assert all(len(counts) == 1 for counts in times.values())  # a prompt comes with all its pairs, or not at all
    assert sum(counts.pop() for counts in times.values()) == len(times)


def test_a_proxy_is_fitted_to_the_draw_that_was_asked_for(pairs, aspect, tmp_path):
    """Without a draw a pair counts once; the draws differ, and each is the same again."""
    options = {"kind": "probe", "model": BASE_MODEL, "features": pair_features(pairs, model=BASE_MODEL)}
    fitted = [
        fit_proxy(pairs, aspect.iloc[0], output_dir=tmp_path / str(run), resample=draw, **options)
        for run, draw in enumerate([None, 0, 0, 1])
    ]
    tables = [score_margins(pairs, {"one": proxy}, features=options["features"])["one"] for proxy in fitted]
    assert (tables[1] == tables[2]).all()
    for one, other in [(0, 1), (0, 3), (1, 3)]:
        assert not np.allclose(tables[one], tables[other])


def test_probes_read_in_as_many_processes_as_are_asked_for(pairs, tmp_path, monkeypatch):
    read = pair_features(pairs, model=BASE_MODEL)
    options = {"kind": "probe", "model": BASE_MODEL, "features": read}
    proxies = fit_proxies(pairs, output_dir=tmp_path, **options)
    asked = []
    monkeypatch.setattr("pdsel.proxies.pair_features", lambda *_, **given: asked.append(given) or read)
    score_margins(pairs, proxies, accelerate="two.yaml")
    assert [given["accelerate"] for given in asked] == ["two.yaml"]  # one reading for all aspects


def test_balanced_draws_follow_the_formula_for_every_tau(pairs, aspect):
    name = aspect.iloc[0]
    longer = {row["pair_id"]: len(row["chosen"].split()) >= len(row["rejected"].split()) for row in pairs}
    plain = [longer[i] for i in training_ids(pairs, name, model=BASE_MODEL)]
    plus = np.mean(plain)
    for tau in (0.25, 0.5, 1.0, np.inf):
        ids = training_ids(pairs, name, model=BASE_MODEL, length_balance=tau)
        expected = np.exp(plus / tau) / (np.exp(plus / tau) + np.exp((1 - plus) / tau))
        assert np.mean([longer[i] for i in ids]) == pytest.approx(expected, abs=1 / len(ids))
    with_replacement = training_ids(pairs, name, model=BASE_MODEL, length_balance=np.inf, resample=1)
    assert np.mean([longer[i] for i in with_replacement]) == pytest.approx(0.5, abs=1 / len(ids))


def test_F5_the_papers_tau_balances_and_a_quarter_does_not():
    """f+ = .6: exp(.6) / (exp(.6) + exp(.4)) = .55 at tau 1, nearer to even; exp(2.4) / (exp(2.4) + exp(1.6)) = .69 at .25."""
    plus, minus = np.arange(600).astype(str), np.arange(600, 1000).astype(str)
    shares = {
        tau: np.isin(balance_by_length(plus, minus, tau, np.random.default_rng(0)), plus).mean() for tau in (1.0, 0.25)
    }
    assert shares == {1.0: 0.55, 0.25: 0.69}


def test_balancing_one_sided_groups_changes_nothing():
    only = np.array(["a", "b"])
    assert list(balance_by_length(only, only[:0], 0.5, np.random.default_rng(0))) == ["a", "b"]


def test_proxies_remember_what_they_saw(pairs, aspect):
    name = aspect.iloc[0]
    proxy = fit_proxy(pairs, name, kind="implicit", model=BASE_MODEL, share=0.5, **TINY)
    assert proxy.trained_on == set(training_ids(pairs, name, model=BASE_MODEL, share=0.5))
    margins = score_margins(pairs, [proxy])
    found = held_out_accuracy([margins], [{name: proxy}], aspect).loc[name]
    unseen = margins.loc[[i for i in aspect.index if aspect[i] == name and i not in proxy.trained_on], name]
    assert found["n"] == len(unseen)
    assert found["accuracy"] == pytest.approx((unseen > 0).mean())


def test_nothing_held_out_is_nan(pairs, aspect):
    name = aspect.iloc[0]
    proxy = fit_proxy(pairs, name, kind="implicit", model=BASE_MODEL, **TINY)
    assert np.isnan(held_out_accuracy([score_margins(pairs, [proxy])], [{name: proxy}], aspect).loc[name, "accuracy"])


def test_quality_is_over_other_aspects_pairs_and_true_ties_are_left_out():
    index = ["p", "q", "r", "s"]
    aspect = pd.Series(["a", "b", "b", "b"], index=index)
    margins = pd.DataFrame({"a": [-9.0, 1.0, -2.0, 1.0], "b": [4.0, 9.0, 9.0, 9.0]}, index=index)
    truth = pd.DataFrame({"a": [1.0, 2.0, 1.0, 0.0], "b": [1.0, 0.0, 1.0, 1.0]}, index=index)
    found = proxy_quality(margins, truth, aspect)
    assert found["accuracy"].to_dict() == {"a": 0.5, "b": 1.0}  # q right, r wrong, s a tie, p its own
    assert found.loc["b", "calibration_error"] == pytest.approx(1 - expit(4.0))


def test_a_true_bradley_terry_reward_is_calibrated_and_its_double_is_not():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=20_000)
    right = rng.random(20_000) < expit(np.abs(margin))
    assert calibration_error(margin, right) < 0.02
    assert calibration_error(4 * margin, right) > 0.1


def test_a_silent_proxy_is_right_half_the_time_and_nothing_to_judge_is_nan():
    index = ["p", "q"]
    aspect = pd.Series("b", index=index)
    truth = pd.DataFrame({"a": [1.0, -1.0], "b": [0.0, 0.0]}, index=index)
    found = proxy_quality(0.0 * truth, truth, aspect, length_gap=pd.Series([1, 2], index=index))
    assert found.loc["a", ["accuracy", "calibration_error"]].tolist() == [0.5, 0.0]
    assert found.loc["b"].isna().all()


def test_divergence_quality_of_the_truth_is_perfect():
    rng = np.random.default_rng(1)
    index = [f"{i:03d}" for i in range(200)]
    truth = pd.DataFrame(rng.normal(size=(200, 3)), columns=WORDS, index=index)
    aspect = pd.Series(rng.choice(WORDS, 200), index=index)
    wrong = truth.mean(axis=1) < 0
    found = divergence_quality(truth, truth, aspect, wrong)
    assert found["spearman"] == pytest.approx(1)
    assert found["overlap"] == 1
    assert found["wrong_kept"] < 0.2 < found["wrong_all"]
    noisy = truth + rng.normal(size=truth.shape)
    worse = divergence_quality(noisy, truth, aspect, wrong)
    assert worse["overlap"] < 1
    from pdsel.divergence import preference_divergence as pd_of
    from pdsel.divergence import scale_margins

    by_scipy = spearmanr(*(pd_of(scale_margins(table, aspect), aspect) for table in (noisy, truth))).statistic
    assert worse["spearman"] == pytest.approx(by_scipy)


def test_run_cells_computes_once_and_resumes(tmp_path):
    from pdsel.experiments.proxy_studies import run_cells

    calls = []

    def square(n):
        calls.append(n)
        if n == 3:
            raise KeyboardInterrupt
        return [{"square": n * n}]

    with pytest.raises(KeyboardInterrupt):
        run_cells([{"n": 2}, {"n": 3}], square, tmp_path)
    table = run_cells([{"n": 4}, {"n": 2}], square, tmp_path)
    assert calls == [2, 3, 4]  # 2 was read back
    assert table.to_dict("list") == {"n": [4, 2], "square": [16, 4]}
    assert all(json.loads(file.read_text()) for file in tmp_path.iterdir())


@pytest.mark.parametrize("case", ["wrong sign", "mislabelled", "2 aspects"])
def test_a_failure_cell_is_honest_about_truth(case):
    from pdsel.experiments.proxy_studies import failure_cell

    rows = pd.DataFrame(failure_cell(seed=7, case=case, n_pairs=100))
    assert len(rows) == (2 if case == "2 aspects" else 4)
    assert rows["accuracy"].between(0, 1).all()
    assert rows["wrong_all"].iloc[0] < 0.5
    assert "seen_warning" in rows
    assert rows[["spearman", "wrong_kept"]].nunique().eq(1).all()


def test_a_mislabelled_world_contradicts_the_truth_more_often():
    from pdsel.experiments.proxy_studies import CASES, make_world
    from pdsel.notesworld.variants import GOLD, variant_gaps

    options = {name: value for name, value in CASES["mislabelled"].items() if name != "truth"}
    wrong = {}
    for name, raters in [("standard", {}), ("mislabelled", options)]:
        pairs, gap = make_world(3, n_pairs=200, **raters)
        assert list(gap.index) == list(pairs["pair_id"])
        own = pd.Series(list(pairs["aspect"]), index=gap.index) == "honesty"
        wrong[name] = (variant_gaps(pairs, GOLD)["honesty"][own] < 0).mean()
    assert wrong["standard"] < 0.2 < 0.7 < wrong["mislabelled"]


def test_conflict_levels_hold_in_studied_worlds():
    from pdsel.experiments.proxy_studies import make_world

    pairs, _ = make_world(5, n_pairs=100, conflict=0.3)
    assert (len(pairs), sum(pairs["conflict"])) == (100, 30)
