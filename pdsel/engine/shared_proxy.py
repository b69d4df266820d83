"""One reward model for all aspects: the aspect it should judge by is named in the input."""

from pathlib import Path

import torch
from tokenizers import AddedToken

from pdsel.engine.models import load_causal, load_tokenizer, quiet


def name_aspect(prompt, aspect):
    """The prompt with the aspect named in front, for a string or a list of chat messages.

    >>> name_aspect("Why is the sky blue?", "honesty")
    'honesty\\nWhy is the sky blue?'
    >>> name_aspect([{"role": "user", "content": "Why?"}], "honesty")
    [{'role': 'user', 'content': 'honesty\\nWhy?'}]
    """
    if isinstance(prompt, str):
        return f"{aspect}\n{prompt}"
    first, *rest = prompt
    return [{**first, "content": name_aspect(first["content"], aspect)}, *rest]


def named_pairs(pairs):
    """The pairs table with each prompt naming its own pair's aspect."""
    prompts = [name_aspect(prompt, aspect) for prompt, aspect in zip(pairs["prompt"], pairs["aspect"], strict=True)]
    with quiet():
        return pairs.remove_columns("prompt").add_column("prompt", prompts)


def named_start(model, aspects, folder, *, seed=0):
    """A model that can read the aspects' names, to start from and to be the reference.

    Parameters
    ----------
    model : str
        Path or hub id.
    aspects : list of str
    folder : str or Path
        Where a copy is written if it has to be.
    seed : int
        Of the new words' vectors.

    Returns
    -------
    str
        `model` itself where its tokenizer spells every name out; else `folder`, a copy with the names added to the
        vocabulary (a tokenizer of whole words knows none of them).
    """
    tokenizer = load_tokenizer(model)
    unknown = tokenizer.unk_token_id
    new = [
        name
        for name in aspects
        if unknown is not None and unknown in tokenizer(name, add_special_tokens=False)["input_ids"]
    ]
    if not new:
        return str(model)
    net = load_causal(model)
    tokenizer.add_tokens([AddedToken(name, single_word=True) for name in new])
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        net.resize_token_embeddings(len(tokenizer))
    Path(folder).mkdir(parents=True, exist_ok=True)
    with quiet():
        net.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)
