"""Diagnoses without gold: does a proxy, or do the labels of an aspect, spoil the divergence?

Three accuracies and the correlations tell most failures apart:

=========================== =========== =========== =========== ======================================
an aspect that is           own         held_out    agreed_with correlation with the other proxies
=========================== =========== =========== =========== ======================================
as it should be             high        high        above .5    positive or about 0
scored with the wrong sign  below .5    below .5    above .5    negative where it should be positive
not learned by its proxy    about .5 *  about .5    above .5    about 0
labelled noisily            lower       lower       bit lower   weaker
independent of the others   high        high        about .5    about 0
opposed to one other        high        high        lower       clearly negative with that one
labelled the wrong way      high        high **     below .5    negative with most
=========================== =========== =========== =========== ======================================

(*) or high, if it learned its pairs by heart: then only `held_out` shows it.
(**) or lower, if the reverse is harder to learn: then it looks noisy.

Without gold, nobody can distinguish

- labels that are consistently reversed from an aspect that truly opposes the others, or tell which of two opposed proxies
  is wrong. Where aspects hardly correlate, reversed labels leave no trace at all;
- noisy labels from an aspect that is hard for a proxy of this size: `held_out` falls in both cases;
- without `held_out`, a proxy that learned its pairs by heart from an aspect that is independent of the others;
- consensus from a mistake that all proxies share, such as a taste for length, which is the only one that `length` shows.

So a warning says where to look, and the absence of a warning proves nothing.
"""

import warnings

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from statsmodels.stats.proportion import proportion_confint

from pdsel.checks import refuse, require_columns
from pdsel.divergence import aligned, preference_divergence, scale_margins
from pdsel.selection import select

SHARE = 0.3  # the paper's lambda, for the kept set behind `influence`
CONTRARY = -0.25  # the lowest correlation of sound proxies of the notes world, whose tastes for length differ
SURE = 3  # standard errors, since every two aspects are compared, and pairs of one prompt are not independent
LESS = {"own": 0.11, "held_out": 0.2}  # below the others' median; sound aspects of the notes world: up to .09 and .17
HEAVY = 0.2  # the median scaled margin is .41 for a normal distribution, .30 for Laplace's, .16 for Cauchy's
DOMINANT = 1.5  # times the next aspect's influence; at most 1.2 if both are sound, about 2 if all margins are +-1
LENGTH = 0.7  # a correlation at which length explains half of the ranking
UNSURE = 0.8  # of the margins are within 1.96 standard errors of 0; .95 if the proxy knows nothing


def diagnose(margins, aspect, *, quantile=0.9, length_gap=None, held_out=None, standard_error=None):
    """Diagnose each aspect without gold; the module says how each failure looks.

    Parameters
    ----------
    margins : pandas.DataFrame, shape (n, kappa)
        Raw margins of every proxy on every pair, index `pair_id`, from `score_margins`. Columns that label no pair (such as
        the pooled proxy's) are left out. If the margin of the pair's own aspect is NaN, so is `own`.
    aspect : pandas.Series, shape (n,)
        `pair_id` to the aspect of the label; extra pairs are ignored.
    quantile : float in (0, 1]
        The paper's gamma, see `scale_margins`.
    length_gap : pandas.Series, shape (n,), optional
        `pair_id` to the length of chosen minus rejected, any unit.
    held_out : pandas.DataFrame, Series or dict, optional
        Aspect to the share of its own pairs, *not trained on*, that its proxy orders as labelled; or a table with columns
        `accuracy` and `n`, the number of these pairs. Without `n`, the number of all pairs of the aspect is used.
    standard_error : pandas.DataFrame, shape (n, kappa), optional
        The standard error of each margin, in the margin's unit, such as from bootstrapped proxies.

    Returns
    -------
    pandas.DataFrame, a row per aspect (sorted)
        Shares are in [0, 1], a margin of 0 counts half, and intervals are 95 % ones (Wilson).

        - `pairs`: the number of pairs labelled on it.
        - `own`: share of these that its proxy orders as labelled. It was trained on them, so a high share proves little;
          near or below .5 is suspicious.
        - `held_out`: as passed, otherwise NaN. Near .5: not learned. Far below the other aspects': noisy, or hard to learn.
        - `others`, `others_low`, `others_high`: share of the other aspects' pairs where it agrees with the label, with
          its interval. It means something only far from .5: sound proxies of the notes world had .44 to .60.
        - `agreed_with`: share of its own labels that the other aspects agree with (PD < 0). Low: noise, opposition or
          reversed labels.
        - `lowest_correlation`, `with`: the most negative rank correlation of its margins with another proxy's, and that
          proxy; over pairs labelled on neither (with two aspects, over all pairs). It does not depend on which response of a
          pair is called chosen. Below -.25: they contradict each other.
        - `typical`: median size of its scaled margins, in [0, 1]. Below .2: a heavy tail sets the scale, and most of its
          margins hardly count.
        - `influence`: share of the kept 30 % that other pairs would replace if it did not count. Above 1.5 times any
          other's: PD is mostly its opinion (not judged with two aspects, where each alone judges the other's pairs).
        - `length` (with `length_gap`): rank correlation of its margins with the gap. Beyond +-.7: it mostly judges length.
        - `unsure` (with `standard_error`): share of its margins that do not differ from 0. Above .8: it knows little.
        - `warning`: what is suspicious and what to do about it, or an empty string.

    Raises
    ------
    ValueError
        As by `scale_margins`; for an aspect without a column; for a length gap, held-out share or standard error that is
        missing or impossible.

    Examples
    --------
    The proxy of "b" orders both of its pairs against their labels:

    >>> margins = pd.DataFrame({"a": [1.0, 2.0, 2.0, 1.0], "b": [1.0, 2.0, -3.0, -1.0]}, index=list("pqrs"))
    >>> diagnose(margins, pd.Series(["a", "a", "b", "b"], index=list("pqrs")))[["pairs", "own", "others", "agreed_with"]]
            pairs  own  others  agreed_with
    aspect
    a           2  1.0     1.0          1.0
    b           2  0.0     1.0          1.0
    """
    aspect, names = _labels(margins, aspect)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="all margins of aspect")  # the table says it
        scaled = scale_margins(margins[names], aspect, quantile=quantile)
    table = _accuracies(margins[names], scaled, aspect)
    held_out = _held_out(held_out, table["pairs"], margins.columns)
    table.insert(2, "held_out", held_out["accuracy"])
    correlation, opposed = _correlations(margins[names], aspect)
    table["lowest_correlation"] = correlation.min(axis=1)
    table["with"] = [row.idxmin() if row.notna().any() else "" for _, row in correlation.iterrows()]
    table["typical"] = [float(scaled.loc[aspect != name, name].abs().median()) for name in names]
    table["influence"] = _influence(scaled, aspect)
    if length_gap is not None:
        gap = _length(length_gap, margins.index)
        table["length"] = [_rank_correlation(margins[name], gap, aspect != name) for name in names]
    if standard_error is not None:
        table["unsure"] = _unsure(margins[names], aspect, standard_error)
    silent = [name for name in names if (margins.loc[aspect != name, name] == 0).all()]
    return table.assign(warning=_warnings(table, opposed, held_out["n"], silent))


