"""Rated prompts to pairs: one label each, exact conflict levels, relabelling, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from pdsel.data.gaps import mean_gap, own_gap, rating_gaps
from pdsel.data.messages import word_counts
from pdsel.data.subsets import at_level, fully_rated, hold_out, sample_prompts
from pdsel.pairs import check_pairs, compare_responses, flip_labels, make_pairs, pair_id, relabel
from pdsel.ratings import load_ratings

NAN = float("nan")


def frame(pairs):
    return pairs.to_pandas()


def test_columns_are_those_of_the_contract(pairs):
    assert pairs.column_names == [
        "pair_id",
        "prompt_id",
        "prompt",
        "chosen",
        "rejected",
        "aspect",
        "chosen_model",
        "rejected_model",
        "rating_gaps",
        "overall_gap",
        "conflict",
    ]
    check_pairs(pairs)


def test_parts_are_disjoint_by_prompt_and_about_equal(pairs, ratings):
    parts = frame(pairs).groupby("prompt_id")["aspect"].agg(set)
    assert (parts.map(len) == 1).all()
    shares = parts.map(lambda part: next(iter(part))).value_counts()
    assert set(shares.index) == set(ratings[0]["ratings"])
    assert shares.max() - shares.min() <= 3  # 15 prompts each, less those that only tie


def test_own_gap_is_positive_and_gaps_are_chosen_minus_rejected(pairs, ratings):
    table = {row["prompt_id"]: row for row in ratings}
    aspects = list(ratings[0]["ratings"])
    for pair in pairs:
        prompt = table[pair["prompt_id"]]
        better, worse = (prompt["responses"].index(pair[side]) for side in ("chosen", "rejected"))
        assert pair["rating_gaps"] == {a: prompt["ratings"][a][better] - prompt["ratings"][a][worse] for a in aspects}
        assert pair["rating_gaps"][pair["aspect"]] > 0
        assert pair["overall_gap"] == prompt["overall"][better] - prompt["overall"][worse]
        assert (pair["chosen_model"], pair["rejected_model"]) == (prompt["models"][better], prompt["models"][worse])
        assert pair["prompt"] == prompt["prompt"]
        assert pair["pair_id"] == pair_id(*(pair[c] for c in ("prompt", "chosen", "rejected", "aspect")))


def test_every_untied_pair_of_the_own_aspect_is_there(pairs, ratings):
    part = dict(zip(pairs["prompt_id"], pairs["aspect"], strict=True))
    compared = compare_responses(ratings)
    names = np.array(ratings["prompt_id"])[compared["row"]]
    untied = sum(
        row[part[name]] != 0 for name, (_, row) in zip(names, compared.iterrows(), strict=True) if name in part
    )
    assert untied == len(pairs)


def test_conflict_means_a_negative_overall_gap(pairs):
    table = frame(pairs)
    assert (table["conflict"] == (table["overall_gap"] < 0)).all()
    assert 0 < table["conflict"].sum() < len(table) / 2


@pytest.mark.parametrize("level", [0.0, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("size", [None, 97])
def test_conflict_level_and_size_are_exact(ratings, level, size):
    pairs = make_pairs(ratings, conflict=level, size=size)
    assert size is None or len(pairs) == size
    assert sum(pairs["conflict"]) == round(level * len(pairs))
    assert set(pairs["pair_id"]) <= set(make_pairs(ratings)["pair_id"])


def test_a_conflict_level_keeps_as_many_pairs_as_it_can(ratings, pairs):
    n_conflict = sum(pairs["conflict"])
    assert len(make_pairs(ratings, conflict=0.5)) == 2 * n_conflict
    assert len(make_pairs(ratings, conflict=1.0)) == n_conflict
    assert len(make_pairs(ratings, conflict=0.0)) == len(pairs) - n_conflict


def test_a_conflict_level_that_divides_evenly_uses_all_pairs(hand_ratings):
    agreeing = [(["yes", "no"], {"a": [2.0, 1.0], "b": [2.0, 1.0]}, [2.0, 1.0])]
    conflicting = [(["yes", "no"], {"a": [2.0, 1.0], "b": [2.0, 1.0]}, [1.0, 2.0])]
    assert len(make_pairs(hand_ratings(*(3 * agreeing + 7 * conflicting)), conflict=0.7)) == 10


def test_size_without_a_level(ratings):
    pairs = make_pairs(ratings, size=50)
    assert len(pairs) == 50 and len(set(pairs["prompt_id"])) > 25  # from all over the data, not from its first prompts


@pytest.mark.parametrize("options", [{}, {"conflict": 0.3}, {"conflict": 0.2, "size": 60}, {"size": 60}])
def test_the_order_of_the_prompts_does_not_matter(ratings, options):
    shuffled = ratings.select(np.random.default_rng(0).permutation(len(ratings)))
    assert make_pairs(shuffled, **options).to_list() == make_pairs(ratings, **options).to_list()


def test_the_seed_changes_who_labels_what(ratings, pairs):
    part, other = (dict(zip(p["prompt_id"], p["aspect"], strict=True)) for p in (pairs, make_pairs(ratings, seed=1)))
    changed = [part[name] != other[name] for name in set(part) & set(other)]
    assert 0.5 < np.mean(changed) < 1


def test_aspects_can_be_chosen(ratings):
    pairs = make_pairs(ratings, aspects=["truthfulness", "honesty"])
    assert set(pairs["aspect"]) == {"truthfulness", "honesty"}
    assert list(pairs.features["rating_gaps"]) == ["truthfulness", "honesty"]
    assert own_gap(pairs).min() > 0


def test_ties_and_absent_ratings_give_no_pair(hand_ratings):
    agree = (["yes", "no"], {"a": [2.0, 1.0], "b": [2.0, 1.0]}, [2.0, 1.0])
    tied = (["yes", "no", "maybe"], {"a": [3.0, 3.0, NAN], "b": [3.0, 3.0, NAN]}, [1.0, 2.0, 3.0])
    pairs = make_pairs(hand_ratings(*[agree, tied] * 6))
    assert sorted(pairs["prompt_id"]) == ["q0", "q10", "q2", "q4", "q6", "q8"]


def test_identical_responses_give_no_pair_and_repeats_only_one(hand_ratings):
    same = (["yes", "yes"], {"a": [5.0, 1.0], "b": [5.0, 1.0]}, [2.0, 1.0])
    twice = (["yes", "no", "no"], {"a": [5.0, 1.0, 1.0], "b": [5.0, 1.0, 1.0]}, [2.0, 1.0, 1.0])
    pairs = make_pairs(hand_ratings(*[twice, same] * 6))
    assert sorted(pairs["prompt_id"]) == ["q0", "q10", "q2", "q4", "q6", "q8"]


def test_without_an_overall_score_the_mean_rating_stands_in(hand_ratings):
    prompt = (["yes", "no"], {"a": [2.0, 1.0], "b": [2.0, 5.0]}, [NAN, NAN])
    with pytest.warns(UserWarning, match="no overall score for 4 of 4 pairs: the mean of the aspects is used"):
        pairs = make_pairs(hand_ratings(prompt, prompt, prompt, prompt))
    table = frame(pairs).set_index("aspect")
    assert set(table.loc["a", "overall_gap"]) == {-1.0} and table.loc["a", "conflict"].all()
    assert set(table.loc["b", "overall_gap"]) == {1.0} and not table.loc["b", "conflict"].any()


def agreeing(n=8, **changes):
    prompt = (["yes", "no"], {"a": [2.0, 1.0], "b": [2.0, 1.0]} | changes, [2.0, 1.0])
    return [prompt] * n


REFUSED = {
    "kappa = 1": (
        agreeing(),
        {"aspects": ["a"]},
        r"aspects: only \['a'\] given \(kappa = 1\).*Remedy: give at least two",
    ),
    "no aspect": (agreeing(), {"aspects": []}, r"\(kappa = 0\).*Remedy"),
    "unknown aspect": (agreeing(), {"aspects": ["a", "c"]}, r"aspect present in no row: 1 \(first: c\).*use some of"),
    "aspect rated in no row": (agreeing(b=[NAN, NAN]), {}, r"aspect rated in no row: 1 \(first: b\).*leave it out"),
    "only ties": (agreeing(a=[3.0, 3.0], b=[3.0, 3.0]), {}, r"\['a', 'b'\] label no pair\. Remedy: more prompts"),
    "conflict not there": (
        agreeing(),
        {"conflict": 0.5},
        "the data hold 0 conflicting and 8 agreeing pairs and can supply 0 pairs.*Remedy",
    ),
    "size too large": (agreeing(), {"size": 9}, "size=9: the data can supply 8 pairs at conflict=None.*Remedy"),
    "size zero": (agreeing(), {"size": 0}, "size=0: the data can supply 8 pairs"),
    "conflict over 1": (agreeing(), {"conflict": 1.5}, r"conflict=1.5 is not a share; give a number in \[0, 1\]"),
    "conflict below 0": (agreeing(), {"conflict": -0.1}, r"conflict=-0.1 is not a share"),
    "conflict NaN": (agreeing(), {"conflict": NAN}, "conflict=nan is not a share"),
}


@pytest.mark.parametrize(("prompts", "options", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_gives_no_pairs_is_refused(hand_ratings, prompts, options, problem):
    with pytest.raises(ValueError, match=problem):
        make_pairs(hand_ratings(*prompts), **options)


@pytest.mark.parametrize(("prompts", "labels"), [(agreeing(b=[3.0, 3.0]), {"a"}), (agreeing(1), {"a"})])
def test_an_aspect_that_labels_no_pair_warns_by_name(hand_ratings, prompts, labels):
    with pytest.warns(UserWarning, match=r"aspects \['b'\] label no pair \(only ties, or too few prompts\)"):
        pairs = make_pairs(hand_ratings(*prompts))
    assert set(pairs["aspect"]) == labels
    assert {len(gaps) for gaps in pairs["rating_gaps"]} == {2}


def test_ratings_that_a_whole_prompt_lacks_are_absent(hand_ratings):
    rows = hand_ratings(*agreeing(8)).to_list()
    lacking = [row | {"ratings": row["ratings"] | {"b": None}, "overall": None} for row in rows[:4]]
    with pytest.warns(UserWarning, match="no overall score"):
        pairs = make_pairs(Dataset.from_list(lacking + rows[4:]))
    absent = rating_gaps(pairs)["b"].isna().to_numpy()
    lacking = np.isin(pairs["prompt_id"], ["q0", "q1", "q2", "q3"])
    assert (absent == lacking).all()
    assert 0 < absent.sum() < len(pairs)


@pytest.fixture
def partly_rated(hand_ratings):
    """Pairs labelled on a whose gap on b is absent, and whose label contradicts the overall rating; and pairs on b."""
    gone = (["yes", "no"], {"a": [2.0, 1.0], "b": [NAN, 4.0]}, [1.0, 2.0])
    return make_pairs(hand_ratings(*[gone] * 4, *agreeing(8)))


def test_an_absent_gap_is_nan_as_the_contract_says(partly_rated):
    gaps = [gap for row in partly_rated["rating_gaps"] for gap in row.values()]
    assert None not in gaps and sum(gap != gap for gap in gaps) == sum(partly_rated["conflict"]) > 0


def test_pairs_with_an_absent_gap_can_be_relabelled(partly_rated):
    n = sum(partly_rated["conflict"])
    assert [row["chosen"] for row in relabel(partly_rated)].count("no") == n > 0


def test_too_many_pairs_at_a_level_says_how_many_there_can_be(ratings):
    supply = len(make_pairs(ratings, conflict=0.3))
    with pytest.raises(ValueError, match=f"size={supply + 1}: the data can supply {supply} pairs at conflict=0.3"):
        make_pairs(ratings, conflict=0.3, size=supply + 1)


def test_equal_texts_under_two_prompt_ids_are_refused(hand_ratings):
    rows = hand_ratings(*agreeing(8)).to_list()
    doubled = Dataset.from_list([row | {"prompt": "the same question"} for row in rows])
    with pytest.raises(ValueError, match=r"pair_id occurs more than once .*: 2 \(first: .*Remedy: drop repeats"):
        make_pairs(doubled)


def test_relabel_by_the_overall_rating(hand_pairs):
    table = hand_pairs(
        ("a", [1.0, -3.0], -2.0), ("a", [2.0, 1.0], 1.0), ("b", [0.0, 1.0], 0.0), source=["s0", "s1", "s2"]
    )
    rows = {row["prompt_id"]: row for row in relabel(table, by="overall")}
    assert set(rows) == {"q0", "q1"}  # a tie teaches nothing
    assert rows["q1"] == table[1]
    assert rows["q0"] == table[0] | {
        "pair_id": pair_id("question 0", "bad 0", "good 0", "a"),
        "chosen": "bad 0",
        "rejected": "good 0",
        "chosen_model": "loser",
        "rejected_model": "winner",
        "rating_gaps": {"a": -1.0, "b": 3.0},
        "overall_gap": 2.0,
        "conflict": False,
    }


def test_relabel_by_the_mean_rating(hand_pairs):
    table = hand_pairs(
        ("a", [1.0, -3.0], 5.0), ("a", [2.0, NAN], -1.0), ("b", [-1.0, 1.0], 4.0), ("b", [-4.0, 1.0], -4.0)
    )
    rows = {row["prompt_id"]: row for row in relabel(table, by="mean_rating")}
    assert {name: row["chosen"] for name, row in rows.items()} == {"q0": "bad 0", "q1": "good 1", "q3": "bad 3"}
    assert (rows["q0"]["overall_gap"], rows["q0"]["conflict"]) == (-5.0, True)
    assert (rows["q3"]["overall_gap"], rows["q3"]["conflict"]) == (4.0, False)


@pytest.mark.parametrize("by", ["overall", "mean_rating"])
def test_relabelling_twice_changes_nothing_more(pairs, by):
    once = relabel(pairs, by=by)
    assert relabel(once, by=by).to_list() == once.to_list()
    assert once.features == pairs.features
    gaps = once["overall_gap"] if by == "overall" else mean_gap(rating_gaps(once))
    assert min(gaps) > 0 and len(once) <= len(pairs)


def test_relabel_passes_extra_columns_and_does_without_models(hand_pairs):
    table = hand_pairs(("a", [1.0, -3.0], -2.0), ("b", [1.0, 2.0], 1.0), note=[["x", "y"], []], weight=[1, 2])
    table = table.remove_columns(["chosen_model", "rejected_model", "rating_gaps", "conflict"])
    rows = {row["prompt_id"]: row for row in relabel(table)}
    assert (rows["q0"]["note"], rows["q0"]["weight"], rows["q0"]["chosen"]) == (["x", "y"], 1, "bad 0")
    assert relabel(table).column_names == table.column_names


def test_gaps_that_cancel_are_a_tie_whatever_their_rounding(hand_pairs):
    table = hand_pairs(("a", [0.1, 0.2, -0.3], 1.0), ("b", [2.0, 1.0, 1.0], 1.0))  # .1 + .2 - .3 = 5.6e-17
    assert list(relabel(table, by="mean_rating")["prompt_id"]) == ["q1"]


@pytest.mark.parametrize("gaps", [[-3.0, None], [-3.0, 1.0]])
def test_relabel_turns_a_pair_with_an_absent_rating(hand_pairs, gaps):
    table = hand_pairs(("b", gaps, -1.0)).remove_columns("overall_gap").add_column("overall_gap", [None])
    assert relabel(table, by="mean_rating")[0]["chosen"] == "bad 0"


def test_relabel_refuses_what_it_cannot_order(hand_pairs):
    table = hand_pairs(*[("a", [NAN, NAN], NAN)] * 7)
    seven = r": 7 \(first: z0, z1, z2, z3, z4\)\. Remedy: drop these pairs, or relabel by the other rating"
    with pytest.raises(ValueError, match=f"overall_gap is absent{seven}"):
        relabel(table)
    with pytest.raises(ValueError, match=f"rating_gaps is absent{seven}"):
        relabel(table, by="mean_rating")
    with pytest.raises(ValueError, match=r"by='mean': use one of \['overall', 'mean_rating'\]"):
        relabel(table, by="mean")
    with pytest.raises(ValueError, match=r"pairs table: column missing: 1 \(first: overall_gap\)"):
        relabel(table.remove_columns("overall_gap"))


def test_relabel_says_that_all_pairs_are_ties(hand_pairs):
    with pytest.raises(ValueError, match="overall_gap.*Remedy"):
        relabel(hand_pairs(("a", [1.0, 1.0], 0.0)))


def seven(**columns):
    return {
        "pair_id": [f"z{i}" for i in range(7)],
        "prompt": ["question"] * 7,
        "chosen": ["good"] * 7,
        "rejected": ["bad"] * 7,
        "aspect": ["a"] * 7,
    } | columns


FIRST_FIVE = r": 7 \(first: z0, z1, z2, z3, z4\)\. Remedy: drop"
BAD_PAIRS = {
    "null prompt": (seven(prompt=[None] * 7), f"prompt is null or empty{FIRST_FIVE}"),
    "null chosen": (seven(chosen=[None] * 7), f"chosen is null or empty{FIRST_FIVE}"),
    "empty rejected": (seven(rejected=[""] * 7), f"rejected is null or empty{FIRST_FIVE}"),
    "blank chosen": (seven(chosen=[" \n"] * 7), f"chosen is null or empty{FIRST_FIVE}"),
    "numbers for text": (seven(chosen=list(range(7))), f"chosen is null or empty{FIRST_FIVE}"),
    "no messages": (seven(prompt=[[]] * 7), f"prompt is null or empty{FIRST_FIVE}"),
    "blank message": (seven(prompt=[[{"role": "user", "content": " "}]] * 7), f"prompt is null or empty{FIRST_FIVE}"),
    "null content": (seven(prompt=[[{"role": "user", "content": None}]] * 7), f"prompt is null or empty{FIRST_FIVE}"),
    "chosen is rejected": (seven(chosen=["bad"] * 7), f"chosen equals rejected{FIRST_FIVE}"),
    "duplicates": (
        seven(pair_id=["z0"] * 5 + ["z1"] * 2),
        r"pair_id occurs more than once: 2 \(first: z0, z1\)\. Remedy",
    ),
    "empty": ({name: [] for name in seven()}, "pairs table is empty.*Remedy"),
}


@pytest.mark.parametrize(("columns", "problem"), BAD_PAIRS.values(), ids=BAD_PAIRS)
def test_bad_pairs_are_refused_with_column_ids_and_remedy(columns, problem):
    with pytest.raises(ValueError, match=f"^{problem}"):
        check_pairs(Dataset.from_dict(columns))


@pytest.mark.parametrize("column", list(seven()))
def test_a_missing_column_of_the_pairs_is_named(column):
    table = Dataset.from_dict(seven()).remove_columns(column)
    with pytest.raises(
        ValueError, match=rf"pairs table: column missing: 1 \(first: {column}\)\. Remedy: rename or add it"
    ):
        check_pairs(table)


def chat(role, text):
    return [{"role": role, "content": text}]


def test_chat_messages_are_pairs_too(hand_pairs):
    columns = {
        "prompt": [chat("user", "question")] * 2,
        "chosen": [chat("assistant", "good")] * 2,
        "rejected": [chat("assistant", "bad")] * 2,
    }
    table = hand_pairs(("a", [1.0, -3.0], -2.0), ("b", [1.0, 2.0], 1.0), **columns)
    assert check_pairs(table) is None
    turned = {row["prompt_id"]: row for row in relabel(table)}["q0"]
    assert (turned["chosen"], turned["rejected"]) == (chat("assistant", "bad"), chat("assistant", "good"))


@pytest.mark.parametrize(
    ("name", "n_pairs", "n_unequal", "n_opposite", "percent"),
    [("summeval12", 6600, 6367, 2156, 33), ("topical_chat_usr", 900, 834, 196, 22)],
)
def test_pairs_and_conflicts_of_the_shared_files(shared, name, n_pairs, n_unequal, n_opposite, percent):
    """All unordered pairs; those with unequal overall (or mean) rating; those where two aspects point opposite ways."""
    compared = compare_responses(load_ratings(shared / f"{name}.jsonl"))
    signs = np.sign(compared.iloc[:, 4:])
    opposite = (signs > 0).any(axis=1) & (signs < 0).any(axis=1)
    overall = compared["overall_gap"].fillna(compared.iloc[:, 4:].mean(axis=1)).abs() > 1e-9
    assert (len(compared), overall.sum(), opposite.sum()) == (n_pairs, n_unequal, n_opposite)
    assert round(100 * opposite.mean()) == percent


@pytest.mark.parametrize(("name", "median"), [("summeval12", 0.35), ("topical_chat_usr", 0.70)])
def test_agreement_between_the_aspects_of_the_shared_files(shared, name, median):
    ratings = pd.concat([pd.DataFrame(row["ratings"]) for row in load_ratings(shared / f"{name}.jsonl")])
    agreement = ratings.corr("spearman").to_numpy()
    assert np.median(agreement[np.triu_indices(len(agreement), 1)]) == pytest.approx(median, abs=0.005)


@pytest.mark.parametrize(("level", "size"), [(0.3, None), (0.1, 50), (None, 40), (None, None)])
def test_a_level_drawn_last_is_the_one_that_make_pairs_draws(ratings, level, size):
    found = at_level(make_pairs(ratings, seed=3), conflict=level, size=size, seed=3)
    assert list(found) == list(make_pairs(ratings, conflict=level, size=size, seed=3))


def test_a_level_of_filtered_pairs_is_exact_whatever_their_order(pairs):
    part = pairs.select(range(0, len(pairs), 2))
    found = at_level(part, conflict=0.25, size=40)
    assert (len(found), sum(found["conflict"])) == (40, 10)
    turned = part.select(range(len(part) - 1, -1, -1))
    assert list(at_level(turned, conflict=0.25, size=40)) == list(found)
    with pytest.raises(ValueError, match="the data can supply"):
        at_level(part, conflict=0.25, size=len(pairs))


def test_pairs_with_any_absent_rating_are_left_out(hand_pairs):
    pairs = hand_pairs(("a", [1.0, NAN], 1.0), ("b", [2.0, 1.0], 1.0), ("a", [1.0, None], 1.0))
    assert fully_rated(pairs)["pair_id"][:] == ["z1"]


def test_prompts_are_sampled_by_seed_and_stay_in_order(ratings):
    names = list(ratings["prompt_id"])
    drawn = sample_prompts(ratings, 20, seed=1)["prompt_id"][:]
    assert len(drawn) == 20
    assert drawn == [name for name in names if name in set(drawn)]
    assert drawn != sample_prompts(ratings, 20, seed=2)["prompt_id"][:]
    turned = ratings.select(range(len(ratings) - 1, -1, -1))
    assert set(sample_prompts(turned, 20, seed=1)["prompt_id"][:]) == set(drawn)
    assert sample_prompts(ratings, None)["prompt_id"][:] == sample_prompts(ratings, 10**6)["prompt_id"][:] == names


def test_prompts_are_held_out_whole_and_whatever_the_order_of_rows(pairs):
    left, unseen = hold_out(pairs, 7, seed=1)
    assert len(set(unseen["prompt_id"])) == 7 and not set(unseen["prompt_id"]) & set(left["prompt_id"])
    assert sorted(left["pair_id"][:] + unseen["pair_id"][:]) == sorted(pairs["pair_id"])
    turned = pairs.select(range(len(pairs) - 1, -1, -1))
    assert set(hold_out(turned, 7, seed=1)[1]["pair_id"]) == set(unseen["pair_id"])
    assert set(hold_out(pairs, 7, seed=2)[1]["pair_id"]) != set(unseen["pair_id"])
    assert list(hold_out(pairs, 0)[0]) == list(pairs) and len(hold_out(pairs, 0)[1]) == 0


@pytest.mark.parametrize("n", [-1, 10**6])
def test_no_more_prompts_are_held_out_than_there_are(pairs, n):
    with pytest.raises(ValueError, match=f"n_held_out={n}: the pairs come from .* prompts. Remedy"):
        hold_out(pairs, n)


def test_words_of_strings_and_of_messages_are_the_same(pairs):
    part = pairs.select(range(5))
    expected = part.to_pandas().set_index("pair_id")[["chosen", "rejected"]].map(lambda text: len(text.split()))
    chats = {side: [[{"role": "assistant", "content": text}] for text in part[side]] for side in ("chosen", "rejected")}
    chat = Dataset.from_dict({"pair_id": part["pair_id"][:], **chats})
    pd.testing.assert_frame_equal(word_counts(part), expected)
    pd.testing.assert_frame_equal(word_counts(chat), expected)


@pytest.mark.parametrize(("share", "n"), [(0.0, 0), (0.3, 3), (0.5, 5), (1.0, 10)])
def test_a_share_of_the_labels_is_flipped(hand_pairs, share, n):
    table = hand_pairs(*[("a", {"a": 1.0}, 1.0)] * 10)
    turned = flip_labels(table, share, seed=1)
    assert len(set(table["pair_id"]) - set(turned["pair_id"])) == n
