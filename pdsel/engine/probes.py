"""A Bradley-Terry reward that is linear in features of a frozen model: a logistic regression, fitted in about a second.

The loss is convex, so there is no learning rate, no number of passes and no seed. With the gap z of a pair's features (chosen
minus rejected), the reward's margin is w'z and the loss is the sum of -log sigma(w'z) plus a penalty on w, a regression
without an intercept. The frozen model is the proxies' start; ArmoRM's heads are such rewards, too (arXiv 2406.12845).

Features come in blocks (see `pdsel.engine.features`) of 1 to thousands of columns, and one penalty for all columns would
drown the small ones. Every column is therefore divided by its size and by the root of its block's width. The penalty
|w|^2 / (2 strength) then says the same of every block: before any label, its share of the margin is about
+-sqrt(strength) nats.

The columns of a block do not differ freely: the states of a model have much in common, and what tells one word's use from
another's is small beside it. So a block may be whitened, which needs no label: its first principal axes, all made equally
large, stand for its columns, which are then not divided one by one. Blocks, axes and strength are chosen by cross-validation
over prompts within the pairs given, so that no label of another aspect is read. A few noisy labels say little about this
choice, so the default is replaced only by what is better by more than chance. How the default itself was chosen:
`pdsel.experiments.probe_study.choose_default`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.optimize import minimize_scalar
from scipy.special import log_expit
from sklearn.model_selection import GroupKFold
from sklearn.utils.extmath import randomized_svd

from pdsel.checks import DataError
from pdsel.engine import processes
from pdsel.engine.features import BLOCKS
from pdsel.engine.regressions import SMALL, Columns, regressions
from pdsel.engine.run_folder import RECORD, run_folder

CANDIDATES = (  # sets of blocks to choose from; the first is the default
    ("length", "surprisal", "hd", "grad"),
    ("length", "surprisal", "W"),
    ("length", "surprisal", "hd", "grad", "inter", "mid"),
    ("length", "surprisal", "hd", "grad", "inter", "mid", "W"),
    ("length", "surprisal", "mid"),
    ("length", "surprisal"),
)
AXES = (None, 100, 200)  # how many principal axes stand for the columns; None, the default: the columns themselves
STRENGTHS = (1.0, 0.1, 0.3, 3.0, 10.0, 30.0)  # nats squared; the first is the default
CLEARLY = 2  # standard errors by which a choice has to be better than the default
FOLDS = 5
LENGTH = ("feature", "nuisance", "none")  # what is done with the block `length`
FREE = 10.0  # the nuisance's column times this: its penalty is a hundredth of the others'
KERNEL = 2500  # pairs up to which a regression with more columns than pairs goes through its kernel
NO_SIZE = 1e-10  # of the largest axis' squared size: what is below is rounding
JITTER = 1e-10  # of the kernel's mean diagonal, so that pairs that are alike do no harm
MOST = 2**29  # numbers in the columns of a regression; of more pairs than fit, whole prompts are drawn
ROUGHLY = 1e-3  # tolerance of a fold's or a replicate's fit: far below its distance from the others
PAIRS_AT_ONCE = 4096  # whose features are in memory together while they are scored
FILES = ("probe.safetensors", "probe.json")


@dataclass(frozen=True)
class Search:
    """What a probe may choose from.

    Parameters
    ----------
    candidates : sequence of sequence of str
        Sets of blocks to choose from; the first is the default.
    axes : sequence of int or None
        Numbers of principal axes to choose from; the first is the default.
    strengths : sequence of float
        Strengths to choose from, nats squared; the first is the default.
    folds : int
        Of the cross-validation; fewer where there are fewer prompts.
    length : {"feature", "nuisance", "none"}
        Whether the response's length is a feature like others, is fitted and left out of the score (what length explains of
        the labels is then not in the reward), or is not used.

    Raises
    ------
    ValueError
        For an unknown `length`.
    """

    candidates: Sequence = CANDIDATES
    axes: Sequence = AXES
    strengths: Sequence = STRENGTHS
    folds: int = FOLDS
    length: str = "feature"

    def __post_init__(self):
        if self.length not in LENGTH:
            raise DataError(f"length={self.length!r}: use one of {list(LENGTH)}")

    @property
    def blocks(self):
        """The blocks that are in any of the candidates, and a nuisance, in the order of `BLOCKS`."""
        return blocks_of([*self.candidates, ["length"] if self.length == "nuisance" else []])


@dataclass(frozen=True)
class Probe:
    """A linear reward. `weights` is a dict of block to array of shape (width,); `choice` records how they were chosen.

    The probe of bootstrap replicates has weights of shape (width, replicates), and margins of shape (n, replicates).

    `choice` has `blocks, axes, strength, loss, accuracy` (the last two on held-out prompts) and `candidates`, a list of
    the like for everything that was tried.
    """

    weights: dict
    choice: dict

    def margins(self, gaps):
        """The margins of pairs from the gaps of their features, in nats, shape (n,)."""
        return sum(np.asarray(gaps[name], dtype=float) @ weights for name, weights in self.weights.items())

    def margins_of(self, features, ids):
        """The margins of pairs whose features were read, a few thousand at a time, in the order of `ids`."""
        parts = []
        for start in range(0, len(ids), PAIRS_AT_ONCE):
            parts.append(self.margins(features.of(ids[start : start + PAIRS_AT_ONCE], self.weights)))
        return np.concatenate(parts)

    @property
    def fitted(self):
        """The blocks of its regression: those of the weights, and a nuisance."""
        return [*self.weights, "length"] if self.choice["length"] == "nuisance" else list(self.weights)

    def save(self, folder):
        """Write the probe's two files into `folder`."""
        weights, choice = (Path(folder, name) for name in FILES)
        save_file(self.weights, weights)
        choice.write_text(json.dumps(self.choice, indent=1))


