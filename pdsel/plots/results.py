"""Figures of training and of who wins: notebooks 04 to 06."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from pdsel.plots.style import BLUE, COLORS, spaced


def plot_training(log):
    """Two curves: the loss from its start at ln 2, and the reward margin."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    left.plot(log["step"], log["loss"], color=BLUE)
    left.axhline(np.log(2), color="black", lw=1, ls="--")
    left.text(log["step"].max(), np.log(2), "ln 2", va="bottom", ha="right")
    left.set(xlabel="step", ylabel="loss (nats)", title="Loss")
    right.plot(log["step"], log["margin"], color=BLUE)
    right.axhline(0, color="black", lw=1)
    right.set(xlabel="step", ylabel="reward margin M", title="Chosen moves away from rejected")
    return figure


def plot_win_rates(metrics, metric="win_rate"):
    """Dots with 95 % intervals: win rate against SFT per method, best on top."""
    shown = metrics[metrics["metric"] == metric].sort_values("value").reset_index(drop=True)
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(shown) + 1.2))
    colors = [COLORS.get(method, "#777777") for method in shown["method"]]
    axes.hlines(shown.index, shown["low"], shown["high"], color=colors, lw=3, alpha=0.5)
    axes.scatter(shown["value"], shown.index, color=colors, zorder=3, s=45)
    for row, value in enumerate(shown["value"]):
        axes.text(102, row, f"{value:.1f}", va="center", fontsize=10)
    axes.axvline(50, color="black", lw=1, ls="--")
    axes.set(yticks=shown.index, yticklabels=shown["method"], xlim=(0, 100),
             xlabel="win rate against SFT (%), 95 % interval over prompts; dashed: a draw",
             title=f"{shown['method'].iloc[-1]} wins most, {shown['method'].iloc[0]} least")  # fmt: skip
    return figure


def plot_frontier(metrics):
    """Scatter: win rate against the mean length of the outputs, so that winning by length would show."""
    table = metrics.pivot_table(index="method", columns="metric", values="value")
    figure, axes = plt.subplots(figsize=(7, 4))
    for method, row in table.iterrows():
        axes.scatter(row["characters"], row["win_rate"], color=COLORS.get(method, "#777777"), s=60, zorder=3)
        axes.annotate(
            method, (row["characters"], row["win_rate"]), xytext=(6, 4), textcoords="offset points", fontsize=10
        )
    slope = np.corrcoef(table["characters"], table["win_rate"])[0, 1]
    axes.axhline(50, color="black", lw=1, ls="--")
    axes.margins(0.12)
    axes.set(xlabel="mean length of an output (characters)", ylabel="win rate against SFT (%)",
             title=f"Longer is {'not ' if slope < 0.3 else ''}better here (correlation {slope:+.2f})")  # fmt: skip
    return figure


def plot_aspects(metrics, aspects, methods=("SFT", "RAND", "ALL", "PD", "PD(high)")):
    """Bars: gold quality per aspect, for a few methods (more would not be readable)."""
    shown = metrics[metrics["metric"].isin(aspects) & metrics["method"].isin(methods)]
    order = shown.groupby("method")["value"].mean().sort_values(ascending=False).index
    figure, axes = plt.subplots(figsize=(9, 3.6))
    palette = {method: COLORS.get(method, "#777777") for method in order}
    shown = shown.assign(aspect=shown["metric"].map(spaced))
    sns.barplot(shown, x="aspect", y="value", hue="method", hue_order=order, palette=palette, ax=axes)
    axes.set(xlabel="", ylabel="gold quality (0 to 1)", ylim=(0, 1), title="Quality by aspect, best method first")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="")
    return figure


def plot_cost(table):
    """Scatter: training and selection seconds against win rate."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    seconds = table["training_seconds"] + table["selection_seconds"]
    for method in table.index:
        x, y = seconds[method], table.loc[method, "win_rate"]
        axes.scatter(x, y, color=COLORS.get(method, "#777777"), s=60, zorder=3)
        axes.annotate(method, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=10)
    axes.axhline(50, color="black", lw=1, ls="--")
    axes.margins(0.14)
    axes.set(xlabel="seconds to train, proxies and scoring included", ylabel="win rate against SFT (%)",
             title="What a win rate costs")  # fmt: skip
    return figure
