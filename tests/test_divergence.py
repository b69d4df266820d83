"""The PD term against explicit loops, its symmetries, and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from pdsel.data.gaps import rating_gaps
from pdsel.divergence import aligned, preference_divergence, rating_divergence, scale_margins
from pdsel.pairs import make_pairs

NAN = float("nan")
FINITE = st.floats(-1e3, 1e3)


@st.composite
def labelled_margins(draw, values=FINITE, max_pairs=10):
    """Margins of 1-10 pairs on 2-5 aspects, and the aspect of each pair's label."""
    n, kappa = draw(st.integers(1, max_pairs)), draw(st.integers(2, 5))
    names, ids = list("edcba")[:kappa], [f"z{i}" for i in range(n)]
    table = draw(st.lists(st.lists(values, min_size=kappa, max_size=kappa), min_size=n, max_size=n))
    labels = draw(st.lists(st.sampled_from(names), min_size=n, max_size=n))
    return pd.DataFrame(table, index=ids, columns=names), pd.Series(labels, index=ids)


def loop(margins, aspect, weights=None):
    """PD as the paper writes it, one pair and one aspect after the other."""
    weights = weights or dict.fromkeys(margins.columns, 1)
    return {
        z: -sum(weights[k] / weights[aspect[z]] * margins.loc[z, k] for k in margins.columns if k != aspect[z])
        for z in margins.index
    }


def same(first, second):
    return list(first.index) == list(second.index) and (first == second).all()


def hand_example():
    margins = pd.DataFrame(
        {"honesty": [NAN, 0.3, -0.2, -0.6], "help": [0.5, 0.9, 0.1, -0.7], "safety": [0.4, -0.3, 0.8, 0.2]},
        index=["z1", "z2", "z3", "z4"],
    )
    return margins, pd.Series({"z1": "honesty", "z2": "help", "z3": "help", "z4": "safety"})


def test_hand_example_of_the_docstring():
    found = preference_divergence(*hand_example())
    assert found.to_dict() == pytest.approx({"z1": -0.9, "z2": 0.0, "z3": -0.6, "z4": 1.3})
    assert found.to_dict() == pytest.approx(loop(*hand_example()))
    assert found.name == "pd"


def test_hand_example_with_weights():
    weights = {"honesty": 2, "help": 1, "safety": 1}
    found = preference_divergence(*hand_example(), weights=weights)
    assert found.to_dict() == pytest.approx({"z1": -0.45, "z2": -0.3, "z3": -0.4, "z4": 1.9})
    assert found.to_dict() == pytest.approx(loop(*hand_example(), weights))


@given(labelled_margins())
def test_pd_is_the_sum_over_the_other_aspects(case):
    assert preference_divergence(*case).to_dict() == pytest.approx(loop(*case))


@given(labelled_margins(), st.lists(st.floats(0.01, 100), min_size=5, max_size=5))
def test_weighted_pd_follows_the_formula(case, weights):
    weights = dict(zip("abcde", weights, strict=True))
    assert preference_divergence(*case, weights=weights).to_dict() == pytest.approx(loop(*case, weights), abs=1e-9)


