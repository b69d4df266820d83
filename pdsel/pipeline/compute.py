"""What training, scoring and generating cost: floating-point operations, bytes and seconds, as rules of thumb.

N is a model's number of parameters, D one of tokens. All of them are estimates from counting: attention's own operations,
padding and start-up are left out, and what a GPU reaches of its peak is assumed or measured elsewhere (`pdsel.pipeline.costs`).
"""

from dataclasses import dataclass

from pdsel.checks import DataError
from pdsel.notesworld import model_path

GB = 1e9
MASTER = 4  # bytes of a weight in training, and of one that is saved
HALF = 2  # of a weight that is only read: bf16
CONTEXT = 1.5 * GB  # of CUDA itself and of the allocator's gaps


@dataclass(frozen=True)
class Gpu:
    """A GPU: peak of dense bf16 in FLOP/s, memory in bytes, memory bandwidth in bytes/s; from its data sheet."""

    peak: float
    memory: float
    bandwidth: float


GPUS = {
    "A10G": Gpu(70e12, 24 * GB, 600e9),
    "A100 40GB": Gpu(312e12, 40 * GB, 1555e9),
    "A100 80GB": Gpu(312e12, 80 * GB, 2039e9),
    "H100": Gpu(989e12, 80 * GB, 3350e9),
    "H200": Gpu(989e12, 141 * GB, 4800e9),
    "L4": Gpu(121e12, 24 * GB, 300e9),
    "L40S": Gpu(362e12, 48 * GB, 864e9),
    "RTX 3090": Gpu(71e12, 24 * GB, 936e9),
    "RTX 4090": Gpu(165e12, 24 * GB, 1008e9),
}


@dataclass(frozen=True)
class Model:
    """The sizes of a model that costs depend on; `key_values` is the width of keys (and of values) in a layer."""

    parameters: float
    layers: int
    hidden: int
    vocabulary: int
    key_values: int


MODELS = {  # those of the shipped profiles, so that a plan needs no hub
    "Qwen/Qwen2.5-0.5B-Instruct": Model(494e6, 24, 896, 151_936, 128),
    "allenai/Llama-3.1-Tulu-3-8B-SFT": Model(8.03e9, 32, 4096, 128_264, 1024),
    "meta-llama/Llama-3.2-1B": Model(1.236e9, 16, 2048, 128_256, 512),
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": Model(7.505e9, 32, 4096, 128_256, 1024),
}


def find_gpu(name):
    """A GPU by its name.

    Raises
    ------
    ValueError
        Naming those that are known.
    """
    if name not in GPUS:
        raise DataError(
            f"hardware: gpu {name!r} is unknown. Remedy: use one of {list(GPUS)}, or add its data sheet's "
            "numbers to pdsel/pipeline/compute.py"
        )
    return GPUS[name]


def find_model(name):
    """The sizes of a model: from `MODELS`, or counted from its config, without its weights.

    >>> find_model("notesworld")
    Model(parameters=371808, layers=3, hidden=96, vocabulary=61, key_values=96)
    """
    if name in MODELS:
        return MODELS[name]
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(model_path(name), trust_remote_code=False).get_text_config()
    except OSError as error:
        raise DataError(
            f"model {name}: its config cannot be read here ({type(error).__name__}). Remedy: check the name, log "
            "in, or add its sizes to MODELS in pdsel/pipeline/compute.py"
        ) from error
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Model(
        parameters, config.num_hidden_layers, config.hidden_size, config.vocab_size, head * config.num_key_value_heads
    )


def forward_flops(parameters, tokens):
    """Reading a text: 2 N D, a multiplication and an addition per weight and token.

    >>> forward_flops(1e9, 1e6)
    2000000000000000.0
    """
    return 2.0 * parameters * tokens


