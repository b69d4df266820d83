"""Numbers for texts: log-probabilities of responses and rewards of classifiers, in length-sorted batches.

Each distinct text is run once, and texts of like length share a batch, so that padding is rare; results come back in the
order asked for.
"""

import numpy as np
import torch
from tqdm.auto import tqdm

from pdsel.checks import DataError, refuse
from pdsel.data.messages import answer_text
from pdsel.engine.errors import explained
from pdsel.engine.models import device, load_causal, load_classifier, load_tokenizer

BATCH_TOKENS = 8192  # padded tokens a batch


def response_logps(model, prompts, responses, *, max_length=1024, batch_tokens=BATCH_TOKENS):
    """Log-probability of each whole response (and the end of text) given its prompt.

    Parameters
    ----------
    model : str
        Path or hub id of a causal model.
    prompts, responses : list of str or of chat messages, length n
    max_length : int
        Longer texts are cut at the end, as TRL cuts them.
    batch_tokens : int
        Size of a batch; memory, not results, depends on it.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Nats.
    """

    def score(net, ids, mask, n_prompt):
        logps = torch.log_softmax(net(input_ids=ids, attention_mask=mask).logits[:, :-1].float(), dim=-1)
        token_logps = logps.gather(-1, ids[:, 1:, None])[..., 0]
        position = torch.arange(1, ids.shape[1], device=ids.device)
        return (token_logps * (mask[:, 1:] * (position >= n_prompt[:, None]))).sum(dim=1)

    return score_texts(load_causal, model, prompts, responses, score, max_length, batch_tokens)


def classifier_rewards(model, prompts, responses, *, max_length=1024, batch_tokens=BATCH_TOKENS):
    """The scalar reward of each response from a sequence classifier; arguments as in `response_logps`.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Logits.
    """

    def score(net, ids, mask, n_prompt):
        return net(input_ids=ids, attention_mask=mask).logits[:, 0].float()

    return score_texts(load_classifier, model, prompts, responses, score, max_length, batch_tokens)


def response_lengths(model, responses):
    """Tokens of each response by the model's tokenizer, without special tokens."""
    tokenizer = load_tokenizer(model)
    texts = [answer_text(response) for response in responses]
    return np.array([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]])


def encode(tokenizer, prompts, responses):
    """Token ids of each prompt and response as TRL builds them, and where the response starts.

    Strings are joined and closed with the end-of-text token; messages go through the tokenizer's chat template, which
    writes its own special tokens. The ids are those of TRL's DPO trainer. Where a tokenizer merges characters across the
    seam, the response starts with the merged token; TRL starts both responses of a pair at the earlier of their seams.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    prompts, responses : list of str or of chat messages, length n
        Many in one call: a fast tokenizer is several times faster so.

    Returns
    -------
    list of (tuple of int, int), length n

    Raises
    ------
    ValueError
        For messages and a tokenizer without a chat template, or a prompt and response of different kinds.
    """
    kinds = [isinstance(prompt, str) for prompt in prompts]
    mixed = [i for i, (r, kind) in enumerate(zip(responses, kinds, strict=True)) if isinstance(r, str) != kind]
    refuse(
        mixed,
        "prompt and response at positions",
        "are a string and chat messages",
        "make both one kind: pdsel.engine.chat.as_messages",
    )
    encoded = [None] * len(kinds)
    for kind, texts in [(True, _string_texts), (False, _chat_texts)]:
        rows = [i for i, found in enumerate(kinds) if found == kind]
        if rows:
            starts, wholes = texts(tokenizer, [prompts[i] for i in rows], [responses[i] for i in rows])
            starts, wholes = (tokenizer(side, add_special_tokens=kind)["input_ids"] for side in (starts, wholes))
            for i, start, ids in zip(rows, starts, wholes, strict=True):
                encoded[i] = tuple(ids), _common(start, ids)
    return encoded


def _string_texts(tokenizer, prompts, responses):
    end = tokenizer.eos_token
    return list(prompts), [p + r + ("" if r.endswith(end) else end) for p, r in zip(prompts, responses, strict=True)]


def _chat_texts(tokenizer, prompts, responses):
    if tokenizer.chat_template is None:
        raise DataError(
            f"{tokenizer.name_or_path}: chat messages, but the tokenizer has no chat template and cannot spell the "
            "default one. Remedy: give plain strings, or use a model with a template"
        )
    starts = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
    wholes = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    return starts, tokenizer.apply_chat_template(wholes, tokenize=False)


def _common(prompt_ids, ids):
    """How many tokens of the prompt the whole text starts with: a tokenizer may merge across the seam."""
    differ = (i for i, (a, b) in enumerate(zip(prompt_ids, ids, strict=False)) if a != b)
    return next(differ, min(len(prompt_ids), len(ids)))


def score_texts(load, model, prompts, responses, score, max_length, batch_tokens):
    """A number for each prompt and response, each distinct text read once, in batches of like length.

    Parameters
    ----------
    load : callable
        `load(model)` returns the network.
    model : str
        Path or hub id of the tokenizer (and, as `load` sees fit, of the network).
    prompts, responses : list of str or of chat messages, length n
    score : callable
        `score(net, ids, mask, n_prompt)`, a tensor of one number per row.
    max_length, batch_tokens : int
        Tokens of a text that are read; padded tokens in a batch.

    Returns
    -------
    numpy.ndarray, shape (n,)
    """
    tokenizer = load_tokenizer(model)
    encoded = encode(tokenizer, list(prompts), list(responses))
    texts = sorted({(ids[:max_length], start) for ids, start in encoded}, key=lambda text: (-len(text[0]), text))
    advice = [
        f"batch_tokens (now {batch_tokens}): halve it; results stay the same",
        f"max_length (now {max_length}): lower, with pdsel.engine.chat.fitting",
    ]
    with torch.inference_mode(), explained(lambda: advice):
        net = load(model).to(device()).eval()
        net.config.pad_token_id = pad = tokenizer.pad_token_id  # a classifier reads the last token before the padding
        values = {}
        for batch in tqdm(list(_batches(texts, batch_tokens)), desc="scoring", leave=False):
            values |= zip(batch, score(net, *_padded(batch, pad, net.device)).tolist(), strict=True)
    return np.array([values[ids[:max_length], start] for ids, start in encoded])


def _padded(batch, pad, where):
    """Ids and mask, padded on the right to the first and longest text, and where the responses start."""
    width = len(batch[0][0])
    ids = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids, _ in batch], device=where)
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in batch], device=where)
    return ids, mask, torch.tensor([start for _, start in batch], device=where)


def _batches(texts, batch_tokens):
    """Runs of texts, longest first, whose padded size stays within `batch_tokens`."""
    start = 0
    while start < len(texts):
        size = max(1, batch_tokens // len(texts[start][0]))
        yield texts[start : start + size]
        start += size