def _labels(margins, aspect):
    """The aspect of each pair in the order of the margins, and the aspects that label a pair."""
    aspect = aligned(aspect, margins.index, "aspect")
    refuse(aspect.index[aspect.isna()], "aspect", "is null", "drop these pairs, or build the table with make_pairs")
    names = sorted(aspect.unique(), key=str)
    absent = [name for name in names if name not in margins.columns]
    refuse(absent, "margins: column", "missing for an aspect", "score with every proxy")
    return aspect, names


def _held_out(held_out, pairs, known):
    """Columns `accuracy`, NaN where it is unknown, and `n` of the held-out pairs, by aspect."""
    if isinstance(held_out, pd.DataFrame):
        require_columns(held_out.columns, ["accuracy", "n"], "held_out")
    else:
        shares = pd.Series({} if held_out is None else held_out, dtype=float)
        held_out = pd.DataFrame({"accuracy": shares, "n": np.nan})
    accuracy = held_out["accuracy"]
    refuse([name for name in held_out.index if name not in known], "held_out: aspect", "unknown", f"use {list(known)}")
    refuse(accuracy.index[(accuracy < 0) | (accuracy > 1)], "held_out", "is not a share in [0, 1]", "pass 0.8 for 80 %")
    held_out = held_out.reindex(pairs.index)
    return held_out.assign(n=held_out["n"].fillna(pairs).clip(lower=1))


def _length(length_gap, index):
    gap = aligned(length_gap, index, "length_gap").astype(float)
    refuse(index[~np.isfinite(gap.to_numpy())], "length_gap", "is NaN or infinite", "measure both responses")
    return gap


def _unsure(margins, aspect, standard_error):
    """The share of each proxy's margins, on the others' pairs, that are within 1.96 standard errors of 0."""
    absent = [name for name in margins if name not in standard_error.columns]
    refuse(absent, "standard_error: column", "missing for an aspect", "pass one as for the margins")
    found = []
    for name in margins:
        spread = aligned(standard_error[name], margins.index, f"standard_error[{name!r}]")[aspect != name]
        bad = spread.index[~((spread >= 0) & (spread < np.inf))]
        refuse(bad, f"standard_error[{name!r}]", "is NaN, negative or infinite", "use two or more replicates")
        found.append(float((margins.loc[aspect != name, name].abs() <= 1.96 * spread).mean()))
    return found


