"""Numbers by aspect: the rating gaps of pairs, which say how much better chosen is rated than rejected."""

import pandas as pd

from pdsel.checks import DataError, refuse, require_columns


def rating_gaps(pairs):
    """The rating gaps of a pairs table, by the name of the aspect.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table with `pair_id` and `rating_gaps`, a mapping from aspects to numbers.

    Returns
    -------
    pandas.DataFrame, shape (n, kappa)
        Index `pair_id`, a column per aspect: the rating of chosen minus the rating of rejected, in rating points, NaN
        where either is absent.

    Raises
    ------
    ValueError
        For a missing column, or gaps without the names of their aspects.

    Examples
    --------
    >>> from datasets import Dataset
    >>> pairs = Dataset.from_dict({"pair_id": ["p", "q"], "rating_gaps": [{"a": 1.0, "b": -2.0}, {"a": None, "b": 1.0}]})
    >>> rating_gaps(pairs)
               a    b
    pair_id
    p        1.0 -2.0
    q        NaN  1.0
    """
    return by_aspect(pairs, "rating_gaps")


def by_aspect(pairs, column):
    """A column of mappings from aspects to numbers as a frame: index `pair_id`, a column per aspect.

    >>> from datasets import Dataset
    >>> by_aspect(Dataset.from_dict({"pair_id": ["p"], "margins": [{"a": 1.0, "b": -2.0}]}), "margins").loc["p"].to_dict()
    {'a': 1.0, 'b': -2.0}
    """
    require_columns(pairs.column_names, ["pair_id", column], "pairs table")
    ids = pd.Index(list(pairs["pair_id"]), name="pair_id")
    numbers = list(pairs[column])
    nameless = [name for name, number in zip(ids, numbers, strict=True) if not isinstance(number, dict)]
    refuse(
        nameless,
        column,
        "does not name the aspects",
        "make the pairs anew with make_pairs, or write {aspect: number} for each pair",
    )
    try:
        return pd.DataFrame(numbers, index=ids, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{column} holds what is not a number ({error}). Remedy: write {{aspect: number}} for each pair"
        ) from error


def mean_gap(gaps):
    """The mean rating gap of each pair over the aspects that are rated.

    Rounded to nine digits, so that a tie stays a tie whatever the order of the sum.

    >>> mean_gap(pd.DataFrame({"a": [2.0], "b": [-1.0], "c": [float("nan")]}, index=["p"])).to_dict()
    {'p': 0.5}
    """
    return gaps.mean(axis=1).round(9)


def own_gap(pairs):
    """The rating gap of each pair on the aspect of its label, in rating points.

    >>> from datasets import Dataset
    >>> gaps = [{"a": 1.0, "b": -2.0}, {"a": 4.0, "b": 3.0}]
    >>> own_gap(Dataset.from_dict({"pair_id": ["p", "q"], "aspect": ["a", "b"], "rating_gaps": gaps})).to_dict()
    {'p': 1.0, 'q': 3.0}
    """
    gaps = rating_gaps(pairs)
    columns = gaps.columns.get_indexer(list(pairs["aspect"]))
    refuse(
        gaps.index[columns < 0], "rating_gaps", "lacks the aspect of the label", "make the pairs anew with make_pairs"
    )
    return pd.Series(gaps.to_numpy()[range(len(gaps)), columns], index=gaps.index)
