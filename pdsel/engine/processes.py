"""This process among those of its job: `accelerate launch` starts several, everything else is one."""

import os
from datetime import timedelta

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from pdsel.engine.models import device

# One process tokenizes, or merges adapters, for all; torch's own ten minutes are too few for large data and models.
PATIENCE = timedelta(hours=4)


def count():
    """How many processes share the job.

    >>> count()
    1
    """
    return int(os.environ.get("WORLD_SIZE", 1))


def rank():
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", 0))


def is_main():
    """Whether this process writes the files that all share."""
    return rank() == 0


def join():
    """Meet the other processes, which every one must do before it waits or agrees; nothing for a process alone."""
    if count() > 1:
        PartialState(cpu=device() == "cpu", timeout=PATIENCE)


def wait():
    """Go on when every process is here."""
    if count() > 1:
        PartialState().wait_for_everyone()


def agree(value):
    """The main process's value, in every process."""
    shared = [value]
    if count() > 1:
        broadcast_object_list(shared, from_process=0)
    return shared[0]
