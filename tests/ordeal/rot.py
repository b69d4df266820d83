"""Rot: files that were written whole and changed afterwards. They are refused or computed anew; never another number.

The time of a file stays what it was, as it does where a disk or a copy loses bits.
"""

import json
import os
import pickle
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from ordeal.inputs import require, scratch
from ordeal.mutate import flipped
from ordeal.trials import Case, Lost
from pdsel.artifacts import Stage, load_table, read_manifest, save_table, seal_notebooks, verify
from pdsel.checks import DataError
from pdsel.command.page import write_pages
from pdsel.data.store import Store
from pdsel.engine.reference_cache import ReferenceCache
from pdsel.evaluation.judges.cache import AnswerCache, answer_key
from pdsel.notesworld import BASE_MODEL
from pdsel.proxies import Proxy, load_proxy

OURS = 0  # the seed of the run whose files are changed


def settings_of(seed):
    """The settings of a cell: another run has others."""
    return {"n": 3, "seed": seed}


def keys_of(seed):
    """The keys of the questions of a run."""
    return [answer_key("http://judge", {"question": number, "seed": seed}) for number in range(4)]


def make_run(folder, seed):
    """Artifacts of every kind, those of another run with another seed."""
    draw = np.random.default_rng(seed)
    numbers = pd.DataFrame({"pair_id": [f"p{n}" for n in range(40)], "margin": draw.normal(size=40).round(6)})
    stage = Stage("02_proxies", folder / "stage", seed=seed, share=0.3)
    local = folder / "stage" / "local"
    written = [save_table(numbers, local / f"margins.{kind}") for kind in ("parquet", "csv")]
    (local / "outputs.json").write_text(json.dumps([{"instruction": "Why?", "output": f"x{draw.integers(10**6)}"}]))
    (local / "policy").mkdir()
    save_file({"weight": draw.normal(size=(8, 8)).astype("f4")}, local / "policy" / "model.safetensors")
    (local / "policy" / "config.json").write_text('{"hidden_size": 8}')
    stage.finish(*written, local / "outputs.json", local / "policy", seconds_of_scoring=float(seed + 1))
    Store(folder / "cells").computed("margins", settings_of(seed), lambda: (numbers, {"accuracy": 0.5 + seed / 100}))
    Store(folder / "cells").computed(
        "quality", settings_of(seed), lambda: {"accuracy": 0.6 + seed / 100, "kept": ["p", "q"]}
    )
    ReferenceCache(folder / "reference", BASE_MODEL, "float32").write(
        dict(zip("abcd", draw.normal(size=4).tolist(), strict=True))
    )
    with AnswerCache.open(folder / "answers.sqlite") as answers:
        for key in keys_of(seed):
            answers.store(
                key, {"content": "m", "top_logprobs": [["m", -draw.random()]], "usage": {"prompt_tokens": 100}}
            )
    _make_proxy(folder / "proxy", seed)
    _make_notebook(folder / "local" / "notebooks" / "06_results.ipynb", draw)
    seal_notebooks(folder)


def _make_proxy(folder, seed):
    folder.mkdir()
    save_file({"score": np.full((2, 2), seed, dtype="f4")}, folder / "model.safetensors")
    values = {
        "path": str(folder),
        "length_penalty": 0.02 + seed / 100,
        "beta": 0.1,
        "kind": "classifier",
        "aspect": "honesty",
    }
    values |= {name: 1.0 for name in Proxy.__dataclass_fields__ if name not in values}
    Proxy(**values).save()


def _make_notebook(path, draw):
    output = nbformat.v4.new_output("stream", text=f"win rate {draw.integers(1000) / 10} %")
    cells = [nbformat.v4.new_markdown_cell("# Results"), nbformat.v4.new_code_cell("show()", outputs=[output])]
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


# ---- how every kind is read, and what it looked like in older versions


def _stage(folder, name, read):
    verify("02_proxies", folder / "stage")
    return read(folder / "stage" / "local" / name)


def _records(path):
    return load_table(path).to_dict("records")


def _cell(folder, name):
    """A cell, or None where it would be computed anew."""
    value = Store(folder / "cells").computed(name, settings_of(OURS), lambda: {"anew": True})
    if value == {"anew": True}:
        return None
    return (value[0].to_dict("records"), value[1]) if isinstance(value, tuple) else value


def _reference(folder):
    return ReferenceCache(folder / "reference", BASE_MODEL, "float32").read()


def _answers(folder):
    with AnswerCache.open(folder / "answers.sqlite") as answers:
        return answers.load(keys_of(OURS))


def _manifest(folder):
    found = read_manifest("02_proxies", folder / "stage")
    verify("02_proxies", folder / "stage")
    return {name: found[name] for name in ("parameters", "inputs", "outputs", "facts")}


def _proxy(folder):
    return {name: value for name, value in asdict(load_proxy(folder / "proxy")).items() if name != "path"}


def _page(folder):
    write_pages(folder)
    return (folder / "report" / "local-notebooks-06_results.html").read_text()


def _without(*names):
    def older(data):
        record = json.loads(data)
        return json.dumps({key: value for key, value in record.items() if key not in names}).encode()

    return older


