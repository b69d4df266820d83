"""Loads models and tokenizers quietly; it reads only safetensors and runs no remote code.

The device is found, not configured. On a CPU the order of floating-point sums depends on the number of threads, so equal
bytes are promised only for an equal `OMP_NUM_THREADS`, which `make run` and `make lab` set and manifests record.
"""

import os
from contextlib import contextmanager
from pathlib import Path

import datasets
import torch
from huggingface_hub import is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from pdsel.checks import DataError
from pdsel.notesworld.settings import model_path

SAFE = {"use_safetensors": True, "trust_remote_code": False}

# A chat template for models that bring none. Its tags are plain text, which any tokenizer can spell, and every turn ends
# with the model's own end-of-text token, so that a model trained on it ends its answers where generation stops. The text
# before an answer is a prefix of the text with the answer, as TRL requires.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}"
    "{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def device():
    """CUDA (under a launcher, this process's GPU), otherwise MPS or the CPU; `ACCELERATE_USE_CPU=true` forces the CPU.

    >>> device() in ("cuda", "mps", "cpu")
    True
    """
    if os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true":
        return "cpu"
    if torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def bf16_is_fast():
    """Whether the device multiplies matrices of bf16 numbers in its hardware: most GPUs do, and some CPUs.

    >>> bf16_is_fast() in (True, False)
    True
    """
    where = device()
    if where.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return where == "cpu" and torch.cpu._is_avx512_bf16_supported()  # torch has no public name for it


def resolve(model):
    """The path or hub id of a model; "notesworld" names the shipped base model.

    Raises
    ------
    ValueError
        For a name that is neither a folder nor a hub id; and, offline, for a hub id that was never downloaded.

    >>> Path(resolve("notesworld")).name
    'base_model'
    """
    name = model_path(str(model))
    if Path(name).is_dir():
        return name
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise DataError(
            f"model={name!r} is neither a folder that exists nor a hub id. Remedy: check the path, or use 'notesworld'"
        ) from None
    if is_offline_mode() and not isinstance(try_to_load_from_cache(name, "config.json"), str):
        raise DataError(
            f"model={name!r} is neither a folder nor in the hub's cache, and this process is offline. Remedy: check the "
            "name, download the model while online (unset HF_HUB_OFFLINE), or use 'notesworld'"
        )
    return name


def load_causal(model, *, dtype="auto"):
    """Load a causal language model onto the CPU; for `model` see `resolve`."""
    with quiet():
        return AutoModelForCausalLM.from_pretrained(resolve(model), dtype=dtype, **SAFE)


def load_classifier(model, *, dtype="auto"):
    """Load a scalar-reward classifier; a causal checkpoint gets a new head."""
    with quiet():
        return AutoModelForSequenceClassification.from_pretrained(resolve(model), num_labels=1, dtype=dtype, **SAFE)


def load_tokenizer(model, **options):
    """Load the tokenizer of a model, with a padding token and, if it can spell the tags, a chat template.

    A tokenizer without a template gets `DEFAULT_TEMPLATE`, preceded by a beginning-of-text token if plain text is, too;
    policies are saved with the template. A tokenizer that cannot spell the tags, such as that of the notes world, gets none,
    and chat messages are refused where they are first read.
    """
    tokenizer = AutoTokenizer.from_pretrained(resolve(model), trust_remote_code=False, **options)
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
    """Hide the libraries' bars and messages about loading, tokenizing and saving; restore them afterwards."""
    verbosity = logging.get_verbosity()
    bars, maps = logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    chores = os.environ.get("TQDM_DISABLE")  # TRL shows no bar where it is set
    logging.set_verbosity_error()  # so that it does not warn of a new reward head, which is meant to be new
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
