"""The store of computed cells: what is read back, when it is computed anew, and that a cell is whole or absent."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pdsel.artifacts import ArtifactError
from pdsel.data import store as stores
from pdsel.data.store import Store, code_digest, stored_cells
from pdsel.experiments.grid import policy_cell
from pdsel.experiments.proxy_studies import proxy_cell
from pdsel.theory import gain

INDEX = pd.Index(["p", "q"], name="pair_id")
VALUES = {
    "frame": pd.DataFrame({"a": [1.5, np.nan], "b": ["x", "y"]}, index=INDEX),
    "frame with numbers for rows": pd.DataFrame({"a": [1, 2]}),
    "series": pd.Series([1.0, -2.0], index=pd.Index(["x", "x"], name="prompt_id"), name="value"),
    "record": {"kept": ["p", "q"], "seconds": 1.25},
    "rows": [{"accuracy": 0.5}, {"accuracy": 0.75}],
    "frame and record": (pd.DataFrame({"a": [1.0, 2.0]}, index=INDEX), {"seconds": 3.0}),
}


def same(one, other):
    if isinstance(one, tuple):
        return all(same(*parts) for parts in zip(one, other, strict=True))
    return one.equals(other) and one.index.name == other.index.name if hasattr(one, "equals") else one == other


def never():
    raise AssertionError("computed again")


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_is_computed_once_and_read_back_as_it_was(tmp_path, value):
    store = Store(tmp_path)
    assert not store.holds("value", {"n": 1})
    first = store.computed("value", {"n": 1}, lambda: value)
    assert store.holds("value", {"n": 1})
    assert same(first, value) and same(Store(tmp_path).computed("value", {"n": 1}, never), value)
    assert not list(tmp_path.glob("*.p*kl*"))


@pytest.mark.parametrize("change", ["settings", "name", "model", "library", "pdsel", "code"])
def test_a_changed_key_is_another_cell(tmp_path, monkeypatch, change):
    Store(tmp_path).computed("value", {"n": 1}, lambda: {"old": True})
    name, settings, model = "value", {"n": 1}, None
    if change == "settings":
        settings = {"n": 2}
    elif change == "name":
        name = "other"
    elif change == "model":
        model = "another model's digest"
    elif change == "library":
        monkeypatch.setattr(stores, "version", lambda library: "99.0")
    elif change == "pdsel":
        monkeypatch.setattr(stores, "__version__", "99.0")
    else:
        monkeypatch.setattr(stores, "code_digest", lambda *functions: "other code")
    store = Store(tmp_path, model=model)
    assert store.computed(name, settings, lambda: {"old": False}) == {"old": False}


def test_the_libraries_are_those_that_compute():
    needed = {"torch", "transformers", "trl", "peft", "accelerate", "numpy", "pandas", "scipy", "scikit-learn"}
    assert needed <= set(stores.LIBRARIES)


@pytest.fixture
def copied(tmp_path):
    """A function that makes a new copy of pdsel with an edited module; it returns the folder."""

    def copy(edited="", old="", new="\nSETTING = 1\n"):
        package = Path(tempfile.mkdtemp(dir=tmp_path))
        for source in stores.PACKAGE.rglob("*.py"):
            file, text = source.relative_to(stores.PACKAGE), source.read_text()
            if file.as_posix() == edited:
                assert old in text
                text = text.replace(old, new) if old else text + new
            (package / file).parent.mkdir(parents=True, exist_ok=True)
            (package / file).write_text(text)
        return package

    return copy


@pytest.mark.parametrize(
    ("edit", "changes"),
    [
        (["engine/probes.py"], True),  # which the module of the cell reaches by way of the lesson
        (["experiments/proxy_quality.py"], True),
        (["divergence.py", "-1, 1)", "-2, 2)"], True),
        (["divergence.py", '"""Make the margins', '"""Bring the margins'], False),
        (["divergence.py", "# What overflows", "# A number that overflows"], False),
        (["plots/data.py"], False),
        (["pipeline/costs.py"], False),
    ],
)
def test_changed_code_that_a_cell_reaches_never_reads_an_old_cell(copied, edit, changes):
    """Not so a comment, a docstring, or a module that no import leads to."""
    digests = {code_digest(proxy_cell, package=package) for package in (copied(), copied(*edit))}
    assert len(digests) == 1 + changes


def test_a_policy_depends_on_every_rule_and_method(copied):
    before = code_digest(policy_cell, package=copied())
    for file in ("rules/methods.py", "rules/geometry.py", "engine/trainers.py"):
        assert code_digest(policy_cell, package=copied(file)) != before, file


def test_a_name_that_is_imported_on_first_use_leads_to_its_module(copied):
    packages = copied(), copied("evaluation/judges/gold.py")
    for package in packages:
        file = package / "theory.py"
        file.write_text("from pdsel import gold_judge\n" + file.read_text())
    assert len({code_digest(gain, package=package) for package in packages}) == 2


def test_no_module_reads_another_as_an_attribute_of_pdsel():
    """`import pdsel` names no module whose code would count."""
    for file in stores.PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(import pdsel$|from \.)", file.read_text(), re.MULTILINE), file


def test_a_function_from_elsewhere_counts_with_all_of_pdsel(copied):
    packages = copied(), copied("plots/data.py")
    for functions in [(), (same,), (same, proxy_cell)]:
        assert len({code_digest(*functions, package=package) for package in packages}) == 2
    assert code_digest(same) != code_digest()


def test_a_cell_whose_writing_failed_is_computed_again(tmp_path, monkeypatch):
    frame = VALUES["frame"]
    store = Store(tmp_path)
    with monkeypatch.context() as broken, pytest.raises(OSError, match="disk is full"):
        broken.setattr(stores, "writing", _full_for_records(stores.writing))
        store.computed("value", {}, lambda: (frame, {"n": 1}))
    assert not store.holds("value", {})
    assert same(store.computed("value", {}, lambda: (frame, {"n": 2})), (frame, {"n": 2}))


def _full_for_records(writing):
    def failing(path):
        if path.suffix == ".json":
            raise OSError("disk is full")
        return writing(path)

    return failing


def test_what_is_neither_table_nor_record_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cell value: list is not a table. Remedy: return a frame and a record"):
        Store(tmp_path).computed("value", {}, lambda: ([1], {"n": 1}))
    with pytest.raises(TypeError, match="not JSON serializable"):
        Store(tmp_path).computed("value", {}, lambda: {"n": object()})
    assert not Store(tmp_path).holds("value", {})


def test_a_damaged_cell_from_elsewhere_is_refused(tmp_path):
    """Cells of another machine cannot be computed anew, so a changed number is named and not read."""
    store = Store(tmp_path)
    store.computed("table", {"n": 1}, lambda: pd.DataFrame({"value": [1.0]}))
    (record,) = tmp_path.glob("*.json")
    assert len(stored_cells(tmp_path)) == 1
    record.write_text(record.read_text().replace('"n": 1', '"n": 2'))
    with pytest.raises(ArtifactError, match="copy the cell again"):
        stored_cells(tmp_path)
