"""Faults of the machine: a disk that is full or may only be read, folders that vanish, judges that fail, two at once.

Each ends with an error that says what to do. What was there before is still there, whole; nothing half-written is left.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
from datasets import Dataset
from fake_endpoint import FakeEndpoint
from scipy.special import expit

from ordeal.inputs import RESULT, check_loaded, rated_prompts, require, scratch
from ordeal.trials import Case, Lost
from pdsel import load_ratings
from pdsel.artifacts import Stage, load_table, save_table, verify, writing
from pdsel.checks import DataError
from pdsel.command.page import write_page
from pdsel.data.export import export_preferences
from pdsel.data.store import Store
from pdsel.evaluation.judges.cache import AnswerCache, answer_key
from pdsel.evaluation.judges.llm import LLMJudge
from pdsel.experiments import grid, grid_plan
from pdsel.pipeline.run import _lock

NOBODY = 65534  # a user who owns nothing here
KEY = answer_key("http://judge", {"question": 1})

# ---- what is written, and how it is read again


def _numbers(value):
    return pd.DataFrame({"x": np.arange(400) + value, "name": [f"row {n} of {value}" for n in range(400)]})


def _write_stage(folder, value):
    Stage("01_data", folder, value=value).finish(save_table(_numbers(value), folder / "table.csv"))


def _read_stage(folder):
    verify("01_data", folder)
    return int(load_table(folder / "table.csv")["x"][0])


def _write_cell(folder, value):
    Store(folder).computed(f"cell {value}", {}, lambda: (_numbers(value), {"value": value}))


def _cell_of(value):
    def never():
        raise KeyError(value)

    return lambda folder: Store(folder).computed(f"cell {value}", {}, never)[1]["value"]


def _write_answer(folder, value):
    with AnswerCache.open(folder / "answers.sqlite") as answers:
        answers.store(KEY, {"content": "m" * 4000, "top_logprobs": None, "usage": {"value": value}})


def _read_answer(folder):
    with AnswerCache.open(folder / "answers.sqlite") as answers:
        return answers.load([KEY])[KEY]["usage"]["value"]


def _write_preferences(folder, value):
    rows = [
        {"pair_id": f"p{n}", "prompt": "Why?", "chosen": f"{value} {n}", "rejected": "No.", "aspect": "a"}
        for n in range(300)
    ]
    export_preferences(Dataset.from_list(rows), [row["pair_id"] for row in rows], folder)


def _read_preferences(folder):
    """A folder without its card is unfinished."""
    (folder / "README.md").read_text()
    return int(pd.read_parquet(folder / "train.parquet")["chosen"][0].split()[0])


@cache
def _notebooks():
    """A folder with a notebook for each value, made once, so that only the pages meet the fault."""
    folder = tempfile.TemporaryDirectory(prefix="ordeal-pages-")
    for value in (1, 2):
        cells = [nbformat.v4.new_markdown_cell(f"# Page {value}")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), Path(folder.name, f"{value}.ipynb"))
    return folder


@cache
def _warmed():
    """Everything is written once without a fault, so that no module is imported while there is one."""
    _notebooks()
    with scratch() as folder:
        for kind in [*KINDS, PAGE]:
            kind.write(folder / kind.what, 1)
            require(kind.read(folder / kind.what) == 1, f"{kind.what} is not read")
        _write_cell(folder, 1)
        require(_cell_of(1)(folder) == 1, "a cell is not read")


def _write_page(folder, value):
    write_page(Path(_notebooks().name, f"{value}.ipynb"), folder / "page.html")


def _read_page(folder):
    text = (folder / "page.html").read_text()
    require(text.rstrip().endswith("</html>"), "half a page")
    return int(text.split("<title>Page ")[1].split("<")[0])


@dataclass(frozen=True)
class Written:
    """A kind of file: `write(folder, value)`, and `read(folder)`, which gives the value or raises."""

    what: str
    write: Callable
    read: Callable


KINDS = [
    Written("a stage", _write_stage, _read_stage),
    Written("a judge's answer", _write_answer, _read_answer),
    Written("exported preferences", _write_preferences, _read_preferences),
]
CELL, PAGE = "a cell", Written("a page", _write_page, _read_page)
ALSO = {"full": [CELL, PAGE], "denied": [CELL]}  # a page is made of files that belong to the administrator


@contextmanager
def full_disk(size):
    """No file may grow beyond this size: what a write to a full disk meets."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(folder):
    """A folder in which this process may change nothing; the system's administrator becomes nobody meanwhile."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755)


def _still(read, folder, allowed):
    """What is read is one of the values that were written whole, or nothing."""
    try:
        found = read(folder)
    except (DataError, FileNotFoundError, KeyError):
        found = None
    require(found in allowed, f"{found} is read, and not one of {allowed}")
    left = list(folder.rglob("*.partial"))
    require(not left, f"half-written files are left: {left}")


def faulty(fault, also):
    """A trial: something is written, for the first time or over a whole one, and the disk has this fault."""

    def trial(draw):
        kind = draw.choice([*KINDS, *also])
        old, new = 1, 2
        _warmed()
        if kind == CELL:
            write, read = _write_cell, _cell_of(new)
        else:
            write, read = kind.write, kind.read
        with scratch() as home:
            home.chmod(0o755)
            folder = home / "results"
            folder.mkdir()
            before = draw.random() < 0.5
            if before:
                write(folder, old)
            try:
                with fault(folder, draw):
                    write(folder, new)
            except DataError as error:
                require("Remedy" in str(error), f"no remedy: {error}")
                # Files of which one is new and the other old do not verify, and so are not read.
                _still(read, folder, [None, old])
                return "refused"
            require(read(folder) == new, "written, but not read")
            return "written"

    return trial


def _full(folder, draw):
    return full_disk(draw.choice([0, 10, 100, 1000, 3000, 10**7]))


def _denied(folder, draw):
    return read_only(folder)


def vanishing(draw):
    """A trial: the folder vanishes before, while or after a file in it is written."""
    moment = draw.choice(["before", "while", "after"])
    with scratch() as home:
        folder = home / "results"
        folder.mkdir()
        if moment == "before":
            shutil.rmtree(folder)
        with writing(folder / "x.txt") as path:
            if moment == "while":
                shutil.rmtree(folder)
            path.write_text("whole")
            if moment == "after":
                shutil.rmtree(folder)
        require((folder / "x.txt").read_text() == "whole", "not written")
    return "written"


def unreadable(draw):
    """A trial: a file of ratings, or a stage's file, that this process may not read."""
    with scratch() as home:
        home.chmod(0o755)
        path = home / "rated.jsonl"
        path.write_text("\n".join(map(json.dumps, rated_prompts(draw))))
        _write_stage(home / "results", 1)
        _warmed()
        require(load_ratings(path).num_rows and _read_stage(home / "results") == 1, "not read before")
        hidden = draw.choice([path, home / "results" / "table.csv"])
        with read_only(home):
            _as_owner(hidden.chmod, 0o000)
            if hidden == path:
                load_ratings(path)
            else:
                _read_stage(home / "results")
    raise Lost("read what may not be read")