def _accuracies(margins, scaled, aspect):
    divergence = preference_divergence(scaled, aspect)
    rows = {}
    for name in margins:
        own = aspect == name
        others = _positive(margins.loc[~own, name])
        low, high = proportion_confint(others * (~own).sum(), (~own).sum(), method="wilson")
        rows[name] = {
            "pairs": int(own.sum()),
            "own": _positive(margins.loc[own, name]),
            "others": others,
            "others_low": low,
            "others_high": high,
            "agreed_with": _positive(-divergence[own]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("aspect")


def _positive(values):
    """The share of values above 0, with ties as half; NaN if any value is."""
    return float(((np.sign(values) + 1) / 2).mean(skipna=False))


def _correlations(margins, aspect):
    """Rank correlation of every two proxies over the pairs labelled on neither, and whether it is surely below `CONTRARY`.

    Returns
    -------
    (DataFrame, DataFrame)
        Correlations, NaN on the diagonal; and whether they are below it by `SURE` standard errors.
    """
    names = list(margins.columns)
    found = pd.DataFrame(np.nan, index=names, columns=names)
    opposed = pd.DataFrame(False, index=names, columns=names)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            rows = (aspect != a) & (aspect != b) if len(names) > 2 else margins.notna().all(axis=1)
            found.loc[a, b] = found.loc[b, a] = r = _rank_correlation(margins[a], margins[b], rows)
            opposed.loc[a, b] = opposed.loc[b, a] = r + SURE / np.sqrt(max(1, rows.sum())) < CONTRARY
    return found, opposed


def _rank_correlation(first, second, rows):
    """Spearman's correlation over both orders of every pair, because only the label decides which response is called chosen."""
    a, b = (np.sign(each) * (rankdata(np.abs(each)) - 0.5) for each in (first[rows], second[rows]))
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / size) if size > 0 else np.nan


def _influence(scaled, aspect):
    kept = select(preference_divergence(scaled, aspect), SHARE)
    without = [select(preference_divergence(_silenced(scaled, name), aspect), SHARE) for name in scaled]
    return [1 - len(kept.intersection(other)) / len(kept) for other in without]


def _silenced(scaled, name):
    scaled = scaled.copy()
    scaled[name] = 0.0
    return scaled


def _warnings(table, opposed, n_held_out, silent):
    """A sentence per aspect. A proxy that is wrong on its own pairs is not reported as opposing another."""
    sizes = pd.DataFrame({"own": table["pairs"], "held_out": n_held_out, "agreed_with": table["pairs"]})
    low, high = (sizes.copy(), sizes.copy())
    for column in sizes:
        low[column], high[column] = proportion_confint(table[column] * sizes[column], sizes[column], method="wilson")
    wrong = {name: _wrong(name, low, high, silent) for name in table.index}
    sound = [name for name in table.index if not wrong[name]]
    return [
        wrong[name]
        or "; ".join(
            _opposed(table, opposed.loc[sound, name], high, name) + _noisy(table, sizes, name) + _size(table, name)
        )
        for name in table.index
    ]


def _wrong(name, low, high, silent):
    """What is wrong with a proxy on its own pairs, whatever it says about the others; empty if nothing is."""
    if name in silent:
        return "its proxy has no opinion (all margins are 0): train it again, with more steps or pairs"
    for column, kind in [("own", "own"), ("held_out", "held-out own")]:
        if high.loc[name, column] < 0.5:
            return f"its proxy orders its {kind} pairs against their labels: look for a swapped sign or column"
        if low.loc[name, column] <= 0.5:
            return f"its proxy is not surely better than chance on its {kind} pairs: more pairs, steps or better labels"
    return ""


def _opposed(table, opposed, high, name):
    """The aspects that it contradicts."""
    foes = list(opposed.index[opposed])
    if len(foes) > max(1, (len(table) - 1) / 2):
        return [f"opposed to most others ({', '.join(foes)}): reversed labels, or a true opposition; read its pairs"]
    if foes:
        return [f"opposed to {' and '.join(foes)}: read pairs where they differ, then weight the aspects or drop one"]
    if table.loc[name, "others_high"] < 0.5 and high.loc[name, "agreed_with"] < 0.5:
        return ["contradicts the other labels, and they its own: reversed labels, or a true conflict; read its pairs"]
    return []


def _noisy(table, sizes, name):
    """Whether its labels are much harder to predict than those of the other aspects."""
    for column, less in LESS.items():
        share, usual = table.loc[name, column], table[column].drop(index=name).median()
        if usual - share > max(less, SURE * np.sqrt(share * (1 - share) / sizes.loc[name, column])):
            return [f"`{column}` is {usual - share:.2f} below the other aspects': noisy labels, or hard to learn"]
    return []


def _size(table, name):
    """Whether it counts too much or too little in PD, and whether its margins follow length."""
    row, said = table.loc[name], []
    if row["typical"] < HEAVY:
        said.append("most of its margins are tiny beside its largest: lower the quantile, look at the largest")
    if len(table) > 2 and row["influence"] > DOMINANT * table["influence"].drop(index=name).max():
        said.append("PD is mostly its opinion: weight the aspects")
    if abs(row.get("length", 0.0)) > LENGTH:
        said.append("its proxy mostly judges length: use length_penalty or length_balance, unless it is about length")
    if row.get("unsure", 0.0) > UNSURE:
        said.append("hardly a margin differs from 0: more pairs for its proxy")
    return said
