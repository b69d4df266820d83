"""The files and the manifest of every stage, and the check that inputs are still those that the files were made from.

A stage writes its files into one folder (each under a scratch name first, then renamed), and last of all
`manifests/<stage>.json`: digests of what it read and wrote, parameters, versions, commit, device, seconds. A file that no
manifest lists is unfinished; a file with another digest is not the one that the stage wrote.

`results/<profile>` is the committed reference. A run writes to `results/local/<profile>`, which git ignores, and a notebook
that is run by hand with other parameters writes to `results/local/mine`.
"""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
from datasets import Dataset
from huggingface_hub import hf_hub_download

from pdsel.checks import DataError

LIBRARIES = [  # whose versions may change a number
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "statsmodels",
]
SEAL = "seal"  # of a record: a digest of everything else in it
EXECUTED = "local/executed.json"  # the digests of a finished run's executed notebooks
TIMED = {"training.json", "proxy.json"}  # they hold seconds, so they differ between equal runs
LOCAL = ("results", "local")  # the folders that runs write below
IN_GRAPH = "PDSEL_RUN"  # the Snakefile sets it, since a job of the graph writes where it is told


ROOM = "make room on this disk, then run it again; nothing half-written was kept"
ALLOWED = "write to a folder that you may write to, or change its permissions, then run it again"
CANNOT_WRITE = {  # what to do about errors of the disk
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: ROOM,
    errno.EACCES: ALLOWED,
    errno.EPERM: ALLOWED,
    errno.EROFS: ALLOWED,
    errno.ENOENT: "the folder vanished while it was written to: make it anew, and run it again",
    errno.ENOTDIR: "a file is where a folder should be: move it, then run it again",
    errno.EIO: "the disk failed: look at it before you run it again",
}


MORE_MEMORY = (
    "end other programs, take fewer rows at once, or use a machine with more of it; nothing half-written was kept"
)


class ArtifactError(DataError):
    """A stage's files are unfinished, changed, or made from other inputs."""


@contextmanager
def disk_errors(path):
    """Turn an error of the disk, or of the memory, on the way to `path` into an `ArtifactError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in CANNOT_WRITE or (error.errno == errno.ENOENT and Path(path).parent.exists()):
            raise  # of something else
        raise ArtifactError(f"{path} was not written: {error.strerror}. Remedy: {CANNOT_WRITE[error.errno]}") from error
    except MemoryError as error:
        raise ArtifactError(f"{path} was not written: out of memory. Remedy: {MORE_MEMORY}") from error


@contextmanager
def writing(path):
    """Yield a scratch path that is renamed to `path` when the body succeeds, so that no half-written file has that name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.txt")) as scratch:
    ...         _ = scratch.write_text("whole")
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(
        f".{path.name}.{os.getpid()}.partial"
    )  # of this process: the orphan of a killed run may still write to its own
    try:
        with disk_errors(path):
            yield scratch
            os.replace(scratch, path)
    finally:
        with suppress(OSError):  # the folder may be gone, or not ours
            scratch.unlink()


def save_table(table, path):
    """Write a `Dataset` or `DataFrame` as `.parquet` or `.csv` (by suffix), whole or not at all; return the path.

    An index that has a name is written as a column; an index without one is not written.
    """
    path = Path(path)
    frame = table.to_pandas() if isinstance(table, Dataset) and path.suffix == ".csv" else table
    if isinstance(frame, pd.DataFrame) and frame.index.name is not None:
        frame = frame.reset_index()
    with writing(path) as scratch:
        if path.suffix == ".csv":
            frame.to_csv(scratch, index=False, float_format="%.10g", lineterminator="\n")
        elif path.suffix != ".parquet":
            raise DataError(f"path {path}: the suffix tells the format; use .csv or .parquet")
        elif isinstance(frame, Dataset):
            parquet.write_table(frame.with_format("arrow")[:], scratch)
        else:
            frame.to_parquet(scratch, index=False)
    return path


def save_text(text, path):
    """Write a text file, whole or not at all; return the path."""
    with writing(path) as scratch:
        scratch.write_text(text + "\n")
    return Path(path)


