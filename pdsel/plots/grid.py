"""Figures of the grid over seeds, conflict levels, shares and sizes: notebook 11."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from scipy.optimize import isotonic_regression

from pdsel.plots.style import BLUE, COLORS, GREY, ORANGE, spaced

LINES = COLORS | {"RAF": ORANGE, "DMPO": "#75507b", "OVA": "#4e9a06", "AVG": "#8ae234"}


def _line(axes, rows, x, method, **style):
    rows = rows.sort_values(x)
    color = LINES.get(method, "#777777")
    axes.plot(rows[x], rows["value"], color=color, marker="o", label=method, **style)
    axes.fill_between(rows[x], rows["low"], rows["high"], color=color, alpha=0.15, lw=0)


def _name_ends(axes, means, x):
    """Each line's name at its right end, moved apart where two would overlap, and no further than needed."""
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
            color=LINES.get(method, "#777777"),
        )


def plot_by_conflict(means):
    """Lines: win rate against the share of conflicting labels, per method. `means`: `method, conflict, value, low, high`."""
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
    """Lines: win rate against the share kept, per rule; all pairs at 100 %. `means`: `method, share, value, low, high`."""
    figure, axes = plt.subplots(figsize=(7, 4.2))
    shown = means.assign(share=100 * means["share"])
    whole = shown[shown["method"] == "ALL"]
    for method, rows in shown[shown["method"] != "ALL"].groupby("method", sort=False):
        _line(axes, rows, "share", method)
    axes.errorbar(
        whole["share"],
        whole["value"],
        yerr=[whole["value"] - whole["low"], whole["high"] - whole["value"]],
        fmt="s",
        color=LINES["ALL"],
        capsize=3,
    )
    _name_ends(axes, shown[shown["method"] != "ALL"], "share")
    axes.annotate("ALL", (100, whole["value"].iloc[0]), xytext=(-8, 10), textcoords="offset points", ha="right")
    axes.set(
        xlabel="share of the pairs kept (%)", ylabel="win rate against SFT (%), 95 % interval", title="How much to keep"
    )
    return figure


def plot_dumbbells(means, names, title):
    """Two dots a method, joined: a metric under two conditions. `means`: `method, condition, value, low, high`.

    `names`: the two conditions, in the order of time, as to be read in the legend.
    """
    first, second = (means[means["condition"] == name].set_index("method") for name in names)
    order = first["value"].sort_values().index
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(order) + 1.5))
    rows = np.arange(len(order))
    axes.hlines(rows, first.loc[order, "value"], second.loc[order, "value"], color="#cccccc", lw=3, zorder=1)
    for found, color, name, shift in [(first, GREY, names[0], 0.1), (second, BLUE, names[1], -0.1)]:
        found = found.loc[order]
        axes.hlines(rows + shift, found["low"], found["high"], color=color, lw=2, alpha=0.5)
        axes.scatter(found["value"], rows + shift, color=color, s=45, label=name, zorder=3)
    axes.set(yticks=rows, yticklabels=order, xlabel="win rate against SFT (%), 95 % interval", title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_sensitivity(changes, margin):
    """Dots: what one changed setting does to PD's win rate, with the band that we call no difference.

    `changes`: `setting, value, low, high` in points.
    """
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(changes) + 1.4))
    rows = np.arange(len(changes))[::-1]
    axes.axvspan(-margin, margin, color=GREY, alpha=0.2, lw=0)
    axes.axvline(0, color="black", lw=1)
    axes.hlines(rows, changes["low"], changes["high"], color=BLUE, lw=2, alpha=0.5)
    axes.scatter(changes["value"], rows, color=BLUE, s=45, zorder=3)
    axes.set(
        yticks=rows,
        yticklabels=changes["setting"],
        xlabel="change of PD's win rate (points), 95 % interval",
        title=f"One setting changed (band: +-{margin:g} points)",
    )
    return figure


def plot_settings(means):
    """Heat map: gold utility per beta and learning rate on the validation worlds. `means`: `beta, learning_rate, utility`."""
    table = means.pivot(index="beta", columns="learning_rate", values="utility")
    table.columns = [f"{rate:g}" for rate in table.columns]
    figure, axes = plt.subplots(figsize=(6, 2.6))
    sns.heatmap(table, annot=True, fmt=".3f", cmap="Blues", ax=axes, cbar=False)
    axes.set(xlabel="learning rate", ylabel="beta", title="Gold utility of ALL and RAND on the validation worlds")
    axes.tick_params(axis="y", rotation=0)
    return figure


def plot_kept_overlap(table):
    """Heat map: shared pairs of kept sets (Jaccard, %), rules and proxies' seeds."""
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
    """Bars: labels that contradict the overall rating, and labels that are wrong by gold, per aspect and level (percent).

    Lines are standard deviations over worlds.

    Parameters
    ----------
    facts : pandas.DataFrame
        `seed, conflict_level, aspect, conflict, gold_wrong`.
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
