"""Figures of pairs, proxies and selections: notebooks 01 to 03."""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from pdsel.plots.style import BLUE, DARK, GREY, KINDS, LIGHT, ORANGE, spaced


def plot_agreement(agreement):
    """Heat map: the share of response pairs that two aspects rank the same way, of those that both rank.

    Parameters
    ----------
    agreement : pandas.DataFrame, shape (kappa, kappa)
        In [0, 1].
    """
    figure, axes = plt.subplots(figsize=(6.2, 4.6))
    sns.heatmap(
        100 * agreement,
        mask=np.eye(len(agreement), dtype=bool),
        annot=True,
        fmt=".0f",
        cmap="RdYlBu",
        center=50,
        square=True,
        ax=axes,
        cbar=False,
    )
    worst = agreement.where(~np.eye(len(agreement), dtype=bool)).stack().idxmin()
    least = f"{spaced(worst[0])} and {spaced(worst[1])} rank {100 * agreement.loc[worst]:.0f} % of the pairs alike"
    axes.set(xlabel="", ylabel="", title=f"{least[0].upper()}{least[1:]}, the fewest")
    axes.grid(False)
    axes.set_xticklabels([spaced(t.get_text()) for t in axes.get_xticklabels()], rotation=30, ha="right")
    axes.set_yticklabels([spaced(t.get_text()) for t in axes.get_yticklabels()], rotation=0)
    return figure


def plot_conflict(pairs):
    """Bars: the share of each aspect's labels that contradict the overall rating.

    Parameters
    ----------
    pairs : pandas.DataFrame
        `aspect` and `conflict` (bool), a row per pair.
    """
    share = 100 * pairs.groupby("aspect")["conflict"].mean().sort_values()
    figure, axes = plt.subplots(figsize=(7, 2.6))
    axes.barh([spaced(name) for name in share.index], share, color=ORANGE)
    axes.axvline(100 * pairs["conflict"].mean(), color="black", lw=1, ls="--")
    axes.text(100 * pairs["conflict"].mean(), 0, " all pairs", fontsize=10, va="center")
    axes.bar_label(axes.containers[0], fmt="%.0f %%", label_type="center", color="white")
    axes.set(
        xlabel="labels that contradict the overall rating (%)",
        xlim=(0, max(share) * 1.15),
        title=f"{spaced(share.index[-1]).capitalize()} contradicts the overall rating most often",
    )
    axes.grid(axis="y", visible=False)
    return figure


def plot_length(gaps):
    """Bars: how much longer the chosen response is than the rejected one, by aspect, with 95 % intervals.

    Parameters
    ----------
    gaps : pandas.DataFrame
        `aspect` and `length_gap` (words), a row per pair.
    """
    figure, axes = plt.subplots(figsize=(7, 2.6))
    shown = gaps.assign(aspect=gaps["aspect"].map(spaced))
    sns.barplot(
        shown,
        x="length_gap",
        y="aspect",
        order=sorted(shown["aspect"].unique()),
        color=BLUE,
        saturation=1,
        seed=0,
        ax=axes,
        errorbar=("ci", 95),
        n_boot=500,
    )
    axes.axvline(0, color="black", lw=1)
    gaps = shown.groupby("aspect")["length_gap"]
    axes.set(
        ylabel="",
        xlabel="length of chosen minus rejected (words, mean and 95 % interval)",
        title=_length_title(gaps.mean(), 1.96 * gaps.sem()),
    )
    return figure


def _length_title(means, errors):
    """A title for the mean length gaps of the aspects, a Series, and half the width of their intervals.

    >>> _length_title(pd.Series({"helpfulness": 2.0, "honesty": -1.0}), 0.5)
    'Labels on helpfulness favour length, on honesty brevity'
    >>> _length_title(pd.Series({"helpfulness": 2.0, "honesty": 1.0}), 0.5)
    'Labels on 2 of 2 aspects favour length, on helpfulness most'
    >>> _length_title(pd.Series({"helpfulness": 0.2, "honesty": -0.1}), 0.5)
    'Labels on no aspect favour length or brevity beyond chance'
    """
    sure = means[means.abs() > errors]
    if sure.empty:
        return "Labels on no aspect favour length or brevity beyond chance"
    if sure.min() < 0 < sure.max():
        return f"Labels on {sure.idxmax()} favour length, on {sure.idxmin()} brevity"
    taste = "length" if sure.min() > 0 else "brevity"
    return f"Labels on {len(sure)} of {len(means)} aspects favour {taste}, on {sure.abs().idxmax()} most"


