"""Figures of real ratings: whether people confirm the labels that each rule keeps."""

import matplotlib.pyplot as plt
import numpy as np

from pdsel.checks import DataError
from pdsel.plots.style import BLUE, COLORS, GREEN

RULE_COLORS = COLORS | {"PD(rati.)": BLUE, "GAP": GREEN}  # PD from proxies is not in these figures: its colour is free
RULE_NAMES = {
    "PD(rati.)": "PD(rati.): others agree",
    "GAP": "GAP: own gap is large",
    "ALL": "ALL: every label",
    "RAND": "RAND: drawn",
    "PD(high)": "PD(high): others disagree",
}
AXIS = "labels that the judge confirms (%)"


def plot_human_agreement(table, *, mean, share=0.3):
    """Dots with 95 % intervals: how often the judge confirms the labels that each rule keeps.

    Parameters
    ----------
    table : pandas.DataFrame
        From `pdsel.experiments.human_ratings.agreement_table`; a column `data` names the file where several are stacked.
    mean : str
        The label whose rows are the means over all labels: large dots. Small dots are the single aspects as labels.
    share : float
        A share of the table.
    """
    shown = table[np.isclose(table["share"], share)]
    if shown.empty:
        raise DataError(
            f"share={share} is not in the table. Remedy: use one of {sorted(table['share'].unique().tolist())}"
        )
    rules = list(shown["rule"].unique())
    figure, axes = _panels(shown)
    floor = min(45, shown["value"].min()) - 5
    for axis, panel in axes:
        for row, rule in enumerate(reversed(rules)):
            points = panel[panel["rule"] == rule]
            over_labels = points[points["label"] == mean].iloc[0]
            single = points.loc[points["label"] != mean, "value"]
            axis.scatter(single, [row - 0.25] * len(single), s=10, color=RULE_COLORS[rule], alpha=0.6)
            axis.hlines(row, over_labels["low"], over_labels["high"], color=RULE_COLORS[rule], lw=4, alpha=0.5)
            axis.scatter(over_labels["value"], row, s=45, color=RULE_COLORS[rule], zorder=3)
            axis.annotate(
                f"{over_labels['value']:.0f}",
                (over_labels["value"], row),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=10,
            )
        axis.axvline(50, color="black", lw=1, ls="--")
        axis.set(
            yticks=range(len(rules)),
            yticklabels=[RULE_NAMES[rule] for rule in reversed(rules)],
            ylim=(-0.6, len(rules) - 0.4),
            xlim=(floor, 104),
        )
    legend = "bar: 95 % interval over prompts; small dots: single aspects as labels; dashed: chance"
    figure.supxlabel(f"{AXIS}, {100 * share:.0f} % kept\n{legend}", fontsize=11)
    figure.suptitle(_finding(shown, mean), fontweight="bold", fontsize=12)
    return figure


def plot_human_shares(table, *, mean):
    """Lines with 95 % bands: how often the judge confirms the kept labels, against the share that is kept.

    `table` and `mean` are those of `plot_human_agreement`.
    """
    figure, axes = _panels(table)
    for axis, panel in axes:
        for rule in table["rule"].unique():
            line = panel[(panel["rule"] == rule) & (panel["label"] == mean)].sort_values("share")
            axis.plot(100 * line["share"], line["value"], color=RULE_COLORS[rule], label=RULE_NAMES[rule])
            axis.fill_between(100 * line["share"], line["low"], line["high"], color=RULE_COLORS[rule], alpha=0.15, lw=0)
        axis.axhline(50, color="black", lw=1, ls="--")
        axis.set(ylim=(min(45, table.loc[table["label"] == mean, "low"].min()) - 5, 103))
    axes[0][0].set_ylabel(AXIS)
    axes[-1][0].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.supxlabel("labels kept (%); band: 95 % interval over prompts; dashed: chance", fontsize=11)
    shares = sorted(share for share in table["share"].unique() if share < 1)
    title = f"Keeping {100 * shares[0]:.0f} %: {_finding(table[table['share'] == shares[0]], mean)}" if shares else AXIS
    figure.suptitle(title, fontweight="bold", fontsize=12)
    return figure


def _panels(table):
    """A figure, and a panel with its rows of the table for every file and judge."""
    table = table if "data" in table else table.assign(data="")
    groups = list(table.groupby(["data", "reference"], sort=False))
    size = (2.8 + 2.9 * len(groups), 3.8)
    figure, axes = plt.subplots(1, len(groups), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, ((data, judge), _) in zip(axes[0], groups, strict=True):
        axis.set_title(f"{data}\njudge: {judge}".strip(), fontsize=11, fontweight="normal")
    return figure, [(axis, panel) for axis, (_, panel) in zip(axes[0], groups, strict=True)]


def _finding(table, mean):
    """What PD(rati.) gains over all labels, where it is sure to."""
    gains = table[(table["rule"] == "PD(rati.)") & (table["label"] == mean)]
    sure = gains["gain_low"] > 0
    if not sure.any():
        return "PD's labels are confirmed no more often than all labels"
    low, high = gains.loc[sure, "gain"].min(), gains.loc[sure, "gain"].max()
    points = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
    where = "" if sure.all() else f" in {sure.sum()} of {len(gains)} comparisons"
    return f"PD's labels are confirmed {points} points more often than all labels{where}"
