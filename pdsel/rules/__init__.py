"""Selection rules of the field on an equal footing: each is a named score per pair, and the one `select` keeps pairs by it.

What may live here: the rules, one function per published rule, in modules by what they read (`aspects margins likelihood
geometry rewards baselines built`); the paper's own methods (`methods`); other losses on the same pairs (`alternatives`); what
rules need and what that costs (`signals store`); and what the kept sets are like (`kept_sets`). Questions asked of many
trainings belong in `pdsel.experiments`.

A rule is a pure function whose positional parameters name the signals that it needs and whose keywords are its options; it
returns a Series by `pair_id`. Adding one takes a function and a line in `RULES`. A signal is something computed once for a
pairs table (see `pdsel.rules.signals`); a plain dict of signals serves as well.

Where a docstring names released code or notes on a paper, its formula was compared with them. "From the abstract" and "from a
summary" mean that nothing more was read, "our reading" that the paper, or what we have read of it, leaves a choice open.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pdsel.checks import DataError, refuse
from pdsel.divergence import aligned
from pdsel.rules import aspects, baselines, geometry, likelihood, margins, rewards
from pdsel.selection import select


@dataclass(frozen=True)
class Rule:
    """A score of every pair, or a function that builds pairs, and where it comes from.

    Attributes
    ----------
    score : callable
    keeps : str
        Which end is kept: "lowest" or "highest"; "built" for rules of `pdsel.rules.built`.
    source : str
        The arXiv number of the published rule; "after" it for a rule of ours that the paper suggests, or that leaves out or
        changes a part of its; or "baseline".
    needs_ratings : bool
        Whether it reads what raters said of every aspect of every pair.
    in_order : bool
        Whether its paper trains on the kept pairs best first, without shuffling.
    """

    score: Callable
    keeps: str
    source: str
    needs_ratings: bool = False
    in_order: bool = False


RULES = {
    "RAND": Rule(baselines.chance, "lowest", "baseline"),
    "PD": Rule(aspects.divergence, "lowest", "2508.07638"),
    "PD(rati.)": Rule(aspects.divergence_of_ratings, "lowest", "2508.07638", needs_ratings=True),
    "PD(high)": Rule(aspects.divergence, "highest", "2508.07638"),
    "PD(weighted)": Rule(aspects.voted_divergence, "lowest", "after 2508.07638"),
    "RAF": Rule(margins.pooled_margin, "highest", "2508.07638, 2502.14560"),
    "RC": Rule(aspects.reward_consistency, "highest", "after 2504.11337"),
    "RC(gap)": Rule(aspects.consistent_gap, "highest", "after 2504.11337"),
    "mean-sd": Rule(aspects.mean_less_deviation, "highest", "after 2505.23114"),
    "mean, variance": Rule(aspects.high_mean_low_variance, "lowest", "after 2505.23114"),
    "margin(implicit)": Rule(margins.implicit_margin, "highest", "2502.14560"),
    "DM-ADD": Rule(margins.dual_added, "highest", "2502.14560"),
    "DM-MUL": Rule(margins.dual_multiplied, "highest", "2502.14560"),
    "small gap": Rule(margins.small_gap, "lowest", "2508.04149"),
    "small |gap|": Rule(margins.small_absolute_gap, "lowest", "2508.04149"),
    "beta-DPO filter": Rule(margins.drawn_near_mean, "highest", "after 2407.08639"),
    "SeRA": Rule(margins.reviewed_margin, "highest", "2410.09362"),
    "SeRA(ensemble)": Rule(margins.ensembled_margin, "highest", "after 2410.09362"),
    "SelectiveDPO": Rule(margins.held_out_loss, "lowest", "2502.09650", in_order=True),
    "potential": Rule(margins.alignment_potential, "highest", "2503.01864"),
    "potential(probe)": Rule(margins.probed_potential, "highest", "after 2503.01864"),
    "middle": Rule(margins.middle_band, "lowest", "after 2510.13212"),
    "middle(both)": Rule(margins.middle_of_both, "lowest", "after 2510.13212"),
    "APL": Rule(likelihood.entropy_then_certainty, "highest", "2402.08114"),
    "APL(given)": Rule(likelihood.given_entropy_then_certainty, "highest", "after 2402.08114"),
    "clear preference": Rule(likelihood.reference_margin, "highest", "after 2501.15109"),
    "PPL": Rule(likelihood.perplexity, "lowest", "after 2410.01789"),
    "PPL(high)": Rule(likelihood.perplexity, "highest", "after 2410.01789"),
    "IFD": Rule(likelihood.difficulty_margin, "highest", "after 2402.00530"),
    "IFD(loss)": Rule(likelihood.loss_difficulty, "highest", "after 2308.12032"),
    "IFD(low)": Rule(likelihood.difficulty_margin, "lowest", "after 2402.00530"),
    "D-optimal": Rule(geometry.d_optimal, "lowest", "after 2503.01076"),
    "CHES": Rule(geometry.hidden_similarity, "lowest", "2410.08847"),
    "CHES(normalised)": Rule(geometry.normalised_similarity, "lowest", "2410.08847"),
    "AEPO": Rule(geometry.annotation_efficient, "lowest", "2405.13541"),
    "length balance": Rule(baselines.length_balance, "lowest", "baseline"),
    "shorter chosen": Rule(baselines.log_length_ratio, "lowest", "baseline"),
    "chosen quality": Rule(rewards.chosen_quality, "highest", "after 2508.18312"),
    "data map": Rule(rewards.data_map, "lowest", "2505.23114"),
    "sweet spot": Rule(rewards.sweet_spot, "lowest", "after 2502.16825"),
}


def needs(function):
    """The names of the signals that a function asks for: its positional parameters.

    >>> needs(margins.implicit_margin)
    ['probe_logps', 'reference_logps']
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind in kinds]


