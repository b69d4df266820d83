"""Scores and a share to kept ids: exact counts, ties by id, and the rules of the paper's tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from pdsel.selection import random_scores, select

SCORES = st.floats(-3, 3) | st.integers(-2, 2).map(float) | st.sampled_from([-0.0, float("inf"), -float("inf")])
SHARES = st.floats(0, 1, exclude_min=True) | st.fractions(0, 1, max_denominator=8).map(float).filter(bool)


@st.composite
def scored(draw):
    """Scores with many ties under ids in no order, and a share that keeps at least one pair."""
    values = draw(st.lists(SCORES, min_size=1, max_size=30))
    ids = draw(st.permutations([f"z{i}" for i in range(len(values))]))
    share = draw(SHARES)
    assume(round(share * len(values)) > 0)
    return pd.Series(values, index=ids), share


def brute_force(scores, share):
    return sorted(scores.index, key=lambda pair: (scores[pair], pair))[: round(share * len(scores))]


@given(scored())
def test_select_is_a_sort_by_score_and_id(case):
    assert list(select(*case)) == brute_force(*case)


@given(scored())
def test_highest_is_lowest_of_the_negated_scores(case):
    scores, share = case
    assert list(select(scores, share, keep="highest")) == list(select(-scores, share))


@given(scored(), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(case, random):
    scores, share = case
    shuffled = scores[random.sample(list(scores.index), len(scores))]
    for keep in ("lowest", "highest"):
        assert list(select(shuffled, share, keep=keep)) == list(select(scores, share, keep=keep))


@given(st.integers(1, 5000), SHARES)
def test_exactly_the_share_is_kept(n, share):
    assume(round(share * n) > 0)
    scores = pd.Series(np.arange(n) % 7, index=[f"{i:05d}" for i in range(n)])
    kept = select(scores, share)
    assert len(kept) == len(set(kept)) == round(share * n)
    assert scores[kept].max() <= scores.drop(kept).min() if len(kept) < n else set(kept) == set(scores.index)


def test_ties_are_broken_by_pair_id():
    scores = pd.Series(0.0, index=["c", "a", "d", "b"])
    assert list(select(scores, 0.5)) == list(select(scores, 0.5, keep="highest")) == ["a", "b"]


def test_ids_may_be_numbers():
    assert list(select(pd.Series([1.0, 1.0, 1.0], index=[10, 9, 2]), 0.7)) == [2, 9]


def test_nested_shares_are_nested():
    scores = random_scores({"pair_id": [f"z{i}" for i in range(100)]})
    assert list(select(scores, 0.3)) == list(select(scores, 0.5)[:30])


SEVEN = [f"z{i}" for i in range(7)]
NAMES = r": 7 \(first: z0, z1, z2, z3, z4\)\. Remedy: \w+"
REFUSED = {
    "NaN": (pd.Series(np.nan, index=SEVEN, name="pd"), 0.5, rf"scores \(pd\) is NaN{NAMES}"),
    "null": (pd.Series([None] * 7, index=SEVEN), 0.5, rf"scores \(unnamed\) is NaN{NAMES}"),
    "duplicates": (pd.Series(0.0, index=SEVEN * 2), 0.5, f"scores: pair_id occurs more than once{NAMES}"),
    "share 0": (pd.Series(0.0, index=SEVEN), 0, r"share=0 is not in \(0, 1\]"),
    "share below 0": (pd.Series(0.0, index=SEVEN), -0.3, r"share=-0\.3 is not in \(0, 1\]"),
    "share a little above 1": (pd.Series(0.0, index=SEVEN), 1.2, r"share=1\.2 is not in \(0, 1\]"),
    "share above 1": (
        pd.Series(0.0, index=SEVEN),
        30,
        r"share=30 is not in \(0, 1\]: it is the fraction .*such as 0\.3",
    ),
    "share NaN": (pd.Series(0.0, index=SEVEN), float("nan"), r"share=nan is not in \(0, 1\]"),
    "share True": (pd.Series(0.0, index=SEVEN), True, r"share=True is not in \(0, 1\]"),
    "keeps no pair": (pd.Series(0.0, index=SEVEN), 0.05, "share=0.05 of 7 pairs keeps no pair. Remedy: a larger share"),
    "no pairs": (pd.Series([], dtype=float), 0.5, "share=0.5 of 0 pairs keeps no pair"),
}


@pytest.mark.parametrize(("scores", "share", "problem"), REFUSED.values(), ids=REFUSED)
def test_bad_scores_and_shares_are_refused(scores, share, problem):
    with pytest.raises(ValueError, match=problem):
        select(scores, share)


def test_an_unknown_end_is_refused():
    with pytest.raises(ValueError, match="keep='best': use 'lowest' or 'highest'"):
        select(pd.Series([0.0]), 1, keep="best")


def errors(**values):
    return pd.Series(values, dtype=float)


def test_cautious_selection_by_hand():
    """At worst: a -2 + 1.5 = -.5, b -1 + .1 = -.9, c 0 + 0 = 0; from the other end c 0, b -1.1, a -3.5."""
    scores, error = errors(a=-2, b=-1, c=0), errors(c=0, b=0.1, a=1.5)
    assert list(select(scores, 1, standard_error=error)) == ["b", "a", "c"]
    assert list(select(scores, 1, keep="highest", standard_error=error)) == ["c", "b", "a"]
    assert list(select(scores, 0.34, keep="highest", standard_error=errors(a=0, b=0, c=1.5))) == ["b"]
    assert list(select(scores, 0.67, standard_error=3 * error)) == ["b", "c"]


@st.composite
def uncertain(draw):
    scores, share = draw(scored())
    values = draw(st.lists(st.floats(0, 3) | st.integers(0, 2).map(float), min_size=len(scores), max_size=len(scores)))
    return scores, share, pd.Series(values, index=scores.index)


@given(uncertain(), st.randoms(use_true_random=False))
def test_cautious_selection_is_selection_by_the_worse_end(case, random):
    scores, share, error = case
    shuffled = pd.concat([error, errors(other=-1)])[random.sample([*scores.index, "other"], len(scores) + 1)]
    assert list(select(scores, share, standard_error=shuffled)) == brute_force(scores + error, share)
    highest = select(scores, share, keep="highest", standard_error=shuffled)
    assert list(highest) == list(select(scores - error, share, keep="highest"))


@given(scored(), st.sampled_from(["lowest", "highest"]))
def test_no_uncertainty_changes_nothing(case, keep):
    scores, share = case
    certain = select(scores, share, keep=keep, standard_error=pd.Series(0.0, index=scores.index))
    assert list(certain) == list(select(scores, share, keep=keep))


@given(scored(), st.floats(0, 3))
def test_equal_uncertainty_keeps_the_scores_order(case, size):
    scores, share = case
    kept = select(scores, share, standard_error=pd.Series(size, index=scores.index))
    assert list(kept) == brute_force(scores + size, share)
    assert scores[kept].is_monotonic_increasing or len(set(scores + size)) < len(set(scores)), "only rounding ties"


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (pd.Series(1.0, index=[]), f"standard_error has no entry for a pair{NAMES}"),
        (pd.Series(-0.1, index=SEVEN), f"standard_error is negative, NaN or infinite{NAMES}"),
        (pd.Series(np.nan, index=SEVEN), f"standard_error is negative, NaN or infinite{NAMES}"),
        (pd.Series(np.inf, index=SEVEN), f"standard_error is negative, NaN or infinite{NAMES}"),
        (pd.Series(1.0, index=SEVEN * 2), f"standard_error has several entries for a pair{NAMES}"),
        (pd.Series(1.0, index=SEVEN[:6]), r"standard_error has no entry for a pair: 1 \(first: z6\)\. Remedy: pass"),
    ],
    ids=["absent", "negative", "NaN", "infinite", "repeated", "one absent"],
)
def test_bad_standard_errors_are_refused(error, problem):
    with pytest.raises(ValueError, match=problem):
        select(pd.Series(0.0, index=SEVEN), 0.5, standard_error=error)


def test_random_scores_belong_to_the_pair_and_the_seed(pairs):
    scores = random_scores(pairs)
    shuffled = random_scores(pairs.select(np.random.default_rng(0).permutation(len(pairs))))
    assert shuffled.loc[scores.index].equals(scores) and not shuffled.index.equals(scores.index)
    assert (random_scores(pairs, seed=1) != scores).all()
    assert random_scores(pairs.select(range(5))).equals(scores[:5])


def test_random_scores_are_uniform_and_free_of_the_seeds_order():
    ids = {"pair_id": [f"z{i}" for i in range(5000)]}
    scores, other = random_scores(ids), random_scores(ids, seed=1)
    assert scores.between(0, 1, inclusive="left").all()
    assert np.histogram(scores, bins=10, range=(0, 1))[0] == pytest.approx(np.full(10, 500), abs=85)  # 4 sd
    assert abs(np.corrcoef(scores, other)[0, 1]) < 0.06


@pytest.mark.parametrize("conflict", [0.1, 0.3])
def test_random_pairs_conflict_as_often_as_all_of_them(conflict):
    """`make_pairs` leaves pairs out by digest, too: the same draw would keep the pairs of no level in particular."""
    from pdsel.experiments.proxy_studies import make_world

    pairs, _ = make_world(0, n_pairs=800, conflict=conflict)
    kept = set(select(random_scores(pairs), 0.5))
    level = np.mean([row["conflict"] for row in pairs if row["pair_id"] in kept])
    assert level == pytest.approx(conflict, abs=3 * np.sqrt(conflict * (1 - conflict) / 400))
    scores = random_scores(pairs).to_numpy()
    labels = np.array(pairs["conflict"])
    assert stats.ks_2samp(scores[labels], scores[~labels]).pvalue > 0.01
