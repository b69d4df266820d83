"""Generates the outputs of a policy: greedy decoding or sampling, with transformers or with vLLM.

An output depends on the model, its prompt and the seed, but not on the other prompts: padding is masked, and every prompt has
its own stream of random numbers.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, fields
from itertools import takewhile

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    GenerationConfig,
    LogitsProcessor,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from pdsel.checks import DataError, refuse
from pdsel.data.messages import is_chat
from pdsel.engine.models import SAFE, device, load_causal, load_tokenizer, resolve
from pdsel.engine.options import check_options
from pdsel.engine.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How every prompt is answered.

    Parameters
    ----------
    max_new_tokens : int
    temperature, top_p : float
        Temperature 0 is greedy. The sampling defaults and penalties in a model's own configuration are not used.
    stop : str or list of str
        An output ends before the first of these strings, and at any end token of the model or the tokenizer.
    batch_size : int
        Prompts of similar length share a batch, the longest first, so that a lack of memory shows at once. vLLM chooses its
        own batches.
    dtype : str or torch.dtype
        "auto" is the type of the checkpoint. In float32 the text is the same for every batch size and order of prompts,
        unless two tokens tie within rounding (about 1e-6). Such ties are common in bfloat16, so use "float32" if the text
        must not depend on the batch.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    stop: str | list = ()
    batch_size: int = 128
    dtype: str | torch.dtype = "auto"

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise DataError(f"max_new_tokens={self.max_new_tokens}: generate at least one token")
        if not 0 <= self.temperature < float("inf"):
            raise DataError(f"temperature={self.temperature}: 0 is greedy, larger is more random")
        if not 0 < self.top_p <= 1:
            raise DataError(f"top_p={self.top_p}: keep a share in (0, 1]")
        if not all(isinstance(word, str) and word for word in self.stops):
            raise DataError(f"stop={self.stops}: give non-empty strings")
        if self.batch_size < 1:
            raise DataError(f"batch_size={self.batch_size}: a batch holds at least one prompt")

    @property
    def stops(self):
        """The strings that end an output, as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop)

    def logits_processors(self, keys, start):
        """The logits processors of a batch whose prompts end at `start`; none for greedy decoding."""
        if self.temperature == 0:
            return []
        nucleus = [TopPLogitsWarper(self.top_p)] if self.top_p < 1 else []
        draw = SeededDraw(keys, self.max_new_tokens, start)
        return [TemperatureLogitsWarper(float(self.temperature)), *nucleus, draw]


def generate(model, prompts, *, batch_size=128, seed=0, engine="transformers", **decoding):
    """Generate a response to each prompt.

    Parameters
    ----------
    model : str
        Path or hub id of a causal model, or "notesworld" for the shipped one.
    prompts : list of str or of chat messages
        Strings go in as they are, with the special tokens that the tokenizer adds (such as BOS); lists of messages
        (`{"role", "content"}`) go through its chat template. A list may hold both.
    seed : int
        A prompt's draw depends on the seed, the prompt's text, and the number of its earlier occurrences in `prompts`, so that
        a repeated prompt gets different draws. Two models draw with the same random numbers, which makes their comparison
        sharper. The global random state is neither read nor changed.
    engine : {"transformers", "vllm"}
        At temperatures above 0 the two engines draw different texts.
    batch_size, **decoding
        `max_new_tokens=64, temperature=0.0, top_p=1.0, stop=(), dtype="auto"`: see `Decoding`.

    Returns
    -------
    list of str
        In the order of the prompts, without special tokens or surrounding white space.

    Raises
    ------
    ValueError
        For a prompt that leaves no room for `max_new_tokens` in the model's context, messages without a chat template,
        or an engine that is not installed; the message names the positions and the remedy.

    Examples
    --------
    >>> generate("notesworld", ["notes size tiny ; mood calm ; food bread ; tell boldly food and mood ="], stop=" .")
    ['food bread surely']
    """
    check_options(decoding, [field.name for field in fields(Decoding)], documented="pdsel.generation.Decoding")
    decoding = Decoding(batch_size=batch_size, **decoding)
    if engine not in ENGINES:
        raise DataError(f"engine={engine!r}: use one of {list(ENGINES)}")
    if isinstance(prompts, str):
        raise DataError("prompts is one string. Remedy: give a list, [prompt]")
    prompts = list(prompts)
    if not prompts:
        return []
    model = resolve(model)
    tokenizer = load_tokenizer(model)
    texts = prompt_texts(tokenizer, prompts)
    # A chat template writes its own special tokens; they are never added twice.
    ids = [
        tokenizer(text, add_special_tokens=isinstance(prompt, str))["input_ids"]
        for text, prompt in zip(texts, prompts, strict=True)
    ]
    _check_lengths(ids, decoding.max_new_tokens, _context(model))
    outputs = ENGINES[engine](model, tokenizer, ids, draw_keys(texts, seed), decoding)
    return [cut(output, decoding.stops).strip() for output in outputs]


