"""SFT, DPO, DMPO and reward training, all on TRL: what is ours is the offset inside the sigmoid and the bookkeeping.

Every trainer takes pairs keyed by `pair_id`, writes safetensors weights, the tokenizer and `training.json` (what was
dropped, seconds, loss curve) into `output_dir`, and returns that path. The folder appears under its name only when it
is complete. The device is found: CUDA, MPS, else CPU. All take these besides their own parameters:

batch_size : int
    Pairs of an optimiser step, over all processes and rounds of `gradient_accumulation_steps`, which must divide it:
    the same number means the same training on one GPU or eight.
lora_rank : int, optional
    Train adapters of this rank on every linear layer (peft, alpha twice the rank) instead of all weights. They are
    merged before saving, so the result is a plain model like any other.
save_steps : int, optional
    Keep a checkpoint every so many steps in `<output_dir>.checkpoints`. The same call after a kill resumes from it, and on
    a CPU ends with the same bytes; with other settings, data or start it begins anew. Removed on success.
accelerate : str or Path, optional
    Run under `accelerate launch` with this config, a path or one of those shipped: "ddp", "fsdp", "zero3", "cpu2". See
    `pdsel.engine.launch`.
bf16, gradient_checkpointing, gradient_accumulation_steps, optim, report_to, ...
    As TRL has them. bf16 and gradient checkpointing are on where there is a GPU. `optim="adamw_8bit"` needs bitsandbytes.

Weights are trained in float32 (frozen ones under LoRA may be bf16). A run without bf16 saves float32. A run with it saves
the type that the start is stored in: whoever loads a 16-bit model computes in 16 bits, and would round the weights then.

Errors: `pdsel.engine.errors.TrainingError` when the loss is no finite number any more, or the memory is full (which says what
to change); a `ValueError` for settings and data that cannot work.
"""

import json
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from trl import DPOConfig, RewardConfig, SFTConfig

from pdsel.engine.launch import launchable
from pdsel.engine.models import device, load_causal, load_classifier, load_tokenizer
from pdsel.engine.reference_cache import ReferenceCache
from pdsel.engine.trainers import MarginTrainer, OffsetCollator, OffsetTrainer, ResponseTrainer
from pdsel.engine.training_run import train
from pdsel.pairs import check_pairs

TRAINING_COLUMNS = ["prompt", "chosen", "rejected"]


@launchable
def train_sft(
    pairs, *, model, output_dir, seed=0, learning_rate=1e-3, batch_size=32, epochs=1, max_length=1024, **config
):
    """Supervised fine-tuning on the chosen response of each pair, loss on the response only.

    Parameters
    ----------
    pairs : datasets.Dataset
        `prompt` and `chosen`; or `prompt` and `completion`, for demonstrations that are no pairs.
    model : str
        Path or hub id of the model to start from.
    output_dir : str or Path
        Written whole or not at all.
    seed : int
    learning_rate, batch_size, epochs, max_length
        Defaults suit the notes world. On several processes accelerate fills the last batch of an epoch up with texts from
        its start.
    **config
        `lora_rank`, `save_steps`, `accelerate` (see the module), and anything else `trl.SFTConfig` knows.

    Returns
    -------
    str
        `output_dir`.
    """
    completion = "completion" if "completion" in pairs.column_names else "chosen"
    data = pairs.select_columns(["prompt", completion]).rename_columns({completion: "completion"})
    return train(
        ResponseTrainer,
        SFTConfig,
        data,
        load=load_causal,
        model=model,
        output_dir=output_dir,
        seed=seed,
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=epochs,
        max_length=max_length,
        counts=partial(_counts, len(data)),
        **config,
    )


def train_dpo(pairs, *, model, output_dir, seed=0, beta=0.1, **training):
    """Direct preference optimisation: `-log sigma(M)`, with M the implicit reward margin.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; order and row positions do not matter.
    model : str
        Path or hub id of the policy to start from; it is also the frozen reference.
    output_dir : str or Path
    seed : int
    beta : float
        Strength of the KL constraint, per nat.
    **training
        `learning_rate=3e-4, batch_size=32, epochs=1, max_length=1024` (notes-world sized), `held_out` and
        `reference_cache` (see `train_with_offset`), `lora_rank`, `save_steps`, `accelerate` (see the module), and
        anything else `trl.DPOConfig` knows.

    Returns
    -------
    str
        `output_dir`.

    Raises
    ------
    ValueError
        For a pairs table with missing columns, duplicates, or a chosen response equal to the rejected one.
    """
    check_pairs(pairs)
    return train_with_offset(
        pairs, [0.0] * len(pairs), model=model, output_dir=output_dir, seed=seed, beta=beta, **training
    )


