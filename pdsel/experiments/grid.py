"""Policies by the dozen on the notes world: a `Cell` in, the policy's outputs judged prompt by prompt out.

Every cell draws its own world from its seed, so cells can run in any order, on any machine, and again. What several cells
share, such as the margins of a world's proxies, is a signal (see `pdsel.rules.store`) and computed once for a folder.
"""

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import active_children, get_context

import pandas as pd
from datasets import Dataset

from pdsel.data.eval_prompts import family_prompts
from pdsel.data.scratch import scratch_folder
from pdsel.data.store import Store
from pdsel.engine.progress import Progress, quiet_processes
from pdsel.evaluation.judges.draws import in_draws, judged_draws
from pdsel.evaluation.judges.gold import gold_gaps, gold_judge, gold_scores
from pdsel.experiments.grid_plan import sft_cell
from pdsel.experiments.proxy_studies import base_digest, make_world
from pdsel.generation import generate
from pdsel.notesworld import draw_prompts, model_path
from pdsel.notesworld.settings import BATCH, HELD_OUT_PAIRS, LOSS_TYPE, NEW_TOKENS, PAIRS, SAMPLES
from pdsel.pairs import flip_labels
from pdsel.ratings import prompt_id
from pdsel.rules import RULES, needs, score
from pdsel.rules.alternatives import ALTERNATIVES, train_alternative, train_plan
from pdsel.rules.methods import FULL
from pdsel.rules.store import Signals, pairs_for
from pdsel.selection import select
from pdsel.training import train_dmpo, training_log

N_PROMPTS, N_FAMILY = 400, 100  # evaluation prompts of a seed, and prompts of each of the five families
OTHER_WORLD = 5000  # added to a seed: a world whose prompts nobody trains on


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
        A row per prompt, see `outcomes`; and what was trained on and spent, with the `kept` ids.
    """
    signals = signals_of(cell, folder)
    training = training_set(cell, signals)
    with scratch_folder("policy") as scratch:
        policy = train_policy(cell, training, signals, output_dir=f"{scratch}/policy")
        log = training_log(policy)
        judged = outcomes(policy, Evaluation(cell.seed, bool(cell.families), cell.base or "notesworld"))
    wrong = gold_gaps(training.pairs)["utility"] < 0
    return judged, {
        "n_trained": len(training.pairs),
        "steps": log["steps"],
        "training_seconds": log["seconds"],
        "kept": training.kept,
        "selection_seconds": training.seconds + signals.seconds(*_needs_of_loss(cell)),
        "wrong_labels": float(wrong.mean()),
        "mean_loss": log["history"][-1].get("train_loss", float("nan")),
        "held_out_accuracy": log.get("held_out", {}).get("accuracy", float("nan")),
    }


def signals_of(cell, folder):
    """The pairs of a cell's world, and what rules and losses read of them. Proxies start from a smaller model."""
    pairs = world(cell.seed, cell.conflict, cell.n_pairs, cell.flipped, cell.raters or ())
    settings = {}
    if cell.proxies:
        proxies = {name: value for name, value in cell.proxies.items() if name != "base"}
        proxies["model"] = model_path(cell.proxies.get("base", "notesworld-small"))
        settings = {"pooled_reward": proxies} if cell.rule == "RAF" else {"proxies": proxies}
    return Signals(pairs, base=model_path(cell.base or "notesworld"), seed=cell.seed, folder=folder, **settings)


def training_set(cell, signals):
    """What a cell's method trains on: all pairs, those that its rule keeps, or those that it builds."""
    if cell.rule in FULL:
        return TrainingSet(FULL[cell.rule](signals["pairs"]), kept=[], seconds=0.0)
    pairs, kept, seconds = pairs_for(cell.rule, signals, share=cell.share, seed=cell.seed, quantile=cell.quantile)
    return TrainingSet(pairs, kept, seconds)


