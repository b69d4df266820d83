"""Tables that are written row by row, since their texts may be larger than memory."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from datasets import Dataset
from datasets.arrow_writer import ArrowWriter

from pdsel.artifacts import disk_errors
from pdsel.data.scratch import lasting_scratch_folder

IN_MEMORY = 64 << 20  # bytes of a table that is read back into memory
BATCH = 100  # rows that are written at once: chats may be long


def write_table(rows, features):
    """Write rows into a table with only a few of them in memory at a time.

    Each table has a folder of its own, so that no two tables share what `datasets` caches beside them.
    (`Dataset.from_generator` names its cache after the generator, whatever data that closes over; it also draws a bar, and
    hides the generator's errors behind its own.)

    Parameters
    ----------
    rows : iterable of dict
        Dicts with a value for each of the features.
    features : datasets.Features

    Returns
    -------
    datasets.Dataset
        In memory up to 64 MiB, otherwise memory-mapped from a file that is removed when the process ends.

    Examples
    --------
    >>> from datasets import Features, Value
    >>> write_table(({"text": text} for text in ("one", "two")), Features({"text": Value("string")}))["text"][:]
    ['one', 'two']
    """
    folder = mkdtemp(dir=_folder_of_tables())
    path = Path(folder, "table.arrow")
    with disk_errors(path), ArrowWriter(path=str(path), features=features, writer_batch_size=BATCH) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    if path.stat().st_size > IN_MEMORY:
        return Dataset.from_file(str(path))
    table = Dataset.from_file(str(path), in_memory=True)
    shutil.rmtree(folder)
    return table


@cache
def _folder_of_tables():
    """One folder for all tables of this process: a new one for each would sweep the cache each time."""
    return lasting_scratch_folder("tables")
