"""One way to refuse bad input: name the column, the ids and the remedy."""

from numbers import Integral, Real

import pandas as pd

OUT_OF_MEMORY = (
    "Out of memory. Remedy: end other programs, take fewer rows (limit=...), or use a machine with more of it"
)


class DataError(ValueError):
    """Input that cannot be used, with what to do about it.

    A notebook shows the message alone, since nothing above it would help; `%debug` still goes to where it was raised.
    """

    def _render_traceback_(self):
        """What IPython prints in the place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def some(ids):
    """The first five ids and how many there are.

    >>> some(list("abcdefg"))
    '7 (first: a, b, c, d, e)'
    """
    ids = list(ids)
    return f"{len(ids)} (first: {', '.join(_cut(str(name)) for name in ids[:5])})"


def listed(names, most=20):
    """Names for a message: sorted, and no longer than a person reads.

    >>> listed(["prompt", "chosen" * 20, "aspect"], most=2)
    "['aspect', 'chosenchosenchosenchosenchosenchosenchosenchosenchosenchosen...'] and 1 more"
    """
    names = sorted(names, key=str)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{[_cut(name) for name in names[:most]]}{more}"


def _cut(name):
    """A name without what is beyond 60 characters."""
    return f"{name[:60]}..." if isinstance(name, str) and len(name) > 60 else name


def refuse(ids, column, problem, remedy):
    """Raise `DataError` if any id is given.

    >>> refuse([], "chosen", "is empty", "drop these pairs")
    >>> refuse(["p1"], "chosen", "is empty", "drop these pairs")
    Traceback (most recent call last):
    pdsel.checks.DataError: chosen is empty: 1 (first: p1). Remedy: drop these pairs
    """
    ids = list(ids)
    if ids:
        raise DataError(f"{column} {problem}: {some(ids)}. Remedy: {remedy}")


def refuse_repeated(index, column, problem, remedy):
    """Raise `DataError` if an id occurs more than once in an index.

    >>> refuse_repeated(pd.Index(["p1", "p2", "p1"]), "pair_id", "occurs more than once", "drop repeats")
    Traceback (most recent call last):
    pdsel.checks.DataError: pair_id occurs more than once: 1 (first: p1). Remedy: drop repeats
    """
    if not index.is_unique:
        refuse(index[index.duplicated()].unique(), column, problem, remedy)


RESERVED = {"aspect", "conflict", "first", "overall_gap", "pair_id", "prompt_id", "row", "second"}  # columns of pairs
RESERVED |= {"all", "pooled", "replicate", "utility"}  # beside the aspects in tables of results


def refuse_reserved(aspects):
    """Raise `DataError` if an aspect has the name of another column.

    >>> refuse_reserved(["honesty", "utility"])
    Traceback (most recent call last):
    pdsel.checks.DataError: aspect has a reserved name: 1 (first: utility). Remedy: rename it, such as to utility_rating
    """
    reserved = [aspect for aspect in aspects if aspect in RESERVED]
    if reserved:
        refuse(reserved, "aspect", "has a reserved name", f"rename it, such as to {reserved[0]}_rating")


def require_columns(table_columns, needed, table):
    """Raise `DataError` naming the columns of `table` that are missing."""
    missing = [column for column in needed if column not in table_columns]
    refuse(missing, f"{table}: column", "missing", f"rename or add it; present are {listed(table_columns)}")


def require_table(value, name):
    """Refuse what is not a table of texts, a `datasets.Dataset`, and say how to make one.

    >>> require_table(pd.DataFrame({"prompt": ["p"]}), "pairs")
    Traceback (most recent call last):
    pdsel.checks.DataError: pairs is a DataFrame, not a datasets.Dataset. Remedy: datasets.Dataset.from_pandas(pairs,
    preserve_index=False)
    """
    if hasattr(value, "column_names") and hasattr(value, "select_columns"):
        return
    remedy = f"datasets.Dataset.from_list({name})"
    if isinstance(value, pd.DataFrame):
        remedy = f"datasets.Dataset.from_pandas({name}, preserve_index=False)"
    elif not isinstance(value, list):
        remedy = f"pass the table itself: load_ratings, make_pairs and load_preferences return {name} as one"
    raise DataError(f"{name} is a {type(value).__name__}, not a datasets.Dataset. Remedy: {remedy}")


def require_series(value, name):
    """Refuse what is not a `pandas.Series` indexed by `pair_id`, and say how to make one.

    >>> require_series([0.5, 1.0], "scores")
    Traceback (most recent call last):
    pdsel.checks.DataError: scores is a list, not a pandas.Series by pair_id. Remedy: pandas.Series(scores,
    index=list(pairs["pair_id"]))
    """
    if isinstance(value, pd.Series):
        return
    remedy = f'pandas.Series({name}, index=list(pairs["pair_id"]))'
    if isinstance(value, pd.DataFrame):
        remedy = f"take one of its columns, {name}[column], of {list(value.columns)[:5]}"
    raise DataError(f"{name} is a {type(value).__name__}, not a pandas.Series by pair_id. Remedy: {remedy}")


def require_frame(value, name):
    """Refuse what is not a `pandas.DataFrame` with a row for each `pair_id` and a column for each aspect.

    >>> require_frame([[0.5, 1.0]], "margins")
    Traceback (most recent call last):
    pdsel.checks.DataError: margins is a list, not a pandas.DataFrame. Remedy: pandas.DataFrame(margins,
    index=list(pairs["pair_id"]), columns=aspects)
    """
    if not isinstance(value, pd.DataFrame):
        remedy = f'pandas.DataFrame({name}, index=list(pairs["pair_id"]), columns=aspects)'
        raise DataError(f"{name} is a {type(value).__name__}, not a pandas.DataFrame. Remedy: {remedy}")


def is_number(value, kind=Real):
    """Whether a value is a number of this kind; True and False are none here.

    >>> is_number(0.5), is_number("0.5"), is_number(True), is_number(0.5, Integral)
    (True, False, False, False)
    """
    return isinstance(value, kind) and not isinstance(value, bool)


def require_whole(value, name):
    """Refuse what is not a whole number from 1 on.

    >>> require_whole("2", "limit")
    Traceback (most recent call last):
    pdsel.checks.DataError: limit='2' is not a whole number from 1 on. Remedy: such as limit=100, or None for all
    """
    if not is_number(value, Integral) or value < 1:
        remedy = f"such as {name}=100, or None for all"
        raise DataError(f"{name}={value!r} is not a whole number from 1 on. Remedy: {remedy}")


def require_numbers(values, name):
    """A Series or frame as floating-point numbers; refuse what holds anything else.

    >>> require_numbers(pd.Series(["low"], index=["p"]), "scores")
    Traceback (most recent call last):
    pdsel.checks.DataError: scores holds str, not numbers. Remedy: give a number for each pair_id
    """
    kinds = [values.dtype] if isinstance(values, pd.Series) else values.dtypes
    try:
        if any(getattr(kind, "kind", "f") in "cmM" for kind in kinds):  # complex numbers, times
            raise TypeError
        return values.astype(float)
    except (TypeError, ValueError):
        held = ", ".join(dict.fromkeys(map(str, kinds)))
        raise DataError(f"{name} holds {held}, not numbers. Remedy: give a number for each pair_id") from None


def require_ids(index, name):
    """Refuse an index that is not of one id for each row, none of them null.

    >>> require_ids(pd.Index(["p", None]), "scores")
    Traceback (most recent call last):
    pdsel.checks.DataError: scores: the index is not of pair_ids: an id is null. Remedy: scores.set_axis(pairs["pair_id"])
    """
    problem = "it has several levels" if index.nlevels > 1 else "an id is null" if index.hasnans else None
    if problem:
        remedy = f'{name}.set_axis(pairs["pair_id"])'
        raise DataError(f"{name}: the index is not of pair_ids: {problem}. Remedy: {remedy}")


def check_pairs(pairs, columns=("pair_id", "prompt", "chosen", "rejected", "aspect")):
    """Refuse a pairs table that nothing downstream could use.

    Raises
    ------
    ValueError
        For what is no table, or is empty; missing columns, repeated `pair_id`, null or empty texts, chosen equal to rejected.

    >>> from datasets import Dataset
    >>> check_pairs(Dataset.from_dict({"pair_id": ["a"], "prompt": ["p"], "chosen": ["x"], "rejected": ["x"],
    ...                                "aspect": ["k"]}))
    Traceback (most recent call last):
    pdsel.checks.DataError: chosen equals rejected: 1 (first: a). Remedy: drop these pairs; they teach nothing
    """
    require_table(pairs, "pairs")
    require_columns(pairs.column_names, columns, "pairs table")
    if len(pairs) == 0:
        raise DataError("pairs table is empty. Remedy: check the filter or selection before it")
    for column in ("pair_id", "aspect"):
        null = [position for position, value in enumerate(pairs[column]) if value is None]
        refuse(null, column, "is null in rows", "drop these rows, or build the table with make_pairs")
    ids = pd.Index(list(pairs["pair_id"]))
    refuse_repeated(ids, "pair_id", "occurs more than once", "drop the duplicate pairs")
    blank = {"prompt": [], "chosen": [], "rejected": []}
    equal = []
    # Row by row, since the texts may be larger than memory.
    for name, row in zip(ids, pairs.select_columns(list(blank)), strict=True):
        for column, names in blank.items():
            if is_blank(row[column]):
                names.append(name)
        if row["chosen"] == row["rejected"]:
            equal.append(name)
    for column, names in blank.items():
        refuse(names, column, "is null or empty", "drop these pairs")
    refuse(equal, "chosen", "equals rejected", "drop these pairs; they teach nothing")


def is_blank(text):
    """Whether a text, or a list of chat messages, says nothing.

    >>> is_blank(" "), is_blank([{"role": "user", "content": "Hello"}]), is_blank(None)
    (True, False, True)
    """
    if isinstance(text, list):
        contents = [message.get("content") if isinstance(message, dict) else None for message in text]
    else:
        contents = [text if isinstance(text, str) else None]
    # Content that is not text, such as a list of images and texts, says something.
    return not any(content.strip() if isinstance(content, str) else content for content in contents)
