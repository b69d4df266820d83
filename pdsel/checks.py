"""One way to refuse bad input: name the column, the ids and the remedy."""


class DataError(ValueError):
    """Input that cannot be used, with what to do about it."""


def some(ids):
    """The first five ids and how many there are.

    >>> some(list("abcdefg"))
    '7 (first: a, b, c, d, e)'
    """
    ids = list(ids)
    return f"{len(ids)} (first: {', '.join(map(str, ids[:5]))})"


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

    >>> import pandas as pd
    >>> refuse_repeated(pd.Index(["p1", "p2", "p1"]), "pair_id", "occurs more than once", "drop repeats")
    Traceback (most recent call last):
    pdsel.checks.DataError: pair_id occurs more than once: 1 (first: p1). Remedy: drop repeats
    """
    if not index.is_unique:
        refuse(index[index.duplicated()].unique(), column, problem, remedy)


def require_columns(table_columns, needed, table):
    """Raise `DataError` naming the columns of `table` that are missing."""
    missing = [column for column in needed if column not in table_columns]
    refuse(missing, f"{table}: column", "missing", f"rename or add it; present are {sorted(table_columns)}")
