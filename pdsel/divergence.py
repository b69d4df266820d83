"""The preference divergence (PD) term of DMPO: pure numpy on tables keyed by `pair_id`, no torch."""

import warnings

import numpy as np
import pandas as pd

from pdsel.checks import (
    DataError,
    is_number,
    refuse,
    refuse_repeated,
    require_columns,
    require_frame,
    require_ids,
    require_numbers,
    require_series,
    require_table,
)
from pdsel.data.gaps import rating_gaps


def scale_margins(margins, aspect, *, quantile=0.9):
    """Make the margins of different aspects comparable: `clip(m_k / q_k, -1, 1)` (paper, section "Estimation").

    `q_k` is the `quantile` of `|m_k|` over the pairs that are *not* labelled on aspect k, since m_k is used only there.

    Parameters
    ----------
    margins : pandas.DataFrame, shape (n, kappa)
        Raw reward margins, index `pair_id`, a column per aspect, any unit.
    aspect : pandas.Series, shape (n,)
        `pair_id` to the aspect of the pair's label.
    quantile : float in (0, 1]
        The paper's gamma; margins beyond this quantile are clipped.

    Returns
    -------
    pandas.DataFrame
        Same shape, in [-1, 1]. An aspect whose margins are all zero contributes nothing, with a warning.

    Raises
    ------
    ValueError
        For a NaN or infinite margin of another aspect, an unknown aspect or pair, or a single aspect.

    Examples
    --------
    >>> margins = pd.DataFrame({"a": [9.0, 1.0, -2.0], "b": [4.0, 9.0, 9.0]}, index=["p", "q", "r"])
    >>> scale_margins(margins, pd.Series({"p": "a", "q": "b", "r": "b"}), quantile=1.0)
         a    b
    p  1.0  1.0
    q  0.5  1.0
    r -1.0  1.0
    """
    if not is_number(quantile) or not 0 < quantile <= 1:
        raise DataError(f"quantile={quantile!r} is not in (0, 1]; the paper's gamma is a share such as 0.9")
    values, own = _checked(margins, aspect)
    scaled = np.zeros_like(values)
    for k, name in enumerate(margins.columns):
        sizes = np.abs(values[own != k, k])
        scale = _scale(sizes, quantile)
        if scale > 0:
            # What overflows is infinite, and is clipped to 1.
            with np.errstate(over="ignore"):
                scaled[:, k] = np.clip(values[:, k] / scale, -1, 1)
        elif len(sizes):
            warnings.warn(f"all margins of aspect {name!r} are zero: it contributes nothing to PD", stacklevel=2)
    return pd.DataFrame(scaled, index=margins.index, columns=margins.columns)


def _scale(sizes, quantile):
    """The quantile of the sizes of margins, or the largest size if that quantile is zero."""
    if len(sizes) == 0:
        return 0.0
    scale = np.quantile(sizes, quantile)
    return scale if scale > 0 else sizes.max()


def preference_divergence(margins, aspect, *, weights=None):
    """How much the other aspects contradict a pair's label: PD(z) = -sum over k' != k of m_k'(z).

    Negative: the other aspects agree with the label (consensus). Positive: they contradict it (conflict).

    Parameters
    ----------
    margins : pandas.DataFrame, shape (n, kappa)
        Margins r_k(x, chosen) - r_k(x, rejected), index `pair_id`, a column per aspect, usually from `scale_margins`.
        A pair's margin on its own aspect is never read and may be NaN.
    aspect : pandas.Series, shape (n,)
        `pair_id` to the aspect of the pair's label; extra pairs are ignored.
    weights : dict, optional
        Importance w_k > 0 of each aspect; PD becomes -sum (w_k' / w_k) * m_k', the divergence of MODPO's loss. Equal
        weights give PD to the bit.

    Returns
    -------
    pandas.Series, shape (n,)
        PD by `pair_id`, in the margins' unit. Margins beyond 1, which `scale_margins` has not seen, get a warning.

    Raises
    ------
    ValueError
        For fewer than two aspects, unknown pairs or aspects, NaN or infinite margins of another aspect.

    Notes
    -----
    DMPO's loss is -log sigma(kappa * M + PD), see `pdsel.objectives.dmpo_loss` (arXiv 2508.07638).

    Examples
    --------
    Three aspects, four pairs, worked by hand. The first pair is labelled on honesty: the other two aspects say
    +0.5 and +0.4, so PD = -(0.5 + 0.4) = -0.9, the strongest consensus. The last is labelled on safety and both others
    contradict it: PD = -(-0.6 - 0.7) = +1.3.

    >>> margins = pd.DataFrame(
    ...     {"honesty": [float("nan"), 0.3, -0.2, -0.6], "help": [0.5, 0.9, 0.1, -0.7], "safety": [0.4, -0.3, 0.8, 0.2]},
    ...     index=["z1", "z2", "z3", "z4"])
    >>> aspect = pd.Series({"z1": "honesty", "z2": "help", "z3": "help", "z4": "safety"})
    >>> preference_divergence(margins, aspect).round(6)
    z1   -0.9
    z2    0.0
    z3   -0.6
    z4    1.3
    Name: pd, dtype: float64

    The second pair: the others cancel, -(0.3 - 0.3) = 0. With honesty twice as important, pair z3's PD is
    -(2 * -0.2 + 0.8) = -0.4:

    >>> weighted = preference_divergence(margins, aspect, weights={"honesty": 2, "help": 1, "safety": 1})
    >>> round(float(weighted["z3"]), 6)
    -0.4
    """
    values, own = _checked(margins, aspect)
    weight = _weights(weights, margins.columns)
    largest = max(np.abs(values[own != k, k]).max(initial=0.0) for k in range(values.shape[1]))
    if largest > 1:
        warnings.warn(
            f"margins reach {largest:.3g}, so the aspect of the largest unit decides: pass them through scale_margins first",
            stacklevel=2,
        )
    total = np.zeros(len(values))
    # Added in the order of the names, so that the order of the columns changes no bit of the sum.
    for k in np.argsort(np.asarray(margins.columns, dtype=str)):
        relative_weight = (weight[k] / weight)[own]
        total += np.where(own == k, 0.0, relative_weight * values[:, k])
    # Not -total, which is -0.0 where the total is zero.
    return pd.Series(0.0 - total, index=margins.index, name="pd")


