"""The pairs of the grid's worlds, as numbers: whose label conflicts, whose is wrong, what PD says and keeps."""

import pandas as pd

from pdsel.evaluation.judges.gold import gold_gaps
from pdsel.experiments.grid import BALANCED, PAIRS, QUANTILE, SHARE, rewards, world
from pdsel.rules import score_all
from pdsel.selection import select


def pair_facts(seeds, conflicts, cells):
    """PD and the truth of every pair that the methods were trained on.

    Parameters
    ----------
    seeds, conflicts : list
    cells : str or Path
        Where the grid keeps what it computed; margins that are not there are computed.

    Returns
    -------
    pandas.DataFrame
        `seed, conflict_level, aspect, conflict` (of label and overall rating), `gold_wrong`, `PD`, `kept` (by PD).
    """
    frames = []
    for seed in seeds:
        for level in conflicts:
            pairs = world(seed, level, PAIRS)
            margins, _ = rewards(pairs, seed, level, BALANCED, pooled=False, kept_in=cells)
            scores = score_all({"pairs": pairs, "margins": margins}, ["PD"], quantile=QUANTILE)["PD"]
            table = pairs.select_columns(["pair_id", "aspect", "conflict"]).to_pandas().set_index("pair_id")
            table["gold_wrong"] = gold_gaps(pairs)["utility"] < 0
            table["PD"] = scores.astype("float32")
            table["kept"] = table.index.isin(select(scores, SHARE))
            frames.append(table.reset_index(drop=True).assign(seed=seed, conflict_level=level))
    found = pd.concat(frames, ignore_index=True)
    return found[["seed", "conflict_level", "aspect", "conflict", "gold_wrong", "PD", "kept"]]
