"""Turn a response into a few numbers with one forward pass of a frozen model.

For each token of a response the model has a state h that predicts it, a distribution p over the words, and the token y that
came. From these come blocks of numbers, which are added up (or averaged) over the response:

=========  =======================================================================================================
length     the number of tokens
surprisal  sum, mean and minimum of log p(y)
grad       E[y] - sum_v p(v) E[v], with E the output embedding: the gradient of log p(y) for a bias added to h
hd         h * (E[y] - sum_v p(v) E[v]): the gradient of log p(y) for a gain that multiplies h, entry by entry
inter      h * E[y]: how h and the token's embedding agree, entry by entry
mid        the mean state of the response's tokens at two thirds of the depth
W          (onehot(y) - p) h', the gradient of log p(y) for the whole output embedding; sketched where that is large
=========  =======================================================================================================

Why gradients: to first order in a small change `d` of the weights, the implicit reward beta * log(pi_k / pi_ref) of a
response is beta * <gradient of log pi_ref, d>. It is linear in these features, and DPO's loss in `d` is a logistic regression
on them (tangent features of fine-tuning, arXiv 2210.05643).

Features of many pairs are larger than the memory of many machines. So they lie in files (`pdsel.engine.feature_files`), are
written a few thousand pairs at a time, and are read where they are needed.
"""

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pdsel.checks import DataError
from pdsel.data.scratch import lasting_scratch_folder
from pdsel.engine import processes
from pdsel.engine.feature_files import LOGPS, Files, PairFeatures, make_files, read_logps, write_rows
from pdsel.engine.launch import launch
from pdsel.engine.models import device, load_causal, resolve
from pdsel.engine.output_layer import log_probabilities
from pdsel.engine.progress import Progress
from pdsel.engine.reference_cache import ReferenceCache, text_key
from pdsel.engine.scoring import TOKEN, CausalReader, by_text

BLOCKS = ("length", "surprisal", "hd", "grad", "inter", "mid", "W")
GRADIENTS = ("hd", "grad", "inter")  # of the width of a state, added up over the response
DEPTH = 2 / 3  # of the layer that `mid` reads
EXACT = 2**15  # numbers of an output embedding whose gradient is kept whole
SKETCH = 64  # rows and columns of W that are kept of a larger one
NUMBERS_AT_ONCE = 2**26  # of single texts' features in memory together


def token_features(states, tokens, output):
    """The features of single tokens, from the states that predict them.

    Parameters
    ----------
    states : torch.Tensor, shape (n, hidden)
        Last hidden states, after the last norm: what the output layer reads.
    tokens : torch.Tensor of int, shape (n,)
        The token that followed each state.
    output : pdsel.engine.output_layer.OutputLayer

    Returns
    -------
    dict of str to torch.Tensor
        `logp`, shape (n,), nats; `error`, shape (n, vocabulary): the gradient of `logp` for the logits before the cap; and
        `grad`, `hd`, `inter`, shape (n, hidden).

    Examples
    --------
    Two words with embeddings (1, 0) and (0, 1). The state (2, 2) predicts either with probability one half, and the first
    one came: the bias gradient is E[first] - (E[first] + E[second]) / 2 = (.5, -.5).

    >>> from pdsel.engine.output_layer import OutputLayer
    >>> output = OutputLayer(torch.eye(2))
    >>> found = token_features(torch.tensor([[2.0, 2.0]]), torch.tensor([0]), output)
    >>> found["grad"].tolist(), found["hd"].tolist(), found["inter"].tolist()
    ([[0.5, -0.5]], [[1.0, -1.0]], [[2.0, 0.0]])
    """
    logits = output.logits(states)
    logp, logps = log_probabilities(logits, tokens)
    error = -logps.exp()
    error[torch.arange(len(tokens), device=tokens.device), tokens] += 1
    error = error * output.slope(logits)
    grad = (error.to(output.embedding.dtype) @ output.embedding).float()
    states = states.float()
    inter = states * output.embedding[tokens].float()
    return {"logp": logp, "error": error, "grad": grad, "hd": states * grad, "inter": inter}


