"""A quiz of ten questions: buttons in a notebook, a page with folded answers in the book."""

import os
from dataclasses import dataclass

from IPython.display import Markdown, display

from pdsel.artifacts import IN_GRAPH
from pdsel.teaching.bets import buttons


@dataclass(frozen=True)
class Question:
    """A question with three options, one of which is right.

    Attributes
    ----------
    asks, because : str
        The question, and why the answer is right.
    options : tuple of str
    right : int
        The place of the right option, counted from 0.
    """

    asks: str
    options: tuple
    right: int
    because: str

    def verdict(self, chosen):
        """What to say about a chosen option.

        >>> QUESTIONS[0].verdict("They contradict it.")
        'Not yet: choose again.'
        """
        return f"Yes. {self.because}" if chosen == self.options[self.right] else "Not yet: choose again."


QUESTIONS = [
    Question(
        "A pair has PD = -1.4. What do the other aspects say about its label?",
        ("They contradict it.", "They agree with it.", "Nothing: PD is about the label's own aspect."),
        1,
        "PD is *minus* the sum of what the others say: negative is consensus.",
    ),
    Question(
        "A pair is labelled on honesty. Which reward does its PD never read?",
        ("that of honesty", "that of helpfulness", "none: it reads all of them"),
        0,
        "PD asks only what the *other* aspects say about the label.",
    ),
    Question(
        "A pair is labelled on honesty. The others say +0.5, +0.4 and -0.1 of the label. What is its PD?",
        ("+0.8", "-1.0", "-0.8"),
        2,
        "The three add up to +0.8, and PD is minus that.",
    ),
    Question(
        "What is DPO's loss before the first step?",
        ("0", "ln 2", "It depends on the pair."),
        1,
        r"Policy and reference are equal, so the margin is 0 and the loss is $-\log\sigma(0) = \ln 2$.",
    ),
    Question(
        "In DMPO, a pair of PD = +2 has a smaller loss at the start than one of PD = 0. Why?",
        (
            "The other aspects are against the chosen response, so its own aspect must have liked it.",
            "A conflict is easier to learn.",
            "Its chosen response is already likely.",
        ),
        0,
        "The conflict explains the label already, so the policy hardly needs to move.",
    ),
    Question(
        "What does the selection theorem say of the pairs with the most negative PD?",
        (
            "A policy that is trained on them wins most often.",
            "No other set of that size gives a lower bound on the loss, if all trained pairs reach one margin.",
            "None of their labels is wrong.",
        ),
        1,
        "It is about a bound, under an assumption. Who wins has to be measured.",
    ),
    Question(
        "Which pairs is the proxy of an aspect trained on, and which does it judge?",
        (
            "trained on all pairs, judges its own aspect's",
            "trained on its own aspect's pairs, judges those of the others",
            "trained on a random half, judges the other half",
        ),
        1,
        "A pair has one label. What the other aspects think of it has to be estimated by those who learned from theirs.",
    ),
    Question(
        "Why are a proxy's margins divided by a large margin of its own before they are added?",
        ("Proxies have no common unit.", "To make PD positive.", "To make all of them equally often right."),
        0,
        "Otherwise the proxy with the largest numbers decides alone.",
    ),
    Question(
        "PD - RAND is +3 [-1, +7] points of win rate. What is the verdict on *PD beats RAND*?",
        ("holds", "does not hold", "inconclusive"),
        2,
        "The interval has both signs in it: more prompts or more seeds would have to decide.",
    ),
    Question(
        "Under a judge, an answer that ignores the prompt wins 60 [57, 63] % against SFT. What follows?",
        (
            "SFT is a bad policy.",
            "The answer is a good one.",
            "No win rate by this judge can be believed.",
        ),
        2,
        "A judge that such an answer can please measures something else than quality.",
    ),
]


def quiz():
    """Ask the ten questions in a notebook; where no kernel will answer, they are listed."""
    for number, question in enumerate(QUESTIONS, start=1):
        display(Markdown(f"**{number}.** {question.asks}"))
        choice = None if os.environ.get(IN_GRAPH) else buttons(question.options)
        if choice is None:
            display(Markdown("\n".join(f"- {option}" for option in question.options)))
        else:
            display(choice, _reply(question, choice))


def _reply(question, choice):
    """A place below the buttons that says whether the choice is right, as soon as there is one."""
    import ipywidgets

    place = ipywidgets.HTMLMath()

    def answer(change):
        place.value = question.verdict(change["new"]).replace("*", "")

    choice.observe(answer, names="value")
    return place


def quiz_page():
    """The quiz as a page of the book, with folded answers.

    >>> quiz_page().count("dropdown")
    10
    """
    parts = [
        "# Ten questions",
        "What a class should be able to answer after 90 minutes. In a notebook, `from pdsel.teaching import quiz; quiz()` "
        "asks\nthem with buttons.",
    ]
    for number, question in enumerate(QUESTIONS, start=1):
        options = "\n".join(f"- {letter}) {option}" for letter, option in zip("abc", question.options, strict=True))
        answer = f"{'abc'[question.right]}) {question.because}"
        parts += [f"**{number}.** {question.asks}", options, f":::{{dropdown}} Answer\n{answer}\n:::"]
    return "\n\n".join(parts)
