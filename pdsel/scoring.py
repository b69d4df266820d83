"""Numbers for texts: log-probabilities of responses and rewards of classifiers, in length-sorted batches.

Each distinct text is run once, and texts of like length share a batch, so that padding is rare; results come back in the
order asked for.
"""

import numpy as np
import torch
from tqdm.auto import tqdm

from pdsel.models import device, load_causal, load_classifier, load_tokenizer

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
    texts = [response if isinstance(response, str) else response[-1]["content"] for response in responses]
    return np.array([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]])


def encode(tokenizer, prompt, response):
    """Token ids of prompt and response as TRL builds them, and where the response starts.

    Returns
    -------
    (tuple of int, int)
    """
    if isinstance(prompt, str):
        return encode_strings(tokenizer, [prompt], [response])[0]
    prompt_ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    ids = tokenizer.apply_chat_template(prompt + response, return_dict=True)["input_ids"]
    return tuple(ids), _common(prompt_ids, ids)


def encode_strings(tokenizer, prompts, responses):
    """`encode` for strings, many in one call: a fast tokenizer is several times faster so."""
    end = tokenizer.eos_token
    wholes = [p + r + ("" if r.endswith(end) else end) for p, r in zip(prompts, responses, strict=True)]
    starts, texts = (tokenizer(list(side))["input_ids"] for side in (prompts, wholes))
    return [(tuple(ids), _common(start, ids)) for start, ids in zip(starts, texts, strict=True)]


def _common(prompt_ids, ids):
    """How many tokens of the prompt the whole text starts with: a tokenizer may merge across the seam."""
    differ = (i for i, (a, b) in enumerate(zip(prompt_ids, ids, strict=False)) if a != b)
    return next(differ, min(len(prompt_ids), len(ids)))


@torch.inference_mode()
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
    net = load(model).to(device()).eval()
    if all(isinstance(prompt, str) for prompt in prompts):
        encoded = encode_strings(tokenizer, prompts, responses)
    else:
        encoded = [encode(tokenizer, p, r) for p, r in zip(prompts, responses, strict=True)]
    texts = sorted({(ids[:max_length], start) for ids, start in encoded}, key=lambda text: (-len(text[0]), text))
    net.config.pad_token_id = pad = tokenizer.pad_token_id  # a classifier reads the last token before the padding
    values = {}
    for batch in tqdm(list(_batches(texts, batch_tokens)), desc="scoring", leave=False):
        width = len(batch[0][0])
        ids = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids, _ in batch], device=net.device)
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in batch], device=net.device)
        starts = torch.tensor([start for _, start in batch], device=net.device)
        values |= zip(batch, score(net, ids, mask, starts).tolist(), strict=True)
    return np.array([values[ids[:max_length], start] for ids, start in encoded])


def _batches(texts, batch_tokens):
    """Runs of texts, longest first, whose padded size stays within `batch_tokens`."""
    start = 0
    while start < len(texts):
        size = max(1, batch_tokens // len(texts[start][0]))
        yield texts[start : start + size]
        start += size
