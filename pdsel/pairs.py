"""Rated prompts to aspect-labelled pairs: every pair carries one label, on one aspect."""

import hashlib
import json
import math
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
from datasets import Dataset, Features, List, Value

from pdsel.checks import DataError, refuse, require_columns
from pdsel.ratings import check_ratings

FEATURES = Features(
    {name: Value("string") for name in ["pair_id", "prompt_id", "prompt", "chosen", "rejected", "aspect"]}
    | {name: Value("string") for name in ["chosen_model", "rejected_model"]}
    | {"rating_gaps": List(Value("float64")), "overall_gap": Value("float64"), "conflict": Value("bool")}
)


def pair_id(prompt, chosen, rejected, aspect):
    """The key of a pair everywhere: a digest of its prompt, chosen, rejected and aspect.

    >>> pair_id("p", "good", "bad", "honesty") == pair_id("p", "bad", "good", "honesty")
    False
    """
    return hashlib.sha256(json.dumps([prompt, chosen, rejected, aspect]).encode()).hexdigest()[:16]


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
    rows = []
    for row, prompt in enumerate(ratings):
        absent = [None] * len(prompt["responses"])
        columns = [prompt["overall"] or absent, *(prompt["ratings"].get(aspect) or absent for aspect in aspects)]
        values = np.array([[math.nan if v is None else v for v in column] for column in columns], dtype=float)
        rows += [(row, i, j, *(values[:, i] - values[:, j])) for i, j in combinations(range(values.shape[1]), 2)]
    return pd.DataFrame(rows, columns=["row", "first", "second", "overall_gap", *aspects])


def make_pairs(ratings, *, aspects=None, conflict=None, size=None, seed=0):
    """Fine-grained preference pairs: kappa disjoint parts, one aspect label each.

    Each prompt is given to one aspect (by a digest of its id and the seed, in equal shares), and all its response
    pairs that differ on that aspect are labelled by it. A tie gives no pair; neither do two identical responses.

    Parameters
    ----------
    ratings : datasets.Dataset
        Ratings table, see `pdsel.load_ratings`.
    aspects : list of str, optional
        Default: all of the table. At least two, since a pair's divergence is about the *other* aspects.
    conflict : float in [0, 1], optional
        Share of pairs whose label contradicts the overall rating, reached exactly (to rounding) by leaving pairs out.
        `None`: as it falls.
    size : int, optional
        Number of pairs in all; default: as many as the data can supply.
    seed : int

    Returns
    -------
    datasets.Dataset
        Pairs table sorted by `pair_id`; independent of the order of the prompts. `overall_gap` is the gap of the
        overall ratings; where a pair has none, the gap of the mean rating stands in (with a warning).

    Raises
    ------
    ValueError
        If there are fewer than two aspects, an aspect is rated in no row, or the data cannot supply the conflict level
        or size (the message says how many pairs it can).

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
    table = _subsample(table, conflict, size, seed)
    return Dataset.from_list(table.to_dict("records"), features=FEATURES)  # from_pandas makes null of a NaN in a list


def _aspects(ratings, aspects):
    present = list(ratings[0]["ratings"])
    aspects = present if aspects is None else list(aspects)
    refuse([a for a in aspects if a not in present], "ratings: aspect", "present in no row", f"use some of {present}")
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
        raise DataError(f"ratings: no two responses to a prompt differ on its aspect, so {aspects} label no pair. Remedy: "
                        "more prompts, or finer ratings")  # fmt: skip
    missing = sorted(set(aspects) - set(table["aspect"]))
    if missing:
        warnings.warn(
            f"aspects {missing} label no pair (only ties, or too few prompts): they can have no proxy", stacklevel=3
        )
    counts = table["pair_id"].value_counts()
    refuse(counts[counts > 1].index, "pair_id", "occurs more than once (same texts in two prompts)", "drop repeats")


def _assign(prompt_ids, aspects, seed):
    """Prompt to aspect, equal shares, independent of row order."""
    ranked = sorted(prompt_ids, key=lambda name: _draw(seed, name))
    return {name: aspects[rank % len(aspects)] for rank, name in enumerate(ranked)}


def _draw(seed, name):
    """A uniform draw that belongs to `name`, whatever the order of the rows."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _orient(ratings, labelled, signs, aspects):
    """Put the better response first and give the pairs table its columns."""
    prompts = ratings.to_list()
    rows = []
    for record, sign in zip(labelled.to_dict("records"), signs, strict=True):
        prompt = prompts[record["row"]]
        better, worse = (record["first"], record["second"])[:: int(sign)]
        chosen, rejected = prompt["responses"][better], prompt["responses"][worse]
        if chosen == rejected:
            continue
        rows.append({
            "pair_id": pair_id(prompt["prompt"], chosen, rejected, record["aspect"]),
            "prompt_id": prompt["prompt_id"], "prompt": prompt["prompt"],
            "chosen": chosen, "rejected": rejected, "aspect": record["aspect"],
            "chosen_model": prompt["models"][better], "rejected_model": prompt["models"][worse],
            "rating_gaps": [sign * record[aspect] + 0.0 for aspect in aspects],
            "overall_gap": sign * record["overall_gap"],
        })  # fmt: skip
    table = pd.DataFrame(rows, columns=[*list(FEATURES)[:-1]])
    table = table.drop_duplicates(["prompt_id", "pair_id"])  # a response given twice to one prompt makes one pair
    return _with_conflict(table).sort_values("pair_id")


