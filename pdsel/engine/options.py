"""Checks the names of options at the first door, so that a typo is refused before any text is read."""

import inspect
from difflib import get_close_matches
from functools import wraps

from pdsel.checks import DataError

USUAL = {  # names that other libraries give to our options
    "lr": "learning_rate",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "max_len": "max_length",
    "max_seq_length": "max_length",
    "random_state": "seed",
    "rank": "lora_rank",
    "lora_r": "lora_rank",
    "grad_accum": "gradient_accumulation_steps",
}


def check_options(names, allowed, *, documented="pdsel.training"):
    """Refuse the first name that is not allowed, and suggest the nearest one.

    Parameters
    ----------
    names, allowed : iterable of str
    documented : str
        Where the options are explained.

    Raises
    ------
    ValueError

    >>> check_options(["batchsize"], ["batch_size", "epochs"])
    Traceback (most recent call last):
    pdsel.checks.DataError: batchsize: there is no such option. Remedy: did you mean batch_size?
    """
    allowed = sorted(allowed)
    for name in names:
        if name in allowed:
            continue
        nearest = get_close_matches(name, allowed, n=1)
        if USUAL.get(name) in allowed:
            nearest = [USUAL[name]]
        remedy = f"did you mean {nearest[0]}?" if nearest else f"see {documented} for the options there are"
        raise DataError(f"{name}: there is no such option. Remedy: {remedy}")


def trains_with(run_class):
    """Decorate a training function so that its keywords are checked before it does anything.

    Its own parameters are allowed, the options of `run_class`, and `accelerate`; the function gets them as `.options`.
    """

    def decorate(function):
        allowed = {*inspect.signature(function).parameters, *run_class.option_names(), "accelerate"}

        @wraps(function)
        def checked(*args, **options):
            check_options(options, allowed)
            return function(*args, **options)

        checked.options = allowed
        return checked

    return decorate
