"""What a model costs: floating-point operations, bytes and seconds of training, scoring and generating, as rules of thumb.

N is a number of parameters, D a number of tokens. Every rule counts: the operations of attention itself, padding and start-up
are left out. Which part of its peak a GPU reaches is assumed or measured elsewhere (`pdsel.pipeline.costs`).
"""

from dataclasses import dataclass
from math import ceil

from pdsel.checks import DataError
from pdsel.data.subsets import capacity
from pdsel.notesworld import model_path
from pdsel.rules.methods import FULL

GB = 1e9
MASTER = 4  # bytes of a weight in training, and of one that is saved
HALF = 2  # of a weight that is only read: bf16
CONTEXT = 1.5 * GB  # of CUDA itself and of the allocator's gaps


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet: peak of dense bf16 in FLOP/s, memory in bytes, memory bandwidth in bytes/s."""

    peak: float
    memory: float
    bandwidth: float


# One core of a server with AVX2 at 3 GHz, for the notes world.
CORE = Gpu(96e9, 16 * GB, 10e9)
# Two cores with AVX-512 and bf16, by what they were seen to read and to learn a second of a model of 135 million weights.
CORES = "2 CPU cores"
GPUS = {
    CORES: Gpu(5e11, 16 * GB, 20e9),
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
    """The sizes of a model that its costs depend on; `key_values` is the width of the keys (and of the values) of a layer."""

    parameters: float
    layers: int
    hidden: int
    vocabulary: int
    key_values: int


# The models of the shipped profiles, so that a plan needs no hub.
MODELS = {
    "Qwen/Qwen2.5-0.5B-Instruct": Model(494e6, 24, 896, 151_936, 128),
    "allenai/Llama-3.1-Tulu-3-8B-SFT": Model(8.03e9, 32, 4096, 128_264, 1024),
    "meta-llama/Llama-3.2-1B": Model(1.236e9, 16, 2048, 128_256, 512),
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": Model(7.505e9, 32, 4096, 128_256, 1024),
    "../results/local/pocket/start/sft": Model(134.5e6, 30, 576, 49_152, 192),
    "../results/local/pocket/start/judge": Model(134.5e6, 30, 576, 49_152, 192),
}


def find_gpu(name):
    """A GPU by its name; an unknown name is refused with a list of the known ones."""
    if name not in GPUS:
        raise DataError(
            f"hardware: gpu {name!r} is unknown. Remedy: use one of {list(GPUS)}, or add its data sheet's "
            "numbers to pdsel/pipeline/compute.py"
        )
    return GPUS[name]


def find_model(name):
    """The sizes of a model, from `MODELS` or counted from its config; its weights are not read.

    >>> find_model("notesworld")
    Model(parameters=168640, layers=3, hidden=64, vocabulary=66, key_values=64)
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
            "in to the hub, or add its sizes to MODELS in pdsel/pipeline/compute.py"
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
    """Reading and learning: 6 N D; with LoRA 4 N D, because the frozen weights get no gradient of their own.

    Checkpointed activations take one more forward pass. It is not counted: it lowers the share of the peak instead.

    >>> training_flops(1e9, 1e6), training_flops(1e9, 1e6, lora=True)
    (6000000000000000.0, 4000000000000000.0)
    """
    return (4.0 if lora else 6.0) * parameters * tokens


def dpo_flops(parameters, tokens, *, epochs=1, lora=False):
    """DPO on this many tokens (both sides of every pair): training, and one pass of the reference, whose results are kept.

    >>> dpo_flops(1e9, 1e6) == training_flops(1e9, 1e6) + forward_flops(1e9, 1e6)
    True
    """
    return epochs * training_flops(parameters, tokens, lora=lora) + forward_flops(parameters, tokens)


