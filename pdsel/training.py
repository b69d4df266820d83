"""SFT, DPO, DMPO and reward training, all on TRL: ours are the offset inside the sigmoid and the bookkeeping.

Every trainer takes pairs keyed by `pair_id`, writes safetensors weights, the tokenizer and `training.json` (what was
dropped, seconds, loss curve) into `output_dir`, and returns that path. The folder appears under its name only when it
is complete; an older run there is replaced then, and a folder with anything else in it is refused before the training.
`model` is a path, a hub id or "notesworld". The device is found: CUDA, MPS, else the CPU. All functions take these
options beside their own parameters, and refuse a name that neither they nor TRL's config know:

batch_size : int
    Pairs of an optimiser step, over all processes and rounds of `gradient_accumulation_steps`, which must divide it:
    the same number means the same training on one GPU or eight.
lora_rank : int, optional
    Train adapters of this rank on every linear layer (peft, alpha twice the rank) instead of all weights. They are
    merged before saving, so the result is a plain model like any other.
save_steps : int, optional
    Keep a checkpoint every so many steps in `<output_dir>.checkpoints`. After a kill the same call resumes from it, and on
    a CPU it ends with the same bytes; with other settings, data or start it begins anew. Success removes the checkpoints.
accelerate : str or Path, optional
    Run under `accelerate launch` with this config, a path or one of those shipped: "ddp", "fsdp", "zero3", "cpu2". See
    `pdsel.engine.launch`.
bf16, gradient_checkpointing, gradient_accumulation_steps, optim, report_to, ...
    As TRL has them. bf16 and gradient checkpointing are on where there is a GPU. `optim="adamw_8bit"` needs bitsandbytes.

Weights are trained in float32 (frozen ones under LoRA may be bf16). A run without bf16 saves float32. A run with bf16
saves the type that the start is stored in, because whoever loads a 16-bit model computes in 16 bits anyway.

Errors: `pdsel.engine.errors.TrainingError` when the loss is not finite any more, or the memory is full; the message says
what to change. A `ValueError` for settings and data that cannot work.
"""

import json
from numbers import Real
from pathlib import Path

from datasets import Dataset
from trl import DPOConfig, RewardConfig, SFTConfig

from pdsel.checks import DataError
from pdsel.engine.launch import launchable
from pdsel.engine.losses import LOSSES
from pdsel.engine.models import device
from pdsel.engine.options import check_options, trains_with
from pdsel.engine.training_run import OffsetRun, ResponseRun, RewardRun
from pdsel.pairs import check_pairs

TRAINING_COLUMNS = ["prompt", "chosen", "rejected"]
NEUTRAL = {"offset": 0.0, "scale": 1.0, "margin": 0.0}  # of held-out pairs: plain DPO, plain Bradley-Terry


@trains_with(SFTConfig)
@launchable
def train_sft(
    pairs,
    *,
    model,
    output_dir,
    seed=0,
    learning_rate=1e-3,
    batch_size=32,
    epochs=1,
    max_length=1024,
    lora_rank=None,
    save_steps=None,
    **training,
):
    """Supervised fine-tuning on the chosen response of each pair, with the loss on the response only.

    Parameters
    ----------
    pairs : datasets.Dataset
        `prompt` and `chosen`; or `prompt` and `completion`, for demonstrations that are not pairs.
    model : str
        The model to start from.
    output_dir : str or Path
    seed : int
    learning_rate, batch_size, epochs, max_length
        The defaults suit the notes world. On several processes accelerate fills the last batch of an epoch up with texts
        from its start.
    lora_rank, save_steps : int, optional
        See the module.
    **training
        `accelerate` (see the module), and any field of `trl.SFTConfig`.

    Returns
    -------
    str
        `output_dir`.
    """
    completion = "completion" if "completion" in pairs.column_names else "chosen"
    return ResponseRun(
        data=pairs.select_columns(["prompt", completion]).rename_columns({completion: "completion"}),
        model=model,
        output_dir=output_dir,
        lora_rank=lora_rank,
        save_steps=save_steps,
        training={
            "seed": seed,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "epochs": epochs,
            "max_length": max_length,
            **training,
        },
    ).run()


