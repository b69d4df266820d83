"""Layouts of files of rated responses, each read as a stream of prompts in UltraFeedback's layout."""

import gzip
import hashlib
import json
import math
import zlib
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain, groupby, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from pdsel.checks import DataError, refuse, require_columns

ABSENT = {"n/a", "na", "none", "null", "nan", ""}
RATING_REMEDY = "give a finite number, a numeric string, or 'N/A' where the rating is absent"
ATTRIBUTES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]  # of HelpSteer and HelpSteer2


@contextmanager
def _readable(path):
    """Turn what readers of files raise into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, pa.ArrowException) as error:
        what = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(
            f"{path} cannot be read ({what}). Remedy: check that the file is whole, such as by its size, that text is UTF-8, "
            "and that you may read it"
        ) from error


def _jsonl(path):
    opened = gzip.open if path.name.endswith(".gz") else open
    with _readable(path), opened(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and deep nesting
                    raise DataError(
                        f"{path}, line {number}, is not a JSON object ({error}); write one prompt a line"
                    ) from error


def _parquet(path):
    with _readable(path), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=100):
            yield from batch.to_pylist()


READERS = {".jsonl": _jsonl, ".jsonl.gz": _jsonl, ".parquet": _parquet}


def find_files(path_or_name):
    """The files to read: the named one, or all files of a folder in alphabetical order."""
    path = Path(path_or_name)
    files = sorted(file for file in path.iterdir() if reader_of(file)) if path.is_dir() else [path]
    if not files:
        raise DataError(f"path_or_name: folder {path} holds no {', '.join(READERS)} file; check the path")
    if not all(map(reader_of, files)):
        raise DataError(
            f"path_or_name={str(path_or_name)!r}: {_meant(path.name)}give ultrafeedback, helpsteer or helpsteer2, or the "
            "path of a local .jsonl, .jsonl.gz or .parquet file in the layout of one of these data sets, or of a folder "
            "of such files"
        )
    if not path.exists():
        raise DataError(
            f"path_or_name: there is no file at {path}; check the path (relative ones start at {Path.cwd()})"
        )
    return files


def _meant(name):
    """A question after the data set that a name resembles; empty where it resembles none.

    >>> _meant("UltraFeedbak")
    'did you mean ultrafeedback? Otherwise '
    """
    nearest = get_close_matches(name.lower(), ["ultrafeedback", "helpsteer", "helpsteer2"], n=1, cutoff=0.8)
    return f"did you mean {nearest[0]}? Otherwise " if nearest else ""


def reader_of(path):
    """The function that yields the rows of a file, by its suffix; None for other suffixes."""
    return next((reader for suffix, reader in READERS.items() if path.name.endswith(suffix)), None)


def is_helpsteer(row):
    """Whether a row is one rated response, as in HelpSteer, and not a prompt with all its responses."""
    return isinstance(row, dict) and {"prompt", "response"} <= set(row) and not set(ATTRIBUTES).isdisjoint(row)


def first_row(files):
    """The first row of the files, which shows their layout; `None` if they are empty."""
    return next(chain.from_iterable(reader_of(Path(file))(Path(file)) for file in files), None)


def read_prompts(files):
    """Every prompt of the files, converted to UltraFeedback's layout; nothing is checked or kept."""
    for file in map(Path, files):
        rows = reader_of(file)(file)
        first = list(islice(rows, 1))
        rows = chain(first, rows)
        yield from _grouped(rows) if first and is_helpsteer(first[0]) else rows


def _grouped(rows):
    """HelpSteer's rows as prompts: consecutive rows with one prompt hold its responses."""

    def checked():
        for number, row in enumerate(rows, start=1):
            require_object(row, number)
            require_columns(row, ["prompt", "response"], f"row {number}")
            yield row

    for prompt, group in groupby(checked(), key=lambda row: row["prompt"]):
        group = list(group)
        completions = [
            {
                "model": row.get("model"),
                "response": row["response"],
                "overall_score": row.get("overall_score"),
                "annotations": {name: row[name] for name in ATTRIBUTES if name in row},
            }
            for row in group
        ]
        named = {name: group[0].get(name) for name in ("prompt_id", "source")}
        yield {"instruction": prompt, "completions": completions} | named


def require_object(row, number):
    """Refuse a row that is not a JSON object."""
    if not isinstance(row, dict):
        raise DataError(
            f"row {number} is not an object but a {type(row).__name__}. Remedy: write one JSON object a line, each a prompt"
        )


