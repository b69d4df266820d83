"""Do people agree with the labels that PD keeps? Real ratings: one aspect labels, an opinion PD never reads judges.

One aspect labels every pair of responses it separates. PD(rati.) of these labels comes from the *other* aspects. The
judge is the human overall score, or, where a file has none, one further aspect that is held out of PD.
"""

from itertools import product

import numpy as np
import pandas as pd
from datasets import Dataset

from pdsel.checks import DataError, refuse
from pdsel.evaluation import CONFIDENCE, RESAMPLES
from pdsel.experiments.proxy_quality import divergence_of
from pdsel.pairs import compare_responses, pair_id
from pdsel.rules import RULES, available, score_all
from pdsel.selection import random_scores, select

REFERENCES = {"overall": "human overall", "held_out": "held-out aspect"}
TIES = {"half": 0.5, "drop": np.nan}  # what a label counts on a pair that its judge does not separate
SIMPLE_RULES = ["PD(rati.)", "GAP", "ALL", "RAND", "PD(high)"]  # the columns of `rule_scores`
NAMES_ON_RATINGS = {
    "PD": "PD(rati.)",
    "RAF": "mean gap",
}  # how a rule on margins is called where ratings stand in for them
MEAN = "mean of labels"


def label_on(ratings, aspect):
    """Every pair of responses to one prompt that differ on `aspect`; chosen is the one rated higher on it.

    `make_pairs` gives a prompt to one aspect, here all prompts are labelled by this one. Identical responses make no pair;
    a response given twice to a prompt makes one pair with the mean of its gaps.

    Parameters
    ----------
    ratings : datasets.Dataset
        Ratings table, see `pdsel.load_ratings`.
    aspect : str

    Returns
    -------
    pandas.DataFrame, shape (n, 2 + kappa)
        Index `pair_id`, sorted; `prompt_id`, `overall_gap` and a column per aspect: rating of chosen minus rating of
        rejected, in rating points, NaN where absent.

    Raises
    ------
    ValueError
        If the aspect is not in the table, or separates no two responses.

    Examples
    --------
    >>> from importlib.resources import files
    >>> from pdsel.ratings import load_ratings
    >>> gaps = label_on(load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=2), "honesty")
    >>> len(gaps), bool((gaps["honesty"] > 0).all())
    (8, True)
    """
    gaps = compare_responses(ratings)
    columns = list(gaps.columns[3:])
    if aspect not in columns[1:]:
        raise DataError(f"aspect={aspect!r} is not rated in this table. Remedy: use one of {columns[1:]}")
    gaps = gaps[gaps[aspect].abs() > 0]
    prompts, keys = ratings.to_list(), []
    for row, first, second, gap in zip(gaps["row"], gaps["first"], gaps["second"], gaps[aspect], strict=True):
        prompt = prompts[row]
        chosen, rejected = (prompt["responses"][i] for i in ((first, second) if gap > 0 else (second, first)))
        key = pair_id(prompt["prompt"], chosen, rejected, aspect) if chosen != rejected else None
        keys.append((key, prompt["prompt_id"]))
    oriented = gaps[columns].mul(np.sign(gaps[aspect]), axis=0) + 0.0  # no negative zeros
    oriented[["pair_id", "prompt_id"]] = np.array(keys, dtype=object).reshape(-1, 2)
    oriented = oriented.groupby(["pair_id", "prompt_id"])[columns].mean().reset_index("prompt_id")
    if oriented.empty:
        raise DataError(f"aspect={aspect!r} separates no two responses. Remedy: leave this aspect out, or more prompts")
    return oriented


def rule_scores(gaps, label, *, judge="overall_gap", seed=0):
    """A score per pair and rule, index `pair_id`; the lowest is kept first.

    PD(rati.) divides each gap by its largest, since aspects have different scales, and reads neither the judge's nor the
    overall gap; PD(high) is its opposite end. GAP is the label's own gap, largest first: a rater who is sure of the label,
    without a second opinion. `gaps` comes from `label_on` and `label` is its aspect.

    >>> gaps = pd.DataFrame({"a": [2.0, 1.0], "b": [1.0, -1.0], "c": [-1.0, -2.0]}, index=["p", "q"])
    >>> rule_scores(gaps, "a")["PD(rati.)"].tolist()  # p: -(1/1 - 1/2), q: -(-1/1 - 2/2)
    [-0.5, 2.0]
    >>> rule_scores(gaps, "a", judge="c")["PD(rati.)"].tolist()
    [-1.0, 1.0]
    """
    margins = gaps.drop(columns=["prompt_id", "overall_gap", judge], errors="ignore")
    aspect = pd.Series(label, index=gaps.index)
    score = divergence_of(margins, aspect, quantile=1.0)
    draws = random_scores({"pair_id": gaps.index}, seed=seed)
    return pd.DataFrame({"PD(rati.)": score, "PD(high)": -score, "GAP": -gaps[label], "RAND": draws, "ALL": 0.0})[
        SIMPLE_RULES
    ]


