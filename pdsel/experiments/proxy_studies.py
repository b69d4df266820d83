"""The experiments on proxies, on the notes world: a cell of a grid is plain settings in, rows of numbers out.

Every cell makes its own world from its seed, so cells can run in any order, on any machine, and again. Grids are lists of
cells; `run_cells` computes those that are missing.
"""

import tempfile
from functools import cache, partial
from itertools import product
from pathlib import Path

import pandas as pd

from pdsel.artifacts import model_digest
from pdsel.data.gaps import rating_gaps
from pdsel.data.store import Store
from pdsel.diagnostics import diagnose
from pdsel.engine.progress import Progress
from pdsel.experiments.proxy_quality import (
    agreement,
    divergence_of,
    divergence_quality,
    held_out_accuracy,
    proxy_quality,
)
from pdsel.notesworld import model_path, write_ratings
from pdsel.notesworld.people import NOISE
from pdsel.notesworld.settings import CONFLICT, TRAINING
from pdsel.notesworld.settings import STUDY_PAIRS as PAIRS
from pdsel.notesworld.variants import GOLD, OPPOSED, mixture_aspects, variant_gaps
from pdsel.pairs import make_pairs
from pdsel.proxies import fit_proxies, fit_proxy, score_margins
from pdsel.ratings import load_ratings


def _flipped(prompt, response):
    return 1 - GOLD["honesty"](prompt, response)


CASES = {  # name: how the world is rated, what is true of it where that differs, whose proxy has its sign turned
    "standard": {},
    "opposed": {"aspects": OPPOSED},
    "noisy": {"noise": {"honesty": 5 * NOISE}},
    "mislabelled": {"aspects": GOLD | {"honesty": _flipped}, "truth": GOLD},
    "wrong sign": {"turned": "honesty"},
    **{f"{kappa} aspects": {"aspects": mixture_aspects(kappa)} for kappa in (2, 4, 8, 16)},
}


