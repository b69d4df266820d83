"""Evaluation prompts: AlpacaEval's 805, the five open sets behind AW, any local file, and the notes world's five families.

The paper's AW is a mean over the five open sets. Their offline counterparts are the families of the notes world, which
differ in what they ask for.
"""

from pathlib import Path

from datasets import Dataset, Features, Value, concatenate_datasets

from pdsel.checks import DataError, refuse
from pdsel.data.layouts import prompt_id
from pdsel.data.outputs import read_rows
from pdsel.data.sources import fetch
from pdsel.notesworld.world import FAMILIES, draw_prompts

FEATURES = Features({name: Value("string") for name in ("prompt_id", "prompt", "dataset")})
FIELDS = ["instruction", "Instruction", "prompt", "question", "text", "turns", "conversations", "messages"]
ALPACA_EVAL = ("tatsu-lab/alpaca_eval", "alpaca_eval.json", "57530fed23a308e771c06bba55cb49b7e7625711")
LIMA = ("GAIR/lima", "test.jsonl", None)  # gated, so that its revisions cannot be looked up
WIZARDLM = "https://github.com/nlpxucan/WizardLM/blob/ce0d433589335d419aa8101abd71685ae7d187f3/WizardLM/data/WizardLM_testset.jsonl"


def load_prompts(name_or_path, *, revision=None, limit=None):
    """Load evaluation prompts as a table.

    Parameters
    ----------
    name_or_path : str or Path
        "alpaca_eval" (805 prompts), one of the open sets "vicuna" (80), "koala" (156), "self_instruct" (252), "lima"
        (300, gated) and "wizardlm" (218, only as a local file), or a local `.json`, `.jsonl` or `.parquet` file.

        The first four come from one file, AlpacaEval's, which holds all prompts of Vicuna and Self-Instruct and 156 of
        Koala's 180; for all of Koala, give the original `koala_test_set.jsonl`. LIMA's file needs a hub account that has
        accepted its terms.

        The prompt of a row of a local file is the first of these fields that it has: `instruction, Instruction, prompt,
        question, text, turns, conversations, messages`. The prompt of a conversation is the first turn that is not the
        system's. An `input` (also of Self-Instruct's first instance) follows after an empty line.
    revision : str, optional
        The hub revision. Default: for AlpacaEval's file its last change (June 2023), for LIMA the newest.
    limit : int, optional
        The first `limit` prompts.

    Returns
    -------
    datasets.Dataset
        `prompt_id, prompt, dataset` in the order of the file. A repeated prompt stays, since the size of a set is part of its
        definition, and both rows have one `prompt_id`. `dataset` is the name that the row gives (AlpacaEval's: helpful_base,
        koala, oasst, selfinstruct, vicuna), or the name of the set or file.

    Raises
    ------
    ValueError
        If the hub cannot be reached (the message says what to download), or for rows without a prompt.

    Examples
    --------
    >>> import json, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "mine.json")
    ...     _ = path.write_text(json.dumps([{"instruction": "Translate.", "input": "Guten Tag"}, {"turns": ["Why?"]}]))
    ...     load_prompts(path)["prompt"][:]
    ['Translate.\\n\\nGuten Tag', 'Why?']
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit}: read at least one prompt, or None for all")
    if str(name_or_path) in SETS:
        return _first(SETS[str(name_or_path)](revision), limit)
    if Path(name_or_path).suffix == "":
        raise DataError(
            f"name_or_path={str(name_or_path)!r}: use one of {list(SETS)}, or the path of a .json, .jsonl or "
            ".parquet file"
        )
    return _first(_prompts(name_or_path, Path(name_or_path).stem), limit)


def family_prompts(n_each, *, seed=0):
    """A table of `n_each` held-out prompts from each family of the notes world, like that of `load_prompts`.

    >>> prompts = family_prompts(2)
    >>> prompts["dataset"][:]
    ['brief', 'brief', 'long', 'long', 'careful', 'careful', 'bold', 'bold', 'crowded', 'crowded']
    """
    return _table(
        [(prompt, name) for name in FAMILIES for prompt in draw_prompts(n_each, split="eval", seed=seed, family=name)]
    )


def held_out_prompts(name_or_path, n=None):
    """Prompts for win rates: `n` from the evaluation split of "notesworld", or the first `n` of a set, see `load_prompts`.

    >>> held_out_prompts("notesworld", 2).column_names
    ['prompt_id', 'prompt', 'dataset']
    """
    if name_or_path == "notesworld":
        prompts = draw_prompts(_number(n), split="eval", seed=0)
        return _table([(prompt, "notesworld") for prompt in prompts])
    return load_prompts(name_or_path, limit=n)


def open_set_prompts(names, n_each=None):
    """Prompts for winning scores: the first `n_each` of every set; "notesworld" stands for its five families."""
    if not names:
        raise DataError("names: no set of prompts. Remedy: give some of 'notesworld', the open sets, or files")
    return concatenate_datasets(
        [
            family_prompts(_number(n_each)) if name == "notesworld" else load_prompts(name, limit=n_each)
            for name in names
        ]
    )


def _number(n):
    """The number of prompts to draw from the notes world, which has endlessly many."""
    if n is None:
        raise DataError("n=None: the notes world has no last prompt. Remedy: give a number")
    return n


def _first(table, limit):
    return table if limit is None else table.select(range(min(limit, len(table))))


def _table(pairs):
    """`(prompt, dataset)` pairs as a table."""
    rows = [{"prompt_id": prompt_id(prompt), "prompt": prompt, "dataset": name} for prompt, name in pairs]
    return Dataset.from_list(rows, features=FEATURES)


def _prompts(path, name):
    """The prompts of a file in any known layout."""
    rows = read_rows(path)
    found = [_prompt(row) for row in rows]
    refuse(
        [i for i, prompt in enumerate(found) if not prompt.strip()],
        f"{path}: prompt",
        "is missing or empty in row",
        f"give one of {FIELDS}; the first row has {list(rows[0])}",
    )
    return _table([(prompt, str(row.get("dataset") or name)) for prompt, row in zip(found, rows, strict=True)])


def _prompt(row):
    """The prompt of a row, or "" if it has none."""
    field = next((name for name in FIELDS if row.get(name)), None)
    parts = [_opening(row[field]) if field else "", row.get("input") or _first_input(row.get("instances"))]
    return "\n\n".join(part for part in parts if isinstance(part, str) and part.strip())


def _first_input(instances):
    """The input of Self-Instruct's first instance, from a list of objects or (in Parquet) an object of lists."""
    if isinstance(instances, list):
        instances = instances[0] if instances else {}
    given = (instances or {}).get("input")
    return next(iter(given), "") if isinstance(given, list) else given


