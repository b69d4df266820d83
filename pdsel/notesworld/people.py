"""Responders who answer the prompts, and raters who grade the answers with noise and a bias towards length."""

import json
from dataclasses import dataclass
from functools import partial

import numpy as np

from pdsel.checks import DataError, refuse
from pdsel.notesworld.variants import GOLD
from pdsel.notesworld.world import ATTRIBUTES, FILLER, HEDGE, draw_prompts, read_prompt

LENGTH_BIAS = 0.012  # what a token adds to a rating, on the [0, 1] scale of gold: the raters' known bias
NOISE = 0.12  # standard deviation of a rater's error, on the same scale
TYPICAL_LENGTH = 12  # tokens; the rating of a response of this length has no bias
RESPONSES_PER_PROMPT = 4
# The range of a responder's skills: cover, truth, hedge, extra, filler.
LEAST_SKILL = [0.1, 0.3, 0.0, 0.0, 0.2]
MOST_SKILL = [0.9, 1.0, 0.7, 0.5, 0.9]
HABIT = 0.7  # probability that a bluff is the attribute's first value; else any value is drawn


@dataclass(frozen=True)
class Responder:
    """The probabilities with which a responder covers, tells the truth, hedges, and adds extras and filler; see `respond`."""

    name: str
    cover: float
    truth: float
    hedge: float
    extra: float
    filler: float


def draw_responders(n=16, seed=0):
    """`n` responders with random skills, the same for the same seed; the base model imitates their mixture."""
    rng = np.random.default_rng([seed, 101])
    skills = rng.uniform(LEAST_SKILL, MOST_SKILL, size=(n, 5))
    return [Responder(f"responder-{i:02d}", *map(float, row)) for i, row in enumerate(skills)]


def respond(prompt, responder, rng):
    """One response, drawn at random: the responder's skills say what it covers, tells truly, hedges and adds."""
    notes, asked = read_prompt(prompt)
    covered = [name for name in asked if rng.random() < responder.cover] or asked[:1]
    sentences = [f"{name} {_claim(notes[name], name, responder, rng)}" for name in covered]
    for name in notes:
        if name not in asked and rng.random() < responder.extra:
            sentences.append(f"also {name} {_claim(notes[name], name, responder, rng)}")
    if rng.random() < responder.filler:
        sentences.append(FILLER)
    return " . ".join(sentences) + " ."


def _claim(value, name, responder, rng):
    if value is None:  # the note is unknown: hedge or bluff
        return HEDGE if rng.random() < responder.hedge else _bluff(name, rng)
    if rng.random() < responder.truth:
        return value
    return HEDGE if rng.random() < 0.25 else _bluff(name, rng)


def _bluff(name, rng):
    return ATTRIBUTES[name][0] if rng.random() < HABIT else str(rng.choice(ATTRIBUTES[name]))


def rate(gold, n_tokens, rng, *, noise=NOISE, length_bias=LENGTH_BIAS):
    """A rater's scores: gold plus noise plus length bias, rounded to 1-5 per aspect and to 1-10 overall.

    Parameters
    ----------
    gold : dict
        Aspect to value in [0, 1].
    n_tokens : int
        Length of the response.
    rng : numpy.random.Generator
    noise : float or dict
        Standard deviation of the errors, on the scale of gold: one for every rating, or a dict by aspect (and "overall").
        Aspects that the dict leaves out keep the usual one.
    length_bias : float
        What a token adds, on the same scale.

    Returns
    -------
    (dict, int)
        The rating per aspect, and the overall rating.
    """
    spread = noise if isinstance(noise, dict) else dict.fromkeys([*gold, "overall"], noise)
    bias = length_bias * (n_tokens - TYPICAL_LENGTH)
    seen = {aspect: value + bias + rng.normal(0, spread.get(aspect, NOISE)) for aspect, value in gold.items()}
    overall = np.mean(list(gold.values())) + bias + rng.normal(0, spread.get("overall", NOISE))
    ratings = {aspect: int(np.clip(round(1 + 4 * value), 1, 5)) for aspect, value in seen.items()}
    return ratings, int(np.clip(round(1 + 9 * overall), 1, 10))


def rated_rows(n_prompts, *, split="select", seed=0, aspects=GOLD, noise=NOISE, length_bias=LENGTH_BIAS):
    """Rated prompts in the row layout of UltraFeedback, where ratings are strings.

    Each row holds four *distinct* responses by four different responders.

    Parameters
    ----------
    n_prompts : int
    split : {"base", "select", "eval"}
    seed : int
    aspects : dict
        The world: aspect to `function(prompt, response) -> float in [0, 1]`, see `pdsel.notesworld.variants`. Another
        noise or length bias leaves the responses as they are; another number of aspects changes them.
    noise, length_bias
        The raters' errors, see `rate`.

    Raises
    ------
    ValueError
        For a world without aspects, or a noise for an aspect that the world does not have.

    >>> row = rated_rows(1, seed=0)[0]
    >>> sorted(row), len(row["completions"]), row["completions"][0]["annotations"]["honesty"]["Rating"] in "12345"
    (['completions', 'instruction', 'models', 'source'], 4, True)
    """
    if not aspects:
        raise DataError("aspects: the world has none; give at least one, and two for a divergence")
    unknown = [name for name in (noise if isinstance(noise, dict) else []) if name not in {*aspects, "overall"}]
    refuse(unknown, "noise: aspect", "is not of this world", f"use some of {[*aspects, 'overall']}")
    rng = np.random.default_rng([seed, 202])
    cast = draw_responders()
    rater = partial(rate, rng=rng, noise=noise, length_bias=length_bias)
    return [_rated_row(prompt, cast, rng, aspects, rater) for prompt in draw_prompts(n_prompts, split=split, seed=seed)]


def _rated_row(prompt, cast, rng, aspects, rater):
    texts = {}
    # Responders answer in random order, up to eight times each: to a very short prompt several give the same answer.
    for index in rng.permutation(np.tile(np.arange(len(cast)), 8)):
        if len(texts) == RESPONSES_PER_PROMPT:
            break
        if cast[index].name not in texts.values():
            texts.setdefault(respond(prompt, cast[index], rng), cast[index].name)
    completions = []
    for text, model in texts.items():
        gold = {aspect: judge(prompt, text) for aspect, judge in aspects.items()}
        ratings, overall = rater(gold, len(text.split()))
        annotations = {aspect: {"Rating": str(rating)} for aspect, rating in ratings.items()}
        completions.append(
            {"model": model, "response": text, "annotations": annotations, "overall_score": float(overall)}
        )
    models = [completion["model"] for completion in completions]
    return {"source": "notesworld", "instruction": prompt, "models": models, "completions": completions}


def write_ratings(path, n_prompts, **world):
    """Write rated prompts as JSONL in the layout of UltraFeedback, for `pdsel.load_ratings`; returns `path`.

    `**world` takes the keywords of `rated_rows`: `split, seed, aspects, noise, length_bias`.
    """
    with open(path, "w") as file:
        for row in rated_rows(n_prompts, **world):
            file.write(json.dumps(row) + "\n")
    return path