class Reader(CausalReader):
    """A frozen causal model that turns responses into features.

    `n_tokens` counts the tokens that it has read, and `logps` holds the log-probability of every text by
    `pdsel.engine.reference_cache.text_key`: what DPO needs of its reference.

    Parameters
    ----------
    model : str
        Path, hub id or "notesworld".
    blocks : sequence of str
        Of `BLOCKS`; "length" and "surprisal" come for nothing and are always read.
    max_length : int
        Longer texts are cut at the end, as TRL cuts them.
    batch_tokens : int, optional
        Padded tokens of a batch; memory, not results, depends on it. Default: by the device.

    Raises
    ------
    ValueError
        For an unknown block, or a model whose logits are not what its output embedding makes of the last state.
    """

    bar = False  # the parts of the table have one

    def __init__(self, model, *, blocks=BLOCKS, max_length=1024, batch_tokens=None):
        check_blocks(blocks)
        self.blocks, self.arithmetic, self.logps = tuple(blocks), arithmetic(), {}
        super().__init__(resolve(model), max_length=max_length, batch_tokens=batch_tokens)
        if self.output.embedding is None:
            raise DataError(
                f"{self.model}: {type(self.net).__name__} makes its logits in a way that the features do not know. "
                "Remedy: use a proxy of kind 'implicit', or teach pdsel.engine.output_layer.OutputLayer"
            )
        self.sketches = [None, None]
        vocabulary, hidden = self.output.embedding.shape
        if vocabulary * hidden > EXACT:
            self.sketches = [_sketch(size).to(self.net.device) for size in (vocabulary, hidden)]
        if self.arithmetic == "bf16":
            self.output = self.output.to(torch.bfloat16)

    def load(self):
        """The network in float32, as the trainers hold it: with their arithmetic, log-probabilities are theirs, too."""
        return load_causal(self.model, dtype=torch.float32)

    def precision(self):
        return torch.autocast(torch.device(device()).type, torch.bfloat16, enabled=self.arithmetic == "bf16")

    def note(self, texts, logps):
        for (text, start), logp in zip(texts, logps.tolist(), strict=True):
            ids = np.frombuffer(text, dtype=TOKEN)
            self.logps[text_key(ids[:start], ids[start:], self.max_length)] = logp

    def leave(self, reference_cache):
        """Add the log-probabilities that a folder of the reference's does not hold yet."""
        cache = ReferenceCache(reference_cache, self.model, self.arithmetic)
        known = cache.read()
        missing = {key: logp for key, logp in self.logps.items() if key not in known}
        if missing:
            cache.write(missing)

    def widths(self):
        """The number of columns of every block that is read, in the order of `BLOCKS`."""
        vocabulary, hidden = self.output.embedding.shape
        large = vocabulary * hidden > EXACT
        known = dict.fromkeys(BLOCKS, hidden) | {"length": 1, "surprisal": 3}
        known["W"] = min(vocabulary, SKETCH) * min(hidden, SKETCH) if large else vocabulary * hidden
        return {name: width for name, width in known.items() if name in {"length", "surprisal", *self.blocks}}

    def pass_options(self):
        return {"output_hidden_states": True} if "mid" in self.blocks else {}

    def of_pass(self, seen, answered):
        """The states at two thirds of the depth, at the response's own tokens."""
        if "mid" not in self.blocks:
            return {}
        layer = round(DEPTH * (len(seen.hidden_states) - 1))
        return {"mid": seen.hidden_states[layer][:, 1:][answered].float()}

    def of_slice(self, states, tokens):
        if not {*GRADIENTS, "W"} & set(self.blocks):
            return super().of_slice(states, tokens)
        found = token_features(states, tokens, self.output)
        kept = {name: found[name] for name in ("logp", *GRADIENTS) if name == "logp" or name in self.blocks}
        if "W" in self.blocks:
            kept["error"], kept["state"] = map(_sketched, (found["error"], states.float()), self.sketches)
        return kept

    def of_texts(self, tokens, lengths):
        """The blocks of each text from the features of its tokens."""
        counts = lengths[:, None].float()
        mean = counts.clamp(min=1)  # of a text without tokens every block is 0
        logps = by_text(tokens["logp"], lengths)
        total, least = (
            logps.sum(dim=1, keepdim=True),
            logps.amin(dim=1, keepdim=True),
        )  # what fills a row is never the least
        texts = {"logp": total[:, 0], "length": counts, "surprisal": torch.cat([total, total / mean, least], dim=1)}
        for name in GRADIENTS:
            if name in tokens:
                texts[name] = by_text(tokens[name], lengths).sum(dim=1)
        if "mid" in tokens:
            texts["mid"] = by_text(tokens["mid"], lengths).sum(dim=1) / mean
        if "W" in self.blocks:
            errors, states = (by_text(tokens[name], lengths) for name in ("error", "state"))
            texts["W"] = (errors.transpose(1, 2) @ states).flatten(1)
        return texts


def check_blocks(blocks):
    """Refuse a set without blocks, or with one that there is not."""
    unknown = sorted(set(blocks) - set(BLOCKS))
    if unknown or not blocks:
        raise DataError(f"blocks={list(blocks)}: unknown are {unknown}. Remedy: use some of {list(BLOCKS)}")


