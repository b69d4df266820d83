"""Runs the cells of several settings, what matters most first, in several processes, until all are done or time is up."""

import json
import time
import traceback
import zipfile
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import active_children, get_context
from pathlib import Path

import torch

from pdsel.artifacts import environment
from pdsel.engine.models import device
from pdsel.experiments.pocket import cells
from pdsel.experiments.pocket.kept_labels import rule_scores
from pdsel.experiments.pocket.settings import METHODS, OTHER_PROXIES, PROXY_KINDS, SETTINGS, UNTRAINED

PART = 14_000_000  # bytes of a part of the packed cells
GRACE = 60  # seconds that tasks have to end after the deadline
RECORD = "run.json"


@dataclass(frozen=True)
class Task:
    """One thing to compute: `what` of a setting, for a seed and a method (or a kind of proxies) where it has those."""

    what: str
    setting: str
    seed: int | None = None
    name: str | None = None

    def __str__(self):
        return " ".join(str(part) for part in (self.setting, self.what, self.seed, self.name) if part is not None)


def needs(task):
    """The tasks whose results a task starts from.

    >>> [str(other) for other in needs(Task("policy", "pocket", 0, "PD"))]
    ['pocket judge', 'pocket margins 0 probe']
    """
    start, judge = Task("sft", task.setting), Task("judge", task.setting)
    read = Task("margins", task.setting, task.seed, PROXY_KINDS[0])
    if task.what == "sft":
        return []
    if task.what in ("judge", "margins"):
        own = [read] if task.what == "margins" and task.name != PROXY_KINDS[0] else []
        return [start, *own]
    if task.what == "audit":
        return [judge]
    if task.what == "nulls":
        return [Task("policy", task.setting, None, "SFT")]
    if task.what == "rule scores":
        return [read]
    if task.name in UNTRAINED:
        return [judge]
    if task.name in OTHER_PROXIES:
        return [judge, Task("margins", task.setting, task.seed, OTHER_PROXIES[task.name])]
    return [judge, read]  # also RAND and ALL: reading the pairs leaves the reference's log-probabilities for them


def compute(task, lab):
    """Compute a task; what is stored is not computed again. Returns the seconds it took."""
    start, setting, lab = time.perf_counter(), SETTINGS[task.setting], _same(lab)
    if task.what == "sft":
        cells.sft_model(lab, setting)
    elif task.what == "judge":
        cells.judge(lab, setting)
    elif task.what == "margins":
        cells.margins(lab, setting, task.seed, task.name)
    elif task.what == "audit":
        cells.audit(lab, setting)
    elif task.what == "nulls":
        cells.nulls(lab, setting)
    elif task.what == "rule scores":
        rule_scores(lab, setting, task.seed)
    else:
        cells.policy(lab, setting, task.seed, task.name)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return time.perf_counter() - start


@cache
def _same(lab):
    """One lab for all tasks of a process, so that it reads the data once."""
    return lab


def plan(name, seeds, *, methods=METHODS, kinds=(), rules=False):
    """The tasks of a setting and its seeds, in their order: what all need, then seed by seed what people first ask about."""
    shared = [Task("sft", name), Task("judge", name)]
    shared += [Task("margins", name, seed, PROXY_KINDS[0]) for seed in seeds]
    shared += [Task("policy", name, None, method) for method in UNTRAINED]
    tasks = shared + [Task("policy", name, seed, method) for seed in seeds for method in methods]
    tasks += [Task("audit", name), Task("nulls", name)]
    tasks += [Task("rule scores", name, seed) for seed in seeds if rules]
    return tasks + [Task("margins", name, seed, kind) for seed in seeds for kind in kinds]


def pocket(seeds):
    """The tasks of a laptop's run."""
    form = [Task("policy", "pocket-plain", None, "SFT")]
    return plan("pocket", seeds, kinds=PROXY_KINDS[1:], rules=True) + form


def everything(seeds, large_seeds):
    """The tasks of a GPU's run: the laptop's, then more pairs, then the rest.

    Parameters
    ----------
    seeds, large_seeds : list of int
        Of `pocket`, and of `pocket-large`; of the latter, the first three come first.
    """
    first, later = large_seeds[:3], large_seeds[3:]
    tasks = plan("pocket", seeds, rules=True) + plan("pocket-large", first[:1]) + pocket(seeds[:1])
    tasks += plan("pocket-large", first) + pocket(seeds)
    tasks += plan("pocket-large-whole", first, methods=["RAND", "PD", "ALL"])
    tasks += [Task("policy", "pocket", seed, method) for seed in seeds for method in OTHER_PROXIES]
    tasks += plan("pocket-large", later)
    tasks += [Task("margins", "pocket-large", seed, kind) for kind in PROXY_KINDS[1:] for seed in first]
    return with_needs(tasks)


