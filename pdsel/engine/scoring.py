"""Numbers for texts: log-probabilities of responses and rewards of classifiers, in length-sorted batches.

Each distinct text is run once, and texts of similar length share a batch, so that padding is rare. Results come back in
the order asked for. Texts are tokenized a slice at a time and held as arrays of 4 bytes a token. `CausalReader` is the one
pass of a causal model, for log-probabilities here and for `pdsel.engine.features`.
"""

import json
from contextlib import nullcontext

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from pdsel.checks import DataError, refuse
from pdsel.data.messages import answer_text
from pdsel.engine.errors import explained
from pdsel.engine.models import device, load_causal, load_classifier, load_tokenizer
from pdsel.engine.output_layer import OutputLayer, log_probabilities
from pdsel.engine.progress import Progress

BATCH_TOKENS = 8192  # padded tokens in a batch
ON_A_CPU = 2048  # the same for a CPU, whose caches hold no more of a small model
SLICE = 1000  # texts that are tokenized at once
TOKEN = np.dtype(">u4")  # of a token id; big-endian, so that the bytes of two texts sort as their ids do


def response_logps(model, prompts, responses, *, max_length=1024, batch_tokens=None):
    """Log-probability of each whole response (and the end of text) given its prompt.

    Parameters
    ----------
    model : str
        Path or hub id of a causal model.
    prompts, responses : list of str or of chat messages, length n
    max_length : int
        Longer texts are cut at the end, as TRL cuts them.
    batch_tokens : int, optional
        Size of a batch; memory depends on it, and results do not. Default: by the device.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Nats.
    """
    if not len(prompts):
        return np.zeros(0)
    reader = CausalReader(model, max_length=max_length, batch_tokens=batch_tokens)
    return reader.read(prompts, responses)["logp"].astype(float)


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
    """The number of tokens of each response by the model's tokenizer, without special tokens."""
    tokenizer = load_tokenizer(model)
    texts = [answer_text(response) for response in responses]
    lengths = []
    for start in range(0, len(texts), SLICE):
        lengths += [len(ids) for ids in tokenizer(texts[start : start + SLICE], add_special_tokens=False)["input_ids"]]
    return np.array(lengths, dtype=int)


def encode(tokenizer, prompts, responses):
    """Token ids of each prompt and response as TRL builds them, and where the response starts.

    Strings are joined and closed with the end-of-text token; messages go through the tokenizer's chat template, which
    writes its own special tokens. The ids are those of TRL's DPO trainer. Where a tokenizer merges characters across the
    boundary, the response starts with the merged token; TRL starts both responses of a pair at the earlier boundary.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    prompts, responses : list of str or of chat messages, length n
        Give many in one call: a fast tokenizer is several times faster then.

    Returns
    -------
    list of (tuple of int, int), length n

    Raises
    ------
    ValueError
        For messages and a tokenizer without a chat template, or a prompt and response of different kinds.
    """
    _check_kinds(prompts, responses)
    encoded = [None] * len(prompts)
    for is_plain, write in [(True, _string_texts), (False, _chat_texts)]:
        positions = [i for i, prompt in enumerate(prompts) if isinstance(prompt, str) == is_plain]
        if not positions:
            continue
        starts, wholes = write(tokenizer, [prompts[i] for i in positions], [responses[i] for i in positions])
        start_ids = tokenizer(starts, add_special_tokens=is_plain)["input_ids"]
        whole_ids = tokenizer(wholes, add_special_tokens=is_plain)["input_ids"]
        for i, start, whole in zip(positions, start_ids, whole_ids, strict=True):
            encoded[i] = tuple(whole), _common(start, whole)
    return encoded


