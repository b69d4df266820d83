"""What are probes worth on the notes world, where the truth is known? Cells for `pdsel.experiments.proxy_studies.run_cells`.

A probe's cells are cheap: the responses of a world are read once, and every setting is a regression on the same features.
"""

import time
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd

from pdsel.divergence import preference_divergence, scale_margins
from pdsel.engine.features import ALL_BLOCKS, BLOCKS, pair_features
from pdsel.engine.probes import CANDIDATES, LENGTH, bootstrap_probe, load_probe
from pdsel.experiments.proxy_studies import make_world, quality_rows
from pdsel.experiments.uncertainty import divergence_error, stack_replicates
from pdsel.notesworld import model_path
from pdsel.notesworld.settings import CONFLICT, QUANTILE, SHARE, STUDY_PAIRS
from pdsel.notesworld.variants import GOLD, variant_gaps
from pdsel.proxies import fit_proxies, score_margins
from pdsel.selection import select

CHOSEN = "chosen"  # by cross-validation, among `CANDIDATES`
SETS = {  # name: the blocks of a probe, every block alone and some together
    **{block: [block] for block in ALL_BLOCKS},
    "hd + grad": ["hd", "grad"],
    "all but hd + grad": [block for block in BLOCKS if block not in ("hd", "grad")],
    "all but W": list(BLOCKS),
    "all": list(ALL_BLOCKS),
}
OTHER = 1000  # added to a seed: another world of the same raters


@lru_cache(maxsize=2)
def read_world(seed, base, n_pairs, blocks):
    """A world, read once: its pairs, their length gaps, the gold gaps, and the features by a base model."""
    pairs, length_gap = make_world(seed, n_pairs=n_pairs, conflict=CONFLICT)
    return pairs, length_gap, variant_gaps(pairs, GOLD), pair_features(pairs, model=model_path(base), blocks=blocks)


def probe_cell(
    *,
    seed,
    base="notesworld",
    share=1.0,
    features=CHOSEN,
    length_as="feature",
    length_balance=None,
    n_pairs=STUDY_PAIRS,
):
    """One setting of the probes on one world, against gold.

    Parameters
    ----------
    seed : int
        Of the world, and of the draw of the pairs.
    base : str
        The frozen model: "notesworld", or the path of a larger base.
    share, length_balance
        As in `pdsel.proxies.fit_proxy`.
    features : str
        One of `SETS`, or "chosen" by cross-validation.
    length_as : {"feature", "nuisance", "none"}
        `length` of `pdsel.engine.probes.fit_probe`.
    n_pairs : int

    Returns
    -------
    list of dict
        A row per aspect, as `pdsel.experiments.proxy_studies.proxy_cell` gives it, and what was chosen: `blocks`,
        `strength`, and the accuracy on held-out prompts of the aspect's own labels, `own_accuracy`.
    """
    candidates = CANDIDATES if features == CHOSEN else [SETS[features]]
    blocks = ALL_BLOCKS if any("W" in blocks for blocks in candidates) else BLOCKS
    pairs, length_gap, truth, read = read_world(seed, base, n_pairs, blocks)
    proxies = fit_proxies(
        pairs,
        kind="probe",
        model=model_path(base),
        share=share,
        length_balance=length_balance,
        seed=seed,
        features=read,
        candidates=candidates,
        length=length_as,
    )
    rows = quality_rows(pairs, score_margins(pairs, proxies, features=read), truth, length_gap, proxies)
    for row in rows:
        choice = load_probe(proxies[row["aspect"]].path).choice
        row |= {
            "blocks": " + ".join(choice["blocks"]),
            "strength": choice["strength"],
            "own_accuracy": choice["accuracy"],
        }
    return rows


