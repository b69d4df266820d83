"""An exercise and its check, which says yes, not yet, or a hint."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class Exercise:
    """A question that has one answer.

    Attributes
    ----------
    number : str
        The notebook's number and a count, such as "03.1".
    minutes : int
        What it takes.
    question, hint, because : str
        What is asked, what helps, and what to take away when it is solved.
    solution : callable
        Takes nothing and returns the answer: a number, a word, or a mapping to numbers or words.
    mistakes : tuple of (answer, str)
        Wrong answers that people give, and what is wrong with each.
    tolerance : float
        How far a number may be off.
    """

    number: str
    minutes: int
    question: str
    hint: str
    because: str
    solution: Callable
    mistakes: tuple = ()
    tolerance: float = 0.006

    @property
    def notebook(self):
        """The number of its notebook.

        >>> Exercise("03b.1", 2, "", "", "", lambda: 1).notebook
        '03b'
        """
        return self.number.split(".")[0]

    def check(self, answer):
        """A `Verdict` on an answer."""
        if answer is ...:
            return Verdict(False, f"Put your answer in the place of `...`. *Hint:* {self.hint}")
        expected = self.solution()
        if same(answer, expected, self.tolerance):
            return Verdict(True, f"**Yes.** {self.because}")
        said = [why for wrong, why in self.mistakes if same(answer, wrong, self.tolerance)]
        said += [_form(answer, expected)]
        return Verdict(False, f"**Not yet.** {next(filter(None, said), '')} *Hint:* {self.hint}".replace("  ", " "))


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and what to say about it; true if it is right."""

    right: bool
    text: str

    def __bool__(self):
        return self.right

    def __repr__(self):
        return self.text.replace("*", "")

    def _repr_markdown_(self):
        return self.text


def same(answer, expected, tolerance):
    """Whether an answer is the expected one: numbers to a tolerance, words in any case, mappings and lists part by part.

    >>> same({0.1: 2.0}, {0.1: 2.004}, 0.01), same("Honesty", "honesty", 0), same([1, 2], [1, 3], 0)
    (True, True, False)
    """
    if isinstance(expected, Mapping):
        if not hasattr(answer, "keys"):
            return False
        given = dict(answer.items())
        return set(given) == set(expected) and all(same(given[key], expected[key], tolerance) for key in expected)
    if isinstance(expected, str):
        return isinstance(answer, str) and answer.strip().casefold() == expected.casefold()
    if isinstance(expected, Sequence):
        parts = list(answer) if hasattr(answer, "__len__") and not isinstance(answer, str) else []
        return len(parts) == len(expected) and all(map(lambda *pair: same(*pair, tolerance), parts, expected))
    try:
        return math.isclose(float(answer), float(expected), rel_tol=0, abs_tol=tolerance)
    except (TypeError, ValueError):
        return False


def _form(answer, expected):
    """What is wrong with the form of an answer, or on which side of the expected number it is."""
    if isinstance(expected, Mapping):
        return f"Give a dict with the keys {list(expected)}." if not hasattr(answer, "keys") else ""
    if isinstance(expected, str):
        return "" if isinstance(answer, str) else "The answer is a word."
    if isinstance(expected, Sequence):
        return f"Give {len(expected)} values, [...]." if not hasattr(answer, "__len__") else ""
    if not isinstance(answer, Real):
        return "The answer is a number."
    return "It is larger than that." if answer < expected else "It is smaller than that."
