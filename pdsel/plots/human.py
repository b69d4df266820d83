"""Figures of real ratings: whether people confirm the labels that each rule keeps."""

import matplotlib.pyplot as plt
import numpy as np

from pdsel.checks import DataError
from pdsel.plots.style import BLUE, COLORS, GREEN, draw_intervals

# PD from proxies is not in these figures, so its colour is free for PD from ratings.
RULE_COLORS = COLORS | {"PD(rati.)": BLUE, "GAP": GREEN}
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
        From `pdsel.experiments.human_ratings.agreement_table`. If several are stacked, a column `data` names the file.
    mean : str
        The label of the rows that are means over all labels, shown as large dots. Small dots are single aspects as labels.
    share : float
        One of the shares in the table.
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
            _draw_rule(axis, row, panel[panel["rule"] == rule], mean)
        axis.axvline(50, color="black", lw=1, ls="--")
        axis.set(
            yticks=range(len(rules)),
            yticklabels=[RULE_NAMES[rule] for rule in reversed(rules)],
            ylim=(-0.6, len(rules) - 0.4),
            xlim=(floor, 104),
        )
    legend = "bar: 95 % interval over prompts; small dots: single aspects as labels; dashed: chance"
    figure.supxlabel(f"{AXIS}, {100 * share:.0f} % kept\n{legend}", fontsize=11)
    figure.suptitle(_finding(shown, mean))
    return figure


def _draw_rule(axis, row, estimates, mean):
    """Draw a large dot with interval and number for the mean over labels, and small dots below it for single aspects."""
    color = RULE_COLORS[estimates["rule"].iloc[0]]
    over_labels = estimates[estimates["label"] == mean].iloc[0]
    single = estimates.loc[estimates["label"] != mean, "value"]
    axis.scatter(single, np.full(len(single), row - 0.25), s=10, color=color, alpha=0.6)
    draw_intervals(axis, over_labels, row, width=4, color=color)
    point, above = (over_labels["value"], row), {"xytext": (0, 7), "textcoords": "offset points"}
    number = axis.annotate(f"{over_labels['value']:.0f}", point, ha="center", fontsize=10, **above)
    number.set_bbox({"color": "white", "pad": 0.5})  # so that no line strikes it through


def plot_human_shares(table, *, mean):
    """Lines with 95 % bands: how often the judge confirms the kept labels, against the kept share.

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
    figure.suptitle(title)
    return figure


def _panels(table):
    """A figure and a list of (panel, rows of the table), with a panel for every file and judge."""
    table = table if "data" in table else table.assign(data="")
    groups = list(table.groupby(["data", "reference"], sort=False))
    size = (2.8 + 2.9 * len(groups), 3.8)
    figure, axes = plt.subplots(1, len(groups), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, ((data, judge), _) in zip(axes[0], groups, strict=True):
        axis.set_title(f"{data}\njudge: {judge}".strip(), fontsize=11, fontweight="normal")
    return figure, [(axis, panel) for axis, (_, panel) in zip(axes[0], groups, strict=True)]


def _finding(table, mean):
    """The title: what PD(rati.) gains over all labels, if chance does not explain it."""
    gains = table[(table["rule"] == "PD(rati.)") & (table["label"] == mean)]
    sure = gains["gain_low"] > 0
    if not sure.any():
        return "PD's labels are confirmed no more often than all labels"
    low, high = gains.loc[sure, "gain"].min(), gains.loc[sure, "gain"].max()
    points = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
    where = "" if sure.all() else f" in {sure.sum()} of {len(gains)} comparisons"
    return f"PD's labels are confirmed {points} points more often than all labels{where}"
