"""Rated prompts to aspect-labelled pairs: every pair carries one label, on one aspect."""

import math
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
from datasets import Features, Value

from pdsel.checks import DataError, check_pairs, refuse, refuse_repeated, refuse_reserved, require_columns
from pdsel.data.gaps import mean_gap, rating_gaps
from pdsel.data.large_tables import write_table
from pdsel.data.layouts import pair_id
from pdsel.data.subsets import random_key, subsample, supply
from pdsel.ratings import check_ratings

__all__ = ["check_pairs", "compare_responses", "make_pairs", "pair_id", "relabel", "supply"]

TEXT_COLUMNS = ["pair_id", "prompt_id", "prompt", "chosen", "rejected", "aspect", "chosen_model", "rejected_model"]


def compare_responses(ratings, *, aspects=None):
    """Every unordered pair of responses to one prompt, with the rating gaps on every aspect.

    Parameters
    ----------
    ratings : datasets.Dataset
        Ratings table.
    aspects : list of str, optional
        Default: all of the table.

    Returns
    -------
    pandas.DataFrame
        `row, first, second` (positions), `overall_gap`, and one column per aspect: rating of the first minus rating of
        the second, in rating points, NaN where either is absent.

    >>> from pdsel.notesworld import rated_rows
    >>> from pdsel.ratings import load_ratings
    >>> from importlib.resources import files
    >>> compare_responses(load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=3)).shape  # 3 prompts x 6
    (18, 8)
    """
    check_ratings(ratings)
    aspects = _aspects(ratings, aspects)
    parts = []
    for row, prompt in enumerate(ratings.select_columns(["responses", "overall", "ratings"])):
        absent = [math.nan] * len(prompt["responses"])
        columns = [prompt["overall"], *(prompt["ratings"].get(aspect) for aspect in aspects)]
        values = np.array([column or absent for column in columns], dtype=float)
        first, second = np.triu_indices(len(absent), 1)
        gaps = values[:, first] - values[:, second]
        parts.append(np.column_stack([np.full(len(first), row), first, second, gaps.T]))
    table = pd.DataFrame(np.concatenate(parts), columns=["row", "first", "second", "overall_gap", *aspects])
    return table.astype({"row": int, "first": int, "second": int})


def make_pairs(ratings, *, aspects=None, conflict=None, size=None, seed=0):
    """Fine-grained preference pairs: kappa disjoint parts, one aspect label each.

    Each prompt is assigned to one aspect (by a digest of its id and the seed, in equal shares), which labels every two of its
    responses whose ratings on that aspect differ. Ties and identical responses give no pair.

    Parameters
    ----------
    ratings : datasets.Dataset
        Ratings table, see `pdsel.load_ratings`.
    aspects : list of str, optional
        Default: all of the table. At least two, since a pair's divergence is about the *other* aspects.
    conflict : float in [0, 1], optional
        Share of pairs whose label contradicts the overall rating, reached exactly (to rounding) by leaving pairs out.
        `None`: as in the data.
    size : int, optional
        Number of pairs in all; default: as many as the data can supply.
    seed : int

    Returns
    -------
    datasets.Dataset
        Pairs table sorted by `pair_id`, whatever the order of the prompts. `overall_gap` is the gap of the overall ratings;
        where these are absent, the gap of the mean rating replaces it (with a warning).

    Raises
    ------
    ValueError
        If there are fewer than two aspects, no row rates an aspect, or the data cannot supply the conflict level or size
        (the message says how many pairs they can supply).

    Examples
    --------
    >>> from importlib.resources import files
    >>> from pdsel.ratings import load_ratings
    >>> pairs = make_pairs(load_ratings(files("pdsel") / "examples" / "rated.jsonl"), conflict=0.25, size=40)
    >>> pairs.num_rows, sum(pairs["conflict"])
    (40, 10)
    """
    compared = compare_responses(ratings, aspects=aspects)
    aspects = list(compared.columns[4:])
    _check_aspects(compared, aspects)
    prompt_ids = list(ratings["prompt_id"])
    part = _assign(prompt_ids, aspects, seed)
    compared["aspect"] = [part[prompt_ids[row]] for row in compared["row"]]
    own = compared[aspects].to_numpy()[np.arange(len(compared)), [aspects.index(a) for a in compared["aspect"]]]
    labelled = compared[np.isfinite(own) & (own != 0)]
    table = _orient(ratings, labelled, np.sign(own[labelled.index]), aspects)
    _check_parts(table, aspects)
    table = subsample(table, conflict, size, seed)
    return _with_texts(ratings, table, aspects)


