"""Can the notes world tell a good rule from a bad one? Its acceptance test, before any table is read from it.

The bounds below were fixed before the tables were made. Where one is not met, the page says so, and what it costs.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from datasets import Dataset

from pdsel.data.scratch import scratch_folder
from pdsel.data.store import Store
from pdsel.divergence import preference_divergence, scale_margins
from pdsel.evaluation import mean_over_prompts_and_seeds
from pdsel.evaluation.judges.audit import NOTES_NULLS, null_outputs
from pdsel.evaluation.judges.gold import gold_gaps, gold_judge, gold_scores
from pdsel.experiments.grid import Evaluation, TrainingSet, baseline, outcomes, questions, signals_of, train_policy
from pdsel.experiments.grid import training_set as method_training_set
from pdsel.experiments.grid_plan import BUDGETS, cell
from pdsel.experiments.proxy_studies import base_digest
from pdsel.notesworld import ASPECTS, best_response
from pdsel.notesworld.settings import CONFLICT, DPO, QUANTILE, SHARE
from pdsel.pairs import with_labels_turned
from pdsel.selection import select
from pdsel.training import training_log

FLIPS = [0.5, 0.35, 0.2, 0.1, 0.0]  # the share of right labels that are turned around, from useless to perfect
TRAINED = ["RAND", "PD", "PD(gold)", "PD(high)", "ALL"]
SEEDS = [201, 202, 203]  # of worlds that no table shows

CEILING_GAP = 5.0  # points that every method stays below the ideal
NULL_LIMIT = 35.0  # percent that an answer that weighs nothing may win
LENGTH_LIMIT = 0.1  # size of the correlation of utility and length
SLACK = 2.0  # points that a win rate may fall from one step to the next and still count as level
RISE = 5.0  # points that it rises in all
ASPECT_SHARES = (0.15, 0.35)  # of the variance of utility between policies, that an aspect carries


@dataclass(frozen=True)
class Trial:
    """One policy of the check.

    Attributes
    ----------
    kind : str
        One of `TRAINED`, or "flip 0.2": a random share of the pairs with right labels, of which a fifth is turned around.
    seed : int
    budget : str
        One of `pdsel.experiments.grid_plan.BUDGETS`.
    """

    kind: str
    seed: int
    budget: str


def trials(seeds=SEEDS):
    """Every policy of the check: labels of known quality, and rules of known order, at two budgets of steps.

    >>> len(trials([0])) == 2 * (len(FLIPS) + len(TRAINED))
    True
    """
    kinds = [*(f"flip {share:g}" for share in FLIPS), *TRAINED]
    return [Trial(kind, seed, budget) for seed in seeds for budget in BUDGETS for kind in kinds]


def check_cell(trial, folder):
    """Train one policy of the check and judge it.

    Returns
    -------
    (pandas.DataFrame, dict)
        A row per prompt, see `pdsel.experiments.grid.outcomes`; and the steps and wrong labels.
    """
    method = "RAND" if trial.kind.startswith("flip") or trial.kind == "PD(gold)" else trial.kind
    settings = cell(method, seed=trial.seed, conflict=CONFLICT, max_steps=BUDGETS[trial.budget], **DPO)
    signals = signals_of(settings, folder)
    trained = _training_set(trial, settings, signals)
    with scratch_folder("check") as scratch:
        policy = train_policy(settings, trained, signals, output_dir=f"{scratch}/policy")
        steps = training_log(policy)["steps"]
        judged = outcomes(policy, Evaluation(trial.seed))
    wrong = float((gold_gaps(trained.pairs)["utility"] < 0).mean())
    return judged, {"steps": steps, "wrong_labels": wrong}


def _training_set(trial, settings, signals):
    if trial.kind.startswith("flip"):
        share = float(trial.kind.split()[1])
        drawn = method_training_set(settings, signals).pairs
        return TrainingSet(rightly_labelled(drawn, turned=share, seed=trial.seed), kept=[], seconds=0.0)
    if trial.kind == "PD(gold)":
        return TrainingSet(_kept_by_gold(signals["pairs"]), kept=[], seconds=0.0)
    return method_training_set(settings, signals)


def rightly_labelled(pairs, *, turned=0.0, seed=0):
    """The pairs with the labels that gold utility gives them, of which a random share is turned around; ties are dropped.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    turned : float in [0, 1]
    seed : int
    """
    gaps = gold_gaps(pairs)["utility"].to_numpy()
    decided = np.flatnonzero(gaps != 0)
    wrong = gaps[decided] < 0
    errors = np.random.default_rng([seed, 909]).random(len(decided)) < turned
    return with_labels_turned(pairs.select(decided), wrong ^ errors)


def _kept_by_gold(pairs: Dataset):
    """What PD keeps when its margins are the true gaps of the aspects."""
    gaps = gold_gaps(pairs)[ASPECTS]
    aspect = pd.Series(list(pairs["aspect"]), index=gaps.index)
    divergence = preference_divergence(scale_margins(gaps, aspect, quantile=QUANTILE), aspect)
    kept = set(select(divergence, SHARE))
    return pairs.select([row for row, name in enumerate(pairs["pair_id"]) if name in kept])


def run_check(folder, seeds=SEEDS):
    """Every trial's outcomes; those in `folder` are read, not computed.

    Returns
    -------
    pandas.DataFrame
        `kind, seed, budget, steps, wrong_labels`, and the columns of `pdsel.experiments.grid.outcomes`.
    """
    store = Store(folder, model=base_digest("notesworld"), code=(check_cell,))
    tables = []
    for trial in trials(seeds):
        table, facts = store.computed("check", vars(trial), partial(check_cell, trial, folder))
        tables.append(table.drop(columns=["dataset", "output"]).assign(**vars(trial), **facts))
    return pd.concat(tables, ignore_index=True)


def fixed_answers(seeds=SEEDS):
    """What needs no training: the ideal answer, and answers that weigh nothing, against SFT's on the same prompts.

    Returns
    -------
    pandas.DataFrame
        `kind, seed, prompt_id, preference, utility`, and the gold aspects.
    """
    tables = []
    for seed in seeds:
        evaluation = Evaluation(seed)
        prompts = list(questions(seed, False)["prompt"])
        samples, _ = baseline(evaluation)
        texts = {"ideal": [best_response(prompt) for prompt in prompts]}
        texts |= {name: null_outputs(prompts, text) for name, text in NOTES_NULLS.items()}
        for kind, outputs in texts.items():
            preference = np.mean([gold_judge(prompts, outputs, theirs) for theirs in samples], axis=0)
            table = gold_scores(prompts, outputs).assign(kind=kind, seed=seed, prompt_id=prompts, preference=preference)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def rates(table, by=("kind", "budget")):
    """The win rate of every kind, percent, with its interval over seeds and prompts, and its mean utility."""
    rows = []
    for names, group in table.groupby(list(by), sort=False):
        found = mean_over_prompts_and_seeds(100 * group.pivot(index="seed", columns="prompt_id", values="preference"))
        row = dict(zip(by, names, strict=True)) | {"win_rate": found.value, "low": found.low, "high": found.high}
        rows.append(row | {"utility": group["utility"].mean()})
    return pd.DataFrame(rows)


def verdicts(trained, fixed):
    """Every bound of the check, what was found, and whether it is met.

    Parameters
    ----------
    trained : pandas.DataFrame
        From `run_check`.
    fixed : pandas.DataFrame
        From `fixed_answers`.

    Returns
    -------
    pandas.DataFrame
        `bound, budget, found, met`.
    """
    of_fixed = rates(fixed, by=("kind",)).set_index("kind")["win_rate"]
    rows = []
    for budget, same in trained.groupby("budget", sort=False):
        rate = rates(same).set_index("kind")["win_rate"]
        by_flips = [rate[f"flip {share:g}"] for share in FLIPS]
        order = [rate[name] for name in ("PD(gold)", "PD", "RAND")]
        worst = rate[TRAINED].idxmin()
        gap = of_fixed["ideal"] - rate.max()
        rows += [
            ("fewer wrong labels, higher win rate", budget, _listed(by_flips), rises(by_flips)),
            ("PD from gold above PD above RAND", budget, _listed(order), order == sorted(order, reverse=True)),
            ("PD(high) is the worst rule", budget, f"{worst} {rate[worst]:.1f}", worst == "PD(high)"),
            (f"all methods {CEILING_GAP:g} points below the ideal", budget, f"{gap:.1f}", bool(gap >= CEILING_GAP)),
        ]
        length = same["utility"].corr(same["characters"], method="spearman")
        rows.append(("utility does not go with length", budget, f"{length:+.2f}", bool(abs(length) <= LENGTH_LIMIT)))
    best_null = of_fixed.drop("ideal").idxmax()
    rows.append(
        (
            f"answers that weigh nothing below {NULL_LIMIT:g} %",
            "",
            f"{best_null} {of_fixed[best_null]:.1f}",
            bool(of_fixed[best_null] < NULL_LIMIT),
        )
    )
    shares = aspect_shares(trained)
    low, high = ASPECT_SHARES
    text = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    rows.append(
        (
            f"an aspect carries {100 * low:.0f} to {100 * high:.0f} % of the variance",
            "",
            text,
            bool(shares.between(low, high).all()),
        )
    )
    return pd.DataFrame(rows, columns=["bound", "budget", "found", "met"])


def rises(values):
    """Whether values rise: none by more than `SLACK` below the one before, and the last by at least `RISE` above the first.

    >>> rises([50.5, 50.1, 55.0, 61.0]), rises([50.0, 54.0, 51.0, 61.0])
    (True, False)
    """
    steps = np.diff(values)
    return bool(steps.min() >= -SLACK and values[-1] - values[0] >= RISE)


def aspect_shares(trained):
    """The share of the variance of utility between policies that each aspect carries: cov(aspect, utility) / (kappa var).

    >>> table = pd.DataFrame({"kind": list("ab"), "seed": 0, "budget": "", "utility": [0.0, 1.0],
    ...                       **{name: [0.0, 1.0] for name in ASPECTS}})
    >>> aspect_shares(table).round(2).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    means = trained.groupby(["kind", "seed", "budget"])[[*ASPECTS, "utility"]].mean()
    covariance = means.cov()
    return covariance.loc[ASPECTS, "utility"] / (len(ASPECTS) * covariance.loc["utility", "utility"])


def _listed(values):
    return ", ".join(f"{value:.1f}" for value in values)