def with_needs(tasks):
    """The tasks, each once, behind those that they need.

    >>> [str(task) for task in with_needs([Task("audit", "pocket")])]
    ['pocket sft', 'pocket judge', 'pocket audit']
    """
    ordered = {}
    for task in tasks:
        for other in [*with_needs(needs(task)), task]:
            ordered.setdefault(other)
    return list(ordered)


def run(tasks, lab, *, jobs=0, deadline=None):
    """Compute tasks in several processes on one device.

    Parameters
    ----------
    tasks : list of Task
        In the order of their importance.
    lab : pdsel.experiments.pocket.cells.Lab
    jobs : int
        How many processes; 0 computes in this one. On a CPU every task has a process of its own, since memory that a task
        has used is not given back by its process, and is short on a laptop.
    deadline : float, optional
        Seconds from now after which no task is begun; a minute later, what is not done is stopped.

    Returns
    -------
    dict
        `done` (task to seconds), `failed` (task to what went wrong) and `left` (tasks that were not begun), as text.
    """
    clock = Clock(deadline)
    state = {"done": {}, "failed": {}, "left": []}
    tasks = with_needs(tasks)
    if jobs == 0:
        for task in tasks:
            if clock.up or any(str(other) not in state["done"] for other in needs(task)):
                state["left"].append(str(task))
            else:
                note(state, task, clock, lambda task=task: compute(task, lab))
        return state
    alone = None if device().startswith("cuda") else 1
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=alone) as pool:
        waiting, running = list(tasks), {}
        while waiting or running:
            ready = [task for task in waiting if all(str(other) in state["done"] for other in needs(task))]
            for task in [] if clock.up else ready[: jobs - len(running)]:
                running[pool.submit(compute, task, lab)] = task
                waiting.remove(task)
            if not running:
                break
            for future in wait(running, timeout=clock.left, return_when=FIRST_COMPLETED).done:
                note(state, running.pop(future), clock, future.result)
            if clock.left == 0:
                waiting = [*running.values(), *waiting]
                for worker in active_children():
                    worker.terminate()
                break
    state["left"] = [str(task) for task in waiting]
    return state


class Clock:
    """The seconds since the start, and whether time is up."""

    def __init__(self, deadline=None):
        self.start, self.deadline = time.monotonic(), deadline

    @property
    def now(self):
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def up(self):
        """Whether the deadline has passed."""
        return self.deadline is not None and self.now > self.deadline

    @property
    def left(self):
        """Seconds that what is running has at most; `None` for any number."""
        return None if self.deadline is None else max(0.0, self.deadline + GRACE - self.now)


def note(state, task, clock, result):
    """Record how a task ended, and print a line about it."""
    try:
        state["done"][str(task)] = round(result(), 1)
        print(f"{clock.now:7.1f} s  {task}: {state['done'][str(task)]} s", flush=True)
    except Exception as error:
        state["failed"][str(task)] = f"{type(error).__name__}: {error}"
        print(f"{clock.now:7.1f} s  {task} FAILED\n{traceback.format_exc()}", flush=True)


def save_record(state, lab):
    """Add what was run, and on what, to the record beside the cells: a run that was resumed has an entry for each part."""
    about, path = Path(f"{lab.model}.json"), Path(lab.folder, RECORD)
    record = json.loads(path.read_text()) if path.exists() else {"runs": []}
    if about.exists():
        record["model"] = json.loads(about.read_text())  # what the weights are, as `make pocket-model` wrote it
    record["runs"].append(state | {"lab": asdict(lab), "environment": environment()})
    path.write_text(json.dumps(record, indent=1))


def pack(folder, out):
    """Put the cells (no models, no features) into zip files that are each at most `PART` bytes.

    Returns
    -------
    list of pathlib.Path
    """
    files = sorted(file for pattern in ("*.json", "*.parquet") for file in Path(folder).glob(pattern))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    parts, room = [], 0
    for file in files:
        if not parts or room < file.stat().st_size:
            parts.append(out / f"cells-{len(parts) + 1}.zip")
            room = PART
        with zipfile.ZipFile(parts[-1], "a", zipfile.ZIP_DEFLATED) as archive:
            archive.write(file, file.name)
        room = PART - parts[-1].stat().st_size
    return parts
