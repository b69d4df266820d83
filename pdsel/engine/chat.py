"""Turns pairs into chat messages, and drops pairs that are too long for a model, once for all methods."""

import re

import pandas as pd

from pdsel.checks import DataError, check_pairs
from pdsel.data.messages import as_answer
from pdsel.engine.models import load_tokenizer, quiet
from pdsel.engine.scoring import encode

CHUNK = 1000  # rows whose texts are in memory at once
TURN = re.compile(r"\s*<extra_id_1>(User|Assistant)\n")  # separates the turns of a conversation in HelpSteer2


def as_messages(pairs, *, system=None):
    """Turn the strings of pairs into chat messages, for a model that was trained on chats.

    TRL and the scoring functions apply the tokenizer's template to messages, once, and none to strings. Lists of messages stay
    as they are. A conversation in HelpSteer2's notation becomes one message for each turn.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table. Columns of strings become columns of messages; `pair_id` stays.
    system : str, optional
        A system message before every prompt that was a string; some templates (such as Gemma's) refuse it.

    Returns
    -------
    datasets.Dataset

    >>> from datasets import Dataset
    >>> row = {"pair_id": ["a"], "prompt": ["Why?"], "chosen": ["So."], "rejected": ["No."], "aspect": ["honesty"]}
    >>> as_messages(Dataset.from_dict(row))[0]["chosen"]
    [{'role': 'assistant', 'content': 'So.'}]
    """
    check_pairs(pairs)
    before = [] if system is None else [{"role": "system", "content": system}]

    def turns(rows):
        return {
            "prompt": [[*before, *conversation(text)] if isinstance(text, str) else text for text in rows["prompt"]],
            **{side: [as_answer(text) for text in rows[side]] for side in ("chosen", "rejected")},
        }

    with quiet():
        return pairs.map(turns, batched=True, batch_size=CHUNK)


def token_counts(pairs, *, model):
    """Count the tokens of prompt and response as the model reads them, with template and special tokens.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table, of strings or of chat messages.
    model : str
        The model whose tokenizer counts.

    Returns
    -------
    pandas.DataFrame, shape (n, 2)
        Index `pair_id`, columns `chosen` and `rejected`.
    """
    tokenizer = load_tokenizer(model)
    counts = {"chosen": [], "rejected": []}
    for start in range(0, len(pairs), CHUNK):
        part = pairs.select(range(start, min(start + CHUNK, len(pairs))))
        prompts = list(part["prompt"])
        for side in counts:
            counts[side] += [len(ids) for ids, _ in encode(tokenizer, prompts, list(part[side]))]
    return pd.DataFrame(counts, index=pd.Index(list(pairs["pair_id"]), name="pair_id"))


def fitting(pairs, *, model, max_length):
    """The pairs whose sides both fit, and how many do not.

    TRL's trainers treat long texts differently: the reward trainer drops a pair with a side over `max_length`, and the DPO
    trainer cuts the side, so that the response lacks its end. Dropping such pairs before anything is scored, selected or
    trained gives every method the same pool.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table, of strings or of chat messages.
    model : str or list of str
        The models that will read the pairs (policy, proxies); a pair must fit all of them.
    max_length : int
        Tokens of prompt and response together; give the same number to training and scoring. Leave room for the name of the
        aspect, which proxies of kind "shared" read as well.

    Returns
    -------
    (datasets.Dataset, pandas.Series)
        The pairs that fit, in their order; and `n` (given pairs), `over` (dropped pairs), `share` (of dropped pairs) and
        `longest` (tokens of the longest side of any pair).

    Raises
    ------
    ValueError
        If no pair fits, or for a pairs table that `check_pairs` refuses.
    """
    check_pairs(pairs)
    models = list(dict.fromkeys([model] if isinstance(model, str) else model))
    by_model = [token_counts(pairs, model=name).max(axis=1) for name in models]
    longest = pd.concat(by_model, axis=1).max(axis=1)
    fits = (longest <= max_length).to_numpy()
    report = pd.Series(
        {"n": len(pairs), "over": int((~fits).sum()), "share": float((~fits).mean()), "longest": int(longest.max())},
        dtype=object,
    )
    if not fits.any():
        raise DataError(
            f"max_length={max_length}: none of {len(pairs)} pairs fits; the shortest has {longest.min()} tokens. Remedy: "
            "raise max_length"
        )
    return pairs.select(fits.nonzero()[0]), report


def conversation(text):
    """The messages of a prompt: one, or several for a conversation in HelpSteer2's notation that ends with the user.

    >>> conversation("Hi\\n<extra_id_1>Assistant\\nHo!\\n<extra_id_1>User\\nWhy?")[1:]
    [{'role': 'assistant', 'content': 'Ho!'}, {'role': 'user', 'content': 'Why?'}]
    """
    first, *rest = TURN.split(text)
    roles, texts = ["user", *map(str.lower, rest[::2])], [first, *rest[1::2]]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        return [{"role": "user", "content": text}]
    return [{"role": role, "content": content} for role, content in zip(roles, texts, strict=True)]
