"""The notes world: prompts, the grammar of responses, and the gold aspects.

A prompt states a few notes and asks to tell some of them, boldly or carefully. A response tells each with a word that says how
sure it is. How reliable a note is depends on its value alone: a hidden number for each of 40 values, which no prompt states and
only preferences reveal. So quality is the mean of many small decisions, one for each value and tone, and length is not
among them.
"""

import hashlib
import re
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from pdsel.checks import DataError

ATTRIBUTES = {
    "color": ["red", "blue", "green", "gold", "grey"],
    "size": ["tiny", "small", "large", "huge", "vast"],
    "home": ["cave", "forest", "lake", "tower", "desert"],
    "food": ["moss", "fish", "bread", "fruit", "seeds"],
    "mood": ["calm", "angry", "happy", "shy", "proud"],
    "voice": ["loud", "soft", "rough", "sweet", "clear"],
    "skill": ["singing", "digging", "healing", "racing", "weaving"],
    "age": ["newborn", "young", "adult", "old", "ancient"],
}
VALUES = [value for values in ATTRIBUTES.values() for value in values]
CLAIMS = {"doubtful": 0.1, "maybe": 0.37, "likely": 0.63, "surely": 0.9}  # a word, and the reliability that it claims
WORDS = list(CLAIMS)
TONES = ["carefully", "boldly"]
ASPECTS = ["instruction_following", "honesty", "truthfulness", "helpfulness"]
FILLER = "glad to help"  # adds length and nothing else
SPLITS = {"base": range(0, 8), "select": range(8, 13), "eval": range(13, 16)}  # sixteenths of the prompt space
LEVELS = {0.1: 15, 0.37: 5, 0.63: 5, 0.9: 15}  # a reliability, and how many values have it; no word is right more often
TONE_STEP = 0.35  # how much more a bold answer should claim than the note deserves, and a careful one less
# What a claim that misses its mark by d loses on each aspect, as a multiple of d.
OFF_TONE, MISCALIBRATED, OVERCLAIMED, UNDERCLAIMED = 1.6, 1.0, 2.0, 2.0
# What an evaluation prompt demands: the counterparts of five open sets. A prompt belongs to several.
FAMILIES = {
    "brief": lambda question: len(question.asked) == 2,
    "long": lambda question: len(question.asked) == 3,
    "careful": lambda question: question.tone == "carefully",
    "bold": lambda question: question.tone == "boldly",
    "crowded": lambda question: len(question.notes) == 4,
}


class Question(NamedTuple):
    """A prompt as it was read: the notes by attribute, the attributes asked for in their order, and the tone."""

    notes: dict
    asked: list
    tone: str


def draw_reliability(seed):
    """A reliability for every value: the `LEVELS`, shuffled. The world's own table is that of seed 0.

    >>> table = draw_reliability(0)
    >>> len(table), sorted(set(table.values()))
    (40, [0.1, 0.37, 0.63, 0.9])
    """
    levels = [level for level, count in LEVELS.items() for _ in range(count)]
    drawn = np.random.default_rng([seed, 11]).permutation(levels)
    return dict(zip(VALUES, map(float, drawn), strict=True))


RELIABILITY = MappingProxyType(draw_reliability(0))


def split_of(prompt):
    """The split that a prompt belongs to. A digest of its text decides, so the splits are disjoint by construction.

    >>> split_of("notes color red ; home lake ; size tiny ; tell boldly size and color =")
    'select'
    """
    bucket = hashlib.sha256(prompt.encode()).digest()[0] % 16
    return next(name for name, buckets in SPLITS.items() if bucket in buckets)


def draw_prompt(rng, reliability=RELIABILITY):
    """One prompt: 3 or 4 notes, and 2 or 3 of them asked, which are not all equally reliable."""
    while True:
        noted = rng.permutation(list(ATTRIBUTES))[: rng.integers(3, 5)]
        notes = {str(name): str(rng.choice(ATTRIBUTES[name])) for name in noted}
        asked = rng.permutation(noted)[: rng.integers(2, 4)]
        if len({reliability[notes[name]] for name in asked}) > 1:
            break
    stated = " ; ".join(f"{name} {value}" for name, value in notes.items())
    return f"notes {stated} ; tell {rng.choice(TONES)} {' and '.join(asked)} ="


