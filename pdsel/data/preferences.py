"""Reads pairs that are labelled already, from a file or from a preference set on the hub, into a pairs table.

A row is a pair (`.jsonl`, `.jsonl.gz` or `.parquet`; a hub set has the same columns)::

    {"prompt": "...", "chosen": "...", "rejected": "...", "aspect": "honesty"}

It may hold more, each a mapping from aspects to numbers: `chosen_ratings` and `rejected_ratings`, or their difference
`rating_gaps`; and `margins`, what reward models say of the pair. Columns with other names are named by `columns`.
"""

from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, load_dataset

from pdsel.checks import DataError, check_pairs, listed, refuse, require_columns, require_table, require_whole
from pdsel.data.gaps import by_aspect, mean_gap, rating_gaps
from pdsel.data.layouts import (
    RATING_REMEDY,
    find_files,
    first_row,
    pair_id,
    prompt_id,
    read_rating,
    reader_of,
    require_object,
)
from pdsel.data.messages import is_chat

NEEDED = ["prompt", "chosen", "rejected", "aspect"]
MAPPINGS = ["margins", "rating_gaps", "chosen_ratings", "rejected_ratings"]  # aspect to number
OVERALL = ["overall_gap", "chosen_overall", "rejected_overall"]
NAMES = ["pair_id", "prompt_id", "chosen_model", "rejected_model"]
KNOWN = [*NEEDED, *MAPPINGS, *OVERALL, *NAMES]


def load_preferences(path_or_name, *, columns=None, aspect=None, split="train", revision=None, limit=None):
    """Read pairs that are labelled already as a pairs table, which `fit_proxy`, `score_margins` and `select` take.

    Parameters
    ----------
    path_or_name : str or Path
        A local `.jsonl`, `.jsonl.gz` or `.parquet` file, a folder of such files, or a data set on the hub, "org/name".
    columns : dict, optional
        Our name to the name in the data, such as `{"prompt": "question", "aspect": "criterion"}`. For `margins`,
        `rating_gaps`, `chosen_ratings` and `rejected_ratings` it may also be a dict of aspect to column.
    aspect : str, optional
        The aspect of all labels, for data that has no such column: one file for each aspect.
    split, revision : str
        Of a data set on the hub.
    limit : int, optional
        Read only the first `limit` pairs.

    Returns
    -------
    datasets.Dataset
        Sorted by `pair_id`, which is a digest of the texts and the aspect where the data has none. `rating_gaps` (and with
        it `conflict`, by `overall_gap` or else by the mean gap) is there if the data holds ratings, `margins` if it holds
        margins, see `given_margins`. Messages that chosen and rejected have in common at the start become the prompt.
        Further columns pass through.

    Raises
    ------
    ValueError
        For missing columns (the message lists those that are there), blank or equal texts, repeated pairs, and data that
        cannot be read.

    Examples
    --------
    >>> import json, tempfile
    >>> row = {"question": "Why?", "chosen": "Because.", "rejected": "No.", "margins": {"honesty": 0.2, "tone": -1.0}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pairs.jsonl")
    ...     _ = path.write_text(json.dumps(row))
    ...     pairs = load_preferences(path, columns={"prompt": "question"}, aspect="honesty")
    >>> pairs[0]["prompt"], pairs[0]["aspect"], given_margins(pairs).iloc[0].to_dict()
    ('Why?', 'honesty', {'honesty': 0.2, 'tone': -1.0})
    """
    if limit is not None:
        require_whole(limit, "limit")
    if aspect is not None and not (isinstance(aspect, str) and aspect.strip()):
        raise DataError(f"aspect={aspect!r} is no name. Remedy: name the aspect of all labels in text, or leave it out")
    rows = list(islice(_rows(path_or_name, split, revision), limit))
    if not rows:
        raise DataError(f"{path_or_name} is empty: no pairs to read. Remedy: write one pair a line")
    names = _checked_names(columns or {}, rows[0], aspect)
    pairs = [_pair(row, names, aspect, number) for number, row in enumerate(rows, start=1)]
    try:
        table = Dataset.from_list(sorted(pairs, key=lambda pair: pair["pair_id"]))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        what = str(error).splitlines()[0]
        raise DataError(
            f"{path_or_name}: the rows make no table ({what}). Remedy: one kind of value in each column, and whole Unicode"
        ) from error
    check_pairs(table)
    table = _with_conflict(table)
    table.info.description = f"{Path(path_or_name).name}: {len(table)} pairs read"
    return table


