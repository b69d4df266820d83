"""Reads rated responses, from public data sets by name and from local files, into one table with a row per prompt.

UltraFeedback's layout has one prompt a row (ratings may be numbers, numeric strings or "N/A")::

    {"source": "...", "instruction": "...", "completions": [
        {"model": "...", "response": "...", "annotations": {"honesty": {"Rating": "4"}}, "overall_score": 7.0}, ...]}

HelpSteer's has one response a row, the responses to one prompt in consecutive rows::

    {"prompt": "...", "response": "...", "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 1}

The file is read twice: first to check it and to collect its aspects and prompts, then to write the table. It is never in
memory as a whole.
"""

import warnings
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from datasets import Features, List, Value

from pdsel.checks import DataError, refuse, refuse_reserved, require_columns, require_table, require_whole
from pdsel.data.cleaning import (
    CONTAMINATION,
    Faults,
    check_responses,
    clean_rows,
    count,
    mend_texts,
    prompt_key,
    ratings_of,
    refuse_repeats,
)
from pdsel.data.large_tables import write_table
from pdsel.data.layouts import (
    RATING_REMEDY,
    find_files,
    first_row,
    is_helpsteer,
    parse_prompt,
    prompt_id,
    read_prompts,
    read_rating,
)
from pdsel.data.sources import find_source
from pdsel.engine.progress import Progress

__all__ = ["check_ratings", "check_responses", "load_ratings", "prompt_id", "read_rating"]

COLUMNS = ["prompt_id", "prompt", "responses", "models", "ratings", "overall", "source"]
KINDS = {"prompt_id": str, "responses": list, "models": list, "ratings": dict, "overall": list | None}
HELPSTEER_SIGNS = {"complexity": 0, "verbosity": 0}


def load_ratings(path_or_name, *, split="train", revision=None, limit=None, clean=None, signs=None):
    """Read rated prompts as a table.

    Parameters
    ----------
    path_or_name : str or Path
        "ultrafeedback" (64 k prompts, 4 responses each), "helpsteer" (10 k prompts, up to 4) or "helpsteer2" (10 k, 2); or
        a local `.jsonl`, `.jsonl.gz` or `.parquet` file in the layout of one of them, recognised by its columns; or a
        folder of such files.
    split, revision : str
        For data sets from the hub: "train", or "validation" for HelpSteer; and a commit other than the pinned one. Local files
        ignore both.
    limit : int, optional
        Read only the first `limit` prompts; cleaning may leave fewer.
    clean : bool, optional
        Mend the known oddities of public data instead of refusing them. Default: yes for a data set by name, since nobody can
        correct it at the source; no for your own file, where an empty response or a repeated prompt is more likely a
        mistake. Use `True` for a public file that you downloaded yourself.

        Removed are empty responses, repeats of a response to the same prompt (the first stays), prompts with fewer than
        two responses left, and the prompts of TruthfulQA (by source, and the same text from any other source). Rows with
        exactly the same prompt are merged. A rating that is not a number counts as absent.
    signs : dict, optional
        Aspect to 1 (kept), -1 (reversed: ratings are negated) or 0 (left out). Default: all kept, but HelpSteer's
        `complexity` and `verbosity` left out.

    Returns
    -------
    datasets.Dataset
        A row per prompt: `prompt_id, prompt, responses, models, ratings {aspect: list}, overall, source`; an absent
        rating ("N/A", null, missing) is NaN, never a number and never compared as text. HelpSteer has no overall score.
        `info.description` says what was read and what cleaning did (and so does a warning); for a data set by name,
        `info.license`, `info.homepage` and `info.citation` are filled in. A table of more than some 64 MB is memory-mapped
        from disk until the process ends.

    Raises
    ------
    ValueError
        For an empty or unreadable file, a prompt with fewer than two responses, a null or empty response, or a rating
        that is text, infinite or a boolean; the message names the column, the prompts and the remedy. If the hub cannot be
        reached, the message says what to download.

    Notes
    -----
    HelpSteer's complexity and verbosity are left out because they describe a response, and whether more of them is better
    depends on the question. An aspect with a sign labels its share of the pairs and votes in the divergence of every other
    pair, so either sign of verbosity would *teach* length, which the rest of the method takes pains to remove. Only leaving
    them out asserts nothing. The publishers' own scalar for HelpSteer2 weighs the five attributes .3, .74, .46, .47, -.33
    (model card of Nemotron-4-340B-Reward); pass `signs={"complexity": 1, "verbosity": -1}` to follow them.

    Examples
    --------
    >>> from importlib.resources import files
    >>> ratings = load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=2)
    >>> ratings.num_rows, list(ratings[0]["ratings"])
    (2, ['helpfulness', 'honesty', 'instruction_following', 'truthfulness'])
    >>> ratings.info.description
    'rated.jsonl: 2 prompts read, 2 kept'
    """
    if limit is not None:
        require_whole(limit, "limit")
    source = find_source(path_or_name)
    files = find_files(path_or_name) if source is None else source.fetch(split, revision)
    clean = source is not None if clean is None else clean
    signs = _signs(signs, files)
    name = "unknown" if source is None else str(path_or_name)
    survey = _survey(_parsed(files, name, clean, {}), limit, clean)
    if not survey.n_read:
        raise DataError(
            f"{path_or_name} is empty: no prompts to read. Remedy: write one JSON object or Parquet row per prompt"
        )
    _check_signs(signs, survey.aspects)
    aspects = sorted(aspect for aspect in survey.aspects if signs.get(aspect) != 0)
    refuse_reserved(aspects)
    report = {}
    parsed = _parsed(files, name, clean, report, survey.n_read)
    table = write_table(_signed_rows(parsed, survey, aspects, signs, clean, report), _features(aspects))
    refuse_repeats(table["prompt_id"])
    made = [] if source is None else [source.repository, split, f"revision {revision or source.revision}"]
    made += _what_signs_did(signs, survey.aspects)
    description = _description(Path(path_or_name).name, made, survey.n_read, len(table), report)
    if not len(table):
        raise DataError(f"{description}. Remedy: other data, or a higher limit")
    if report:
        warnings.warn(description, stacklevel=2)
    table.info.description = description
    if source is not None:
        table.info.license, table.info.homepage, table.info.citation = source.licence, source.homepage, source.citation
    return table