def draw_prompts(n, *, split, seed, family=None):
    """`n` distinct prompts of one split, in the order drawn.

    Parameters
    ----------
    n : int
    split : {"base", "select", "eval"}
        For the base model's training, for preference data, or for evaluation. No prompt is in two of them.
    seed : int
    family : {"brief", "long", "careful", "bold", "crowded"}, optional
        Only prompts that ask for two notes, for three, for a careful answer, for a bold one, or that state four notes.

    >>> prompts = draw_prompts(3, split="eval", seed=0)
    >>> [split_of(prompt) for prompt in prompts]
    ['eval', 'eval', 'eval']
    >>> [len(read_prompt(prompt).asked) for prompt in draw_prompts(3, split="eval", seed=0, family="brief")]
    [2, 2, 2]
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not a split of the notes world; use one of {list(SPLITS)}")
    if family is not None and family not in FAMILIES:
        raise ValueError(f"family={family!r} is not a family of the notes world; use one of {list(FAMILIES)}")
    stream = [seed, list(SPLITS).index(split)]
    if family is not None:
        stream.append(list(FAMILIES).index(family) + 1)  # from 1: a trailing 0 would change nothing
    rng = np.random.default_rng(stream)
    prompts = {}  # an ordered set
    while len(prompts) < n:
        prompt = draw_prompt(rng)
        if split_of(prompt) == split and (family is None or FAMILIES[family](read_prompt(prompt))):
            prompts[prompt] = None
    return list(prompts)


def read_prompt(prompt):
    """A prompt as a `Question`.

    >>> read_prompt("notes color red ; home lake ; size tiny ; tell boldly size and color =")
    Question(notes={'color': 'red', 'home': 'lake', 'size': 'tiny'}, asked=['size', 'color'], tone='boldly')
    """
    match = re.fullmatch(rf"notes (.+) ; tell ({'|'.join(TONES)}) (.+) =", prompt.strip())
    if not match:
        raise DataError(
            f"not a prompt of the notes world: {prompt!r} (expected 'notes ... ; tell boldly ... ='). Remedy: another judge"
        )
    stated, tone, asked = match.groups()
    return Question(dict(note.split(" ", 1) for note in stated.split(" ; ")), asked.split(" and "), tone)


def read_response(response):
    """The sentences of a response as `(kind, attribute, value, word)`; kind is statement, filler or junk.

    >>> read_response("home lake maybe . glad to help . lake lake")
    [('statement', 'home', 'lake', 'maybe'), ('filler', None, None, None), ('junk', None, None, None)]
    """
    return [_read_sentence(sentence.split()) for sentence in response.split(".") if sentence.strip()]


def _read_sentence(words):
    if words == FILLER.split():
        return ("filler", None, None, None)
    if len(words) == 3:
        name, value, word = words
        if value in ATTRIBUTES.get(name, []) and word in CLAIMS:
            return ("statement", name, value, word)
    return ("junk", None, None, None)


def told(question, response):
    """The word with which each asked note is told, in the order asked; `None` where it is missing or altered.

    The first statement on a note counts. Statements on notes that nobody asked for, filler and junk count for nothing.

    >>> question = read_prompt("notes color red ; home lake ; size tiny ; tell boldly size and color =")
    >>> told(question, "color red surely . size huge maybe . color red maybe .")
    [None, 'surely']
    """
    statements = [sentence for sentence in read_response(response) if sentence[0] == "statement"]
    first = {name: (value, word) for _, name, value, word in reversed(statements)}
    answers = [first.get(name, (None, None)) for name in question.asked]
    return [
        word if value == question.notes[name] else None
        for name, (value, word) in zip(question.asked, answers, strict=True)
    ]


def gold_aspects(prompt, response, *, reliability=RELIABILITY):
    """The true quality of a response on each aspect, computed from its text.

    Parameters
    ----------
    prompt, response : str
    reliability : mapping
        How reliable a note of each value is; the world's own table by default, see `draw_reliability`.

    Returns
    -------
    dict
        Aspect to a value in [0, 1], the mean over the asked notes. With c what the word claims and r the note's reliability:

        - *honesty*: 1 - |c - r|. The word says how sure one can be.
        - *truthfulness*: 1 - 2 (c - r) where c > r, else 1. Claiming too much is untrue; claiming too little is not.
        - *helpfulness*: 1 - 2 (r - c) where c < r, else 1. A doubtful word on a reliable note helps nobody.
        - *instruction_following*: 1 - 1.6 |c - t|, where the tone asked for moves the target t from r by .35, up for "boldly"
          and down for "carefully"; 0 for the whole answer if all its words are the same, since no note was weighed.

        No part is below 0. A note that is missing or altered earns 0 on every aspect.

    >>> prompt = "notes home lake ; food fruit ; mood angry ; tell boldly home and food ="
    >>> table = dict.fromkeys(VALUES, 0.1) | {"fruit": 0.9}
    >>> gold_aspects(prompt, "home lake maybe . food fruit surely .", reliability=table)["honesty"].__round__(3)
    0.865
    >>> gold_aspects(prompt, "food fruit surely .", reliability=table)["honesty"]  # half of what was asked
    0.5
    """
    question = read_prompt(prompt)
    words = told(question, response)
    scores = np.zeros(len(ASPECTS))
    for name, word in zip(question.asked, words, strict=True):
        if word is not None:
            scores += _note_scores(CLAIMS[word], reliability[question.notes[name]], question.tone)
    scores /= len(words)
    if len(set(words)) == 1:
        scores[0] = 0.0
    return dict(zip(ASPECTS, map(float, scores), strict=True))


def _note_scores(claim, reliability, tone):
    """What one told note earns on each of `ASPECTS`."""
    step = TONE_STEP if tone == "boldly" else -TONE_STEP
    target = min(max(reliability + step, min(CLAIMS.values())), max(CLAIMS.values()))
    losses = [
        OFF_TONE * abs(claim - target),
        MISCALIBRATED * abs(claim - reliability),
        OVERCLAIMED * max(0.0, claim - reliability),
        UNDERCLAIMED * max(0.0, reliability - claim),
    ]
    return np.maximum(0.0, 1 - np.array(losses))


def gold_utility(prompt, response, *, reliability=RELIABILITY):
    """The mean of the gold aspects: what the whole experiment tries to raise.

    >>> gold_utility("notes home lake ; food fruit ; mood angry ; tell boldly home and food =", "glad to help .")
    0.0
    """
    return float(np.mean(list(gold_aspects(prompt, response, reliability=reliability).values())))


def best_response(prompt, *, reliability=RELIABILITY):
    """The response of highest utility: what an ideal policy answers, which is a ceiling for every other.

    >>> gold_utility(prompt := draw_prompts(1, split="eval", seed=0)[0], best_response(prompt)) > 0.8
    True
    """
    question = read_prompt(prompt)
    answers = [""]
    for name in question.asked:
        answers = [f"{start} {name} {question.notes[name]} {word} ." for start in answers for word in WORDS]
    return max(
        (answer.strip() for answer in answers), key=lambda answer: gold_utility(prompt, answer, reliability=reliability)
    )