def parse_prompt(raw, number, source="unknown"):
    """A row of the ratings table, and the problems with its ratings.

    Parameters
    ----------
    raw : dict
        A prompt in UltraFeedback's layout.
    number : int
        The number of the row in its file, for messages.
    source : str
        The source of a prompt that names none.

    Returns
    -------
    (dict, list of tuple)
        The row, in which a rating that is not a number is NaN; and `(prompt_id, column, problem, remedy)` for each such rating.

    >>> raw = {"instruction": "Why?", "completions": [{"response": "So.", "annotations": {"honesty": {"Rating": "N/A"}}}]}
    >>> row, problems = parse_prompt(raw, 1)
    >>> row["ratings"], problems
    ({'honesty': [nan]}, [])
    """
    require_object(raw, number)
    if {"chosen", "rejected"} <= set(raw):
        raise DataError(f"row {number} is a pair, not rated responses. Remedy: read the file with load_preferences")
    require_columns(raw, ["instruction", "completions"], f"row {number}")
    prompt, completions = raw["instruction"], raw["completions"] or []
    if not isinstance(completions, list) or not all(map(_is_completion, completions)):
        raise DataError(
            f"completions: row {number} does not hold a list of objects with annotations. Remedy: write them as "
            '[{"response": ..., "annotations": {aspect: {"Rating": ...}}}, ...]'
        )
    name = _name(raw.get("prompt_id"), "prompt_id", number) or prompt_id(str(prompt))
    aspects = sorted({aspect for completion in completions for aspect in (completion.get("annotations") or {})})
    unnamed = [ascii(aspect) for aspect in aspects if not aspect.strip() or not is_unicode(aspect)]
    refuse(
        unnamed, f"row {number}: annotations: the name of an aspect", "is blank or broken Unicode", "name it in text"
    )
    given = {f"ratings[{aspect!r}]": [_rating(completion, aspect) for completion in completions] for aspect in aspects}
    given["overall"] = [completion.get("overall_score") for completion in completions]
    numbers, problems = _numbers(given, name)
    row = {
        "prompt_id": name,
        "prompt": prompt,
        "responses": [completion.get("response") for completion in completions],
        "models": [_name(completion.get("model"), "model", number) or "unknown" for completion in completions],
        "ratings": {aspect: numbers[f"ratings[{aspect!r}]"] for aspect in aspects},
        "overall": numbers["overall"],
        "source": _name(raw.get("source"), "source", number) or source,
    }
    return row, problems


def _name(value, column, number):
    """A name as text, with integers written out; None for an absent name."""
    if value is None or (isinstance(value, str) and is_unicode(value)):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        raise DataError(f"{column}: row {number} holds {value!a}, which is broken Unicode. Remedy: mend it")
    raise DataError(f"{column}: row {number} holds {value!r}, which is neither text nor an integer. Remedy: write text")


def is_unicode(text):
    """Whether a text can be written to a file: JSON may hold half of a surrogate pair, which a text file cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rating(completion, aspect):
    """The rating as it is written; UltraFeedback wraps it in an object."""
    annotation = (completion.get("annotations") or {}).get(aspect)
    return annotation.get("Rating") if isinstance(annotation, dict) else annotation


def _numbers(given, name):
    """The ratings of each column as numbers, with NaN for those that are not; and the problems with these."""
    numbers, problems = {}, []
    for column, values in given.items():
        numbers[column] = []
        for value in values:
            try:
                numbers[column].append(read_rating(value))
            except DataError as error:
                numbers[column].append(math.nan)
                problems.append((name, column, str(error), RATING_REMEDY))
    return numbers, problems


def _is_completion(value):
    return isinstance(value, dict) and isinstance(value.get("annotations") or {}, dict)


def prompt_id(prompt):
    """A digest of the prompt.

    >>> prompt_id("Why is the sky blue?")
    '09ea26793343ba6c'
    """
    return hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest()[:16]


def pair_id(prompt, chosen, rejected, aspect):
    """The key of a pair everywhere: a digest of its prompt, chosen, rejected and aspect.

    >>> pair_id("p", "good", "bad", "honesty") == pair_id("p", "bad", "good", "honesty")
    False
    """
    return hashlib.sha256(json.dumps([prompt, chosen, rejected, aspect], default=str).encode()).hexdigest()[:16]


def read_rating(value):
    """A rating as a float, NaN if absent; text, booleans and infinities are refused.

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