def holds_pairs(path_or_name, columns=None):
    """Whether a file holds labelled pairs, and not rated responses; a name that is no file is taken for a hub set of pairs.

    >>> from importlib.resources import files
    >>> holds_pairs(files("pdsel") / "examples" / "rated.jsonl")
    False
    """
    path = Path(path_or_name)
    if not (path.exists() or reader_of(path)):
        return True
    row = first_row(find_files(path))
    return isinstance(row, dict) and (columns or {}).get("chosen", "chosen") in row


def given_margins(pairs):
    """The margins that came with the pairs, as `pdsel.scale_margins` takes them.

    Parameters
    ----------
    pairs : datasets.Dataset
        From `load_preferences`, of data with margins.

    Returns
    -------
    pandas.DataFrame, shape (n, kappa)
        Index `pair_id`, a column per aspect.
    """
    require_table(pairs, "pairs")
    return by_aspect(pairs, "margins")


def given_opinions(pairs):
    """What the data itself says of each pair on the aspects other than its label's.

    Parameters
    ----------
    pairs : datasets.Dataset
        From `load_preferences` or `pdsel.make_pairs`.

    Returns
    -------
    (str, pandas.DataFrame) or (None, None)
        "margins" or else "ratings" (the rating gaps), index `pair_id`, a column per aspect; None if some pair lacks the opinion
        of another aspect, so that proxies have to give it.

    Examples
    --------
    >>> table = {"pair_id": ["p", "q"], "aspect": ["a", "b"], "rating_gaps": [{"a": 1.0, "b": -2.0}, {"a": 4.0, "b": None}]}
    >>> name, gaps = given_opinions(Dataset.from_dict(table))
    >>> name, gaps.loc["p"].to_dict()
    ('ratings', {'a': 1.0, 'b': -2.0})
    """
    aspects = pd.Index(sorted(set(pairs["aspect"])))
    own = aspects.get_indexer(list(pairs["aspect"]))
    for name, column in {"margins": "margins", "ratings": "rating_gaps"}.items():
        if column in pairs.column_names:
            known = by_aspect(pairs, column).reindex(columns=aspects)
            usable = np.isfinite(known.to_numpy())
            usable[np.arange(len(known)), own] = True
            if usable.all():
                return name, known
    return None, None


def _rows(path_or_name, split, revision):
    """The rows of a file, of a folder of files, or of a data set on the hub."""
    path = Path(path_or_name)
    if path.exists() or reader_of(path):
        return chain.from_iterable(reader_of(file)(file) for file in find_files(path))
    try:
        return iter(load_dataset(str(path_or_name), split=split, revision=revision))
    except (OSError, ValueError) as error:  # every error of the hub is one of the two
        raise DataError(
            f"path_or_name={str(path_or_name)!r} is neither a file here nor a data set that the hub gives "
            f"({type(error).__name__}). Remedy: check the path (relative to {Path.cwd()}); offline, download it first"
        ) from error


def _checked_names(columns, row, aspect):
    """Our names to those in the data, for the columns that the data has."""
    if not isinstance(row, dict):
        raise DataError(
            f"row 1 is a {type(row).__name__}, not an object. Remedy: write one JSON object a line, each a pair"
        )
    if not isinstance(columns, dict):
        raise DataError(
            f"columns={columns!r} is not a dict. Remedy: our name to yours, such as {{'prompt': 'question'}}"
        )
    given = [each for value in columns.values() for each in (value.values() if isinstance(value, dict) else [value])]
    refuse(
        [each for each in given if not isinstance(each, str)], "columns", "names a column by no text", "use its name"
    )
    refuse([name for name in columns if name not in KNOWN], "columns", "names what pairs do not have", f"use {KNOWN}")
    require_columns(row, given, "preferences (named by columns=)")
    names = {name: columns.get(name, name) for name in KNOWN}
    names = {name: given for name, given in names.items() if isinstance(given, dict) or given in row}
    given = {"aspect"} if aspect is not None else set()
    if is_chat(row.get(names.get("chosen"))):
        given.add("prompt")  # the messages begin with it
    missing = [name for name in NEEDED if name not in names and name not in given]
    if missing:
        raise DataError(
            f"preferences: column missing: {', '.join(missing)}; present are {listed(row)}. Remedy: {_remedy(missing, row)}"
        )
    return names


