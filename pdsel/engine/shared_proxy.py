"""One reward model for all aspects, whose prompts name the aspect to judge by."""

from pathlib import Path

import torch
from tokenizers import AddedToken

from pdsel.engine.models import load_causal, load_tokenizer, quiet


def name_aspect(prompt, aspect):
    """The prompt with the aspect's name in front of it, as a string or a list of chat messages.

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
    """The pairs, with prompts that name the aspect of the pair."""
    prompts = [name_aspect(prompt, aspect) for prompt, aspect in zip(pairs["prompt"], pairs["aspect"], strict=True)]
    with quiet():
        return pairs.remove_columns("prompt").add_column("prompt", prompts)


def named_start(model, aspects, folder, *, seed=0):
    """A model whose tokenizer knows the names of the aspects: the start of the training and its reference.

    Parameters
    ----------
    model : str
        Path or hub id.
    aspects : list of str
    folder : str or Path
        Where a copy is written if names have to be added.
    seed : int
        For the vectors of the new words.

    Returns
    -------
    str
        `model` itself if its tokenizer can spell every name; otherwise `folder`, a copy with the names added to the vocabulary
        (a tokenizer of whole words knows none of them).
    """
    tokenizer = load_tokenizer(model)
    unknown = tokenizer.unk_token_id
    new = []
    for name in aspects:
        ids = tokenizer(name, add_special_tokens=False)["input_ids"]
        if unknown is not None and unknown in ids:
            new.append(name)
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
