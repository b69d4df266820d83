"""The judge's answers in SQLite: what is read again, and what is asked again."""

import json
import sqlite3

import pytest

from pdsel.evaluation.judges.cache import AnswerCache

ANSWER = {"content": "A", "top_logprobs": []}


@pytest.fixture
def cache(tmp_path):
    with AnswerCache.open(tmp_path / "answers.sqlite") as opened:
        yield opened


def put(folder, key, value):
    """Write a row past the cache, as another version or a fault leaves it."""
    with sqlite3.connect(folder / "answers.sqlite") as connection:
        connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(value)))


def test_an_answer_is_read_as_it_was_stored_last(cache):
    cache.store("one", ANSWER)
    cache.store("one", ANSWER | {"content": "B"})
    assert cache.load(["one", "two"]) == {"one": ANSWER | {"content": "B"}}


def test_an_answer_of_an_older_version_has_no_seal(cache, tmp_path):
    put(tmp_path, "old", ANSWER | {"model": "m"})
    assert cache.load(["old"]) == {"old": ANSWER | {"model": "m"}}


@pytest.mark.parametrize(
    "stored",
    [{"content": "A"}, {"top_logprobs": []}, {}, {"answer": ANSWER, "seal": "0" * 16}, {"seal": "0" * 16}, [], 1],
    ids=str,
)
def test_what_is_no_answer_is_asked_again(cache, tmp_path, stored):
    put(tmp_path, "one", stored)
    with pytest.warns(UserWarning, match="1 stored answers are damaged"):
        assert cache.load(["one"]) == {}
