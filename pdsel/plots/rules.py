"""Figures of the selection rules: what they share, what they cost, who wins, and where. Notebook 03b."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from scipy.cluster.hierarchy import dendrogram

from pdsel.plots.style import BLUE, COLORS, GREY, ORANGE, name_points

FAMILY = 50  # percent; two kept sets that share more are said to be alike, and their number is written


def plot_rule_overlap(similarity, tree):
    """Dendrogram of the rules and, in its order, the share of pairs that any two kept sets have in common.

    Numbers are written where they tell families, from `FAMILY`; the rest is colour, drawn as one image so that an SVG of 36
    rules stays small.

    Parameters
    ----------
    similarity : pandas.DataFrame
        Jaccard, in [0, 1], see `pdsel.rules.kept_sets.overlap`.
    tree : numpy.ndarray
        See `pdsel.rules.kept_sets.family_tree`.
    """
    n = len(similarity)
    figure, (left, right) = plt.subplots(1, 2, figsize=(0.36 * n + 4.5, 0.31 * n + 1.4), width_ratios=[1, 4])
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
        cmap="Blues",
        vmin=0,
        vmax=100,
        ax=right,
        annot_kws={"fontsize": 6.5},
        xticklabels=True,
        yticklabels=True,
        rasterized=True,
        cbar_kws={"shrink": 0.4, "aspect": 25},
    )
    for text in [text for text in right.texts if not text.get_text()]:
        text.remove()
    right.set(title="Pairs that two kept sets share (Jaccard, %)", xlabel="", ylabel="")
    right.tick_params(axis="x", rotation=90, labelsize=8)
    right.tick_params(axis="y", rotation=0, labelsize=8)
    return figure


def plot_rule_quality(quality):
    """Bars: wrong labels among the kept pairs, rule by rule, with all pairs' as a line. `quality`: see `kept_quality`."""
    rules = quality.drop("all pairs").sort_values("wrong", ascending=False)
    figure, axes = plt.subplots(figsize=(7, 0.23 * len(rules) + 1.2))
    colors = [
        COLORS.get(name, ORANGE if row["wrong"] > quality.loc["all pairs", "wrong"] else "#b8c9de")
        for name, row in rules.iterrows()
    ]
    axes.barh(rules.index, rules["wrong"], color=colors)
    axes.axvline(quality.loc["all pairs", "wrong"], color="black", lw=1)
    axes.annotate("all pairs", (quality.loc["all pairs", "wrong"], len(rules) - 0.4), fontsize=9, ha="center")
    axes.set(xlabel="labels among the kept pairs that the truth contradicts (%)", title="What each rule keeps")
    axes.tick_params(axis="y", labelsize=9)
    axes.margins(y=0.01)
    return figure


def plot_league(table, title="The league"):
    """Dots with 95 % intervals: win rate of every rule and loss, and at equal length. `table`: see `league_table`."""
    shown = table.iloc[::-1]
    rows = np.arange(len(shown))
    figure, axes = plt.subplots(figsize=(7.5, 0.27 * len(shown) + 1.4))
    for value, low, high, color, label, shift in [
        ("length_controlled", "lc_low", "lc_high", GREY, "at equal length", -0.16),
        ("win_rate", "low", "high", BLUE, "win rate", 0.16),
    ]:
        axes.hlines(rows + shift, shown[low], shown[high], color=color, lw=2, alpha=0.5)
        axes.scatter(shown[value], rows + shift, color=color, s=22, label=label, zorder=3)
    for name, style in [("PD", "-"), ("RAND", ":")]:
        if name in shown.index:
            axes.axvline(
                shown.loc[name, "win_rate"], color="black", lw=0.8, ls=style, zorder=0, label=f"{name}'s win rate"
            )
    axes.set(
        yticks=rows,
        yticklabels=shown.index,
        xlabel="against SFT (%), 95 % interval over seeds and prompts",
        title=title,
        ylim=(-0.8, len(rows) - 0.2),
        xlim=(0, 100),
    )
    axes.legend(loc="center left", fontsize=9)
    return figure