def _what_signs_did(signs, aspects):
    """The aspects that were left out or reversed, in words."""
    changed = [aspect for aspect in sorted(aspects) if signs.get(aspect, 1) < 1]
    return [f"reversed {aspect}" if signs[aspect] else f"without {aspect}" for aspect in changed]


def _description(name, made, n_read, n_kept, report):
    """What was read, how it was made, and what cleaning did."""
    where = f" ({', '.join(made)})" if made else ""
    cleaned = "".join(f"; {n} {what}" for what, n in report.items())
    return f"{name}{where}: {n_read} prompts read, {n_kept} kept{cleaned}"


def _signs(signs, files):
    """The signs of aspects: as given, otherwise those of the layout."""
    if not isinstance(signs, dict | None):
        raise DataError(f"signs={signs!r} is not a dict. Remedy: such as {{'verbosity': -1}}: aspect to 1, -1 or 0")
    signs = dict(signs or {})
    refuse(
        [a for a, sign in signs.items() if sign not in (1, 0, -1)],
        "signs",
        "is not 1, 0 or -1 for aspect",
        "1 keeps an aspect, -1 reverses it, 0 leaves it out",
    )
    return (HELPSTEER_SIGNS if is_helpsteer(first_row(files)) else {}) | signs


def _check_signs(signs, aspects):
    unknown = [aspect for aspect in signs if aspect not in aspects and aspect not in HELPSTEER_SIGNS]
    refuse(unknown, "signs: aspect", "is in no row", f"use some of {sorted(aspects)}")
    if aspects and not any(signs.get(aspect) != 0 for aspect in aspects):
        raise DataError(f"signs={signs}: every aspect is left out. Remedy: keep at least two")


def _parsed(files, name, clean, report, n_read=None):
    """Every prompt as a row of the table, and the problems with its ratings."""
    chore = "reading" if n_read else "checking"
    stream = Progress(islice(read_prompts(files), n_read), desc=f"{chore} ratings", total=n_read)
    for number, raw in enumerate(stream, start=1):
        mended = mend_texts(raw, report) if clean and isinstance(raw, dict) else raw
        yield parse_prompt(mended, number, name)


