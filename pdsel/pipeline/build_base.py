"""Rebuilds the shipped models: `python -m pdsel.pipeline base [folder]`, minutes on two cores.

The recipe is a small Llama that starts from random weights and is fine-tuned on 128 000 prompt-response pairs of the *base*
split, in 2 000 steps of 64 pairs. Policies start from the larger one of `SHAPES`, proxies from the smaller.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pdsel.evaluation.judges import gold_scores
from pdsel.generation import generate
from pdsel.notesworld.people import draw_responders, respond
from pdsel.notesworld.settings import BASE_MODEL, NEW_TOKENS, PROXY_BASE
from pdsel.notesworld.world import ATTRIBUTES, FILLER, TONES, WORDS, draw_prompts
from pdsel.pipeline.text import markdown
from pdsel.training import demonstrations, train_sft, training_log

EXAMPLES = 128_000
PROMPTS = 64_000
SHAPES = {  # where a shipped model lies, and its shape
    BASE_MODEL: {"hidden": 64, "layers": 3, "heads": 4},
    PROXY_BASE: {"hidden": 40, "layers": 2, "heads": 4},
}
SEED = 20250811
FILES = ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]


def build_tokenizer():
    """A word-level tokenizer for the whole vocabulary of the notes world."""
    words = ["<pad>", "<eos>", "<unk>", "notes", "tell", *TONES, "and", ";", "=", ".", *WORDS, *FILLER.split()]
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


def untrained_model(tokenizer, *, hidden=64, layers=3, heads=4, seed=SEED):
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
    """`n` responses of random responders to prompts of the base split."""
    rng = np.random.default_rng([seed, 303])
    cast = draw_responders()
    prompts = draw_prompts(n_prompts, split="base", seed=seed)
    drawn = [(prompts[i % n_prompts], cast[rng.integers(len(cast))]) for i in range(n)]
    return demonstrations([p for p, _ in drawn], [respond(p, responder, rng) for p, responder in drawn])


def build(output_dir, *, examples=EXAMPLES, batch_size=64, learning_rate=2e-3, seed=SEED, **shape):
    """Train a base model from nothing; write its weights, tokenizer and model card to `output_dir`, which is returned.

    `shape` gives `hidden`, `layers` and `heads`; the default is that of the shipped model in this folder, or else of the
    larger one.
    """
    shape = SHAPES.get(str(output_dir), SHAPES[BASE_MODEL]) | shape
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = build_tokenizer()
        tokenizer.save_pretrained(f"{scratch}/start")
        untrained_model(tokenizer, seed=seed, **shape).save_pretrained(f"{scratch}/start")
        data = responder_demonstrations(examples, n_prompts=min(PROMPTS, examples), seed=seed)
        trained = train_sft(
            data,
            model=f"{scratch}/start",
            output_dir=f"{scratch}/trained",
            seed=seed,
            learning_rate=learning_rate,
            batch_size=batch_size,
            max_length=None,
        )
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        for file in FILES:
            shutil.copy(f"{trained}/{file}", output_dir)
        seconds = training_log(trained)["seconds"]
    recipe = {"examples": examples, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    write_card(output_dir, **recipe, seconds=seconds, **shape)
    return output_dir


def fidelity(model, *, n=1000, seed=SEED):
    """Gold aspects and utility of the responders, of the model at temperature 1, and of its greedy outputs.

    The prompts are from the *select* split, on which the model is never trained.
    """
    rng = np.random.default_rng([seed, 505])
    cast = draw_responders()
    prompts = draw_prompts(n, split="select", seed=seed)
    texts = {
        "responders": [respond(prompt, cast[rng.integers(len(cast))], rng) for prompt in prompts],
        "model, temperature 1": generate(model, prompts, max_new_tokens=NEW_TOKENS, temperature=1.0, seed=seed),
        "model, greedy": generate(model, prompts, max_new_tokens=NEW_TOKENS),
    }
    return pd.DataFrame({name: gold_scores(prompts, outputs).mean() for name, outputs in texts.items()}).T


def write_card(output_dir, **recipe):
    """Write the model card, with the measured fidelity."""
    table = fidelity(output_dir).round(3).drop(columns="characters").rename_axis("").reset_index()
    numbers = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in recipe.items()}
    settings = "\n".join(f"- {name}: {text}" for name, text in numbers.items())
    card = CARD.format(settings=settings, table=markdown(table), parameters=_n_parameters(output_dir))
    Path(output_dir, "README.md").write_text(card)


def _n_parameters(model):
    with safe_open(Path(model, "model.safetensors"), "pt") as weights:
        return sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118


CARD = """---
license: apache-2.0
library_name: transformers
---
# A base model of the notes world

A Llama with {parameters:,} parameters and a vocabulary of words, trained from nothing to imitate the responders of the notes
world. The larger of two is the SFT policy of the offline profile, and its reference; proxies start from the smaller. It knows
nothing else, and nothing of how reliable a note is.

Rebuild it with `make notesworld-base` (`pdsel/pipeline/build_base.py` is the recipe). This one:

{settings}

What it says, by the gold aspects (means over 1000 prompts of a split it never saw; tokens is the length):

{table}
"""
