"""Calls that a newcomer gets wrong, one a row: the answer names the thing, its place and the remedy, in one line."""

import numpy as np
import pandas as pd
import pytest

import pdsel
from pdsel.checks import DataError

MARGINS = pd.DataFrame({"honesty": [0.5, -0.2], "helpfulness": [0.1, 0.4]}, index=["p", "q"])
ASPECT = pd.Series({"p": "honesty", "q": "helpfulness"})
SCORES = pd.Series({"p": -1.0, "q": 1.0})
ROW = {"pair_id": "p", "prompt": "Why?", "chosen": "Because.", "rejected": "No.", "aspect": "honesty"}
TINY = {"model": "notesworld", "output_dir": "nowhere"}

CALLS = {
    "pairs from a frame": (
        lambda: pdsel.make_pairs(MARGINS),
        "ratings is a DataFrame, not a datasets.Dataset.*from_pandas",
    ),
    "pairs from a list": (
        lambda: pdsel.make_pairs([ROW]),
        r"ratings is a list, not a datasets.Dataset.*from_list\(ratings\)",
    ),
    "pairs from a path": (lambda: pdsel.make_pairs("a.jsonl"), "ratings is a str.*pass the table itself: load_ratings"),
    "training on a list": (lambda: pdsel.train_dpo([ROW], **TINY), "pairs is a list, not a datasets.Dataset"),
    "training on a frame": (
        lambda: pdsel.train_dpo(pd.DataFrame([ROW]), **TINY),
        "pairs is a DataFrame.*preserve_index",
    ),
    "a proxy of a list": (lambda: pdsel.fit_proxy([ROW], "honesty", model="notesworld"), "pairs is a list"),
    "scores of a frame": (lambda: pdsel.score_margins(pd.DataFrame([ROW]), []), "pairs is a DataFrame"),
    "ratings of a list": (lambda: pdsel.rating_divergence([ROW]), "pairs is a list"),
    "relabelled frame": (lambda: pdsel.relabel(pd.DataFrame([ROW])), "pairs is a DataFrame"),
    "aspects in a list": (
        lambda: pdsel.preference_divergence(MARGINS, ["honesty", "helpfulness"]),
        r"aspect is a list, not a pandas.Series by pair_id.*index=list\(pairs\[.pair_id.\]\)",
    ),
    "aspects in a frame": (
        lambda: pdsel.scale_margins(MARGINS, ASPECT.to_frame("label")),
        r"aspect\[column\], of \['label'\]",
    ),
    "margins in an array": (
        lambda: pdsel.preference_divergence(MARGINS.to_numpy(), ASPECT),
        "margins is a ndarray, not a pandas.DataFrame.*columns=aspects",
    ),
    "margins in a list": (
        lambda: pdsel.scale_margins([[1.0, 2.0]], ASPECT),
        "margins is a list, not a pandas.DataFrame",
    ),
    "scores in a list": (lambda: pdsel.select([0.1, 0.2], 0.5), "scores is a list, not a pandas.Series by pair_id"),
    "scores in an array": (lambda: pdsel.select(np.array([0.1, 0.2]), 0.5), "scores is a ndarray"),
    "scores in a frame": (lambda: pdsel.select(MARGINS, 0.5), r"scores is a DataFrame.*take one of its columns"),
    "a share in text": (lambda: pdsel.select(SCORES, "0.3"), r"share='0.3' is not in \(0, 1\]"),
    "a reset index": (
        lambda: pdsel.preference_divergence(MARGINS, ASPECT.reset_index(drop=True)),
        r"its index is 0, 1, 2, ... and not pair_id, as after reset_index: aspect.set_axis",
    ),
    "weights that name nothing": (
        lambda: pdsel.preference_divergence(MARGINS, ASPECT, weights={"honest": 1, "helpfulness": 1}),
        r"no weight: 1 \(first: honesty\).*\['honest'\] name none of \['honesty', 'helpfulness'\]",
    ),
    "diagnosis of a list": (lambda: pdsel.diagnose(MARGINS, ["honesty", "helpfulness"]), "aspect is a list"),
    "an unknown model": (
        lambda: pdsel.generate("org/nope", ["Why?"]),
        "model='org/nope' is neither a folder nor in the hub",
    ),
    "a misspelled option": (
        lambda: pdsel.fit_proxy([ROW], "honesty", model="notesworld", lr=1e-3),
        "lr: there is no such option. Remedy: did you mean learning_rate",
    ),
    "exporting a frame": (
        lambda: pdsel.export_preferences(pd.DataFrame([ROW]), ["p"], "nowhere"),
        "pairs is a DataFrame",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_answered_in_one_line(name):
    call, answer = CALLS[name]
    with pytest.raises(DataError, match=answer) as told:
        call()
    assert len(str(told.value).splitlines()) == 1
    assert "Remedy" in str(told.value) or "such as" in str(told.value)


def test_a_notebook_shows_the_message_and_no_frames():
    from IPython.testing.globalipapp import get_ipython

    shell = get_ipython()
    if shell is None:
        from IPython.testing.globalipapp import start_ipython

        shell = start_ipython()
    shown = []
    shell._showtraceback = lambda kind, value, lines: shown.append(lines)
    shell.run_cell("import pdsel\npdsel.select([1.0], 0.3)")
    ((line,),) = shown
    assert line.startswith("DataError: scores is a list, not a pandas.Series by pair_id")