@trains_with(DPOConfig)
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
    loss=None,
    learning_rate=3e-4,
    batch_size=32,
    epochs=1,
    max_length=1024,
    held_out=None,
    reference_cache=None,
    lora_rank=None,
    save_steps=None,
    **training,
):
    """DPO with `-log sigma(scale * M + offset)`: DPO at (1, 0), DMPO at (kappa, PD), length penalties in between.

    It is exact through TRL: TRL's beta is set to `scale * beta`, and the reference log-probability of the chosen response
    is shifted by `-offset / (scale * beta)`. Reference log-probabilities are computed before the first step.

    Parameters
    ----------
    offsets : sequence of float
        Aligned with `pairs`.
    scale : float, or sequence of float
        One factor of the margin, or one for each of `pairs`; then the loss is "scaled" of `pdsel.engine.losses`.
    loss : dict, optional
        Another loss in the place of `-log sigma`: the `name` of one of `pdsel.engine.losses.LOSSES`, and its options.
    held_out : datasets.Dataset, optional
        Pairs that are not trained on. The share of them on which the margin is positive, and the loss (with offsets 0), go
        into `training.json`, at the end and every `eval_steps`.
    reference_cache : str or Path, optional
        A folder where reference log-probabilities are kept by content (model, text, cut), for other runs on the same
        pool. A cached value differs from one computed anew by about 1e-6.
    """
    columns = {"offset": offsets}
    if not isinstance(scale, Real):
        columns, scale, loss = columns | {"scale": scale}, 1, loss or {"name": "scaled"}
    _check_loss(loss, columns)
    settings = {
        "seed": seed,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "epochs": epochs,
        "max_length": max_length,
        "beta": scale * beta,
        "precompute_ref_log_probs": True,
        "remove_unused_columns": False,
    }
    if device() == "cpu":  # a GPU computes the reference on as many pairs at once as it trains on, which fit there
        settings["precompute_ref_batch_size"] = 4 * batch_size
    return OffsetRun(
        data=_with_columns(pairs, columns),
        held_out=_held_out(held_out, columns),
        model=model,
        output_dir=output_dir,
        lora_rank=lora_rank,
        save_steps=save_steps,
        scale=scale,
        loss=loss,
        reference_cache=reference_cache,
        training=settings | training,
    ).run()


def train_dpo(pairs, *, model, output_dir, seed=0, beta=0.1, **training):
    """Direct preference optimisation: `-log sigma(M)`, with M the implicit reward margin.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; the order of its rows does not matter.
    model : str
        The policy to start from; it is also the frozen reference.
    output_dir : str or Path
    seed : int
    beta : float
        Strength of the KL constraint, per nat.
    **training
        `learning_rate=3e-4, batch_size=32, epochs=1, max_length=1024` (sized for the notes world), `held_out` and
        `reference_cache` (see `train_with_offset`), `lora_rank`, `save_steps`, `accelerate` (see the module), and any
        field of `trl.DPOConfig`.

    Returns
    -------
    str
        `output_dir`.

    Raises
    ------
    ValueError
        For an option that nobody knows, and a pairs table with missing columns, duplicates, or a chosen response equal to
        the rejected one.
    """
    check_options(training, train_with_offset.options)
    check_pairs(pairs)
    offsets = [0.0] * len(pairs)
    return train_with_offset(pairs, offsets, model=model, output_dir=output_dir, seed=seed, beta=beta, **training)


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
    check_options(training, train_with_offset.options)
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


@trains_with(RewardConfig)
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
    lora_rank=None,
    save_steps=None,
    **training,
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
    model, output_dir, seed, **training
        As in `train_dpo`; a causal checkpoint gets a new scalar head.
    """
    return RewardRun(
        data=_with_columns(pairs, {"margin": margins}),
        held_out=_held_out(held_out, ["margin"]),
        model=model,
        output_dir=output_dir,
        lora_rank=lora_rank,
        save_steps=save_steps,
        training={
            "seed": seed,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "epochs": epochs,
            "max_length": max_length,
            **training,
        },
    ).run()


def _with_columns(pairs, columns):
    table = pairs.select_columns(TRAINING_COLUMNS)
    for name, values in columns.items():
        table = table.add_column(name, [float(value) for value in values])
    return table


def _held_out(pairs, columns):
    if pairs is None:
        return None
    check_pairs(pairs)
    return _with_columns(pairs, {name: [NEUTRAL[name]] * len(pairs) for name in columns})


def _check_loss(loss, columns):
    """Refuse a loss that nobody knows, and scales for one that does not read them."""
    if loss is None:
        return
    if loss["name"] not in LOSSES:
        raise DataError(f"loss={loss['name']!r}: use one of {list(LOSSES)}")
    if "scale" in columns and loss["name"] != "scaled":
        raise DataError(f"loss={loss['name']!r} reads no scale of each pair. Remedy: one number, or no other loss")


def training_log(path):
    """The record of a training run: `n_given, n_used, seconds, steps, history` (TRL's log, one dict a point)."""
    return json.loads(Path(path, "training.json").read_text())


def demonstrations(prompts, responses):
    """A `prompt, completion` table for `train_sft`."""
    return Dataset.from_dict({"prompt": list(prompts), "completion": list(responses)})