def arithmetic():
    """What the trainers compute in here, unless they are told otherwise: "bf16" on a GPU that has it, else "float32"."""
    on_gpu = device().startswith("cuda")
    return "bf16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def _sketch(size):
    """Random signs, shape (size, SKETCH), that keep inner products on average; the identity where that is smaller."""
    if size <= SKETCH:
        return torch.eye(size)
    signs = torch.randint(2, (size, SKETCH), generator=torch.Generator().manual_seed(size))
    return (2.0 * signs - 1) / SKETCH**0.5


def _sketched(values, sketch):
    return values if sketch is None else values @ sketch


def pair_features(pairs, *, model, blocks=BLOCKS, max_length=1024, reference_cache=None, accelerate=None):
    """Read every response of a pairs table once with a frozen model.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; strings or chat messages.
    model : str
        Path, hub id or "notesworld": a causal model.
    blocks : sequence of str
        See the module; default: all.
    max_length : int
        As in `Reader`.
    reference_cache : str or Path, optional
        Where to leave the log-probabilities of all texts for `pdsel.train_dpo(reference_cache=...)` with this model as its
        start, which then need not read them again.
    accelerate : str or Path, optional
        Spread the pairs over processes with this config, see `pdsel.engine.launch`: every process reads those of its prompts.

    Returns
    -------
    PairFeatures
        Its files lie in a scratch folder as long as it is in use; `save` keeps copies.

    Examples
    --------
    >>> from importlib.resources import files
    >>> from pdsel import load_ratings, make_pairs
    >>> from pdsel.notesworld import BASE_MODEL
    >>> pairs = make_pairs(load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=2))
    >>> features = pair_features(pairs, model=BASE_MODEL, blocks=["hd"])
    >>> {name: gap.shape for name, gap in features.gaps.items()}  # doctest: +ELLIPSIS
    {'length': (..., 1), 'surprisal': (..., 3), 'hd': (..., ...)}
    """
    check_blocks(blocks)
    start = time.perf_counter()
    processes.join()
    folder = Path(processes.agree(str(lasting_scratch_folder("features"))))
    options = {"model": resolve(model), "blocks": list(blocks), "max_length": max_length}
    options["reference_cache"] = None if reference_cache is None else str(reference_cache)
    if accelerate is None:
        counts = [features_of_part(pairs, str(folder), **options)]
    else:
        counts = launch(features_of_part, pairs, str(folder), config=accelerate, **options)
    read = Files(folder, [name for name in BLOCKS if (folder / f"{name}.npy").exists()])
    if processes.is_main():
        read.remove_at_the_end()
    ids = pd.Index(pairs["pair_id"][:], name="pair_id")
    seconds = time.perf_counter() - start
    return PairFeatures(ids, read, read_logps(folder, ids), options["model"], max_length, sum(counts), seconds)


def features_of_part(pairs, folder, *, model, blocks, max_length, reference_cache):
    """Read this process's part of the pairs into the files that all processes share; returns how many tokens it read."""
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # under an FSDP config: every process reads the whole model
    reader = Reader(model, blocks=blocks, max_length=max_length)
    widths = reader.widths() | {LOGPS: 2}
    if processes.is_main():
        make_files(folder, widths, len(pairs))
    processes.wait()
    rows = rows_of_process(pairs)
    at_once = max(1, NUMBERS_AT_ONCE // (2 * sum(widths.values())))
    for first in Progress(range(0, len(rows), at_once), desc="features"):
        part = rows[first : first + at_once]
        write_rows(folder, part, _read_pairs(reader, pairs.select(part)))
    if reference_cache is not None:
        reader.leave(reference_cache)
    processes.wait()
    return reader.n_tokens


def rows_of_process(pairs):
    """The rows that this process reads, those of one prompt together, since they share responses that are read once.

    >>> rows_of_process({"prompt_id": ["q", "p", "q"]}).tolist()
    [1, 0, 2]
    """
    place, _ = pd.factorize(np.array(pairs["prompt_id"][:], dtype=str), sort=True)
    order = np.argsort(place, kind="stable")
    return order[place[order] % processes.count() == processes.rank()]


def _read_pairs(reader, pairs):
    """Chosen minus rejected of every block, and both log-probabilities."""
    numbers, rows = reader.read_distinct(pairs["prompt"][:] * 2, pairs["chosen"][:] + pairs["rejected"][:])
    chosen, rejected = rows[: len(pairs)], rows[len(pairs) :]
    logps = numbers.pop("logp")
    gaps = {LOGPS: np.stack([logps[chosen], logps[rejected]], axis=1)}
    for name, values in numbers.items():
        gaps[name] = values[chosen]
        gaps[name] -= values[rejected]
    return gaps
