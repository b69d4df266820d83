"""Policies by the dozen on the notes world: a cell is plain settings in, its outputs judged prompt by prompt out.

Every cell draws its own world from its seed, so cells can run in any order, on any machine, and again. What several cells
share (a world, its proxies' margins, SFT's outputs) is computed once a process; margins are kept on disk too.
"""

import hashlib
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from pdsel.artifacts import save_table, writing
from pdsel.data.eval_prompts import family_prompts
from pdsel.evaluation.judges.gold import gold_gaps, gold_judge, gold_scores
from pdsel.experiments.proxy_studies import make_world
from pdsel.generation import generate
from pdsel.notesworld import BASE_MODEL, draw_prompts, model_path
from pdsel.notesworld.settings import BALANCED, CLASSIFIER, DPO, IMPLICIT, NEW_TOKENS, PAIRS, QUANTILE, SHARE, SHARED
from pdsel.pairs import flip_labels
from pdsel.proxies import fit_proxies, fit_proxy, score_margins
from pdsel.ratings import prompt_id
from pdsel.rules import RULES, needs, score_all
from pdsel.rules.alternatives import ALTERNATIVES, train_alternative
from pdsel.rules.methods import FULL, SELECTED
from pdsel.rules.store import Signals, pairs_for
from pdsel.selection import POOLED, select
from pdsel.training import train_dmpo, training_log

N_PROMPTS, N_FAMILY = 500, 100
METHODS = {  # name in the tables: how the cell differs from the method of that name
    **{name: {} for name in ("OVA", "AVG", "ALL", "RAND", "PD(rati.)")},
    "DMPO": {"proxies": BALANCED},
    "RAF": {"proxies": IMPLICIT},
    "PD": {"proxies": BALANCED},
    "PD(high)": {"proxies": BALANCED},
    "PD(nl)": {"rule": "PD", "proxies": IMPLICIT},
    "PD(shared)": {"rule": "PD", "proxies": SHARED},
    "PD(classifier)": {"rule": "PD", "proxies": CLASSIFIER},
}


def cell(method, *, seed, conflict, **changes):
    """The settings of a cell: the method's, and what a study changes.

    >>> cell("ALL", seed=0, conflict=0.3, learning_rate=1e-4)["learning_rate"]
    0.0001
    """
    usual = {
        "rule": method,
        "share": 1.0 if method in FULL else SHARE,
        "n_pairs": PAIRS,
        "proxies": None,
        "quantile": QUANTILE,
        "max_steps": -1,
        **DPO,
    }
    return {"method": method, "seed": seed, "conflict": conflict} | usual | METHODS.get(method, {}) | changes


