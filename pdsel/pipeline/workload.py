"""What a profile's jobs have to do: pairs, tokens, floating-point operations, GPU hours and memory, rule by rule."""

from dataclasses import dataclass
from math import ceil

import pandas as pd

from pdsel.data.subsets import capacity
from pdsel.pipeline.compute import (
    GB,
    dpo_flops,
    find_gpu,
    find_model,
    forward_flops,
    generation_memory,
    generation_seconds,
    reading_memory,
    training_flops,
    training_memory,
)
from pdsel.rules.methods import FULL

ASSUMED = {
    "training": 0.35,
    "training with LoRA": 0.3,
    "scoring": 0.4,
    "generation": 0.3,
}  # shares of peak (of bandwidth, for generation)
SCORED_AT_ONCE = 8192  # tokens, see pdsel.engine.scoring
DPO_PASSES = {"implicit": dpo_flops, "shared": dpo_flops, "classifier": training_flops}
ALONE = ["idea", "your_data", "human_ratings", "paper_claims", "study", "study"]  # jobs of the graph without a GPU
HOUR = 3600


@dataclass(frozen=True)
class Data:
    """A rated data set, as far as its publishers say; tokens of a response and of a prompt are means."""

    prompts: int
    responses: float
    aspects: int
    prompt_tokens: int
    response_tokens: int
    gigabytes: float  # to download
    labelled: float = 0.6  # share of response pairs that differ on the one aspect that labels them: assumed
    conflict: float = 0.3  # share of labels that contradict the overall rating


DATA = {
    "ultrafeedback": Data(63_156, 4, 4, 185, 305, 0.9),  # arXiv 2310.01377, Table 1; less TruthfulQA's 811 prompts
    "helpsteer": Data(
        9_900, 3.55, 3, 500, 125, 0.02
    ),  # 35 331 rows; tokens are assumed: half of the prompts hold a document
    "helpsteer2": Data(10_162, 2, 3, 350, 350, 0.02),  # 20 324 rows; tokens are assumed
    "notesworld": Data(700, 4, 4, 20, 12, 0),
}
SETS = {
    "notesworld": 500,
    "alpaca_eval": 805,
    "vicuna": 80,
    "koala": 156,
    "self_instruct": 252,
    "lima": 300,
    "wizardlm": 218,
}