def load_probe(folder):
    """The probe that was saved in `folder`."""
    weights, choice = (Path(folder, name) for name in FILES)
    return Probe(load_file(weights), json.loads(choice.read_text()))


def train_probe(pairs, *, features, output_dir, search=None, cost=None):
    """Fit a probe to a pairs table and write it, as the trainers of `pdsel.training` write a model.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; a pair that occurs more than once counts as often.
    features : pdsel.engine.feature_files.PairFeatures
        Of these pairs, and maybe of others.
    output_dir : str or Path
        Written whole or not at all: the probe's two files and `training.json`.
    search : Search, optional
    cost : dict, optional
        `n_tokens` that were read for this probe alone, and the `seconds` that took.

    Returns
    -------
    str
        `output_dir`.
    """
    start, search, cost = time.perf_counter(), search or Search(), cost or {}
    prompt_of = dict(zip(pairs["pair_id"][:], pairs["prompt_id"][:], strict=True))
    counts = pd.Series(pairs["pair_id"][:]).value_counts(sort=False)
    counts = that_fit(counts, counts.index.map(prompt_of), most_pairs(features, search.blocks))
    gaps, prompts = features.of(counts.index, search.blocks), [prompt_of[name] for name in counts.index]
    with run_folder(output_dir) as folder:
        probe = fit_probe(gaps, prompts, counts=counts.to_numpy(), search=search)
        if processes.is_main():
            probe.save(folder)
            seconds = cost.get("seconds", 0.0) + time.perf_counter() - start
            record = {"n_given": len(pairs), "n_used": int(counts.sum()), "n_tokens": cost.get("n_tokens", 0)}
            record["seconds"] = seconds
            Path(folder, RECORD).write_text(json.dumps(record, indent=1))
    return str(output_dir)


def most_pairs(features, blocks):
    """How many pairs' columns may be in memory together."""
    gaps = features.of([], blocks)
    return MOST // sum(gaps[name].shape[1] for name in gaps)


def that_fit(counts, prompts, most):
    """The rows of a Series, or, if they are more than `most`, those of whole prompts in an order that is always the same.

    >>> that_fit(pd.Series([1, 2, 1], index=["a", "b", "c"]), ["p", "q", "p"], 2).index.tolist()
    ['a', 'c']
    """
    if len(counts) <= most:
        return counts
    names, place = np.unique(np.asarray(prompts, dtype=str), return_inverse=True)
    turns = np.random.default_rng(0).permutation(len(names))[place]
    first_without_room = np.sort(turns)[most]
    return counts[turns < first_without_room]


def blocks_of(sets):
    """The blocks that are in any of some sets, in the order of `BLOCKS`.

    >>> blocks_of([["length", "mid"], ["hd", "length"]])
    ['length', 'hd', 'mid']
    """
    wanted = set().union(*sets)
    return [name for name in BLOCKS if name in wanted] + sorted(wanted - set(BLOCKS))


