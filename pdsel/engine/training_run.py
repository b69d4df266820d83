"""A training run: its settings, what it saves and what it records."""

import json
import math
import os
import time
import warnings
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoConfig, PrinterCallback, TrainerCallback
from transformers.integrations import unset_hf_deepspeed_config
from trl import DPOConfig, RewardConfig, SFTConfig

from pdsel.artifacts import model_digest
from pdsel.checks import DataError
from pdsel.data.store import code_digest
from pdsel.engine import processes
from pdsel.engine.errors import check_optimiser, check_weights, explained, memory_advice
from pdsel.engine.losses import LOSSES
from pdsel.engine.models import device, load_causal, load_classifier, load_tokenizer, resolve
from pdsel.engine.progress import Progress
from pdsel.engine.reference_cache import ReferenceCache
from pdsel.engine.run_folder import (
    checkpoints,
    finish_record,
    is_finished,
    quiet_libraries,
    run_folder,
    run_key,
    untouched_generators,
)
from pdsel.engine.trainers import MarginTrainer, OffsetCollator, OffsetTrainer, ResponseTrainer

LOG_POINTS = 40  # on a loss curve, which starts at step 1
MASTER = torch.float32  # the type of trained weights; on a GPU, autocast computes in bf16
SECONDS = "pdsel_seconds.json"  # in a checkpoint: the time spent before it


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What SFT, DPO and reward training share: train a model on `data` and write `output_dir`.

    `pdsel.training` explains the options.

    Parameters
    ----------
    data : datasets.Dataset
        With the trainer's columns.
    trl : dict
        Other fields of `config_class`; they override ours.
    """

    data: Dataset
    model: str
    output_dir: str | Path
    seed: int = 0
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: float = 1
    max_length: int | None = 1024
    gradient_accumulation_steps: int = 1
    lora_rank: int | None = None
    save_steps: int | None = None
    resume: bool = False
    trl: dict = field(default_factory=dict)

    trainer_class: ClassVar[type]
    config_class: ClassVar[type]
    held_out: ClassVar = None  # a field of trainings on pairs

    @classmethod
    def of(cls, data, *, model, **options):
        """A run with these options, which may be fields of TRL's config."""
        own = {option.name for option in fields(cls)}
        trl = {name: value for name, value in options.items() if name not in own}
        options = {name: value for name, value in options.items() if name in own}
        return cls(data=data, model=resolve(model), trl=trl, **options)

    @classmethod
    def option_names(cls):
        """The names of our options and of the fields of TRL's config."""
        ours = {option.name for option in fields(cls)} - {"data", "trl"}
        return ours | {option.name for option in fields(cls.config_class) if option.init}

    def run(self):
        """Train, save and record; return `output_dir` as a str."""
        check_optimiser(self.trl.get("optim"))
        config = self.config()
        key = self.key(config) if self.resume or self.save_steps is not None else None  # it reads all data
        if self.resume and is_finished(self.output_dir, key):
            return str(self.output_dir)
        advice = memory_advice(config, lora_rank=self.lora_rank)
        with run_folder(self.output_dir) as folder, untouched_generators(), quiet_libraries(), explained(advice):
            home, last = folder, None
            if self.save_steps is not None:
                home, last = checkpoints(self.output_dir, key)
                config |= {"save_strategy": "steps", "save_steps": self.save_steps, "save_total_limit": 1}
            trainer = self.trainer(config | {"output_dir": str(home)})
            record = self.train(trainer, last)
            self.save(trainer, folder)
            if processes.is_main():
                record["history"] = trainer.state.log_history
                finish_record(folder, record, key)
        return str(self.output_dir)

    def config(self):
        """The fields of TRL's config.

        An optimiser step takes `batch_size` examples, whatever the number of processes and rounds of accumulation.

        Raises
        ------
        ValueError
            If the product of processes and rounds does not divide `batch_size`.
        """
        parts = processes.count() * self.gradient_accumulation_steps
        if self.batch_size % parts or self.batch_size < parts:
            raise DataError(
                f"batch_size={self.batch_size} is not divisible by {processes.count()} processes x "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}: it is the number of pairs of an optimiser "
                f"step over all of them. Remedy: a multiple of {parts}"
            )
        steps = math.ceil(len(self.data) / self.batch_size) * self.epochs
        where = device()
        gpu = where.startswith("cuda")
        config = {
            "seed": self.seed,
            "learning_rate": self.learning_rate,
            "per_device_train_batch_size": self.batch_size // parts,
            "per_device_eval_batch_size": self.batch_size // parts,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "num_train_epochs": self.epochs,
            "max_length": self.max_length,
            "lr_scheduler_type": "cosine",
            # a fraction of all steps
            "warmup_steps": 0.1,
            "use_cpu": where == "cpu",
            # TRL's own default, True, is refused on a CPU
            "bf16": gpu and torch.cuda.is_bf16_supported(including_emulation=False),
            # takes a third more time and saves much memory, which only a GPU is short of
            "gradient_checkpointing": gpu,
            "logging_steps": max(1, int(steps) // LOG_POINTS),
            "logging_first_step": True,
            # a loss that is not finite ends the run and is not averaged away
            "logging_nan_inf_filter": False,
            # checkpoints are kept only with `save_steps`
            "save_strategy": "no",
            "report_to": "none",
            # the record counts tokens
            "include_num_input_tokens_seen": "non_padding",
            # `_Bar` shows the progress
            "disable_tqdm": True,
            "dataloader_pin_memory": gpu,
            # every parameter is used, and looking for unused ones costs a pass over the graph
            "ddp_find_unused_parameters": False,
        }
        if "eval_steps" in self.trl:
            config["eval_strategy"] = "steps"
        if self.lora_rank is not None and os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
            # ZeRO-3 with adapters needs it; TRL 1.16 sets it under a name that transformers 5.2x no longer reads
            config["gradient_checkpointing_kwargs"] = {"use_reentrant": True}
        return config | self.trl

    def key(self, config):
        """A digest of the run, by which its checkpoints and its finished folder are known."""
        parts = [self.trainer_class.__name__, model_digest(self.model), config, self.lora_rank, processes.count()]
        parts.append(code_digest(type(self)))
        return run_key(parts, self.data, self.held_out)

    def trainer(self, config):
        """TRL's trainer, with the model loaded."""
        args = on_one_gpu(self.config_class(**config))  # before the model: ZeRO-3 shards it while it loads
        frozen = self.lora_rank is not None and args.bf16  # weights that are not trained need no master copy
        net = self.load(self.model, torch.bfloat16 if frozen else MASTER)
        tokenizer = load_tokenizer(self.model)
        trainer = self.trainer_class(
            model=net,
            args=args,
            train_dataset=self.data,
            eval_dataset=self.held_out,
            processing_class=tokenizer,
            peft_config=_lora(self.lora_rank, net),
            **self.trainer_options(args, tokenizer),
        )
        if not trainer.is_deepspeed_enabled:  # DeepSpeed keeps master copies of its own
            _train_in_float32(trainer.model)
        return trainer

    def load(self, path, dtype):
        """The network at `path`."""
        return load_causal(path, dtype=dtype)

    def trainer_options(self, args, tokenizer):
        """Further keywords of the trainer."""
        return {}

    def train(self, trainer, last):
        """Train from the checkpoint `last`, or from the start; return the record for `training.json`."""
        spent = json.loads((last / SECONDS).read_text()) if last and (last / SECONDS).exists() else 0.0
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_Bar(f"training {Path(self.output_dir).name}"))
        trainer.add_callback(_Checkpoints(spent))
        start = time.perf_counter()
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        seconds = spent + time.perf_counter() - start
        record = self.counts(trainer) | {"seconds": seconds, "steps": trainer.state.global_step}
        record["n_tokens"] = int(trainer.state.num_input_tokens_seen)
        if last:
            record["resumed_at"] = int(last.name.split("-")[1])
        if self.held_out is not None:
            metrics = trainer.evaluate()
            accuracy = metrics.get("eval_rewards/accuracies", metrics.get("eval_accuracy"))
            record["held_out"] = {"n": len(self.held_out), "accuracy": accuracy, "loss": metrics["eval_loss"]}
        return record

    def counts(self, trainer):
        """How many examples were given, and how many the trainer kept."""
        return {"n_given": len(self.data), "n_used": len(trainer.train_dataset)}

    def save(self, trainer, folder):
        """Write a plain model, and check its weights.

        Adapters are merged into float32 weights that are read again from the start, because under FSDP and ZeRO-3 no process
        holds the whole model. A model trained in bf16 arithmetic is saved in the type of its start.

        Raises
        ------
        TrainingError
            If a saved weight is not finite.
        """
        trainer.save_model(str(folder))
        if not processes.is_main():
            return
        Path(folder, "training_args.bin").unlink(missing_ok=True)  # a pickle, with this machine's paths in it
        adapted = isinstance(trainer.model, PeftModel)
        dtype = MASTER
        if trainer.args.bf16:
            dtype = AutoConfig.from_pretrained(self.model, trust_remote_code=False).dtype or MASTER
        if adapted or dtype != MASTER:
            unset_hf_deepspeed_config()  # now this process alone reads the whole model
            self._rewrite(folder, adapted, dtype)
        check_weights(folder)

    def _rewrite(self, folder, adapted, dtype):
        with torch.random.fork_rng(devices=[]):
            if adapted:
                start = self.load(self.model, MASTER)
                net = PeftModel.from_pretrained(start, str(folder)).merge_and_unload().to(dtype)
            else:
                net = self.load(str(folder), dtype)
        for file in [*folder.glob("*.safetensors*"), folder / "adapter_config.json", folder / "README.md"]:
            file.unlink(missing_ok=True)
        net.save_pretrained(str(folder))


