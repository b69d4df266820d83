"""Figures of training and its cost: notebooks 04 and 06."""

import matplotlib.pyplot as plt
import numpy as np

from pdsel.plots.style import BLUE, color_of, name_points


def plot_training(log):
    """Two curves: the loss from its start at ln 2, and the reward margin.

    Parameters
    ----------
    log : pandas.DataFrame
        `step`, `loss` (nats) and `margin`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    left.plot(log["step"], log["loss"], color=BLUE)
    left.axhline(np.log(2), color="black", lw=1, ls="--")
    left.text(log["step"].max(), np.log(2), "ln 2", va="bottom", ha="right")
    start, end = log["loss"].iloc[[0, -1]]
    verb = "falls" if end < start else "rises"
    left.set(xlabel="step", ylabel="loss (nats)", title=f"The loss {verb} from {start:.2f} to {end:.2f}")
    right.plot(log["step"], log["margin"], color=BLUE)
    right.axhline(0, color="black", lw=1)
    start, end = log["margin"].iloc[[0, -1]]
    verb = "rises" if end > start else "falls"
    right.set(xlabel="step", ylabel="reward margin M", title=f"The margin {verb} from {start:.2f} to {end:.2f}")
    return figure


def plot_cost(table):
    """Dots: the win rate of each method against the seconds of its training and selection.

    Parameters
    ----------
    table : pandas.DataFrame
        Index method; `training_seconds`, `selection_seconds` and `win_rate` (percent).
    """
    figure, axes = plt.subplots(figsize=(7.5, 4))
    seconds = table["training_seconds"] + table["selection_seconds"]
    for method in table.index:
        x, y = seconds[method], table.loc[method, "win_rate"]
        axes.scatter(x, y, color=color_of(method), s=60, zorder=3)
    axes.axhline(50, color="black", lw=1, ls="--")
    axes.margins(0.14)
    axes.set_xlim(left=-0.03 * seconds.max())
    title = "What a win rate costs"
    if {"PD", "ALL"} <= set(table.index):
        title = f"PD takes {seconds['PD'] / seconds['ALL']:.1f} times the seconds of ALL"
    axes.set(
        xlabel="seconds to train, proxies and scoring included",
        ylabel="win rate against SFT (%)",
        title=title,
    )
    figure.draw_without_rendering()  # names are placed on the final axes
    places = {method: (seconds[method], table.loc[method, "win_rate"]) for method in table.index}
    name_points(axes, places, lines=[50])
    return figure
