"""People's ratings of texts about facts (WebNLG challenge 2020, English): a folder of three files, and how to make it.

The folder holds `ratings.jsonl` (UltraFeedback's layout, with the `facts` of each input; 16 systems, five aspects, 0-100),
`demonstrations.jsonl` (`instruction, facts, texts`: inputs with a human text, for supervised fine-tuning) and `prompts.jsonl`
(`instruction, facts, references`: inputs that nobody rated, each with human texts, for evaluation). Texts and ratings have
the licence CC BY-NC-SA 4.0, so this package ships none of them.

`write_folder` makes the three files from a clone of https://github.com/WebNLG/challenge-2020 and the development set of
https://gitlab.com/shimorina/webnlg-dataset (`release_v3.0/en/dev`).
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from datasets import Dataset

from pdsel.artifacts import writing
from pdsel.checks import DataError
from pdsel.data.layouts import prompt_id

FILES = ("ratings.jsonl", "demonstrations.jsonl", "prompts.jsonl")
ASPECTS = {  # the challenge's names
    "correctness": "Correctness",
    "datacoverage": "DataCoverage",
    "fluency": "Fluency",
    "relevance": "Relevance",
    "textstructure": "TextStructure",
}
HUMAN = "WebNLG-2020-reference"  # among the rated systems: the human text, which is a reference here
RATED = Path("evaluation", "human-evaluation", "results", "en", "english_humeval_data_all_teams.json")
REFERENCES = Path("evaluation", "references", "references-en.json")
SUBMISSIONS = Path("submissions", "rdf2text", "en")


@dataclass(frozen=True)
class Corpus:
    """What the folder holds.

    `ratings` is the file for `pdsel.load_ratings`; `rated` and `prompts` are frames by `prompt_id` with the columns `prompt,
    facts, references`, of the inputs that people rated (whose references are empty lists where the folder has none) and of
    those for evaluation; `demonstrations` has the columns `prompt, completion`.
    """

    ratings: Path
    rated: pd.DataFrame
    demonstrations: Dataset
    prompts: pd.DataFrame


def is_there(folder):
    """Whether a folder holds the three files."""
    return folder is not None and all(Path(folder, name).is_file() for name in FILES)


def read_corpus(folder):
    """Read the folder.

    Raises
    ------
    ValueError
        If a file is absent; the message is one sentence that says how to make the folder.
    """
    if not is_there(folder):
        raise DataError(
            f"data={str(folder)!r} lacks some of {', '.join(FILES)} (WebNLG 2020, not shipped because of its licence): give "
            "a folder that has them, or make one with `python -m pdsel.pipeline webnlg`"
        )
    path = {name: Path(folder, name) for name in FILES}
    demonstrations, prompts = (_rows(path[name]) for name in FILES[1:])
    return Corpus(
        ratings=path["ratings.jsonl"],
        rated=_by_prompt(_rows(path["ratings.jsonl"])),
        demonstrations=Dataset.from_dict(
            {
                "prompt": [row["instruction"] for row in demonstrations],
                "completion": [row["texts"][0] for row in demonstrations],
            }
        ),
        prompts=_by_prompt(prompts),
    )


def _rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _by_prompt(rows):
    """Rows as a frame by `prompt_id`."""
    table = pd.DataFrame(
        {
            "prompt": [row["instruction"] for row in rows],
            "facts": [row["facts"] for row in rows],
            "references": [row.get("references", []) for row in rows],
        }
    )
    return table.set_index(table["prompt"].map(prompt_id).rename("prompt_id"))


def instruction(facts):
    """The prompt that asks for a text about facts.

    >>> print(instruction([["Aarhus", "leader", "Jacob Bundsgaard"]]))
    Write these facts as text:
    Aarhus | leader | Jacob Bundsgaard
    """
    return "\n".join(["Write these facts as text:", *map(fact_line, facts)])


def fact_line(fact):
    """A fact as the prompt writes it.

    >>> fact_line(["Aarhus", "leader", "Jacob Bundsgaard"])
    'Aarhus | leader | Jacob Bundsgaard'
    """
    return " | ".join(fact)


def write_folder(clone, development, folder):
    """Make the folder from a clone of the challenge's repository.

    Parameters
    ----------
    clone : str or Path
        Of `challenge-2020`: its submissions, references and ratings are read.
    development : str or Path
        A folder of the corpus's XML files, searched with its sub-folders.
    folder : str or Path
        Where the three files go.

    Returns
    -------
    dict
        File name to number of lines.

    Raises
    ------
    ValueError
        If a file of the clone is absent, or the development folder has no XML file.

    Notes
    -----
    The inputs of the test set are numbered from 1; line n of a submission answers input n.
    """
    clone = Path(clone)
    inputs = _test_inputs(_json(clone / REFERENCES))
    rated = _json(clone / RATED)
    texts = {path.parent.name: path.read_text(encoding="utf-8").splitlines() for path in _submissions(clone)}
    files = {
        "ratings.jsonl": _ratings(inputs, rated, texts),
        "demonstrations.jsonl": _demonstrations(development),
        "prompts.jsonl": _prompts(inputs, {row["sample_id"] for row in rated}),
    }
    for name, rows in files.items():
        with writing(Path(folder, name)) as scratch:
            scratch.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return {name: len(rows) for name, rows in files.items()}


def _json(path):
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Remedy: give a whole clone of https://github.com/WebNLG/challenge-2020"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _submissions(clone):
    paths = sorted((clone / SUBMISSIONS).glob("*/primary.en"))
    if not paths:
        raise DataError(f"{clone / SUBMISSIONS} holds no */primary.en. Remedy: give a whole clone of the challenge")
    return paths


def _test_inputs(references):
    """Number of an input to its `category, facts, texts`."""
    inputs = {}
    for entry in references["entries"]:
        for number, found in entry.items():
            facts = [
                [_plain(fact[part]) for part in ("subject", "property", "object")]
                for fact in found["modifiedtripleset"]
            ]
            texts = [lexicalisation["lex"] for lexicalisation in found["lexicalisations"]]
            inputs[number] = {"category": found["category"], "facts": facts, "texts": texts}
    return inputs


def _plain(name):
    """A name of DBpedia as words.

    >>> _plain('"Glen_Ridge,_New_Jersey"')
    'Glen Ridge, New Jersey'
    """
    return name.replace("_", " ").strip('"').strip()


def _ratings(inputs, rated, texts):
    """The rated inputs in UltraFeedback's layout, with their human texts as references."""
    completions = defaultdict(list)
    for row in rated:
        if row["submission_id"] == HUMAN:
            continue
        completions[row["sample_id"]].append(
            {
                "model": row["submission_id"],
                "response": texts[row["submission_id"]][int(row["sample_id"]) - 1].strip(),
                "annotations": {ours: {"Rating": round(row[theirs], 4)} for ours, theirs in ASPECTS.items()},
                "overall_score": None,
            }
        )
    rows = []
    for number in sorted(completions, key=int):
        found = inputs[number]
        asked = {"source": "webnlg2020", "instruction": instruction(found["facts"]), "facts": found["facts"]}
        rows.append(
            asked | {"category": found["category"], "references": found["texts"], "completions": completions[number]}
        )
    return rows


def _prompts(inputs, rated):
    """The inputs that nobody rated; of those with one instruction, the first."""
    rows = {}
    for number, found in inputs.items():
        if number not in rated:
            asked = instruction(found["facts"])
            rows.setdefault(asked, {"instruction": asked, "facts": found["facts"], "references": found["texts"]})
    return list(rows.values())


def _demonstrations(development):
    """One human text for each input of the development set: the first that was marked as good."""
    files = sorted(Path(development).rglob("*.xml"))
    if not files:
        raise DataError(f"development={str(development)!r} holds no .xml file. Remedy: give release_v3.0/en/dev")
    rows = {}
    for file in files:
        for entry in ElementTree.parse(file).getroot().iter("entry"):
            facts = [[_plain(part) for part in fact.text.split(" | ")] for fact in entry.iter("mtriple")]
            texts = [lex.text.strip() for lex in entry.iter("lex") if lex.get("comment") == "good"]
            if texts:
                asked = instruction(facts)
                rows.setdefault(asked, {"instruction": asked, "facts": facts, "texts": texts[:1]})
    return list(rows.values())