def _check_kinds(prompts, responses):
    sides = enumerate(zip(prompts, responses, strict=True))
    refuse(
        [i for i, (prompt, response) in sides if isinstance(prompt, str) != isinstance(response, str)],
        "prompt and response at positions",
        "are a string and chat messages",
        "make both one kind: pdsel.engine.chat.as_messages",
    )


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
    """How many tokens of the prompt the whole text starts with: a tokenizer may merge across the boundary."""
    for i, (prompt_token, token) in enumerate(zip(prompt_ids, ids, strict=False)):
        if prompt_token != token:
            return i
    return min(len(prompt_ids), len(ids))


def score_texts(load, model, prompts, responses, score, max_length, batch_tokens):
    """A number for each prompt and response; each distinct text is read once, in batches of similar length.

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
    texts = read_texts(tokenizer, list(prompts), list(responses), max_length)
    values = {}
    with torch.inference_mode(), explained(advice(max_length, batch_tokens)):
        net = load(model).to(device()).eval()
        net.config.pad_token_id = pad = tokenizer.pad_token_id  # a classifier reads the last token before the padding
        for batch in each_batch(texts, batch_tokens):
            scores = score(net, *padded(batch, pad, net.device))
            values |= zip(batch, scores.tolist(), strict=True)
    return np.array([values[text] for text in texts])


class CausalReader:
    """A frozen causal model that reads responses: one pass for each distinct text, and what is wanted of it in numbers.

    Here that is the log-probability of the response. `pdsel.engine.features.Reader` wants more of the same pass.

    Parameters
    ----------
    model : str
        Path or hub id.
    max_length, batch_tokens : int
        Tokens of a text that are read; padded tokens in a batch, by default as many as suit the device.
    """

    bar = True  # whether reading shows its progress

    def __init__(self, model, *, max_length=1024, batch_tokens=None):
        self.model, self.max_length = model, max_length
        self.batch_tokens = batch_tokens or (ON_A_CPU if device() == "cpu" else BATCH_TOKENS)
        self.tokenizer = load_tokenizer(model)
        self.n_tokens = 0  # that were read
        with explained(advice(max_length, self.batch_tokens)), self.precision():
            self.net = self.load().to(device()).eval()
            self.output = OutputLayer.of(self.net)

    def load(self):
        """The network, as it is stored."""
        return load_causal(self.model)

    def precision(self):
        """The context of the arithmetic; here the type of the weights decides."""
        return nullcontext()

    def read(self, prompts, responses):
        """The numbers of each response given its prompt.

        Parameters
        ----------
        prompts, responses : list of str or of chat messages, length n

        Returns
        -------
        dict of str to numpy.ndarray, float32
            `logp`, shape (n,): the log-probability of the response and the end of text, in nats.
        """
        numbers, rows = self.read_distinct(prompts, responses)
        return {name: values[rows] for name, values in numbers.items()}

    def read_distinct(self, prompts, responses):
        """The numbers of each distinct text, and at which of their rows each response is, an array of int, shape (n,)."""
        texts = read_texts(self.tokenizer, list(prompts), list(responses), self.max_length)
        order, parts = [], []
        with torch.inference_mode(), explained(advice(self.max_length, self.batch_tokens)), self.precision():
            for batch in each_batch(texts, self.batch_tokens, bar=self.bar):
                order += batch
                parts.append(self.read_batch(batch))
        numbers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.note(order, numbers["logp"])
        row_of = {text: row for row, text in enumerate(order)}
        return numbers, np.array([row_of[text] for text in texts])

    def note(self, texts, logps):
        """Hear of the distinct texts that were read, and of their log-probabilities."""

    def read_batch(self, batch):
        """The numbers of a batch of encoded texts: only states that predict a response's token make logits."""
        ids, mask, n_prompt = padded(batch, self.tokenizer.pad_token_id, self.net.device)
        self.n_tokens += int(mask.sum())
        answered = answered_positions(mask, n_prompt)
        seen, states = self.output.states(self.net, ids, mask, **self.pass_options())
        tokens = self.of_tokens(states[:, :-1][answered], ids[:, 1:][answered])
        tokens |= self.of_pass(seen, answered)
        lengths = answered.sum(dim=1)
        return {name: values.float().cpu().numpy() for name, values in self.of_texts(tokens, lengths).items()}

    def pass_options(self):
        """Further keywords of the network's pass."""
        return {}

    def of_pass(self, seen, answered):
        """Numbers of single tokens that come from the pass itself."""
        return {}

    def of_tokens(self, states, tokens):
        """Numbers of single tokens, from the states that predict them; a dict of tensors with a row per token."""
        parts = [self.of_slice(states[rows], tokens[rows]) for rows in self.output.slices(states)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def of_slice(self, states, tokens):
        """The same of a few tokens, whose logits fit the memory."""
        return {"logp": log_probabilities(self.output.logits(states), tokens)[0]}

    def of_texts(self, tokens, lengths):
        """The numbers of each text from those of its tokens, of which it has as many as `lengths` says."""
        return {"logp": by_text(tokens["logp"], lengths).sum(dim=1)}


def answered_positions(mask, n_prompt):
    """Whether each token from the second on belongs to a response, shape (rows, length - 1)."""
    position = torch.arange(1, mask.shape[1], device=mask.device)
    return mask[:, 1:].bool() & (position >= n_prompt[:, None])


def by_text(values, lengths):
    """Values of single tokens as a row per text, filled up with zeros to the longest: shape (texts, longest or 1, ...).

    >>> by_text(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 2])).tolist()
    [[1.0, 0.0], [2.0, 3.0]]
    """
    rows = pad_sequence(values.split(lengths.tolist()), batch_first=True)
    return rows if rows.shape[1] else values.new_zeros(len(lengths), 1, *values.shape[1:])


def each_batch(texts, batch_tokens, *, bar=True):
    """Batches of the distinct texts, the longest first, behind a progress bar unless there is one already."""
    longest_first = sorted(set(texts), key=lambda text: (-len(text[0]), text))
    found = list(batches(longest_first, batch_tokens))
    return Progress(found, desc="scoring") if bar else found


def advice(max_length, batch_tokens):
    """What to change when the memory is full."""
    return [
        f"batch_tokens (now {batch_tokens}): halve it; results stay the same",
        f"max_length (now {max_length}): lower, with pdsel.engine.chat.fitting",
    ]


def read_texts(tokenizer, prompts, responses, max_length):
    """The bytes of each text's token ids, cut at `max_length`, and where the response starts; equal texts are one object."""
    _check_kinds(prompts, responses)  # here, where positions are those of all texts
    keys = [(_key(prompt), _key(response)) for prompt, response in zip(prompts, responses, strict=True)]
    row_of = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))  # where each text is first
    rows, texts = list(row_of.values()), {}
    for first in range(0, len(rows), SLICE):
        part = rows[first : first + SLICE]
        encoded = encode(tokenizer, [prompts[row] for row in part], [responses[row] for row in part])
        for row, (ids, start) in zip(part, encoded, strict=True):
            texts[keys[row]] = np.array(ids[:max_length], dtype=TOKEN).tobytes(), start
    return [texts[key] for key in keys]


def _key(text):
    """A string, or chat messages written as one."""
    return text if isinstance(text, str) else json.dumps(text)


def padded(batch, pad, where):
    """Ids and mask, padded on the right to the longest text, and where the responses start."""
    texts = [torch.tensor(np.frombuffer(text, dtype=TOKEN).astype(np.int64)) for text, _ in batch]
    ids = pad_sequence(texts, batch_first=True, padding_value=pad)
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    starts = torch.tensor([start for _, start in batch])
    return ids.to(where), mask.to(where), starts.to(where)


def batches(texts, batch_tokens):
    """Runs of texts, longest first, whose padded size stays within `batch_tokens`."""
    first = 0
    while first < len(texts):
        width = max(1, len(texts[first][0]) // TOKEN.itemsize)
        size = max(1, batch_tokens // width)
        yield texts[first : first + size]
        first += size
