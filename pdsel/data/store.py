"""A store of computed cells: a cell is a value that takes minutes to compute, kept on disk under all that determines it.

How a stopped run resumes, in the whole project: Snakemake runs a notebook only while its manifest, which is written last and
holds the digests of what was read and written, is absent (`pdsel.artifacts`). A training that was killed goes on from its last
whole checkpoint, and its folder takes its name only when the training is finished (`pdsel.engine.run_folder`). The reference's
log-probabilities are kept by the content of model and pairs, so that methods trained on one pool share them
(`pdsel.engine.reference_cache`). A judge's answers are kept one by one by the request, so that none is paid for twice
(`pdsel.evaluation.judges.cache`). Everything else that takes long, namely the cells of grids and studies and the signals of
rules, is a cell of this store, which is computed anew as soon as its settings, its model, the code or the libraries change.
"""

import ast
import hashlib
import inspect
import json
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import pandas as pd

import pdsel
from pdsel.artifacts import slug, writing
from pdsel.checks import DataError

LIBRARIES = ["torch", "transformers", "trl", "numpy", "pandas"]  # whose versions may change a computed number
ABOVE = {
    "rules",
    "experiments",
    "pipeline",
    "plots",
}  # rooms of which only the modules named in `code` can change a cell


@dataclass(frozen=True)
class Store:
    """Computed values in a folder: tables as Parquet, records as JSON, nothing pickled.

    Parameters
    ----------
    folder : str or Path
    model : str, optional
        Digest of the model that the cells start from, see `pdsel.artifacts.model_digest`.
    code : sequence of functions
        The functions of `pdsel.rules` or `pdsel.experiments` that compute the cells: the code of their modules is part of the
        key, as is that of all rooms below. Comments, docstrings and layout are not.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     first = store.computed("square", {"n": 3}, lambda: {"square": 3 * 3})
    ...     again = store.computed("square", {"n": 3}, lambda: 1 / 0)
    >>> first == again == {"square": 9}
    True
    """

    folder: str | Path
    model: str | None = None
    code: tuple = field(default=(), repr=False)

    def computed(self, name, settings, function):
        """The value of a cell: read from the folder, or else computed by `function()` and written whole or not at all.

        Parameters
        ----------
        name : str
            What is computed; the file's name begins with it.
        settings : object
            Everything else that determines the value; anything that JSON can write.
        function : callable
            Takes nothing and returns a frame, a Series, a record (anything that JSON can write), or a tuple of a frame or
            Series and a record. Column names are strings.

        Returns
        -------
        object
            As it is read from the files, so that the first run and a resumed one continue with the same value.
        """
        if not self.holds(name, settings):
            self._save(function(), name, settings)
        return self._load(name, settings)

    def holds(self, name, settings):
        """Whether a cell is there, whole."""
        return self._record_path(name, settings).exists()

    def path(self, name, settings):
        """A path of the cell's own, without a suffix, such as for a folder of models that belong to it."""
        key = {
            "settings": settings,
            "model": self.model,
            "pdsel": pdsel.__version__,
            "libraries": {library: version(library) for library in LIBRARIES},
            "code": code_digest(*self.code),
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return Path(self.folder, f"{slug(name)}-{digest}")

    def _record_path(self, name, settings):
        return _with_suffix(self.path(name, settings), "json")

    def _save(self, value, name, settings):
        """The table first and the record last: a cell without a record is not whole."""
        table, record = value if isinstance(value, tuple) else (value, None)
        kind = "series" if isinstance(table, pd.Series) else "frame"
        if not isinstance(table, pd.DataFrame | pd.Series):
            if isinstance(value, tuple):
                raise DataError(
                    f"cell {name}: {type(table).__name__} is not a table. Remedy: return a frame and a record"
                )
            kind, record = "record", value
        else:
            frame = table.to_frame("value") if kind == "series" else table
            with writing(_with_suffix(self.path(name, settings), "parquet")) as scratch:
                frame.to_parquet(scratch)
        content = {"name": name, "settings": settings, "kind": kind, "pair": isinstance(value, tuple), "record": record}
        with writing(self._record_path(name, settings)) as scratch:
            scratch.write_text(json.dumps(content))

    def _load(self, name, settings):
        content = json.loads(self._record_path(name, settings).read_text())
        if content["kind"] == "record":
            return content["record"]
        table = pd.read_parquet(_with_suffix(self.path(name, settings), "parquet"))
        if content["kind"] == "series":
            table = table["value"]
        return (table, content["record"]) if content["pair"] else table


def _with_suffix(path, suffix):
    return path.with_name(f"{path.name}.{suffix}")


@cache
def code_digest(*functions):
    """A digest of what the code does: of every module below the rules, and of the modules that the functions are in.

    Comments, docstrings and layout do not change it. A function that was typed into a notebook counts by its source.
    """
    parts = [_digest_of_rooms_below()]
    for function in functions:
        original = inspect.unwrap(function)
        file = getattr(inspect.getmodule(original), "__file__", None)
        parts.append(_meaning(Path(file).read_text() if file else inspect.getsource(original)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def _digest_of_rooms_below():
    package = Path(pdsel.__file__).parent
    names = sorted(str(file.relative_to(package)) for file in package.rglob("*.py"))
    below = [name for name in names if Path(name).parts[0] not in ABOVE]
    listing = [f"{name} {_meaning((package / name).read_text())}" for name in below]
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


@cache
def _meaning(source):
    """A digest of a module's syntax tree without its docstrings."""
    tree = ast.parse(dedent(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