def rating_signals(gaps, label, *, judge="overall_gap"):
    """`pairs`, `margins` and `pooled` of one aspect's labels, from ratings alone; the judge's are left out.

    The margins are the rating gaps. The one reward on everything is the mean of all gaps, the label's own among them, each
    divided by its largest.

    Parameters
    ----------
    gaps : pandas.DataFrame
        From `label_on`.
    label, judge : str
        The aspect that labels, and the column that will judge.

    Returns
    -------
    dict
    """
    margins = gaps.drop(columns=["prompt_id", "overall_gap", judge], errors="ignore")
    largest = margins.abs().max()
    pooled = (margins / largest.where(largest > 0, 1.0)).mean(axis=1)
    pairs = Dataset.from_dict({"pair_id": list(gaps.index), "aspect": [label] * len(gaps)})
    return {"pairs": pairs, "margins": margins, "pooled": pooled}


def field_scores(gaps, label, *, judge="overall_gap", seed=0):
    """A score per pair and rule, the lowest kept first, for `agreement_table`: every rule that ratings suffice for.

    Beside those of `RULES`: GAP, the label's own gap, and ALL. Gaps are scaled by their largest (gamma = 1), as ratings are.

    >>> gaps = pd.DataFrame({"a": [2.0, 1.0], "b": [1.0, -1.0], "c": [-1.0, -2.0]}, index=["p", "q"])
    >>> field_scores(gaps, "a")[["PD(rati.)", "RC", "mean gap"]].round(3).values.tolist()  # RC: -min(1, -.5), -min(-1, -1)
    [[-0.5, 0.5, -0.5], [2.0, 1.0, 0.5]]
    """
    signals = rating_signals(gaps, label, judge=judge)
    ours = [name for name in available(signals) if name != "PD(rati.)"]  # PD of these margins is it
    scores = score_all(signals, ours, seed=seed, quantile=1.0)
    signs = {name: 1.0 if RULES[name].keeps == "lowest" else -1.0 for name in scores}
    return (scores * signs).rename(columns=NAMES_ON_RATINGS).assign(GAP=-gaps[label], ALL=0.0)


def agreement_table(
    ratings, *, reference="overall", aspects=None, shares=(0.3,), ties="half", seed=0, score_rules=rule_scores
):
    """How often the judge prefers the chosen response too, over the labels that each rule keeps.

    Every aspect labels in turn, and each rule of `rule_scores` keeps a share of its labels, ALL keeps them all. With
    `reference="held_out"` every other aspect judges in turn, PD reads only the remaining ones, and the judges are averaged.

    Parameters
    ----------
    ratings : datasets.Dataset
        Ratings table; every aspect of every response must be rated.
    reference : {"overall", "held_out"}
        Who judges the labels.
    aspects : list of str, optional
        Default: all of the table; at least two, for "held_out" three.
    shares : sequence of float in (0, 1]
        How much of each aspect's labels is kept.
    ties : {"half", "drop"}
        A pair that the judge does not separate counts one half, or is left out.
    seed : int
    score_rules : callable
        A column per rule, ALL among them; see `rule_scores`, or `field_scores` for more rules.

    Returns
    -------
    pandas.DataFrame
        A row per label (each aspect, and their mean), share and rule. `value, low, high`: agreement in percent, 50 is
        chance. `gain, gain_low, gain_high`: agreement minus that of ALL, in points. `ties`: kept pairs that the judge does
        not separate, in percent. `n`: kept labels. `reference`: who judged.

    Raises
    ------
    ValueError
        For too few aspects, absent ratings, or no overall score where it should judge; the message names the remedy.

    Notes
    -----
    95 % percentile bootstrap over prompts, each with all its pairs; gains are paired. The kept set is fixed, for the question
    is how sure we are of *these* labels; selecting anew in every resample moved the bounds by under .7 points on two files.
    Where all kept labels agree, every resample does too, and an interval without width overstates what is known.

    Aspects and overall score come from the same people, whose general like or dislike is in all of them: the agreement is
    higher than independent judges' would be, under every rule.
    """
    names = _aspects(ratings, reference, aspects, ties)
    gaps = {label: _rated(label_on(ratings, label), names, reference) for label in names}
    prompts = pd.Index(sorted({name for table in gaps.values() for name in table["prompt_id"]}))
    weights = prompt_weights(len(prompts), seed)
    drawn, facts = {}, {}
    for label, judge in product(names, ["overall_gap"] if reference == "overall" else names):
        if label == judge:
            continue
        where, votes = prompts.get_indexer(gaps[label]["prompt_id"]), np.sign(gaps[label][judge].to_numpy())
        scores = score_rules(gaps[label], label, judge=judge, seed=seed)
        for rule, share in product(scores, shares):
            key = label, share, rule, judge
            kept = scores.index.get_indexer(select(scores[rule], 1 if rule == "ALL" else share))
            drawn[key] = _agreement(votes[kept], where[kept], weights, TIES[ties])
            facts[key] = len(kept), 100 * (votes[kept] == 0).mean()
    return _summarise(100 * _mean_of_judges(drawn), _mean_of_judges(facts)).assign(reference=REFERENCES[reference])