def load_table(path, *, index=None):
    """Read a saved table as a frame, optionally indexed by one of its columns."""
    path = Path(path)
    frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    return frame.set_index(index) if index else frame


def load_pairs(path):
    """Read a saved pairs table into memory, as a `datasets.Dataset` without a cache that could be stale."""
    return Dataset(parquet.read_table(path))


def digest(path, *, without=TIMED):
    """SHA-256 of a file, or of the names and contents of a folder's files, except those named in `without`."""
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name not in without)
        listing = "\n".join(f"{file.relative_to(path)} {digest(file)}" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(record):
    """A record with a digest of itself, so that a changed bit is noticed when it is read.

    >>> sealed({"share": 0.3})
    {'share': 0.3, 'seal': '780edab844125763'}
    """
    plain = {key: value for key, value in record.items() if key != SEAL}
    text = json.dumps(json.loads(json.dumps(plain)), sort_keys=True)  # as it will be read: keys are text then
    return plain | {SEAL: hashlib.sha256(text.encode()).hexdigest()[:16]}


def read_sealed(path, remedy):
    """Read a record that was written with a seal; one of an older version, without a seal, is taken as it is.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do about a damaged record.

    Raises
    ------
    ArtifactError
        If the file is no JSON object, or not the one that was sealed.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        whole = isinstance(record, dict) and record.get(SEAL) in (None, sealed(record)[SEAL])
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({str(error).splitlines()[0]}). Remedy: {remedy}") from error
    if not whole:
        raise ArtifactError(f"{path} is damaged: it is not what was written. Remedy: {remedy}")
    return record


def seal_notebooks(folder):
    """Note the digests of all executed notebooks below a folder, when its run is finished.

    Of a notebook that was not written since they were noted last, the digest stays what it was.
    """
    listing, found = Path(folder, EXECUTED), {}
    known = read_sealed(listing, f"delete {listing}")["notebooks"] if listing.exists() else {}
    for path in sorted(Path(folder).rglob("*.ipynb")):
        name = path.relative_to(folder).as_posix()
        found[name] = digest(path) if name not in known or _is_newer(path, listing) else known[name]
    save_text(json.dumps(sealed({"notebooks": found}), indent=1), listing)


def _is_newer(path, other):
    return path.stat().st_mtime > other.stat().st_mtime


def check_notebook(path, folder):
    """Refuse an executed notebook below a folder that has changed since its run, although nobody has written it.

    Raises
    ------
    ArtifactError
        Naming the notebook.
    """
    listing = Path(folder, EXECUTED)
    if not listing.exists() or _is_newer(path, listing):
        return
    remedy = f"run it again: delete {path} and then `make run`; or delete {listing}, to show it as it is"
    expected = read_sealed(listing, remedy).get("notebooks", {}).get(Path(path).relative_to(folder).as_posix())
    if expected not in (None, digest(path)):
        raise ArtifactError(f"{path} is not what the run wrote. Remedy: {remedy}")


class Stage:
    """A running stage: its clock and its inputs; `finish` writes the manifest.

    An earlier manifest stays until `finish` replaces it, so opening a notebook loses nothing. In between, the digests
    distinguish rewritten files from those that the earlier manifest lists.

    Parameters
    ----------
    name : str
        Such as "02_proxies"; its manifest is `folder/manifests/<name>.json`.
    folder : str or Path
        Where the stage writes; paths inside it are recorded relative to it.
    inputs : list of path
        Files and folders read. Those made by another stage of the folder are verified now.
    after : list of str
        Stages of this folder whose files are read.
    parameters : dict
        Plain values that determine the outputs, as keywords.

    Raises
    ------
    ArtifactError
        If an input is missing, unfinished, or has changed since a stage of `after` read or wrote it.
    """

    def __init__(self, name, folder, *, inputs=(), after=(), **parameters):
        self.name, self.folder, self.parameters = name, Path(folder), parameters
        self.start = time.perf_counter()
        digest_once = cache(digest)  # several stages may name a file, and a model has gigabytes
        for stage in after:
            verify(stage, folder, digest=digest_once)
        for path in inputs:
            if not Path(path).exists():
                raise ArtifactError(f"{name}: input {path} does not exist. Remedy: run the stage before, or `make run`")
        self.inputs = {self._name(path): digest_once(Path(path).resolve()) for path in inputs}

    def finish(self, *outputs, **facts):
        """Record the outputs and any further facts (seconds of training, counts); return the manifest's path."""
        record = {
            "stage": self.name,
            "parameters": self.parameters,
            "inputs": self.inputs,
            "outputs": {self._name(path): digest(path) for path in outputs},
            "facts": facts,
            "seconds": round(time.perf_counter() - self.start, 2),
            "environment": environment(),
        }
        path = manifest_path(self.name, self.folder)
        with writing(path) as scratch:
            scratch.write_text(json.dumps(sealed(record), indent=1) + "\n")
        return path

    def _name(self, path):
        path = Path(path).resolve()
        return os.path.relpath(path, self.folder.resolve())


def own_folder(stage, folder, parameters):
    """Where a notebook writes: `folder`, or a folder of its own if its parameters differ from those of the run in `folder`.

    The parameters of the run are in its manifest or, before there is a run, in that of the reference. The folder of its own
    is `results/local/mine/<stage>-<digest of the changes>`; it starts as a copy of what the earlier stages wrote.

    Parameters
    ----------
    stage : str
        Such as "02_proxies".
    folder : str or Path
        Such as `../results/local/mini/conflict30-seed0`. A folder that is not below `results/local`, or that belongs to a job
        of the graph, is returned as it is.
    parameters : dict
        The parameters that `Stage` gets.

    Returns
    -------
    Path
    """
    folder = Path(folder)
    known = [place for place in (folder, reference_of(folder)) if place and manifest_path(stage, place).exists()]
    if os.environ.get(IN_GRAPH) or reference_of(folder) is None or not known:
        return folder
    expected = read_manifest(stage, known[0])["parameters"]
    given = json.loads(json.dumps(parameters))  # as a manifest would hold them
    chosen = [name for name in given if name in expected and not name.endswith("digest")]  # nobody chooses a digest
    changed = {name: given[name] for name in chosen if given[name] != expected[name]}
    if not changed:
        return folder
    listing = json.dumps(changed, sort_keys=True)
    name = f"{stage}-{hashlib.sha256(listing.encode()).hexdigest()[:8]}"
    mine = _results(folder) / LOCAL[1] / "mine" / name
    if not mine.exists():
        _copy_before(stage, folder, mine)
    print(f"{listing} differs from the run in {known[0]}: this notebook writes to {mine}.")
    print("To go on from there, set `folder` to it in the next notebook.")
    return mine


def run_or_reference(folder, *files):
    """The folder of a run if it holds one of these files, otherwise the folder of the reference; prints which one.

    Parameters
    ----------
    folder : str or Path
        Such as `../results/local/toy`. A folder that is not below `results/local` is returned as it is.
    *files : str
        Patterns of files in it, such as "cells.csv".
    """
    folder, reference = Path(folder), reference_of(folder)
    if reference is None:
        return folder
    if any(path for pattern in files for path in folder.glob(pattern)):
        print(f"Shown: your run in {folder}.")
        return folder
    print(f"Shown: the reference in {reference}; there is no run in {folder}.")
    return reference


def reference_of(folder):
    """The folder of the reference that a run's folder is compared with; None for a folder that is not below `results/local`.

    >>> reference_of("../results/local/mini/conflict30-seed0").as_posix()
    '../results/mini/conflict30-seed0'
    """
    results = _results(folder)
    return None if results is None else results / Path(folder).relative_to(results / LOCAL[1])


def _results(folder):
    """The `results` folder above `results/local/...`; None for any other folder."""
    parts = Path(folder).parts
    for i in range(len(parts) - 2):
        if parts[i : i + 2] == LOCAL:
            return Path(*parts[: i + 1])
    return None


def _copy_before(stage, folder, target):
    """Copy the manifests and outputs of the stages before `stage`, which are numbered 01, 02, 02b, 03, ..."""
    number = stage.split("_")[0]
    for path in sorted(Path(folder, "manifests").glob("*.json")):
        if path.name.split("_")[0] >= number:
            continue
        for name in read_manifest(path.stem, folder)["outputs"]:
            source, copy = Path(folder, name), Path(target, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy, dirs_exist_ok=True)
            elif source.exists():
                shutil.copy2(source, copy)
        Path(target, "manifests").mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target / "manifests")