def _features(aspects):
    texts = {name: Value("string") for name in TEXT_COLUMNS}
    gaps = {aspect: Value("float64") for aspect in aspects}
    return Features(texts | {"rating_gaps": gaps, "overall_gap": Value("float64"), "conflict": Value("bool")})


def _aspects(ratings, aspects):
    present = list(ratings[0]["ratings"])
    if isinstance(aspects, str) or not isinstance(aspects, Iterable | None):
        raise DataError(f"aspects={aspects!r} is not a list. Remedy: some of {present}")
    aspects = present if aspects is None else list(aspects)
    refuse_repeated(pd.Index(aspects), "aspects: name", "occurs more than once", "name each one once")
    refuse([a for a in aspects if a not in present], "ratings: aspect", "present in no row", f"use some of {present}")
    refuse_reserved(aspects)
    return aspects


def _check_aspects(compared, aspects):
    if len(aspects) < 2:
        raise DataError(
            f"aspects: only {aspects} given (kappa = {len(aspects)}); preference divergence compares an aspect with the "
            "others. Remedy: give at least two aspects"
        )
    unrated = [aspect for aspect in aspects if compared[aspect].isna().all()]
    refuse(unrated, "ratings: aspect", "rated in no row", "leave it out with aspects=[...]")


def _check_parts(table, aspects):
    if table.empty:
        raise DataError(
            f"ratings: no two responses to a prompt differ on its aspect, so {aspects} label no pair. Remedy: "
            "more prompts, or finer ratings"
        )
    missing = sorted(set(aspects) - set(table["aspect"]))
    if missing:
        warnings.warn(
            f"aspects {missing} label no pair (only ties, or too few prompts), so they can have no proxy", stacklevel=3
        )
    ids = pd.Index(table["pair_id"])
    refuse_repeated(ids, "pair_id", "occurs more than once (same texts in two prompts)", "drop repeats")


def _assign(prompt_ids, aspects, seed):
    """The aspect of each prompt, in equal shares, whatever the order of the rows."""
    ranked = sorted(prompt_ids, key=lambda name: random_key(seed, name))
    return {name: aspects[rank % len(aspects)] for rank, name in enumerate(ranked)}


def _orient(ratings, labelled, signs, aspects):
    """Pairs with the better response first, without texts: `row, better, worse` say where in the ratings they are."""
    first, second = labelled["first"].to_numpy(), labelled["second"].to_numpy()
    gaps = labelled[aspects].mul(signs, axis=0) + 0.0  # no negative zeros
    table = pd.DataFrame(
        {
            "row": labelled["row"].to_numpy(),
            "aspect": labelled["aspect"].to_numpy(),
            "better": np.where(signs > 0, first, second),
            "worse": np.where(signs > 0, second, first),
            "rating_gaps": gaps.to_dict("records"),
            "overall_gap": signs * labelled["overall_gap"].to_numpy(),
        }
    )
    table["pair_id"] = _ids(ratings, table)
    table["prompt_id"] = np.array(list(ratings["prompt_id"]), dtype=object)[table["row"]]
    table = table[table["pair_id"].notna()]
    table = table.drop_duplicates(["prompt_id", "pair_id"])  # a response given twice to one prompt makes one pair
    return _with_conflict(table).sort_values("pair_id")


def _ids(ratings, table):
    """The `pair_id` of each pair, in the order of the ratings; None for two identical responses."""
    prompts = enumerate(ratings.select_columns(["prompt", "responses"]))
    at, ids = -1, []
    for row, aspect, better, worse in zip(*(table[c] for c in ("row", "aspect", "better", "worse")), strict=True):
        while at < row:
            at, prompt = next(prompts)
        chosen, rejected = prompt["responses"][better], prompt["responses"][worse]
        ids.append(None if chosen == rejected else pair_id(prompt["prompt"], chosen, rejected, aspect))
    return ids


def _with_texts(ratings, table, aspects):
    """The pairs table, written pair by pair: each text occurs in several pairs, so together they may exceed memory."""
    prompts = ratings.select_columns(["prompt", "responses", "models"]).select(table["row"])
    rows = (_pair(pair, prompt) for pair, prompt in zip(table.itertuples(), prompts, strict=True))
    return write_table(rows, _features(aspects))


def _pair(pair, prompt):
    """A row of the pairs table, from the positions of the responses and their prompt."""
    return {
        "pair_id": pair.pair_id,
        "prompt_id": pair.prompt_id,
        "prompt": prompt["prompt"],
        "chosen": prompt["responses"][pair.better],
        "rejected": prompt["responses"][pair.worse],
        "aspect": pair.aspect,
        "chosen_model": prompt["models"][pair.better],
        "rejected_model": prompt["models"][pair.worse],
        "rating_gaps": pair.rating_gaps,
        "overall_gap": pair.overall_gap,
        "conflict": pair.conflict,
    }