def generation_seconds(model, gpu, *, prompts, prompt_tokens, new_tokens, batch_size, share):
    """Seconds to read the prompts and to write: each step reads all weights, and the keys and values of the batch.

    Parameters
    ----------
    model : Model
    gpu : Gpu
    prompts, prompt_tokens, new_tokens, batch_size : int
        `new_tokens` is the length of the longest output of a batch, for which the others wait.
    share : float
        What the GPU reaches of its peak and of its bandwidth.
    """
    batches = ceil(prompts / batch_size)
    cache = 2 * HALF * model.layers * model.key_values * batch_size * (prompt_tokens + new_tokens / 2)
    reading = forward_flops(model.parameters, prompts * prompt_tokens) / gpu.peak
    writing = batches * new_tokens * (HALF * model.parameters + cache) / gpu.bandwidth
    return (reading + writing) / share


def training_memory(model, *, tokens, shards=1, lora_rank=None, checkpointing=True, optimizer_bytes=8, logits=True):
    """Bytes on each GPU while training.

    There are the weights in float32 with their gradients (4 + 4 bytes) and the optimizer's two moments (8 bytes, or 2 where
    a moment has 8 bits); with LoRA, only the adapters have these, beside the frozen weights in bf16.
    Activations take 34 bytes per token, hidden unit and layer (arXiv 2205.05198, without the attention matrix). With
    checkpointing they take 2, because only the inputs of the layers are kept, and one layer at a time is computed again.
    The logits exist three times: in bf16, in float32, and as a gradient.

    Parameters
    ----------
    model : Model
    tokens : int
        On one GPU in one step, padding included.
    shards : int
        The number of GPUs that share weights, gradients and optimizer (FSDP, ZeRO-3); with 1, each GPU has all of them.
    lora_rank : int, optional
    checkpointing : bool
    optimizer_bytes : float
        Per parameter.
    logits : bool
        False for a model with a scalar head.

    >>> tiny = Model(parameters=1e9, layers=10, hidden=1000, vocabulary=100_000, key_values=1000)
    >>> (training_memory(tiny, tokens=1000) - CONTEXT) / GB  # 16 + (2 * 10 + 34) * .001 + 1.
    17.054
    """
    if lora_rank is None:
        states = (2 * MASTER + optimizer_bytes) * model.parameters
    else:
        states = HALF * model.parameters + (2 * MASTER + optimizer_bytes) * lora_parameters(model, lora_rank)
    layers = 2 * model.layers + 34 if checkpointing else 34 * model.layers
    return states / shards + tokens * (layers * model.hidden + _logit_bytes(model, logits)) + CONTEXT


def lora_parameters(model, rank):
    """Parameters of the adapters of all linear layers: seven matrices a layer, each with about five hidden widths of sides."""
    return 7 * model.layers * rank * 5 * model.hidden


def reading_memory(model, *, tokens, logits=True):
    """Bytes for scoring a batch: the weights, one layer's activations, and the logits in bf16, in float32, as logarithms."""
    return HALF * model.parameters + tokens * (34 * model.hidden + _logit_bytes(model, logits)) + CONTEXT


def generation_memory(model, *, batch_size, tokens):
    """Bytes for generating: the weights, and the keys and values of the whole batch."""
    return HALF * model.parameters + 2 * HALF * model.layers * model.key_values * batch_size * tokens + CONTEXT


def _logit_bytes(model, logits):
    """Bytes of one token's logits in bf16, in float32 and once more in float32; none for a model with a scalar head."""
    return 10 * model.vocabulary if logits else 0


@dataclass(frozen=True)
class Data:
    """A rated data set, as far as its publishers describe it; the tokens of a response and of a prompt are means.

    `gigabytes` is the size of its download, `labelled` the share of response pairs that differ on the one aspect that labels
    them (assumed), `conflict` the share of labels that contradict the overall rating.
    """

    prompts: int
    responses: float
    aspects: int
    prompt_tokens: int
    response_tokens: int
    gigabytes: float
    labelled: float = 0.6
    conflict: float = 0.3


@dataclass(frozen=True)
class Pool:
    """The pairs of one run: their number, the tokens of both sides, and the tokens of each distinct text, counted once."""

    pairs: int
    tokens: float
    distinct: float
    aspects: int