@dataclass(frozen=True, kw_only=True)
class ResponseRun(TrainingRun):
    """Supervised fine-tuning; `data` has `prompt` and `completion`."""

    trainer_class: ClassVar = ResponseTrainer
    config_class: ClassVar = SFTConfig


@dataclass(frozen=True, kw_only=True)
class OffsetRun(TrainingRun):
    """DPO with `-log sigma(scale * M + offset)`, or with a loss of `pdsel.engine.losses`; `data` has an `offset` beside the
    texts, and a `scale` where every pair has its own.

    `loss` holds the `name` of the loss and its options.
    """

    learning_rate: float = 3e-4
    beta: float = 0.1
    scale: float = 1
    loss: dict | None = None
    held_out: Dataset | None = None
    reference_cache: str | Path | None = None

    trainer_class: ClassVar = OffsetTrainer
    config_class: ClassVar = DPOConfig

    def config(self):
        own = {"beta": self.scale * self.beta, "precompute_ref_log_probs": True, "remove_unused_columns": False}
        if device() == "cpu":  # a GPU computes the reference on as many pairs at once as it trains on, which fit there
            own["precompute_ref_batch_size"] = 4 * self.batch_size
        return super().config() | own | self.trl

    def trainer_options(self, args, tokenizer):
        precision = "bf16" if args.bf16 else "float32"
        cache = ReferenceCache(self.reference_cache, self.model, precision) if self.reference_cache else None
        named = LOSSES[self.loss["name"]] if self.loss else None
        collator = OffsetCollator(
            pad_token_id=tokenizer.pad_token_id,
            max_length=self.max_length,
            down_samples=bool(named and named.down_samples),
        )
        own = {"data_collator": collator, "scale": self.scale, "reference": cache}
        if named:
            own["pair_loss"] = partial(named.function, **{k: v for k, v in self.loss.items() if k != "name"})
        return own

    def key(self, config):
        return super().key(config | {"loss": self.loss})

    def counts(self, trainer):
        """Also count the pairs that TRL truncates, and those that are identical afterwards."""
        truncated = identical = 0
        for row in trainer.train_dataset.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]):
            room = self.max_length - len(row["prompt_ids"])
            truncated += max(len(row["chosen_ids"]), len(row["rejected_ids"])) > room
            identical += row["chosen_ids"][:room] == row["rejected_ids"][:room]
        return super().counts(trainer) | {"n_truncated": truncated, "n_identical": identical}


