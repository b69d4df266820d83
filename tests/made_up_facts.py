"""A made-up corpus in the layout of `pdsel.data.webnlg`, and a clone of the challenge's repository in its layout."""

import json
from pathlib import Path

from pdsel.data.webnlg import ASPECTS, HUMAN, RATED, REFERENCES, SUBMISSIONS, instruction

SYSTEMS = ["plain", "wordy", "short", "wrong"]
N_RATED, N_DEMONSTRATIONS, N_PROMPTS = 20, 12, 5  # in each half two inputs for each of the five aspects


def facts_of(number):
    """The facts of an input: one or two about a town."""
    facts = [[f"Town {number}", "leader", f"Person {number}"], [f"Town {number}", "country", f"Land {number}"]]
    return facts[: 1 + number % 2]


def text_of(number, system="plain"):
    """What a system says of an input."""
    person = f"Person {number}" if system != "wrong" else f"Person {number + 1}"
    text = f"Town {number} is led by {person}."
    if system == "wordy":
        text = f"It can be said that {text}"
    if number % 2 and system != "short":
        text += f" It lies in Land {number}."
    return text


def rating(number, system, aspect):
    """Points of a made-up person: each aspect has an order of the systems, which varies a little with the input."""
    place = (SYSTEMS.index(system) + ["correctness", "fluency"].count(aspect) + number * len(aspect)) % len(SYSTEMS)
    return 95.0 - 10 * place - number


def write_corpus(folder):
    """Write the three files; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rated = [
        {
            "source": "webnlg2020",
            "instruction": instruction(facts_of(number)),
            "facts": facts_of(number),
            "category": "City",
            "completions": [
                {
                    "model": system,
                    "response": text_of(number, system),
                    "annotations": {aspect: {"Rating": rating(number, system, aspect)} for aspect in ASPECTS},
                    "overall_score": None,
                }
                for system in SYSTEMS
            ],
        }
        for number in range(N_RATED)
    ]
    shown = range(100, 100 + N_DEMONSTRATIONS)
    asked = range(200, 200 + N_PROMPTS)
    files = {
        "ratings.jsonl": rated,
        "demonstrations.jsonl": [_row(number, texts=[text_of(number)]) for number in shown],
        "prompts.jsonl": [_row(number, references=[text_of(number), text_of(number, "wordy")]) for number in asked],
    }
    for name, rows in files.items():
        Path(folder, name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _row(number, **texts):
    return {"instruction": instruction(facts_of(number)), "facts": facts_of(number)} | texts


def write_clone(folder):
    """Write a clone of the challenge with three test inputs, of which the second is rated, and a development set.

    Returns
    -------
    (pathlib.Path, pathlib.Path)
        The clone, and the folder of the development set.
    """
    clone, development = Path(folder, "challenge-2020"), Path(folder, "release_v3.0", "en", "dev")
    entries = [{str(number): _entry(number)} for number in (1, 2, 3)]
    rated = [_rated("plain", 90.123456), _rated("wrong", 10.0), _rated(HUMAN, 99.0)]
    _write(clone / REFERENCES, json.dumps({"entries": entries}))
    _write(clone / RATED, json.dumps(rated))
    for system in ("plain", "wrong"):
        lines = [text_of(number, system) for number in (1, 2, 3)]
        _write(clone / SUBMISSIONS / system / "primary.en", "\n".join(lines) + "\n")
    _write(
        development / "1triples" / "City.xml",
        "<benchmark><entries><entry category='City' eid='Id1' size='1'><modifiedtripleset>"
        '<mtriple>Town_9 | leader | "Person_9"</mtriple></modifiedtripleset>'
        "<lex comment='bad' lid='Id1'>Town 9 leads.</lex><lex comment='good' lid='Id2'>Person 9 leads Town 9.</lex>"
        "</entry></entries></benchmark>",
    )
    return clone, development


def _entry(number):
    names = ("subject", "property", "object")
    facts = [dict(zip(names, (part.replace(" ", "_") for part in fact), strict=True)) for fact in facts_of(number)]
    texts = [{"comment": "good", "lex": text_of(number), "xml_id": "Id1", "lang": "en"}]
    return {"category": "City", "size": str(len(facts)), "modifiedtripleset": facts, "lexicalisations": texts}


def _rated(system, points):
    return {"submission_id": system, "sample_id": "2", "size": "1", "category": "City"} | dict.fromkeys(
        ASPECTS.values(), points
    )


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