def _opening(value):
    """The text that opens a conversation: the text itself, or the first turn that is not the system's."""
    if isinstance(value, list):
        turns = [
            turn for turn in value if not (isinstance(turn, dict) and turn.get("role", turn.get("from")) == "system")
        ]
        return _opening(turns[0]) if turns else ""
    if isinstance(value, dict):
        return _opening(value.get("content") or value.get("value"))
    return value if isinstance(value, str) else ""


def _fetch(repository, file, pinned, revision):
    page = f"https://huggingface.co/datasets/{repository}/blob/{revision or pinned or 'main'}/{file}"
    remedy = f"download {page} and give the path of the file; for a gated file, accept its terms first"
    return fetch(repository, [file], revision or pinned, remedy)[0]


def _alpaca_eval(revision):
    return _prompts(_fetch(*ALPACA_EVAL, revision), "alpaca_eval")


def _part(name):
    """One of the sets that AlpacaEval consists of."""

    def load(revision):
        table = _alpaca_eval(revision)
        kept = [i for i, found in enumerate(table["dataset"]) if found == name]
        if not kept:
            raise DataError(f"dataset: AlpacaEval's file has no rows of {name!r}. Remedy: leave revision at None")
        return table.select(kept)

    return load


def _lima(revision):
    return _prompts(_fetch(*LIMA, revision), "lima")


def _wizardlm(revision):
    raise DataError(
        f"wizardlm: is not on any hub that we know. Remedy: download {WIZARDLM} and give the path of the file"
    )


SETS = {
    "alpaca_eval": _alpaca_eval,
    "vicuna": _part("vicuna"),
    "koala": _part("koala"),
    "self_instruct": _part("selfinstruct"),
    "wizardlm": _wizardlm,
    "lima": _lima,
}