def training_flops(parameters, tokens, *, lora=False):
    """Reading and learning: 6 N D; with LoRA 4 N D, for the frozen weights get no gradient of their own.

    A forward pass once more, for checkpointed activations, is not counted: it lowers the share of peak instead.

    >>> training_flops(1e9, 1e6), training_flops(1e9, 1e6, lora=True)
    (6000000000000000.0, 4000000000000000.0)
    """
    return (4.0 if lora else 6.0) * parameters * tokens


def dpo_flops(parameters, tokens, *, epochs=1, lora=False):
    """DPO on so many tokens (both sides of every pair): training, and one pass of the reference, which is kept.

    >>> dpo_flops(1e9, 1e6) == training_flops(1e9, 1e6) + forward_flops(1e9, 1e6)
    True
    """
    return epochs * training_flops(parameters, tokens, lora=lora) + forward_flops(parameters, tokens)


def generation_seconds(model, gpu, *, prompts, prompt_tokens, new_tokens, batch_size, share):
    """Reading the prompts, then a step per new token, each of which reads all weights and the batch's keys and values.

    Parameters
    ----------
    model : Model
    gpu : Gpu
    prompts, prompt_tokens, new_tokens, batch_size : int
        `new_tokens` is the longest output of a batch: all of it waits for the last.
    share : float
        What is reached, of the peak and of the bandwidth.
    """
    batches = -(-prompts // batch_size)
    cache = 2 * HALF * model.layers * model.key_values * batch_size * (prompt_tokens + new_tokens / 2)
    reading = forward_flops(model.parameters, prompts * prompt_tokens) / gpu.peak
    writing = batches * new_tokens * (HALF * model.parameters + cache) / gpu.bandwidth
    return (reading + writing) / share


def training_memory(model, *, tokens, shards=1, lora_rank=None, checkpointing=True, optimizer_bytes=8, logits=True):
    """Bytes on each GPU while training.

    Weights in float32 with their gradients (4 + 4 bytes), and the optimizer's two moments (8; 2 where they have 8 bits);
    with LoRA those of the adapters, beside the frozen weights in bf16.
    Activations take 34 bytes per token, hidden unit and layer (arXiv 2205.05198, without the attention matrix), or 2 where
    only the layers' inputs are kept, with one layer computed anew at a time. Logits are there in bf16, in float32, and as a
    gradient.

    Parameters
    ----------
    model : Model
    tokens : int
        On a GPU in a step, padding included.
    shards : int
        Over how many GPUs weights, gradients and optimizer are split (FSDP, ZeRO-3); 1: each has all.
    lora_rank : int, optional
    checkpointing : bool
    optimizer_bytes : float
        A parameter's.
    logits : bool
        False for a scalar head.

    >>> tiny = Model(parameters=1e9, layers=10, hidden=1000, vocabulary=100_000, key_values=1000)
    >>> (training_memory(tiny, tokens=1000) - CONTEXT) / GB  # 16 + (2 * 10 + 34) * .001 + 1.
    17.054
    """
    if lora_rank is None:
        states = (2 * MASTER + optimizer_bytes) * model.parameters
    else:
        states = HALF * model.parameters + (2 * MASTER + optimizer_bytes) * lora_parameters(model, lora_rank)
    layers = 2 * model.layers + 34 if checkpointing else 34 * model.layers
    read = 10 * model.vocabulary * logits
    return states / shards + tokens * (layers * model.hidden + read) + CONTEXT


def lora_parameters(model, rank):
    """Of adapters on all linear layers: about seven matrices a layer, of which the two sides are some 2.5 hidden wide each."""
    return 7 * model.layers * rank * 5 * model.hidden


def reading_memory(model, *, tokens, logits=True):
    """Bytes for scoring a batch: the weights, and the logits as they are, in float32, and their logarithms."""
    return HALF * model.parameters + tokens * (34 * model.hidden + 10 * model.vocabulary * logits) + CONTEXT


def generation_memory(model, *, batch_size, tokens):
    """Bytes for generating: the weights, and keys and values of the whole batch."""
    return HALF * model.parameters + 2 * HALF * model.layers * model.key_values * batch_size * tokens + CONTEXT
