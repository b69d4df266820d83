"""The folder of a training run, which is whole or absent, whatever kills the run.

A run writes to a scratch folder beside its `output_dir`, which gets the name at the very end: the old folder is renamed, then
the new one, and only then is the old one deleted. So one of the two is whole at any moment, and the next call repairs what
a kill between the two renames left.

Checkpoints lie beside the output, too. A checkpoint holds pickles of tensors (optimiser, random state). A run reads only
its own checkpoints, and transformers reads them with `weights_only=True`, which executes nothing.
"""

import hashlib
import json
import os
import random
import shutil
import warnings
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import numpy as np
import torch

from pdsel.artifacts import digest
from pdsel.checks import DataError
from pdsel.data.scratch import is_running
from pdsel.engine import processes
from pdsel.engine.errors import TrainingError
from pdsel.engine.models import quiet

RECORD = "training.json"  # is written last, so a folder with this file is a finished run


@contextmanager
def run_folder(output_dir):
    """Yield a scratch folder that becomes `output_dir` when the body succeeds.

    Parameters
    ----------
    output_dir : str or Path
        A symbolic link is followed: its target is written, and the link stays.

    Yields
    ------
    Path
        The scratch folder. The body writes `training.json` into it, last of all.

    Raises
    ------
    ValueError
        Before the body runs, if `output_dir` holds anything but one finished run.
    TrainingError
        If the finished folder cannot get its name. It is not deleted, and the message says where it lies.
    """
    processes.join()
    final = Path(output_dir).resolve()
    refuse_other_files(final)
    owner = processes.agree(os.getpid())
    scratch = _named(final, owner, "partial")  # the orphan of a killed run may still write to its own
    if (scratch / RECORD).exists():
        raise DataError(f"{scratch} holds a finished training that could not get its name. Remedy: move it first")
    if processes.is_main():
        mend(final)
        _sweep(final)
        scratch.mkdir(parents=True, exist_ok=True)
    processes.wait()
    finished = False
    try:
        yield scratch
        finished = True
    finally:
        if processes.is_main() and not finished:
            shutil.rmtree(scratch, ignore_errors=True)
    processes.wait()
    if processes.is_main():
        _take_name(scratch, final)
        shutil.rmtree(_checkpoint_folder(final), ignore_errors=True)
    processes.wait()


def finish_record(folder, record, key):
    """Write the record of a finished run into its folder, last of all; `is_finished` knows the run by it."""
    files = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
    Path(folder, RECORD).write_text(json.dumps(record | {"key": key, "files": files}, indent=1))


def is_finished(output_dir, key):
    """Whether `output_dir` holds a finished run of this key, with every file as the run left it.

    Parameters
    ----------
    output_dir : str or Path
    key : str
        Digest of settings, data, start and code.
    """
    processes.join()
    final = Path(output_dir).resolve()
    if processes.is_main():
        mend(final)
    processes.wait()
    try:
        record = json.loads((final / RECORD).read_text())
        return record["key"] == key and all(digest(final / name) == found for name, found in record["files"].items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False  # there is no run, or one that cannot be read


def refuse_other_files(folder):
    """Refuse a folder that holds anything but one finished run, since a run replaces its whole folder.

    Raises
    ------
    ValueError
        For a file, for a folder with files but no `training.json`, and for one with other runs inside it.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    problem = None
    if not folder.is_dir():
        problem = "is a file"
    elif not (folder / RECORD).exists():
        problem = f"holds other files and no {RECORD}, so it is not a training run"
    elif any(folder.glob(f"*/{RECORD}")):
        problem = "holds other training runs"
    if problem:
        raise DataError(
            f"output_dir={str(folder)!r} {problem}, and a training replaces its output_dir as a whole. "
            "Remedy: name a new folder inside it, or remove it yourself"
        )


def mend(final):
    """Complete the renames of a killed run: the finished folder gets its name.

    If there is no new folder, the old one gets its name back.
    """
    if final.exists():
        return
    for state in ("partial", "replaced"):
        for folder in _left_behind(final, state):
            if (folder / RECORD).exists():
                folder.rename(final)
                return


def _sweep(final):
    """Remove what killed runs left beside `final`, except finished runs that never got their name."""
    unfinished = [folder for folder in _left_behind(final, "partial") if not (folder / RECORD).exists()]
    for folder in unfinished:
        shutil.rmtree(folder, ignore_errors=True)
    if final.exists():
        for folder in _left_behind(final, "replaced"):
            shutil.rmtree(folder, ignore_errors=True)


def _take_name(scratch, final):
    """Rename the finished scratch folder to `final`, and then delete what was there before."""
    aside = _named(final, os.getpid(), "replaced")
    try:
        if final.exists():
            final.rename(aside)
        scratch.rename(final)
    except OSError as error:
        if aside.exists() and not final.exists():
            aside.rename(final)
        raise TrainingError(
            f"The training is finished, but {final} cannot be replaced ({error}). The trained model lies in {scratch}. "
            "Remedy: move it where you want it"
        ) from error
    shutil.rmtree(aside, ignore_errors=True)


def _named(final, owner, state):
    return final.with_name(f"{final.name}.{owner}.{state}")


def _left_behind(final, state):
    """The folders in this state beside `final` whose process has ended."""
    found = []
    for folder in sorted(final.parent.glob(f"{escape(final.name)}.*.{state}")):
        owner = folder.name.split(".")[-2]
        if owner.isdigit() and not is_running(int(owner)):
            found.append(folder)
    return found


def checkpoints(output_dir, key):
    """The folder of a run's checkpoints, and the last whole one or `None`; checkpoints of other settings are removed.

    Parameters
    ----------
    output_dir : str or Path
        The checkpoints lie beside it, in `<output_dir>.checkpoints/<key>`.
    key : str
        Digest of settings, data and start: a run resumes only from its own checkpoints.

    Returns
    -------
    (Path, Path or None)
    """
    root = _checkpoint_folder(Path(output_dir).resolve())
    home = root / key
    if processes.is_main():
        home.mkdir(parents=True, exist_ok=True)
        others = [path for path in root.iterdir() if path != home]
        broken = [path for path in home.glob("checkpoint-*") if not _is_whole(path)]
        for path in others + broken:
            shutil.rmtree(path)
    processes.wait()
    whole = sorted(home.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return home, whole[-1] if whole else None


def _checkpoint_folder(final):
    return final.with_name(f"{final.name}.checkpoints")


def _is_whole(checkpoint):
    """Whether a checkpoint is complete: the main process writes the state last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return len(list(checkpoint.glob("rng_state*.pth"))) == processes.count()


def run_key(parts, *tables):
    """A digest of plain values and tables; a table may be `None`."""
    sha = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for table in tables:
        for row in table if table is not None else ["none"]:
            sha.update(json.dumps(row, sort_keys=True).encode())
    return sha.hexdigest()[:16]


@contextmanager
def untouched_generators():
    """Restore the global random generators, which trainers seed."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is the global state that is kept
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def quiet_libraries():
    """Hide the libraries' bars, and a warning that only TRL could act on."""
    with warnings.catch_warnings(), quiet():
        # TRL 1.16 still says gradient_checkpointing where transformers 5.2x says activation_checkpointing
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
        yield