def fit_probe(gaps, prompts, *, counts=None, search=None):
    """Fit the reward of one set of labels, with blocks and strength chosen by cross-validation.

    Parameters
    ----------
    gaps : mapping of str to numpy.ndarray of shape (n, width)
        Features of chosen minus rejected, by block.
    prompts : sequence, length n
        The prompt of each pair: pairs of one prompt are never on both sides of a split.
    counts : numpy.ndarray, shape (n,), optional
        How often each pair counts; default: once.
    search : Search, optional

    Returns
    -------
    Probe

    Raises
    ------
    ValueError
        For pairs of fewer than two prompts.

    Examples
    --------
    Three of four labels prefer what has more of the feature, and without a penalty the margin is log 3 nats a unit:

    >>> gaps = {"mid": np.array([[1.0], [1.0], [1.0], [-1.0]])}
    >>> probe = fit_probe(gaps, ["p", "q", "r", "s"], search=Search(candidates=[["mid"]], axes=[None], strengths=[1e9]))
    >>> round(float(np.exp(probe.weights["mid"][0])), 3)
    3.0
    """
    search = search or Search()
    if len(set(prompts)) < 2:
        raise DataError(
            f"prompt_id: {len(set(prompts))} prompts for a probe. Remedy: a probe needs pairs of two or more prompts, and "
            "is useful from hundreds on"
        )
    counts = np.ones(len(prompts)) if counts is None else np.asarray(counts, dtype=float)
    designs, folds = Designs(gaps, counts, search.length), _folds(prompts, search.folds)
    tried, losses = [], []
    for blocks, axes in designs.distinct(search.candidates, search.axes):
        margins = _held_out_margins(designs.of(blocks, axes), counts, folds, search.strengths)
        for strength, column in zip(search.strengths, margins.T, strict=True):
            loss = _scaled_loss(column, counts)
            signs = np.sign(column.round(5))  # a margin of rounding errors is none
            right = np.average((1 + signs) / 2, weights=counts)
            facts = {"loss": float(np.average(loss, weights=counts)), "accuracy": float(right)}
            tried.append({"blocks": list(blocks), "axes": axes, "strength": strength} | facts)
            losses.append(loss)
    best = tried[_choose(np.array(losses), prompts, counts)]
    design = designs.of(best["blocks"], best["axes"])
    weights = design.weights(regressions(design.precise, counts[:, None], [best["strength"]]))
    choice = best | {"n_pairs": len(prompts), "length": search.length, "candidates": tried}
    return Probe({name: values[:, 0] for name, values in weights.items()}, choice)


