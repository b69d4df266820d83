"""Figures of who wins: notebooks 05 and 06."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from pdsel.plots.style import BLUE, GREEN, GREY, LINES, ORANGE, PURPLE, color_of, draw_intervals, name_points, spaced

RATES = ["win_rate", "length_controlled_win_rate"]


def plot_win_rates(metrics):
    """Dots with 95 % intervals, best method on top: the win rate against SFT, and a hollow dot for equal length.

    Parameters
    ----------
    metrics : pandas.DataFrame
        `method, metric, value, low, high` in percent, see `pdsel.evaluation.measure`.
    """
    metrics = metrics[metrics["method"] != "SFT"]
    win_rates, controlled = (metrics[metrics["metric"] == name].set_index("method") for name in RATES)
    win_rates = win_rates.sort_values("value")
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(win_rates) + 1.5))
    for row, (method, win_rate) in enumerate(win_rates.iterrows()):
        color, at_equal_length = color_of(method), controlled.loc[method]
        draw_intervals(axes, win_rate, row, width=4, color=color)
        axes.hlines(row - 0.25, at_equal_length["low"], at_equal_length["high"], color=color, lw=1.5, alpha=0.5)
        axes.scatter(at_equal_length["value"], row - 0.25, facecolor="white", edgecolor=color, zorder=3, s=30)
        axes.text(102, row, f"{win_rate['value']:.1f}", va="center", fontsize=10)
    axes.axvline(50, color="black", lw=1, ls="--")
    axes.scatter([], [], color=GREY, s=45, label="win rate")
    missing = [method for method in win_rates.index if np.isnan(controlled.loc[method, "value"])]
    unless = f" (no estimate: {', '.join(missing)})" if missing else ""
    axes.scatter([], [], facecolor="white", edgecolor=GREY, s=30, label=f"at the length of SFT's outputs{unless}")
    figure.legend(loc="outside lower center", ncols=2, fontsize=10)
    axes.set(
        yticks=range(len(win_rates)),
        yticklabels=win_rates.index,
        xlim=(min(20, win_rates["low"].min() - 2), 100),
        xlabel="win rate against SFT (%), with 95 % intervals; dashed: a draw",
        title=f"{win_rates.index[-1]} wins most, {win_rates.index[0]} least",
    )
    return figure


def plot_frontier(metrics):
    """Win rate and length-controlled win rate against the mean length of outputs: is winning bought with length?"""
    table = metrics.pivot(index="method", columns="metric", values=["value", "low", "high"])
    length = table["value", "characters"]
    both = table["value"][RATES].dropna().index  # not every method has an estimate at equal length
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), sharex=True, sharey=True)
    for axes, metric, name in zip(panels, RATES, ["Win rate", "Length-controlled win rate"], strict=True):
        rates = table.xs(metric, axis=1, level="metric").dropna()
        for method, rate in rates.iterrows():
            color = color_of(method)
            axes.vlines(length[method], rate["low"], rate["high"], color=color, lw=2, alpha=0.5)
            axes.scatter(length[method], rate["value"], color=color, s=50, zorder=3)
        correlation = length[both].corr(rates.loc[both, "value"])
        axes.axhline(50, color="black", lw=1, ls="--")
        axes.margins(x=0.2, y=0.12)
        axes.set(xlabel="mean length of an output (characters)", title=f"{name}: r = {correlation:+.2f} with length")
    panels[0].set_ylabel("against SFT (%), 95 % interval")
    if missing := [method for method in table.index if method not in both]:
        figure.supxlabel(f"no estimate at equal length: {', '.join(missing)}; either r is without it", fontsize=10)
    figure.draw_without_rendering()  # names are placed on the final axes
    for axes, metric in zip(panels, RATES, strict=True):
        rates = table.xs(metric, axis=1, level="metric").dropna()
        points = {name: (length[name], rate) for name, rate in rates["value"].items()}
        bars = zip(length[rates.index], rates["low"], rates["high"], strict=True)
        name_points(axes, points, lines=[50], bars=bars)
    return figure


def plot_aspects(metrics, aspects, methods=("SFT", "RAND", "ALL", "RAF", "PD", "PD(high)")):
    """Bars: gold quality by aspect, for a few methods, since more would not be readable."""
    shown = metrics[metrics["metric"].isin(aspects) & metrics["method"].isin(methods)]
    order = shown.groupby("method")["value"].mean().sort_values(ascending=False).index
    figure, axes = plt.subplots(figsize=(9, 3.6))
    palette = {method: color_of(method, LINES) for method in order}
    best = shown.loc[shown.groupby("metric")["value"].idxmax(), "method"].value_counts()
    shown = shown.assign(aspect=shown["metric"].map(spaced))
    sns.barplot(shown, x="aspect", y="value", hue="method", hue_order=order, palette=palette, saturation=1, ax=axes)
    for bars, method in zip(axes.containers, order, strict=True):
        aspects_shown = [label.get_text() for label in axes.get_xticklabels()]
        quality = shown[shown["method"] == method].set_index("aspect").loc[aspects_shown]
        x = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        axes.vlines(x, quality["low"], quality["high"], color="black", lw=1)
    axes.set(
        xlabel="",
        ylabel="gold quality (0 to 1), 95 % interval",
        ylim=(0, 1),
        title="Best by aspect: " + ", ".join(f"{method} on {count}" for method, count in best.items()),
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="")
    return figure


def plot_head_to_head(table, strengths):
    """Heat map: how often the row's method beats the column's, best first; beside it, the strengths on one scale."""
    order = strengths.index
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.42 * len(order) + 1.6), width_ratios=[2, 1])
    sns.heatmap(
        table.loc[order, order],
        annot=True,
        fmt=".0f",
        cmap="RdBu",
        center=50,
        vmin=0,
        vmax=100,
        ax=left,
        annot_kws={"fontsize": 9},
        cbar=False,
    )
    won = (table.loc[order[0], order[1:]] > 50).sum()
    figure.suptitle(f"{order[0]} wins most of its duels against {won} of the {len(order) - 1} others")
    left.set(title="The row's method beats the column's (%)", xlabel="", ylabel="")
    left.tick_params(axis="x", rotation=60)
    left.tick_params(axis="y", rotation=0)
    rows = np.arange(len(order)) + 0.5
    colors = [color_of(method) for method in order]
    draw_intervals(right, strengths.rename(columns={"strength": "value"}), rows, width=3, size=40, color=colors)
    right.set(
        ylim=(len(order), 0),
        yticks=rows,
        yticklabels=order,
        xlabel="strength (log odds), 95 % interval",
        title="One scale (Bradley-Terry)",
    )
    return figure


def plot_winning_scores(scores, against="OVA"):
    """Heat map: the winning score of each method on each prompt set, and their mean, best first."""
    table = scores.pivot(index="method", columns="dataset", values="value").sort_values("mean", ascending=False)
    table = table[[*(name for name in table if name != "mean"), "mean"]]
    figure, axes = plt.subplots(figsize=(7.5, 0.36 * len(table) + 1.4))
    sns.heatmap(
        table,
        annot=True,
        fmt=".2f",
        cmap="RdBu",
        center=1,
        vmin=0,
        vmax=2,
        ax=axes,
        annot_kws={"fontsize": 9},
        cbar_kws={"label": "(wins - losses)/n + 1"},
    )
    axes.axvline(len(table.columns) - 1, color="black", lw=1.5)
    ahead = (table.drop(columns="mean").iloc[0] > 1).sum()
    title = f"{table.index[0]} is ahead of {against} on {ahead} of {len(table.columns) - 1} sets of prompts (1: a draw)"
    axes.set(xlabel="", ylabel="", title=title)
    axes.tick_params(axis="y", rotation=0)
    return figure


def plot_nulls(rates):
    """Dots: the win rate of null models under each judge, from `judges.audit.null_win_rates` with a column `judge`."""
    judges = list(dict.fromkeys(rates["judge"]))
    names = list(dict.fromkeys(rates["null"]))
    strongest = rates.sort_values("value", kind="stable").iloc[-1]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(names) + 1.4))
    colors = cycle([BLUE, ORANGE, GREEN, PURPLE])
    for place, (judge, color) in enumerate(zip(judges, colors, strict=False)):
        by_judge = rates[rates["judge"] == judge].set_index("null").loc[names]
        rows = np.arange(len(names)) + 0.18 * (place - (len(judges) - 1) / 2)
        draw_intervals(axes, by_judge, rows, size=40, alpha=0.6, color=color, label=judge)
    axes.axvline(50, color="black", lw=1, ls="--")
    axes.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlim=(0, 100),
        xlabel="win rate against SFT (%), 95 % interval",
        title=f"The strongest null model reaches {strongest['value']:.0f} % under {strongest['judge']}",
    )
    axes.invert_yaxis()
    axes.legend(title="judge", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
