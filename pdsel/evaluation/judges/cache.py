"""A judge's answers on disk, where each is stored as soon as it comes, whatever happens next."""

import hashlib
import json
import sqlite3
import threading
import warnings
from contextlib import closing, contextmanager
from pathlib import Path

from pdsel.checks import DataError


def canonical(body):
    """A request's body as the bytes that are sent, which are the same for equal bodies.

    >>> canonical({"model": "judge", "max_tokens": 1})
    b'{"max_tokens":1,"model":"judge"}'
    """
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()  # ASCII can hold half a surrogate pair


def answer_key(base_url, body):
    """SHA-256 of everything that determines an answer: the endpoint, since a model's name may mean another model elsewhere,
    and all that is sent to it. The API key is part of neither.
    """
    return hashlib.sha256(canonical({"base_url": base_url, "body": body})).hexdigest()


class AnswerCache:
    """Answers by key in an SQLite file, which the threads and processes of a machine may share.

    Each answer is committed at once, so a killed run loses only the answers to requests under way.
    """

    def __init__(self, connection):
        self._connection, self._lock = connection, threading.Lock()

    @classmethod
    @contextmanager
    def open(cls, path):
        """Open the cache at `path`, which is made if it does not exist."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(
                sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            ) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
                connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
                yield cls(connection)
        except sqlite3.Error as error:
            raise DataError(
                f"cache {path}: {error}. Remedy: give another path, or repair or delete this file"
            ) from error

    def load(self, keys):
        """The stored answers among `keys`."""
        query = "SELECT answer FROM answers WHERE key = ?"
        rows = {key: self._connection.execute(query, (key,)).fetchone() for key in keys}
        found = {key: _opened(key, row[0]) for key, row in rows.items() if row}
        damaged = [key for key, answer in found.items() if answer is None]
        if damaged:
            warnings.warn(
                f"{len(damaged)} stored answers are damaged, so these questions are asked again", stacklevel=2
            )
        return {key: answer for key, answer in found.items() if answer is not None}

    def store(self, key, answer):
        """Store an answer; a later answer to the same question replaces it."""
        with self._lock:
            row = (key, json.dumps({"answer": answer, "seal": _seal(key, answer)}))
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)


def _seal(key, answer):
    """A digest of a question's key and its answer, so that neither a changed bit nor another question's answer is read."""
    return hashlib.sha256(key.encode() + canonical(answer)).hexdigest()[:16]


def _opened(key, text):
    """A stored answer; None if it is damaged. Those of an older version have no seal."""
    try:
        stored = json.loads(text)
        if "seal" not in stored:
            return stored if {"content", "top_logprobs"} <= set(stored) else None
        return stored["answer"] if _seal(key, stored["answer"]) == stored["seal"] else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
