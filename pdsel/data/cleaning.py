"""Faults of rated prompts: refused in your own file; in public data mended or removed, and counted."""

import math

import pandas as pd

from pdsel.checks import refuse, refuse_repeated
from pdsel.data.layouts import is_unicode, prompt_id

CONTAMINATION = "truthful_qa"  # the source whose prompts are a benchmark's own questions
REMOVED = "removed: "
OR = ", or load the file with clean=True"
FAULTS = {  # in the order in which they are refused
    "no prompt": ("prompt", "is null or empty", f"drop these prompts{OR}"),
    "few": (
        "responses",
        "holds fewer than two responses",
        f"a pair needs two: add responses or drop these prompts{OR}",
    ),
    "no response": ("responses", "holds a null or empty response", f"drop these responses{OR}"),
    "broken": ("prompt or responses", "holds broken Unicode (half a surrogate pair)", f"mend the texts{OR}"),
}


class Faults:
    """Collects the faults of prompts row by row, so that a stream suffices, and refuses them at the end."""

    def __init__(self):
        self.names = []
        self.prompts = {fault: {} for fault in FAULTS}

    def add(self, row):
        """Note the faults of a prompt."""
        self.names.append(row["prompt_id"])
        for fault in _faults(row["prompt"], row["responses"]):
            self.prompts[fault][row["prompt_id"]] = None

    def refuse(self):
        """Refuse duplicate prompts, null or empty texts, and prompts that cannot give a pair."""
        refuse_repeats(self.names)
        for fault, message in FAULTS.items():
            refuse(self.prompts[fault], *message)


def check_responses(rows):
    """Refuse duplicate prompts, null or empty texts, and prompts that cannot give a pair.

    Parameters
    ----------
    rows : iterable of dict
        With `prompt_id, prompt, responses`.
    """
    faults = Faults()
    for row in rows:
        faults.add(row)
    faults.refuse()


def refuse_repeats(names):
    """Refuse ids that occur more than once."""
    ids = pd.Index(list(names))
    refuse_repeated(ids, "prompt_id", "occurs more than once", f"merge or drop the repeated prompts{OR}")


def _faults(prompt, responses):
    if not isinstance(prompt, str) or not prompt.strip():
        yield "no prompt"
    if len(responses) < 2:
        yield "few"
    if any(not isinstance(text, str) or not text.strip() for text in responses):
        yield "no response"
    if not all(is_unicode(text) for text in [prompt, *responses] if isinstance(text, str)):
        yield "broken"


def mend_texts(raw, report):
    """A raw prompt (UltraFeedback's layout) in which halves of surrogate pairs are replaced, so that it can be written.

    >>> report = {}
    >>> mend_texts({"instruction": "a \\ud83d b", "completions": []}, report)["instruction"], report
    ('a \ufffd b', {'mended: texts with broken Unicode': 1})
    """
    mended = dict(raw, instruction=_mended(raw.get("instruction"), report))
    completions = raw.get("completions")
    if isinstance(completions, list):
        mended["completions"] = [
            dict(completion, response=_mended(completion.get("response"), report))
            if isinstance(completion, dict)
            else completion
            for completion in completions
        ]
    return mended


def _mended(text, report):
    if isinstance(text, str) and not is_unicode(text):
        count(report, "mended: texts with broken Unicode")
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def count(report, what, n=1):
    """Add `n` to a line of a report."""
    if n:
        report[what] = report.get(what, 0) + n


def prompt_key(row):
    """Two rows are one prompt if their texts are equal."""
    return prompt_id(row["prompt"]) if isinstance(row["prompt"], str) else ""


def merge_prompts(rows):
    """Merge the rows of a prompt into one row with all responses; id and source are those of the first."""
    first, *others = rows
    merged = dict(first)
    for row in others:
        both = {
            aspect: ratings_of(merged, aspect) + ratings_of(row, aspect)
            for aspect in merged["ratings"] | row["ratings"]
        }
        lists = {name: merged[name] + row[name] for name in ("responses", "models", "overall")}
        merged |= lists | {"ratings": both}
    return merged


def ratings_of(row, aspect):
    """A row's ratings on an aspect, NaN for a row that lacks it."""
    return row["ratings"].get(aspect, [math.nan] * len(row["responses"]))


def clean_responses(row, report):
    """The row without empty and repeated responses (the first of equal texts stays), or `None` if no pair remains.

    >>> report = {}
    >>> row = {"responses": ["a", "", "a", "b"], "models": list("mnop"), "overall": [1, 2, 3, 4],
    ...        "ratings": {"honesty": [1, 2, 3, 4]}}
    >>> clean_responses(row | {"prompt": "q"}, report)["models"], report
    (['m', 'p'], {'removed: empty responses': 1, 'removed: responses equal to another of their prompt': 1})
    """
    texts = row["responses"]
    written = [i for i, text in enumerate(texts) if isinstance(text, str) and text.strip()]
    kept = [i for i in written if texts.index(texts[i]) == i]
    count(report, REMOVED + "empty responses", len(texts) - len(written))
    count(report, REMOVED + "responses equal to another of their prompt", len(written) - len(kept))
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        count(report, REMOVED + "prompts without text")
        return None
    if len(kept) < 2:
        count(report, REMOVED + "prompts with fewer than two responses")
        return None
    lists = {name: [row[name][i] for i in kept] for name in ("responses", "models", "overall")}
    return row | lists | {"ratings": {name: [values[i] for i in kept] for name, values in row["ratings"].items()}}


def clean_rows(rows, occurrences, contaminated, report):
    """The usable rows of a stream, with repeated prompts merged (at the place of the last one).

    Parameters
    ----------
    rows : iterable of dict
        Parsed prompts.
    occurrences : dict
        Prompt key to the number of rows with this prompt.
    contaminated : set
        Keys of the prompts to leave out.
    report : dict
        Counts what was done.

    Yields
    ------
    dict
    """
    waiting = {}
    for row in rows:
        key = prompt_key(row)
        if key in contaminated:
            count(report, REMOVED + "prompts of TruthfulQA, a benchmark")
            continue
        same = waiting.setdefault(key, [])
        same.append(row)
        if len(same) == occurrences[key]:
            count(report, "merged: rows with a prompt seen before", len(same) - 1)
            cleaned = clean_responses(merge_prompts(waiting.pop(key)), report)
            if cleaned is not None:
                yield cleaned
