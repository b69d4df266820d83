"""SFT, DPO, DMPO and reward training with TRL, to which we add an offset inside the sigmoid, and bookkeeping.

Every function writes safetensors weights, the tokenizer and `training.json` (dropped pairs, seconds, loss curve) into
`output_dir`, and returns that path. The folder gets its name only when it is complete. It then replaces an older run; a folder
with anything else in it is refused before the training. The device is found: CUDA, MPS, otherwise the CPU. All functions take
these options, and refuse any other that is not a field of TRL's config:

model : str
    The model to start from: a path, a hub id or "notesworld". For DPO and DMPO it is also the frozen reference.
seed : int; 0
    Of whatever is drawn, such as the order of the pairs.
learning_rate, batch_size, epochs, max_length : 3e-4 for DPO and DMPO, else 1e-3; 32; 1; 1024
    The defaults suit the notes world. `batch_size` is the number of pairs in an optimiser step, over all processes and rounds
    of `gradient_accumulation_steps`, which must divide it: the same number means the same training on one GPU or eight.
held_out : datasets.Dataset, optional (not for SFT)
    Pairs that are not trained on. The share of them with a positive margin, and their loss (with offsets 0), go into
    `training.json`, at the end and every `eval_steps`.
reference_cache : str or Path, optional (DPO and DMPO)
    A folder that keeps reference log-probabilities by content (model, text, cut), for other runs on the same pool. A cached
    value differs by about 1e-6 from one that is computed again.
lora_rank : int, optional
    Train adapters of this rank on every linear layer (peft, alpha twice the rank) instead of all weights. They are merged
    before saving, so the result is a plain model.
save_steps : int, optional
    Keep a checkpoint every so many steps in `<output_dir>.checkpoints`. After a kill the same call resumes from it, and on
    a CPU ends with the same bytes; with other settings, data, start or code it begins again. Success removes the checkpoints.
resume : bool; False
    Leave a finished run in `output_dir` as it is if it has these settings, data, start and code. Otherwise the training is
    repeated.
accelerate : str or Path, optional
    Run under `accelerate launch` with this config, a path or one of those shipped: "ddp", "fsdp", "zero3", "cpu2". See
    `pdsel.engine.launch`.
bf16, gradient_checkpointing, gradient_accumulation_steps, optim, report_to, ...
    As in TRL. bf16 and gradient checkpointing are on if there is a GPU. `optim="adamw_8bit"` needs bitsandbytes.

Weights are trained in float32 (frozen ones under LoRA may be bf16). A run without bf16 saves float32; a run with bf16 saves
the type in which the start is stored, since a model that is loaded in 16 bits computes in 16 bits anyway.

Errors: `pdsel.engine.errors.TrainingError` if the loss is no longer finite or the memory is full, with a message that says
what to change; `ValueError` for settings and data that cannot work.
"""

import json
from numbers import Real
from pathlib import Path

from datasets import Dataset

from pdsel.checks import DataError
from pdsel.engine.launch import launchable
from pdsel.engine.losses import LOSSES
from pdsel.engine.models import quiet
from pdsel.engine.options import check_options, trains_with
from pdsel.engine.training_run import OffsetRun, ResponseRun, RewardRun
from pdsel.pairs import check_pairs

TRAINING_COLUMNS = ["prompt", "chosen", "rejected"]
NEUTRAL = {"offset": 0.0, "scale": 1.0, "margin": 0.0}  # of held-out pairs: plain DPO, plain Bradley-Terry


@trains_with(ResponseRun)
@launchable
def train_sft(pairs, *, model, output_dir, seed=0, **training):
    """Supervised fine-tuning on the chosen response of each pair, with the loss on the response only.

    Parameters
    ----------
    pairs : datasets.Dataset
        `prompt` and `chosen`; or `prompt` and `completion`, for demonstrations that are not pairs.
    model, output_dir, seed, **training
        See the module. With several processes, accelerate fills the last batch of an epoch with texts from its start.

    Returns
    -------
    str
        `output_dir`.
    """
    completion = "completion" if "completion" in pairs.column_names else "chosen"
    data = pairs.select_columns(["prompt", completion]).rename_columns({completion: "completion"})
    return ResponseRun.of(data, model=model, output_dir=output_dir, seed=seed, **training).run()


