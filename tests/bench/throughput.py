"""Scoring, features and DPO of a 1B-parameter random Llama on one GPU, and TRL's defaults on the same pairs.

`PYTHONPATH=tests python -m bench.throughput [folder]` writes `throughput.csv`; it needs CUDA. FLOPs are the model's: what the
mathematics takes, without what checkpointing computes twice. Seconds are of the reference's log-probabilities and the
steps, without loading, tokenizing and saving.
"""

import json
import math
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
import trl
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM
from trl import DPOConfig, DPOTrainer

from bench.measure import fresh
from bench.scoring import MAX_LENGTH, draw_pairs, plain_logps, save_model
from pdsel.engine import processes
from pdsel.engine.features import Reader
from pdsel.engine.models import device, load_causal, load_tokenizer
from pdsel.engine.scoring import encode, response_logps
from pdsel.training import train_dpo, training_log

LLAMA_1B = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "max_position_embeddings": MAX_LENGTH,
}
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12, "A10": 125e12}
PAIRS, BATCH, RANK = 256, 8, 16


def forward_flops(config, length):
    """Floating-point operations of one causal forward pass over a text of `length` tokens, output layer included.

    Two a weight and token, and in every layer two products of each token's heads with those of the tokens up to it.

    >>> forward_flops(LlamaConfig(vocab_size=10, hidden_size=4, intermediate_size=8, num_hidden_layers=2,
    ...                           num_attention_heads=2, num_key_value_heads=1, head_dim=2), 3)
    2160
    """
    heads, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * keys + 3 * config.intermediate_size)
    weights = config.num_hidden_layers * layer + config.hidden_size * config.vocab_size
    return 2 * length * weights + config.num_hidden_layers * 2 * heads * length * (length + 1)


def passes(way):
    """How many forward passes a way is worth, the reference's included.

    A backward pass is two: one for the activations' gradients, one for the weights', which frozen weights need not.

    >>> passes("scoring: pdsel"), passes("DPO in full: pdsel"), passes("DPO with adapters: pdsel")
    (1, 4, 3)
    """
    return {"scoring": 1, "features": 1, "DPO in full": 4, "DPO with adapters": 3}[way.split(":")[0]]


def peak_flops(name):
    """Dense bf16 FLOP/s of a GPU by the maker's data sheet, NaN if it is not in the list.

    >>> peak_flops("NVIDIA H200"), peak_flops("NVIDIA L40S")
    (989000000000000.0, 362000000000000.0)
    """
    return next((PEAK[model] for model in sorted(PEAK, key=len, reverse=True) if model in name), math.nan)


def save_llama(folder, sizes):
    """A random Llama in bf16 of the given sizes, with the bench's tokenizer of words."""
    save_model(folder, seed=0)  # the tokenizer
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(
            LlamaConfig(eos_token_id=1, pad_token_id=0, bos_token_id=None, **sizes)
        ).bfloat16().save_pretrained(folder)
    return str(folder)


def distinct_pairs(n):
    """Pairs of as many prompts: no text occurs twice."""
    pairs = draw_pairs(2 * n)
    first = pd.Series(list(pairs["prompt"])).drop_duplicates().index[:n]
    return pairs.select(first)


@contextmanager
def reference_seconds():
    """Collects the seconds that TRL spends on precomputing the reference's log-probabilities."""
    spent, original = [], DPOTrainer._precompute_ref_logps

    def timed(self, *args):
        start = time.perf_counter()
        found = original(self, *args)
        spent.append(time.perf_counter() - start)
        return found

    DPOTrainer._precompute_ref_logps = timed
    try:
        yield spent
    finally:
        DPOTrainer._precompute_ref_logps = original


def score_pdsel(model, pairs, folder):
    net = load_causal(model).to(device())  # loaded before the clock starts, as for the trainers
    from pdsel.engine import scoring

    load, scoring.load_causal = scoring.load_causal, lambda _: net
    start = time.perf_counter()
    try:
        response_logps(model, list(pairs["prompt"]) * 2, [*pairs["chosen"], *pairs["rejected"]], max_length=MAX_LENGTH)
    finally:
        scoring.load_causal = load
    return time.perf_counter() - start


def read_features(model, pairs, folder):
    """The pass of the scoring, in the trainers' arithmetic, with every block of features."""
    reader = Reader(model, max_length=MAX_LENGTH)
    start = time.perf_counter()
    reader.read(list(pairs["prompt"]) * 2, [*pairs["chosen"], *pairs["rejected"]])
    return time.perf_counter() - start


