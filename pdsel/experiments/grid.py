"""Policies by the dozen on the notes world: a `Cell` in, the policy's outputs judged prompt by prompt out.

Every cell draws its own world from its seed, so cells can run in any order, on any machine, and again. What several cells
share, such as the margins of a world's proxies, is a signal (see `pdsel.rules.store`) and computed once for a folder.
"""

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import active_children, get_context

import pandas as pd
from datasets import Dataset
from tqdm.auto import tqdm

from pdsel.data.eval_prompts import family_prompts
from pdsel.data.scratch import scratch_folder
from pdsel.data.store import Store
from pdsel.evaluation.judges.gold import gold_gaps, gold_judge, gold_scores
from pdsel.experiments.proxy_studies import base_digest, make_world
from pdsel.generation import generate
from pdsel.notesworld import BASE_MODEL, draw_prompts, model_path
from pdsel.notesworld.settings import NEW_TOKENS
from pdsel.pairs import flip_labels
from pdsel.ratings import prompt_id
from pdsel.rules import RULES, needs, score
from pdsel.rules.alternatives import ALTERNATIVES, train_alternative, train_plan
from pdsel.rules.built import build
from pdsel.rules.methods import FULL
from pdsel.rules.signals import aspect_models
from pdsel.rules.store import Signals, pairs_for
from pdsel.selection import select
from pdsel.training import train_dmpo, training_log

N_PROMPTS, N_FAMILY = 500, 100  # held-out prompts, and prompts of each of the five families


@dataclass(frozen=True)
class TrainingSet:
    """The pairs a method trains on, the ids it kept (best first; [] where it keeps all or builds anew), and its seconds."""

    pairs: Dataset
    kept: list
    seconds: float


def policy_cell(cell, folder):
    """Train one policy and judge it on the held-out prompts.

    Parameters
    ----------
    cell : pdsel.experiments.grid_plan.Cell
    folder : str or Path
        Where signals are kept.

    Returns
    -------
    (pandas.DataFrame, dict)
        A row per prompt: `prompt_id, dataset, output, preference` (against SFT), gold aspects, `utility`, `characters,
        tokens`; and what was trained on and spent, with the `kept` ids.
    """
    signals = signals_of(cell, folder)
    training = training_set(cell, signals)
    with scratch_folder("policy") as scratch:
        policy = train_policy(cell, training, signals, output_dir=f"{scratch}/policy")
        log = training_log(policy)
        judged = outcomes(policy, families=bool(cell.families))
    wrong = gold_gaps(training.pairs)["utility"] < 0
    return judged, {
        "n_trained": len(training.pairs),
        "steps": log["steps"],
        "training_seconds": log["seconds"],
        "kept": training.kept,
        "selection_seconds": training.seconds + signals.seconds(*_needs_of_loss(cell)),
        "wrong_labels": float(wrong.mean()),
        "mean_loss": log["history"][-1].get("train_loss", float("nan")),
    }


def signals_of(cell, folder):
    """The pairs of a cell's world, and what rules and losses read of them."""
    pairs = world(cell.seed, cell.conflict, cell.n_pairs, cell.flipped)
    settings = {}
    if cell.proxies:
        proxies = {name: value for name, value in cell.proxies.items() if name != "base"}
        if "base" in cell.proxies:
            proxies["model"] = model_path(cell.proxies["base"])
        settings = {"pooled_reward": proxies} if cell.rule == "RAF" else {"proxies": proxies}
    return Signals(pairs, base=BASE_MODEL, seed=cell.seed, folder=folder, **settings)


def training_set(cell, signals):
    """What a cell's method trains on: all pairs, those that its rule keeps, or those that it builds."""
    if cell.rule in FULL:
        return TrainingSet(FULL[cell.rule](signals["pairs"]), kept=[], seconds=0.0)
    pairs, kept, seconds = pairs_for(cell.rule, signals, share=cell.share, seed=cell.seed, quantile=cell.quantile)
    return TrainingSet(pairs, kept, seconds)


