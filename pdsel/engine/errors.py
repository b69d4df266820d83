"""Errors of training, which say which setting to change."""

import importlib.util
import re
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open

from pdsel.checks import DataError

OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
EIGHT_BIT = re.compile(r"8bit|bnb|paged|ademamix")  # in the names of bitsandbytes' optimisers


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says what to do."""


def memory_advice(config, *, lora_rank=None):
    """What to change in a training that ran out of memory, the cheapest change first.

    Parameters
    ----------
    config : dict
        The fields of TRL's config for that training.
    lora_rank : int, optional

    Returns
    -------
    list of str

    >>> config = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "gradient_checkpointing": False,
    ...           "bf16": True, "max_length": 64}
    >>> memory_advice(config, lora_rank=8)[0]
    'gradient_checkpointing=True (now False): less memory for activations, about a third more time'
    """
    at_once, rounds = config["per_device_train_batch_size"], config["gradient_accumulation_steps"]
    optim = config.get("optim", "adamw_torch")
    lines = []
    if at_once > 1:
        lines.append(
            f"gradient_accumulation_steps={2 * rounds} (now {rounds}, {at_once} pairs at a time on a device): the same result "
            "from half as many at a time"
        )
    if not config["gradient_checkpointing"]:
        lines.append("gradient_checkpointing=True (now False): less memory for activations, about a third more time")
    if not config["bf16"]:
        lines.append("bf16=True (now False), where the device has it: half the memory for activations")
    if "8bit" not in str(optim) and lora_rank is None:
        lines.append(f"optim='adamw_8bit' (now {optim!r}), with bitsandbytes: a quarter of the optimiser's memory")
    if lora_rank is None:
        lines.append("lora_rank=16 (now None, which trains every weight): hardly any gradients and optimiser states")
    lines.append(
        f"max_length (now {config['max_length']}): lower, with pdsel.engine.chat.fitting, which drops the long pairs for all "
        "methods"
    )
    lines.append("accelerate='fsdp' or 'zero3': the weights and states split over several GPUs")
    return lines


@contextmanager
def explained(advice):
    """Turn an error about memory into a `TrainingError` that lists `advice`, a list of str."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        steps = "".join(f"\n- {line}" for line in advice)
        raise TrainingError(f"Out of memory ({str(error).splitlines()[0]}). Remedy, cheapest first:{steps}") from error


def check_optimiser(name):
    """Refuse an optimiser of bitsandbytes if that package is not installed."""
    if name is not None and EIGHT_BIT.search(str(name)) and importlib.util.find_spec("bitsandbytes") is None:
        raise DataError(
            f"optim={name!r} needs bitsandbytes, which is not installed. Remedy: pip install bitsandbytes, or leave optim "
            "out (AdamW of torch)"
        )


def check_weights(folder):
    """Refuse saved weights that are not finite, in which a step may end although its loss was finite.

    The files are read, not the network, since under ZeRO-3 and FSDP no process holds a whole weight.
    """
    bad = []
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            bad += [name for name in weights.keys() if not torch.isfinite(weights.get_tensor(name)).all()]  # noqa: SIM118
    if bad:
        raise TrainingError(f"{len(bad)} weights are not finite after training (first: {bad[0]}). {DIVERGED}")


DIVERGED = (
    "Nothing was saved. Remedy: lower learning_rate (try a tenth of it), lengthen the warm-up (warmup_steps), or train in "
    "float32 (bf16=False); if it was the first step, look for broken texts in the data and broken weights in the start"
)


class StopsAtNaN:
    """Makes a trainer end the run at the first loss that is not finite, before it reaches the weights."""

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss).all():
            rate = self.lr_scheduler.get_last_lr()[0]
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1} of {self.state.max_steps}, learning rate "
                f"{rate:.3g}. {DIVERGED}"
            )
        return loss