def _older_answers(_):
    """The cache of a version that named its columns differently."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "old.sqlite")
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE answers (question TEXT PRIMARY KEY, reply TEXT NOT NULL)")
        connection.close()
        return path.read_bytes()


@dataclass(frozen=True)
class Artifact:
    """A kind of file.

    Parameters
    ----------
    what : str
    pattern : str
        Of the one file that is changed.
    read : callable
        `read(folder)` gives what it holds through pdsel's own door, as plain values.
    older : callable
        Bytes to the bytes of an older format.
    strict : bool
        Whether every change has to be noticed, also one in bytes that hold no value, such as those that spell "seal".
    anew : bool
        Whether what is damaged may be left out, since it is computed anew; there has to be a warning.
    quiet : bool
        Whether the warning may be missing: an answer under a changed key looks like a question that was never asked.
    """

    what: str
    pattern: str
    read: Callable
    older: Callable
    strict: bool = True
    anew: bool = False
    quiet: bool = False


def _bom(data):
    return b"\xef\xbb\xbf" + data


def _first_pickle(_):
    return pickle.dumps({"weight": [0.0]})


ARTIFACTS = [
    Artifact(
        "a stage's table, Parquet",
        "stage/local/margins.parquet",
        lambda f: _stage(f, "margins.parquet", _records),
        _bom,
    ),
    Artifact("a stage's table, CSV", "stage/local/margins.csv", lambda f: _stage(f, "margins.csv", _records), _bom),
    Artifact(
        "a stage's outputs, JSON",
        "stage/local/outputs.json",
        lambda f: _stage(f, "outputs.json", lambda path: json.loads(path.read_text())),
        _bom,
    ),
    Artifact(
        "a policy's weights, safetensors",
        "stage/local/policy/model.safetensors",
        lambda f: _stage(f, "policy", lambda path: load_file(path / "model.safetensors")["weight"].tolist()),
        _first_pickle,
    ),
    Artifact("a manifest, JSON", "stage/manifests/02_proxies.json", _manifest, _without("seal", "facts"), strict=False),
    Artifact("a cell's table, Parquet", "cells/margins-*.parquet", lambda f: _cell(f, "margins"), _bom, anew=True),
    Artifact(
        "a cell's record, JSON",
        "cells/margins-*.json",
        lambda f: _cell(f, "margins"),
        _without("seal", "kind"),
        strict=False,
        anew=True,
    ),
    Artifact(
        "a cell without a table, JSON",
        "cells/quality-*.json",
        lambda f: _cell(f, "quality"),
        _without("seal"),
        strict=False,
        anew=True,
    ),
    Artifact("the reference's cache, Parquet", "reference/*/*.parquet", _reference, _bom, anew=True),
    Artifact(
        "the judge's answers, SQLite", "answers.sqlite", _answers, _older_answers, strict=False, anew=True, quiet=True
    ),
    Artifact("a proxy's record, JSON", "proxy/proxy.json", _proxy, _without("seal", "beta")),
    Artifact(
        "an executed notebook",
        "local/notebooks/06_results.ipynb",
        _page,
        lambda data: data.replace(b'"nbformat": 4', b'"nbformat": 2'),
    ),
]


# ---- trials


@cache
def runs():
    """Two runs, made once in this process, and the values of the first, by artifact."""
    home = tempfile.TemporaryDirectory(prefix="ordeal-rot-")
    folders = [Path(home.name, str(seed)) for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        make_run(folder, seed)
    values = {}
    for artifact in ARTIFACTS:
        copied = Path(home.name, "copy")
        shutil.copytree(folders[0], copied)
        values[artifact.what] = artifact.read(copied)
        shutil.rmtree(copied)
    return home, folders, values


def rotten(data, other, artifact, draw):
    """Changed bytes, and how they were changed."""
    kind = draw.choice(["truncated", "bit flipped", "bit flipped", "emptied", "swapped", "zeroed", "older format"])
    at = draw.randrange(len(data))
    changed = {
        "truncated": data[:at],
        "bit flipped": flipped(data, 8 * at + draw.randrange(8)),
        "emptied": b"",
        "swapped": other,
        "zeroed": data[:at] + bytes(len(data[at : at + 32])) + data[at + 32 :],
        "older format": artifact.older(data),
    }[kind]
    return changed, kind


def rot(artifact):
    """A trial: one file of this kind is changed, and read."""

    def trial(draw):
        _, (ours, theirs), values = runs()
        with scratch() as home:
            folder = Path(shutil.copytree(ours, home / "run"))
            (path,) = folder.glob(artifact.pattern)
            (other,) = theirs.glob(artifact.pattern)
            times, data = path.stat(), path.read_bytes()
            changed, kind = rotten(data, other.read_bytes(), artifact, draw)
            path.write_bytes(changed)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    found = artifact.read(folder)
                except DataError as error:
                    require("Remedy" in str(error), f"{kind}: no remedy: {error}")
                    named = (path.name, path.stem, "02_proxies", "policy")
                    require(any(name in str(error) for name in named), f"{kind}: not named: {error}")
                    return f"{kind}: refused"
            return _judged(artifact, kind, found, values[artifact.what], (data != changed, bool(told)))

    return trial


def _judged(artifact, kind, found, expected, state):
    """What became of a changed file that was read."""
    changed, warned = state
    if found == expected:
        if not changed or not artifact.strict or kind == "older format":
            return f"{kind}: the same value"
        raise Lost(f"{kind}: read as if nothing had happened")
    parts = found if isinstance(found, dict) else {}
    if artifact.anew and (found is None or all(expected.get(key) == value for key, value in parts.items())):
        if warned or artifact.quiet:
            return f"{kind}: computed anew"
        raise Lost(f"{kind}: computed anew without a word")
    raise Lost(f"{kind}: another value")


CASES = [Case("rot", artifact.what, rot(artifact)) for artifact in ARTIFACTS]
