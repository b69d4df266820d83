"""One training run: its settings, what it saves and what it records."""

import json
import os
import time
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from tqdm.auto import tqdm
from transformers import AutoConfig, PrinterCallback, TrainerCallback
from transformers.integrations import unset_hf_deepspeed_config

from pdsel.checks import DataError
from pdsel.engine import processes
from pdsel.engine.errors import check_optimiser, check_weights, explained, memory_advice
from pdsel.engine.models import device, load_tokenizer
from pdsel.engine.reference_cache import model_content
from pdsel.engine.run_folder import checkpoints, run_key, session

LOG_POINTS = 40  # points on a loss curve; the first is always step 1
MASTER = torch.float32  # of weights that are trained; on a GPU autocast to bf16 does the arithmetic
SECONDS = "pdsel_seconds.json"  # in a checkpoint: what was spent before it


def train(
    trainer_class,
    config_class,
    data,
    *,
    load,
    model,
    output_dir,
    counts,
    held_out=None,
    lora_rank=None,
    save_steps=None,
    trainer_options=None,
    **settings,
):
    """Train on `data` and write `output_dir`; what the public functions of `pdsel.training` share.

    Parameters
    ----------
    trainer_class, config_class : type
        Of TRL.
    data, held_out : datasets.Dataset
        With the trainer's columns.
    load : callable
        `load(model, dtype=...)` gives the network.
    counts : callable
        `counts(trainer)` says what the trainer dropped, a dict.
    lora_rank, save_steps : int, optional
    trainer_options : callable, optional
        `trainer_options(args, tokenizer)` gives the trainer's further keyword arguments.
    **settings
        `seed, learning_rate, batch_size, epochs, max_length`, and fields of `config_class`.

    Returns
    -------
    str
        `output_dir`.
    """
    check_optimiser(settings.get("optim"))
    options = arguments(len(data), **settings) | ({"eval_strategy": "steps"} if "eval_steps" in settings else {})
    if lora_rank is not None and os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        # ZeRO-3 with adapters needs it; TRL 1.16 sets it under a name that transformers 5.2x does not read any more
        options = {"gradient_checkpointing_kwargs": {"use_reentrant": True}} | options
    advice = memory_values(options, settings, lora_rank)
    with session(output_dir) as folder, explained(lambda: memory_advice(**advice)):
        home, last = folder, None
        if save_steps is not None:
            parts = [trainer_class.__name__, model_content(model), options, lora_rank, processes.count()]
            home, last = checkpoints(output_dir, run_key(parts, data, held_out))
            options |= {"save_strategy": "steps", "save_steps": save_steps, "save_total_limit": 1}
        # before the model: ZeRO-3 shards it while it loads
        args = on_one_gpu(config_class(**options | {"output_dir": str(home)}))
        frozen = lora_rank is not None and args.bf16  # weights that are not trained need no master copy
        net, tokenizer = load(model, dtype=torch.bfloat16 if frozen else MASTER), load_tokenizer(model)
        trainer = trainer_class(
            model=net,
            args=args,
            train_dataset=data,
            eval_dataset=held_out,
            processing_class=tokenizer,
            peft_config=_lora(lora_rank, net),
            **(trainer_options(args, tokenizer) if trainer_options else {}),
        )
        if not trainer.is_deepspeed_enabled:  # which keeps master copies of its own
            _train_in_float32(trainer.model)
        return _run(trainer, folder, output_dir, last, counts, load, model)


def on_one_gpu(args):
    """The arguments, for one GPU where one process sees several: torch's DataParallel, which TRL refuses, is never used."""
    if args.n_gpu > 1:
        warnings.warn(
            f"{args.n_gpu} GPUs are visible to this process, and one of them trains. accelerate='ddp' (or 'fsdp', 'zero3') "
            "uses all; CUDA_VISIBLE_DEVICES says which one",
            stacklevel=2,
        )
        args._n_gpu = 1  # asked for above, so that transformers has counted already, and does so once
    return args


def _train_in_float32(net):
    """A reward head beside frozen weights is loaded in their 16 bits, in which small steps vanish; adapters are float32."""
    for weight in net.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(MASTER)


