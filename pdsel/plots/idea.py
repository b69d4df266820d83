"""Figures of the argument: notebook 00."""

import matplotlib.pyplot as plt
import numpy as np

from pdsel.plots.style import BLUE, GREY, ORANGE, spaced

WIDE_ENOUGH = 0.22  # the margin of a bar that has room for a name


def plot_idea(margins, aspect, divergence, cut):
    """The idea in one picture: what the other aspects say about each pair, and which pairs are kept.

    Parameters
    ----------
    margins : pandas.DataFrame, shape (n, kappa)
        Scaled margins, index `pair_id`.
    aspect, divergence : pandas.Series
        The aspect of each pair's label, and its PD; index `pair_id`.
    cut : float
        The largest PD that is kept.
    """
    order = divergence.sort_values().index
    figure, axes = plt.subplots(figsize=(9, 0.75 * len(order) + 1.3))
    for row, pair in enumerate(reversed(order)):
        others = margins.loc[pair].drop(aspect[pair])
        _draw_opinions(axes, row, others)
        axes.plot(divergence[pair], row, "D", color="black", ms=7)
        decision, color = ("keep", BLUE) if divergence[pair] <= cut else ("drop", ORANGE)
        beside = {"transform": axes.get_yaxis_transform(), "va": "center"}
        axes.text(1.02, row, decision, weight="bold", color=color, **beside)
    axes.axvline(0, color="black", lw=1)
    axes.set(
        yticks=range(len(order)),
        yticklabels=[f"labelled on\n{spaced(aspect[pair])}" for pair in reversed(order)],
        xlabel="PD (black diamond) = minus the sum of what the other aspects say\n"
        "blue: they agree with the label          orange: they contradict it",
        title="Keep the pairs whose label the other aspects share",
    )
    axes.grid(axis="y", visible=False)
    return figure


def _draw_opinions(axes, row, margins):
    """Draw bars from 0 to either side, one after the other: agreement with the label left, contradiction right."""
    ends = {BLUE: 0.0, ORANGE: 0.0}
    for name, margin in margins.items():
        color = BLUE if margin > 0 else ORANGE
        axes.barh(row, -margin, left=ends[color], color=color, edgecolor="white", height=0.6)
        if abs(margin) > WIDE_ENOUGH:
            middle = ends[color] - margin / 2
            axes.text(middle, row, spaced(name), ha="center", va="center", fontsize=8, color="white")
        ends[color] -= margin


def plot_bound_intervals(lowest, highest, ours):
    """Bars: every selection as an interval of possible losses, ranked by the upper end.

    Parameters
    ----------
    lowest, highest : array-like, shape (subsets,)
        Ends of each selection's mean loss in nats, see `pdsel.theory.interval_bounds`.
    ours : int
        The position of the selection of the most negative PD.
    """
    lowest, highest = np.asarray(lowest), np.asarray(highest)
    order = np.argsort(highest, kind="stable")
    rank = 1 + (highest < highest[ours] - 1e-12).sum()  # the tolerance is for rounding
    figure, axes = plt.subplots(figsize=(8, 4.2))
    axes.fill_between(
        np.arange(1, len(order) + 1), lowest[order], highest[order], step="mid", color=GREY, alpha=0.5, lw=0
    )
    axes.vlines(rank, lowest[ours], highest[ours], color=BLUE, lw=5)
    for end, text in [(lowest, "most negative PD, all margins high"), (highest, "most negative PD, all margins low")]:
        axes.axhline(end[ours], color=BLUE, ls="--", lw=1)
        label = axes.text(0.98 * len(order), end[ours], text, color=BLUE, weight="bold", ha="right", va="center")
        label.set_bbox({"color": "white", "pad": 1})
    axes.set(
        xlabel=f"the {len(order)} selections, a bar each, ranked by the upper end",
        ylabel="possible mean loss of all pairs (nats)",
        xlim=(-0.02 * len(order), 1.02 * len(order)),
        title="Both ends of the loss are lowest for the most negative PD",
    )
    axes.margins(y=0.1)
    return figure


def plot_spread(games):
    """Lines: what margins that spread cost, with and without the paper's condition.

    Parameters
    ----------
    games : pandas.DataFrame
        A row per random world: `ratio` (the step divided by the condition's step), `width`, `won`, and `excess` (percent).
    """
    table = games.groupby(["width", "ratio"])[["won", "excess"]].mean()
    widths, ratios = (table.index.unique(name) for name in ("width", "ratio"))
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2))
    for axes, column, factor in zip(panels, ["won", "excess"], [100, 1], strict=True):
        for width, color in zip(widths, np.resize([BLUE, GREY, ORANGE], len(widths)), strict=True):
            axes.plot(ratios, factor * table.loc[width, column], "o-", color=color, label=f"width {width:g}")
        axes.axvline(1, color="black", lw=1)
        axes.text(1.06, 1.01, "condition holds →", transform=axes.get_xaxis_transform(), va="bottom", fontsize=10)
        axes.set(xscale="log", xlabel="step $c_2 - c_0$, as a multiple of the condition's")
        axes.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
        axes.minorticks_off()
    panels[0].set(ylabel="exactly the best subset (% of worlds)", ylim=(-3, 103))
    panels[1].set(ylabel="mean loss above the best subset's (%)")
    panels[1].legend(title="intervals (reward units)")
    figure.suptitle(
        "Spread margins: the most negative PD may miss the best subset, with the condition or without",
        fontsize=12,
        weight="bold",
    )
    return figure
