"""What does selecting cost beside training on everything? Both are measured in one run, with a policy larger than the proxies.

The paper selects with proxies of 1 B for a policy of 8 B, and counts .55 of the GPU hours of training on all pairs. On the
notes world the proxies start from the smaller of the shipped models, and the policy from the larger one.
"""

import time
from pathlib import Path

import pandas as pd
from safetensors import safe_open

from pdsel.artifacts import model_digest
from pdsel.data.scratch import scratch_folder
from pdsel.engine.features import pair_features
from pdsel.experiments.proxy_quality import divergence_of
from pdsel.experiments.proxy_studies import make_world, run_cells, training_of
from pdsel.notesworld import model_path
from pdsel.notesworld.settings import BATCH, CONFLICT, DPO, LOSS_TYPE, PAIRS, SHARE
from pdsel.proxies import fit_proxies, score_margins
from pdsel.selection import select
from pdsel.training import train_dpo

WARM_UP = 32  # pairs that are read and trained on before the clocks start: what loads on first use counts for nobody


def cost_cell(*, seed, kind, policy, content, base="notesworld-small", n_pairs=PAIRS):
    """Select with proxies of a kind, train on what is kept, and train on all: what each took.

    Parameters
    ----------
    seed : int
        Of the world and of the trainings.
    kind : str
        Of the proxies.
    policy, content : str
        The model that is trained, and its digest, which is a part of the cell's key.
    base : str
        Where the proxies start.
    n_pairs : int

    Returns
    -------
    list of dict
        One row. Seconds on the clock and, with `cpu_` before them, of this process: `selection, kept, all`. `ratio` and
        `cpu_ratio`: (selection + training on what is kept) / training on all. `times`: the policy's parameters over the
        base's.
    """
    pairs, _ = make_world(seed, n_pairs=n_pairs, conflict=CONFLICT)
    with scratch_folder("costs") as folder:
        options = {"model": model_path(policy), "seed": seed, "batch_size": BATCH, "loss_type": LOSS_TYPE, **DPO}
        few = pairs.select(range(WARM_UP))
        pair_features(few, model=model_path(base))
        train_dpo(few, output_dir=folder / "few", **options)
        kept, selection = timed(lambda: kept_pairs(pairs, kind, model_path(base), seed))
        _, on_kept = timed(lambda: train_dpo(kept, output_dir=folder / "kept", **options))
        _, on_all = timed(lambda: train_dpo(pairs, output_dir=folder / "all", **options))
    row = {}
    for unit in ("", "cpu_"):
        parts = {"selection": selection[unit], "kept": on_kept[unit], "all": on_all[unit]}
        row |= {f"{unit}{name}": seconds for name, seconds in parts.items()}
        row[f"{unit}ratio"] = (selection[unit] + on_kept[unit]) / on_all[unit]
    return [row | {"times": n_parameters(model_path(policy)) / n_parameters(model_path(base))}]


def kept_pairs(pairs, kind, model, seed):
    """The pairs that PD keeps, from proxies of a kind; a probe reads them once, to be fitted and to score."""
    options, read = {"kind": kind, "model": model, "seed": seed, **training_of(kind)}, None
    if kind == "probe":
        read = options["features"] = pair_features(pairs, model=model)
    margins = score_margins(pairs, fit_proxies(pairs, **options), features=read)
    aspect = pd.Series(pairs["aspect"][:], index=margins.index)
    kept = select(divergence_of(margins, aspect), SHARE)
    return pairs.select([row for row, name in enumerate(margins.index) if name in set(kept)])


def timed(function):
    """What a function returns, and its seconds: on the clock under "", of this process under "cpu_"."""
    start, cpu_start = time.perf_counter(), time.process_time()
    value = function()
    return value, {"": time.perf_counter() - start, "cpu_": time.process_time() - cpu_start}


def n_parameters(model):
    """How many numbers the weights of a local model are.

    >>> n_parameters(model_path("notesworld")) > 1000
    True
    """
    n = 0
    for file in Path(model).glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                shape = weights.get_slice(name).get_shape()
                n += pd.Series(shape, dtype=int).prod()
    return int(n)


def cost_cells(policy="notesworld", *, seeds=(0,), kinds=("probe",), n_pairs=PAIRS):
    """The cells of `cost_cell` for a policy: a shipped model's name, or a folder with one."""
    shared = {"policy": str(policy), "content": model_digest(model_path(str(policy))), "n_pairs": n_pairs}
    return [{"seed": seed, "kind": kind} | shared for kind in kinds for seed in seeds]


def cost_ratio(policy, folder, **cells):
    """(selection + DPO on the kept share) / DPO on all, measured in one run for each kind and seed.

    Parameters
    ----------
    policy : str or Path
        A model for the notes world, larger than the one that proxies start from.
    folder : str or Path
        Keeps the cells, so that a stopped run resumes.
    **cells
        `seeds, kinds, n_pairs`.

    Returns
    -------
    pandas.DataFrame
        A row per kind and seed, see `cost_cell`.
    """
    return run_cells(cost_cells(policy, **cells), cost_cell, folder).drop(columns=["policy", "content"])