def train_policy(cell, training, signals, *, output_dir):
    """Train with the cell's loss, or in its rule's order; DMPO is the one method of the paper whose loss is not DPO's."""
    options = {
        "model": BASE_MODEL,
        "output_dir": output_dir,
        "seed": cell.seed,
        "beta": cell.beta,
        "learning_rate": cell.learning_rate,
        "max_steps": cell.max_steps,
    }
    if cell.rule == "DMPO":
        divergence = score("PD", signals, quantile=cell.quantile)
        return train_dmpo(training.pairs, divergence, aspects=len(set(training.pairs["aspect"])), **options)
    if cell.loss is None and cell.rule in RULES and RULES[cell.rule].in_order:
        return train_plan({"order": training.kept}, training.pairs, **options)
    return train_alternative(cell.loss or "DPO", training.pairs, signals, **options)


def _needs_of_loss(cell):
    """The signals that the loss reads, beside those of the rule."""
    if cell.rule == "DMPO":
        return needs(RULES["PD"].score)
    return needs(ALTERNATIVES[cell.loss or "DPO"].plan)


@cache
def world(seed, conflict, n_pairs, flipped=None):
    """The pairs of a cell, as notebook 01 makes them; then a share of the labels is turned around."""
    pairs = make_world(seed, n_pairs=n_pairs, conflict=conflict)[0]
    return flip_labels(pairs, flipped, seed=seed) if flipped else pairs


@cache
def questions(families):
    """The held-out prompts, and after them those of the five families; columns `prompt, dataset`."""
    held_out = draw_prompts(N_PROMPTS, split="eval", seed=0)
    table = pd.DataFrame({"prompt": held_out, "dataset": "held out"})
    if families:
        table = pd.concat([table, family_prompts(N_FAMILY).to_pandas()[["prompt", "dataset"]]], ignore_index=True)
    return table


@cache
def baseline(families):
    """SFT's outputs, row for row with `questions`."""
    return generate(BASE_MODEL, list(questions(families)["prompt"]), max_new_tokens=NEW_TOKENS)


def outcomes(policy, *, families):
    """A policy's outputs, judged against SFT's and by gold."""
    asked = questions(families)
    prompts = list(asked["prompt"])
    texts = generate(policy, prompts, max_new_tokens=NEW_TOKENS)
    return _judged(asked, texts, gold_judge(prompts, texts, baseline(families)))


def baseline_outcomes():
    """SFT's own outputs as those of a cell: every preference is a draw."""
    return _judged(questions(False), baseline(False), 0.5)


def _judged(asked, texts, preference):
    prompts = list(asked["prompt"])
    ids = [prompt_id(prompt) for prompt in prompts]
    table = pd.DataFrame({"prompt_id": ids, "dataset": asked["dataset"], "output": texts, "preference": preference})
    return table.join(gold_scores(prompts, texts))


def run_policies(cells, folder, *, jobs=1):
    """The outcomes of every cell, prompt by prompt, and a table of what each took; cells in `folder` are read, not computed.

    Parameters
    ----------
    cells : list of pdsel.experiments.grid_plan.Cell
    folder : str or Path
        Keeps a table and a record per cell, written when it is done, so that a killed run resumes. See `pdsel.data.store`:
        cells of other code, libraries or base models are not read.
    jobs : int
        Processes. Cells of one world go to the same one, since they share its proxies. The first failure stops them all.

    Returns
    -------
    (pandas.DataFrame, pandas.DataFrame, dict)
        Outcomes (`cell` and a row per prompt); a row per cell with its settings and costs; kept ids by the cell's name.
    """
    worlds = {}
    for cell in cells:
        if not is_stored(cell, folder):
            worlds.setdefault((cell.seed, cell.conflict, cell.n_pairs), []).append(cell)
    groups = list(worlds.values())
    with tqdm(total=sum(map(len, groups)), desc="policies") as bar:
        if jobs == 1 or len(groups) < 2:
            for group in groups:
                bar.update(_compute(group, folder))
        else:
            for number in _in_processes(groups, folder, jobs):
                bar.update(number)
    tables, records, kept = [], [], {}
    for cell in cells:
        table, facts = stored_cell(cell, folder)
        kept[cell.name] = facts.pop("kept")
        tables.append(table.assign(cell=cell.name))
        records.append({"cell": cell.name} | cell.settings | facts)
    return pd.concat(tables, ignore_index=True), pd.DataFrame(records), kept