def train_policy(cell, training, signals, *, output_dir):
    """Train with the cell's loss, or in its rule's order; DMPO is the one method of the paper whose loss is not DPO's."""
    options = {
        "model": model_path(cell.base or "notesworld"),
        "output_dir": output_dir,
        "seed": cell.seed,
        "beta": cell.beta,
        "learning_rate": cell.learning_rate,
        "max_steps": cell.max_steps,
        "batch_size": BATCH,
        "loss_type": LOSS_TYPE,
        "held_out": held_out_pairs(cell.seed, cell.conflict) if cell.held_out else None,
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
def world(seed, conflict, n_pairs, flipped=None, raters=()):
    """The pairs of a cell, as notebook 01 makes them; then a share of the labels is turned around."""
    pairs = make_world(seed, n_pairs=n_pairs, conflict=conflict, **dict(raters))[0]
    return flip_labels(pairs, flipped, seed=seed) if flipped else pairs


@cache
def held_out_pairs(seed, conflict):
    """Pairs of prompts that a world of this seed does not have, labelled as noisily as its own."""
    trained = set(world(seed, conflict, PAIRS)["prompt"])
    others = world(seed + OTHER_WORLD, conflict, HELD_OUT_PAIRS)
    return others.select([row for row, prompt in enumerate(others["prompt"]) if prompt not in trained])


@dataclass(frozen=True)
class Evaluation:
    """What a policy is asked, and whom it meets: the seed of the prompts, whether the five families are asked too, and the
    model whose answers it is compared with.
    """

    seed: int
    families: bool = False
    base: str = "notesworld"


@cache
def questions(seed, families):
    """The evaluation prompts of a seed, and after them those of the five families; columns `prompt, dataset`."""
    held_out = draw_prompts(N_PROMPTS, split="eval", seed=seed)
    table = pd.DataFrame({"prompt": held_out, "dataset": "held out"})
    if families:
        of_families = family_prompts(N_FAMILY, seed=seed).to_pandas()[["prompt", "dataset"]]
        table = pd.concat([table, of_families], ignore_index=True)
    return table


def answers(model, evaluation, *, stream):
    """A model's answers to every question: `SAMPLES` lists of texts at temperature 1, and the likeliest texts.

    Streams are seeds of the sampling: two models that are compared must not draw with the same random numbers.
    """
    prompts = list(questions(evaluation.seed, evaluation.families)["prompt"])
    drawn = generate(model, prompts * SAMPLES, max_new_tokens=NEW_TOKENS, temperature=1.0, seed=stream)
    return in_draws(drawn, len(prompts)), generate(model, prompts, max_new_tokens=NEW_TOKENS)


@cache
def baseline(evaluation):
    """SFT's answers, as `answers` gives them."""
    return answers(model_path(evaluation.base), evaluation, stream=2 * evaluation.seed)


def outcomes(policy, evaluation):
    """A policy's answers, judged against SFT's and by gold.

    Returns
    -------
    pandas.DataFrame
        A row per prompt, and every number the mean over `SAMPLES` answers at temperature 1: `prompt_id, dataset`, `output`
        (the first answer), `preference` (against SFT), gold aspects, `utility`, `characters, tokens`; and `greedy`, the
        preference of the likeliest answer against SFT's likeliest.
    """
    return judged(answers(policy, evaluation, stream=2 * evaluation.seed + 1), evaluation)


def judged(answered, evaluation):
    """What `outcomes` says of answers that are there already."""
    asked = questions(evaluation.seed, evaluation.families)
    prompts = list(asked["prompt"])
    (draws, likeliest), (their_draws, their_likeliest) = answered, baseline(evaluation)
    ids = [f"{evaluation.seed}-{prompt_id(prompt)}" for prompt in prompts]
    table = pd.DataFrame({"prompt_id": ids, "dataset": asked["dataset"], "output": draws[0]})
    table["greedy"] = gold_judge(prompts, likeliest, their_likeliest)
    return table.join(judged_draws(gold_judge, prompts, draws, their_draws, describe=gold_scores))


def baseline_outcomes(seeds):
    """SFT's own answers as those of cells, one for each seed (see `sft_cell`): every preference is a draw."""
    tables = []
    for seed in seeds:
        evaluation = Evaluation(seed)
        drawn = judged(baseline(evaluation), evaluation).assign(preference=0.5, greedy=0.5)
        tables.append(drawn.assign(cell=sft_cell(seed)))
    return pd.concat(tables, ignore_index=True)


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
    with Progress(total=sum(map(len, groups)), desc="policies") as bar:
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
    with quiet_processes(), ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
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
    return Store(folder, model=base_digest("notesworld"), code=(policy_cell,))


def _determined_by(cell):
    """The settings of a cell, and the content of the models that its policy and its proxies start from."""
    models = {"base of policies": cell.base or "notesworld"}
    if cell.proxies:
        models["base of proxies"] = cell.proxies.get("base", "notesworld-small")
    return cell.settings | {role: base_digest(name) for role, name in models.items()}


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
    texts_of = outcomes[outcomes["dataset"] != "held out"].groupby("cell")["output"].agg(list)
    frames = []
    for (seed, conflict), same_world in cells.groupby(["seed", "conflict"]):
        asked = questions(seed, True).query("dataset != 'held out'").reset_index(drop=True)
        prompts = list(asked["prompt"])
        ids = [f"{number}-{prompt_id(prompt)}" for number, prompt in enumerate(prompts)]
        keys = pd.DataFrame({"prompt_id": ids, "dataset": asked["dataset"]})
        of_ova = texts_of[same_world.loc[same_world["method"] == "OVA", "cell"].iloc[0]]
        contestants = texts_of[same_world["cell"]].to_dict()
        samples, _ = baseline(Evaluation(seed, families=True))
        contestants["SFT"] = samples[0][-len(asked) :]
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