def _with_conflict(table):
    unknown = table["overall_gap"].isna()
    if unknown.any():
        warnings.warn(f"no overall score for {unknown.sum()} of {len(table)} pairs: the mean of the aspects stands in",
                      stacklevel=4)  # fmt: skip
        table.loc[unknown, "overall_gap"] = mean_gaps(table.loc[unknown, "rating_gaps"])
    return table.assign(conflict=table["overall_gap"] < 0)


def mean_gaps(rating_gaps):
    """Mean rating gap of each pair over the aspects that are rated, in rating points.

    >>> mean_gaps([[2.0, -1.0, float("nan")]])
    array([0.5])
    """
    return np.nanmean(np.array(list(rating_gaps), dtype=float), axis=1).round(
        9
    )  # a tie is a tie, whatever its rounding


def _subsample(table, conflict, size, seed):
    """Leave pairs out until the conflict level and size are met; which ones is decided by digest, not by position."""
    if conflict is None:
        supply = len(table)
        if size is None:
            return table
    else:
        if not 0 <= conflict <= 1:
            raise DataError(f"conflict={conflict} is not a share; give a number in [0, 1] or None")
        n_conflict, n_agree = int(table["conflict"].sum()), int((~table["conflict"]).sum())
        bounds = [n / share for n, share in [(n_conflict, conflict), (n_agree, 1 - conflict)] if share > 0]
        supply = int(min(bounds) + 1e-9)  # 3 / (1 - .7) is 9.999...
        if supply == 0 or round(conflict * supply) > n_conflict:
            raise DataError(
                f"conflict={conflict}: the data hold {n_conflict} conflicting and {n_agree} agreeing pairs and can supply "
                f"{supply} pairs at this level. Remedy: another level, more prompts, or conflict=None"
            )
    size = supply if size is None else size
    if not 0 < size <= supply:
        raise DataError(
            f"size={size}: the data can supply {supply} pairs at conflict={conflict}. Remedy: a smaller size"
        )
    ranked = table.assign(draw=[_draw(seed, name) for name in table["pair_id"]]).sort_values("draw")
    if conflict is not None:
        n_conflict = round(conflict * size)
        parts = [(ranked[ranked["conflict"]], n_conflict), (ranked[~ranked["conflict"]], size - n_conflict)]
        ranked = pd.concat([part.head(n) for part, n in parts])
    return ranked.head(size).drop(columns="draw").sort_values("pair_id")