def make_world(seed, *, aspects=GOLD, n_pairs=PAIRS, conflict=None, **raters):
    """Fine-grained pairs of a notes world, and the length of chosen minus rejected in words.

    Returns
    -------
    (datasets.Dataset, pandas.Series)
        Pairs table with `n_pairs` rows, and the length gap by `pair_id`.
    """
    with tempfile.TemporaryDirectory() as folder:
        n_prompts = max(2 * n_pairs // 5, 100)  # a few prompts may lack conflicting pairs
        path = write_ratings(Path(folder, "rated.jsonl"), n_prompts, seed=seed, aspects=aspects, **raters)
        pairs = make_pairs(load_ratings(path), seed=seed, conflict=conflict, size=n_pairs)
    sides = [
        pd.Series(pairs[side], index=list(pairs["pair_id"])).str.split().str.len() for side in ("chosen", "rejected")
    ]
    return pairs, sides[0] - sides[1]


def proxy_cell(
    *,
    seed,
    kind,
    base="notesworld-small",
    share=1.0,
    length_penalty=0.0,
    length_sign="minus",
    length_balance=None,
    n_pairs=PAIRS,
    pooled_start=False,
    **training,
):
    """One setting of the proxies on one world, against gold.

    Parameters
    ----------
    seed : int
        Of the world and of the training.
    kind, share, length_penalty, length_sign, length_balance
        As in `pdsel.proxies.fit_proxy`.
    base : str
        Where the proxies start: the name of a shipped model, or a path.
    n_pairs : int
    pooled_start : bool
        Start from a classifier trained on all pairs, whatever their aspect.
    **training
        Over the kind's entry of `TRAINING`. A grid names it all the same, so that the table and the stored cell say it.

    Returns
    -------
    (pandas.DataFrame, list of dict)
        Margins and PD of every pair (`pair_id`, a column per aspect, `pd`), and a row per aspect: `accuracy,
        calibration_error, length, truth_length` (see `proxy_quality`), the raters' own `raters_length`, what the training
        took (`seconds, n_tokens`; a pooled start's are shared out), and, the same in every row, `spearman, overlap,
        wrong_kept, wrong_all` of the resulting PD.
    """
    pairs, length_gap = make_world(seed, n_pairs=n_pairs, conflict=CONFLICT)
    options = (
        {
            "kind": kind,
            "model": model_path(base),
            "share": share,
            "seed": seed,
            "length_penalty": length_penalty,
            "length_sign": length_sign,
            "length_balance": length_balance,
        }
        | training_of(kind)
        | training
    )
    pooled = fit_proxy(pairs, None, **options) if pooled_start else None
    proxies = fit_proxies(pairs, **options | ({"model": pooled.path} if pooled else {}))
    margins, truth = score_margins(pairs, proxies), variant_gaps(pairs, GOLD)
    rows = quality_rows(pairs, margins, truth, length_gap, proxies)
    if pooled:
        rows = [
            row | {name: row[name] + getattr(pooled, name) / len(rows) for name in ("seconds", "n_tokens")}
            for row in rows
        ]
    aspect = pd.Series(list(pairs["aspect"]), index=margins.index)
    return margins.assign(pd=divergence_of(margins, aspect)).reset_index(), rows


def training_of(kind):
    """The settings that proxies of a kind are trained with on the notes world; a probe is not trained.

    >>> training_of("probe")
    {}
    """
    return dict(TRAINING.get(kind, {}))


def failure_cell(*, seed, case, n_pairs=PAIRS, kind="implicit", **training):
    """One of `CASES` on one world: what PD is worth there, and what one can see without the truth.

    Proxies are trained on one bootstrap draw of the prompts, so that the prompts not drawn show what they learned.

    Returns
    -------
    list of dict
        A row per aspect: as `proxy_cell`, and the columns of `pdsel.diagnostics.diagnose` with `seen_` before them.
    """
    options = dict(CASES[case])
    turned, truth = options.pop("turned", None), options.pop("truth", options.get("aspects", GOLD))
    pairs, length_gap = make_world(seed, n_pairs=n_pairs, **options)
    proxies = fit_proxies(
        pairs, kind=kind, model=model_path("notesworld-small"), resample=0, seed=seed, **training_of(kind) | training
    )
    margins = score_margins(pairs, proxies)
    if turned:
        margins[turned] = -margins[turned]
    rows = quality_rows(pairs, margins, variant_gaps(pairs, truth), length_gap, proxies)
    aspect = pd.Series(list(pairs["aspect"]), index=margins.index)
    held_out = held_out_accuracy([margins], [proxies], aspect)
    seen = diagnose(margins, aspect, length_gap=length_gap, held_out=held_out).add_prefix("seen_")
    return [row | seen.loc[row["aspect"]].to_dict() for row in rows]


def quality_rows(pairs, margins, truth, length_gap, proxies):
    """A row per aspect: its proxy against the truth, its cost, and how good the PD of all proxies is."""
    aspect = pd.Series(list(pairs["aspect"]), index=margins.index)
    names = list(margins.columns)
    raters = rating_gaps(pairs)[names]
    quality, theirs = (proxy_quality(t, truth[names], aspect, length_gap=length_gap) for t in (margins, raters))
    quality["raters_length"] = theirs["length"]
    cost = pd.DataFrame({a: {"seconds": p.seconds, "n_tokens": p.n_tokens} for a, p in proxies.items()}).T
    whole = divergence_quality(margins, truth[names], aspect, truth["utility"] < 0)
    return [row | whole for row in quality.join(cost).reset_index().to_dict("records")]


def run_cells(cells, compute, folder):
    """The rows of every cell of a grid; a cell that is in `folder` is read, not computed.

    Parameters
    ----------
    cells : list of dict
        Keyword arguments of `compute`.
    compute : callable
        `compute(**cell)` returns a list of dict, perhaps behind a table that the rows were made from.
    folder : str or Path
        Keeps a file per cell, written when the cell is done, so that a killed run resumes. See `pdsel.data.store`: cells of
        other code, libraries or base models are not read.

    Returns
    -------
    pandas.DataFrame
        The rows in the order of the cells, with the cell's settings as columns.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run_cells([{"n": 2}, {"n": 3}], lambda n: [{"square": n * n}], folder)
       n  square
    0  2       4
    1  3       9
    """
    rows = []
    for cell in Progress(cells, desc=compute.__name__):
        found = _stored(cell, compute, folder)
        of_cell = found[1] if isinstance(found, tuple) else found
        rows += [cell | row for row in of_cell]
    return pd.DataFrame(rows)


def _stored(cell, compute, folder):
    store = Store(folder, model=base_digest(cell.get("base", "notesworld-small")), code=(compute, proxy_quality))
    return store.computed(compute.__name__, cell, partial(compute, **cell))


def agreement_rows(cells, folder, *, against="implicit"):
    """How alike PD is from proxies of different kinds that learned from the same pairs.

    Parameters
    ----------
    cells : list of dict
        Keyword arguments of `proxy_cell`, for several kinds.
    folder : str or Path
        Where `run_cells` keeps them; what is missing is computed.
    against : str
        The kind that the others are compared with.

    Returns
    -------
    pandas.DataFrame
        `seed, base, share, kind`, and `spearman, jaccard, chance` of `pdsel.experiments.proxy_quality.agreement`.
    """
    same = ["seed", "base", "share"]
    divergence = {(*(cell[name] for name in same), cell["kind"]): _divergence(cell, folder) for cell in cells}
    rows = []
    for (*world, kind), values in divergence.items():
        if kind != against:
            found = agreement(values, divergence[(*world, against)])
            rows.append(dict(zip(same, world, strict=True)) | {"kind": kind} | found)
    return pd.DataFrame(rows)


def _divergence(cell, folder):
    return _stored(cell, proxy_cell, folder)[0].set_index("pair_id")["pd"]


def kind_cells(seeds, kinds, *, bases=("notesworld-small",), shares=(1.0,), n_pairs=PAIRS):
    """The cells of `proxy_cell` that compare kinds of proxies: on every world, from every base, with every share of the pairs.

    >>> kind_cells([0], ["probe"])
    [{'seed': 0, 'kind': 'probe', 'base': 'notesworld-small', 'share': 1.0, 'n_pairs': 4000}]
    """
    return [
        {"seed": seed, "kind": kind, "base": base, "share": share, "n_pairs": n_pairs} | training_of(kind)
        for seed, base, kind, share in product(seeds, bases, kinds, shares)
    ]


@cache
def base_digest(name):
    """The digest of a model that proxies start from: "notesworld", or a path. It is taken once, as it reads every byte."""
    return model_digest(model_path(name))


def length_settings(penalties, balances, *, crossed=False):
    """The grid of length mitigations: none, every penalty with either sign, every balance; crossed also every two together.

    >>> [list(setting) for setting in length_settings([0.02], [0.5])]
    [[], ['length_penalty', 'length_sign'], ['length_penalty', 'length_sign'], ['length_balance']]
    >>> len(length_settings([0.01, 0.02, 0.05], [0.25, 0.5, 1.0, 1e9], crossed=True))
    35
    """
    signed = [{"length_penalty": rho, "length_sign": sign} for rho in penalties for sign in ("minus", "plus")]
    balanced = [{"length_balance": tau} for tau in balances]
    both = [penalty | balance for penalty in signed for balance in balanced] if crossed else []
    return [{}, *signed, *balanced, *both]