@dataclass
class _Survey:
    """What must be known about all the data before the first row is written."""

    n_read: int = 0
    aspects: set = field(default_factory=set)
    occurrences: Counter = field(default_factory=Counter)  # prompt key to rows
    contaminated: set = field(default_factory=set)  # prompt keys

    def add(self, row):
        """Note a row that was read."""
        self.n_read += 1
        self.aspects.update(row["ratings"])

    def add_text(self, row):
        """Note which prompt the row is about, and whether to leave it out."""
        key = prompt_key(row)
        self.occurrences[key] += 1
        if row["source"] == CONTAMINATION:
            self.contaminated.add(key)

    @property
    def n_usable(self):
        """How many prompts remain after repeats are merged and benchmarks are left out."""
        return len(self.occurrences) - len(self.contaminated)


def _survey(parsed, limit, clean):
    """Read the data once, up to `limit` prompts; unless `clean`, refuse faulty ones."""
    survey, faults, bad_ratings = _Survey(), Faults(), []
    for row, problems in parsed:
        survey.add(row)
        if clean:
            survey.add_text(row)
        else:
            faults.add(row)
            bad_ratings.extend(problems)
        if limit == (survey.n_usable if clean else survey.n_read):
            break
    faults.refuse()
    _raise_first(bad_ratings)
    return survey


def _signed_rows(parsed, survey, aspects, signs, clean, report):
    """The rows of the table: cleaned, with signed ratings, and with NaN for each aspect that a row lacks."""
    rows = _without_problems(parsed, report)
    if clean:
        rows = clean_rows(rows, survey.occurrences, survey.contaminated, report)
    for row in rows:
        # Adding zero turns the -0.0 of a reversed zero into 0.0.
        ratings = {a: [signs.get(a, 1) * value + 0.0 for value in ratings_of(row, a)] for a in aspects}
        yield row | {"ratings": ratings}


def _without_problems(parsed, report):
    for row, problems in parsed:
        count(report, "taken as absent: ratings that are not numbers", len(problems))
        yield row


def _features(aspects):
    numbers = List(Value("float64"))
    features = {name: Value("string") for name in COLUMNS}
    features |= {"responses": List(Value("string")), "models": List(Value("string")), "overall": numbers}
    return Features(features | {"ratings": {aspect: numbers for aspect in aspects}})


def _raise_first(problems):
    if problems:
        _, column, problem, remedy = problems[0]
        same = dict.fromkeys(name for name, *rest in problems if rest == [column, problem, remedy])
        refuse(same, column, problem, remedy)


def check_ratings(ratings):
    """Refuse a ratings table that `load_ratings` would not return; everything that reads such a table calls this.

    Raises
    ------
    ValueError
        Naming the column, the prompts and the remedy.
    """
    require_table(ratings, "ratings")
    require_columns(ratings.column_names, COLUMNS[:-1], "ratings table")
    if len(ratings) == 0:
        raise DataError("ratings table is empty. Remedy: check the file or the filter before it")
    faults, bad_ratings, bad_models = Faults(), [], []
    for row in ratings:
        _check_shape(row)
        if len(row["models"]) != len(row["responses"]):
            bad_models.append(row["prompt_id"])
        faults.add(row)
        columns = {f"ratings[{aspect!r}]": values for aspect, values in row["ratings"].items()}
        columns["overall"] = row["overall"]
        for column, values in columns.items():
            for problem in _bad_ratings(column, values, len(row["responses"])):
                bad_ratings.append((row["prompt_id"], *problem))
    faults.refuse()
    refuse(bad_models, "models", "is not one for each response", "use 'unknown' where a model is not known")
    _raise_first(bad_ratings)


def _check_shape(row):
    """Refuse a row of a ratings table whose columns hold other kinds of values than `load_ratings` gives."""
    bad = [name for name, kind in KINDS.items() if not isinstance(row[name], kind)]
    remedy = "read the file with load_ratings, which gives text, lists, and a mapping from aspects to lists"
    refuse(bad, f"ratings table: prompt {row['prompt_id']!r}: column", "holds another kind of value", remedy)


def _bad_ratings(column, values, n_responses):
    if values is None:  # absent for the whole prompt
        return []
    if not isinstance(values, list) or len(values) != n_responses:
        return [(column, "is not one rating per response", "use NaN where a rating is absent")]
    for value in values:
        if isinstance(value, str):
            return [(column, "is text", "read the file with load_ratings, which turns '4' into 4.0 and 'N/A' into NaN")]
        try:
            read_rating(value)
        except DataError as error:
            return [(column, str(error), RATING_REMEDY)]
    return []
