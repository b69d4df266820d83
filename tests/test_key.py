"""The API key of a judge's endpoint: where it is read, and that no form of it is shown."""

import json

import pytest

from pdsel.checks import DataError
from pdsel.evaluation.judges.key import EnvironmentKey

KEY = 'sk-a/"b\\c/12345'


@pytest.mark.parametrize(
    "form", [KEY, json.dumps(KEY)[1:-1], KEY.replace("/", r"\/")], ids=["as it is", "in JSON", "with slashes escaped"]
)
def test_every_form_of_the_key_is_hidden(monkeypatch, form):
    monkeypatch.setenv("A_KEY", f" {KEY}\n")
    assert EnvironmentKey("A_KEY").hide(f"before {form} after {form}") == "before [key] after [key]"


@pytest.mark.parametrize(("key", "shown"), [("none", "none"), ("1234567", "1234567"), ("12345678", "[key]")])
def test_a_placeholder_is_no_secret(monkeypatch, key, shown):
    monkeypatch.setenv("A_KEY", key)
    assert EnvironmentKey("A_KEY").hide(f"said {key}") == f"said {shown}"


def test_without_a_key_nothing_is_hidden(monkeypatch):
    monkeypatch.delenv("A_KEY", raising=False)
    assert EnvironmentKey("A_KEY").read() == ""
    assert EnvironmentKey("A_KEY").hide("as it is") == "as it is"


@pytest.mark.parametrize("variable", ["sk-secret", "lower", "1A", ""])
def test_what_is_no_variable_is_refused_and_not_shown(variable):
    with pytest.raises(DataError, match="key_variable") as error:
        EnvironmentKey(variable)
    assert not variable or variable not in str(error.value)


def test_a_key_with_blanks_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("A_KEY", "sk secret")
    with pytest.raises(DataError, match="A_KEY: has characters") as error:
        EnvironmentKey("A_KEY").read()
    assert "secret" not in str(error.value)
