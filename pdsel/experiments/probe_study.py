"""What are probes worth on the notes world, where the truth is known? Cells for `pdsel.experiments.proxy_studies.run_cells`.

A probe's cells are cheap: the responses of a world are read once, and every setting is a regression on the same features.
How the default of blocks and strength is chosen is here, too, without the truth: see `choose_default`.
"""

import time
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd

from pdsel.engine.features import BLOCKS, pair_features
from pdsel.engine.probes import (
    AXES,
    CANDIDATES,
    LENGTH,
    STRENGTHS,
    bootstrap_probe,
    load_probe,
    most_pairs,
    that_fit,
)
from pdsel.experiments.grid_plan import VALIDATION_SEEDS
from pdsel.experiments.proxy_quality import divergence_of
from pdsel.experiments.proxy_studies import make_world, quality_rows
from pdsel.experiments.uncertainty import divergence_error
from pdsel.notesworld import model_path
from pdsel.notesworld.settings import CONFLICT, SHARE, STUDY_PAIRS
from pdsel.notesworld.variants import GOLD, variant_gaps
from pdsel.proxies import fit_proxies, score_margins
from pdsel.selection import select

CHOSEN = "chosen"  # by cross-validation, among `CANDIDATES`
SETS = {  # name: the sets of blocks to choose from
    CHOSEN: CANDIDATES,
    **{block: [[block]] for block in BLOCKS},
    "hd + grad": [["hd", "grad"]],
    "all but hd + grad": [[block for block in BLOCKS if block not in ("hd", "grad")]],
    "all but W": [[block for block in BLOCKS if block != "W"]],
    "all": [list(BLOCKS)],
}
OTHER = 1000  # added to a seed: another world of the same raters
FEW = 0.25  # p_r of the fits with few labels, beside those with all


@lru_cache(maxsize=2)
def read_world(seed, base, n_pairs):
    """A world, read once: its pairs, their length gaps, the gold gaps, and the features by a base model."""
    pairs, length_gap = make_world(seed, n_pairs=n_pairs, conflict=CONFLICT)
    return pairs, length_gap, variant_gaps(pairs, GOLD), pair_features(pairs, model=model_path(base))


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
        The frozen model: the name of a shipped one, or a path.
    share, length_balance
        As in `pdsel.proxies.fit_proxy`.
    features : str
        One of `SETS`.
    length_as : {"feature", "nuisance", "none"}
        `length` of `pdsel.engine.probes.Search`.
    n_pairs : int

    Returns
    -------
    list of dict
        A row per aspect, as `pdsel.experiments.proxy_studies.proxy_cell` gives it, and what was chosen: `blocks`,
        `strength`, and the accuracy on held-out prompts of the aspect's own labels, `own_accuracy`.
    """
    pairs, length_gap, truth, read = read_world(seed, base, n_pairs)
    proxies = fit_proxies(
        pairs,
        kind="probe",
        model=model_path(base),
        share=share,
        length_balance=length_balance,
        seed=seed,
        features=read,
        candidates=SETS[features],
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


def cross_validated(probes):
    """How often probes order pairs of their own aspect as labelled, on prompts that cross-validation held out.

    Parameters
    ----------
    probes : dict
        Aspect to `Proxy`, of kind "probe".

    Returns
    -------
    pandas.DataFrame, a row per aspect
        `accuracy` and `n`, as `pdsel.experiments.proxy_quality.held_out_accuracy` gives it for other kinds. The blocks were
        chosen by the same folds, which makes it a little too good.
    """
    choices = {aspect: load_probe(proxy.path).choice for aspect, proxy in probes.items()}
    rows = {aspect: {"accuracy": choice["accuracy"], "n": choice["n_pairs"]} for aspect, choice in choices.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("aspect")


def default_cell(*, seed, share, base="notesworld", n_pairs=STUDY_PAIRS):
    """What every set of blocks loses at every strength on held-out prompts, by an aspect's own labels: no truth is read.

    Parameters
    ----------
    seed : int
        Of a world that no table shows.
    share : float
        p_r, of each aspect's labels.
    base : str
        The frozen model.
    n_pairs : int

    Returns
    -------
    list of dict
        A row per aspect, set, axes and strength: `blocks`, `axes` ("all": the columns themselves), `strength`, and the mean
        `loss` (nats) and `accuracy` of cross-validation over prompts.
    """
    sets = [tuple(blocks) for name in SETS for blocks in SETS[name]]
    pairs, _, _, read = read_world(seed, base, n_pairs)
    options = {"model": model_path(base), "share": share, "seed": seed, "features": read}
    probes = fit_proxies(pairs, kind="probe", candidates=list(dict.fromkeys(sets)), **options)
    rows = []
    for aspect, probe in probes.items():
        tried = load_probe(probe.path).choice["candidates"]
        rows += [{"aspect": aspect} | each | as_text(each["blocks"], each["axes"]) for each in tried]
    return rows


def as_text(blocks, axes):
    """A set of blocks and a number of axes, as a table has them.

    >>> as_text(["length", "W"], None)
    {'blocks': 'length + W', 'axes': 'all'}
    """
    return {"blocks": " + ".join(blocks), "axes": "all" if axes is None else str(axes)}


def default_cells(*, seeds=VALIDATION_SEEDS, bases=("notesworld",), n_pairs=STUDY_PAIRS):
    """The cells that the default is chosen by: validation worlds, with few labels and with all.

    >>> len(default_cells())
    4
    """
    return [
        {"seed": seed, "base": base, "share": share, "n_pairs": n_pairs}
        for seed, base, share in product(seeds, bases, (FEW, 1.0))
    ]


def choose_default(losses):
    """The default of blocks, axes and strength: the smallest loss on held-out prompts, mean over worlds, shares and aspects.

    Parameters
    ----------
    losses : pandas.DataFrame
        Rows of `default_cell`.

    Returns
    -------
    (dict, pandas.DataFrame)
        `blocks`, `axes` and `strength`; and the means of all, the best first.

    Examples
    --------
    >>> losses = pd.DataFrame({"blocks": ["hd", "hd", "W", "W"], "strength": 1.0, "loss": [0.5, 0.6, 0.4, 0.9]})
    >>> choose_default(losses.assign(accuracy=0.7, axes="all"))[0]
    {'blocks': 'hd', 'axes': 'all', 'strength': 1.0}
    """
    setting = ["blocks", "axes", "strength"]
    means = losses.groupby(setting)[["loss", "accuracy"]].mean().sort_values("loss").reset_index()
    return means.loc[0, setting].to_dict(), means


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

    Yields
    ------
    pandas.DataFrame, shape (n, kappa)
        One replicate's margins, for `pdsel.experiments.uncertainty.divergence_error`.
    """
    prompt = pd.Series(pairs["prompt_id"][:], index=pairs["pair_id"][:])
    columns = {}
    for aspect, proxy in proxies.items():
        probe, ids = load_probe(proxy.path), sorted(proxy.trained_on)
        ids = that_fit(prompt.loc[ids], prompt.loc[ids], most_pairs(features, probe.fitted)).index
        gaps = features.of(ids, probe.fitted)
        drawn = bootstrap_probe(probe, gaps, prompt.loc[ids].to_numpy(), n_replicates=n_replicates, seed=seed)
        columns[aspect] = drawn.margins_of(features, pairs["pair_id"][:])
    index = pd.Index(pairs["pair_id"][:], name="pair_id")
    for b in range(n_replicates):
        yield pd.DataFrame({aspect: margins[:, b] for aspect, margins in columns.items()}, index=index)