def _aspects(ratings, reference, aspects, ties):
    if reference not in REFERENCES or ties not in TIES:
        raise DataError(f"reference={reference!r}, ties={ties!r}: use one of {list(REFERENCES)} and of {list(TIES)}")
    names = list(compare_responses(ratings, aspects=aspects).columns[4:])
    needed = 2 if reference == "overall" else 3
    if len(names) < needed:
        raise DataError(
            f"aspects: {names} in this table, reference={reference!r} needs {needed}: one labels, "
            f"{'one judges, ' * (needed - 2)}the others give PD. Remedy: rate more aspects"
        )
    return names


def _rated(gaps, names, reference):
    """The gaps on these aspects, refused if a rating that will be read is absent."""
    remedies = dict.fromkeys(names, "drop them, or leave this aspect out with aspects=[...]")
    if reference == "overall":
        remedies["overall_gap"] = "drop them, or let a held-out aspect judge: reference='held_out'"
    for column, remedy in remedies.items():
        refuse(gaps.loc[gaps[column].isna(), "prompt_id"].unique(), column, "is not known for prompts", remedy)
    return gaps[["prompt_id", "overall_gap", *names]]


def _agreement(votes, where, weights, tie):
    """Share of labels that the judge's votes (1, 0 a tie, -1) confirm, for every row of `weights` over prompts."""
    return resampled_mean(np.where(votes == 0, tie, votes > 0), where, weights)


def prompt_weights(n, seed):
    """How often each of `n` prompts counts, shape (1 + RESAMPLES, n): once in the first row, as drawn in the others."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.vstack([np.ones(n), drawn])


def resampled_mean(values, where, weights):
    """The mean of values of pairs, for every row of `weights` over prompts; NaN is left out.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
    where : numpy.ndarray of int, shape (n,)
        The number of each pair's prompt.
    weights : numpy.ndarray, shape (m, prompts)
        From `prompt_weights`.

    Returns
    -------
    numpy.ndarray, shape (m,)
        NaN where no pair of a drawn prompt has a value.

    >>> resampled_mean(np.array([1.0, 0.0, 0.0]), np.array([0, 1, 1]), np.array([[1, 1], [2, 1]])).tolist()
    [0.3333333333333333, 0.5]
    """
    counted = np.isfinite(values)
    total = np.bincount(where[counted], values[counted], minlength=weights.shape[1])
    n = np.bincount(where[counted], minlength=weights.shape[1])
    with np.errstate(invalid="ignore"):
        return (weights @ total) / (weights @ n)


def percentiles(draws, **options):
    """The ends of the 95 % interval of resampled values."""
    return np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], **options)


def _mean_of_judges(rows):
    index = pd.MultiIndex.from_tuples(rows, names=["label", "share", "rule", "judge"])
    return pd.DataFrame(list(rows.values()), index=index).groupby(level=[0, 1, 2], sort=False).mean()


def _summarise(drawn, facts):
    """Values and intervals from the drawn agreements, and the gain of each rule over ALL."""

    def with_mean(frame, combine="mean"):
        mean = frame.groupby(level=["share", "rule"], sort=False).agg(combine)
        return pd.concat([frame, pd.concat({MEAN: mean}, names=["label"])])

    drawn = with_mean(drawn)
    gains = drawn - drawn.xs("ALL", level="rule").reindex(drawn.index.droplevel("rule")).to_numpy()
    (low, high), (gain_low, gain_high) = (percentiles(table.iloc[:, 1:], axis=1) for table in (drawn, gains))
    names = ["value", "low", "high", "gain", "gain_low", "gain_high", "ties", "n"]
    cells = [drawn[0], low, high, gains[0], gain_low, gain_high, with_mean(facts[1]), with_mean(facts[0], "sum")]
    table = pd.DataFrame(dict(zip(names, cells, strict=True)), index=drawn.index)
    return table.astype({"n": int}).reset_index()