def rating_divergence(pairs):
    """PD(rati.): the divergence from the true ratings, an oracle for the proxies.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table with `pair_id, aspect, rating_gaps`.

    Returns
    -------
    pandas.Series, shape (n,)
        PD of the gaps, each aspect's gaps divided by its largest so that they lie in [-1, 1].

    Raises
    ------
    ValueError
        For a missing column, gaps without names, a single aspect, or an absent rating of another aspect.

    Examples
    --------
    >>> from datasets import Dataset
    >>> rating_divergence(Dataset.from_dict({"pair_id": ["p", "q"], "aspect": ["a", "b"],
    ...                                      "rating_gaps": [{"a": 1.0, "b": -2.0}, {"a": 4.0, "b": 1.0}]}))
    pair_id
    p    1.0
    q   -1.0
    Name: pd, dtype: float64
    """
    require_table(pairs, "pairs")
    require_columns(pairs.column_names, ["pair_id", "aspect", "rating_gaps"], "pairs table")
    gaps = rating_gaps(pairs)
    aspect = pd.Series(list(pairs["aspect"]), index=gaps.index)
    return preference_divergence(scale_margins(gaps, aspect, quantile=1.0), aspect)


def _checked(margins, aspect):
    """Margins as an array, and the column number of each pair's own aspect."""
    require_frame(margins, "margins")
    if margins.shape[1] < 2:
        raise DataError(
            f"margins: {margins.shape[1]} aspect (kappa = {margins.shape[1]}); PD is about the other aspects, so at least "
            "two columns are needed"
        )
    require_ids(margins.index, "margins")
    refuse_repeated(margins.index, "margins: pair_id", "occurs more than once", "drop repeats")
    refuse_repeated(margins.columns, "margins: column", "occurs more than once", "keep one per aspect")
    require_series(aspect, "aspect")
    aspect = aligned(aspect, margins.index, "aspect")
    own = margins.columns.get_indexer(aspect)
    unknown = sorted(map(str, aspect[own < 0].unique()))
    refuse(unknown, "margins: column", "missing for an aspect", "score with every proxy")
    values = require_numbers(margins, "margins").to_numpy()
    usable = np.isfinite(values)
    # The margin of a pair's own aspect is never read, so it may be anything.
    usable[np.arange(len(values)), own] = True
    for k, name in enumerate(margins.columns):
        refuse(
            margins.index[~usable[:, k]],
            f"margins[{name!r}]",
            "is NaN or infinite where another aspect needs it",
            "score these pairs with this aspect's proxy, or drop them",
        )
    return values, own


def aligned(series, index, name):
    """The entries of a Series, or the rows of a frame, in the order of `index`; those of other ids are left out.

    Raises
    ------
    ValueError
        For an id with several entries or none; the message calls the Series `name`.

    >>> aligned(pd.Series({"q": 2, "r": 3, "p": 1}), pd.Index(["p", "q"]), "aspect").to_dict()
    {'p': 1, 'q': 2}
    """
    if not isinstance(series, pd.DataFrame):
        require_series(series, name)
    if series.index.equals(index):
        return series
    refuse_repeated(series.index, name, "has several entries for a pair", "keep one per pair")
    rows = series.index.get_indexer(index)
    remedy = f"pass the {name} of every pair"
    if isinstance(series.index, pd.RangeIndex):
        remedy = f'its index is 0, 1, 2, ... and not pair_id, as after reset_index: {name}.set_axis(pairs["pair_id"])'
    refuse(index[rows < 0], name, "has no entry for a pair", remedy)
    return series.iloc[rows]


def _weights(weights, columns):
    """The weight of each aspect, in the order of the columns; equal weights by default."""
    if weights is None:
        return np.ones(len(columns))
    if not isinstance(weights, dict):
        raise DataError(
            f"weights is a {type(weights).__name__}, not a dict. Remedy: {{aspect: weight}} for every aspect"
        )
    unknown = [name for name in weights if name not in columns]
    remedy = f"give every aspect a weight; {unknown} name none of {list(columns)}" if unknown else "give each one"
    refuse([c for c in columns if c not in weights], "weights: aspect", "has no weight", remedy)
    refuse(
        [c for c in columns if not is_number(weights[c]) or not 0 < weights[c] < np.inf],
        "weights",
        "is not positive and finite",
        "use weights > 0",
    )
    return np.array([float(weights[c]) for c in columns])
