"""A few hundred pairs of the notes world, with what fair proxies would say of them; nothing is trained."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from datasets import Dataset

from pdsel import load_ratings, make_pairs, preference_divergence, scale_margins
from pdsel.evaluation.judges import gold_gaps
from pdsel.notesworld import ASPECTS, write_ratings

UNITS = dict(zip(ASPECTS, [1.0, 3.0, 0.5, 2.0], strict=True))  # proxies have no common unit
ERROR = 0.5  # standard deviation of a proxy's error, on the scale of gold


@dataclass(frozen=True)
class SmallWorld:
    """Pairs and what is known of them, all by `pair_id`.

    Attributes
    ----------
    pairs : datasets.Dataset
        Pairs table.
    aspect : pandas.Series
        The aspect of each label.
    margins : pandas.DataFrame
        What proxies that err say: the truth with noise, each aspect in a unit of its own.
    wrong : pandas.Series
        Whether the truth contradicts the label.
    """

    pairs: Dataset
    aspect: pd.Series
    margins: pd.DataFrame
    wrong: pd.Series

    @property
    def divergence(self):
        """PD of the scaled margins."""
        return preference_divergence(scale_margins(self.margins, self.aspect), self.aspect)


@cache
def small_world(n_prompts=150, seed=5):
    """The small world of the exercises: the same for the same seed, in a second.

    >>> world = small_world()
    >>> world.margins.shape[1], bool(world.wrong[world.divergence < -1].mean() < world.wrong.mean())
    (4, True)
    """
    with TemporaryDirectory() as folder:
        path = write_ratings(Path(folder, "ratings.jsonl"), n_prompts, seed=seed)
        pairs = make_pairs(load_ratings(path), seed=seed)
    aspect = pd.Series(list(pairs["aspect"]), index=list(pairs["pair_id"]), name="aspect")
    truth = gold_gaps(pairs)
    noise = np.random.default_rng(seed).normal(scale=ERROR, size=(len(pairs), len(ASPECTS)))
    margins = (truth[ASPECTS] + noise) * pd.Series(UNITS)
    return SmallWorld(pairs, aspect, margins, truth["utility"] < 0)
