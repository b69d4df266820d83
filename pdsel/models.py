"""Models and tokenizers in, quietly and onto whatever device there is; safetensors only, no remote code."""

import os
from contextlib import contextmanager

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

SAFE = {"use_safetensors": True, "trust_remote_code": False}


def device():
    """CUDA, MPS, else CPU.

    >>> device() in ("cuda", "mps", "cpu")
    True
    """
    if torch.cuda.is_available():
        return "cuda"
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
    """The tokenizer of a model, with a padding token."""
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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
