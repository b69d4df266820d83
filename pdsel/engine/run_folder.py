"""The folder of a training run: whole or not at all, whatever kills it, and checkpoints to resume from beside it.

A checkpoint holds pickles of tensors (optimiser, random state). Only a run's own are ever read, and transformers reads
them with `weights_only=True`, which executes nothing.
"""

import hashlib
import json
import os
import random
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from pdsel.engine import processes
from pdsel.engine.models import quiet


def checkpoints(output_dir, key):
    """The folder of a run's checkpoints and the last whole one in it, or `None`; those of other settings are removed.

    Parameters
    ----------
    output_dir : str or Path
        The checkpoints are beside it, in `<output_dir>.checkpoints/<key>`.
    key : str
        Digest of settings, data and start: a run resumes only from its own.
    """
    root = _beside(output_dir)
    home = root / key
    if processes.is_main():
        home.mkdir(parents=True, exist_ok=True)
        for other in [
            *(path for path in root.iterdir() if path != home),
            *(path for path in home.glob("checkpoint-*") if not _is_whole(path)),
        ]:
            shutil.rmtree(other)
    processes.wait()
    found = sorted(home.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return home, found[-1] if found else None


def _beside(output_dir):
    return Path(output_dir).with_name(f"{Path(output_dir).name}.checkpoints")


def _is_whole(checkpoint):
    """Whether a kill left nothing out: the state is written after everything else of the main process."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return len(list(checkpoint.glob("rng_state*.pth"))) == processes.count()


def run_key(parts, *tables):
    """Digest of plain values and tables, `None` for a table that is not there."""
    sha = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for table in tables:
        for row in table if table is not None else ["none"]:
            sha.update(json.dumps(row, sort_keys=True).encode())
    return sha.hexdigest()[:16]


@contextmanager
def session(output_dir):
    """A scratch folder that takes its final name only when the body succeeds; global generators come back untouched."""
    processes.join()
    final = Path(output_dir)
    owner = processes.agree(os.getpid())
    scratch = final.with_name(f"{final.name}.{owner}.partial")  # a killed run's orphan may still write its own
    if processes.is_main():
        scratch.mkdir(parents=True, exist_ok=True)
        for stale in final.parent.glob(f"{final.name}.*.partial"):
            if not is_running(int(stale.name.split(".")[-2])):
                shutil.rmtree(stale, ignore_errors=True)
    processes.wait()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - trainers seed the global state
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=gpus), warnings.catch_warnings(), quiet():
            # TRL 1.16 still says gradient_checkpointing where transformers 5.2x says activation_checkpointing
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
            yield scratch
        processes.wait()
        if processes.is_main():
            shutil.rmtree(final, ignore_errors=True)
            scratch.rename(final)
            shutil.rmtree(_beside(final), ignore_errors=True)
        processes.wait()
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if processes.is_main():
            shutil.rmtree(scratch, ignore_errors=True)


def is_running(process):
    """Whether there is a process of this id."""
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
