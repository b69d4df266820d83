"""A Bradley-Terry reward that is linear in features of a frozen model: a logistic regression, fitted in milliseconds.

The loss is convex, so there is no learning rate, no number of passes and no seed. With the gap z of a pair's features (chosen
minus rejected), the reward's margin is w'z and the loss is the sum of -log sigma(w'z) plus a penalty on w, a regression
without an intercept. The frozen model is the proxies' start; ArmoRM's heads are such rewards, too (arXiv 2406.12845).

Features come in blocks (see `pdsel.engine.features`) of 1 to thousands of columns, and one penalty for all columns would
drown the small ones. Every column is therefore divided by its size and by the root of its block's width. The penalty
|w|^2 / (2 strength) then says the same of every block: before any label, its share of the margin is about
+-sqrt(strength) nats. Which blocks are used, and the strength, are chosen by cross-validation over prompts within the pairs
given, so that no label of another aspect is read. Few noisy labels tell little about such a choice, so the default is left
only for what is better by more than chance.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize_scalar
from scipy.special import log_expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from pdsel.checks import DataError
from pdsel.engine.features import ALL_BLOCKS, pair_features
from pdsel.engine.run_folder import RECORD, run_folder

CANDIDATES = (  # sets of blocks to choose from; the first is the default
    ("length", "surprisal", "hd", "grad", "inter", "mid"),
    ("length", "surprisal", "hd", "grad"),
    ("length", "surprisal", "mid"),
    ("length", "surprisal"),
)
STRENGTHS = (3.0, 0.1, 0.3, 1.0, 10.0, 30.0)  # nats squared; the first is the default
CLEARLY = 2  # standard errors by which a choice has to be better than the default
FOLDS = 5
LENGTH = ("feature", "nuisance", "none")  # what is done with the block `length`
FREE = 10.0  # the nuisance's column times this: its penalty is a hundredth of the others'
WIDE = 2  # columns per row beyond which a regression goes through its kernel
FILES = ("probe.safetensors", "probe.json")


@dataclass(frozen=True)
class Probe:
    """A linear reward. `weights` is a dict of block to array of shape (width,); `choice` says how they came about.

    The probe of bootstrap replicates has weights of shape (width, replicates), and margins of shape (n, replicates).

    `choice` has `blocks, strength, loss, accuracy` (the last two on held-out prompts) and `candidates`, a list of the like for
    everything that was tried.
    """

    weights: dict
    choice: dict

    def margins(self, gaps):
        """The margins of pairs from the gaps of their features, in nats, shape (n,)."""
        return sum(gaps[name].astype(float) @ weights for name, weights in self.weights.items())

    def save(self, folder):
        """Write the probe's two files into `folder`."""
        weights, choice = (Path(folder, name) for name in FILES)
        save_file(self.weights, weights)
        choice.write_text(json.dumps(self.choice, indent=1))


def load_probe(folder):
    """The probe that was saved in `folder`."""
    weights, choice = (Path(folder, name) for name in FILES)
    return Probe(load_file(weights), json.loads(choice.read_text()))


def train_probe(pairs, *, model, output_dir, features=None, max_length=1024, **choices):
    """Fit a probe to a pairs table and write it, as the trainers of `pdsel.training` write a model.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; a pair that occurs more than once counts as often.
    model : str
        Path or hub id of the frozen model.
    output_dir : str or Path
        Written whole or not at all: the probe's two files and `training.json`.
    features : pdsel.engine.features.PairFeatures, optional
        Of these pairs, and maybe of others; by default these pairs are read.
    max_length : int
        Longer texts are cut when they are read.
    **choices
        `candidates, strengths, folds, length`, see `fit_probe`.

    Returns
    -------
    str
        `output_dir`.
    """
    counts = pd.Series(list(pairs["pair_id"])).value_counts(sort=False)
    prompt_of = dict(zip(pairs["pair_id"], pairs["prompt_id"], strict=True))
    prompts = [prompt_of[name] for name in counts.index]
    n_tokens = 0
    start = time.perf_counter()
    with run_folder(output_dir) as folder:
        if features is None:
            rows = np.flatnonzero(~pd.Series(list(pairs["pair_id"])).duplicated())
            blocks = blocks_of(choices.get("candidates", CANDIDATES))
            features = pair_features(pairs.select(rows), model=model, blocks=blocks, max_length=max_length)
            n_tokens = features.n_tokens
        features.check(model, max_length)
        gaps = features.of(counts.index, features.gaps)
        fit_probe(gaps, prompts, counts=counts.to_numpy(), **choices).save(folder)
        record = {
            "n_given": len(pairs),
            "n_used": len(pairs),
            "n_tokens": n_tokens,
            "seconds": time.perf_counter() - start,
        }
        Path(folder, RECORD).write_text(json.dumps(record, indent=1))
    return str(output_dir)


