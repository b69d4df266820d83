"""Tables that are written row by row, since their texts may be larger than memory; nothing is left behind."""

import atexit
import os
import platform
import shutil
import tempfile
from functools import cache
from pathlib import Path

import datasets
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter

IN_MEMORY = 64 << 20  # bytes of a table that is read back into memory
BATCH = 100  # rows that are written at once: chats may be long
PREFIX = f"pdsel-{platform.node()}-"


def write_table(rows, features):
    """A table of rows, of which only a few are in memory at a time.

    Each table has a folder of its own, so that no two tables ever share what `datasets` caches beside them.
    (`Dataset.from_generator` would name its cache by the generator, which does not know the data that it closes over; it
    also draws a bar and hides the errors of the generator in its own.)

    Parameters
    ----------
    rows : iterable of dict
        Each with the columns of the features.
    features : datasets.Features

    Returns
    -------
    datasets.Dataset
        In memory up to 64 MiB, else memory-mapped from a file that is removed when the process ends.

    Examples
    --------
    >>> from datasets import Features, Value
    >>> write_table(({"text": text} for text in ("one", "two")), Features({"text": Value("string")}))["text"][:]
    ['one', 'two']
    """
    folder = tempfile.mkdtemp(dir=_scratch_folder())
    path = Path(folder, "table.arrow")
    with ArrowWriter(path=str(path), features=features, writer_batch_size=BATCH) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    if path.stat().st_size > IN_MEMORY:
        return Dataset.from_file(str(path))
    table = Dataset.from_file(str(path), in_memory=True)
    shutil.rmtree(folder)
    return table


@cache
def _scratch_folder():
    """A folder that lives as long as the process, beside the caches of `datasets`: /tmp is memory on many machines."""
    root = Path(datasets.config.HF_DATASETS_CACHE)
    prefix = f"{PREFIX}{os.getpid()}-"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        folder = tempfile.mkdtemp(prefix=prefix, dir=root)
    except OSError:
        # The home is read-only.
        folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(_remove, folder, os.getpid())
    return folder


def _sweep(root):
    """Remove what killed processes of this machine left behind."""
    for folder in root.glob(f"{PREFIX}*-*"):
        process = folder.name.removeprefix(PREFIX).split("-")[0]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process):
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(folder, owner):
    # A forked worker that exits must not take its parent's tables along.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