def check_pairs(pairs, columns=("pair_id", "prompt", "chosen", "rejected", "aspect")):
    """Refuse a pairs table that nothing downstream could use.

    Raises
    ------
    ValueError
        For missing columns, an empty table, repeated `pair_id`, null or empty texts, chosen equal to rejected.

    >>> check_pairs(Dataset.from_dict({"pair_id": ["a"], "prompt": ["p"], "chosen": ["x"], "rejected": ["x"],
    ...                                "aspect": ["k"]}))
    Traceback (most recent call last):
    pdsel.checks.DataError: chosen equals rejected: 1 (first: a). Remedy: drop these pairs; they teach nothing
    """
    require_columns(pairs.column_names, columns, "pairs table")
    if len(pairs) == 0:
        raise DataError("pairs table is empty. Remedy: check the filter or selection before it")
    names = pd.Series(pairs["pair_id"])
    for column in ("pair_id", "aspect"):
        null = np.flatnonzero(pd.isna(pd.Series(list(pairs[column]), dtype=object)))
        refuse(null, column, "is null in rows", "drop these rows, or build the table with make_pairs")
    refuse(names[names.duplicated()].unique(), "pair_id", "occurs more than once", "drop the duplicate pairs")
    texts = {column: list(pairs[column]) for column in ("prompt", "chosen", "rejected")}
    for column, values in texts.items():
        blank = [name for name, text in zip(names, values, strict=True) if _is_blank(text)]
        refuse(blank, column, "is null or empty", "drop these pairs")
    same = [name for name, a, b in zip(names, texts["chosen"], texts["rejected"], strict=True) if a == b]
    refuse(same, "chosen", "equals rejected", "drop these pairs; they teach nothing")


def _is_blank(text):
    if isinstance(text, list):  # chat messages
        contents = [message.get("content") if isinstance(message, dict) else None for message in text]
        return not any(content.strip() if isinstance(content, str) else content for content in contents)
    return not isinstance(text, str) or not text.strip()


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

    >>> pairs = Dataset.from_dict({"pair_id": ["a"], "prompt": ["p"], "chosen": ["x"], "rejected": ["y"], "aspect": ["k"],
    ...     "chosen_model": ["m"], "rejected_model": ["n"], "rating_gaps": [[1.0, -3.0]], "overall_gap": [-2.0]})
    >>> relabel(pairs, by="overall")[0]["chosen"]
    'y'
    """
    gap_of = {"overall": "overall_gap", "mean_rating": "rating_gaps"}
    if by not in gap_of:
        raise DataError(f"by={by!r}: use one of {list(gap_of)}")
    check_pairs(pairs)
    require_columns(pairs.column_names, [gap_of[by]], "pairs table")
    gaps = np.array(pairs["overall_gap"], dtype=float) if by == "overall" else mean_gaps(pairs["rating_gaps"])
    unknown = np.array(pairs["pair_id"])[np.isnan(gaps)]
    refuse(unknown, gap_of[by], "is absent", "drop these pairs, or relabel by the other rating")
    kept = np.flatnonzero(gaps)
    flipped = [_swap(row) if gap < 0 else row for row, gap in zip(pairs.select(kept), gaps[kept], strict=True)]
    if not flipped:
        raise DataError(f"{gap_of[by]}: all {len(pairs)} pairs are ties. Remedy: relabel by the other rating")
    unique = {row["pair_id"]: row for row in flipped}
    return Dataset.from_list([unique[name] for name in sorted(unique)], features=pairs.features)


def _swap(row):
    """The same two responses with the opposite label."""
    swapped = dict(row, chosen=row["rejected"], rejected=row["chosen"])
    if "chosen_model" in row:
        swapped |= {"chosen_model": row["rejected_model"], "rejected_model": row["chosen_model"]}
    if "rating_gaps" in row:
        swapped["rating_gaps"] = [None if gap is None else -gap for gap in row["rating_gaps"]]
    if row.get("overall_gap") is not None:
        swapped["overall_gap"] = -row["overall_gap"]
        swapped["conflict"] = swapped["overall_gap"] < 0
    swapped["pair_id"] = pair_id(row["prompt"], swapped["chosen"], swapped["rejected"], row["aspect"])
    return {name: value for name, value in swapped.items() if name in row}