train_probe.options = {"features", "candidates", "strengths", "folds", "length"}  # beside what every proxy takes


def blocks_of(sets):
    """The blocks that are in any of some sets, in the order of `ALL_BLOCKS`.

    >>> blocks_of([["length", "mid"], ["hd", "length"]])
    ['length', 'hd', 'mid']
    """
    wanted = set().union(*sets)
    return [name for name in ALL_BLOCKS if name in wanted]


def fit_probe(gaps, prompts, *, counts=None, candidates=CANDIDATES, strengths=STRENGTHS, folds=FOLDS, length="feature"):
    """Fit the reward of one set of labels, with blocks and strength chosen by cross-validation.

    Parameters
    ----------
    gaps : dict of str to numpy.ndarray of shape (n, width)
        Features of chosen minus rejected, by block.
    prompts : sequence, length n
        The prompt of each pair: pairs of one prompt are never on both sides of a split.
    counts : numpy.ndarray, shape (n,), optional
        How often each pair counts; default: once.
    candidates : sequence of sequence of str
        Sets of blocks to choose from; the first is the default.
    strengths : sequence of float
        Strengths to choose from, nats squared; the first is the default.
    folds : int
        Of the cross-validation; fewer where there are fewer prompts.
    length : {"feature", "nuisance", "none"}
        Whether the response's length is a feature like others, is fitted and left out of the score (what length explains of
        the labels is then not in the reward), or is not used.

    Returns
    -------
    Probe

    Raises
    ------
    ValueError
        For fewer than two pairs, or an unknown `length`.

    Examples
    --------
    Three of four labels prefer what has more of the feature, and without a penalty the margin is log 3 nats a unit:

    >>> gaps = {"mid": np.array([[1.0], [1.0], [1.0], [-1.0]])}
    >>> probe = fit_probe(gaps, ["p", "q", "r", "s"], candidates=[["mid"]], strengths=[1e9])
    >>> round(float(np.exp(probe.weights["mid"][0])), 3)
    3.0
    """
    if length not in LENGTH:
        raise DataError(f"length={length!r}: use one of {list(LENGTH)}")
    if len(set(prompts)) < 2:
        raise DataError(
            f"prompt_id: {len(set(prompts))} prompts for a probe. Remedy: at least two, hundreds to be of use"
        )
    counts = np.ones(len(prompts)) if counts is None else np.asarray(counts, dtype=float)
    tried, losses = [], []
    for blocks in candidates:
        design = Design.of(gaps, blocks, counts, length)
        for strength in strengths:
            margins = _held_out_margins(design, prompts, counts, strength, folds)
            loss = _scaled_loss(margins, counts)
            right = np.average((margins > 0) + 0.5 * (margins == 0), weights=counts)
            facts = {"loss": float(np.average(loss, weights=counts)), "accuracy": float(right)}
            tried.append({"blocks": list(blocks), "strength": strength} | facts)
            losses.append(loss)
    best = tried[_choose(np.array(losses), prompts, counts)]
    design = Design.of(gaps, best["blocks"], counts, length)
    weights = design.weights(regression(design.columns, counts, best["strength"]))
    return Probe(weights, best | {"n_pairs": len(prompts), "length": length, "candidates": tried})


def bootstrap_probe(probe, gaps, prompts, *, counts=None, n_replicates=200, seed=0):
    """Fit a probe again and again on prompts drawn with replacement: how far would other prompts have moved it?

    Blocks and strength stay those that were chosen; each fit starts from the one before it.

    Parameters
    ----------
    probe : Probe
        From `fit_probe` of the same `gaps`, `prompts` and `counts`.
    gaps, prompts, counts
        As in `fit_probe`.
    n_replicates, seed : int

    Returns
    -------
    Probe
        With a column of weights per replicate.
    """
    counts = np.ones(len(prompts)) if counts is None else np.asarray(counts, dtype=float)
    names, owner = np.unique(np.asarray(prompts, dtype=str), return_inverse=True)
    design = Design.of(gaps, probe.choice["blocks"], counts, probe.choice["length"])
    strength = probe.choice["strength"]
    coefficients = regression(design.columns, counts, strength)
    weights = []
    for drawn in np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), n_replicates):
        coefficients = regression(design.columns, counts * drawn[owner], strength, start=coefficients)
        weights.append(design.weights(coefficients))
    columns = {name: np.stack([replicate[name] for replicate in weights], axis=1) for name in design.factors}
    return Probe(columns, probe.choice)