@trains_with(OffsetRun)
@launchable
def train_with_offset(pairs, offsets, *, model, output_dir, held_out=None, **training):
    """DPO with the loss `-log sigma(scale * M + offset)`, which is DPO at (1, 0), DMPO at (kappa, PD), or has a length penalty.

    TRL computes it exactly: its beta is set to `scale * beta`, and the reference log-probability of the chosen response is
    shifted by `-offset / (scale * beta)`. Reference log-probabilities are computed before the first step.

    Parameters
    ----------
    pairs : datasets.Dataset
    offsets : sequence of float
        Aligned with `pairs`.
    model, output_dir, held_out, **training
        See the module. `beta=0.1` is an option as well, and so are `scale=1`, one factor of the margin or a sequence with one
        for each of `pairs` (then the loss is "scaled" of `pdsel.engine.losses`), and `loss`, a dict that names another of
        these losses and has its options.
    """
    columns, scale, loss = {"offset": offsets}, training.pop("scale", 1), training.pop("loss", None)
    if not isinstance(scale, Real):
        columns, scale, loss = columns | {"scale": scale}, 1, loss or {"name": "scaled"}
    _check_loss(loss, columns)
    data, held_out = _with_columns(pairs, columns), _held_out(held_out, columns)
    options = {"model": model, "output_dir": output_dir, "scale": scale, "loss": loss, "held_out": held_out}
    return OffsetRun.of(data, **options, **training).run()


def train_dpo(pairs, *, model, output_dir, seed=0, beta=0.1, **training):
    """Direct preference optimisation: `-log sigma(M)`, with M the implicit reward margin.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; the order of its rows does not matter.
    model : str
        The policy to start from, which is also the frozen reference.
    output_dir : str or Path
    seed : int
    beta : float
        Strength of the KL constraint, per nat.
    **training
        See the module.

    Returns
    -------
    str
        `output_dir`.

    Raises
    ------
    ValueError
        For an unknown option, or a pairs table with missing columns, duplicates, or a chosen response that equals the
        rejected one.
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
        PD by `pair_id`, for every pair.
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
            "the margins of these pairs"
        )
    offsets = divergence.loc[list(pairs["pair_id"])].tolist()
    return train_with_offset(
        pairs, offsets, scale=aspects, model=model, output_dir=output_dir, seed=seed, beta=beta, **training
    )


@trains_with(RewardRun)
@launchable
def train_reward(pairs, margins, *, model, output_dir, held_out=None, **training):
    """A Bradley-Terry sequence classifier: `-log sigma(r_w - r_l - margin)`.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    margins : sequence of float
        The numbers subtracted inside the sigmoid, aligned with `pairs`; zeros give the plain loss.
    model, output_dir, held_out, **training
        See the module; a causal checkpoint gets a new scalar head.
    """
    data = _with_columns(pairs, {"margin": margins})
    held_out = _held_out(held_out, ["margin"])
    return RewardRun.of(data, model=model, output_dir=output_dir, held_out=held_out, **training).run()


def _with_columns(pairs, columns):
    table = pairs.select_columns(TRAINING_COLUMNS)
    with quiet():
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
    """Read the record of a training run: `n_given, n_used, seconds, steps, history` (TRL's log, one dict a point)."""
    return json.loads(Path(path, "training.json").read_text())


def demonstrations(prompts, responses):
    """Make a `prompt, completion` table for `train_sft`."""
    return Dataset.from_dict({"prompt": list(prompts), "completion": list(responses)})
