"""The store of computed cells: what is read back, when it is computed anew, and that a cell is whole or absent."""

import numpy as np
import pandas as pd
import pytest

from pdsel.data import store as stores
from pdsel.data.store import Store, code_digest

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
        monkeypatch.setattr(stores.pdsel, "__version__", "99.0")
    else:
        monkeypatch.setattr(stores, "code_digest", lambda *functions: "other code")
    store = Store(tmp_path, model=model)
    assert store.computed(name, settings, lambda: {"old": False}) == {"old": False}


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("def f(x):\n    return x  # said otherwise\n", False),
        ('def f(x):\n    """Said otherwise."""\n    return x\n', False),
        ("def f(x):\n    return -x\n", True),
    ],
    ids=["comment", "docstring", "statement"],
)
def test_changed_code_never_reads_an_old_cell(tmp_path, monkeypatch, source, changes):
    """A comment or a docstring is not changed code."""

    def forget():
        for cached in (code_digest, stores._digest_of_rooms_below):
            cached.cache_clear()

    def digest_with(text):
        package = tmp_path / "package"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text(text)
        monkeypatch.setattr(stores.pdsel, "__file__", str(package / "__init__.py"))
        forget()
        return code_digest()

    try:
        assert (digest_with("def f(x):\n    return x\n") != digest_with(source)) == changes
    finally:
        forget()


def test_the_code_of_the_functions_modules_counts():
    from pdsel.rules.geometry import d_optimal
    from pdsel.rules.margins import implicit

    assert len({code_digest(), code_digest(implicit), code_digest(d_optimal)}) == 3


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