@dataclass(frozen=True)
class Pool:
    """The pairs of one run: how many, the tokens of both sides, and those of each distinct text once."""

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
    100 prompts x 6 response pairs x .5 labelled = 300 pairs of 2 x 150 tokens; 400 distinct texts of 150.

    >>> pool(Data(100, 4, 4, 50, 100, 0, labelled=0.5), conflict=0.3)
    Pool(pairs=300, tokens=90000, distinct=60000, aspects=4)

    210 agreeing pairs allow 262 where a fifth conflicts.

    >>> pool(Data(100, 4, 4, 50, 100, 0, labelled=0.5), conflict=0.2).pairs
    262
    """
    prompts = min(n_prompts or data.prompts, data.prompts) - n_held_out
    fallen = prompts * data.responses * (data.responses - 1) / 2 * data.labelled
    pairs = round(fallen)
    if conflict is not None:
        conflicting = round(fallen * data.conflict)
        pairs = capacity(conflicting, pairs - conflicting, conflict)
    pairs = min(size or pairs, pairs)
    text = min(data.prompt_tokens + data.response_tokens, max_length or float("inf"))
    return Pool(pairs, 2 * pairs * text, min(2 * pairs, prompts * data.responses) * text, data.aspects)


def selection_flops(pool, model, *, kind, epochs=1, share=1.0, replicates=0, lora=False):
    """The proxies of all aspects together, the pooled one, and their scores: `(training, scoring)`.

    Each aspect's proxy trains on its own part, the pooled one on all pairs; each scores every distinct text once. An implicit
    reward needs the reference's scores as well.
    """
    passes = DPO_PASSES[kind]
    training = (2 + replicates) * passes(model.parameters, share * epochs * pool.tokens, lora=lora)
    scorers = pool.aspects * (1 + replicates) + 1 + (kind != "classifier")
    return training, scorers * forward_flops(model.parameters, pool.distinct)


def method_flops(method, pool, model, *, share, epochs=1, lora=False):
    """Training of one method: on all pairs, or on the share that is kept."""
    part = pool.tokens if method in FULL else share * pool.tokens
    return dpo_flops(model.parameters, part, epochs=epochs, lora=lora)


def gpu_jobs(profile, *, shares=ASSUMED):
    """The jobs of a profile that need a GPU, a row per rule.

    Parameters
    ----------
    profile : dict
        With a section `hardware`, see `load_profile`.
    shares : dict
        What a GPU reaches: of its peak for "training", "training with LoRA" and "scoring", of its bandwidth for "generation".

    Returns
    -------
    pandas.DataFrame
        Index `rule`: `jobs`, `gpus` of a job, `gpu_hours` of all jobs, `longest` (hours of the longest job, on its GPUs),
        `memory` (GB on each GPU at most).
    """
    gpu = find_gpu(profile["hardware"]["gpu"])
    grid = profile["grid"]
    seeds = len(grid["seeds"])
    levels = pools(profile)
    proxies = [_proxy_hours(profile, found, gpu, shares) for found in levels]
    policies = [_dpo_hours(profile, method, found, gpu, shares) for found in levels for method in grid["methods"]]
    judged = _evaluation_hours(profile, gpu, shares)
    hours = {"proxies": proxies * seeds, "dpo": policies * seeds, "evaluation": [judged] * seeds * len(levels)}
    memory = {"proxies": _proxy_memory(profile), "dpo": _dpo_memory(profile), "evaluation": _evaluation_memory(profile)}
    rows = {}
    for rule, each in hours.items():
        gpus = (profile.get("resources") or {}).get(rule, {}).get("gpu", 1)
        rows[rule] = {
            "jobs": len(each),
            "gpus": gpus,
            "gpu_hours": sum(each),
            "longest": max(each) / gpus,
            "memory": memory[rule] / GB,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("rule").astype({"jobs": int, "gpus": int})


def jobs(profile):
    """How many jobs of each rule the graph has, as `snakemake --dry-run` counts them."""
    cells = len(profile["grid"]["conflicts"]) * len(profile["grid"]["seeds"])
    rules = dict.fromkeys(("data", "proxies", "selection", "evaluation"), cells)
    rules["dpo"] = cells * len(profile["grid"]["methods"])
    return rules | {rule: ALONE.count(rule) for rule in dict.fromkeys(ALONE)} | {"results": 1}


def pools(profile):
    """The pairs of each conflict level of the grid."""
    section = profile["01_data"]
    data = DATA.get(section.get("source", "notesworld"), DATA["ultrafeedback"])  # a file of one's own: nobody knows
    options = {name: section[name] for name in ("n_prompts", "n_held_out", "size", "max_length") if name in section}
    return [pool(data, conflict=level, **options) for level in profile["grid"]["conflicts"]]


def _lora(section):
    return (section.get("training") or {}).get("lora_rank")


def _share(section, shares):
    """Of peak, when a notebook's models are trained."""
    return shares["training with LoRA" if _lora(section) else "training"]


def _proxy_hours(profile, found, gpu, shares):
    section = profile["02_proxies"]
    names = ("epochs", "share", "replicates")
    training, scoring = selection_flops(
        found,
        find_model(section["model"]),
        kind=section["kind"],
        lora=bool(_lora(section)),
        **{name: section[name] for name in names if name in section},
    )
    return (training / _share(section, shares) + scoring / shares["scoring"]) / gpu.peak / HOUR


def _dpo_hours(profile, method, found, gpu, shares):
    section = profile["04_dpo"]
    flops = method_flops(
        method,
        found,
        find_model(section["model"]),
        share=profile["03_selection"]["share"],
        epochs=section.get("epochs", 1),
        lora=bool(_lora(section)),
    )
    return flops / _share(section, shares) / gpu.peak / HOUR