def arguments(n, *, seed, learning_rate, batch_size, epochs, max_length, gradient_accumulation_steps=1, **config):
    """What all our runs share, as arguments of a TRL config; `config` wins.

    `batch_size` pairs make an optimiser step, whatever the number of processes and rounds of accumulation.

    Raises
    ------
    ValueError
        If they do not divide it.
    """
    parts = processes.count() * gradient_accumulation_steps
    if batch_size % parts or batch_size < parts:
        raise DataError(
            f"batch_size={batch_size} is not divisible by {processes.count()} processes x gradient_accumulation_steps="
            f"{gradient_accumulation_steps}: it is the number of pairs of an optimiser step over all of them. Remedy: a "
            f"multiple of {parts}"
        )
    steps = -(-n // batch_size) * epochs
    where = device()
    gpu = where.startswith("cuda")
    defaults = {
        "seed": seed,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": batch_size // parts,
        "per_device_eval_batch_size": batch_size // parts,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "num_train_epochs": epochs,
        "max_length": max_length,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,  # a fraction of all steps
        "use_cpu": where == "cpu",
        "bf16": gpu and torch.cuda.is_bf16_supported(including_emulation=False),  # TRL's True is refused on a CPU
        "gradient_checkpointing": gpu,
        "logging_steps": max(1, int(steps) // LOG_POINTS),
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # a loss that is no number ends the run; no average takes its place
        "save_strategy": "no",
        "report_to": "none",
        "include_num_input_tokens_seen": "non_padding",
        "disable_tqdm": True,  # `_Bar` shows the progress
        "dataloader_pin_memory": gpu,
        "ddp_find_unused_parameters": False,  # there are none: looking for them costs a pass over the graph
    }
    return defaults | config


def memory_values(options, settings, lora_rank):
    """The arguments of `memory_advice` for a run."""
    names = ["gradient_accumulation_steps", "gradient_checkpointing", "bf16", "max_length"]
    known = {name: options[name] for name in names} | {"optim": settings.get("optim", "adamw_torch")}
    return known | {"batch_size": settings["batch_size"], "processes": processes.count(), "lora_rank": lora_rank}


def _lora(rank, net):
    """Adapters on every linear layer but the output; a new reward head is trained whole."""
    if rank is None:
        return None
    head = (
        {"task_type": "SEQ_CLS", "modules_to_save": ["score"]} if hasattr(net, "score") else {"task_type": "CAUSAL_LM"}
    )
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", **head)


def _run(trainer, folder, output_dir, last, counts, load, model):
    spent = json.loads((last / SECONDS).read_text()) if last and (last / SECONDS).exists() else 0.0
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Bar(f"training {Path(output_dir).name}"))
    trainer.add_callback(_Checkpoints(spent))
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    seconds = spent + time.perf_counter() - start
    state = trainer.state
    record = counts(trainer) | {"seconds": seconds, "steps": state.global_step}
    record["n_tokens"] = int(state.num_input_tokens_seen)
    if last:
        record["resumed_at"] = int(last.name.split("-")[1])
    if trainer.eval_dataset is not None:
        found = trainer.evaluate()
        accuracy = found.get("eval_rewards/accuracies", found.get("eval_accuracy"))
        record["held_out"] = {"n": len(trainer.eval_dataset), "accuracy": accuracy, "loss": found["eval_loss"]}
    check_weights(trainer.model)
    trainer.save_model(str(folder))
    if processes.is_main():
        Path(folder, "training_args.bin").unlink(missing_ok=True)  # a pickle, with this machine's paths in it
        _rewrite(trainer, Path(folder), load, model)
        Path(folder, "training.json").write_text(json.dumps(record | {"history": state.log_history}, indent=1))
    return str(output_dir)


def _rewrite(trainer, folder, load, model):
    """Merge adapters into the weights, and save in the start's own type what bf16 arithmetic has trained.

    Adapters are merged in float32, from the start read anew: under FSDP and ZeRO-3 no process holds the whole.
    """
    adapted = isinstance(trainer.model, PeftModel)
    dtype = MASTER
    if trainer.args.bf16:
        dtype = AutoConfig.from_pretrained(model, trust_remote_code=False).dtype or MASTER
    if not adapted and dtype == MASTER:
        return
    unset_hf_deepspeed_config()  # this process alone reads the model now, whole
    with torch.random.fork_rng(devices=[]):
        net = load(model if adapted else str(folder), dtype=MASTER if adapted else dtype)
    if adapted:
        net = PeftModel.from_pretrained(net, str(folder)).merge_and_unload().to(dtype)
    for file in [*folder.glob("*.safetensors*"), folder / "adapter_config.json", folder / "README.md"]:
        file.unlink(missing_ok=True)
    net.save_pretrained(str(folder))


class _Bar(TrainerCallback):
    """One progress bar a run, with the loss, instead of a table that grows by a row a logged step."""

    def __init__(self, label):
        self.label, self.bar = label, None

    def on_train_begin(self, args, state, control, **kwargs):
        quiet = {} if state.is_world_process_zero else {"disable": True}  # False overrides TQDM_DISABLE
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.label, leave=False, **quiet)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and "loss" in (logs or {}):
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


class _Checkpoints(TrainerCallback):
    """A logged point at every checkpoint, so that a resumed curve is the uninterrupted one; and the seconds before it."""

    def __init__(self, spent):
        self.spent, self.start = spent, time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if args.save_strategy == "steps" and state.global_step % args.save_steps == 0:
            control.should_log = True

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            path = Path(args.output_dir, f"checkpoint-{state.global_step}", SECONDS)
            path.write_text(json.dumps(self.spent + time.perf_counter() - self.start))
