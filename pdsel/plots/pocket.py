"""Figures of the pocket experiment: a real language model and people's ratings."""

import matplotlib.pyplot as plt
import numpy as np

from pdsel.plots.style import BLUE, COLORS, GREY, draw_intervals

LABELS = "labels that the other aspects confirm (%)"


def plot_kept_by_rule(table, judge, share=0.3):
    """Dots with 95 % intervals over inputs: how many of the labels that each rule keeps people's other ratings confirm.

    Parameters
    ----------
    table : pandas.DataFrame
        `rule, share, judge, value, low, high, gain_low, gain_high`, from `pdsel.experiments.pocket.kept_labels.kept_table`.
    judge : str
        One of the table's.
    share : float
    """
    everything = table[(table["rule"] == "ALL") & (table["judge"] == judge)]
    shown = table[(table["judge"] == judge) & np.isclose(table["share"], share) & (table["rule"] != "ALL")]
    shown = shown.sort_values("value").reset_index(drop=True)
    figure, axes = plt.subplots(figsize=(7.5, 0.3 * len(shown) + 1.4))
    colors = np.where(shown["gain_low"] > 0, BLUE, np.where(shown["gain_high"] < 0, COLORS["PD(high)"], GREY))
    for color in dict.fromkeys(colors):
        draw_intervals(axes, shown[colors == color], shown.index[colors == color], color=color)
    axes.axvline(everything["value"].iloc[0], color="black", lw=1, ls="--")
    axes.set(yticks=shown.index, yticklabels=shown["rule"], xlabel=f"{LABELS}, {100 * share:.0f} % kept; dashed: ALL")
    better = int((shown["gain_low"] > 0).sum())
    axes.set_title(f"{better} of {len(shown)} rules keep labels that people confirm more often")
    return figure


def plot_unseen(table):
    """Dots with 95 % intervals over inputs: how often implicit rewards order people's pairs of unseen inputs as they do.

    Parameters
    ----------
    table : pandas.DataFrame
        `method, value, low, high`, of policies that were trained on pairs.
    """
    shown = table.sort_values("value").reset_index(drop=True)
    figure, axes = plt.subplots(figsize=(7.5, 0.4 * len(shown) + 1.4))
    for row, estimate in shown.iterrows():
        draw_intervals(axes, estimate, row, color=COLORS.get(estimate["method"], GREY))
    axes.axvline(50, color="black", lw=1, ls="--")
    axes.set(yticks=shown.index, yticklabels=shown["method"], xlabel="pairs ordered as people do (%), 95 % interval")
    below = list(shown.loc[shown["high"] < 50, "method"])
    finding = (
        f"Only {' and '.join(below)} learned the opposite of what people say" if below else "All learned from people"
    )
    axes.set_title(finding)
    return figure