@given(labelled_margins(), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(case, random):
    margins, aspect = case
    order = random.sample(list(margins.index), len(margins))
    assert same(preference_divergence(margins.loc[order], aspect), preference_divergence(margins, aspect)[order])
    assert same(preference_divergence(margins, aspect[order]), preference_divergence(margins, aspect))


@given(labelled_margins(), st.randoms(use_true_random=False))
def test_aspect_order_does_not_matter_to_the_bit(case, random):
    margins, aspect = case
    columns = random.sample(list(margins), margins.shape[1])
    assert same(preference_divergence(margins[columns], aspect), preference_divergence(margins, aspect))


@given(labelled_margins(), st.sampled_from([NAN, float("inf"), -float("inf"), 0.0, 1e9]))
def test_the_own_aspects_margins_are_never_read(case, value):
    margins, aspect = case
    other = margins.copy()
    for pair, name in aspect.items():
        other.loc[pair, name] = value
    assert same(preference_divergence(other, aspect), preference_divergence(margins, aspect))


@given(labelled_margins())
def test_swapping_chosen_and_rejected_flips_the_sign(case):
    margins, aspect = case
    assert same(preference_divergence(-margins, aspect), -preference_divergence(margins, aspect))


@given(labelled_margins(), st.floats(1e-3, 1e3))
def test_equal_weights_are_no_weights_to_the_bit(case, weight):
    weighted = preference_divergence(*case, weights=dict.fromkeys("abcde", weight))
    assert same(weighted, preference_divergence(*case))


@given(labelled_margins(), st.lists(st.floats(0.01, 100), min_size=5, max_size=5), st.floats(0.01, 100))
def test_only_the_ratios_of_the_weights_matter(case, weights, factor):
    weights = dict(zip("abcde", weights, strict=True))
    scaled = {name: factor * weight for name, weight in weights.items()}
    found, expected = (preference_divergence(*case, weights=each) for each in (scaled, weights))
    assert found.to_dict() == pytest.approx(expected.to_dict(), rel=1e-9, abs=1e-6)  # terms up to 1e7 may cancel


def test_a_growing_weight_by_hand():
    """Honesty's weight 3: z1, labelled on it, is divided by 3; elsewhere honesty's margin counts three times.

    z1: -(.5 + .4)/3; z2: -(3*.3 - .3); z3: -(3*(-.2) + .8); z4: -(3*(-.6) - .7).
    """
    found = preference_divergence(*hand_example(), weights={"honesty": 3, "help": 1, "safety": 1})
    assert found.to_dict() == pytest.approx({"z1": -0.3, "z2": -0.6, "z3": -0.2, "z4": 2.5})


@given(labelled_margins(), st.sampled_from("de"), st.floats(0.1, 10))
def test_a_growing_weight_moves_its_own_pairs_and_its_own_terms_alone(case, grown, factor):
    margins, aspect = case
    before = preference_divergence(margins, aspect)
    after = preference_divergence(margins, aspect, weights=dict.fromkeys("abcde", 1.0) | {grown: factor})
    own = aspect == grown
    assert after[own].to_dict() == pytest.approx((before[own] / factor).to_dict(), abs=1e-6)
    moved = before[~own] - (factor - 1) * margins.loc[~own, grown]
    assert after[~own].to_dict() == pytest.approx(moved.to_dict(), abs=1e-6)


def test_extra_pairs_in_aspect_are_ignored():
    margins, aspect = hand_example()
    assert same(
        preference_divergence(margins, pd.concat([pd.Series({"z0": "help"}), aspect])),
        preference_divergence(margins, aspect),
    )


def test_scale_margins_by_hand():
    """Five pairs on b give |m_a| = 0, 1, 2, 3, 4: its .75 quantile is 3. One pair on a: |m_b| = 8."""
    margins = pd.DataFrame({"a": [100.0, 0.0, -1.0, 2.0, -3.0, 4.0], "b": [8.0, 2.0, -40.0, NAN, 4.0, 1.0]})
    aspect = pd.Series(["a", "b", "b", "b", "b", "b"])
    scaled = scale_margins(margins, aspect, quantile=0.75)
    assert scaled["a"].tolist() == pytest.approx([1, 0, -1 / 3, 2 / 3, -1, 1])
    assert scaled["b"].tolist() == pytest.approx([1, 1 / 4, -1, NAN, 1 / 2, 1 / 8], nan_ok=True)


@given(labelled_margins(), st.floats(0.01, 1))
@pytest.mark.filterwarnings("ignore:all margins of aspect", "ignore:overflow encountered in divide")
def test_scaled_margins_keep_their_signs_within_one(case, quantile):
    margins, aspect = case
    scaled = scale_margins(margins, aspect, quantile=quantile)
    assert scaled.abs().max(axis=None) <= 1
    assert (scaled * margins >= 0).all(axis=None)
    assert scaled.index.equals(margins.index) and scaled.columns.equals(margins.columns)


@given(labelled_margins(values=st.floats(0.1, 10)), st.floats(0.1, 10))
def test_the_scale_comes_from_the_other_aspects_pairs_alone(case, value):
    margins, aspect = case
    changed = margins.copy()
    for pair, name in aspect.items():
        changed.loc[pair, name] = value
    others = pd.DataFrame({name: aspect != name for name in margins})
    before, after = (scale_margins(table, aspect).where(others) for table in (margins, changed))
    pd.testing.assert_frame_equal(before, after, check_exact=True)


@given(labelled_margins(values=st.floats(-10, 10).filter(lambda value: abs(value) > 0.01)), st.integers(-20, 20))
def test_the_unit_of_the_margins_does_not_matter(case, exponent):
    margins, aspect = case
    pd.testing.assert_frame_equal(scale_margins(margins * 2.0**exponent, aspect), scale_margins(margins, aspect))


def test_an_aspect_without_any_margin_warns_by_name():
    margins = pd.DataFrame({"a": [5.0, 0.0, 0.0], "b": [2.0, 1.0, 1.0]})
    aspect = pd.Series(["a", "b", "b"])
    with pytest.warns(UserWarning, match="all margins of aspect 'a' are zero: it contributes nothing"):
        scaled = scale_margins(margins, aspect)
    assert scaled["a"].tolist() == [0, 0, 0]


@pytest.mark.filterwarnings("ignore:all margins of aspect 'a'")
def test_an_aspect_without_any_margin_contributes_nothing():
    margins = pd.DataFrame({"a": [5.0, 0.0, 0.0], "b": [2.0, -1.0, 1.0], "c": [4.0, 1.0, 1.0]})
    aspect = pd.Series(["a", "b", "c"])
    found = preference_divergence(scale_margins(margins, aspect, quantile=1), aspect)
    assert found.tolist() == [-(1 + 1), -(0 + 0.25), -(0 + 0.5)]


@pytest.mark.parametrize(("quantile", "scale"), [(1, 1000), (0.9, 10)])
def test_one_outlier_shrinks_the_other_margins_unless_the_quantile_cuts_it(quantile, scale):
    """|m_a| = 1, 2, ..., 10 and 1000: the largest is 1000, the .9 quantile (the tenth of eleven) is 10."""
    margins = pd.DataFrame({"a": [*range(1, 11), -1000, 7.0], "b": [1.0] * 12})
    scaled = scale_margins(margins, pd.Series(["b"] * 11 + ["a"]), quantile=quantile)
    assert scaled["a"].tolist()[:10] == pytest.approx([m / scale for m in range(1, 11)])
    assert scaled["a"][10] == -1
    assert scaled["b"].tolist() == [1.0] * 12, "an outlier in one aspect is no other's affair"


def test_mostly_zero_margins_are_scaled_by_the_largest():
    margins = pd.DataFrame({"a": [0.0] * 19 + [4.0, 1.0], "b": [1.0] * 21})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = scale_margins(margins, pd.Series(["b"] * 20 + ["a"]), quantile=0.9)
    assert scaled["a"].tolist() == [0.0] * 19 + [1.0, 0.25]


def test_rating_divergence_by_hand(hand_pairs):
    """The largest foreign gaps are |-4| for a, 2 for b and 1 for c; own gaps (9) do not count."""
    pairs = hand_pairs(
        ("a", [9.0, 2.0, -1.0], 1.0),
        ("b", [-4.0, 9.0, 1.0], 1.0),
        ("c", [2.0, -1.0, 9.0], 1.0),
        ("c", [0.0, 0.0, 1.0], 1.0),
    )
    found = rating_divergence(pairs)
    assert found.to_dict() == {"z0": -(1 - 1), "z1": -(-1 + 1), "z2": -(0.5 - 0.5), "z3": 0}
    fewer = rating_divergence(pairs.select([0, 2, 3]))  # without z1 the largest are 2, 2 and 1
    assert fewer.to_dict() == {"z0": -(1 - 1), "z2": -(1 - 0.5), "z3": 0}


def test_rating_divergence_is_negative_where_the_ratings_agree(pairs):
    found = rating_divergence(pairs)
    gaps = rating_gaps(pairs)
    assert list(found.index) == list(pairs["pair_id"])
    assert (found[(gaps > 0).all(axis=1)] < 0).all()
    assert found.between(-3, 3).all()
    assert found[np.array(pairs["conflict"])].mean() > found[~np.array(pairs["conflict"])].mean()


def test_the_order_in_which_aspects_are_asked_for_does_not_matter(ratings):
    """Guessed from the labels, the order of a subset whose gaps all are positive was always taken as alphabetical."""
    pairs = make_pairs(ratings, aspects=["truthfulness", "honesty"])
    assert list(pairs.features["rating_gaps"]) == ["truthfulness", "honesty"]
    agreeing = pairs.select(np.flatnonzero((rating_gaps(pairs) > 0).all(axis=1)))
    turned = [row | {"rating_gaps": dict(reversed(row["rating_gaps"].items()))} for row in agreeing]
    assert same(rating_divergence(agreeing), rating_divergence(Dataset.from_list(turned)))


def test_rating_divergence_of_a_subset_in_which_all_gaps_are_positive(hand_pairs):
    """The aspects were asked for as b, a; the largest foreign gaps are 2 for a and 8 for b."""
    pairs = hand_pairs(
        ("a", {"b": 8.0, "a": 1.0}, 1.0),
        ("a", {"b": 2.0, "a": 9.0}, 1.0),
        ("b", {"b": 9.0, "a": 2.0}, 1.0),
        ("b", {"b": 1.0, "a": 0.5}, 1.0),
    )
    assert rating_divergence(pairs).to_dict() == {"z0": -1.0, "z1": -0.25, "z2": -1.0, "z3": -0.25}


def test_gaps_without_names_are_refused(hand_pairs):
    pairs = hand_pairs(("a", {"a": 1.0, "b": 1.0}, 1.0)).remove_columns("rating_gaps")
    with pytest.raises(
        ValueError, match=r"rating_gaps does not name the aspects: 1 \(first: z0\)\. Remedy: make the pairs"
    ):
        rating_divergence(pairs.add_column("rating_gaps", [[1.0, 1.0]]))


def test_rating_divergence_refuses_an_absent_rating_or_column(hand_pairs):
    pairs = hand_pairs(*[("a", [1.0, NAN], 1.0)] * 7, ("b", [1.0, 1.0], 1.0))
    seven = r"7 \(first: z0, z1, z2, z3, z4\)\. Remedy"
    with pytest.raises(ValueError, match=rf"margins\['b'\] is NaN or infinite where another aspect needs it: {seven}"):
        rating_divergence(pairs)
    with pytest.raises(ValueError, match=r"pairs table: column missing: 1 \(first: rating_gaps\)\. Remedy"):
        rating_divergence(pairs.remove_columns("rating_gaps"))


def table(**columns):
    margins = pd.DataFrame(
        {"a": [1.0] * 7, "b": [2.0] * 7, "c": [3.0] * 7} | columns, index=[f"z{i}" for i in range(7)]
    )
    return margins, pd.Series("a", index=margins.index)


def without(case, pairs):
    return case[0], case[1].drop(pairs)


SEVEN = r": 7 \(first: z0, z1, z2, z3, z4\)\. Remedy: \w+"
REFUSED = {
    "NaN": (table(b=[NAN] * 7), rf"margins\['b'\] is NaN or infinite where another aspect needs it{SEVEN}"),
    "infinite": (
        table(c=[float("inf")] * 7),
        rf"margins\['c'\] is NaN or infinite where another aspect needs it{SEVEN}",
    ),
    "kappa = 1": ((table()[0][["a"]], table()[1]), r"margins: 1 aspect \(kappa = 1\).*at least two"),
    "kappa = 0": ((table()[0][[]], table()[1]), r"margins: 0 aspect \(kappa = 0\)"),
    "unknown aspect": (
        (table()[0], pd.Series("d", index=table()[0].index)),
        r"column missing for an aspect: 1 \(first: d\)",
    ),
    "pair without aspect": (
        without(table(), ["z1", "z5"]),
        r"aspect has no entry for a pair: 2 \(first: z1, z5\)\. Remedy",
    ),
    "repeated pair": (
        tuple(pd.concat([part, part]) for part in table()),
        f"margins: pair_id occurs more than once{SEVEN}",
    ),
}


@pytest.mark.parametrize("function", [preference_divergence, scale_margins])
@pytest.mark.parametrize(("case", "problem"), REFUSED.values(), ids=REFUSED)
def test_bad_margins_are_refused_with_column_ids_and_remedy(function, case, problem):
    with pytest.raises(ValueError, match=problem):
        function(*case)


def test_a_pair_with_two_aspects_is_refused():
    margins, aspect = table()
    with pytest.raises(ValueError, match=r"aspect.*1 \(first: z6\)"):
        preference_divergence(margins, pd.concat([aspect, pd.Series({"z6": "b"})]))


def test_a_repeated_aspect_is_refused():
    margins, aspect = table()
    with pytest.raises(ValueError, match=r"margins.*1 \(first: b\)"):
        preference_divergence(pd.concat([margins, margins[["b"]]], axis=1), aspect)


@pytest.mark.parametrize("quantile", [0, -0.1, 1.1, NAN])
def test_a_bad_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match=rf"quantile={quantile} is not in \(0, 1\]"):
        scale_margins(*table(), quantile=quantile)


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"a": 1}, r"weights: aspect has no weight: 2 \(first: b, c\)\. Remedy"),
        ({"a": 1, "b": 0, "c": -1}, r"weights is not positive and finite: 2 \(first: b, c\)\. Remedy"),
        ({"a": 1, "b": NAN, "c": float("inf")}, r"weights is not positive and finite: 2 \(first: b, c\)\. Remedy"),
    ],
)
def test_bad_weights_are_refused(weights, problem):
    with pytest.raises(ValueError, match=problem):
        preference_divergence(*table(), weights=weights)


@given(labelled_margins(), st.randoms(use_true_random=False))
def test_aligned_is_a_look_up_by_id(case, random):
    margins, aspect = case
    more = pd.concat([aspect, pd.Series({"other": "e"})])
    shuffled = more[random.sample(list(more.index), len(more))]
    found = aligned(shuffled, margins.index, "aspect")
    assert list(found.index) == list(margins.index)
    assert list(found) == [shuffled[pair] for pair in margins.index]
