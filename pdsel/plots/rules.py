"""Figures of the selection rules: what they share, what they cost, who wins. Notebook 03b."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from scipy.cluster.hierarchy import dendrogram

from pdsel.plots.style import BLUE, COLORS, GREY, ORANGE


def plot_rule_overlap(similarity, tree):
    """Dendrogram of the rules and, in its order, the share of pairs that any two kept sets have in common.

    Parameters
    ----------
    similarity : pandas.DataFrame
        Jaccard, in [0, 1], see `pdsel.rules.kept.overlap`.
    tree : numpy.ndarray
        See `pdsel.rules.kept.family_tree`.
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
    sns.heatmap(shown, annot=True, fmt=".0f", cmap="Blues", vmin=0, vmax=100, ax=right, cbar=False, annot_kws={"fontsize": 6.5},
                xticklabels=True, yticklabels=True)  # fmt: skip
    right.set(title="Pairs that two kept sets share (Jaccard, %)", xlabel="", ylabel="")
    right.tick_params(axis="x", rotation=90, labelsize=8)
    right.tick_params(axis="y", rotation=0, labelsize=8)
    return figure


def plot_rule_quality(quality):
    """Bars: wrong labels among the kept pairs, rule by rule, with all pairs' as a line. `quality`: see `kept_quality`."""
    rules = quality.drop("all pairs").sort_values("wrong", ascending=False)
    figure, axes = plt.subplots(figsize=(7, 0.23 * len(rules) + 1.2))
    colors = [COLORS.get(name, ORANGE if row["wrong"] > quality.loc["all pairs", "wrong"] else "#b8c9de")
              for name, row in rules.iterrows()]  # fmt: skip
    axes.barh(rules.index, rules["wrong"], color=colors)
    axes.axvline(quality.loc["all pairs", "wrong"], color="black", lw=1)
    axes.annotate("all pairs", (quality.loc["all pairs", "wrong"], len(rules) - 0.4), fontsize=9, ha="center")
    axes.set(xlabel="labels among the kept pairs that the truth contradicts (%)", title="What each rule keeps")
    axes.tick_params(axis="y", labelsize=9)
    axes.margins(y=0.01)
    return figure


def plot_league(table):
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
            axes.axvline(shown.loc[name, "win_rate"], color="black", lw=0.8, ls=style, zorder=0)
            axes.annotate(name, (shown.loc[name, "win_rate"], len(rows) - 0.3), fontsize=9, ha="center")
    axes.set(yticks=rows, yticklabels=shown.index, xlabel="against SFT (%), 95 % interval over seeds and prompts",
             title="The league", ylim=(-0.8, len(rows) + 0.4))  # fmt: skip
    axes.legend(loc="lower right", fontsize=9)
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
    for name in shown.index[best | shown.index.isin(["PD", "RAND"])]:
        axes.annotate(
            name, tuple(shown.loc[name, ["seconds", value]]), xytext=(5, 3), textcoords="offset points", fontsize=9
        )
    label = {"win_rate": "win rate against SFT (%)", "right": "right labels among the kept (%)"}[value]
    axes.set(xscale="log", xlabel="seconds of the signals a rule needs on its own", ylabel=label,
             title="What a rule costs and gives")  # fmt: skip
    return figure