def manifest_path(stage, folder):
    """The path of a stage's manifest."""
    return Path(folder) / "manifests" / f"{slug(stage)}.json"


def model_digest(model):
    """Identify a model's weights, for a stage's parameters: by the digest of a local folder, or the commit of a hub id."""
    if Path(model).is_dir():
        return digest(model, without=TIMED | {"README.md"})  # a card changes nothing
    return Path(hf_hub_download(str(model), "config.json")).parent.name  # of the cache: snapshots/<commit>/config.json


def read_manifest(stage, folder):
    """Read the manifest of a finished stage, without verifying it."""
    path = manifest_path(stage, folder)
    if not path.exists():
        raise ArtifactError(f"{stage} is not finished in {folder}: no {path}. Remedy: run its notebook, or `make run`")
    manifest = read_sealed(path, f"run {stage} again, or restore this file")
    missing = [
        name for name in ("parameters", "inputs", "outputs", "facts") if not isinstance(manifest.get(name), dict)
    ]
    if missing:
        raise ArtifactError(f"{path} lacks {', '.join(missing)}, as in another version. Remedy: run {stage} again")
    return manifest


def verify(stage, folder, *, digest=digest):
    """Check that a stage's outputs are whole and that its inputs have not changed since; return its manifest.

    `digest` takes an absolute path; pass one that remembers where several stages are verified.

    Raises
    ------
    ArtifactError
        Naming the file and both digests.
    """
    manifest = read_manifest(stage, folder)
    for kind, problem in [
        ("outputs", "is not what the stage wrote"),
        ("inputs", "is not what the stage was made from"),
    ]:
        for name, expected in manifest[kind].items():
            path = Path(folder) / name
            if not path.exists():
                if kind == "outputs":
                    raise ArtifactError(f"{stage}: {path} is missing. Remedy: run {stage} again")
                continue  # inputs may be left out of a published results folder
            try:
                found = digest(path.resolve())
            except OSError as error:
                raise ArtifactError(f"{stage}: {path} cannot be read: {error.strerror}. Remedy: {ALLOWED}") from error
            if found != expected:
                raise ArtifactError(
                    f"{stage}: {path} {problem}: digest {found[:12]} now, {expected[:12]} then. Remedy: run {stage} again "
                    f"on these inputs, or use another results folder"
                )
    return manifest


