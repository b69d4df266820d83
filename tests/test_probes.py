"""Probes: logistic regressions on features, by closed forms, by their invariances, and by what they choose."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from scipy.optimize import minimize
from trl import DPOTrainer

from pdsel import fit_proxies, fit_proxy, load_proxy, score_margins, train_dpo
from pdsel.checks import DataError
from pdsel.data.gaps import rating_gaps
from pdsel.engine import probes
from pdsel.engine.features import Reader, pair_features
from pdsel.engine.probes import Search, bootstrap_probe, load_probe
from pdsel.engine.probes import fit_probe as fit
from pdsel.experiments.probe_study import probe_replicates
from pdsel.proxies import REWARDS

NO_PENALTY = [1e9]


def fit_probe(gaps, prompts, *, counts=None, **search):
    return fit(gaps, prompts, counts=counts, search=Search(**search))


def gaps_of(n=400, seed=0, noise_width=50):
    """Features of which `true` and, weakly, `length` tell who is preferred, and `noise` tells nothing; 100 prompts."""
    rng = np.random.default_rng(seed)
    gaps = {
        "true": rng.normal(size=(n, 2)),
        "length": rng.normal(size=(n, 1)),
        "noise": rng.normal(size=(n, noise_width)),
    }
    margin = gaps["true"] @ [2.0, -1.0] + gaps["length"][:, 0]
    signs = np.where(rng.random(n) < 1 / (1 + np.exp(-margin)), 1.0, -1.0)
    return {name: gap * signs[:, None] for name, gap in gaps.items()}, np.repeat(np.arange(n // 4), 4)


def test_two_parameters_have_a_closed_form():
    """Each feature is seen alone, 3 of 4 and 2 of 3 times on the chosen side: the margins are log 3 and log 2."""
    gaps = {
        "one": np.array([[1.0], [1], [1], [-1], [0], [0], [0]]),
        "two": np.array([[0.0], [0], [0], [0], [1], [1], [-1]]),
    }
    probe = fit_probe(gaps, np.arange(7), candidates=[["one", "two"]], strengths=NO_PENALTY)
    assert probe.weights["one"] == pytest.approx([np.log(3)], abs=1e-4)
    assert probe.weights["two"] == pytest.approx([np.log(2)], abs=1e-4)
    assert probe.margins(gaps) == pytest.approx(gaps["one"][:, 0] * np.log(3) + gaps["two"][:, 0] * np.log(2), abs=1e-4)


def test_the_penalty_says_the_same_of_a_narrow_and_a_wide_block():
    """One column, or a hundred copies of it: either way the block may move the margin as far."""
    column = gaps_of()[0]["true"][:, :1]
    narrow = fit_probe({"a": column}, np.arange(400), candidates=[["a"]], strengths=[0.1])
    wide = fit_probe({"a": np.repeat(column, 100, axis=1)}, np.arange(400), candidates=[["a"]], strengths=[0.1])
    assert wide.weights["a"].sum() == pytest.approx(narrow.weights["a"][0], abs=1e-3)


def test_many_columns_are_fitted_through_their_kernel_with_the_same_result(monkeypatch):
    gaps, prompts = gaps_of(n=60, noise_width=200)
    options = {"candidates": [["true", "noise"]], "strengths": [1.0, 10.0]}
    through_kernel = fit_probe(gaps, prompts, **options)
    spread = bootstrap_probe(through_kernel, gaps, prompts, n_replicates=2)
    monkeypatch.setattr("pdsel.engine.probes.KERNEL", 0)
    plain = fit_probe(gaps, prompts, **options)
    np.testing.assert_allclose(through_kernel.weights["noise"], plain.weights["noise"], atol=1e-4)
    assert through_kernel.choice["loss"] == pytest.approx(plain.choice["loss"], abs=1e-4)
    other = bootstrap_probe(plain, gaps, prompts, n_replicates=2)
    np.testing.assert_allclose(spread.weights["true"], other.weights["true"], atol=1e-3)


def test_units_and_the_order_of_pairs_change_no_margin():
    gaps, prompts = gaps_of()
    probe = fit_probe(gaps, prompts, candidates=[["true", "noise"]])
    other = fit_probe(
        {name: 1000 * gap[::-1] for name, gap in gaps.items()}, prompts[::-1], candidates=[["true", "noise"]]
    )
    np.testing.assert_allclose(other.margins(gaps) * 1000, probe.margins(gaps), atol=1e-3)
    assert other.choice["strength"] == probe.choice["strength"]


def test_labels_turned_round_turn_the_reward_round():
    gaps, prompts = gaps_of()
    probe, turned = (fit_probe({"true": sign * gaps["true"]}, prompts, candidates=[["true"]]) for sign in (1, -1))
    np.testing.assert_allclose(turned.weights["true"], -probe.weights["true"], atol=1e-4)


def test_the_block_that_tells_is_chosen_and_everything_tried_is_kept():
    gaps, prompts = gaps_of()
    probe = fit_probe(gaps, prompts, candidates=[["noise"], ["true"], ["length"]], strengths=[0.1, 1.0])
    assert probe.choice["blocks"] == ["true"] and set(probe.weights) == {"true"}
    assert probe.choice["accuracy"] > 0.75
    assert len(probe.choice["candidates"]) == 6 and probe.choice["n_pairs"] == 400


def test_what_tells_prompts_apart_is_worth_nothing_since_no_prompt_is_on_both_sides():
    prompts = np.repeat(np.arange(40), 5)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], 40)
    names = np.eye(40)[prompts] * signs[prompts, None]  # a column a prompt; labels agree within a prompt
    probe = fit_probe({"names": names}, prompts, candidates=[["names"]], strengths=[10.0])
    assert probe.choice["accuracy"] == 0.5 and probe.choice["loss"] == pytest.approx(np.log(2))
    assert np.all(probe.margins({"names": names}) > 0)  # on what it was fitted to, it is always right


def test_a_pair_that_counts_twice_is_a_pair_given_twice():
    gaps, prompts = gaps_of(n=40)
    twice = {name: np.concatenate([gap, gap[:8]]) for name, gap in gaps.items()}
    counts = np.where(np.arange(40) < 8, 2, 1)
    options = {"candidates": [["true"]], "strengths": [1.0]}
    given = fit_probe(twice, np.concatenate([prompts, prompts[:8]]), **options)
    counted = fit_probe(gaps, prompts, counts=counts, **options)
    np.testing.assert_allclose(counted.weights["true"], given.weights["true"], atol=1e-4)


def test_length_as_a_nuisance_is_fitted_and_left_out_of_the_score():
    gaps, prompts = gaps_of(n=2000)
    gaps["copy"] = gaps["length"] + np.random.default_rng(1).normal(size=(2000, 1))  # knows length, and nothing else
    blocks = [["true", "copy", "length"]]
    probes = {
        length: fit_probe(gaps, prompts, candidates=blocks, strengths=[10.0], length=length)
        for length in ("feature", "nuisance", "none")
    }
    assert abs(probes["feature"].weights["copy"][0]) < 0.15 < probes["none"].weights["copy"][0]
    assert abs(probes["nuisance"].weights["copy"][0]) < 0.15 and "length" not in probes["nuisance"].weights
    assert "length" in probes["feature"].weights
    np.testing.assert_allclose(probes["nuisance"].weights["true"], [2, -1], atol=0.3)


def test_a_nuisance_is_read_though_no_candidate_names_it(pairs, tmp_path):
    options = {"kind": "probe", "model": "notesworld", "candidates": [["hd"]], "length": "nuisance"}
    probes = fit_proxies(pairs, output_dir=tmp_path, **options)
    assert all(set(load_probe(probe.path).weights) == {"hd"} for probe in probes.values())
    features = pair_features(pairs, model="notesworld", blocks=["hd"])
    first, second = probe_replicates(pairs, probes, features, n_replicates=2)
    assert not np.allclose(first, second) and list(first.columns) == list(probes)


def test_replicates_spread_as_a_logistic_regression_does():
    """With a prompt a pair and no penalty, the spread is the inverse of the information matrix."""
    gaps, _ = gaps_of(n=1500)
    prompts = np.arange(1500)
    probe = fit_probe(gaps, prompts, candidates=[["true", "length"]], strengths=NO_PENALTY)
    spread = bootstrap_probe(probe, gaps, prompts, n_replicates=200)
    columns = np.hstack([gaps["true"], gaps["length"]])
    chance = 1 / (1 + np.exp(-probe.margins(gaps)))
    errors = np.sqrt(np.diag(np.linalg.inv((columns.T * (chance * (1 - chance))) @ columns)))
    found = np.concatenate([spread.weights["true"], spread.weights["length"]]).std(axis=1)
    np.testing.assert_allclose(found, errors, rtol=0.2)
    assert spread.margins(gaps).shape == (1500, 200)


def test_prompts_are_drawn_whole():
    gaps, _ = gaps_of(n=400)
    copies = {name: np.repeat(gap[:100], 4, axis=0) for name, gap in gaps.items()}  # four equal pairs a prompt
    probe = fit_probe(copies, np.repeat(np.arange(100), 4), candidates=[["true"]], strengths=[1.0])
    grouped = bootstrap_probe(probe, copies, np.repeat(np.arange(100), 4), n_replicates=100)
    single = bootstrap_probe(probe, copies, np.arange(400), n_replicates=100)
    grouped, single = (replicates.weights["true"].std(axis=1).mean() for replicates in (grouped, single))
    assert grouped > 1.5 * single  # about twice


def test_replicates_are_the_same_again_and_others_with_another_seed():
    gaps, prompts = gaps_of(n=80)
    probe = fit_probe(gaps, prompts, candidates=[["true"]])
    first, again, other = (bootstrap_probe(probe, gaps, prompts, n_replicates=3, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.weights["true"], again.weights["true"])
    assert not np.allclose(first.weights["true"], other.weights["true"])


def test_a_probe_is_saved_and_loaded(tmp_path):
    gaps, prompts = gaps_of(n=80)
    probe = fit_probe(gaps, prompts, candidates=[["true", "noise"]], strengths=[1.0])
    probe.save(tmp_path)
    loaded = load_probe(tmp_path)
    assert np.array_equal(loaded.margins(gaps), probe.margins(gaps)) and loaded.choice == probe.choice


def test_columns_that_never_differ_weigh_nothing():
    probe = fit_probe({"flat": np.zeros((6, 2))}, np.arange(6), candidates=[["flat"]], strengths=[1.0])
    assert np.array_equal(probe.weights["flat"], [0, 0]) and probe.choice["accuracy"] == 0.5


def test_too_few_prompts_and_unknown_ways_with_length_are_refused():
    with pytest.raises(DataError, match="prompt_id: 1 prompts for a probe"):
        fit_probe({"a": np.ones((3, 1))}, ["p", "p", "p"], candidates=[["a"]])
    with pytest.raises(DataError, match="length='ignore': use one of"):
        fit_probe({"a": np.ones((3, 1))}, ["p", "q", "r"], candidates=[["a"]], length="ignore")


def test_probes_of_all_aspects_come_from_one_reading_and_judge_like_the_raters(pairs, tmp_path, monkeypatch):
    reads = []
    original = Reader.read_distinct
    monkeypatch.setattr(Reader, "read_distinct", lambda self, *texts: reads.append(1) or original(self, *texts))
    probes = fit_proxies(pairs, kind="probe", model="notesworld", output_dir=tmp_path)
    assert len(reads) == 1
    margins = score_margins(pairs, probes)
    assert len(reads) == 2 and list(margins.columns) == sorted(set(pairs["aspect"]))
    gaps = rating_gaps(pairs)[margins.columns]
    assert (np.sign(margins) == np.sign(gaps)).where(gaps != 0).mean().mean() > 0.6
    again = {aspect: load_proxy(probe.path) for aspect, probe in probes.items()}
    pd.testing.assert_frame_equal(score_margins(pairs, again), margins)


def test_a_probe_reads_no_label_of_another_aspect(pairs, tmp_path):
    """Pairs of the other aspects are turned round, and the probe of this aspect stays the same."""
    aspect = pairs["aspect"][0]
    others = [row for row, name in enumerate(pairs["aspect"]) if name != aspect]
    table = pairs.to_pandas()
    table.loc[others, ["chosen", "rejected"]] = table.loc[others, ["rejected", "chosen"]].to_numpy()
    turned = Dataset.from_pandas(table, preserve_index=False)
    probes = [
        fit_proxy(each, aspect, kind="probe", model="notesworld", output_dir=tmp_path / str(number))
        for number, each in enumerate([pairs, turned])
    ]
    margins = [score_margins(pairs, [probe])[aspect] for probe in probes]
    np.testing.assert_allclose(margins[0], margins[1], atol=1e-6)


def test_a_probe_takes_shares_draws_and_pooled_pairs_as_every_proxy_does(pairs, tmp_path):
    features = pair_features(pairs, model="notesworld")
    options = {"kind": "probe", "model": "notesworld", "features": features}
    aspect = pairs["aspect"][0]
    whole = fit_proxy(pairs, aspect, output_dir=tmp_path / "whole", **options)
    half = fit_proxy(pairs, aspect, share=0.5, output_dir=tmp_path / "half", **options)
    drawn = fit_proxy(pairs, aspect, resample=0, length_balance=1.0, output_dir=tmp_path / "drawn", **options)
    pooled = fit_proxy(pairs, None, output_dir=tmp_path / "pooled", **options)
    assert half.trained_on < whole.trained_on and len(pooled.trained_on) == len(pairs)
    assert len(drawn.trained_on) < drawn.n_pairs
    margins = score_margins(pairs, {"half": half, "drawn": drawn, "pooled": pooled}, features=features)
    assert list(margins.columns) == ["half", "drawn", "pooled"] and np.isfinite(margins).all(axis=None)


def test_probes_beside_other_kinds_keep_the_order_of_the_proxies(pairs):
    aspect = pairs["aspect"][0]
    probe = fit_proxy(pairs, aspect, kind="probe", model="notesworld")
    head = fit_proxy(pairs, aspect, kind="classifier", model="notesworld", batch_size=64)
    mixed = score_margins(pairs, {"head": head, "probe": probe})
    assert list(mixed.columns) == ["head", "probe"]
    pd.testing.assert_series_equal(mixed["probe"], score_margins(pairs, {"probe": probe})["probe"])


def test_the_rewards_of_single_responses_differ_by_the_margin(pairs):
    aspect, part = pairs["aspect"][0], pairs.select(range(6))
    probe = fit_proxy(pairs, aspect, kind="probe", model="notesworld", candidates=[["surprisal", "hd"]])
    chosen, rejected = (REWARDS["probe"](probe, part["prompt"], part[side], {}) for side in ("chosen", "rejected"))
    np.testing.assert_allclose(chosen - rejected, score_margins(part, [probe])[aspect], atol=1e-4)


@pytest.mark.parametrize("fit", [fit_proxies, lambda pairs, **options: fit_proxy(pairs, pairs["aspect"][0], **options)])
def test_a_typo_is_refused_before_a_text_is_read(pairs, fit, monkeypatch):
    monkeypatch.setattr(Reader, "__init__", lambda *given, **options: pytest.fail("a model was loaded"))
    for wrong, remedy in [({"learning_rate": 1e-3}, "learning_rate"), ({"strenghts": [1]}, "did you mean strengths?")]:
        with pytest.raises(ValueError, match=remedy):
            fit(pairs, kind="probe", model="notesworld", **wrong)
    with pytest.raises(ValueError, match="length='ignored': use one of"):
        fit(pairs, kind="probe", model="notesworld", length="ignored")


def test_surprisal_is_not_drowned_by_thousands_of_columns():
    """Only one of four columns tells who won; beside 4 000 that tell nothing it is still found, by the penalty per block."""
    gaps, prompts = gaps_of()
    gaps = {"surprisal": gaps["true"][:, :1], "W": np.random.default_rng(1).normal(size=(400, 4000))}
    together, alone = (
        fit_probe(gaps, prompts, candidates=[blocks], strengths=[3.0]) for blocks in (["surprisal", "W"], ["surprisal"])
    )
    assert together.choice["accuracy"] > alone.choice["accuracy"] - 0.05 > 0.7
    chosen = fit_probe(gaps, prompts, candidates=[["surprisal", "W"], ["surprisal"]])
    assert chosen.choice["accuracy"] >= together.choice["accuracy"]


def test_probes_leave_the_references_log_probabilities_for_dpo(pairs, tmp_path, monkeypatch):
    part = pairs.select(range(60))
    fit_proxies(part, kind="probe", model="notesworld", candidates=[["hd"]], reference_cache=tmp_path / "reference")
    files = sorted((tmp_path / "reference").rglob("*.parquet"))
    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", lambda *given: pytest.fail("the reference was read again"))
    options = {"model": "notesworld", "reference_cache": tmp_path / "reference", "max_steps": 1}
    train_dpo(part.select(range(20)), output_dir=tmp_path / "policy", **options)
    assert sorted((tmp_path / "reference").rglob("*.parquet")) == files


def test_of_more_pairs_than_fit_whole_prompts_are_drawn(pairs, tmp_path, monkeypatch):
    features = pair_features(pairs, model="notesworld", blocks=["surprisal"])
    monkeypatch.setattr("pdsel.engine.probes.MOST", 3 * 50)  # 50 pairs of three columns
    options = {"kind": "probe", "model": "notesworld", "features": features, "candidates": [["surprisal"]]}
    proxy = fit_proxy(pairs, None, output_dir=tmp_path, **options)
    n_used = load_probe(proxy.path).choice["n_pairs"]
    assert 40 < n_used <= 50 and proxy.n_pairs == len(pairs)
    assert np.isfinite(score_margins(pairs, [proxy], features=features)).all(axis=None)


def test_a_probe_refuses_what_it_has_no_use_for(pairs):
    aspect = pairs["aspect"][0]
    with pytest.raises(ValueError, match="length='nuisance' fits length, and leaves it out"):
        fit_proxy(pairs, aspect, kind="probe", model="notesworld", length_penalty=0.02)
    with pytest.raises(ValueError, match="learning_rate: there is no such option"):
        fit_proxy(pairs, aspect, kind="probe", model="notesworld", learning_rate=1e-3)
    features = pair_features(pairs, model="notesworld", blocks=["hd"], max_length=100)
    with pytest.raises(ValueError, match="at max_length=100, not of"):
        fit_proxy(pairs, aspect, kind="probe", model="notesworld", features=features)


# --- whitening ---


def wide_of(n=400, width=30, seed=0):
    """A block of very unequal columns that have much in common, and 100 prompts; the labels follow two of its directions."""
    rng = np.random.default_rng(seed)
    values = (
        rng.normal(size=(n, width)) * np.geomspace(10, 0.1, width) @ np.linalg.qr(rng.normal(size=(width, width)))[0]
    )
    signs = np.where(rng.random(n) < 1 / (1 + np.exp(-values[:, :2] @ [1.0, -1.0])), 1.0, -1.0)
    return values * signs[:, None], np.repeat(np.arange(n // 4), 4)


@pytest.mark.parametrize("axes", [None, 400, 30])
def test_without_axes_a_fit_is_the_penalised_regression_on_the_columns(axes):
    """By a plain minimiser: columns divided by their size and the root of their number. As many axes as columns are none."""
    gap, prompts = wide_of()
    probe = fit_probe({"wide": gap}, prompts, candidates=[["wide"]], axes=[axes], strengths=[3.0])
    columns = gap / np.sqrt((gap**2).mean(axis=0) * gap.shape[1])

    def loss(weights):
        return np.logaddexp(0, -columns @ weights).sum() + weights @ weights / (2 * 3.0)

    best = minimize(loss, np.zeros(columns.shape[1]), tol=1e-10).x
    assert probe.choice["axes"] is None
    np.testing.assert_allclose(probe.margins({"wide": gap}), columns @ best, atol=2e-3)


def test_whitened_the_first_principal_axes_stand_for_the_columns_all_alike_large():
    """By hand: the regression on the left singular vectors of the block, each divided by its size, the root mean square."""
    gap, prompts = wide_of()
    probe = fit_probe({"wide": gap}, prompts, candidates=[["wide"]], axes=[5], strengths=[3.0])
    left = np.linalg.svd(gap, full_matrices=False)[0][:, :5]
    columns = left / np.sqrt((left**2).mean(axis=0) * 5)

    def loss(weights):
        return np.logaddexp(0, -columns @ weights).sum() + weights @ weights / (2 * 3.0)

    best = minimize(loss, np.zeros(5), tol=1e-10).x
    assert probe.choice["axes"] == 5
    np.testing.assert_allclose(probe.margins({"wide": gap}), columns @ best, atol=2e-3)


@pytest.mark.parametrize("kernel", [2500, 0])
def test_whitening_does_not_care_how_a_block_is_turned(kernel, monkeypatch):
    """A rotation mixes all columns of a block and changes no margin, through the kernel or not; without whitening it does."""
    monkeypatch.setattr("pdsel.engine.probes.KERNEL", kernel)
    gap, prompts = wide_of()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 30)))[0]
    margins = {}
    for axes in (5, None):
        options = {"candidates": [["wide"]], "axes": [axes], "strengths": [1.0]}
        probe = fit_probe({"wide": gap}, prompts, **options)
        turned = fit_probe({"wide": gap @ rotation}, prompts, **options)
        margins[axes] = probe.margins({"wide": gap}), turned.margins({"wide": gap @ rotation})
        assert (turned.choice["loss"] == pytest.approx(probe.choice["loss"], abs=1e-3)) == (axes == 5)
    np.testing.assert_allclose(*margins[5], atol=1e-2)
    assert np.abs(np.subtract(*margins[None])).max() > 0.1


@pytest.mark.parametrize("n", [40, 8000])
def test_columns_that_depend_on_each_other_have_fewer_axes(n, monkeypatch):
    """Two columns, three times each: six columns with two axes. Four are asked for, and weights stay finite."""
    monkeypatch.setattr(probes, "KERNEL", 100)  # above, axes are found another way
    rng = np.random.default_rng(0)
    gap = np.tile(rng.normal(size=(n, 2)).astype(np.float32), 3)
    prompts = [str(i // 2) for i in range(n)]
    probe = fit_probe({"wide": gap}, prompts, candidates=[["wide"]], axes=[4], strengths=[1.0])
    two = fit_probe({"wide": gap}, prompts, candidates=[["wide"]], axes=[2], strengths=[0.5])
    assert np.isfinite(probe.weights["wide"]).all()
    np.testing.assert_allclose(probe.weights["wide"], two.weights["wide"], rtol=1e-3)


def test_axes_are_found_without_labels():
    """Whatever the labels, weights lie in the span of the same axes: those of the features, which no swap of a pair turns."""
    gap, prompts = wide_of()
    axes = np.linalg.svd(gap, full_matrices=False)[2][:5]
    signs = np.random.default_rng(2).choice([-1.0, 1.0], len(gap))
    for labelled in (gap, gap * signs[:, None]):
        weights = fit_probe({"wide": labelled}, prompts, candidates=[["wide"]], axes=[5]).weights["wide"]
        np.testing.assert_allclose(weights @ axes.T @ axes, weights, atol=1e-6 * np.abs(weights).max())
    plain = fit_probe({"wide": gap}, prompts, candidates=[["wide"]], axes=[None]).weights["wide"]
    assert np.abs(plain @ axes.T @ axes - plain).max() > 0.1 * np.abs(plain).max()


def test_axes_are_chosen_with_blocks_and_strength_and_replicates_keep_them():
    """What tells is small beside what does not; divided one by one, the columns drown it, and along the axes it shows."""
    rng = np.random.default_rng(0)
    hidden, prompts = rng.normal(size=(600, 6)), np.repeat(np.arange(150), 4)
    signs = np.where(rng.random(600) < 1 / (1 + np.exp(-3 * hidden[:, 5])), 1.0, -1.0)
    mixed = (hidden * [30.0, 30, 30, 30, 30, 1]) @ rng.normal(size=(6, 200)) * signs[:, None]
    search = {"candidates": [["mixed"]], "strengths": [1.0]}
    probe = fit_probe({"mixed": mixed}, prompts, axes=[None, 6], **search)
    assert probe.choice["axes"] == 6 and [each["axes"] for each in probe.choice["candidates"]] == [None, 6]
    assert probe.choice["accuracy"] > 0.75
    spread = bootstrap_probe(probe, {"mixed": mixed}, prompts, n_replicates=3)
    agree = np.corrcoef(probe.margins({"mixed": mixed}), spread.margins({"mixed": mixed}).mean(axis=1))[0, 1]
    assert agree > 0.95