def policy_cell(
    *,
    method,
    rule,
    seed,
    conflict,
    share,
    n_pairs,
    proxies,
    quantile,
    max_steps,
    beta,
    learning_rate,
    kept_in,
    families=False,
    flipped=0.0,
    loss="DPO",
):
    """Train one policy and judge it on the held-out prompts.

    Parameters
    ----------
    method : str
        Its name in the tables.
    rule : str
        One of `pdsel.rules.methods.FULL` (all pairs), or any of `pdsel.rules` (the kept ones).
    seed : int
        Of the world, the selection and the training.
    conflict, n_pairs
        Of the pairs.
    share : float
        lambda; not read for methods of `FULL`.
    proxies : dict or None
        Keywords of `fit_proxies` for a rule that reads margins; a `base` names another model to start from.
    quantile : float
        gamma.
    max_steps : int
        Optimisation steps; -1: one pass over the method's pairs.
    beta, learning_rate
        Of DPO.
    kept_in : str or Path
        Folder of the margins.
    families : bool
        Answer the five families of prompts, too.
    flipped : float
        Share of the labels that are turned around at random.
    loss : str
        One of `pdsel.rules.alternatives.ALTERNATIVES`.

    Returns
    -------
    (pandas.DataFrame, dict)
        A row per prompt: `prompt_id, dataset, output, preference` (against SFT), gold aspects, `utility`, `characters,
        tokens`; and what was trained on and spent, with the `kept` ids.
    """
    pairs = world(seed, conflict, n_pairs, flipped)
    margins, selection_seconds = rewards(
        pairs, seed, conflict, proxies, pooled=rule == "RAF", kept_in=kept_in, flipped=flipped
    )
    data, scores, kept = pairs, None, []
    signals = Signals(pairs, base=BASE_MODEL, seed=seed, folder=kept_in)
    if rule in SELECTED or rule == "DMPO":
        name = "PD" if rule == "DMPO" else rule
        given = {"pairs": pairs}
        if margins is not None:
            given |= {"pooled": margins[POOLED]} if rule == "RAF" else {"margins": margins}
        scores = score_all(given, [name], seed=seed, quantile=quantile)[name]
    if rule in SELECTED:
        kept = list(select(scores, share, keep=RULES[rule].keeps))
        data = pairs.select(sorted(map(list(pairs["pair_id"]).index, kept)))
    elif rule not in FULL:
        data, kept, selection_seconds = pairs_for(rule, signals, share=share, seed=seed)
    elif rule != "DMPO":
        data = FULL[rule](pairs)
    if loss != "DPO":
        selection_seconds += signals.seconds(*needs(ALTERNATIVES[loss].plan))
    options = {"model": BASE_MODEL, "seed": seed, "beta": beta, "learning_rate": learning_rate, "max_steps": max_steps}
    with tempfile.TemporaryDirectory() as folder:
        if rule == "DMPO":
            policy = train_dmpo(data, scores, aspects=len(set(pairs["aspect"])), output_dir=f"{folder}/p", **options)
        else:
            policy = train_alternative(loss, data, signals, output_dir=f"{folder}/p", **options)
        log, outcome = training_log(policy), outcomes(policy, families)
    wrong = gold_gaps(data)["utility"] < 0
    return outcome, {
        "n_trained": len(data),
        "steps": log["steps"],
        "training_seconds": log["seconds"],
        "kept": kept,
        "selection_seconds": selection_seconds,
        "wrong_labels": float(wrong.mean()),
        "mean_loss": log["history"][-1].get("train_loss", float("nan")),
    }


@cache
def world(seed, conflict, n_pairs, flipped=0.0):
    """The pairs of a cell, as notebook 01 makes them; then a share of the labels turned around."""
    pairs = make_world(seed, n_pairs=n_pairs, conflict=conflict)[0]
    return flip_labels(pairs, flipped, seed=seed) if flipped else pairs


def rewards(pairs, seed, conflict, proxies, *, pooled, kept_in, flipped=0.0):
    """Margins of the proxies on all pairs and the seconds they took, read from disk where they are there already."""
    if proxies is None:
        return None, 0.0
    key = digest_of([seed, conflict, len(pairs), proxies, pooled, *[flipped] * bool(flipped)])
    path, record = Path(kept_in, f"margins-{key}.parquet"), Path(kept_in, f"margins-{key}.json")
    if not record.exists():
        clock = time.perf_counter()
        options = {"model": model_path(proxies.get("base", "notesworld")), "seed": seed}
        options |= {name: value for name, value in proxies.items() if name != "base"}
        fitted = {POOLED: fit_proxy(pairs, None, **options)} if pooled else fit_proxies(pairs, **options)
        save_table(score_margins(pairs, fitted).rename_axis("pair_id"), path)
        with writing(record) as scratch:
            scratch.write_text(json.dumps({"seconds": time.perf_counter() - clock}))
    margins = pd.read_parquet(path).set_index("pair_id").loc[list(pairs["pair_id"])]
    return margins, json.loads(record.read_text())["seconds"]


@cache
def questions(families):
    """The held-out prompts, and after them those of the five families."""
    prompts = draw_prompts(N_PROMPTS, split="eval", seed=0)
    table = pd.DataFrame({"prompt": prompts, "dataset": "held out"})
    if families:
        table = pd.concat([table, family_prompts(N_FAMILY).to_pandas()[["prompt", "dataset"]]], ignore_index=True)
    return table


@cache
def baseline(families):
    return generate(BASE_MODEL, list(questions(families)["prompt"]), max_new_tokens=NEW_TOKENS)


def outcomes(policy, families):
    """A policy's outputs, judged against SFT's and by gold."""
    asked = questions(families)
    prompts = list(asked["prompt"])
    texts = generate(policy, prompts, max_new_tokens=NEW_TOKENS)
    return pd.DataFrame(
        {
            "prompt_id": [prompt_id(prompt) for prompt in prompts],
            "dataset": asked["dataset"],
            "output": texts,
            "preference": gold_judge(prompts, texts, baseline(families)),
        }
    ).join(gold_scores(prompts, texts))


