"""Policies that are merged by their weights, not trained."""

import json
import time
from pathlib import Path

import torch

from pdsel.engine.errors import check_weights
from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.engine.run_folder import RECORD, quiet_libraries, run_folder


def merge_models(paths, output_dir):
    """The mean of the weights of causal models that were trained from one start, written like a training's result.

    Parameters
    ----------
    paths : sequence of str
        The models; they have one architecture and one tokenizer.
    output_dir : str or Path

    Returns
    -------
    str
        `output_dir`. Its `training.json` tells of no steps.
    """
    start = time.perf_counter()
    with run_folder(output_dir) as folder, quiet_libraries():
        merged = load_causal(paths[0], dtype=torch.float32)
        merged.load_state_dict(mean_weights(load_causal(path).state_dict() for path in paths))
        merged.save_pretrained(str(folder))
        load_tokenizer(paths[0]).save_pretrained(str(folder))
        check_weights(folder)
        record = {"n_merged": len(paths), "steps": 0, "seconds": time.perf_counter() - start, "history": [{"step": 0}]}
        Path(folder, RECORD).write_text(json.dumps(record, indent=1))
    return str(output_dir)


def mean_weights(states):
    """The mean of several models' weights, by name; one model is held at a time.

    >>> mean_weights([{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}])
    {'w': tensor([1.5000], dtype=torch.float64)}
    """
    total, count = {}, 0
    for state in states:
        total = {name: total.get(name, 0) + weight.double() for name, weight in state.items()}
        count += 1
    return {name: weight / count for name, weight in total.items()}