def plot_proxies(quality, *, against="the raters"):
    """Bars: the accuracy of each proxy on the other aspects' pairs, one colour per kind; chance is 50 %.

    Parameters
    ----------
    quality : pandas.DataFrame
        `aspect`, `kind` and `accuracy` in [0, 1].
    against : str
        Whose opinion counts as right; it is named on the axis.
    """
    figure, axes = plt.subplots(figsize=(7, 3.2))
    shown = quality.assign(aspect=quality["aspect"].map(spaced), accuracy=100 * quality["accuracy"])
    sns.barplot(shown, x="accuracy", y="aspect", hue="kind", palette=KINDS, saturation=1, ax=axes)
    axes.axvline(50, color="black", lw=1, ls="--")
    for bars in axes.containers:
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=9)
    means = shown.groupby("kind")["accuracy"].mean()
    axes.set(
        ylabel="",
        xlabel=f"accuracy on the other aspects' pairs, against {against} (%; dashed: chance)",
        xlim=(0, 100),
        title=f"On average, the {means.idxmax()} reward is right most often: {means.max():.0f} %",
    )
    axes.legend(title="proxy kind", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_length_bias(correlations):
    """Dots: the correlation of margins with the length gap, per aspect and judge.

    Parameters
    ----------
    correlations : pandas.DataFrame
        Index aspect; a column per judge: kinds of proxies, "raters" and "gold".
    """
    figure, axes = plt.subplots(figsize=(7, 3.2))
    shown = correlations.rename(index=spaced)
    looks = {"gold": (DARK, "D"), "raters": (GREY, "s")} | {kind: (color, "o") for kind, color in KINDS.items()}
    for name in shown:
        color, marker = looks[name]
        axes.plot(shown[name], range(len(shown)), marker, color=color, label=name, ms=8)
    axes.axvline(0, color="black", lw=1)
    axes.set(
        yticks=range(len(shown)),
        yticklabels=shown.index,
        xlim=(-1, 1),
        xticks=[-1, -0.5, 0, 0.5, 1],
        ylim=(-0.5, len(shown) - 0.5),
        xlabel="correlation with the length gap",
        title=_nearest_to_the_truth(shown),
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _nearest_to_the_truth(correlations):
    """Which judge's link with length is nearest to the truth's, as a title."""
    if "gold" not in correlations:
        return "How much each judge follows length"
    distance = correlations.drop(columns="gold").sub(correlations["gold"], axis=0).abs().mean()
    return f"Nearest to the truth in the taste for length: {distance.idxmin()}"


def plot_divergence(scores, cut):
    """Histogram of PD, with the cut of the kept share.

    Parameters
    ----------
    scores : pandas.DataFrame
        `PD`, a row per pair. With a column `gold_wrong` (bool), the bars also show which labels are wrong.
    cut : float
        The largest PD that is kept.
    """
    figure, axes = plt.subplots(figsize=(7, 3.4))
    draw_divergence(axes, scores, cut)
    return figure


def draw_divergence(axes, scores, cut, before=""):
    """`plot_divergence` into axes, with words before the title."""
    bins = np.linspace(scores["PD"].min(), scores["PD"].max(), 41)
    right, wrong = scores, scores.iloc[:0]
    share = 100 * (scores["PD"] <= cut).mean()
    title = f"PD keeps the {share:.0f} % of the pairs with the lowest values"
    if "gold_wrong" in scores:
        is_wrong = scores["gold_wrong"].astype(bool)
        right, wrong = scores[~is_wrong], scores[is_wrong]
        kept = 100 * is_wrong[scores["PD"] <= cut].mean()
        title = f"{kept:.0f} % of the kept labels are wrong, {100 * is_wrong.mean():.0f} % of all"
    colors, names = [ORANGE, BLUE], ["label wrong", "label right"]
    axes.hist([wrong["PD"], right["PD"]], bins=bins, stacked=True, color=colors, label=names)
    if "gold_wrong" in scores:
        axes.legend()
    axes.set_ylim(top=1.12 * axes.get_ylim()[1])  # room for "kept" above the bars
    axes.axvspan(axes.get_xlim()[0], cut, color=LIGHT, zorder=0)
    axes.axvline(cut, color="black", lw=1.5)
    beside = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "right", "va": "top"}
    axes.annotate("← kept", (cut, 0.97), xytext=(-6, 0), weight="bold", **beside)
    axes.set(
        xlabel="preference divergence PD  (negative: the other aspects agree with the label)",
        ylabel="pairs",
        xlim=(bins[0], bins[-1]),
        title=before + title,
    )


def plot_overlap(kept, chance=None):
    """Heat map: the share of the pairs kept by the row's rule that the column's rule also keeps; blue is more than chance.

    Parameters
    ----------
    kept : pandas.DataFrame
        `method` and `pair_id`, a row per kept pair.
    chance : float, optional
        The share that a rule keeps, in [0, 1]: what two rules have in common by chance.
    """
    sets = {method: set(group["pair_id"]) for method, group in kept.groupby("method", sort=False)}
    shared = pd.DataFrame(index=list(sets), columns=list(sets), dtype=float)
    for row, column in product(sets, sets):
        shared.loc[row, column] = 100 * len(sets[row] & sets[column]) / len(sets[row])
    figure, axes = plt.subplots(figsize=(5.6, 4.2))
    sns.heatmap(
        shared,
        mask=np.eye(len(shared), dtype=bool),
        annot=True,
        fmt=".0f",
        cmap="RdBu" if chance else "Blues",
        center=100 * chance if chance else None,
        square=True,
        ax=axes,
        cbar=False,
    )
    title = "What two rules both keep"
    if {"PD", "PD(rati.)"} <= set(sets):
        title = f"PD finds {shared.loc['PD', 'PD(rati.)']:.0f} % of what the true ratings would keep"
    by_chance = f" (by chance: {100 * chance:.0f})" if chance else ""
    axes.set(title=title, xlabel=f"of the row's pairs, the column's rule keeps so many percent{by_chance}", ylabel="")
    axes.tick_params(axis="y", rotation=0)
    axes.grid(False)
    return figure