def _as_owner(change, mode):
    """Change the mode of a file, which its owner alone may do."""
    euid = os.geteuid()
    os.seteuid(os.getuid())
    try:
        change(mode)
    finally:
        os.seteuid(euid)


def through_link(draw):
    """A trial: results behind a symbolic link."""
    with scratch() as home:
        (home / "there").mkdir()
        (home / "here").symlink_to(home / "there")
        for kind in KINDS:
            kind.write(home / "here" / kind.what, 2)
            require(kind.read(home / "there" / kind.what) == 2, f"{kind.what} is not there")
    return RESULT


def jumping_clock(draw):
    """A trial: the clock jumps by hours while stages and cells are written."""
    with scratch() as folder, mock.patch("time.time", lambda: draw.uniform(0, 4e9)):
        _write_stage(folder / "stage", 2)
        _write_cell(folder / "cells", 2)
        require(_read_stage(folder / "stage") == 2 and _cell_of(2)(folder / "cells") == 2, "not read")
        seconds = json.loads((folder / "stage" / "manifests" / "01_data.json").read_text())["seconds"]
        require(0 <= seconds < 600, f"{seconds} seconds")
    return RESULT


def hub_that_fails(draw):
    """A trial: a hub that gives some files of a data set and then fails."""
    fails_at, asked = draw.randint(1, 6), []
    with scratch() as folder:
        path = folder / "part.jsonl"
        path.write_text("\n".join(map(json.dumps, rated_prompts(draw))))

        def download(*_, **__):
            asked.append(1)
            if len(asked) == fails_at:
                raise draw.choice([OSError, ValueError, TimeoutError, ConnectionResetError])("gone")
            return str(path)

        with mock.patch("pdsel.data.sources.hf_hub_download", download):
            load_ratings("ultrafeedback")
    raise Lost("read a part as if it were the whole")


# ---- a judge that fails

ONCE = ["busy", "broken", "malformed", "no_choices", "closed", "truncated", "refusal", "other_tokens"]
ALWAYS = [*ONCE, "too_long", "unauthorized", "unknown_model", "timeout"]
PROMPTS = [f"Explain {thing}." for thing in ("rain", "snow", "wind", "fog")]
OURS, THEIRS = (["x" * n for n in (30, 12, 25, 8)], ["y" * n for n in (20, 22, 24, 11)])
TRUTH = expit(np.array([len(a) - len(b) for a, b in zip(OURS, THEIRS, strict=True)]) / 10)


