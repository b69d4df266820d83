"""Rated responses in: any local file in UltraFeedback's layout, as one table with a row per prompt.

The layout, one prompt a row (ratings may be numbers, numeric strings or "N/A")::

    {"source": "...", "instruction": "...", "completions": [
        {"model": "...", "response": "...", "annotations": {"honesty": {"Rating": "4"}}, "overall_score": 7.0}, ...]}
"""

import hashlib
import json
import math
from itertools import islice
from pathlib import Path

import pyarrow.parquet as parquet
from datasets import Dataset, Features, List, Value
from tqdm.auto import tqdm

from pdsel.checks import DataError, refuse, require_columns

COLUMNS = ["prompt_id", "prompt", "responses", "models", "ratings", "overall", "source"]
ABSENT = {"n/a", "na", "none", "null", "nan", ""}
RATING_REMEDY = "give a finite number, a numeric string, or 'N/A' where the rating is absent"


def load_ratings(path_or_name, *, split="train", revision=None, limit=None):
    """Rated prompts as a table.

    Parameters
    ----------
    path_or_name : str or Path
        A local `.jsonl` or `.parquet` file in UltraFeedback's layout.
    split, revision : str
        For data sets from a hub; a local file has one split and ignores them.
    limit : int, optional
        Read only the first `limit` prompts.

    Returns
    -------
    datasets.Dataset
        A row per prompt: `prompt_id, prompt, responses, models, ratings {aspect: list}, overall, source`; an absent
        rating ("N/A", null, missing) is NaN, never a number and never compared as text.

    Raises
    ------
    ValueError
        For an empty or unreadable file, a prompt with fewer than two responses, a null or empty response, or a rating
        that is text, infinite or a boolean; the message names the column, the prompts and the remedy.

    Examples
    --------
    >>> from importlib.resources import files
    >>> ratings = load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=2)
    >>> ratings.num_rows, list(ratings[0]["ratings"])
    (2, ['helpfulness', 'honesty', 'instruction_following', 'truthfulness'])
    """
    path = Path(path_or_name)
    if path.suffix not in READERS:
        raise DataError(
            f"path_or_name={str(path_or_name)!r}: give a local {' or '.join(READERS)} file in UltraFeedback's layout"
        )
    if not path.is_file():
        raise DataError(f"path_or_name: no file at {path}; check the path (relative ones start at {Path.cwd()})")
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit}: read at least one prompt, or None for all")
    rows, problems = [], []
    found = tqdm(islice(READERS[path.suffix](path), limit), desc="reading ratings", leave=False)
    for number, raw in enumerate(found, start=1):
        rows.append(_row(raw, number, problems))
    if not rows:
        raise DataError(f"{path} is empty: no prompts to read. Remedy: write one JSON object or Parquet row per prompt")
    _raise_first(problems)
    return _table(rows)


def _jsonl(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, line {number}, is no JSON object ({error}); one prompt a line") from error


def _parquet(path):
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=1000):
        yield from batch.to_pylist()


READERS = {".jsonl": _jsonl, ".parquet": _parquet}


def _row(raw, number, problems):
    """One prompt; what is wrong with it goes to `problems` as (prompt_id, column, problem, remedy)."""
    if not isinstance(raw, dict):
        raise DataError(
            f"row {number} is no object but {type(raw).__name__}. Remedy: one JSON object a line, a prompt each"
        )
    require_columns(raw, ["instruction", "completions"], f"row {number}")
    prompt = raw["instruction"]
    name = raw.get("prompt_id") or prompt_id(str(prompt))
    completions = raw["completions"] or []
    if not isinstance(completions, list) or not all(map(_is_completion, completions)):
        raise DataError(f"completions: row {number} does not hold a list of objects with annotations. Remedy: write them as "
                        '[{"response": ..., "annotations": {aspect: {"Rating": ...}}}, ...]')  # fmt: skip
    aspects = sorted({aspect for completion in completions for aspect in (completion.get("annotations") or {})})

    def number_or_nan(value, column):
        try:
            return read_rating(value)
        except DataError as error:
            problems.append((name, column, str(error), RATING_REMEDY))
            return math.nan

    def rating(completion, aspect):
        annotation = (completion.get("annotations") or {}).get(aspect)
        value = annotation.get("Rating") if isinstance(annotation, dict) else annotation
        return number_or_nan(value, f"ratings[{aspect!r}]")

    return {
        "prompt_id": name,
        "prompt": prompt,
        "responses": [completion.get("response") for completion in completions],
        "models": [completion.get("model") or "unknown" for completion in completions],
        "ratings": {aspect: [rating(completion, aspect) for completion in completions] for aspect in aspects},
        "overall": [number_or_nan(completion.get("overall_score"), "overall") for completion in completions],
        "source": raw.get("source") or "unknown",
    }


