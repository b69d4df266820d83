"""Trials, their outcomes, and the journal in which they are noted one by one, so that a stopped ordeal resumes."""

import json
import random
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pdsel.checks import DataError
from pdsel.data.store import code_digest

SURVIVED, LOST = "survived", "lost"
LONGEST = 2000  # characters of a message that a person reads


class Lost(AssertionError):
    """What must not happen has happened; the message says what."""


@dataclass(frozen=True)
class Case:
    """One kind of trial.

    Parameters
    ----------
    part, what : str
        Where it stands in the report.
    trial : callable
        `trial(draw)` takes a `random.Random`, and returns a word on how pdsel survived, such as "result" or "refused". It
        raises `Lost`, or whatever pdsel raised, if it did not. A `DataError` counts as "refused".
    weight : int
        How many trials of this kind there are, relative to the others of its part.
    """

    part: str
    what: str
    trial: Callable
    weight: int = 1

    def outcome(self, number, seed=0):
        """Run a trial; returns "survived" or "lost", and how."""
        draw = random.Random(f"{seed} {self.part} {self.what} {number}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return SURVIVED, self.trial(draw)
        except DataError as error:
            return checked_message(error)
        except Lost as error:
            return LOST, str(error)
        except Exception as error:  # whatever pdsel lets through is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(str(error).split())[:200]
            return LOST, f"{type(error).__name__}: {said} ({Path(last.filename).name}, {last.name})"


def checked_message(error):
    """The outcome of a refusal: it has to say something, and no more than a person reads."""
    said = str(error)
    if not said.strip() or len(said) > LONGEST:
        return LOST, f"{type(error).__name__} of {len(said)} characters"
    return SURVIVED, "refused"


class Journal:
    """Outcomes of trials in a file of JSON lines, one added as soon as it is known.

    A line that a kill cut off does not count. `entries` are the trials of today's code; those of other code are repeated, and
    stand in the report until then, see `reported`.
    """

    def __init__(self, path, code=None):
        self.path = Path(path)
        self.code = code or code_digest()
        self.entries, self.earlier = {}, {}
        if self.path.exists():
            text = self.path.read_text()
            for line in text.splitlines():
                self._read(line)
            if text and not text.endswith("\n"):  # a kill cut the last line off
                self.path.write_text(text + "\n")

    def _read(self, line):
        try:
            entry = json.loads(line)
            key = (entry["part"], entry["what"], entry["number"])
        except (ValueError, KeyError, TypeError):
            return
        if entry.get("code") == self.code:
            self.entries[key] = entry
        else:
            self.earlier.setdefault(key[:2], {}).setdefault(entry.get("code"), {})[key] = entry

    def add(self, key, outcome):
        """Note the outcome of the trial `(part, what, number)`."""
        entry = dict(zip(("part", "what", "number"), key, strict=True))
        entry |= dict(zip(("outcome", "how"), outcome, strict=True)) | {"code": self.code}
        self.entries[key] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def reported(self):
        """The entries of every kind of trial: those of today's code, or else of the last code that it was tried on."""
        found, again = dict(self.entries), {key[:2] for key in self.entries}
        for kind, by_code in self.earlier.items():
            if kind not in again:
                found |= list(by_code.values())[-1]
        return found

    def lost(self):
        """The entries that were lost."""
        return [entry for entry in self.entries.values() if entry["outcome"] == LOST]


def shares(cases, count):
    """How many trials each case gets of `count`, at least one each, by their weights.

    >>> shares([Case("p", "a", None, 3), Case("p", "b", None)], 8)
    [6, 2]
    """
    total = sum(case.weight for case in cases)
    return [max(1, round(count * case.weight / total)) for case in cases]


def run_cases(cases, count, journal, *, seed=0, say=lambda text: None):
    """Run the trials that the journal does not hold; `say` is told about every case."""
    for case, n in zip(cases, shares(cases, count), strict=True):
        tally = Counter()
        for number in range(n):
            key = (case.part, case.what, number)
            if key not in journal.entries:
                journal.add(key, case.outcome(number, seed))
            tally[journal.entries[key]["outcome"]] += 1
        say(f"{case.part}: {case.what}: {tally[SURVIVED]} of {n} survived")
