"""Rebuild the shipped base model: `python -m pdsel.notesworld.build_base [folder]`, about seven minutes on two cores.

Recipe: a Llama of hidden size 96, 3 layers and 4 heads (0.37 M parameters, random start), supervised fine-tuning on
192 000 prompt-response pairs of the *base* split, 3 000 steps of 64, learning rate 1e-3 (higher ones copy notes less reliably), cosine.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pdsel.notesworld import BASE_MODEL
from pdsel.notesworld.people import draw_responders, respond
from pdsel.notesworld.world import ATTRIBUTES, FILLER, HEDGE, UNKNOWN, draw_prompts
from pdsel.training import demonstrations, train_sft

EXAMPLES = 192_000
PROMPTS = 64_000
SEED = 20250811


def build_tokenizer():
    """A word-level tokenizer over the whole vocabulary of the world."""
    words = ["<pad>", "<eos>", "<unk>", "notes", "tell", "and", "also", ";", "=", ".", UNKNOWN, HEDGE, *FILLER.split()]
    words += [word for name, values in ATTRIBUTES.items() for word in (name, *values)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=128,
        padding_side="left",
    )


def untrained_model(tokenizer, *, hidden=96, layers=3, heads=4, seed=SEED):
    """A randomly initialised Llama for the notes world."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def responder_demonstrations(n, *, n_prompts=PROMPTS, seed=SEED):
    """`n` responses by random responders to prompts of the base split."""
    rng = np.random.default_rng([seed, 303])
    cast = draw_responders()
    prompts = draw_prompts(n_prompts, split="base", seed=seed)
    drawn = [(prompts[i % n_prompts], cast[rng.integers(len(cast))]) for i in range(n)]
    return demonstrations([p for p, _ in drawn], [respond(p, responder, rng) for p, responder in drawn])


def build(output_dir=BASE_MODEL, *, examples=EXAMPLES, batch_size=64, learning_rate=1e-3):
    """Train the base model from nothing and write weights and tokenizer to `output_dir` (the model card is kept)."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = build_tokenizer()
        tokenizer.save_pretrained(f"{scratch}/start")
        untrained_model(tokenizer).save_pretrained(f"{scratch}/start")
        data = responder_demonstrations(examples, n_prompts=min(PROMPTS, examples))
        trained = train_sft(data, model=f"{scratch}/start", output_dir=f"{scratch}/trained", seed=SEED,
                            learning_rate=learning_rate, batch_size=batch_size, max_length=None)  # fmt: skip
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        for file in ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
                     "tokenizer_config.json", "training.json"]:  # fmt: skip
            shutil.copy(f"{trained}/{file}", output_dir)
    return output_dir


if __name__ == "__main__":
    print(build(*sys.argv[1:2]))
