"""SFT, DPO, DMPO and reward training, all on TRL: what is ours is the offset inside the sigmoid and the bookkeeping.

Every trainer takes pairs keyed by `pair_id`, writes safetensors weights, the tokenizer and `training.json` (what was
dropped, seconds, loss curve) into `output_dir`, and returns that path. The folder appears under its name only when it
is complete. The device is found: CUDA, MPS, else CPU.
"""

import json
import os
import random
import shutil
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from pdsel.models import load_causal, load_classifier, load_tokenizer, quiet
from pdsel.offsets import OffsetCollator, OffsetTrainer
from pdsel.pairs import check_pairs

LOG_POINTS = 40  # points on a loss curve; the first is always step 1
TRAINING_COLUMNS = ["prompt", "chosen", "rejected"]
MASTER = torch.float32  # of the weights; on a GPU autocast to bf16 does the arithmetic


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
        Defaults suit the notes world. `batch_size` is per device.
    **config
        Anything else `trl.SFTConfig` knows.

    Returns
    -------
    str
        `output_dir`.
    """
    completion = "completion" if "completion" in pairs.column_names else "chosen"
    arguments = _arguments(len(pairs), seed, learning_rate, batch_size, epochs, config)
    with _session(output_dir) as folder:
        data = pairs.select_columns(["prompt", completion]).rename_columns({completion: "completion"})
        policy, tokenizer = load_causal(model, dtype=MASTER), load_tokenizer(model)
        trainer = SFTTrainer(
            model=policy,
            args=SFTConfig(**arguments | {"output_dir": str(folder), "max_length": max_length}),
            train_dataset=data,
            processing_class=tokenizer,
        )
        return _run(trainer, folder, output_dir, {"n_given": len(data), "n_used": len(trainer.train_dataset)})


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
        `learning_rate=3e-4, batch_size=32, epochs=1, max_length=1024` (notes-world sized) and anything else
        `trl.DPOConfig` knows.

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
    return train_with_offset(pairs, [0.0] * len(pairs), model=model, output_dir=output_dir, seed=seed, beta=beta,
                             **training)  # fmt: skip


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
    return train_with_offset(pairs, offsets, scale=aspects, model=model, output_dir=output_dir, seed=seed, beta=beta,
                             **training)  # fmt: skip


def train_with_offset(
    pairs, offsets, *, model, output_dir, seed, beta, scale=1, learning_rate=3e-4, batch_size=32, epochs=1,
    max_length=1024, **config,
):  # fmt: skip
    """DPO with `-log sigma(scale * M + offset)`: DPO at (1, 0), DMPO at (kappa, PD), length penalties in between.

    Exact through TRL: its beta becomes `scale * beta` and the reference log-probability of the chosen response is
    shifted by `-offset / (scale * beta)`.
    """
    arguments = _arguments(len(pairs), seed, learning_rate, batch_size, epochs, config)
    arguments |= {"beta": scale * beta, "precompute_ref_log_probs": True, "remove_unused_columns": False}
    arguments.setdefault("precompute_ref_batch_size", 4 * batch_size)
    with _session(output_dir) as folder:
        data = pairs.select_columns(TRAINING_COLUMNS).add_column("offset", [float(value) for value in offsets])
        policy, tokenizer = load_causal(model, dtype=MASTER), load_tokenizer(model)
        trainer = OffsetTrainer(
            model=policy,
            args=DPOConfig(**arguments | {"output_dir": str(folder), "max_length": max_length}),
            train_dataset=data,
            processing_class=tokenizer,
            data_collator=OffsetCollator(pad_token_id=tokenizer.pad_token_id, max_length=max_length),
        )
        trainer.scale = scale
        return _run(trainer, folder, output_dir, _dropped(trainer.train_dataset, len(data), max_length))


def train_reward(
    pairs, margins, *, model, output_dir, seed=0, learning_rate=1e-3, batch_size=32, epochs=1, max_length=1024, **config
):
    """A Bradley-Terry sequence classifier: `-log sigma(r_w - r_l - margin)`.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    margins : sequence of float
        What is subtracted inside the sigmoid, aligned with `pairs`; zeros for the plain loss.
    model, output_dir, seed, **config
        As in `train_dpo`; a causal checkpoint gets a new scalar head.
    """
    arguments = _arguments(len(pairs), seed, learning_rate, batch_size, epochs, config)
    with _session(output_dir) as folder:
        data = pairs.select_columns(TRAINING_COLUMNS).add_column("margin", [float(value) for value in margins])
        torch.manual_seed(seed)  # the new head is drawn before the trainer seeds anything
        classifier = load_classifier(model, dtype=MASTER)
        tokenizer = load_tokenizer(model)
        classifier.config.pad_token_id = tokenizer.pad_token_id
        trainer = RewardTrainer(
            model=classifier,
            args=RewardConfig(**arguments | {"output_dir": str(folder), "max_length": max_length}),
            train_dataset=data,
            processing_class=tokenizer,
        )
        return _run(trainer, folder, output_dir, {"n_given": len(data), "n_used": len(trainer.train_dataset)})


def _arguments(n, seed, learning_rate, batch_size, epochs, config):
    """What all our runs share; `config` wins."""
    steps = -(-n // batch_size) * epochs
    gpu = torch.cuda.is_available()
    defaults = {
        "seed": seed,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": batch_size,
        "num_train_epochs": epochs,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,  # a fraction of all steps
        "bf16": gpu and torch.cuda.is_bf16_supported(),  # TRL's default of True is refused on a CPU
        "gradient_checkpointing": gpu,
        "logging_steps": max(1, int(steps) // LOG_POINTS),
        "logging_first_step": True,
        "save_strategy": "no",
        "report_to": "none",
        "include_num_input_tokens_seen": "non_padding",
        "disable_tqdm": True,  # `_Bar` shows the progress
        "dataloader_pin_memory": gpu,
    }
    return defaults | config


def _run(trainer, folder, output_dir, counts):
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Bar(f"training {Path(output_dir).name}"))
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    trainer.save_model(str(folder))
    Path(folder, "training_args.bin").unlink(missing_ok=True)  # a pickle, with this machine's paths in it
    state = trainer.state
    record = counts | {"seconds": seconds, "steps": state.global_step, "n_tokens": int(state.num_input_tokens_seen)}
    record["history"] = state.log_history
    Path(folder, "training.json").write_text(json.dumps(record, indent=1))
    return str(output_dir)


class _Bar(TrainerCallback):
    """One progress bar a run, with the loss, instead of a table that grows by a row a logged step."""

    def __init__(self, label):
        self.label, self.bar = label, None

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(total=state.max_steps, desc=self.label, leave=False, disable=not state.is_world_process_zero)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and "loss" in (logs or {}):
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}")

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


def _dropped(prepared, n_given, max_length):
    """TRL drops prompts that fill `max_length` and truncates the rest: count both, and pairs that became identical."""
    long = identical = 0
    for row in prepared.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]):
        room = max_length - len(row["prompt_ids"])
        long += max(len(row["chosen_ids"]), len(row["rejected_ids"])) > room
        identical += row["chosen_ids"][:room] == row["rejected_ids"][:room]
    return {"n_given": n_given, "n_used": len(prepared), "n_truncated": long, "n_identical": identical}


def training_log(path):
    """The record of a training run: `n_given, n_used, seconds, steps, history` (TRL's log, one dict a point)."""
    return json.loads(Path(path, "training.json").read_text())


@contextmanager
def _session(output_dir):
    """A scratch folder that takes its final name only when the body succeeds; global generators come back untouched."""
    final = Path(output_dir)
    scratch = final.with_name(f"{final.name}.{os.getpid()}.partial")  # a killed run's orphan may still write its own
    scratch.mkdir(parents=True, exist_ok=True)
    for stale in final.parent.glob(f"{final.name}.*.partial"):
        if not _is_running(int(stale.name.split(".")[-2])):
            shutil.rmtree(stale, ignore_errors=True)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - trainers seed the global state
    try:
        with torch.random.fork_rng(), warnings.catch_warnings(), quiet():
            # TRL 1.16 still says gradient_checkpointing where transformers 5.2x says activation_checkpointing
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
            yield scratch
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        shutil.rmtree(scratch, ignore_errors=True)


def _is_running(process):
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def demonstrations(prompts, responses):
    """A `prompt, completion` table for `train_sft`."""
    return Dataset.from_dict({"prompt": list(prompts), "completion": list(responses)})
