"""A store of computed cells: values that take minutes to compute, kept on disk under a key of everything that determines them.

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
import warnings
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import pandas as pd

from pdsel import __version__
from pdsel.artifacts import LIBRARIES, SEAL, ArtifactError, digest, read_sealed, sealed, slug, writing
from pdsel.checks import DataError

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Store:
    """Computed values in a folder: tables as Parquet, records as JSON, nothing pickled.

    Parameters
    ----------
    folder : str or Path
    model : str, optional
        Digest of the model that the cells start from, see `pdsel.artifacts.model_digest`.
    code : sequence of functions
        The functions that compute the cells, see `code_digest`. Default: any change of pdsel's code makes new cells.

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
        return self._record_path(name, settings).exists() and self._is_whole(name, settings)

    def path(self, name, settings):
        """A path of the cell's own, without a suffix, such as for a folder of models that belong to it."""
        key = {
            "settings": settings,
            "model": self.model,
            "pdsel": __version__,
            "libraries": {library: version(library) for library in LIBRARIES},
            "code": code_digest(*self.code),
        }
        short = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return Path(self.folder, f"{slug(name)}-{short}")

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
        if kind != "record":
            content["table"] = digest(_with_suffix(self.path(name, settings), "parquet"))
        with writing(self._record_path(name, settings)) as scratch:
            scratch.write_text(json.dumps(sealed(content)))

    def _is_whole(self, name, settings):
        """Whether a cell's files are those that were written; a cell of an older version lists no digest."""
        path, remedy = self.path(name, settings), "it is computed anew"
        try:
            content = _whole_record(path, remedy)
            ours = sealed({"name": name, "settings": settings})[SEAL]
            theirs = sealed({key: content[key] for key in ("name", "settings")})[SEAL]
            if ours != theirs:
                raise ArtifactError(f"{path} is that of another cell. Remedy: {remedy}")
        except (ArtifactError, FileNotFoundError) as error:
            warnings.warn(str(error), stacklevel=4)
            return False
        return True

    def _load(self, name, settings):
        return _read_cell(self.path(name, settings))[2]


def stored_cells(folder):
    """Every whole cell of a folder, whatever code, libraries and model made it, such as those of another machine.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    list of (str, object, object)
        Name, settings and value, in the order of the files' names.

    Raises
    ------
    ArtifactError
        If a cell is not what was written, since here nobody can compute it anew.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Store(folder).computed("square", {"n": 3}, lambda: {"square": 3 * 3})
    ...     stored_cells(folder)
    [('square', {'n': 3}, {'square': 9})]
    """
    paths = [record.with_suffix("") for record in sorted(Path(folder).glob("*-*.json"))]
    for path in paths:
        _whole_record(path, "copy the cell again from where it was computed")
    return [_read_cell(path) for path in paths]


def _whole_record(path, remedy):
    """The record of the cell at a path without a suffix; refuse one whose files are not those that were written."""
    content, table = read_sealed(_with_suffix(path, "json"), remedy), _with_suffix(path, "parquet")
    if not {"name", "settings", "kind", "pair", "record"} <= set(content):
        raise ArtifactError(f"{path} is that of another version. Remedy: {remedy}")
    if content["kind"] != "record" and content.get("table") not in (None, digest(table)):
        raise ArtifactError(f"{table} is damaged: it is not what was written. Remedy: {remedy}")
    return content


def _read_cell(path):
    """Name, settings and value of the cell at a path without a suffix."""
    content = json.loads(_with_suffix(path, "json").read_text())
    value = content["record"]
    if content["kind"] != "record":
        table = pd.read_parquet(_with_suffix(path, "parquet"))
        table = table["value"] if content["kind"] == "series" else table
        value = (table, content["record"]) if content["pair"] else table
    return content["name"], content["settings"], value


def _with_suffix(path, suffix):
    return path.with_name(f"{path.name}.{suffix}")


@cache
def code_digest(*functions, package=PACKAGE):
    """A digest of what the code of functions does: of their modules, and of all that these import from pdsel, and so on.

    Comments, docstrings and layout do not change it. A function from outside pdsel, such as one typed into a notebook, may
    call anything, so it counts together with all modules; so does no function at all.
    """
    modules = _modules(package)
    names, sources = {inspect.unwrap(function).__module__ for function in functions}, []
    if functions and names <= modules.keys():
        names = _imported_from(names, modules)
    else:
        names, sources = set(modules), [_source(function) for function in functions]
    parts = [f"{name} {modules[name].meaning}" for name in sorted(names)]
    parts += [_read(source).meaning for source in sources]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _source(function):
    """The source of a function's module or, where that has no file, of the function itself."""
    original = inspect.unwrap(function)
    file = getattr(inspect.getmodule(original), "__file__", None)
    return Path(file).read_text() if file else inspect.getsource(original)


@dataclass(frozen=True)
class _Module:
    """A digest of what a module does, the dotted names that it imports, and where names are that it attaches lazily."""

    meaning: str
    imports: set
    attached: dict


@cache
def _modules(package):
    """All modules of pdsel by their dotted names."""
    found = {}
    for file in package.rglob("*.py"):
        parts = ["pdsel", *file.relative_to(package).with_suffix("").parts]
        found[".".join(parts).removesuffix(".__init__")] = _read(file.read_text())
    return found


@cache
def _read(source):
    tree = ast.parse(dedent(source))
    imports, attached = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        elif isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.keyword) and node.arg == "submod_attrs":  # of `lazy_loader.attach`
            homes = ast.literal_eval(node.value)
            attached = {name: home for home, names in homes.items() for name in names}
    return _Module(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports, attached)


def _imported_from(names, modules):
    """The modules of these names, and all that they import, however indirectly.

    The `__init__` of a room counts where something is imported from it, not where it only stands above a module.
    """
    waiting, reached = set(names), set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting |= {_home(dotted, modules) for dotted in modules[name].imports} - {None}
    return reached


def _home(dotted, modules):
    """The module of pdsel in which an imported name is; None for a name from elsewhere."""
    above, _, name = dotted.rpartition(".")
    if dotted in modules:
        return dotted
    if above not in modules:
        return None
    attached = modules[above].attached
    return _home(f"{above}.{attached[name]}.{name}", modules) if name in attached else above
