"""Exact and near duplicates between evaluation and training prompts, against plain sets of word runs."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdsel.data.contamination import overlap
from pdsel.notesworld import draw_prompts, read_prompt
from pdsel.notesworld.world import ATTRIBUTES

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=6)
N = st.integers(1, 4)


def runs(text, n):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} or {tuple(words)}


def by_hand(ours, theirs, n):
    rows = []
    for text in ours:
        shares = [len(runs(text, n) & runs(other, n)) / len(runs(text, n)) for other in theirs]
        rows.append((max(shares), shares.index(max(shares)) if max(shares) else None))
    return rows


@given(TEXTS, TEXTS, N)
def test_containment_and_nearest_are_those_of_plain_sets(ours, theirs, n):
    found = overlap(ours, theirs, n=n)
    shares, nearest = zip(*by_hand(ours, theirs, n), strict=True)
    assert found["containment"].tolist() == pytest.approx(list(shares))
    assert [None if pd.isna(position) else position for position in found["nearest"]] == list(nearest)
    assert (found["near"] == (found["containment"] >= 0.5)).all()
    assert found["exact"].tolist() == [text in theirs for text in ours]


@given(TEXTS, TEXTS, N, st.randoms(use_true_random=False))
def test_the_order_of_prompts_changes_nothing(ours, theirs, n, random):
    order, mixed = random.sample(range(len(ours)), len(ours)), random.sample(theirs, len(theirs))
    found, again = overlap(ours, theirs, n=n), overlap([ours[i] for i in order], mixed, n=n)
    columns = ["exact", "containment", "near"]
    pd.testing.assert_frame_equal(found.loc[order, columns].reset_index(drop=True), again[columns])


@given(TEXTS, TEXTS, TEXTS, N)
def test_more_training_prompts_never_lower_overlap(ours, theirs, more, n):
    before, after = overlap(ours, theirs, n=n), overlap(ours, theirs + more, n=n)
    assert (after["containment"] >= before["containment"]).all()
    assert (after["exact"] >= before["exact"]).all()


@pytest.mark.parametrize("n", [1, 5, 8, 100])
@pytest.mark.parametrize("change", [str.upper, lambda text: "  " + text.replace(" ", " \n"), lambda text: text + "!!"])
def test_exact_duplicates_are_found_whatever_case_space_and_punctuation(change, n):
    train = draw_prompts(50, split="select", seed=0)
    found = overlap([change(text) for text in train], train, n=n)
    assert found["exact"].all() and found["near"].all() and (found["containment"] == 1).all()
    assert found["nearest"].tolist() == list(range(50)) or n == 1  # a single word says nothing of order


def test_compatible_forms_of_letters_are_one():
    assert overlap(["ＦＩＮＤ the ﬁrst"], ["find the first"])["exact"].all()


def test_other_words_share_nothing():
    found = overlap(["one two three", "four"], ["five six seven", "eight"], n=1)
    assert found["containment"].tolist() == [0, 0] and not found[["exact", "near"]].any(axis=None)
    assert found["nearest"].isna().all()


def test_a_question_inside_a_long_prompt_is_found_but_not_exact():
    question = "how many rivers flow through the city of Basel"
    found = overlap([question], ["unrelated", " ".join(["padding words here"] * 500 + [question])])
    assert found.loc[0].tolist() == [False, 1.0, 1, True]


def test_short_texts_match_only_the_same_words():
    found = overlap(["sky blue", "Sky, blue!", "sky"], ["the sky blue at noon", "sky blue"], n=3)
    assert found["exact"].tolist() == found["near"].tolist() == [True, True, False]
    assert found["containment"].tolist() == [1, 1, 0]


def test_texts_without_words_are_compared_as_they_are():
    found = overlap([":-)", ":-(", ""], [": -)", "words"])
    assert found["exact"].tolist() == [True, False, False]


def test_the_threshold_is_reached_at_equality():
    ours, theirs = ["a b c d"], ["a b c x"]  # two of three runs
    assert overlap(ours, theirs, n=2, threshold=2 / 3)["near"].all()
    assert not overlap(ours, theirs, n=2, threshold=0.67)["near"].any()


def test_chat_messages_are_read_without_the_systems():
    system = {"role": "system", "content": "you are a helpful assistant who answers briefly"}
    ask = [[system, {"role": "user", "content": text}] for text in ("why is the sky so blue", "who wrote Faust then")]
    assert overlap(ask[:1], ["Why is the sky so blue?"])["exact"].all()
    assert overlap(ask[:1], ask[1:])["containment"].tolist() == [0]


def test_repeats_point_to_the_first():
    assert overlap(["b c"], ["a", "b c", "B C", "b c"], n=1)["nearest"].tolist() == [1]


def test_many_prompts_in_chunks_are_as_one_by_one():
    ours, theirs = draw_prompts(300, split="eval", seed=1), draw_prompts(200, split="select", seed=1)
    found = overlap(ours, theirs, n=3)
    shares, nearest = zip(*by_hand(ours, theirs, 3), strict=True)
    assert found["containment"].tolist() == pytest.approx(list(shares))
    assert found["nearest"].to_numpy(dtype=float, na_value=np.nan) == pytest.approx(
        np.array(nearest, dtype=float), nan_ok=True
    )


def test_the_notes_worlds_splits_are_clean_and_a_changed_value_is_seen():
    """No prompt is in both, and none shares half of its runs of eight words; short runs are shared by chance."""
    ours, theirs = draw_prompts(500, split="eval", seed=0), draw_prompts(700, split="select", seed=0)
    assert not overlap(ours, theirs, n=8)[["exact", "near"]].any(axis=None)
    assert overlap(ours, theirs)["near"].mean() < 0.05
    prompt = "notes color red ; home cave ; food moss ; mood calm ; tell boldly home and color ="
    found = overlap([prompt], [*theirs, prompt.replace("red", "blue")])
    assert found.loc[0, ["exact", "near", "nearest"]].tolist() == [False, True, 700]


def with_the_first_note_changed(prompt):
    name, value = next(iter(read_prompt(prompt).notes.items()))
    others = ATTRIBUTES[name]
    return prompt.replace(f"{name} {value}", f"{name} {others[(others.index(value) + 1) % len(others)]}")


def test_the_docs_say_what_each_length_of_run_finds():
    text = " ".join(overlap.__doc__.split())
    words = (
        r"world \((\d+) words on average\) .* (\d+) % are flagged at 8, (\d+) % at 5 and (\d+) % at 3; "
        r".* one note changed, (\d+) % are found at 5 and (\d+) % at 8"
    )
    said = [int(number) for number in re.search(words, text).groups()]
    ours, theirs = draw_prompts(500, split="eval", seed=0), draw_prompts(700, split="select", seed=0)
    changed = [with_the_first_note_changed(prompt) for prompt in ours]
    flagged = [100 * overlap(ours, theirs, n=n)["near"].mean() for n in (8, 5, 3)]
    found = [100 * overlap(ours, changed, n=n)["near"].mean() for n in (5, 8)]
    n_words = np.mean([len(re.findall(r"\w+", prompt)) for prompt in ours])
    assert said == [round(value) for value in (n_words, *flagged, *found)]


BAD = {
    "no evaluation prompts": (([], ["a"]), {}, "eval_prompts: none given"),
    "no training prompts": ((["a"], []), {}, "train_prompts: none given"),
    "a number": ((["a"], ["a", 3, None]), {}, r"train_prompts is neither.*: 2 \(first: 1, 2\)\. Remedy: give strings"),
    "no role": (([[{"content": "a"}]], ["a"]), {}, r"eval_prompts is neither.*: 1 \(first: 0\)"),
    "no content": (([[{"role": "user", "content": None}]], ["a"]), {}, r"eval_prompts is neither"),
    "n": ((["a"], ["a"]), {"n": 0}, "n=0.*at least one word"),
    "threshold 0": ((["a"], ["a"]), {"threshold": 0}, r"threshold=0: .* in \(0, 1\]"),
    "threshold above 1": ((["a"], ["a"]), {"threshold": 1.1}, "threshold=1.1"),
}


@pytest.mark.parametrize(("prompts", "options", "problem"), BAD.values(), ids=BAD)
def test_bad_input_is_refused(prompts, options, problem):
    with pytest.raises(ValueError, match=problem):
        overlap(*prompts, **options)
