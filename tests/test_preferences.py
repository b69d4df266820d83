"""Pairs that are labelled already: files, columns with other names, messages, ratings and margins, and what is refused."""

import json

import pandas as pd
import pytest
from datasets import Dataset

import pdsel
from pdsel.checks import DataError
from pdsel.data.preferences import given_opinions, holds_pairs
from pdsel.pairs import pair_id

PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No.", "aspect": "honesty"}
OTHER = {"prompt": "How?", "chosen": "So.", "rejected": "Eh.", "aspect": "tone"}


@pytest.fixture
def read(tmp_path):
    """Write rows to a file and read it."""

    def write_and_read(*rows, **options):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return pdsel.load_preferences(path, **options)

    return write_and_read


def test_four_columns_are_enough(read):
    pairs = read(PAIR, OTHER)
    assert sorted(pairs["aspect"]) == ["honesty", "tone"] and pairs["pair_id"][:] == sorted(pairs["pair_id"])
    assert pairs[0]["pair_id"] in {pair_id(*row.values()) for row in (PAIR, OTHER)}
    assert {"rating_gaps", "margins", "conflict"}.isdisjoint(pairs.column_names)
    assert given_opinions(pairs) == (None, None)
    assert pairs.info.description == "pairs.jsonl: 2 pairs read"


def test_other_names_one_aspect_and_further_columns(read):
    row = {"question": "Why?", "good": "Because.", "bad": "No.", "id": 7, "source": "mine"}
    names = {"prompt": "question", "chosen": "good", "rejected": "bad", "pair_id": "id"}
    pairs = read(row, columns=names, aspect="honesty")
    assert pairs[0] | {"prompt_id": ""} == PAIR | {"pair_id": "7", "prompt_id": "", "source": "mine"}


def test_messages_in_common_are_the_prompt(read):
    asked = {"role": "user", "content": "Why?"}
    sides = {
        side: [asked, {"role": "assistant", "content": text}] for side, text in [("chosen", "So."), ("rejected", "No.")]
    }
    pairs = read(PAIR | sides)
    assert pairs[0]["prompt"] == [asked] and pairs[0]["chosen"] == sides["chosen"][1:]
    without_prompt = {name: value for name, value in (PAIR | sides).items() if name != "prompt"}
    assert read(without_prompt)[0]["prompt"] == [asked]


def test_ratings_of_both_sides_become_gaps_and_conflict(read):
    rated = {"chosen_ratings": {"honesty": "4", "tone": 1}, "rejected_ratings": {"honesty": 2, "tone": 5}}
    pairs = read(PAIR | rated, OTHER | rated)
    assert pairs[0]["rating_gaps"] == {"honesty": 2.0, "tone": -4.0}
    assert pairs["overall_gap"][:] == [-1.0, -1.0] and pairs["conflict"][:] == [True, True]
    name, gaps = given_opinions(pairs)
    assert name == "ratings" and gaps.shape == (2, 2)
    assert set(pdsel.rating_divergence(pairs).round(6)) == {1.0, -1.0}


def test_overall_scores_of_hub_sets_say_what_is_conflict(read):
    scored = {"score_chosen": 6.0, "score_rejected": 8.0}
    pairs = read(PAIR | scored, columns={"chosen_overall": "score_chosen", "rejected_overall": "score_rejected"})
    assert pairs[0]["overall_gap"] == -2.0 and pairs[0]["conflict"]


def test_margins_come_in_a_mapping_or_in_columns(read):
    mapping = read(
        PAIR | {"margins": {"honesty": None, "tone": -0.5}}, OTHER | {"margins": {"honesty": 0.2, "tone": None}}
    )
    name, margins = given_opinions(mapping)
    assert name == "margins" and margins.isna().sum().sum() == 2
    aspect = pd.Series(mapping["aspect"][:], index=mapping["pair_id"][:])
    assert sorted(pdsel.preference_divergence(margins, aspect)) == [-0.2, 0.5]
    flat = read(PAIR | {"h": 0.1, "t": -0.5}, columns={"margins": {"honesty": "h", "tone": "t"}})
    assert pdsel.given_margins(flat).iloc[0].to_dict() == {"honesty": 0.1, "tone": -0.5}


def test_an_opinion_that_a_pair_lacks_has_to_come_from_proxies(read):
    rated = {"rating_gaps": {"honesty": 1.0, "tone": None}}
    assert given_opinions(read(PAIR | rated, OTHER | rated)) == (None, None)


def test_a_file_is_known_by_its_first_row(tmp_path, rated_file):
    pairs = tmp_path / "pairs.parquet"
    Dataset.from_list([PAIR]).to_parquet(pairs)
    assert holds_pairs(pairs) and not holds_pairs(rated_file) and holds_pairs("org/preferences")
    with pytest.raises(
        DataError, match="row 1 is a pair, not rated responses. Remedy: read the file with load_preferences"
    ):
        pdsel.load_ratings(pairs)


@pytest.mark.parametrize(
    ("row", "options", "answer"),
    [
        (
            {"instruction": "Why?", "chosen": "a", "rejected": "b"},
            {},
            r"column missing: prompt, aspect; present are \['chosen', 'instruction', 'rejected'\].*columns=.*aspect=",
        ),
        (PAIR | {"aspects": "x", "aspect": None}, {}, "aspect is null in rows"),
        (
            {"prompts": "Why?", "chosen": "a", "rejected": "b"},
            {"aspect": "k"},
            r"Remedy: columns=\{'prompt': 'prompts'\}",
        ),
        (PAIR, {"columns": {"prompt": "question"}}, r"named by columns=\): column missing: 1 \(first: question\)"),
        (PAIR, {"columns": {"prmpt": "prompt"}}, "columns names what pairs do not have: 1 .first: prmpt"),
        (PAIR | {"chosen": "No."}, {}, "chosen equals rejected"),
        (PAIR | {"chosen": " "}, {}, "chosen is null or empty"),
    ],
)
def test_what_cannot_be_used_is_named(read, row, options, answer):
    with pytest.raises(DataError, match=answer):
        read(row, **options)


def test_a_pair_given_twice_is_refused(read):
    with pytest.raises(DataError, match="pair_id occurs more than once"):
        read(PAIR, PAIR)


def test_a_name_that_the_hub_does_not_give_says_so():
    with pytest.raises(DataError, match="'org/nope' is neither a file here nor a data set that the hub gives"):
        pdsel.load_preferences("org/nope")