def plot_league_grid(grid):
    """Heat maps: win rate of every rule at every share (columns) and conflict level (panels), best mean first.

    `grid`: see `pdsel.experiments.league.league_grid`. What was not run is grey, with a dash.
    """
    wide = grid[grid["share"] < 1].pivot(index="method", columns=["conflict", "share"], values="win_rate")
    rules = wide.mean(axis=1).sort_values(ascending=False).index
    levels, shares = sorted(grid["conflict"].unique()), sorted({*grid["share"]} - {1.0})
    whole = grid[(grid["share"] == 1) & (grid["method"] == "ALL")].set_index("conflict")["win_rate"]
    figure, panels = plt.subplots(
        1,
        len(levels),
        sharey=True,
        squeeze=False,
        figsize=(3.2 + 0.75 * len(shares) * len(levels), 0.26 * len(rules) + 1.7),
    )
    span = {"vmin": np.floor(wide.loc[rules].min(axis=None)), "vmax": np.ceil(wide.loc[rules].max(axis=None))}
    for axes, level in zip(panels[0], levels, strict=True):
        shown = wide.reindex(index=rules, columns=[(level, share) for share in shares]).set_axis(shares, axis=1)
        sns.heatmap(
            shown,
            annot=True,
            fmt=".0f",
            cmap="Blues",
            ax=axes,
            cbar=False,
            rasterized=True,
            yticklabels=True,
            annot_kws={"fontsize": 9},
            xticklabels=[f"{100 * share:g}" for share in shares],
            **span,
        )
        for row, column in np.argwhere(shown.isna().to_numpy()):
            axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color="#777777")
        beside = f", ALL {whole[level]:.0f}" if level in whole.index else ""
        axes.set(title=f"conflict {100 * level:g} %{beside}", xlabel="pairs kept (%)", ylabel="", facecolor="#eeeeee")
        axes.grid(False)
        axes.tick_params(axis="y", rotation=0, labelsize=9, left=False)
    half = ((grid["high"] - grid["low"]) / 2).median()
    title = f"Win rate against SFT (%)\n± {half:.0f}: half of a 95 % interval, the median; –: not run"
    figure.suptitle(title, fontsize=10, x=0.02, ha="left")
    return figure


def plot_rule_costs(table):
    """Dots: what a rule gives against what its signals cost; named are PD, RAND, and rules that no cheaper one equals.

    `table`: index rule, `seconds`, and `win_rate` or `right` (percent of the kept labels). PD(rati.) is left out: raters are
    its cost.
    """
    table = table.drop(index="PD(rati.)", errors="ignore")
    value = "win_rate" if "win_rate" in table else "right"
    shown = table.assign(seconds=table["seconds"].clip(lower=0.1)).sort_values(
        ["seconds", value], ascending=[True, False]
    )
    best = shown[value].cummax().where(shown[value].cummax() > shown[value].cummax().shift(fill_value=-np.inf)).notna()
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    axes.scatter(shown["seconds"], shown[value], color=[BLUE if named else GREY for named in best], s=25)
    label = {"win_rate": "win rate against SFT (%)", "right": "right labels among the kept (%)"}[value]
    axes.set(
        xscale="log",
        xlabel="seconds of the signals a rule needs on its own",
        ylabel=label,
        title="What a rule costs and gives",
    )
    axes.margins(0.08)
    figure.draw_without_rendering()  # names are placed on the final axes
    names = best | shown.index.isin(["PD", "RAND"])
    places = dict(zip(shown.index, shown[["seconds", value]].itertuples(index=False, name=None), strict=True))
    named = {name: places.pop(name) for name in shown.index[names]}
    name_points(axes, named, nameless=places.values())
    return figure