def digest_of(settings):
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def run_policies(cells, folder, *, jobs=1):
    """The outcomes of every cell, prompt by prompt, and a table of what each took; cells in `folder` are read, not computed.

    Parameters
    ----------
    cells : list of dict
        See `cell`.
    folder : str or Path
        A table and a record per cell, written when it is done, so that a killed run resumes. Delete it after changing code.
    jobs : int
        Processes. Cells of one world go to the same one, since they share its proxies.

    Returns
    -------
    (pandas.DataFrame, pandas.DataFrame, dict)
        Outcomes (`cell` and a row per prompt); a row per cell with its settings and costs; kept ids by cell.
    """
    worlds = {}
    for settings in cells:
        if not _stored(settings, folder)[1].exists():
            worlds.setdefault((settings["seed"], settings["conflict"], settings["n_pairs"]), []).append(settings)
    with tqdm(total=sum(map(len, worlds.values())), desc="policies") as bar:
        if jobs == 1 or len(worlds) < 2:
            for group in worlds.values():
                bar.update(_compute(group, folder))
        else:
            with _without_bars(), ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
                for done in as_completed([pool.submit(_compute, group, folder) for group in worlds.values()]):
                    bar.update(done.result())
    tables, records, kept = [], [], {}
    for settings in cells:
        table, record = _stored(settings, folder)
        facts, key = json.loads(record.read_text()), digest_of(settings)
        kept[key] = facts.pop("kept")
        tables.append(pd.read_parquet(table).assign(cell=key))
        records.append({"cell": key} | facts.pop("settings") | facts)
    return pd.concat(tables, ignore_index=True), pd.DataFrame(records), kept


@contextmanager
def _without_bars():
    """Processes started here show no bars of their own, which would draw over each other."""
    names = ["TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS"]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _stored(settings, folder):
    key = digest_of(settings)
    return Path(folder, f"policy-{key}.parquet"), Path(folder, f"policy-{key}.json")


def _compute(cells, folder):
    """Run cells of one world and write them; returns how many."""
    for settings in cells:
        table, record = _stored(settings, folder)
        outcome, facts = policy_cell(**settings, kept_in=folder)
        save_table(outcome, table)
        with writing(record) as scratch:
            scratch.write_text(json.dumps({"settings": settings, **facts}))
    return len(cells)


def baseline_outcomes():
    """SFT's own outputs as those of a cell: every preference a draw."""
    asked, texts = questions(False), baseline(False)
    prompts = list(asked["prompt"])
    return pd.DataFrame(
        {
            "prompt_id": [prompt_id(prompt) for prompt in prompts],
            "dataset": asked["dataset"],
            "output": texts,
            "preference": 0.5,
        }
    ).join(gold_scores(prompts, texts))


def against_ova(outcomes, cells):
    """Preferences on the five families against OVA's outputs of the same seed and conflict level, SFT's among them.

    Returns
    -------
    pandas.DataFrame
        `cell, seed, conflict, prompt_id` (numbered, as a prompt may be in two families), `dataset, preference`.
    """
    asked = questions(True).query("dataset != 'held out'").reset_index(drop=True)
    prompts, sft = list(asked["prompt"]), baseline(True)[-len(asked) :]
    keys = pd.DataFrame(
        {"prompt_id": [f"{i}-{prompt_id(p)}" for i, p in enumerate(prompts)], "dataset": asked["dataset"]}
    )
    texts = outcomes[outcomes["dataset"] != "held out"].groupby("cell")["output"].agg(list)
    frames = []
    for (seed, conflict), rows in cells.groupby(["seed", "conflict"]):
        ova = texts[rows.loc[rows["method"] == "OVA", "cell"].iloc[0]]
        for name, answers in {**texts[rows["cell"]].to_dict(), "SFT": sft}.items():
            preference = gold_judge(prompts, answers, ova)
            frames.append(keys.assign(cell=name, seed=seed, conflict=conflict, preference=preference))
    return pd.concat(frames, ignore_index=True)


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
