"""Responders who answer the prompts, and raters who grade the answers with noise and a bias towards length."""

import json
from dataclasses import dataclass
from functools import partial

import numpy as np

from pdsel.checks import DataError, refuse
from pdsel.notesworld.variants import GOLD
from pdsel.notesworld.world import FILLER, WORDS, draw_prompts, read_prompt

LENGTH_BIAS = 0.012  # what a token adds to a rating, on the [0, 1] scale of gold: the raters' known bias
NOISE = 0.12  # standard deviation of a rater's error, on the same scale
TYPICAL_LENGTH = 11  # tokens; the rating of a response of this length has no bias
RESPONSES_PER_PROMPT = 4
# How often each of `WORDS` is drawn by who ignores the tone, and by who answers carefully; boldly is the reverse.
TONELESS = np.array([0.25, 0.25, 0.25, 0.25])
CAREFUL = np.array([0.55, 0.35, 0.10, 0.00])


@dataclass(frozen=True)
class Responder:
    """How often a responder heeds the tone, and how often it adds the filler; see `respond`."""

    name: str
    heed: float
    filler: float


def draw_responders(n=16, seed=0):
    """`n` responders with random habits, the same for the same seed; the base model imitates their mixture.

    None of them knows how reliable a note is.
    """
    rng = np.random.default_rng([seed, 101])
    habits = rng.uniform([0.1, 0.1], [0.9, 0.6], size=(n, 2))
    return [Responder(f"responder-{i:02d}", *map(float, row)) for i, row in enumerate(habits)]


def respond(prompt, responder, rng):
    """One response, drawn at random: all that was asked, each note with a word that the tone alone may sway."""
    question = read_prompt(prompt)
    toned = CAREFUL if question.tone == "carefully" else CAREFUL[::-1]
    chances = responder.heed * toned + (1 - responder.heed) * TONELESS
    sentences = [f"{name} {question.notes[name]} {rng.choice(WORDS, p=chances)}" for name in question.asked]
    if rng.random() < responder.filler:
        sentences.append(FILLER)
    return " . ".join(sentences) + " ."


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
    # Responders answer in random order, up to eight times each, because several may give the same answer.
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