def _remedy(missing, row):
    """How to name the columns that are missing."""
    guesses = {name: (get_close_matches(name, row, n=1, cutoff=0.5) or ["<yours>"])[0] for name in missing}
    remedy = f"columns={guesses}"
    if "aspect" in missing:
        remedy += ', or aspect="..." if all labels are on one aspect (PD needs labels on two or more)'
    return remedy


def _pair(row, names, aspect, number):
    """A row of the pairs table."""
    require_object(row, number)
    used = [given for given in names.values() if not isinstance(given, dict)]
    inner = [column for given in names.values() if isinstance(given, dict) for column in given.values()]
    require_columns(row, used + inner, f"row {number}")
    pair = {name: value for name, value in row.items() if name not in used}
    pair |= {name: _value(row, given) for name, given in names.items()}
    if aspect is not None:
        pair["aspect"] = aspect
    if is_chat(pair["chosen"]) and is_chat(pair["rejected"]):
        pair = _with_shared_prompt(pair)
    key = [pair.get("prompt"), pair["chosen"], pair["rejected"], pair["aspect"]]
    pair["pair_id"] = str(pair.get("pair_id") or pair_id(*key))
    pair["prompt_id"] = str(pair.get("prompt_id") or prompt_id(str(pair.get("prompt"))))
    mappings = [name for name in MAPPINGS if not isinstance(pair.get(name), dict | None)]
    refuse(mappings, f"row {number}: column", "does not name the aspects", "write {aspect: number}")
    try:
        return _with_gaps(pair)
    except DataError as error:
        raise DataError(f"row {number}: a rating {error}. Remedy: {RATING_REMEDY}") from error


def _value(row, given):
    """What the data holds under a name, or a mapping from several columns."""
    if isinstance(given, dict):
        return {aspect: row[column] for aspect, column in given.items()}
    return row[given]


def _with_shared_prompt(pair):
    """The pair with the messages that both sides begin with as its prompt, where they begin with some."""
    chosen, rejected = pair["chosen"], pair["rejected"]
    n = 0
    while n < min(len(chosen), len(rejected)) - 1 and chosen[n] == rejected[n]:
        n += 1
    return pair | ({"prompt": chosen[:n], "chosen": chosen[n:], "rejected": rejected[n:]} if n else {})


def _with_gaps(pair):
    """The pair with `rating_gaps` and `overall_gap` where both sides are rated."""
    chosen, rejected = pair.pop("chosen_ratings", None), pair.pop("rejected_ratings", None)
    if chosen and rejected and "rating_gaps" not in pair:
        pair["rating_gaps"] = {aspect: _gap(chosen[aspect], rejected.get(aspect)) for aspect in chosen}
    chosen, rejected = pair.pop("chosen_overall", None), pair.pop("rejected_overall", None)
    if "overall_gap" not in pair and chosen is not None and rejected is not None:
        pair["overall_gap"] = _gap(chosen, rejected)
    elif "overall_gap" in pair:
        pair["overall_gap"] = read_rating(pair["overall_gap"])
    return pair


def _gap(chosen, rejected):
    return read_rating(chosen) - read_rating(rejected)  # NaN where one is absent


def _with_conflict(table):
    """The table with `conflict`, if it holds an overall gap or the ratings whose mean stands in for it."""
    if "overall_gap" not in table.column_names and "rating_gaps" in table.column_names:
        table = table.add_column("overall_gap", mean_gap(rating_gaps(table)).tolist())
    if "overall_gap" in table.column_names and "conflict" not in table.column_names:
        table = table.add_column("conflict", [gap < 0 for gap in table["overall_gap"]])  # NaN is no conflict
    return table