def uncertainty_cell(*, seed, n_replicates=200, share=1.0, n_pairs=STUDY_PAIRS):
    """The standard error of PD from probes, and a check of it; what a cautious selection keeps.

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
    pairs, _, truth, read = read_world(seed, "notesworld", n_pairs)
    proxies = fit_proxies(pairs, features=read, **options)
    aspect = pd.Series(pairs["aspect"][:], index=read.ids)
    start = time.perf_counter()
    replicates = probe_replicates(pairs, proxies, read, n_replicates=n_replicates, seed=seed)
    error = divergence_error(replicates, aspect)
    seconds = time.perf_counter() - start
    other_pairs, _, _, other_read = read_world(OTHER + seed, "notesworld", n_pairs)
    others = fit_proxies(other_pairs, features=other_read, **options)
    ours, theirs = (divergence_of(score_margins(pairs, fitted, features=read), aspect) for fitted in (proxies, others))
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


def probe_cells(seeds, *, balances=(), n_pairs=STUDY_PAIRS):
    """The cells of the study world by world: sets of blocks, and what is done about length.

    >>> len(probe_cells([0, 1], balances=[1.0])), len(SETS)
    (30, 12)
    """
    plain = {"features": CHOSEN, "length_as": "feature", "length_balance": None, "n_pairs": n_pairs}
    settings = [{"features": name} for name in SETS]
    settings += [{"length_as": length} for length in LENGTH if length != "feature"]
    settings += [{"length_balance": tau} for tau in balances]
    return [{"seed": seed} | plain | setting for seed, setting in product(seeds, settings)]


def same_as_shipped(chosen):
    """Whether a choice of `choose_default` is the default of `pdsel.engine.probes`.

    >>> same_as_shipped(as_text(CANDIDATES[0], AXES[0]) | {"strength": STRENGTHS[0]})
    True
    """
    return chosen == as_text(CANDIDATES[0], AXES[0]) | {"strength": STRENGTHS[0]}
