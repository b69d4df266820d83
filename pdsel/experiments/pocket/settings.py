"""The settings of the runs, each written once: how many pairs, how models are trained, which methods are compared."""

from dataclasses import dataclass, field

from pdsel.engine.models import bf16_is_fast, device

MODEL = "results/local/models/smollm2-135m-instruct"  # what `make pocket-model` makes
DATA = "results/local/webnlg"  # the three files of rated texts
CELLS = "results/local/pocket/cells"
METHODS = ["RAND", "RAF", "PD(rati.)", "PD", "PD(high)", "ALL", "DMPO"]  # trained from SFT, which is the baseline
UNTRAINED = ["instruct", "SFT"]  # the model as it came, and after supervised fine-tuning
PROXY_KINDS = ["probe", "implicit", "classifier"]  # the first makes PD, DMPO and RAF; all three are compared
OTHER_PROXIES = {f"PD({kind})": kind for kind in PROXY_KINDS[1:]}  # policies on what PD of other proxies keeps
SHARES = [0.1, 0.3, 0.5, 0.7]  # of the labels that rules keep, in the comparison with people
NEW_TOKENS = 128  # of an answer, at most; the longest human text has fewer


@dataclass(frozen=True)
class Setting:
    """How a run is made.

    Parameters
    ----------
    name : str
    n_pairs : int or None
        Pairs that are made of the training half; `None`: all.
    n_demonstrations : int or None
        For supervised fine-tuning.
    share : float
        lambda.
    lora_rank : int or None
        `None` trains every weight.
    chat : bool
        Whether prompts are chat messages, else plain text.
    sft, dpo, reward, implicit : dict
        Options of the trainings (see `pdsel.training`): of demonstrations, of policies, of classifiers (proxies and the
        judge), of implicit proxies.
    max_length : int
        Tokens of prompt and response.
    """

    name: str
    n_pairs: int | None
    n_demonstrations: int | None
    share: float = 0.3
    lora_rank: int | None = 16
    chat: bool = True
    sft: dict = field(default_factory=dict)
    dpo: dict = field(default_factory=dict)
    reward: dict = field(default_factory=dict)
    implicit: dict = field(default_factory=dict)
    max_length: int = 512


# Rates were set beforehand, as is common for adapters and for whole models of this size, and not tuned.
LORA = {
    "sft": {"learning_rate": 5e-4},
    "dpo": {"learning_rate": 2e-4, "beta": 0.1},
    "reward": {"learning_rate": 3e-4, "epochs": 2},
    "implicit": {"learning_rate": 2e-4, "beta": 0.1},
}
WHOLE = {
    "sft": {"learning_rate": 5e-5},
    "dpo": {"learning_rate": 1e-5, "beta": 0.1},
    "reward": {"learning_rate": 3e-5, "epochs": 2},
    "implicit": {"learning_rate": 1e-5, "beta": 0.1},
}


def _with(rates, **batch_sizes):
    """The options of all trainings, each with its batch size."""
    return {name: options | {"batch_size": batch_sizes[name]} for name, options in rates.items()}


LARGE_PAIRS = 8000  # the rated half has 8 100 pairs whose aspect tells the responses apart
SMALL_BATCHES = {"sft": 12, "dpo": 16, "reward": 16, "implicit": 16}
LARGE_BATCHES = {"sft": 32, "dpo": 64, "reward": 64, "implicit": 32}
SETTINGS = {
    setting.name: setting
    for setting in [
        Setting("pocket", 1200, 900, **_with(LORA, **SMALL_BATCHES)),
        Setting("pocket-plain", 1200, 900, chat=False, **_with(LORA, **SMALL_BATCHES)),
        Setting("pocket-large", LARGE_PAIRS, None, **_with(LORA, **LARGE_BATCHES)),
        Setting("pocket-large-whole", LARGE_PAIRS, None, lora_rank=None, **_with(WHOLE, **LARGE_BATCHES)),
    ]
}


def computing(batch_size):
    """The options of a training that depend on the machine and not on what is trained.

    A step is computed a few pairs at a time, where memory is short. A CPU computes in bf16 where that is fast.

    >>> computing(16)["gradient_accumulation_steps"] in (1, 8)
    True
    """
    if device().startswith("cuda"):
        return {"gradient_accumulation_steps": max(1, batch_size // 32), "gradient_checkpointing": False}
    return {"gradient_accumulation_steps": max(1, batch_size // 2), "bf16": bf16_is_fast()}