def _in_processes(groups, folder, jobs):
    """Compute groups of cells in processes of their own; yields the size of each group that is done."""
    others = set(active_children())
    with _without_bars(), ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_compute, group, folder) for group in groups]
        try:
            for done in as_completed(futures):
                yield done.result()
        except BaseException:
            # A group takes hours: those that have not begun are cancelled, and those at work are stopped.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:
                worker.terminate()
            raise


def is_stored(cell, folder):
    """Whether a cell is in the folder, computed by this code with these libraries and models."""
    return _store(folder).holds("policy", _determined_by(cell))


def stored_cell(cell, folder):
    """What `policy_cell` returns, computed where it is not stored."""
    return _store(folder).computed("policy", _determined_by(cell), partial(policy_cell, cell, folder))


def _store(folder):
    rules = [rule.score for rule in RULES.values()]
    code = (policy_cell, make_world, pairs_for, score, build, train_alternative, aspect_models, *rules)
    return Store(folder, model=base_digest("notesworld"), code=code)


def _determined_by(cell):
    """The settings of a cell, and the content of the model that its proxies start from where that is another one."""
    if cell.proxies and "base" in cell.proxies:
        return cell.settings | {"base of proxies": base_digest(cell.proxies["base"])}
    return cell.settings


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
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _compute(cells, folder):
    """Compute and keep the cells of one world; returns how many."""
    for cell in cells:
        stored_cell(cell, folder)
    return len(cells)


def against_ova(outcomes, cells):
    """Preferences on the five families against OVA's outputs of the same seed and conflict level, SFT's among them.

    Parameters
    ----------
    outcomes, cells : pandas.DataFrame
        From `run_policies`, of cells that answered the families.

    Returns
    -------
    pandas.DataFrame
        `cell, seed, conflict, prompt_id` (numbered, as a prompt may be in two families), `dataset, preference`.
    """
    asked = questions(True).query("dataset != 'held out'").reset_index(drop=True)
    prompts = list(asked["prompt"])
    ids = [f"{number}-{prompt_id(prompt)}" for number, prompt in enumerate(prompts)]
    keys = pd.DataFrame({"prompt_id": ids, "dataset": asked["dataset"]})
    answers = outcomes[outcomes["dataset"] != "held out"].groupby("cell")["output"].agg(list)
    frames = []
    for (seed, conflict), same_world in cells.groupby(["seed", "conflict"]):
        of_ova = answers[same_world.loc[same_world["method"] == "OVA", "cell"].iloc[0]]
        contestants = answers[same_world["cell"]].to_dict()
        contestants["SFT"] = baseline(True)[-len(asked) :]
        for name, texts in contestants.items():
            preference = gold_judge(prompts, texts, of_ova)
            frames.append(keys.assign(cell=name, seed=seed, conflict=conflict, preference=preference))
    return pd.concat(frames, ignore_index=True)


def pair_facts(cells, folder):
    """PD and the truth of every pair that the methods were trained on.

    Parameters
    ----------
    cells : list of pdsel.experiments.grid_plan.Cell
        PD's, one for each world.
    folder : str or Path
        Where the grid keeps what it computed; margins that are not there are computed.

    Returns
    -------
    pandas.DataFrame
        `seed, conflict_level, aspect, conflict` (of label and overall rating), `gold_wrong`, `PD`, `kept` (by PD).
    """
    frames = []
    for cell in cells:
        signals = signals_of(cell, folder)
        divergence = score("PD", signals, quantile=cell.quantile)
        kept = select(divergence, cell.share, keep=RULES["PD"].keeps)
        facts = signals["pairs"].select_columns(["pair_id", "aspect", "conflict"]).to_pandas().set_index("pair_id")
        facts["gold_wrong"] = gold_gaps(signals["pairs"])["utility"] < 0
        facts["PD"] = divergence.astype("float32")
        facts["kept"] = facts.index.isin(kept)
        frames.append(facts.reset_index(drop=True).assign(seed=cell.seed, conflict_level=cell.conflict))
    columns = ["seed", "conflict_level", "aspect", "conflict", "gold_wrong", "PD", "kept"]
    return pd.concat(frames, ignore_index=True)[columns]
