"""The processes of a job and this one among them: `accelerate launch` starts several, anything else starts one."""

import os
from datetime import timedelta

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from pdsel.engine.models import device

# One process tokenizes, or merges adapters, for all. The ten minutes of torch are too few for large data and models.
PATIENCE = timedelta(hours=4)


def count():
    """How many processes share the job.

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
    """Connect to the other processes, as each must before it waits or agrees. A process alone does nothing."""
    if count() > 1:
        PartialState(cpu=device() == "cpu", timeout=PATIENCE)


def wait():
    """Wait until every process has come here."""
    if count() > 1:
        PartialState().wait_for_everyone()


def agree(value):
    """The value of the main process, in every process."""
    shared = [value]
    if count() > 1:
        broadcast_object_list(shared, from_process=0)
    return shared[0]
