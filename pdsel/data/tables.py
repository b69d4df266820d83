"""Tables of texts of any size: in memory while they are small, else on disk and memory-mapped; and their check."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetInfo

from pdsel.checks import DataError, refuse, require_columns

IN_MEMORY = 64 << 20  # bytes of a table that needs no file
BATCH = 4 << 20  # characters that are written at once


class Spool:
    """Rows in, one at a time; a `datasets.Dataset` out, which never was in memory as a whole unless it is small.

    Parameters
    ----------
    features : datasets.Features
    in_memory : int, optional
        Bytes up to which no file is written; default: 64 MiB.

    Examples
    --------
    >>> from datasets import Features, Value
    >>> spool = Spool(Features({"text": Value("string")}))
    >>> for text in ("one", "two"):
    ...     spool.add({"text": text})
    >>> spool.finish()["text"][:]
    ['one', 'two']
    """

    def __init__(self, features, *, in_memory=None):
        self.features, self.in_memory = features, IN_MEMORY if in_memory is None else in_memory
        self.rows, self.characters = [], 0
        self.batches, self.path, self.writer = [], None, None

    def add(self, row):
        """One row, a dict with the columns of the features."""
        self.rows.append(row)
        self.characters += _characters(row)
        if self.characters >= BATCH:
            self._flush()

    def finish(self):
        """The table of all rows; a file that it needed is removed when the process ends."""
        self._flush()
        if self.writer is None:
            table = pa.Table.from_batches(self.batches, schema=self.features.arrow_schema).combine_chunks()
            return Dataset(table, info=DatasetInfo(features=self.features))
        self.writer.close()
        return Dataset.from_file(str(self.path))

    def _flush(self):
        self.batches.append(pa.RecordBatch.from_pylist(self.rows, schema=self.features.arrow_schema))
        self.rows, self.characters = [], 0
        if self.writer is None and sum(batch.nbytes for batch in self.batches) > self.in_memory:
            self.path = Path(tempfile.mkdtemp(dir=_scratch()), "table.arrow")
            self.writer = pa.ipc.new_stream(self.path, self.features.arrow_schema)
        if self.writer is not None:
            for batch in self.batches:
                self.writer.write_batch(batch)
            self.batches = []


def rows_at(table, positions, *, batch=64):
    """The rows of a table at the given positions, in this order, a few in memory at a time.

    >>> table = Dataset.from_dict({"text": ["one", "two", "three"]})
    >>> [row["text"] for row in rows_at(table, [2, 0])]
    ['three', 'one']
    """
    for start in range(0, len(positions), batch):
        columns = table[list(positions[start : start + batch])]
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


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
    blank, same = {"prompt": [], "chosen": [], "rejected": []}, []
    for name, row in zip(names, pairs.select_columns(list(blank)), strict=True):  # a row at a time: texts may be large
        for column, found in blank.items():
            if _is_blank(row[column]):
                found.append(name)
        if row["chosen"] == row["rejected"]:
            same.append(name)
    for column, found in blank.items():
        refuse(found, column, "is null or empty", "drop these pairs")
    refuse(same, "chosen", "equals rejected", "drop these pairs; they teach nothing")


def _is_blank(text):
    if isinstance(text, list):  # chat messages
        contents = [message.get("content") if isinstance(message, dict) else None for message in text]
        return not any(content.strip() if isinstance(content, str) else content for content in contents)
    return not isinstance(text, str) or not text.strip()


def _characters(row):
    """How much text is in a row; texts may be in lists, too."""
    texts = 0
    for value in row.values():
        if isinstance(value, str):
            texts += len(value)
        elif isinstance(value, list):
            texts += sum(len(item) for item in value if isinstance(item, str))
    return texts


@cache
def _scratch():
    """A folder that lives as long as the process, where large data are expected: /tmp is memory on many machines."""
    root = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="pdsel-", dir=root)
    except OSError:  # a read-only home
        folder = tempfile.mkdtemp(prefix="pdsel-")
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder, owner):
    if os.getpid() == owner:  # a forked worker that exits must not take its parent's tables along
        shutil.rmtree(folder, ignore_errors=True)