def environment():
    """Versions, commit and machine: what a result may depend on besides inputs and parameters."""
    versions = {name: _version(name) for name in ["pdsel", *LIBRARIES]}
    return {
        "python": platform.python_version(),
        "versions": {name: number for name, number in versions.items() if number},
        **_commit(),
        "device": _device(),
        "machine": platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
    }


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit():
    """The commit of this code and whether the code has changed since; an installed wheel has a version but no commit."""
    try:
        # A wheel may lie inside somebody else's repository, which does not track it.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":/pdsel", ":/notebooks")
        return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _git(*arguments):
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _device():
    """The name of the device that `pdsel.engine.models.device` finds; torch is not loaded just for that."""
    forced = os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true"
    torch = sys.modules.get("torch")
    if forced or torch is None:
        return "cpu"
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return "mps" if torch.backends.mps.is_available() else "cpu"


def slug(name):
    """Turn a name into a file name; names that differ get file names that differ.

    A name of letters, digits, `_` and `-`, perhaps with a word in parentheses (as the methods have), is spelled out. Any other
    name loses characters, so a short digest of it is added.

    >>> slug("PD(rati.)"), slug("c++"), slug("c#")
    ('PD-rati', 'c-cedb1b', 'c-951a4d')
    """
    spelled = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")
    if re.fullmatch(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*(\([A-Za-z0-9_]+\.?\))?", name):
        return spelled
    short = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{spelled}-{short}" if spelled else short
