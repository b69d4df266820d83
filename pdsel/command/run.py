"""Runs notebook 07 on a user's data, and says what is in it without running anything."""

import ast
import sys
from importlib.resources import files
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError

from pdsel import load_preferences, load_ratings, make_pairs
from pdsel.artifacts import IN_GRAPH
from pdsel.checks import DataError
from pdsel.command.page import write_page
from pdsel.data.preferences import given_opinions, holds_pairs
from pdsel.engine.progress import quiet_processes

NOTEBOOK = files("pdsel.command") / "your_data.ipynb"  # notebooks/07_your_data.ipynb
EXECUTED = "your_data.ipynb"  # in the folder of a selection
FEW = 200  # pairs of an aspect, below which a proxy learns little


def parameters():
    """The parameters of the notebook: name to default value and to the comment beside it."""
    found = papermill.inspect_notebook(str(NOTEBOOK)).items()
    return {name: (ast.literal_eval(each["default"]), each["help"]) for name, each in found}


def select(path, output, **chosen):
    """Run the notebook on a file and write its report; returns the path of the report.

    Parameters
    ----------
    path : str
        As in the notebook: a file, a folder, or a name.
    output : str or Path
        The folder to write.
    **chosen
        Other parameters of the notebook.

    Raises
    ------
    ValueError
        What the notebook raises; the executed cells are in the folder.
    """
    holds_pairs(path, chosen.get("columns"))  # a wrong path is answered before anything is made
    output = Path(output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    path = str(Path(path).resolve()) if Path(path).exists() else path
    chosen = chosen | {"path": path, "output": str(output)}
    options = {
        "kernel_name": "python3",
        "cwd": str(output),
        "progress_bar": sys.stderr.isatty(),
        "extra_arguments": ["--log-level=CRITICAL"],
    }
    with quiet_processes(IN_GRAPH):
        try:
            papermill.execute_notebook(str(NOTEBOOK), str(output / EXECUTED), chosen, **options)
        except PapermillExecutionError as error:
            where = f" The cells until then are in {output / EXECUTED}."
            raise DataError(f"{error.evalue}.{where}" if error.ename == "DataError" else f"{error}{where}") from None
    return write_page(output / EXECUTED, output / "report.html", manifest=output / "manifests" / "07_your_data.json")


def check(path, columns=None):
    """What is in a file and what a selection of it would need, as text.

    Raises
    ------
    ValueError
        If a selection would refuse the file.
    """
    if holds_pairs(path, columns):
        source = pairs = load_preferences(path, columns=columns)
    else:
        source = load_ratings(path)
        pairs = make_pairs(source)
    table = pairs.select_columns(["aspect"]).to_pandas()
    counts = table["aspect"].value_counts().sort_index()
    lines = [f"{source.info.description}; {len(pairs)} pairs, labelled on {len(counts)} aspects:"]
    lines += [f"  {aspect}: {n}" for aspect, n in counts.items()]
    if len(counts) < 2:
        raise DataError("\n".join([*lines, "PD compares aspects. Remedy: labels on at least two"]))
    if "conflict" in pairs.column_names:
        lines.append(f"Labels against the overall rating: {100 * sum(pairs['conflict']) / len(pairs):.0f} %.")
    opinions, _ = given_opinions(pairs)
    if opinions:
        lines.append(f"Every pair has {opinions} on the other aspects: no proxy has to be trained.")
    else:
        few = ", ".join(counts.index[counts < FEW])
        lines.append("What the other aspects say has to come from proxies, one for each aspect.")
        lines += [f"Few pairs to train one on (below {FEW}): {few}."] if few else []
    return "\n".join(lines)