def _with_conflict(table):
    unknown = table["overall_gap"].isna()
    if unknown.any():
        warnings.warn(
            f"no overall score for {unknown.sum()} of {len(table)} pairs: the mean of the aspects is used",
            stacklevel=4,
        )
        gaps = pd.DataFrame(table.loc[unknown, "rating_gaps"].tolist())
        table.loc[unknown, "overall_gap"] = mean_gap(gaps).to_numpy()
    return table.assign(conflict=table["overall_gap"] < 0)


def relabel(pairs, by="overall"):
    """The oracle labels of the paper's OVA and AVG: the same response pairs, labelled anew; ties are dropped.

    Parameters
    ----------
    pairs : datasets.Dataset
    by : {"overall", "mean_rating"}
        OVA: the overall rating. AVG: the mean aspect rating.

    Returns
    -------
    datasets.Dataset
        Pairs whose label changed have chosen and rejected swapped, gaps negated and a new `pair_id`; other columns
        pass through.

    >>> from datasets import Dataset
    >>> pairs = Dataset.from_dict({"pair_id": ["a"], "prompt": ["p"], "chosen": ["x"], "rejected": ["y"], "aspect": ["k"],
    ...     "chosen_model": ["m"], "rejected_model": ["n"], "rating_gaps": [{"k": 1.0}], "overall_gap": [-2.0]})
    >>> relabel(pairs, by="overall")[0]["chosen"]
    'y'
    """
    gap_of = {"overall": "overall_gap", "mean_rating": "rating_gaps"}
    if by not in gap_of:
        raise DataError(f"by={by!r}: use one of {list(gap_of)}")
    check_pairs(pairs)
    require_columns(pairs.column_names, [gap_of[by]], "pairs table")
    if by == "overall":
        gaps = np.array(pairs["overall_gap"], dtype=float)
    else:
        gaps = mean_gap(rating_gaps(pairs)).to_numpy()
    unknown = np.array(pairs["pair_id"])[np.isnan(gaps)]
    refuse(unknown, gap_of[by], "is absent", "drop these pairs, or relabel by the other rating")
    untied = np.flatnonzero(gaps)
    if not len(untied):
        raise DataError(f"{gap_of[by]}: all {len(pairs)} pairs are ties. Remedy: relabel by the other rating")
    return with_labels_turned(pairs.select(untied), gaps[untied] < 0)


def flip_labels(pairs, share, *, seed=0):
    """Reverse the labels of a random share of the pairs: noise of known size.

    >>> from datasets import Dataset
    >>> pairs = Dataset.from_dict({"pair_id": ["a"], "prompt": ["p"], "chosen": ["x"], "rejected": ["y"], "aspect": ["k"]})
    >>> flip_labels(pairs, 1.0)[0]["chosen"]
    'y'
    """
    order = sorted(pairs["pair_id"], key=lambda name: random_key(f"flip {seed}", name))
    flipped = set(order[: round(share * len(order))])
    return with_labels_turned(pairs, [name in flipped for name in pairs["pair_id"]])


def with_labels_turned(pairs, turned):
    """The pairs, with chosen and rejected swapped where `turned`, sorted by their new ids.

    Of pairs that have become equal, the last stays.
    """
    texts = pairs.select_columns(["pair_id", "prompt", "chosen", "rejected", "aspect"])
    position_of = {}
    for position, (row, turn) in enumerate(zip(texts, turned, strict=True)):
        name = _turned_id(row) if turn else row["pair_id"]
        position_of[name] = position
    order = [position_of[name] for name in sorted(position_of)]
    rows = zip(order, pairs.select(order), strict=True)
    return write_table((_swap(row) if turned[position] else row for position, row in rows), pairs.features)


def _turned_id(row):
    return pair_id(row["prompt"], row["rejected"], row["chosen"], row["aspect"])


def _swap(row):
    """The same two responses with the opposite label."""
    swapped = dict(row, chosen=row["rejected"], rejected=row["chosen"])
    if "chosen_model" in row:
        swapped |= {"chosen_model": row["rejected_model"], "rejected_model": row["chosen_model"]}
    if "rating_gaps" in row:
        gaps = row["rating_gaps"].items()
        swapped["rating_gaps"] = {aspect: None if gap is None else -gap for aspect, gap in gaps}
    if row.get("overall_gap") is not None:
        swapped["overall_gap"] = -row["overall_gap"]
        swapped["conflict"] = swapped["overall_gap"] < 0
    swapped["pair_id"] = _turned_id(row)
    return {name: value for name, value in swapped.items() if name in row}