def prompt_texts(tokenizer, prompts):
    """The text of each prompt as the model reads it: strings as they are, messages through the chat template."""
    chats = [i for i, prompt in enumerate(prompts) if not isinstance(prompt, str)]
    refuse(
        [i for i in chats if not is_chat(prompts[i])],
        "prompts: position",
        "holds neither a string nor a list of messages",
        'give strings, or lists of {"role": ..., "content": ...}',
    )
    if tokenizer.chat_template is None:
        refuse(
            chats,
            "prompts: position",
            "holds chat messages, but the model's tokenizer has no chat template",
            "give plain strings (base models read those), or use a model with a template",
        )
    return [
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        for prompt in prompts
    ]


def _context(model):
    """The number of tokens that the model can read and write together; `None` if its config does not say."""
    config = AutoConfig.from_pretrained(model, trust_remote_code=SAFE["trust_remote_code"])
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def _check_lengths(ids, max_new_tokens, context):
    refuse([i for i, row in enumerate(ids) if not row], "prompts: position", "is empty", "drop the empty prompts")
    if context is not None:
        room = context - max_new_tokens
        refuse(
            [i for i, row in enumerate(ids) if len(row) > room],
            "prompts: position",
            f"holds more than {room} tokens, the model's context of {context} less max_new_tokens={max_new_tokens}",
            f"shorten or drop these prompts, or lower max_new_tokens (the longest prompt has {max(map(len, ids))})",
        )


def draw_keys(texts, seed):
    """A number that seeds the stream of each text, from the seed, the text, and the number of its earlier occurrences.

    >>> first, again, other = draw_keys(["a", "a", "b"], seed=0)
    >>> len({first, again, other}), draw_keys(["b", "a"], seed=0) == [other, first]
    (3, True)
    """
    seen, keys = Counter(), []
    for text in texts:
        digest = hashlib.sha256(f"{seed} {seen[text]} {text}".encode()).digest()
        keys.append(int.from_bytes(digest[:8]) >> 1)  # 63 bits: positive wherever integers are signed
        seen[text] += 1
    return keys


def cut(text, stop):
    """The text before the first stop string.

    >>> cut("a cat and a dog", ["dog", "and"])
    'a cat '
    """
    ends = [text.find(word) for word in stop if word in text]
    return text[: min(ends, default=len(text))]


def end_tokens(tokenizer, stop, configured=None):
    """The ids that end an output: configured ones, the tokenizer's, and stop strings that are tokens (such as `<|end|>`)."""
    configured = [configured] if isinstance(configured, int) else configured or []
    added = tokenizer.get_added_vocab()  # special tokens are not in the text in which stop strings are searched
    ends = {*configured, tokenizer.eos_token_id, *(added[word] for word in stop if word in added)}
    return sorted(ends - {None})