def score_plain(model, pairs, folder):
    texts = [*zip(pairs["prompt"], pairs["chosen"], strict=True), *zip(pairs["prompt"], pairs["rejected"], strict=True)]
    net = load_causal(model).to(device()).eval()
    start = time.perf_counter()
    plain_logps(model, texts, batch_size=BATCH, net=net)
    return time.perf_counter() - start


def dpo_pdsel(model, pairs, folder, rank=None):
    with reference_seconds() as spent:
        path = train_dpo(
            pairs,
            model=model,
            output_dir=f"{folder}/policy",
            beta=0.01,
            learning_rate=5e-7,
            batch_size=BATCH,
            max_length=MAX_LENGTH,
            lora_rank=rank,
        )
    return sum(spent) + training_log(path)["seconds"]


def dpo_trl(model, pairs, folder, rank=None):
    """TRL's own defaults (bf16 and checkpointing on a GPU, the reference in every step), but for length and batch."""
    cpu = device() == "cpu"
    plain = {"use_cpu": True, "bf16": False} if cpu else {}
    config = DPOConfig(
        output_dir=f"{folder}/trl",
        report_to="none",
        save_strategy="no",
        max_length=MAX_LENGTH,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        disable_tqdm=True,
        **plain,
    )
    adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear") if rank else None
    trainer = DPOTrainer(
        model,
        args=config,
        train_dataset=pairs.select_columns(["prompt", "chosen", "rejected"]),
        processing_class=load_tokenizer(model),
        peft_config=adapters,
    )
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


WAYS = {
    "scoring: pdsel": score_pdsel,
    "features: pdsel": read_features,
    "scoring: plain transformers": score_plain,
    "DPO in full: pdsel": dpo_pdsel,
    "DPO in full: TRL's defaults": dpo_trl,
    "DPO with adapters: pdsel": lambda *args: dpo_pdsel(*args, rank=RANK),
    "DPO with adapters: TRL's defaults": lambda *args: dpo_trl(*args, rank=RANK),
}


def measure(way, sizes, n_pairs, folder):
    """One row of the table: the way run once on a few pairs to warm up, then timed."""
    model, pairs = save_llama(f"{folder}/model", sizes), distinct_pairs(n_pairs)
    WAYS[way](model, pairs.select(range(min(2 * BATCH, n_pairs))), folder)
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = WAYS[way](model, pairs, folder)
    config, prompts = LlamaConfig(**sizes), list(pairs["prompt"])
    lengths = [
        min(len(ids), MAX_LENGTH)
        for side in ("chosen", "rejected")
        for ids, _ in encode(load_tokenizer(model), prompts, list(pairs[side]))
    ]
    flops = passes(way) * sum(forward_flops(config, length) for length in lengths)
    name = torch.cuda.get_device_name() if gpu else "cpu"
    return {
        "way": way,
        "device": name,
        "torch": torch.__version__,
        "trl": trl.__version__,
        "processes": processes.count(),
        "model_parameters": sum(weight.numel() for weight in load_causal(model).parameters()),
        "pairs": len(pairs),
        "batch": BATCH,
        "tokens": sum(lengths),
        "seconds": seconds,
        "tokens_a_second": sum(lengths) / seconds,
        "tflops_a_second": flops / seconds / 1e12,
        "share_of_peak": flops / seconds / peak_flops(name),
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if gpu else math.nan,
    }


def throughput_table(sizes=LLAMA_1B, n_pairs=PAIRS, *, run=fresh):
    """A row per way, each in a process of its own."""
    rows = []
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(run(measure, way, sizes, n_pairs, folder))
    return pd.DataFrame(rows)


def main(folder="results/gpu"):
    """Measure, print and write `throughput.csv` and the sizes of the model."""
    if not torch.cuda.is_available():
        sys.exit("bench.throughput needs a CUDA GPU, and torch finds none here: nothing was measured, nothing written.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    table = throughput_table()
    table.to_csv(Path(folder, "throughput.csv"), index=False, float_format="%.6g")
    Path(folder, "throughput.json").write_text(
        json.dumps({"model": LLAMA_1B, "max_length": MAX_LENGTH, "rank": RANK}) + "\n"
    )
    print(table.to_string(index=False, float_format="{:,.3g}".format))


if __name__ == "__main__":
    main(*sys.argv[1:2])