def probe_replicates(pairs, proxies, features, *, n_replicates=200, seed=0):
    """Margins of bootstrap replicates of probes: prompts are drawn with replacement, and blocks and strengths stay.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    proxies : dict of str to Proxy
        Of kind "probe", fitted on these pairs.
    features : PairFeatures
        Of these pairs.
    n_replicates, seed : int

    Returns
    -------
    list of pandas.DataFrame, shape (n, kappa)
        For `pdsel.experiments.uncertainty.stack_replicates`.
    """
    prompt = pd.Series(list(pairs["prompt_id"]), index=list(pairs["pair_id"]))
    columns = {}
    for aspect, proxy in proxies.items():
        ids, probe = sorted(proxy.trained_on), load_probe(proxy.path)
        gaps = features.of(ids, features.gaps)
        drawn = bootstrap_probe(probe, gaps, prompt.loc[ids].to_numpy(), n_replicates=n_replicates, seed=seed)
        columns[aspect] = drawn.margins(features.gaps)
    return [
        pd.DataFrame({aspect: margins[:, b] for aspect, margins in columns.items()}, index=features.ids)
        for b in range(n_replicates)
    ]


def uncertainty_cell(*, seed, n_replicates=200, share=1.0, n_pairs=STUDY_PAIRS):
    """How sure PD from probes is, whether that is so, and what a cautious selection keeps.

    Returns
    -------
    list of dict
        One row. `seconds`: of all replicates. `error`, `spread`: the median standard error of PD, and the standard deviation
        of PD itself. `shift`: how far PD moves when its probes are fitted on another world of the same raters, as a multiple
        of what the standard errors say (1: they are right; root mean square over pairs). `wrong_all`, `wrong_kept`,
        `wrong_kept_cautious`: wrong labels by gold among all pairs, those that PD keeps, and those that PD plus its standard
        error keeps.
    """
    options = {"kind": "probe", "model": model_path("notesworld"), "share": share, "seed": seed}
    pairs, _, truth, read = read_world(seed, "notesworld", n_pairs, BLOCKS)
    proxies = fit_proxies(pairs, features=read, **options)
    aspect = pd.Series(list(pairs["aspect"]), index=read.ids)
    start = time.perf_counter()
    replicates = probe_replicates(pairs, proxies, read, n_replicates=n_replicates, seed=seed)
    error = divergence_error(stack_replicates(replicates), aspect, quantile=QUANTILE).loc[read.ids]
    seconds = time.perf_counter() - start
    other_pairs, _, _, other_read = read_world(OTHER + seed, "notesworld", n_pairs, BLOCKS)
    others = fit_proxies(other_pairs, features=other_read, **options)
    ours, theirs = (
        preference_divergence(
            scale_margins(score_margins(pairs, fitted, features=read), aspect, quantile=QUANTILE), aspect
        )
        for fitted in (proxies, others)
    )
    wrong = truth["utility"] < 0
    kept, cautious = select(ours, SHARE), select(ours, SHARE, standard_error=error)
    return [
        {
            "seconds": seconds,
            "error": float(error.median()),
            "spread": float(ours.std()),
            "shift": float(np.sqrt(((theirs - ours) ** 2 / (2 * error**2)).mean())),
            "wrong_all": float(wrong.mean()),
            "wrong_kept": float(wrong.loc[kept].mean()),
            "wrong_kept_cautious": float(wrong.loc[cautious].mean()),
        }
    ]


def probe_cells(seeds, *, shares=(1.0,), bases=("notesworld",), balances=()):
    """The cells of the study, a world after the other: shares and bases, sets of blocks, and what is done about length.

    >>> len(probe_cells([0, 1], shares=[0.25, 1.0], balances=[1.0])), len(SETS)
    (32, 11)
    """
    settings = [{"base": base, "share": share} for base, share in product(bases, shares)]
    settings += [{"features": name} for name in SETS]
    settings += [{"length_as": length} for length in LENGTH]
    settings += [{"length_balance": tau} for tau in balances]
    plain = {"base": "notesworld", "share": 1.0, "features": CHOSEN, "length_as": "feature", "length_balance": None}
    cells = []
    for seed, setting in product(seeds, settings):
        cell = {"seed": seed} | plain | setting
        if cell not in cells:
            cells.append(cell)
    return cells