def train_dmpo(pairs, divergence, *, model, output_dir, seed=0, beta=0.1, aspects, **training):
    """Direct multi-preference optimisation (DFPO at ICLR): `-log sigma(kappa * M + PD)` on every pair.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    divergence : pandas.Series
        PD by `pair_id`; must cover every pair.
    aspects : int
        kappa, the number of aspects.
    model, output_dir, seed, beta, **training
        As in `train_dpo`.

    Returns
    -------
    str
        `output_dir`.
    """
    check_pairs(pairs)
    missing = [pair for pair in pairs["pair_id"] if pair not in divergence.index]
    if missing:
        raise ValueError(
            f"divergence: {len(missing)} pairs have no PD (first: {missing[:5]}); compute preference_divergence on "
            "the margins of these very pairs"
        )
    offsets = divergence.loc[list(pairs["pair_id"])].tolist()
    return train_with_offset(
        pairs, offsets, scale=aspects, model=model, output_dir=output_dir, seed=seed, beta=beta, **training
    )


@launchable
def train_with_offset(
    pairs,
    offsets,
    *,
    model,
    output_dir,
    seed,
    beta,
    scale=1,
    learning_rate=3e-4,
    batch_size=32,
    epochs=1,
    max_length=1024,
    held_out=None,
    reference_cache=None,
    **config,
):
    """DPO with `-log sigma(scale * M + offset)`: DPO at (1, 0), DMPO at (kappa, PD), length penalties in between.

    Exact through TRL: its beta becomes `scale * beta` and the reference log-probability of the chosen response is
    shifted by `-offset / (scale * beta)`. Reference log-probabilities are computed before the first step.

    Parameters
    ----------
    offsets : sequence of float
        Aligned with `pairs`.
    held_out : datasets.Dataset, optional
        Pairs that are not trained on: the share on which the margin is positive, and the loss (offsets 0), go into
        `training.json`, at the end and every `eval_steps`.
    reference_cache : str or Path, optional
        A folder where reference log-probabilities are kept by content (model, text, cut), for other runs on the same
        pool. A cached value differs from one computed anew by about 1e-6.
    """
    # on a GPU a device takes as many pairs at once as in training, which fit there
    batches = {"precompute_ref_batch_size": 4 * batch_size} if device() == "cpu" else {}

    def options(args, tokenizer):
        cache = ReferenceCache(reference_cache, model, "bf16" if args.bf16 else "float32") if reference_cache else None
        collator = OffsetCollator(pad_token_id=tokenizer.pad_token_id, max_length=max_length)
        return {"data_collator": collator, "scale": scale, "reference": cache}

    return train(
        OffsetTrainer,
        DPOConfig,
        _with_column(pairs, "offset", offsets),
        load=load_causal,
        model=model,
        output_dir=output_dir,
        seed=seed,
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=epochs,
        max_length=max_length,
        held_out=_held_out(held_out, "offset"),
        trainer_options=options,
        beta=scale * beta,
        precompute_ref_log_probs=True,
        remove_unused_columns=False,
        counts=partial(_dropped, len(pairs), max_length),
        **batches | config,
    )


@launchable
def train_reward(
    pairs,
    margins,
    *,
    model,
    output_dir,
    seed=0,
    learning_rate=1e-3,
    batch_size=32,
    epochs=1,
    max_length=1024,
    held_out=None,
    **config,
):
    """A Bradley-Terry sequence classifier: `-log sigma(r_w - r_l - margin)`.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    margins : sequence of float
        What is subtracted inside the sigmoid, aligned with `pairs`; zeros for the plain loss.
    held_out : datasets.Dataset, optional
        Pairs that are not trained on, as in `train_with_offset`.
    model, output_dir, seed, **config
        As in `train_dpo`; a causal checkpoint gets a new scalar head.
    """

    def load(path, dtype):
        torch.manual_seed(seed)  # the new head is drawn before the trainer seeds anything
        classifier = load_classifier(path, dtype=dtype)
        classifier.config.pad_token_id = load_tokenizer(path).pad_token_id
        return classifier

    return train(
        MarginTrainer,
        RewardConfig,
        _with_column(pairs, "margin", margins),
        load=load,
        model=model,
        output_dir=output_dir,
        seed=seed,
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=epochs,
        max_length=max_length,
        held_out=_held_out(held_out, "margin"),
        counts=partial(_counts, len(pairs)),
        **config,
    )


def _with_column(pairs, name, values):
    return pairs.select_columns(TRAINING_COLUMNS).add_column(name, [float(value) for value in values])


def _held_out(pairs, column):
    if pairs is None:
        return None
    check_pairs(pairs)
    return _with_column(pairs, column, [0.0] * len(pairs))


def _counts(n_given, trainer):
    return {"n_given": n_given, "n_used": len(trainer.train_dataset)}


def _dropped(n_given, max_length, trainer):
    """TRL drops prompts that fill `max_length` and truncates the rest: count both, and pairs that became identical."""
    long = identical = 0
    for row in trainer.train_dataset.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]):
        room = max_length - len(row["prompt_ids"])
        long += max(len(row["chosen_ids"]), len(row["rejected_ids"])) > room
        identical += row["chosen_ids"][:room] == row["rejected_ids"][:room]
    return _counts(n_given, trainer) | {"n_truncated": long, "n_identical": identical}


def training_log(path):
    """The record of a training run: `n_given, n_used, seconds, steps, history` (TRL's log, one dict a point)."""
    return json.loads(Path(path, "training.json").read_text())


def demonstrations(prompts, responses):
    """A `prompt, completion` table for `train_sft`."""
    return Dataset.from_dict({"prompt": list(prompts), "completion": list(responses)})