class SeededDraw(LogitsProcessor):
    """Makes greedy decoding sample: it draws a token and leaves only that one possible.

    Row i draws with the numbers of stream `keys[i]`, one for each step, by inverting the distribution function of its
    tokens. The draw is exact and does not depend on the other rows of the batch.
    """

    def __init__(self, keys, steps, start):
        self.start = start  # where the prompts end
        self.uniform = torch.tensor(np.stack([np.random.default_rng(key).random(steps) for key in keys]))

    def __call__(self, input_ids, scores):
        precise = torch.float32 if scores.device.type == "mps" else torch.float64  # MPS has no double precision
        cumulated = scores.to(precise).softmax(-1).cumsum(-1)
        uniform = self.uniform[:, [input_ids.shape[1] - self.start]].to(scores.device, precise)
        # right=True: the first token whose sum is above the number, hence never one of probability 0
        drawn = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
        drawn = drawn.clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


class StopStrings(StoppingCriteria):
    """Ends a row once its text contains a stop string; `cut` makes the exact cut afterwards."""

    def __init__(self, tokenizer, stop, start):
        self.tokenizer, self.stop, self.start = tokenizer, stop, start
        self.reach = 4 * max(map(len, stop)) + 4  # a character is at most four tokens, its bytes

    def __call__(self, input_ids, scores, **kwargs):
        recent = input_ids[:, max(self.start, input_ids.shape[1] - self.reach) :]
        texts = self.tokenizer.batch_decode(recent, skip_special_tokens=True)
        return torch.tensor([any(word in text for word in self.stop) for text in texts], device=input_ids.device)


def _transformers(model, tokenizer, ids, keys, decoding):
    net = load_causal(model, dtype=decoding.dtype).to(device()).eval()
    ends = end_tokens(tokenizer, decoding.stops, net.generation_config.eos_token_id)
    pad = tokenizer.pad_token_id or 0
    # The model gets it, too, because `net.generate` fills gaps from the model's own config, which may hold a temperature.
    net.generation_config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=ends or None,
        bos_token_id=tokenizer.bos_token_id,
    )
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
    outputs = {}
    for first in Progress(range(0, len(order), decoding.batch_size), desc="generating"):
        batch = order[first : first + decoding.batch_size]
        rows = [torch.tensor(ids[i]) for i in batch]
        inputs = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left").to(net.device)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
        width = inputs.shape[1]
        new = net.generate(
            inputs,
            attention_mask=mask.to(net.device),
            generation_config=net.generation_config,
            logits_processor=decoding.logits_processors([keys[i] for i in batch], width),
            stopping_criteria=[StopStrings(tokenizer, decoding.stops, width)] if decoding.stops else [],
        )[:, width:]
        for i, row in zip(batch, new.tolist(), strict=True):
            before_end = list(takewhile(lambda token: token not in ends, row))
            outputs[i] = tokenizer.decode(before_end, skip_special_tokens=True)
    return [outputs[i] for i in range(len(ids))]


def _vllm(model, tokenizer, ids, keys, decoding):
    """Only written and tested against vLLM's documented interface (`LLM`, `SamplingParams`, prompts of token ids)."""
    try:
        import vllm  # optional: it pins a torch of its own
    except ImportError as error:
        raise DataError(
            "engine='vllm': the package vllm is not installed. Remedy: `pip install vllm` in an environment of "
            "its own (it pins torch), or engine='transformers'"
        ) from error
    ends = end_tokens(tokenizer, decoding.stops)  # vLLM adds those of the model's generation config
    settings = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "max_tokens": decoding.max_new_tokens,
        "stop": decoding.stops,
        "stop_token_ids": ends,
    }
    prompts = [{"prompt_token_ids": row} for row in ids]
    sampling = [vllm.SamplingParams(**settings, seed=key) for key in keys]
    requests = vllm.LLM(model=str(model), dtype=decoding.dtype, seed=0).generate(prompts, sampling)
    return [request.outputs[0].text for request in requests]


ENGINES = {"transformers": _transformers, "vllm": _vllm}
