"""Figures of the selection rules: what they share, what they cost, who wins, and where. Notebook 03b."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from scipy.cluster.hierarchy import dendrogram

from pdsel.plots.style import BLUE, COLORS, GREY, LIGHT, MIDDLE, ORANGE, PALE, draw_intervals, name_points

FAMILY = 50  # percent of pairs; the number is written for two kept sets that share at least so many
MOSTLY_RIGHT = (
    "#b8c9de"  # for rules without a colour of their own that keep a smaller share of wrong labels than all pairs
)


def plot_rule_overlap(similarity, tree, chance=None):
    """Dendrogram of the rules and, in its order, the share of pairs that any two kept sets have in common.

    Numbers of at least `FAMILY` are written, since they show families. The rest is colour, in one image, so that an SVG of 36
    rules stays small.

    Parameters
    ----------
    similarity : pandas.DataFrame
        Jaccard, in [0, 1], see `pdsel.rules.kept_sets.overlap`.
    tree : numpy.ndarray
        A linkage matrix, see `pdsel.rules.kept_sets.family_tree`.
    chance : float, optional
        What two rules have in common by chance, in [0, 1]; more is blue, less is red.
    """
    n = len(similarity)
    figure, (left, right) = plt.subplots(1, 2, figsize=(0.23 * n + 3, 0.21 * n + 1.4), width_ratios=[1, 5])
    leaves = dendrogram(
        tree, orientation="left", ax=left, no_labels=True, color_threshold=0, above_threshold_color="#555555"
    )
    order = leaves["leaves"][::-1]  # the dendrogram starts at the bottom, the heat map at the top
    shown = 100 * similarity.iloc[order, order]
    left.set(xlabel="1 - overlap", xlim=(1.0, 0), title="Families")
    left.grid(False)
    numbers = shown.round().map("{:.0f}".format).where((shown >= FAMILY) & ~np.eye(n, dtype=bool), "")
    sns.heatmap(
        shown,
        annot=numbers,
        fmt="",
        mask=np.eye(n, dtype=bool),
        cmap="RdBu" if chance else "Blues",
        center=100 * chance if chance else None,
        ax=right,
        annot_kws={"fontsize": 6.5},
        xticklabels=True,
        yticklabels=True,
        rasterized=True,
        cbar_kws={"shrink": 0.4, "aspect": 25},
    )
    for text in [text for text in right.texts if not text.get_text()]:
        text.remove()
    alike = ((shown >= FAMILY).sum() > 1).sum()  # each shares everything with itself
    figure.suptitle(f"{alike} of {n} rules share at least {FAMILY} % of their pairs with another rule")
    title = "Of the pairs that either keeps, both keep so many percent"
    right.set(title=title + (f" (by chance: {100 * chance:.0f})" if chance else ""), xlabel="", ylabel="")
    right.grid(False)
    right.tick_params(axis="x", rotation=90, labelsize=8)
    right.tick_params(axis="y", rotation=0, labelsize=8)
    return figure


def plot_rule_quality(quality):
    """Bars: the share of wrong labels among the pairs that each rule keeps; a line shows it for all pairs.

    Parameters
    ----------
    quality : pandas.DataFrame
        Index rule and "all pairs"; `wrong` in percent, see `pdsel.rules.kept_sets.kept_quality`.
    """
    rules = quality["wrong"].drop("all pairs").sort_values(ascending=False)
    all_pairs = quality.loc["all pairs", "wrong"]
    figure, axes = plt.subplots(figsize=(7, 0.23 * len(rules) + 1.2))
    colors = [COLORS.get(name, ORANGE if wrong > all_pairs else MOSTLY_RIGHT) for name, wrong in rules.items()]
    axes.barh(rules.index, rules, color=colors)
    axes.axvline(all_pairs, color="black", lw=1)
    axes.annotate(" all pairs", (all_pairs, len(rules) - 1), fontsize=9, va="center")
    fewer = (rules < all_pairs).sum()
    title = f"{fewer} of {len(rules)} rules keep fewer wrong labels than all pairs have"
    axes.set(xlabel="labels among the kept pairs that the truth contradicts (%)", title=title)
    axes.tick_params(axis="y", labelsize=9)
    axes.margins(y=0.01)
    return figure


def plot_league(table, by="win rate"):
    """Dots with 95 % intervals: the win rate of every rule and loss, and the win rate at equal length.

    Parameters
    ----------
    table : pandas.DataFrame
        Index method, best first; `win_rate, low, high` and `length_controlled, lc_low, lc_high` in percent, see
        `pdsel.experiments.league.league_table`.
    by : str
        What the win rate is of, for the title.
    """
    shown = table.iloc[::-1]
    rows = np.arange(len(shown))
    figure, axes = plt.subplots(figsize=(7.5, 0.27 * len(shown) + 1.4))
    estimates = shown.rename(columns={"win_rate": "value"})
    controlled = shown[["length_controlled", "lc_low", "lc_high"]].set_axis(["value", "low", "high"], axis=1)
    draw_intervals(axes, controlled, rows - 0.16, size=22, color=GREY, label="at equal length")
    draw_intervals(axes, estimates, rows + 0.16, size=22, color=BLUE, label="win rate")
    for name, style in [("PD", "-"), ("RAND", ":")]:
        if name in shown.index:
            axes.axvline(
                shown.loc[name, "win_rate"], color="black", lw=0.8, ls=style, zorder=0, label=f"{name}'s win rate"
            )
    axes.set(
        yticks=rows,
        yticklabels=shown.index,
        xlabel="against SFT (%), 95 % interval over seeds and prompts",
        title=_ranks(list(table.index), by),
        ylim=(-0.8, len(rows) - 0.2),
    )
    axes.legend(loc="center left", fontsize=9)
    return figure


def _ranks(names, by="win rate"):
    """The ranks of PD and RAND among names, best first, as a title.

    >>> _ranks(["SeRA", "PD", "RAND"])
    'By win rate, PD is number 2 of 3, RAND number 3'
    """
    if not {"PD", "RAND"} <= set(names):
        return f"{names[0]} wins most"
    pd_rank, rand_rank = (names.index(name) + 1 for name in ("PD", "RAND"))
    return f"By {by}, PD is number {pd_rank} of {len(names)}, RAND number {rand_rank}"


def plot_league_grid(grid):
    """Heat maps: the win rate of every rule at every share (columns) and conflict level (panels), best mean first.

    The colour is the difference from RAND at the same share and level: blue is better, red is worse. A combination that was
    not run is grey, with a dash.

    Parameters
    ----------
    grid : pandas.DataFrame
        `method, conflict, share, win_rate, low, high`, see `pdsel.experiments.league.league_grid`.
    """
    wide = grid[grid["share"] < 1].pivot(index="method", columns=["conflict", "share"], values="win_rate")
    rules = wide.mean(axis=1).sort_values(ascending=False).index
    levels, shares = sorted(grid["conflict"].unique()), sorted({*grid["share"]} - {1.0})
    all_pairs = grid[(grid["share"] == 1) & (grid["method"] == "ALL")].set_index("conflict")["win_rate"]
    figure, panels = plt.subplots(
        1,
        len(levels),
        sharey=True,
        squeeze=False,
        figsize=(3.2 + 0.75 * len(shares) * len(levels), 0.26 * len(rules) + 1.7),
    )
    against = wide.loc["RAND"] if "RAND" in wide.index else wide.mean()
    most = (wide - against).abs().max(axis=None)
    for axes, level in zip(panels[0], levels, strict=True):
        shown = wide.reindex(index=rules, columns=[(level, share) for share in shares]).set_axis(shares, axis=1)
        _league_panel(axes, shown, against[level].reindex(shares), most)
        beside = f", ALL {all_pairs[level]:.0f}" if level in all_pairs.index else ""
        axes.set(title=f"conflict {100 * level:g} %{beside}", xlabel="pairs kept (%)", ylabel="", facecolor=LIGHT)
        axes.grid(False)
        axes.tick_params(axis="y", rotation=0, labelsize=9, left=False)
    half = ((grid["high"] - grid["low"]) / 2).median()
    mean = (wide - against).mean(axis=1).drop("RAND", errors="ignore")
    figure.suptitle(f"{(mean > 0).sum()} of {len(mean)} rules win more than a random share of the same size")
    legend = "win rate against SFT (%); blue: more than a random share, red: less\n"
    legend += f"±{half:.0f}: half of a 95 % interval, the median; –: not run"
    figure.supxlabel(legend, fontsize=9)
    return figure


def _league_panel(axes, win_rates, against, most):
    """Draw the heat map of one conflict level: rules by shares, with a dash for what was not run."""
    sns.heatmap(
        win_rates - against,
        annot=win_rates,
        fmt=".0f",
        cmap="RdBu",
        vmin=-most,
        vmax=most,
        ax=axes,
        cbar=False,
        rasterized=True,
        yticklabels=True,
        annot_kws={"fontsize": 9},
        xticklabels=[f"{100 * share:g}" for share in win_rates],
    )
    for row, column in np.argwhere(win_rates.isna().to_numpy()):
        axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color=MIDDLE)


def plot_rule_costs(table):
    """Dots: what a rule gives against what its signals cost.

    Every rule that no cheaper rule equals is named, and so are those with a colour of their own. PD(rati.)
    is left out, since its cost is the raters'.

    Parameters
    ----------
    table : pandas.DataFrame
        Index rule; `seconds`, and `win_rate` or `right` (percent of the kept labels).
    """
    table = table.drop(index="PD(rati.)", errors="ignore")
    value = "win_rate" if "win_rate" in table else "right"
    shown = table.assign(seconds=table["seconds"].clip(lower=0.1)).sort_values(
        ["seconds", value], ascending=[True, False]
    )
    best_so_far = shown[value].cummax()
    best = best_so_far > best_so_far.shift(fill_value=-np.inf)
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    colors = [COLORS.get(name, MIDDLE if named else PALE) for name, named in best.items()]
    axes.scatter(shown["seconds"], shown[value], color=colors, s=30)
    others = shown.index[~best & shown.index.isin(COLORS)]
    beside = f"\nnamed: those {best.sum()}, and {', '.join(others)}" if len(others) else ""
    label = {"win_rate": "win rate against SFT (%)", "right": "right labels among the kept (%)"}[value]
    axes.set(
        xscale="log",
        xlabel="seconds of the signals that a rule needs on its own; 0.1: it needs none" + beside,
        ylabel=label,
        title=f"Of {len(shown)} rules, {best.sum()} give more than every cheaper one",
    )
    axes.margins(0.08)
    figure.draw_without_rendering()  # names are placed on the final axes
    names = best | shown.index.isin(COLORS)
    places = dict(zip(shown.index, shown[["seconds", value]].itertuples(index=False, name=None), strict=True))
    named = {name: places.pop(name) for name in shown.index[names]}
    name_points(axes, named, nameless=places.values())
    return figure
