"""Margins of implicit proxies: pdsel's way against the plain way, step by step, on the same texts and models.

The plain way is the script one would write first: for every proxy, chosen and rejected of every pair through policy
and reference, in the order of the file, 16 at a time, padded to the longest. Three things then change, one per row.
"""

import tempfile
from functools import partial
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench.measure import fresh, peak_mb, timed
from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.pairs import pair_id
from pdsel.proxies import Proxy, score_margins

ASPECTS = ["helpfulness", "honesty", "instruction_following", "truthfulness"]
PROMPTS = 12
BETA = 0.1
WORDS = 50  # few, so that log-probabilities of 1000 tokens stay below 4096 nats, where float32 still resolves 0.00025
MAX_LENGTH = 2048


def draw_pairs(n_prompts, *, seed=0):
    """Pairs of random words with lengths like UltraFeedback's: four rated responses a prompt, up to six pairs.

    Tokens: prompts are log-normal around 100 and at most 512, responses around 250 and at most 1024. As in
    `pdsel.make_pairs`, ties give no pair and the file is sorted by `pair_id`.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n_prompts):
        prompt = _draw_text(rng, 100, 512)
        responses = [_draw_text(rng, 250, 1024) for _ in range(4)]
        rated = list(zip(rng.integers(1, 6, size=4).tolist(), responses, strict=True))
        ordered = [sorted(two, reverse=True) for two in combinations(rated, 2)]
        rows += [(prompt, better, worse, ASPECTS[i % 4]) for (high, better), (low, worse) in ordered if high > low]
    table = pd.DataFrame(rows, columns=["prompt", "chosen", "rejected", "aspect"])
    table.insert(0, "pair_id", [pair_id(*row) for row in rows])
    table.insert(1, "prompt_id", pd.factorize(table["prompt"])[0].astype(str))
    return Dataset.from_pandas(table.sort_values("pair_id"), preserve_index=False)


def _draw_text(rng, median, longest):
    length = int(np.clip(rng.lognormal(np.log(median), 0.8), 5, longest))
    return " ".join(f"w{word}" for word in rng.integers(WORDS, size=length)) + " "


def save_model(folder, *, seed):
    """A tiny random Llama with a tokenizer of words, as safetensors.

    The start is wider than usual: models that are all but uniform would agree on the margins for free.
    """
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(WORDS))])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, padding_side="right", **tokens)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_proxies(folder):
    """An implicit proxy per aspect, all with one reference."""
    reference = save_model(f"{folder}/reference", seed=0)
    paths = [save_model(f"{folder}/{aspect}", seed=1 + k) for k, aspect in enumerate(ASPECTS)]
    shared = {"kind": "implicit", "reference": reference, "beta": BETA, "length_penalty": 0.0, "max_length": MAX_LENGTH}
    untrained = {"seconds": 0.0, "n_pairs": 0, "n_tokens": 0}
    return [Proxy(aspect, path=path, **shared, **untrained) for aspect, path in zip(ASPECTS, paths, strict=True)]


@torch.inference_mode()
def plain_logps(model, texts, *, batch_size=16, net=None):
    """Log-probability of each response (and the end of text), texts as `(prompt, response)`, in the given order."""
    tokenizer, net = load_tokenizer(model), net or load_causal(model).eval()
    logps = []
    for start in range(0, len(texts), batch_size):
        rows = texts[start : start + batch_size]
        wholes = [prompt + response + tokenizer.eos_token for prompt, response in rows]
        batch = tokenizer(wholes, padding=True, padding_side="right", return_tensors="pt", return_token_type_ids=False)
        batch = batch.to(net.device)
        n_prompt = torch.tensor([len(ids) for ids in tokenizer([prompt for prompt, _ in rows])["input_ids"]]).to(
            net.device
        )
        targets, position = batch["input_ids"][:, 1:], torch.arange(1, batch["input_ids"].shape[1], device=net.device)
        token_logps = torch.log_softmax(net(**batch).logits[:, :-1], dim=-1).gather(-1, targets[..., None])[..., 0]
        counted = batch["attention_mask"][:, 1:] * (position >= n_prompt[:, None])
        logps += (token_logps * counted).double().sum(dim=1).tolist()
    return np.array(logps)


def plain_margins(pairs, proxies, *, cached=False, distinct=False):
    """Margins by the plain way; `cached` scores the reference once, `distinct` every distinct text once."""
    texts = [*zip(pairs["prompt"], pairs["chosen"], strict=True), *zip(pairs["prompt"], pairs["rejected"], strict=True)]
    run = list(dict.fromkeys(texts)) if distinct else texts
    rows = pd.Series(range(len(run)), index=pd.Index(run, tupleize_cols=False)) if distinct else None
    where = [rows[text] for text in texts] if distinct else range(len(texts))
    columns, reference = {}, None
    for proxy in proxies:
        if reference is None or not cached:
            reference = plain_logps(proxy.reference, run)
        rewards = (proxy.beta * (plain_logps(proxy.path, run) - reference))[where]
        columns[proxy.aspect] = rewards[: len(pairs)] - rewards[len(pairs) :]
    return pd.DataFrame(columns, index=list(pairs["pair_id"]))


WAYS = {
    "plain": plain_margins,
    "+ the reference once": partial(plain_margins, cached=True),
    "+ every distinct text once": partial(plain_margins, cached=True, distinct=True),
    "+ sorted by length, batches by tokens (pdsel)": score_margins,
}


def measure_scoring(way, n_prompts, folder):
    """`(margins, seconds, CPU seconds, peak memory in MB)` of one way on one core, loading the models included."""
    torch.set_num_threads(1)
    pairs, proxies = draw_pairs(n_prompts), save_proxies(folder)
    return *timed(WAYS[way], pairs, proxies), peak_mb()


def requested_tokens(pairs, n_proxies):
    """Tokens of everything asked for, repeats included: both responses of each pair, by each proxy and its reference."""
    lengths = [
        sum(len(row[column].split()) for column in columns) + 1
        for row in pairs
        for columns in [("prompt", "chosen"), ("prompt", "rejected")]
    ]
    return sum(lengths) * 2 * n_proxies


def scoring_table(n_prompts=PROMPTS, *, run=fresh):
    """A row per way; every way adds one thing to the one before and must give the same margins."""
    pairs = draw_pairs(n_prompts)
    with tempfile.TemporaryDirectory() as folder:
        measured = {way: run(measure_scoring, way, n_prompts, folder) for way in WAYS}
    table = pd.DataFrame({"way": list(WAYS), "pairs": len(pairs)})
    table["tokens_asked_for"] = requested_tokens(pairs, len(ASPECTS))
    margins, table["seconds"], table["cpu_seconds"], table["peak_mb"] = zip(*measured.values(), strict=True)
    table["tokens_a_second"] = table["tokens_asked_for"] / table["seconds"]
    table["times_plain"] = table["seconds"][0] / table["seconds"]
    table["times_row_above"] = [1.0, *(slow / fast for slow, fast in pairwise(table["seconds"]))]
    table["margin_sd"] = margins[0].stack().std()
    table["largest_difference"] = [float((each - margins[0]).abs().max(axis=None)) for each in margins]
    if table["largest_difference"].max() > 1e-4 * max(1.0, table["margin_sd"][0]):
        raise AssertionError(f"the ways differ by more than 1e-4:\n{table.to_string()}")
    return table