@dataclass(frozen=True)
class Design:
    """The columns of a regression, shape (n, width of all blocks), and what each block's columns were multiplied by.

    The nuisance, if there is one, is the last column and has no entry in `factors`. Where there are far more columns than
    rows, the regression goes through its kernel, the inner products of the rows: `columns` are then the rows' coordinates on
    `axes`, shape (width, at most n), which span them, and the solution is the same.
    """

    columns: np.ndarray
    factors: dict
    axes: np.ndarray | None = None

    @classmethod
    def of(cls, gaps, blocks, counts, length):
        """The design of some blocks; the size of a column is its root mean square, which no swap of a pair changes."""
        scored = [name for name in blocks if name != "length" or length == "feature"]
        factors = {name: _factors(gaps[name], counts) for name in scored}
        parts = [gaps[name] * factor for name, factor in factors.items()]
        if length == "nuisance":
            parts.append(FREE * gaps["length"] * _factors(gaps["length"], counts))
        columns = np.hstack(parts).astype(float)
        if columns.shape[1] <= WIDE * len(columns):
            return cls(columns, factors)
        axes = _axes(columns)
        return cls(columns @ axes, factors, axes)

    def weights(self, coefficients):
        """The weights on the raw gaps, by block."""
        if self.axes is not None:
            coefficients = self.axes @ coefficients
        ends = np.cumsum([len(factor) for factor in self.factors.values()])
        parts = np.split(coefficients[: ends[-1]], ends[:-1])
        return {name: part * factor for (name, factor), part in zip(self.factors.items(), parts, strict=True)}


def _axes(columns):
    """Orthonormal axes that span the rows."""
    sizes, vectors = np.linalg.eigh(columns @ columns.T)
    kept = sizes > 1e-10 * sizes[-1]
    return columns.T @ (vectors[:, kept] / np.sqrt(sizes[kept]))


def _factors(gap, counts):
    size = np.sqrt(np.average(gap.astype(float) ** 2, axis=0, weights=counts))
    return np.divide(1, size * np.sqrt(len(size)), out=np.zeros_like(size), where=size > 0)


def regression(columns, counts, strength, *, start=None):
    """The coefficients that minimise sum(counts * -log sigma(columns @ w)) + |w|^2 / (2 strength).

    Parameters
    ----------
    columns : numpy.ndarray, shape (n, width)
    counts : numpy.ndarray, shape (n,)
    strength : float
    start : numpy.ndarray, shape (width,), optional
        Where to begin: near the solution it saves time.

    Returns
    -------
    numpy.ndarray, shape (width,)
    """
    n, width = columns.shape
    # scikit-learn wants two classes: a pair of equal responses in the other one adds log 2 to the loss, whatever w is
    rows, classes = np.vstack([columns, np.zeros(width)]), np.append(np.ones(n), 0)
    model = LogisticRegression(
        C=strength, fit_intercept=False, solver="newton-cg", tol=1e-6, warm_start=start is not None
    )
    if start is not None:
        model.coef_, model.intercept_, model.classes_ = start[None], np.zeros(1), np.array([0.0, 1.0])
    return model.fit(rows, classes, sample_weight=np.append(counts, 1)).coef_[0]


def _held_out_margins(design, prompts, counts, strength, folds):
    """The margin of every pair by a regression on the pairs of other prompts."""
    margins = np.empty(len(prompts))
    splits = GroupKFold(min(folds, len(set(prompts)))).split(design.columns, groups=prompts)
    for train, test in splits:
        coefficients = regression(design.columns[train], counts[train], strength)
        margins[test] = design.columns[test] @ coefficients
    return margins


def _scaled_loss(margins, counts):
    """The loss of each pair at the best scale of the margins, nats: PD scales them anyway."""

    def loss(log_scale):
        return -log_expit(np.exp(log_scale) * margins)

    best = minimize_scalar(lambda scale: np.average(loss(scale), weights=counts), bounds=(-5, 5), method="bounded")
    return loss(best.x)


def _choose(losses, prompts, counts):
    """The row of the smallest mean loss, if it is clearly smaller than that of the first row; else the first.

    Clearly: by more than `CLEARLY` standard errors of the difference, whose independent parts are prompts.

    >>> losses = np.array([[0.7, 0.7, 0.7], [0.3, 0.6, 0.5], [0.2, 1.0, 0.1]])
    >>> _choose(losses, ["p", "q", "r"], np.ones(3))  # the last has the smallest mean, but its gain is one of chance
    0
    >>> _choose(losses[:2], ["p", "q", "r"], np.ones(3))
    1
    """
    best = int(np.argmin(losses @ counts))
    gain = np.average(losses[0] - losses[best], weights=counts)
    surplus = pd.Series(counts * (losses[0] - losses[best] - gain)).groupby(np.asarray(prompts)).sum()
    error = np.sqrt((surplus**2).sum()) / counts.sum()
    return best if gain > CLEARLY * error else 0
