"""The processes of a job: `accelerate launch` starts several, anything else starts one."""

import os
from datetime import timedelta

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from pdsel.engine.models import device

# Others wait while one process tokenizes or merges adapters. For large data and models, torch's ten minutes are too short.
PATIENCE = timedelta(hours=4)


def count():
    """The number of processes that share the job.

    >>> count()
    1
    """
    return int(os.environ.get("WORLD_SIZE", 1))


def rank():
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def is_main():
    """Whether this process writes the files that all processes share."""
    return rank() == 0


def join():
    """Connect to the other processes, if any; every process has to before it waits or agrees."""
    if count() > 1:
        PartialState(cpu=device() == "cpu", timeout=PATIENCE)


def wait():
    """Wait until every process calls this."""
    if count() > 1:
        PartialState().wait_for_everyone()


def agree(value):
    """The main process's value, in every process."""
    shared = [value]
    if count() > 1:
        broadcast_object_list(shared, from_process=0)
    return shared[0]