def failing_judge(draw):
    """A trial: an endpoint that fails once or for ever, at some questions or at all; asked again, it answers the rest."""
    fault, forever = (draw.choice(ALWAYS), True) if draw.random() < 0.5 else (draw.choice(ONCE), False)
    at = draw.sample(PROMPTS, draw.randint(1, len(PROMPTS)))
    missing = draw.choice(["raise", "nan"])
    calm = {"backoff": 0, "retries": 2, "timeout": 0.3 if fault == "timeout" else 20}
    with scratch() as folder, FakeEndpoint() as server, mock.patch("openai._base_client.INITIAL_RETRY_DELAY", 0):
        server.fault = lambda text, times: (
            fault if (forever or not times) and any(name in text for name in at) else None
        )

        def judge():
            return LLMJudge("judge", base_url=server.url, cache=folder / "a.sqlite", missing=missing, **calm)

        try:
            found = judge()(PROMPTS, OURS, THEIRS)
            how = "answered" if np.isfinite(found).all() else "some are missing"
            known = np.isfinite(found)
            # A judge that gives no log-probabilities is read by its text, which is 0 or 1.
            near = np.isclose(found, TRUTH, atol=1e-6) | np.isin(found, [0, 0.5, 1])
            require(near[known].all(), "another answer")
        except DataError as error:
            require("Remedy" in str(error) and len(str(error)) < 2000, f"no remedy: {error}")
            how = "refused"
        server.fault = lambda text, times: None
        asked = len(server.bodies)
        again = judge()(PROMPTS, OURS, THEIRS)
        require(np.isfinite(again).all() and len(server.bodies) - asked <= 2 * len(PROMPTS), "not answered afterwards")
        asked = len(server.bodies)
        require((judge()(PROMPTS, OURS, THEIRS) == again).all() and len(server.bodies) == asked, "asked again")
    return how


# ---- killed while a file is written


def killed_at_writing(draw):
    """A trial: a process that writes the same files again and again is killed; what is read is whole, or refused."""
    kind, wait = draw.choice([*KINDS, PAGE]), draw.uniform(0, 0.2)
    _warmed()
    sys.stdout.flush()
    with scratch() as folder:
        kind.write(folder, 1)
        child = os.fork()
        if child == 0:
            try:
                for _ in range(10_000):
                    kind.write(folder, 2)
                    kind.write(folder, 1)
            finally:
                os._exit(1)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        half = any(folder.rglob("*.partial"))
        try:
            found = kind.read(folder)
        except (DataError, FileNotFoundError):  # an export has no card until it is whole
            found = "refused"
        require(found in (1, 2, "refused"), f"{found} is read")
        kind.write(folder, 2)
        require(kind.read(folder) == 2, "written again, but not read")
    how = "refused: one file is newer than another" if found == "refused" else "whole"
    return f"{how}, beside a half-written file" if half else how


# ---- two at once


def _in_children(work, n):
    """Run `work(number)` in forked processes; returns their exit statuses."""
    children = []
    for number in range(n):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(number)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def two_at_once(draw):
    """A trial: processes that write the same cell, stage or cache of answers at the same time."""
    kind, n = draw.choice([CELL, "a stage", "answers"]), draw.randint(2, 4)
    pauses = [draw.uniform(0, 0.02) for _ in range(n)]
    sys.stdout.flush()
    with scratch() as folder:

        def work(number):
            time.sleep(pauses[number])
            if kind == CELL:
                _write_cell(folder, 2)
            elif kind == "a stage":
                _write_stage(folder, 2)
            else:
                with AnswerCache.open(folder / "answers.sqlite") as answers:
                    for question in range(5):
                        answers.store(f"{number} {question}", {"content": "m", "top_logprobs": None})

        statuses = _in_children(work, n)
        require(statuses == [0] * n, f"exit statuses {statuses}")
        if kind == CELL:
            require(_cell_of(2)(folder) == 2, "no cell")
        elif kind == "a stage":
            require(_read_stage(folder) == 2, "no stage")
        else:
            with AnswerCache.open(folder / "answers.sqlite") as answers:
                require(
                    len(answers.load([f"{k} {q}" for k in range(n) for q in range(5)])) == 5 * n, "answers are lost"
                )
        require(not list(folder.rglob("*.partial")), "half-written files are left")
    return RESULT


def two_runs(draw):
    """A trial: a second `make run` in the folder of the first."""
    before = Path.cwd()
    with scratch() as folder:
        os.chdir(folder)
        try:
            lock = _lock()
            try:
                _lock()
            except DataError as error:
                require("already running" in str(error), str(error))
            else:
                raise Lost("a second run may start")
            lock.close()
            _lock().close()
        finally:
            os.chdir(before)
    return "refused"


