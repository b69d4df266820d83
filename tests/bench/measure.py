"""Seconds and peak memory of a function, each in a process of its own."""

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def fresh(function, *arguments):
    """`function(*arguments)` in a new process: a peak of memory never falls again within one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def here(function, *arguments):
    """`function(*arguments)` in this process, for a test of the bench itself."""
    return function(*arguments)


def peak_mb():
    """The most memory that this process has held so far, in MB (resident, 2**20 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def timed(function, *arguments):
    """`(result, seconds, CPU seconds)`; the two times are alike unless others use the cores, or several are used."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return result, time.perf_counter() - start, time.process_time() - cpu_start