def pool(data, *, n_prompts=None, n_held_out=0, conflict=None, size=None, max_length=None):
    """How many pairs and tokens notebook 01 will find.

    Parameters
    ----------
    data : Data
    n_prompts, n_held_out, conflict, size, max_length
        As in the profile.

    Examples
    --------
    100 prompts x 6 response pairs x .5 labelled = 300 pairs of 2 x 150 tokens; 400 distinct texts of 150 tokens.

    >>> pool(Data(100, 4, 4, 50, 100, 0, labelled=0.5), conflict=0.3)
    Pool(pairs=300, tokens=90000, distinct=60000, aspects=4)

    210 agreeing pairs allow 262 pairs of which a fifth conflicts.

    >>> pool(Data(100, 4, 4, 50, 100, 0, labelled=0.5), conflict=0.2).pairs
    262
    """
    prompts = min(n_prompts or data.prompts, data.prompts) - n_held_out
    labelled = prompts * data.responses * (data.responses - 1) / 2 * data.labelled
    pairs = round(labelled)
    if conflict is not None:
        conflicting = round(labelled * data.conflict)
        pairs = capacity(conflicting, pairs - conflicting, conflict)
    pairs = min(size or pairs, pairs)
    text = min(data.prompt_tokens + data.response_tokens, max_length or float("inf"))
    return Pool(pairs, 2 * pairs * text, min(2 * pairs, prompts * data.responses) * text, data.aspects)


# How often the distinct texts are read to score them: for each proxy, and once for all of them (a reference, features).
READINGS = {"classifier": (1, 0), "implicit": (1, 1), "shared": (2, 0), "probe": (0, 1)}


def aspects_flops(pool, model, *, kind, epochs=1, share=1.0, lora=False):
    """The proxies of all aspects, and their scores of every distinct text: `(training, scoring)`.

    The aspects' parts of the pairs are all pairs together. A probe is not trained: a regression costs next to nothing.

    >>> found, model = Pool(pairs=300, tokens=90_000, distinct=60_000, aspects=4), Model(1e9, 10, 1000, 100_000, 1000)
    >>> aspects_flops(found, model, kind="probe") == (0.0, forward_flops(1e9, 60_000))
    True
    """
    per_proxy, once = READINGS[kind]
    scoring = (per_proxy * pool.aspects + once) * forward_flops(model.parameters, pool.distinct)
    return _trained(pool, model, kind, share * epochs, lora), scoring


def pooled_flops(pool, model, *, kind, epochs=1, share=1.0, lora=False):
    """The one reward of all pairs, and its scores: `(training, scoring)`; beside shared proxies it is an implicit one."""
    kind = "implicit" if kind == "shared" else kind
    scoring = sum(READINGS[kind]) * forward_flops(model.parameters, pool.distinct)
    return _trained(pool, model, kind, share * epochs, lora), scoring


def selection_flops(pool, model, *, kind, **passes):
    """The proxies of all aspects and the pooled one: `(training, scoring)`; `passes` are the keywords of `aspects_flops`.

    What both of them read once, they read once together.
    """
    parts = [flops(pool, model, kind=kind, **passes) for flops in (aspects_flops, pooled_flops)]
    training, scoring = map(sum, zip(*parts, strict=True))
    return training, scoring - READINGS[kind][1] * forward_flops(model.parameters, pool.distinct)


def _trained(pool, model, kind, passes, lora):
    if kind == "probe":
        return 0.0
    one_pass = training_flops if kind == "classifier" else dpo_flops
    return one_pass(model.parameters, passes * pool.tokens, lora=lora)


def method_flops(method, pool, model, *, share, epochs=1, lora=False):
    """Training with one method: on all pairs, or on the share that it keeps."""
    tokens = pool.tokens if method in FULL else share * pool.tokens
    return dpo_flops(model.parameters, tokens, epochs=epochs, lora=lora)
