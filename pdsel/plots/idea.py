"""Figures of the argument: notebooks 00 and 00b."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from pdsel.plots.style import BLUE, DARK, GREY, ORANGE, spaced

LETTER = 0.02  # the share of all bars' reach that has room for a letter of a name


def plot_idea(margins, aspect, divergence, cut, names=None):
    """The idea in one picture: what the other aspects say about each pair, and which pairs are kept.

    Parameters
    ----------
    margins : pandas.DataFrame, shape (n, kappa)
        Scaled margins, index `pair_id`.
    aspect, divergence : pandas.Series
        The aspect of each pair's label, and its PD; index `pair_id`.
    cut : float
        The largest PD that is kept.
    names : dict, optional
        What to call each pair.
    """
    figure, axes = plt.subplots(figsize=(9, 0.75 * len(divergence) + 1.3))
    draw_idea(axes, margins, aspect, divergence, cut)
    if names is not None:
        order = divergence.sort_values(ascending=False).index
        axes.set_yticklabels([f"{names[pair]}\n(label on {spaced(aspect[pair])})" for pair in order])
    axes.set_title("Keep the pairs whose label the other aspects share")
    return figure


def draw_idea(axes, margins, aspect, divergence, cut):
    """`plot_idea` into axes, best pair on top."""
    order = divergence.sort_values(ascending=False).index
    others = {pair: margins.loc[pair].drop(aspect[pair]) for pair in order}
    reach = sum(max((side * said).clip(lower=0).sum() for said in others.values()) for side in (-1, 1))
    for row, pair in enumerate(order):
        decision, color = ("keep", BLUE) if divergence[pair] <= cut else ("drop", ORANGE)
        axes.axhspan(row - 0.45, row + 0.45, color=color, alpha=0.06, lw=0)
        ends = _draw_opinions(axes, row, others[pair], LETTER * reach)
        axes.plot(divergence[pair], row - 0.33, "D", color="black", ms=7, zorder=4)  # below the bars and their names
        axes.annotate(decision, (ends[ORANGE], row), xytext=(14, 0), textcoords="offset points", va="center")
        axes.texts[-1].set(weight="bold", color=color)
    axes.axvline(0, color="black", lw=1)
    axes.margins(x=0.14)
    axes.set(
        yticks=range(len(order)),
        yticklabels=[f"{pair}, label on\n{spaced(aspect[pair])}" for pair in order],
        ylim=(-0.5, len(order) - 0.5),
        xlabel="PD (black diamond) = minus the sum of what the other aspects say, lowest on top\n"
        "blue: they agree with the label          orange: they contradict it",
    )
    axes.grid(axis="y", visible=False)


def _draw_opinions(axes, row, margins, letter):
    """Draw bars from 0 to either side, one after the other: agreement with the label left, contradiction right.

    Names that have no room in their bars stand above them. Returns where the bars end, by colour.
    """
    ends, above = {BLUE: 0.0, ORANGE: 0.0}, {BLUE: [], ORANGE: []}
    for name, margin in margins.items():
        color = BLUE if margin > 0 else ORANGE
        axes.barh(row, -margin, left=ends[color], color=color, edgecolor="white", height=0.5)
        middle, said = ends[color] - margin / 2, spaced(name)
        if abs(margin) > letter * len(said):
            axes.text(middle, row, said, ha="center", va="center", fontsize=9, color="white")
        else:
            above[color].append((ends[color], said))
        ends[color] -= margin
    for color, side, away in [(BLUE, "right", -3), (ORANGE, "left", 3)]:
        if above[color]:
            place = (above[color][0][0], row + 0.26)  # where the first of these bars begins
            said = ", ".join(name for _, name in above[color])
            style = {"xytext": (away, 0), "textcoords": "offset points", "ha": side, "va": "bottom", "fontsize": 9}
            axes.annotate(said, place, color=color, **style)
    return ends


def draw_gain(axes, gain, limit):
    """The gain from training on a pair, against its PD, into axes.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    gain : callable
        PD to gain, in nats.
    limit : float
        What the gain approaches for PD far below zero: kappa (c2 - c0).
    """
    grid, levels = np.linspace(-6, 6, 400), np.arange(-2, 3)
    axes.axvspan(-6, 0, color=BLUE, alpha=0.08, lw=0)
    axes.axvspan(0, 6, color=ORANGE, alpha=0.08, lw=0)
    axes.plot(grid, gain(grid), color="black", lw=2.5)
    axes.plot(levels, gain(levels), "o", color="black")
    axes.axhline(limit, color=GREY, ls="--")
    label = f"never more than $\\kappa(c_2 - c_0)$ = {limit:.2g}"
    axes.text(5.9, 0.98 * limit, label, va="top", ha="right", color=DARK)
    axes.text(-3, 1.12 * limit, "consensus: the others agree", color=BLUE, weight="bold", ha="center")
    axes.text(3, 1.12 * limit, "conflict: the others contradict", color=ORANGE, weight="bold", ha="center")
    axes.set(
        xlabel="PD of the pair (reward units)",
        ylabel="gain g: fall of the loss (nats)",
        xlim=(-6, 6),
        ylim=(0, 1.25 * limit),
        title=f"A pair of PD -2 gains {gain(-2.0) / gain(2.0):.1f} times as much as one of PD +2",
    )


def plot_gradient_weights(weight, kappa, levels=(-2, -1, 0, 1, 2)):
    """Curves: the weight of a pair's gradient against its margin, one for each PD.

    Parameters
    ----------
    weight : callable
        `weight(margin, PD, kappa)`, see `pdsel.theory.gradient_weight`.
    kappa : int
    levels : sequence of float
        The PD, ascending.
    """
    grid = np.linspace(-5, 5, 400) / kappa
    figure, axes = plt.subplots(figsize=(8, 4.2))
    for level, color in zip(levels, sns.blend_palette([BLUE, GREY, ORANGE], len(levels)), strict=True):
        axes.plot(grid, weight(grid, level, kappa), color=color, lw=2.5)
        axes.plot(0, weight(0.0, level, kappa), "o", color=color)
        place = (-0.5 - level) / kappa  # on the curve, where its weight is 0.62
        label = axes.text(place, 0.62, f"PD {level:+d}" if level else "PD 0", color=color, ha="center", va="center")
        label.set(weight="bold", fontsize=10, bbox={"color": "white", "pad": 1})
    axes.axvline(0, color="black", lw=1)
    axes.set(
        xlabel="reward margin M (reward units); right of 0 the policy already prefers the chosen answer",
        ylabel="weight of the pair's gradient (0 to 1)",
        title="At the same margin, pairs that the others contradict (orange) pull less",
    )
    return figure


def plot_bounds(bounds, lowest, highest):
    """Dots: the bound of every selection, ranked; the most negative and the most positive PD are marked.

    Parameters
    ----------
    bounds : array-like, shape (subsets,)
        Bound of each selection on the mean loss, in nats.
    lowest, highest : float
        The bounds of the selections of the most negative and of the most positive PD.
    """
    bounds = np.asarray(bounds)
    figure, axes = plt.subplots(figsize=(8, 4.2))
    axes.plot(np.arange(1, len(bounds) + 1), np.sort(bounds), "o", color=GREY, ms=4)
    axes.axhline(bounds.mean(), color=DARK, ls="--")
    at_random = {"textcoords": "offset points", "xytext": (0, -4), "va": "top", "ha": "right", "color": DARK}
    axes.annotate("kept at random (mean)", (len(bounds), bounds.mean()), **at_random)
    places = {value: 1 + (bounds < value - 1e-12).sum() for value in (lowest, highest)}  # the tolerance is for rounding
    for value, color, text, ha in [
        (lowest, BLUE, "    most negative PD", "left"),
        (highest, ORANGE, "most positive PD    ", "right"),
    ]:
        axes.plot(places[value], value, "o", color=color, ms=11)
        axes.text(places[value], value, text, color=color, weight="bold", ha=ha, va="center")
    axes.set(
        xlabel=f"the {len(bounds)} subsets, ranked by their bound",
        ylabel="bound on the mean loss (nats)",
        title=f"The most negative PD: rank {places[lowest]} of {len(bounds)}, lowest bound first",
    )
    return figure


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
    below, rank = (1 + (end < end[ours] - 1e-12).sum() for end in (lowest, highest))  # the tolerance is for rounding
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
        title=f"The most negative PD: rank {below} of {len(order)} by the lower end, rank {rank} by the upper",
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
    holds = 100 * table.loc[table.index.get_level_values("ratio") >= 1, "won"]
    least, most = (f"{value:.0f}" for value in (holds.min(), holds.max()))
    share = least if least == most else f"{least} to {most}"
    figure.suptitle(f"Where the condition holds, the most negative PD is the best subset in {share} % of the worlds")
    return figure
