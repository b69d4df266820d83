"""The GPU bench, tiny and on a CPU: its arithmetic, and that it runs; it times nothing here."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from bench import throughput
from bench.measure import here
from bench.throughput import LLAMA_1B, WAYS, distinct_pairs, forward_flops, main, passes, peak_flops, throughput_table

TINY = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 2048,
}


def test_flops_of_a_llama_by_hand():
    config = LlamaConfig(
        vocab_size=10,
        hidden_size=4,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=2,
    )
    query = output = 4 * 4
    key = value = 4 * 2
    layer = query + key + value + output + 3 * 4 * 8  # 144
    dense = 2 * 3 * (2 * layer + 4 * 10)  # 3 tokens, two operations a weight: 1968
    attention = (
        2 * (1 + 2 + 3) * 2 * 4 * 2
    )  # 2 layers, 6 pairs of tokens, 2 products, heads of width 4, 2 operations: 192
    assert forward_flops(config, 3) == dense + attention == 2160


def test_flops_against_torchs_own_counter():
    """torch counts what is computed: attention over the whole square, where the mathematics needs the lower half."""
    config, length = LlamaConfig(**TINY, attn_implementation="eager"), 12
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        LlamaForCausalLM(config)(input_ids=torch.zeros(1, length, dtype=torch.long))
    wasted = 2 * 4 * 16 * (length**2 - length * (length + 1) // 2)
    rotary = 2 * 4 * length  # the angles are a product, too
    assert counter.get_total_flops() == pytest.approx(forward_flops(config, length) + wasted, abs=2 * rotary)


def test_the_model_has_a_billion_parameters_and_the_usual_six_flops_a_weight():
    config = LlamaConfig(**LLAMA_1B)
    with torch.device("meta"):
        n = sum(weight.numel() for weight in LlamaForCausalLM(config).parameters())
    assert 1.1e9 < n < 1.4e9
    assert 3 * forward_flops(config, 1) == pytest.approx(6 * n, rel=0.01)  # at length 1 attention is next to nothing
    assert [passes(way) for way in WAYS] == [1, 1, 1, 4, 4, 3, 3]


@pytest.mark.parametrize(("name", "peak"), [("NVIDIA H200", 989e12), ("NVIDIA L4", 121e12), ("NVIDIA L40S", 362e12)])
def test_peaks_are_by_the_longest_name(name, peak):
    assert peak_flops(name) == peak and math.isnan(peak_flops("cpu"))


def test_texts_are_distinct():
    pairs = distinct_pairs(6)
    texts = [*zip(pairs["prompt"], pairs["chosen"], strict=True), *zip(pairs["prompt"], pairs["rejected"], strict=True)]
    assert len(pairs) == 6 and len(set(texts)) == 12


def test_every_way_runs_and_counts_the_same_tokens(monkeypatch):
    monkeypatch.setattr(throughput, "BATCH", 2)
    table = throughput_table(TINY, 3, run=here)
    assert list(table["way"]) == list(WAYS)
    assert table["tokens"].nunique() == 1 and table["tokens"][0] > 100
    assert (table["seconds"] > 0).all() and table["share_of_peak"].isna().all()
    flops = table["tflops_a_second"] * table["seconds"]
    assert (flops / flops[0]).round(6).tolist() == [1, 1, 1, 4, 4, 3, 3]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: it would measure")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    with pytest.raises(SystemExit, match="needs a CUDA GPU.*nothing written"):
        main(tmp_path / "gpu")
    assert list(tmp_path.iterdir()) == []
