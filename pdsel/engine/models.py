"""Models and tokenizers in, quietly and onto whatever device there is; safetensors only, no remote code."""

import os
from contextlib import contextmanager

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

SAFE = {"use_safetensors": True, "trust_remote_code": False}

# The turns of a chat for a model that brings no template of its own. The tags are plain text, which any tokenizer can
# spell, and every turn ends with the model's own end-of-text token, so that a model trained on it stops where generation
# stops. The text before an answer is a prefix of the text with the answer, as TRL wants it.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}"
    "{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def device():
    """CUDA (under a launcher, this process's own GPU), MPS, else CPU; `ACCELERATE_USE_CPU=true` forces the CPU.

    >>> device() in ("cuda", "mps", "cpu")
    True
    """
    if os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true":
        return "cpu"
    if torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_causal(model, *, dtype="auto"):
    """A causal language model from a path or hub id, on the CPU."""
    with quiet():
        return AutoModelForCausalLM.from_pretrained(model, dtype=dtype, **SAFE)


def load_classifier(model, *, dtype="auto"):
    """A scalar-reward classifier; a causal checkpoint gets a new head."""
    with quiet():
        return AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype=dtype, **SAFE)


def load_tokenizer(model, **options):
    """The tokenizer of a model, with a padding token and, where it can spell one, a chat template.

    A tokenizer without a template gets `DEFAULT_TEMPLATE` (after its beginning-of-text token, if it puts one before plain
    text), and a policy trained from it is saved with it. One that has no characters for the template's tags, such as the
    notes world's, gets none: chat messages are then refused where they are first read.
    """
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None and _spells(tokenizer, "<|assistant|>\n"):
        starts = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{ bos_token }}" if starts else "") + DEFAULT_TEMPLATE
    return tokenizer


def _spells(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.eos_token is not None and (tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids)


@contextmanager
def quiet():
    """No bars and reports of the libraries' small chores (loading, tokenizing, saving); restored afterwards."""
    verbosity = logging.get_verbosity()
    bars, maps = logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    chores = os.environ.get("TQDM_DISABLE")  # what TRL asks before it shows a bar
    logging.set_verbosity_error()  # a new reward head is meant to be new
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if not maps:
            datasets.enable_progress_bars()
        if chores is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = chores