def _is_completion(value):
    return isinstance(value, dict) and isinstance(value.get("annotations") or {}, dict)


def prompt_id(prompt):
    """A digest of the prompt.

    >>> prompt_id("Why is the sky blue?")
    '09ea26793343ba6c'
    """
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def read_rating(value):
    """A rating as a float, NaN where absent; text, booleans and infinities are refused.

    >>> read_rating("4"), read_rating(4.5), read_rating("N/A")
    (4.0, 4.5, nan)
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in ABSENT):
        return math.nan
    if isinstance(value, bool):
        raise DataError("is a boolean")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("is text") from error
    if math.isinf(number):
        raise DataError("is infinite")
    return number


def _raise_first(problems):
    if problems:
        _, column, problem, remedy = problems[0]
        same = dict.fromkeys(name for name, *rest in problems if rest == [column, problem, remedy])
        refuse(same, column, problem, remedy)


def _table(rows):
    """Rows to a checked table; aspects missing from a row become NaN."""
    aspects = sorted({aspect for row in rows for aspect in row["ratings"]})
    for row in rows:
        row["ratings"] = {a: row["ratings"].get(a, [math.nan] * len(row["responses"])) for a in aspects}
    check_responses(rows)
    numbers = List(Value("float64"))
    features = {name: Value("string") for name in COLUMNS}
    features |= {"responses": List(Value("string")), "models": List(Value("string")), "overall": numbers}
    features |= {"ratings": {aspect: numbers for aspect in aspects}}
    return Dataset.from_list(rows, features=Features(features))


def check_responses(rows):
    """Refuse duplicate prompts, null or empty texts, and prompts that cannot give a pair."""
    names = [row["prompt_id"] for row in rows]
    seen = set()
    refuse(
        dict.fromkeys(name for name in names if name in seen or seen.add(name)),
        "prompt_id", "occurs more than once", "merge or drop the repeated prompts",
    )  # fmt: skip
    empty = [row["prompt_id"] for row in rows if not isinstance(row["prompt"], str) or not row["prompt"].strip()]
    refuse(empty, "prompt", "is null or empty", "drop these prompts")
    few = [row["prompt_id"] for row in rows if len(row["responses"]) < 2]
    refuse(few, "responses", "holds fewer than two responses", "a pair needs two: add responses or drop these prompts")
    blank = [
        row["prompt_id"]
        for row in rows
        if any(not isinstance(text, str) or not text.strip() for text in row["responses"])
    ]
    refuse(blank, "responses", "holds a null or empty response", "drop these responses")


def check_ratings(ratings):
    """Refuse a ratings table (from anywhere) that is not what `load_ratings` returns; used by everything that reads one.

    Raises
    ------
    ValueError
        Naming the column, the prompts and the remedy.
    """
    require_columns(ratings.column_names, COLUMNS[:-1], "ratings table")
    if len(ratings) == 0:
        raise DataError("ratings table is empty: it holds no prompts. Remedy: check the file or the filter before it")
    rows = list(ratings)
    check_responses(rows)
    problems = []
    for row in rows:
        lists = {f"ratings[{aspect!r}]": values for aspect, values in (row["ratings"] or {}).items()}
        for column, values in (lists | {"overall": row["overall"]}).items():
            problems += [(row["prompt_id"], *found) for found in _bad_ratings(column, values, len(row["responses"]))]
    _raise_first(problems)


def _bad_ratings(column, values, n_responses):
    if values is None:  # absent for the whole prompt
        return []
    if len(values) != n_responses:
        return [(column, "is not one rating per response", "use NaN where a rating is absent")]
    for value in values:
        if isinstance(value, str):
            return [(column, "is text", "read the file with load_ratings, which turns '4' into 4.0 and 'N/A' into NaN")]
        try:
            read_rating(value)
        except DataError as error:
            return [(column, str(error), RATING_REMEDY)]
    return []
