"""Reads and writes outputs in AlpacaEval's `model_outputs.json` layout, which `alpaca_eval --model_outputs` takes.

The layout is a list of objects: `{"instruction", "output", "generator", "dataset", "datasplit"}`.
"""

import json
from collections import defaultdict
from itertools import repeat
from pathlib import Path

import pandas as pd

from pdsel.artifacts import writing
from pdsel.checks import DataError, refuse
from pdsel.data.layouts import READERS, reader_of
from pdsel.data.messages import last_user_turn

COLUMNS = ["instruction", "output", "generator", "dataset", "datasplit"]


def save_outputs(path, prompts, outputs, *, generator, dataset="notesworld", datasplit="eval"):
    """Write outputs in AlpacaEval's layout; returns the path.

    Parameters
    ----------
    path : str or Path
        A `.json` file, written whole or not at all.
    prompts : list of str or of chat messages
        The file holds one text for each: of a chat, the user's last message, so write several turns as one string if the
        judge should read them all. `alpaca_eval` joins two files by this text, so it compares repeated prompts crosswise.
    outputs : list of str
        One per prompt, in the same order. An empty output (also `None` or NaN) is written as "".
    generator : str
        The name of the model; `alpaca_eval` shows it in its leaderboard.
    dataset : str or list of str
        One name for all prompts, or one per prompt, such as `load_prompts(...)["dataset"]`.
    datasplit : str

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_outputs(f"{folder}/outputs.json", ["Why?"], ["Because."], generator="me", dataset="hand")
    ...     load_outputs(path).to_dict("records")
    [{'instruction': 'Why?', 'output': 'Because.', 'generator': 'me', 'dataset': 'hand', 'datasplit': 'eval'}]
    """
    datasets = repeat(dataset, len(prompts)) if isinstance(dataset, str) else dataset
    for name, values in {"outputs": outputs, "dataset": datasets}.items():
        if not isinstance(values, repeat) and len(values) != len(prompts):
            raise DataError(f"{name}: {len(values)} for {len(prompts)} prompts. Remedy: give one per prompt")
    if Path(path).suffix != ".json":
        raise DataError(f"path {path}: AlpacaEval reads a list of objects from .json. Remedy: name the file *.json")
    outputs = [_output(output) for output in outputs]
    refuse(
        [i for i, output in enumerate(outputs) if not isinstance(output, str)],
        "outputs",
        "are not text at positions",
        "give strings, as `generate` returns them",
    )
    rows = [
        dict(zip(COLUMNS, [last_user_turn(prompt), output, generator, name, datasplit], strict=True))
        for prompt, output, name in zip(prompts, outputs, datasets, strict=True)
    ]
    with writing(path) as scratch:
        scratch.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def load_outputs(path):
    """Load outputs from a file in AlpacaEval's layout, in its order, including repeated instructions.

    Parameters
    ----------
    path : str or Path
        `.json` (a list of objects), `.jsonl`, `.jsonl.gz` or `.parquet`. Rows need `instruction` and `output`; the official
        files often lack the other columns, and then `generator` and `dataset` are "unknown" and `datasplit` is "eval".

    Returns
    -------
    pandas.DataFrame
        `instruction, output, generator, dataset, datasplit`, then any other columns; an absent output is "".

    Raises
    ------
    ValueError
        For an unreadable or empty file, missing columns, or an output that is not text; the message names columns and rows.
    """
    rows = read_rows(path)
    absent = {column for row in rows for column in ("instruction", "output") if column not in row}
    refuse(
        sorted(absent), f"{path}: column", "missing", f"rename or add it in every row; the first has {list(rows[0])}"
    )
    defaults = {"generator": "unknown", "dataset": "unknown", "datasplit": "eval"}
    rows = [defaults | row | {"output": _output(row["output"])} for row in rows]
    for column in ("instruction", "output"):
        refuse(
            [i for i, row in enumerate(rows) if not isinstance(row[column], str)],
            f"{path}: {column}",
            "is not text in row",
            "write it as a string",
        )
    table = pd.DataFrame(rows)
    return table[COLUMNS + [column for column in table if column not in COLUMNS]]


def align_outputs(table, prompts):
    """The output of every prompt, found by the prompt's text; the outputs of a repeated prompt keep their order.

    Parameters
    ----------
    table : pandas.DataFrame
        From `load_outputs`; rows of other prompts are left out.
    prompts : list of str or of chat messages

    Raises
    ------
    ValueError
        For prompts without an output, which the message names.

    >>> table = pd.DataFrame({"instruction": ["a", "b", "a"], "output": ["1", "2", "3"]})
    >>> align_outputs(table, ["b", "a", "a"])
    ['2', '1', '3']
    """
    waiting = defaultdict(list)
    for row in table[::-1].itertuples():  # the first on top
        waiting[row.instruction].append(row.output)
    texts = [last_user_turn(prompt) for prompt in prompts]
    found = [waiting[text].pop() if waiting[text] else None for text in texts]
    refuse(
        [repr(text) for text, output in zip(texts, found, strict=True) if output is None],
        "outputs",
        "are missing for prompts",
        "generate them too, or leave these prompts out",
    )
    return found


def read_rows(path):
    """The rows of a `.json` (list of objects), `.jsonl`, `.jsonl.gz` or `.parquet` file, as dicts."""
    path = Path(path)
    reader = _json if path.suffix == ".json" else reader_of(path)
    if reader is None:
        raise DataError(f"path {str(path)!r}: the suffix tells the format. Remedy: give .json, {', '.join(READERS)}")
    if not path.is_file():
        raise DataError(f"path: there is no file at {path}; check the path (relative ones start at {Path.cwd()})")
    rows = list(reader(path))
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} has no rows. Remedy: write a list of JSON objects, or one object a line in .jsonl")
    return rows


def _json(path):
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not json ({error}). Remedy: write JSON objects") from error
    return rows if isinstance(rows, list) else []


def _output(value):
    """Turn an absent output (null, NaN) into an empty one: the model said nothing."""
    return "" if value is None or (isinstance(value, float) and value != value) else value