@dataclass(frozen=True, kw_only=True)
class RewardRun(TrainingRun):
    """A Bradley-Terry classifier with `-log sigma(r_w - r_l - margin)`; `data` has a `margin` beside the texts."""

    held_out: Dataset | None = None

    trainer_class: ClassVar = MarginTrainer
    config_class: ClassVar = RewardConfig

    def load(self, path, dtype):
        torch.manual_seed(self.seed)  # the new head is drawn before the trainer seeds anything
        classifier = load_classifier(path, dtype=dtype)
        classifier.config.pad_token_id = load_tokenizer(path).pad_token_id
        return classifier


def on_one_gpu(args):
    """Use one GPU if this process sees several, since TRL refuses torch's DataParallel."""
    if args.n_gpu > 1:
        warnings.warn(
            f"{args.n_gpu} GPUs are visible to this process, but only one of them trains. accelerate='ddp' (or 'fsdp', "
            "'zero3') uses all; CUDA_VISIBLE_DEVICES chooses one",
            stacklevel=2,
        )
        args._n_gpu = 1  # transformers counts the GPUs once, when `args.n_gpu` is first read, as above
    return args


def _train_in_float32(net):
    """Make all trained weights float32: a reward head is loaded in the 16 bits of the frozen ones, where small steps vanish."""
    for weight in net.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(MASTER)


def _lora(rank, net):
    """Adapters on every linear layer but the output; a new reward head is trained as a whole."""
    if rank is None:
        return None
    head = {"task_type": "CAUSAL_LM"}
    if hasattr(net, "score"):
        head = {"task_type": "SEQ_CLS", "modules_to_save": ["score"]}
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", **head)


class _Bar(TrainerCallback):
    """Shows one progress bar with the loss, instead of a table with a row for each logged step."""

    def __init__(self, label):
        self.label, self.bar = label, None

    def on_train_begin(self, args, state, control, **kwargs):
        quiet = {} if state.is_world_process_zero else {"disable": True}  # False overrides TQDM_DISABLE
        self.bar = Progress(total=state.max_steps, initial=state.global_step, desc=self.label, **quiet)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and "loss" in (logs or {}):
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


class _Checkpoints(TrainerCallback):
    """Logs a point at every checkpoint, so that a resumed run has the same curve, and keeps the time spent before it."""

    def __init__(self, spent):
        self.spent, self.start = spent, time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if args.save_strategy == "steps" and state.global_step % args.save_steps == 0:
            control.should_log = True

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            path = Path(args.output_dir, f"checkpoint-{state.global_step}", SECONDS)
            path.write_text(json.dumps(self.spent + time.perf_counter() - self.start))