def score(name, signals, *, rules=RULES, **options):
    """The score of every pair under one rule.

    Parameters
    ----------
    name : str
        One of `rules`.
    signals : mapping
        Signal name to value: `pairs` always, and what the rule needs. Tables by `pair_id` may hold further pairs.
    rules : dict of str to Rule
        Where the rule is looked up: `RULES`, or `RULES | {"mine": Rule(...)}`.
    **options
        Keywords of the rule; those it does not have are an error.

    Returns
    -------
    pandas.Series
        In the order of `pairs`, whatever the order of any signal.

    Raises
    ------
    ValueError
        For an unknown rule, an absent signal, a pair without an entry in one, NaN or infinite values, repeated pairs.

    Examples
    --------
    >>> signals = {"pairs": {"pair_id": ["p", "q"]}, "pooled": pd.Series({"q": 2.0, "p": 1.0})}
    >>> score("RAF", signals).to_dict()
    {'p': 1.0, 'q': 2.0}
    """
    if name not in rules:
        raise DataError(f"rule={name!r}: use one of {list(rules)}")
    ids = pd.Index(list(signals["pairs"]["pair_id"]), name="pair_id")
    refuse(ids[ids.duplicated()].unique(), "pairs: pair_id", "occurs more than once", "drop repeats")
    # Sums are taken in the order of the ids, so that no bit of a score depends on the order of the rows.
    order = np.argsort(ids.to_numpy().astype(str), kind="stable")
    wanted = needs(rules[name].score)
    refuse(
        [need for need in wanted if need not in signals],
        f"rule {name!r}: signal",
        "is absent",
        "compute it with pdsel.rules.store.Signals, or add it to the mapping",
    )
    values = [_in_order(need, signals[need], ids[order], order, name) for need in wanted]
    scores = rules[name].score(*values, **options).astype(float).rename(name)
    bad = scores.index[~np.isfinite(scores.to_numpy())]
    refuse(
        bad, f"rule {name!r}: score", "is NaN or infinite", "see what its signals hold for these pairs, or drop them"
    )
    return scores.loc[ids].rename_axis("pair_id")


def _in_order(need, value, ids, order, rule):
    """A signal's rows in the order of the ids; signals by prompt as they are."""
    if need == "pairs":
        return value.select(order) if hasattr(value, "select") else {k: [v[i] for i in order] for k, v in value.items()}
    if value.index.name == "prompt_id":
        bad = value.index[value.isna().to_numpy().reshape(len(value), -1).any(axis=1)]
        refuse(bad.unique(), f"rule {rule!r}: {need}", "is NaN for a prompt", "compute it again, or drop its pairs")
        return value
    rows = aligned(value, ids, f"rule {rule!r}: {need}")
    if need != "margins":  # a pair's own aspect is never read there and may be NaN; PD checks the others
        numbers = rows.to_numpy(dtype=float).reshape(len(rows), -1)
        bad = ids[~np.isfinite(numbers).all(axis=1)]
        refuse(bad, f"rule {rule!r}: {need}", "is NaN or infinite", "compute it again, or drop these pairs")
    return rows


def available(signals, *, rules=RULES):
    """The names of the rules for which a mapping of signals holds all that they need, in the order of `rules`."""
    return [name for name, rule in rules.items() if all(need in signals for need in needs(rule.score))]


def score_all(signals, names=None, *, rules=RULES, **options):
    """A column of scores per rule, index `pair_id`.

    Parameters
    ----------
    signals : mapping
        See `score`.
    names : iterable of str, optional
        Default: every rule for which the signals suffice.
    rules : dict of str to Rule
        Where rules are looked up; `RULES | {"mine": Rule(...)}` adds one.
    **options
        Such as `seed`; each reaches the rules that have it.
    """
    names = available(signals, rules=rules) if names is None else list(names)
    columns = {}
    for name in names:
        known = inspect.signature(rules[name].score).parameters if name in rules else {}
        own_options = {key: value for key, value in options.items() if key in known}
        columns[name] = score(name, signals, rules=rules, **own_options)
    return pd.DataFrame(columns).rename_axis("pair_id")


def keep_all(scores, share, *, rules=RULES):
    """The kept ids of every rule in `scores`, as a table `method, rank, pair_id` (best first)."""
    tables = []
    for name in scores:
        kept = select(scores[name], share, keep=rules[name].keeps)
        tables.append(pd.DataFrame({"method": name, "rank": range(len(kept)), "pair_id": kept}))
    return pd.concat(tables, ignore_index=True)


def describe(signals=None):
    """A row per rule: `keeps, needs, source` and, where signals are given, the `seconds` that it costs on its own.

    >>> describe().loc["RAF", "needs"]
    'pooled'
    """
    rows = {
        name: {"keeps": rule.keeps, "needs": ", ".join(needs(rule.score)), "source": rule.source}
        for name, rule in RULES.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("rule")
    if signals is not None:
        table["seconds"] = [signals.seconds(*needs(RULES[name].score)) for name in table.index]
    return table