def bootstrap_probe(probe, gaps, prompts, *, counts=None, n_replicates=200, seed=0):
    """Fit a probe again and again on prompts drawn with replacement: how far would other prompts have moved it?

    Blocks and strength stay those that were chosen; all fits start from the probe's own and are solved together.

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
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), n_replicates)
    design = Designs(gaps, counts, probe.choice["length"]).of(probe.choice["blocks"], probe.choice["axes"])
    strength = probe.choice["strength"]
    start = np.repeat(regressions(design.precise, counts[:, None], [strength]), n_replicates, axis=1)
    strengths = np.full(n_replicates, strength)
    counts_drawn = counts[:, None] * drawn.T[owner]
    coefficients = regressions(design.rough, counts_drawn, strengths, start=start, tolerance=ROUGHLY)
    return Probe(design.weights(coefficients), probe.choice)


@dataclass
class Designs:
    """The regressions on the gaps of some pairs, whichever blocks they take; what several of them share is computed once.

    A column is divided by its root mean square, which no swap of a pair changes, and by the root of its block's width; a
    block that is whitened by its own root mean square.
    """

    gaps: Mapping
    counts: np.ndarray
    length: str
    factors: dict = field(default_factory=dict)
    kernels: dict = field(default_factory=dict)

    def distinct(self, candidates, axes):
        """Every set of blocks with every number of axes, in their order; axes that are no fewer than the columns are None."""
        found = []
        for blocks, number in product(candidates, axes):
            width = sum(len(self._factor(name)) for name in blocks)
            fewer = number is not None and number < min(len(self.counts), width)
            pair = tuple(blocks), number if fewer else None
            if pair not in found:
                found.append(pair)
        return found

    def of(self, blocks, axes=None):
        """The `Design` of a set of blocks: its columns, or coordinates of the pairs.

        There are coordinates where columns outnumber the pairs, and where the first `axes` stand for the columns.
        """
        names = [name for name in blocks if name != "length" or self.length == "feature"]
        fitted = [*names, "length"] if self.length == "nuisance" else names
        n, width = len(self.counts), sum(len(self._factor(name)) for name in fitted)
        factors = {name: self._factor(name) for name in names}
        if axes is not None:
            factors = {name: self._factor(name, alike=True) for name in names}
            vectors, sizes = self._principal_axes(fitted, axes)
            coordinates = vectors * np.sqrt(n / axes)
            return Design(coordinates, self.gaps, factors, (coordinates / sizes).__matmul__)
        if n < width and n <= KERNEL:
            kernel = sum(self._kernel(name) for name in fitted)
            kernel[np.diag_indices(n)] += JITTER * max(np.trace(kernel) / n, 1.0)
            coordinates = cholesky(kernel, lower=True)
            return Design(coordinates, self.gaps, factors, partial(solve_triangular, coordinates.T))
        return Design(self._columns(fitted, width), self.gaps, factors)

    def _columns(self, names, width, *, alike=False):
        """The scaled columns of some blocks side by side."""
        n = len(self.counts)
        columns = np.empty((n, width), dtype=float if n * width <= SMALL else np.float32)
        ends = np.cumsum([len(self._factor(name)) for name in names])
        for name, part in zip(names, np.split(columns, ends[:-1], axis=1), strict=True):
            np.multiply(self.gaps[name], self._factor(name, alike=alike), out=part, casting="same_kind")
        return columns

    def _principal_axes(self, names, axes):
        """Unit vectors over the pairs, and the squared sizes of the columns along them, largest first.

        At most `axes`: columns that depend on each other leave directions without a size, which nothing can be divided by.
        """
        n, width = len(self.counts), sum(len(self._factor(name)) for name in names)
        if n <= KERNEL:
            kernel = sum(self._kernel(name, alike=True) for name in names)
            sizes, vectors = eigh(kernel, subset_by_index=[n - axes, n - 1])
            sizes, vectors = sizes[::-1], vectors[:, ::-1]
        else:
            columns = self._columns(names, width, alike=True)
            vectors, roots, _ = randomized_svd(columns, axes, random_state=0)
            sizes = roots**2
        sized = sizes > NO_SIZE * sizes[0]
        return vectors[:, sized], sizes[sized]

    def _factor(self, name, *, alike=False):
        """What the columns of a block are multiplied by: each by its own size, or all alike, by that of the block."""
        if (name, alike) not in self.factors:
            gap = self.gaps[name]
            squares = np.einsum("ij,ij,i->j", gap, gap, self.counts / self.counts.sum(), dtype=float)
            if alike:
                squares = np.full(len(squares), squares.mean())
            size = np.sqrt(squares * gap.shape[1])
            self.factors[name, alike] = np.divide(1, size, out=np.zeros_like(size), where=size > 0)
        free = FREE if name == "length" and self.length == "nuisance" else 1.0
        return free * self.factors[name, alike]

    def _kernel(self, name, *, alike=False):
        """The inner products of the pairs in a block."""
        if (name, alike) not in self.kernels:
            columns = self.gaps[name] * self._factor(name, alike=alike)
            self.kernels[name, alike] = columns @ columns.T
        return self.kernels[name, alike]


@dataclass(frozen=True)
class Design:
    """The columns of a regression, and what the columns of each block were multiplied by, `factors`; a nuisance has none.

    `of_pairs`, where there is one, turns coefficients on coordinates of the pairs into coefficients on the pairs themselves,
    of which the weights are a sum.
    """

    columns: np.ndarray
    gaps: Mapping
    factors: dict
    of_pairs: Callable | None = None

    @cached_property
    def rough(self):
        """The columns for fits of which many are compared."""
        return Columns.of(self.columns, roughly=True)

    @cached_property
    def precise(self):
        """The columns for a fit that stays."""
        return self.rough if self.columns.size > SMALL else Columns.of(self.columns)

    def weights(self, coefficients):
        """The weights on the raw gaps, by block, from coefficients of shape (width, m)."""
        if self.of_pairs is not None:
            of_pairs = self.of_pairs(coefficients)
            return {
                name: factor[:, None] ** 2 * (self.gaps[name].T @ of_pairs) for name, factor in self.factors.items()
            }
        ends = np.cumsum([len(factor) for factor in self.factors.values()])
        parts = np.split(coefficients[: ends[-1]], ends[:-1])
        return {name: part * factor[:, None] for (name, factor), part in zip(self.factors.items(), parts, strict=True)}


def _folds(prompts, n_folds):
    """The number of the fold of each pair."""
    folds = np.empty(len(prompts), dtype=int)
    splits = GroupKFold(min(n_folds, len(set(prompts)))).split(prompts, groups=prompts)
    for number, (_, held_out) in enumerate(splits):
        folds[held_out] = number
    return folds


def _held_out_margins(design, counts, folds, strengths):
    """The margin of every pair by regressions on the pairs of the other folds, shape (n, strengths)."""
    names = np.unique(folds)
    trained = np.repeat(counts[:, None] * (folds[:, None] != names), len(strengths), axis=1)
    coefficients = regressions(design.rough, trained, np.tile(strengths, len(names)), tolerance=ROUGHLY)
    margins = design.rough.margins(coefficients).reshape(len(folds), len(names), len(strengths))
    return margins[np.arange(len(folds)), folds]


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
