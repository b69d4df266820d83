"""What does selecting cost beside training on everything? Both are measured in one run, with a policy larger than the proxies.

The paper selects with proxies of 1 B for a policy of 8 B, and counts .55 of the GPU hours of training on all pairs. On the
notes world the proxies start from the smaller of the shipped models, and the policy from the larger one. Both are so small that
a second of arithmetic counts, so both are also measured with layers several times as wide.
"""

import shutil
import time
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

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


def cost_cell(*, seed, kind, policy, content, n_pairs=PAIRS, wider=1):
    """Select with proxies of a kind, train on what is kept, and train on all: what each took.

    Parameters
    ----------
    seed : int
        Of the world and of the trainings.
    kind : str
        Of the proxies.
    policy, content : str
        The model that is trained, and its digest, which is a part of the cell's key.
    n_pairs : int
    wider : int
        How many times as wide the layers of both models are. Above 1 their weights are random: what is computed takes as
        long, but nothing is learned that is worth reading.

    Returns
    -------
    list of dict
        One row. Seconds on the clock and, with `cpu_` before them, of this process: `selection, kept, all`. `ratio` and
        `cpu_ratio`: (selection + training on what is kept) / training on all. `parameters` of the policy, and `times` those
        of the base.
    """
    pairs, _ = make_world(seed, n_pairs=n_pairs, conflict=CONFLICT)
    with scratch_folder("costs") as folder:
        base, policy = model_path("notesworld-small"), model_path(policy)
        if wider > 1:
            base, policy = (
                widened(model, wider, folder / name) for model, name in ((base, "base"), (policy, "policy"))
            )
        options = {"model": policy, "seed": seed, "batch_size": BATCH, "loss_type": LOSS_TYPE, **DPO}
        few = pairs.select(range(WARM_UP))
        pair_features(few, model=base)
        train_dpo(few, output_dir=folder / "few", **options)
        kept, selection = timed(lambda: kept_pairs(pairs, kind, base, seed))
        _, on_kept = timed(lambda: train_dpo(kept, output_dir=folder / "kept", **options))
        _, on_all = timed(lambda: train_dpo(pairs, output_dir=folder / "all", **options))
        row = {"parameters": n_parameters(policy), "times": n_parameters(policy) / n_parameters(base)}
    for unit in ("", "cpu_"):
        parts = {"selection": selection[unit], "kept": on_kept[unit], "all": on_all[unit]}
        row |= {f"{unit}{name}": seconds for name, seconds in parts.items()}
        row[f"{unit}ratio"] = (selection[unit] + on_kept[unit]) / on_all[unit]
    return [row]


def widened(model, times, folder):
    """Write a model of the same kind with layers `times` as wide and random weights, and the tokenizer; returns `folder`.

    >>> with scratch_folder("doctest") as folder:
    ...     wide = widened(model_path("notesworld-small"), 2, folder / "wide")
    ...     round(n_parameters(wide) / n_parameters(model_path("notesworld-small")), 1)
    3.8
    """
    shutil.copytree(model, folder)
    config = AutoConfig.from_pretrained(model)
    for size in ("hidden_size", "intermediate_size", "head_dim"):
        setattr(config, size, times * getattr(config, size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


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


def cost_cells(policy="notesworld", *, seeds=(0,), kinds=("probe",), n_pairs=PAIRS, wider=(1,)):
    """The cells of `cost_cell` for a policy: a shipped model's name, or a folder with one."""
    shared = {"policy": str(policy), "content": model_digest(model_path(str(policy))), "n_pairs": n_pairs}
    return [
        {"seed": seed, "kind": kind, "wider": times} | shared for times in wider for kind in kinds for seed in seeds
    ]


def cost_ratio(policy, folder, **cells):
    """(selection + DPO on the kept share) / DPO on all, measured in one run for each kind and seed.

    Parameters
    ----------
    policy : str or Path
        A model for the notes world, larger than the one that proxies start from.
    folder : str or Path
        Keeps the cells, so that a stopped run resumes.
    **cells
        `seeds, kinds, n_pairs, wider`.

    Returns
    -------
    pandas.DataFrame
        A row per width, kind and seed, see `cost_cell`.
    """
    return run_cells(cost_cells(policy, **cells), cost_cell, folder).drop(columns=["policy", "content"])
