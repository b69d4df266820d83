"""From a file of rated responses to pairs, at UltraFeedback's size: seconds, and whether the memory stays small."""

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from bench.measure import fresh, peak_mb, timed
from pdsel.pairs import make_pairs
from pdsel.ratings import load_ratings

ASPECTS = ["helpfulness", "honesty", "instruction_following", "truthfulness"]
RESPONSES, CHARACTERS = 4, 1500  # UltraFeedback's, about


def write_rated(path, n_prompts, characters=CHARACTERS):
    """Made-up rated prompts in UltraFeedback's layout: random words, random ratings; returns the file's size in MB."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i:04d}" for i in range(5000)])
    with open(path, "w") as file:
        for number in range(n_prompts):
            texts = [" ".join(rng.choice(words, characters // 9)) for _ in range(RESPONSES)]
            completions = [
                {
                    "model": f"m{i}",
                    "response": text,
                    "overall_score": float(rng.integers(1, 11)),
                    "annotations": {aspect: {"Rating": str(rng.integers(1, 6))} for aspect in ASPECTS},
                }
                for i, text in enumerate(texts)
            ]
            file.write(
                json.dumps({"source": "bench", "instruction": f"Question {number}?", "completions": completions}) + "\n"
            )
    return Path(path).stat().st_size / 2**20


def measure_ratings(path):
    """One row of the table: seconds of reading and of pairing, and the peak of memory after each."""
    before = peak_mb()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cleaning did
        ratings, *reading = timed(load_ratings, path)
        read_mb = peak_mb()
        pairs, *pairing = timed(make_pairs, ratings)
    return {
        "prompts": len(ratings),
        "pairs": len(pairs),
        "load_ratings": reading[0],
        "make_pairs": pairing[0],
        "peak_mb_before": before,
        "peak_mb_read": read_mb,
        "peak_mb": peak_mb(),
    }


def ratings_table(n_prompts, *, run=fresh):
    """A row: `prompts, pairs`, seconds, and the peaks of memory, the file's size beside them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rated.jsonl")
        size = write_rated(path, n_prompts)
        return pd.DataFrame([{"file_mb": size} | run(measure_ratings, path)])
