"""From margins to kept ids, against the number of pairs: seconds, memory, and whether both grow linearly."""

import numpy as np
import pandas as pd

from bench.measure import fresh, peak_mb, timed
from pdsel.divergence import preference_divergence, scale_margins
from pdsel.selection import select

ASPECTS = ["helpfulness", "honesty", "instruction_following", "truthfulness"]
SHARE = 0.3
SIZES = [10**5, 10**6, 10**7]
CASES = ["any order", "ascending ids", "categorical aspects", "aspects in another order"]


def draw_ids(n, *, ascending=False, chunk=10**6):
    """`n` ids as `pdsel.pairs.pair_id` makes them, 16 hexadecimal digits; by chunks, to stay small itself."""
    draws = np.random.default_rng(0).integers(2**64, size=n, dtype=np.uint64)
    if ascending:
        draws.sort()
    parts = (draws[start : start + chunk].tolist() for start in range(0, n, chunk))
    return pd.Index(pd.concat([pd.Series([f"{x:016x}" for x in part], dtype="str") for part in parts]), name="pair_id")


def draw_tables(n, case):
    """Random margins and labels: `(margins, aspect)`, their indexes equal but made apart, as from two files."""
    rng = np.random.default_rng(1)
    labels = pd.Categorical.from_codes(rng.integers(len(ASPECTS), size=n, dtype=np.int8), ASPECTS)
    if case != "categorical aspects":
        labels = pd.Series(labels).astype("str").array
    ids, again = (draw_ids(n, ascending=case == "ascending ids") for _ in range(2))
    if case == "aspects in another order":
        again = again[rng.permutation(n)]
    margins = pd.DataFrame({name: rng.standard_normal(n) for name in ASPECTS}, index=ids)
    return margins, pd.Series(labels, index=again)


def measure_divergence(n, case):
    """One row of the table: seconds of each step, and the peak of memory."""
    libraries_mb = peak_mb()
    margins, aspect = draw_tables(n, case)
    inputs_mb = (margins.memory_usage(deep=True).sum() + aspect.memory_usage(deep=True)) / 2**20
    drawn_mb = peak_mb()
    scaled, *scale = timed(scale_margins, margins, aspect)
    scores, *divergence = timed(preference_divergence, scaled, aspect)
    kept, *selection = timed(select, scores, SHARE)
    seconds, cpu_seconds = map(sum, zip(scale, divergence, selection, strict=True))
    return {
        "pairs": n,
        "case": case,
        "kept": len(kept),
        "scale_margins": scale[0],
        "preference_divergence": divergence[0],
        "select": selection[0],
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "microseconds_a_pair": seconds / n * 1e6,
        "inputs_mb": inputs_mb,
        "peak_mb_before": drawn_mb,
        "peak_mb": peak_mb(),
        "peak_mb_above_inputs": peak_mb() - libraries_mb - inputs_mb,
    }


def divergence_table(sizes=SIZES, *, run=fresh):
    """A row per size with strings in any order, and a row per other case at the largest size."""
    rows = [(n, CASES[0]) for n in sizes] + [(max(sizes), case) for case in CASES[1:]]
    return pd.DataFrame([run(measure_divergence, *row) for row in rows])
