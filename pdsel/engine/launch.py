"""Training and scoring in several processes, from a notebook: `accelerate launch` runs a job that lies in a folder.

A function marked `launchable` takes `accelerate=None` (this process), the path of an accelerate config, or the name of one
shipped in `pdsel/engine/accelerate`: "ddp", "fsdp" and "zero3" for the GPUs of one machine, "cpu2" for two processes on its
CPU. Its arguments are written to a scratch folder (tables as files, the rest as JSON), the job runs and shows its log, and
its result is read back. Without MPI, `accelerate launch --cpu --num_processes 2` starts only one process (accelerate 1.15);
the shipped "cpu2" starts two.
"""

import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from functools import wraps
from importlib import import_module
from pathlib import Path

import pandas as pd
import torch
import yaml
from datasets import Dataset, load_from_disk

from pdsel.checks import DataError
from pdsel.data.scratch import is_running, scratch_folder
from pdsel.engine import processes
from pdsel.engine.errors import TrainingError
from pdsel.engine.models import quiet

CONFIGS = Path(__file__).parent / "accelerate"
LAST_LINES = 30  # of the log, shown when a job fails without an error of its own
WATCH = 2  # seconds between checks that the process that started the job still runs


def launchable(function):
    """Let a function of Datasets, Series and plain values take `accelerate=`, and return the main process's result.

    Every process calls the function with the same arguments. It must return a str or a DataFrame.
    """

    @wraps(function)
    def call(*args, accelerate=None, **kwargs):
        if accelerate is None:
            return function(*args, **kwargs)
        return launch(call, *args, config=accelerate, **kwargs)[0]

    return call


def launch(function, *args, config, **kwargs):
    """Run a launchable function under `accelerate launch`.

    Parameters
    ----------
    function : callable
        One that `launchable` wraps.
    config : str or Path
        See `find_config`.

    Returns
    -------
    list
        The results of the processes, by rank.

    Raises
    ------
    pdsel.engine.errors.TrainingError
        With the error of the first process that failed, or the last lines of the log.
    """
    path = find_config(config)
    settings = yaml.safe_load(path.read_text())
    _check_machines(settings, path)
    count = settings.get("num_processes") or _gpus(path)
    inspect.signature(function).bind(*args, **kwargs)  # a wrong argument is refused here, not in every process
    with scratch_folder("job") as folder:
        job = {
            "module": function.__module__,
            "function": function.__name__,
            "owner": os.getpid(),
            "args": [_write(value, Path(folder, f"{i}")) for i, value in enumerate(args)],
            "kwargs": {name: _write(value, Path(folder, name)) for name, value in kwargs.items()},
        }
        Path(folder, "job.json").write_text(json.dumps(job))
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
        command += ["--num_processes", str(count)]
        if settings.get("num_machines", 1) == 1 and "main_process_port" not in settings:
            command += ["--main_process_port", "0"]  # any free port, so that several jobs may run at once
        _run([*command, "-m", "pdsel.engine.launch", str(folder)], folder, cpu=bool(settings.get("use_cpu")))
        return [_read_result(folder, rank) for rank in range(count)]


def _check_machines(settings, path):
    if settings.get("num_machines", 1) != 1:
        raise DataError(
            f"accelerate: {path.name} has num_machines={settings['num_machines']}, but a job is started on this machine only. "
            "Remedy: on every machine, run `accelerate launch` with it on a script that calls pdsel without accelerate="
        )


def _gpus(path):
    """The number of GPUs to run on."""
    count = torch.cuda.device_count()
    if count < 2:
        raise DataError(
            f"accelerate: {path.name} runs on all GPUs, but there are {count} here. Remedy: leave accelerate out for "
            "one GPU or none, or use 'cpu2' to try two processes on the CPU"
        )
    return count


def find_config(config):
    """The path of an accelerate config: `config` itself, or the shipped one of that name.

    >>> find_config("fsdp").name
    'fsdp.yaml'
    """
    for path in (Path(config), CONFIGS / f"{config}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    raise DataError(
        f"accelerate={str(config)!r} is neither a file nor one of {shipped}. Remedy: write one with accelerate config"
    )


def _run(command, folder, *, cpu):
    """Run the job and show its log; stop all its processes if anything interrupts the wait."""
    package = Path(__file__).parents[2]
    environment = (
        os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "TQDM_MININTERVAL": "10",  # bars become lines here
        }
        | ({"ACCELERATE_USE_CPU": "true"} if cpu else {})
    )
    lines = deque(maxlen=LAST_LINES)
    job = subprocess.Popen(
        command,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        for line in job.stdout:
            lines.append(line)
            print(line, end="", flush=True)
        code = job.wait()
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGTERM)
            job.wait()
    if code:
        errors = sorted(Path(folder).glob("error-*.txt"), key=lambda path: path.stat().st_mtime)
        reason = errors[0].read_text() if errors else "".join(lines)
        raise TrainingError(f"the job under accelerate launch ended with exit code {code}:\n{reason.strip()}")


def _write(value, path):
    """The JSON form of an argument; tables go to `path`."""
    if isinstance(value, Dataset):
        with quiet():
            value.save_to_disk(str(path))
        return {"dataset": path.name}
    if isinstance(value, pd.Series):
        value.rename("value").to_frame().to_parquet(path)
        return {"series": path.name}
    if isinstance(value, Path):
        value = str(value)
    try:
        return {"value": json.loads(json.dumps(value))}
    except TypeError as error:
        raise DataError(
            f"accelerate: argument {path.name} is a {type(value).__name__}, which cannot be passed to another process. "
            "Remedy: give tables, strings, numbers, lists or dicts"
        ) from error


def _read(form, folder):
    ((kind, value),) = form.items()
    if kind == "dataset":
        return load_from_disk(str(folder / value))
    return pd.read_parquet(folder / value)["value"] if kind == "series" else value


def _write_result(value, folder, rank):
    if isinstance(value, pd.DataFrame):
        value.to_parquet(folder / f"result-{rank}.parquet")
    else:
        (folder / f"result-{rank}.json").write_text(json.dumps(value))


def _read_result(folder, rank):
    table = folder / f"result-{rank}.parquet"
    return pd.read_parquet(table) if table.exists() else json.loads((folder / f"result-{rank}.json").read_text())


def end_with(owner):
    """End this process once its owner has ended, so that a killed notebook leaves no job running on the GPUs."""
    while is_running(owner):
        time.sleep(WATCH)
    os._exit(1)  # accelerate ends the others


def main(folder):
    """Be one process of a job: read it, run it, and write its result or its error."""
    folder = Path(folder)
    job = json.loads((folder / "job.json").read_text())
    threading.Thread(target=end_with, args=[job["owner"]], daemon=True).start()
    processes.join()
    try:
        function = getattr(import_module(job["module"]), job["function"])
        args = [_read(form, folder) for form in job["args"]]
        result = function(*args, **{name: _read(form, folder) for name, form in job["kwargs"].items()})
        _write_result(result, folder, processes.rank())
    except BaseException:
        (folder / f"error-{processes.rank()}.txt").write_text(traceback.format_exc())
        raise


if __name__ == "__main__":
    main(sys.argv[1])
