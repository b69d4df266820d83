"""Tiny random checkpoints of real architectures, each with a byte-level tokenizer and its family's chat template."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}

LLAMA3 = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
QWEN2 = (
    "{%- if messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

FAMILIES = {
    "llama": (LlamaConfig, LLAMA3, "<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"]),
    "qwen2": (Qwen2Config, QWEN2, None, "<|im_end|>", ["<|im_start|>", "<|endoftext|>"]),
    "gemma": (GemmaConfig, GEMMA, "<bos>", "<end_of_turn>", ["<start_of_turn>", "<pad>", "<eos>"]),
    "base": (LlamaConfig, None, "<|begin_of_text|>", "<|end_of_text|>", []),  # a pretrained model: no template
}


def save_chat_model(family, folder, *, seed=0, corpus=("the quick brown fox jumps over the lazy dog\n\n",) * 4):
    """A random checkpoint of one of `FAMILIES` in `folder`, as safetensors; returns its path."""
    config, template, bos, eos, tags = FAMILIES[family]
    special = [*([bos] if bos else []), eos, *tags]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    if bos:  # as these families do for plain text
        core.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, core.token_to_id(bos))]
        )
    names = {"bos_token": bos, "eos_token": eos, "chat_template": template}
    if family in ("qwen2", "gemma"):
        names["pad_token"] = "<|endoftext|>" if family == "qwen2" else "<pad>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **{k: v for k, v in names.items() if v})
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = SIZES | ({"head_dim": 16} if family == "gemma" else {})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = AutoModelForCausalLM.from_config(
            config(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **ids, **sizes)
        )
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(Path(folder))
