"""The methods of the paper's tables: what their rules keep, and which pairs each method trains on."""

import numpy as np
import pandas as pd
import pytest

from pdsel.data.gaps import rating_gaps
from pdsel.pairs import relabel
from pdsel.rules import RULES, keep_all, score_all
from pdsel.rules.methods import FULL, SELECTED, training_pairs


@pytest.fixture
def margins(pairs):
    """Margins as proxies would give them: the rating gaps with noise, and one pooled reward."""
    rng = np.random.default_rng(0)
    gaps = rating_gaps(pairs)
    noisy = gaps + rng.normal(size=gaps.shape)
    return noisy.assign(pooled=rng.normal(size=len(gaps)))


def score_rules(pairs, margins):
    """The scores of the paper's rules, as notebook 03 asks for them."""
    signals = {"pairs": pairs, "margins": margins.drop(columns="pooled"), "pooled": margins["pooled"]}
    return score_all(signals, SELECTED)


@pytest.fixture
def kept(pairs, margins):
    return keep_all(score_rules(pairs, margins), 0.3)


def test_every_rule_keeps_its_share_best_first(pairs, margins, kept):
    scores = score_rules(pairs, margins)
    assert list(scores) == SELECTED == list(kept["method"].unique())
    assert list(scores.index) == list(pairs["pair_id"]) and scores.index.name == "pair_id"
    for rule, part in kept.groupby("method"):
        found = scores.loc[part["pair_id"], rule]
        assert list(part["rank"]) == list(range(round(0.3 * len(pairs))))
        assert found.is_monotonic_decreasing if RULES[rule].keeps == "highest" else found.is_monotonic_increasing


def test_pd_and_pd_high_share_scores_but_no_pair(pairs, margins, kept):
    scores = score_rules(pairs, margins)
    assert scores["PD"].equals(scores["PD(high)"])
    ids = kept.groupby("method")["pair_id"].agg(set)
    assert not ids["PD"] & ids["PD(high)"]
    assert scores["PD"][list(ids["PD"])].max() < scores["PD"][list(ids["PD(high)"])].min()


def test_raf_keeps_the_largest_pooled_margin(margins, kept):
    ids = kept.loc[kept["method"] == "RAF", "pair_id"]
    assert margins.loc[ids, "pooled"].min() > margins.drop(ids)["pooled"].max()


def test_rules_do_not_depend_on_the_order_of_the_pairs(pairs, margins, kept):
    order = np.random.default_rng(0).permutation(len(pairs))
    shuffled = score_rules(pairs.select(order), margins.iloc[order[::-1]])
    pd.testing.assert_frame_equal(keep_all(shuffled, 0.3), kept)


def test_scores_need_every_pairs_margins(pairs, margins):
    with pytest.raises(ValueError, match=r"margins\['honesty'\] is NaN or infinite .*\. Remedy"):
        score_rules(pairs, margins.assign(honesty=np.nan))


@pytest.mark.parametrize("method", SELECTED)
def test_a_rule_trains_on_its_kept_pairs_in_table_order(pairs, kept, method):
    found = list(training_pairs(method, pairs, kept)["pair_id"])
    ids = set(kept.loc[kept["method"] == method, "pair_id"])
    assert found == [pair for pair in pairs["pair_id"] if pair in ids]
    assert len(found) == round(0.3 * len(pairs))
    assert (
        training_pairs(method, pairs, kept.sample(frac=1, random_state=0)).to_list()
        == training_pairs(method, pairs, kept).to_list()
    )


@pytest.mark.parametrize("method", FULL)
def test_full_methods_train_on_all_pairs(pairs, method):
    by = {"OVA": "overall", "AVG": "mean_rating"}.get(method)
    expected = relabel(pairs, by=by) if by else pairs
    assert training_pairs(method, pairs, None).to_list() == expected.to_list()


def test_training_pairs_refuses_unknown_methods_and_foreign_ids(pairs, kept):
    with pytest.raises(ValueError, match=r"method='PD\+': use one of \['OVA', .*'PD\(high\)'\]"):
        training_pairs("PD+", pairs, kept)
    first = list(kept.loc[kept["method"] == "PD", "pair_id"])
    with pytest.raises(
        ValueError, match=rf"pair_id kept but not in the pairs table: {len(first) - 3} \(first: .*Remedy"
    ):
        training_pairs("PD", pairs.filter(lambda row: row["pair_id"] in first[:3], load_from_cache_file=False), kept)
