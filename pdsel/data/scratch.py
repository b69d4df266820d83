"""Scratch folders, which lie beside the cached data sets, not in the temp folder, and are swept after a kill.

On many machines the temp folder is in memory, and a model or a data set may fill it. The cache of `datasets` lies where
large data are expected.
"""

import atexit
import os
import platform
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import datasets


@contextmanager
def scratch_folder(purpose):
    """A new folder that is removed when the body ends.

    Parameters
    ----------
    purpose : str
        Part of the folder's name, to explain it.

    Yields
    ------
    Path

    >>> with scratch_folder("example") as folder:
    ...     folder.is_dir()
    True
    >>> folder.exists()
    False
    """
    folder = _new_folder(purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lasting_scratch_folder(purpose):
    """A new folder that is removed when this process ends."""
    folder = _new_folder(purpose)
    atexit.register(_remove, folder, os.getpid())
    return folder


def _new_folder(purpose):
    root = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        return Path(tempfile.mkdtemp(prefix=f"{_ours()}{os.getpid()}.{purpose}-", dir=root))
    except OSError:  # a home that can only be read
        return Path(tempfile.mkdtemp(prefix=f"pdsel-{purpose}-"))


def sweep(root):
    """Remove the scratch folders of processes that have ended; only this machine's, since others may share the cache."""
    for folder in root.glob(f"{_ours()}*"):
        owner = folder.name.removeprefix(_ours()).split(".")[0]
        if owner.isdigit() and not is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _ours():
    return f"pdsel-scratch.{platform.node().replace('.', '-')}."


def _remove(folder, owner):
    if os.getpid() == owner:  # a forked worker that exits must not remove its parent's files
        shutil.rmtree(folder, ignore_errors=True)


def is_running(process):
    """Whether a process has this id.

    >>> is_running(os.getpid())
    True
    """
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
