"""Figures of the grid over seeds, conflict levels, shares and sizes: notebook 11."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from scipy.optimize import isotonic_regression

from pdsel.plots.style import BLUE, GREY, LINES, ORANGE, color_of, draw_intervals, spaced


def _line(axes, estimates, x, method):
    """Draw a method's line with its band, over the column `x`."""
    estimates = estimates.sort_values(x)
    color = color_of(method, LINES)
    axes.plot(estimates[x], estimates["value"], color=color, marker="o", label=method)
    axes.fill_between(estimates[x], estimates["low"], estimates["high"], color=color, alpha=0.15, lw=0)


def _name_ends(axes, means, x):
    """Write each line's name at its right end; names that would overlap are moved apart, no further than needed."""
    ends = means.sort_values(x).groupby("method")["value"].last().sort_values()
    steps = 0.055 * np.ptp(axes.get_ylim()) * np.arange(len(ends))
    places = isotonic_regression(ends.to_numpy() - steps).x + steps
    for method, place in zip(ends.index, places, strict=True):
        axes.annotate(
            method,
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=10,
            color=color_of(method, LINES),
        )


def plot_by_conflict(means):
    """Lines: the win rate of each method against the share of conflicting labels.

    Parameters
    ----------
    means : pandas.DataFrame
        `method`, `conflict` in [0, 1], and `value, low, high` in percent.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2))
    shown = means.assign(conflict=100 * means["conflict"])
    for method, rows in shown.groupby("method", sort=False):
        _line(axes, rows, "conflict", method)
    _name_ends(axes, shown, "conflict")
    axes.set(
        xlabel="labels that contradict the overall rating (%)",
        ylabel="win rate against SFT (%), 95 % interval",
        xticks=sorted(set(shown["conflict"])),
        title="What conflict does to each method",
    )
    return figure


def plot_by_share(means):
    """Lines: the win rate of each rule against the share that it keeps; all pairs are at 100 %.

    Parameters
    ----------
    means : pandas.DataFrame
        `method`, `share` in [0, 1], and `value, low, high` in percent.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2))
    shown = means.assign(share=100 * means["share"])
    all_pairs, rules = shown[shown["method"] == "ALL"], shown[shown["method"] != "ALL"]
    for method, rows in rules.groupby("method", sort=False):
        _line(axes, rows, "share", method)
    axes.errorbar(
        all_pairs["share"],
        all_pairs["value"],
        yerr=[all_pairs["value"] - all_pairs["low"], all_pairs["high"] - all_pairs["value"]],
        fmt="s",
        color=LINES["ALL"],
        capsize=3,
    )
    _name_ends(axes, rules, "share")
    axes.annotate("ALL", (100, all_pairs["value"].iloc[0]), xytext=(-8, 10), textcoords="offset points", ha="right")
    axes.set(
        xlabel="share of the pairs kept (%)", ylabel="win rate against SFT (%), 95 % interval", title="How much to keep"
    )
    return figure


def plot_dumbbells(means, names, title):
    """Two joined dots per method: its win rate under two conditions.

    Parameters
    ----------
    means : pandas.DataFrame
        `method, condition, value, low, high`.
    names : (str, str)
        The two conditions for the legend, the earlier one first.
    title : str
    """
    first, second = (means[means["condition"] == name].set_index("method") for name in names)
    order = first["value"].sort_values().index
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(order) + 1.5))
    rows = np.arange(len(order))
    axes.hlines(rows, first.loc[order, "value"], second.loc[order, "value"], color="#cccccc", lw=3, zorder=1)
    draw_intervals(axes, first.loc[order], rows + 0.1, color=GREY, label=names[0])
    draw_intervals(axes, second.loc[order], rows - 0.1, color=BLUE, label=names[1])
    axes.set(yticks=rows, yticklabels=order, xlabel="win rate against SFT (%), 95 % interval", title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_sensitivity(changes, margin):
    """Dots: how one changed setting changes PD's win rate, with the band of changes that hardly matter.

    Parameters
    ----------
    changes : pandas.DataFrame
        `setting, value, low, high` in points.
    margin : float
        Half the width of the band, in points.
    """
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(changes) + 1.4))
    rows = np.arange(len(changes))[::-1]
    axes.axvspan(-margin, margin, color=GREY, alpha=0.2, lw=0)
    axes.axvline(0, color="black", lw=1)
    draw_intervals(axes, changes, rows, color=BLUE)
    axes.set(
        yticks=rows,
        yticklabels=changes["setting"],
        xlabel="change of PD's win rate (points), 95 % interval",
        title=f"One setting changed (band: +-{margin:g} points)",
    )
    return figure


def plot_settings(means):
    """Heat map: the gold utility for each beta and learning rate on the validation worlds.

    Parameters
    ----------
    means : pandas.DataFrame
        `beta, learning_rate, utility`.
    """
    table = means.pivot(index="beta", columns="learning_rate", values="utility")
    table.columns = [f"{rate:g}" for rate in table.columns]
    figure, axes = plt.subplots(figsize=(6, 2.6))
    sns.heatmap(table, annot=True, fmt=".3f", cmap="Blues", ax=axes, cbar=False)
    axes.set(xlabel="learning rate", ylabel="beta", title="Gold utility of ALL and RAND on the validation worlds")
    axes.tick_params(axis="y", rotation=0)
    return figure


def plot_kept_overlap(table):
    """Heat map: the share of pairs that two kept sets have in common, for rules and for other seeds of the proxies.

    Parameters
    ----------
    table : pandas.DataFrame
        Jaccard in [0, 1], symmetric.
    """
    figure, axes = plt.subplots(figsize=(0.6 * len(table) + 2.4, 0.5 * len(table) + 1.4))
    sns.heatmap(
        100 * table,
        annot=True,
        fmt=".0f",
        cmap="Blues",
        vmin=0,
        vmax=100,
        ax=axes,
        cbar=False,
        annot_kws={"fontsize": 9},
    )
    axes.set(title="Pairs that two kept sets share (Jaccard, %)")
    axes.tick_params(axis="x", rotation=60)
    axes.tick_params(axis="y", rotation=0)
    return figure


def plot_conflict_levels(facts):
    """Bars: the labels that contradict the overall rating and those that are wrong by gold, by aspect and conflict level.

    Lines are standard deviations over worlds.

    Parameters
    ----------
    facts : pandas.DataFrame
        `seed, conflict_level, aspect`, and `conflict` and `gold_wrong` (bool), a row per pair.
    """
    rates = 100 * facts.groupby(["seed", "conflict_level", "aspect"])[["conflict", "gold_wrong"]].mean()
    shown = rates.reset_index().assign(aspect=lambda table: table["aspect"].map(spaced))
    shown["level"] = (100 * shown["conflict_level"]).map("{:.0f} %".format)
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
    titles = {"conflict": "contradict the overall rating (%)", "gold_wrong": "are wrong by the truth (%)"}
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        sns.barplot(
            shown,
            x=column,
            y="aspect",
            hue="level",
            palette=[GREY, BLUE, ORANGE],
            errorbar="sd",
            ax=axes,
            legend=axes is panels[1],
        )
        axes.set(xlabel=f"labels that {title}", ylabel="")
    panels[1].legend(title="conflict level", loc="center left", bbox_to_anchor=(1.0, 0.5))
    most = spaced(facts.groupby("aspect")["conflict"].mean().idxmax())
    figure.suptitle(f"{most.capitalize()} contradicts the overall rating most often", fontweight="bold", fontsize=12)
    return figure