def _short_policy(cell, folder):
    """In the place of `policy_cell`: a table of three rows that depends on the cell, after a moment."""
    time.sleep(random.Random(f"{cell.name} {os.getpid()}").uniform(0, 0.02))
    outcome = random.Random(cell.name).random()
    facts = {"kept": ["p0", cell.name], "n_trained": round(100 * outcome)}
    return pd.DataFrame({"prompt_id": ["p0", "p1", "p2"], "preference": [outcome, 1 - outcome, 0.5]}), facts


def _outcomes_of_grid(cells, folder):
    outcomes, table, kept = grid.run_policies(cells, folder)
    return outcomes.to_csv() + table.to_csv() + json.dumps(kept, sort_keys=True)


def two_grids(draw):
    """A trial: two grids in one folder at once, each with some or all of the cells, in an order of its own."""
    cells = [grid_plan.cell("RAND", seed=seed, conflict=0.3) for seed in range(draw.randint(2, 6))]
    orders = [draw.sample(cells, draw.randint(2, len(cells))) for _ in range(2)]
    sys.stdout.flush()
    with scratch() as folder, mock.patch.object(grid, "policy_cell", _short_policy):

        def work(number):
            found = _outcomes_of_grid(orders[number], folder / "shared")
            (folder / f"{number}.txt").write_text(found)

        statuses = _in_children(work, 2)
        require(statuses == [0, 0], f"exit statuses {statuses}")
        for number, order in enumerate(orders):
            alone = _outcomes_of_grid(order, folder / f"alone{number}")
            require((folder / f"{number}.txt").read_text() == alone, "other outcomes than a grid that is alone")
        require(all(grid.is_stored(cell, folder / "shared") for order in orders for cell in order), "a cell is lost")
        require(not list(folder.rglob("*.partial")), "half-written files are left")
    return "the cells of a grid that is alone"


# ---- no memory left


def _room(n):
    """Leave this process about `n` megabytes: what it may still get is taken, but for so much."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + n * 2**20, resource.RLIM_INFINITY))
    taken = []
    try:
        while True:
            taken.append(bytearray(2**20))
    except MemoryError:
        del taken[:n]
    return taken


def _write_large_stage(folder, value):
    rows = 300_000
    table = pd.DataFrame({"x": np.arange(rows) + value, "name": [f"row {n} of {value}" for n in range(rows)]})
    Stage("01_data", folder, value=value).finish(save_table(table, folder / "table.csv"))


def out_of_memory(draw):
    """A trial: a process whose memory ends while it makes a large table and writes it over a whole one.

    Python itself says that the memory has ended where pdsel has no hand in it; the file is what counts.
    """
    room = draw.choice([8, 32, 128, 1000])
    _warmed()
    with scratch() as home:
        folder, said = home / "results", home / "said.txt"
        folder.mkdir()
        _write_stage(folder, 1)

        def child(_):
            signal.alarm(300)  # a thread of a library that cannot start is waited for in vain
            taken = _room(room)
            try:
                _write_large_stage(folder, 2)
            except (DataError, MemoryError) as error:
                taken.clear()
                said.write_text("refused" if isinstance(error, DataError) else "stopped by Python")

        (status,) = _in_children(child, 1)
        require(status == 0, f"with {room} MB: exit status {status}")
        _still(_read_stage, folder, [None, 1, 2])
        return said.read_text() if said.exists() else "written"


def whole_disk(draw):
    """A trial: a ratings table while the disk of the cache is full; tables beside results are tried by `faulty`."""
    with scratch() as folder:
        path = folder / "rated.jsonl"
        path.write_text("\n".join(map(json.dumps, rated_prompts(draw))))
        with full_disk(draw.choice([0, 100, 1000, 10**7])):
            check_loaded(load_ratings(path))
    return RESULT


CASES = [
    Case("faults", "a full disk, at results", faulty(_full, ALSO["full"]), 4),
    Case("faults", "a full disk, at the cache of tables", whole_disk, 1),
    Case("faults", "results that may only be read", faulty(_denied, ALSO["denied"]), 2),
    Case("faults", "files that may not be read", unreadable, 1),
    Case("faults", "a folder that vanishes", vanishing, 1),
    Case("faults", "a process without memory", out_of_memory, 1),
    Case("faults", "results behind a symbolic link", through_link, 1),
    Case("faults", "a clock that jumps", jumping_clock, 1),
    Case("faults", "a hub that fails after some files", hub_that_fails, 1),
    Case("faults", "a judge that hangs, resets, or answers 429, 500 or garbage", failing_judge, 3),
    Case("faults", "two processes that write the same", two_at_once, 2),
    Case("faults", "two `make run` in one folder", two_runs, 1),
    Case("faults", "two grids in one folder", two_grids, 1),
    Case("faults", "SIGKILL while files are written and renamed", killed_at_writing, 4),
]