def _counts(section):
    """Evaluation prompts: for win rates, and in the open sets."""
    size = {name: min(SETS.get(name, 218), section.get("n_prompts") or 10**9) for name in [section["eval_set"]]}
    each = section.get("n_family_prompts") or 10**9
    return sum(size.values()), sum(min(SETS.get(name, 218), each) for name in section["open_sets"])


def _evaluation_hours(profile, gpu, shares):
    section = profile["05_evaluation"]
    model, policies = find_model(section["model"]), 1 + len(profile["grid"]["methods"])
    data = DATA.get(profile["01_data"].get("source"), DATA["ultrafeedback"])
    prompts, extra = _counts(section)
    writing = generation_seconds(
        model,
        gpu,
        prompts=policies * (prompts + extra),
        prompt_tokens=data.prompt_tokens,
        new_tokens=section["max_new_tokens"],
        share=shares["generation"],
        batch_size=(section.get("generation") or {}).get("batch_size", 128),
    )
    if section["judge"] in ("gold", section.get("llm_judge")):
        return writing / HOUR
    texts = 2 * (comparisons(profile) + 4 * prompts)  # and the constants
    reading = forward_flops(
        find_model(section["judge"]).parameters, texts * (data.prompt_tokens + section["max_new_tokens"])
    )
    return (writing + reading / gpu.peak / shares["scoring"]) / HOUR


def comparisons(profile):
    """Pairs of outputs that a run's judge compares: against SFT, against OVA on the open sets, each policy with each."""
    prompts, extra = _counts(profile["05_evaluation"])
    n = len(profile["grid"]["methods"])
    duels = n * (n + 1) // 2 if profile["05_evaluation"].get("everyone", True) else 0
    return n * prompts + n * extra + duels * prompts


def _micro(section, gpus):
    """Pairs on a GPU at once."""
    parts = gpus * (section.get("training") or {}).get("gradient_accumulation_steps", 1)
    return ceil(section["batch_size"] / parts)


def _training_memory(profile, notebook, rule, *, logits):
    section = profile[notebook]
    gpus = (profile.get("resources") or {}).get(rule, {}).get("gpu", 1)
    options = section.get("training") or {}
    return training_memory(
        find_model(section["model"]),
        tokens=2 * _micro(section, gpus) * section["max_length"],
        lora_rank=_lora(section),
        shards=gpus if section.get("accelerate") in ("fsdp", "zero3") else 1,
        checkpointing=options.get("gradient_checkpointing", True),
        optimizer_bytes=2 if "8bit" in options.get("optim", "") else 8,
        logits=logits,
    )


def _proxy_memory(profile):
    logits = profile["02_proxies"]["kind"] != "classifier"
    reading = reading_memory(find_model(profile["02_proxies"]["model"]), tokens=SCORED_AT_ONCE, logits=logits)
    return max(_training_memory(profile, "02_proxies", "proxies", logits=logits), reading)


def _dpo_memory(profile):
    """Training, or the reference's pass before it, in batches of its own."""
    section = profile["04_dpo"]
    gpus = (profile.get("resources") or {}).get("dpo", {}).get("gpu", 1)
    pairs = section.get("training", {}).get("precompute_ref_batch_size", _micro(section, gpus))
    reference = reading_memory(find_model(section["model"]), tokens=2 * pairs * section["max_length"])
    return max(_training_memory(profile, "04_dpo", "dpo", logits=True), reference)


def _evaluation_memory(profile):
    section = profile["05_evaluation"]
    batch = (section.get("generation") or {}).get("batch_size", 128)
    writing = generation_memory(find_model(section["model"]), batch_size=batch, tokens=512 + section["max_new_tokens"])
    if section["judge"] in ("gold", section.get("llm_judge")):
        return writing
    return max(writing, reading_memory(find_model(section["judge"]), tokens=SCORED_AT_ONCE, logits=False))
