"""Figures of the grid over seeds, conflict levels, shares and sizes: notebook 11."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from pdsel.plots.style import BLUE, DARK, GREY, LINES, ORANGE, color_of, draw_intervals, name_ends, spaced


def _line(axes, estimates, x, method):
    """Draw a method's line with its band, over the column `x`."""
    estimates = estimates.sort_values(x)
    color = color_of(method, LINES)
    axes.plot(estimates[x], estimates["value"], color=color, marker="o", label=method)
    axes.fill_between(estimates[x], estimates["low"], estimates["high"], color=color, alpha=0.15, lw=0)


def _name_ends(axes, means, x):
    """Write each method's name at the right end of its line."""
    ends = means.sort_values(x).groupby("method")["value"].last()
    name_ends(axes, ends, {method: color_of(method, LINES) for method in ends.index})


def plot_by_conflict(means):
    """Lines with intervals: the win rate of each method against the share of conflicting labels.

    Parameters
    ----------
    means : pandas.DataFrame
        `method`, `conflict` in [0, 1], and `value, low, high` in percent.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2))
    shown = means.assign(conflict=100 * means["conflict"])
    methods = list(shown["method"].unique())
    for place, method in enumerate(methods):  # side by side, so that no interval hides another
        rows = shown[shown["method"] == method].sort_values("conflict")
        x = rows["conflict"] + 0.3 * (place - (len(methods) - 1) / 2)
        color = color_of(method, LINES)
        axes.vlines(x, rows["low"], rows["high"], color=color, lw=2, alpha=0.5)
        axes.plot(x, rows["value"], color=color, marker="o", lw=1.5)
    _name_ends(axes, shown, "conflict")
    axes.set(
        xlabel="labels that contradict the overall rating (%)",
        ylabel="win rate against SFT (%), 95 % interval",
        xticks=sorted(set(shown["conflict"])),
        title=_losses_to_conflict(shown),
    )
    return figure


def _losses_to_conflict(means):
    """What PD and ALL lose from the lowest to the highest level of conflict, as a title."""
    wide = means.pivot(index="method", columns="conflict", values="value")
    lost = (wide.iloc[:, 0] - wide.iloc[:, -1]).dropna()
    if not {"PD", "ALL"} <= set(lost.index):
        return "What conflict does to each method"
    first, last = wide.columns[0], wide.columns[-1]
    return f"From {first:g} to {last:g} % conflict, PD loses {lost['PD']:.0f} points, ALL {lost['ALL']:.0f}"


def plot_by_share(means):
    """Lines: the win rate of each rule against the share that it keeps, a panel for each budget of steps.

    Parameters
    ----------
    means : pandas.DataFrame
        `setting` (the budget), `method`, `share` in [0, 1], and `value, low, high` in percent. ALL, at a share of 1, is a
        horizontal line.
    """
    budgets = list(means["setting"].unique())
    figure, panels = plt.subplots(1, len(budgets), figsize=(4.7 * len(budgets), 4.0), sharey=True, squeeze=False)
    shown = means.assign(share=100 * means["share"])
    for axes, budget in zip(panels[0], budgets, strict=True):
        here = shown[shown["setting"] == budget]
        rules = here[here["method"] != "ALL"]
        for method, rows in rules.groupby("method", sort=False):
            _line(axes, rows, "share", method)
        whole = here[here["method"] == "ALL"].iloc[0]
        axes.axhline(whole["value"], color=LINES["ALL"], ls="--", lw=1.5)
        axes.axhspan(whole["low"], whole["high"], color=LINES["ALL"], alpha=0.12, lw=0)
        axes.set(xlabel="pairs kept (%)", xticks=sorted(set(rules["share"])), title=f"Steps: {budget}")
    figure.suptitle(_gains_of_share(shown))
    panels[0][0].set_ylabel("win rate against SFT (%), 95 % interval")
    for axes, budget in zip(panels[0], budgets, strict=True):  # when the limits are final
        rules = shown[(shown["setting"] == budget) & (shown["method"] != "ALL")]
        whole = shown[(shown["setting"] == budget) & (shown["method"] == "ALL")]
        _name_ends(axes, pd.concat([rules, whole]), "share")
    return figure


def _gains_of_share(means):
    """What PD gains or loses from its smallest to its largest share under each budget, as a title; shares in percent."""
    wide = means[means["method"] == "PD"].pivot(index="setting", columns="share", values="value")
    if wide.shape[1] < 2:
        return "What each rule makes of the share that it keeps"
    first, last = wide.columns[0], wide.columns[-1]
    changes = [
        (setting, round(wide.loc[setting, last] - wide.loc[setting, first])) for setting in pd.unique(means["setting"])
    ]
    said = [f"{'gains' if change >= 0 else 'loses'} {abs(change)} points ({setting})" for setting, change in changes]
    return f"From {first:g} to {last:g} % kept, PD " + ", ".join(said)


def plot_world_check(trained, fixed):
    """Dots on one scale: answers that weigh nothing, labels of known quality, rules, and the ideal, at two budgets of steps.

    Parameters
    ----------
    trained : pandas.DataFrame
        `kind, budget`, and `win_rate, low, high` in percent.
    fixed : pandas.DataFrame
        The same without budgets, of answers that need no training; "ideal" is the ceiling.
    """
    budgets = dict(zip(trained["budget"].unique(), (GREY, BLUE), strict=True))
    nulls = fixed[fixed["kind"] != "ideal"].sort_values("win_rate")
    flips = [kind for kind in trained["kind"].unique() if kind.startswith("flip")]
    rules = trained[~trained["kind"].isin(flips)].groupby("kind")["win_rate"].max().sort_values()
    names = [*nulls["kind"], *flips, *rules.index, "ideal"]
    row = {name: number for number, name in enumerate(names)}
    figure, axes = plt.subplots(figsize=(7.5, 0.27 * len(names) + 1))
    for table, color, label in [
        (fixed, DARK, "no training"),
        *((trained[trained["budget"] == budget], color, budget) for budget, color in budgets.items()),
    ]:
        estimates = table.rename(columns={"win_rate": "value"})
        draw_intervals(axes, estimates, estimates["kind"].map(row), color=color, label=label, size=35)
    ceiling = fixed.loc[fixed["kind"] == "ideal", "win_rate"].iloc[0]
    axes.axvline(ceiling, color=DARK, ls=":", lw=1)
    axes.axvline(50, color=DARK, lw=1)
    axes.annotate(
        "SFT", (50, 1), xycoords=("data", "axes fraction"), xytext=(3, 2), textcoords="offset points", fontsize=9
    )
    labels = [
        f"{100 * float(name.split()[1]):.0f} % of right labels flipped" if name in flips else name for name in names
    ]
    axes.set(yticks=range(len(names)), yticklabels=labels, ylim=(-0.7, len(names) - 0.3), xlim=(-1, 100))
    axes.set(xlabel="win rate against SFT (%), 95 % interval over seeds and prompts")
    below = ceiling - trained["win_rate"].max()
    axes.set_title(f"The best trained policy stays {below:.0f} points below the ceiling", pad=16)
    axes.legend(loc="lower right", fontsize=9, frameon=True)
    return figure


def plot_dumbbells(means, names, lead=("PD", "ALL")):
    """Two joined dots per method: its win rate under two conditions.

    The title is the lead of one method on another, under both.

    Parameters
    ----------
    means : pandas.DataFrame
        `method, condition, value, low, high`.
    names : (str, str)
        The two conditions for the legend, the earlier one first.
    lead : (str, str)
        The two methods.
    """
    first, second = (means[means["condition"] == name].set_index("method") for name in names)
    order = first["value"].sort_values().index
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(order) + 1.5))
    rows = np.arange(len(order))
    axes.hlines(rows, first.loc[order, "value"], second.loc[order, "value"], color="#cccccc", lw=3, zorder=1)
    names = [spaced(name) for name in names]
    draw_intervals(axes, first.loc[order], rows + 0.1, color=GREY, label=names[0])
    draw_intervals(axes, second.loc[order], rows - 0.1, color=BLUE, label=names[1])
    leads = [table.loc[lead[0], "value"] - table.loc[lead[1], "value"] for table in (first, second)]
    title = f"{lead[0]}'s lead on {lead[1]}: {leads[0]:+.1f} points ({names[0]}), {leads[1]:+.1f} ({names[1]})"
    axes.set(yticks=rows, yticklabels=order, xlabel="win rate against SFT (%), 95 % interval", title=title)
    figure.legend(loc="outside lower center", ncols=2)
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
        xlabel=f"change of PD's win rate (points), 95 % interval; band: ±{margin:g} points",
        title=_sure_changes(changes),
    )
    return figure


def _sure_changes(changes):
    """How many changed settings have an interval without 0, as a title.

    >>> rows = [("gamma 1", 0.5, -2.3, 3.3), ("large base", -2.7, -4.4, -1.0)]
    >>> _sure_changes(pd.DataFrame(rows, columns=["setting", "value", "low", "high"]))
    'Of 2 changed settings, 1 has an interval without 0: large base'
    """
    sure = changes.loc[(changes["low"] > 0) | (changes["high"] < 0), "setting"]
    which = ": " + ", ".join(sure) if 0 < len(sure) < 4 else ""
    count = {0: "none has", 1: "1 has"}.get(len(sure), f"{len(sure)} have")
    return f"Of {len(changes)} changed settings, {count} an interval without 0{which}"


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
        mask=np.eye(len(table), dtype=bool),
        annot=True,
        fmt=".0f",
        cmap="Blues",
        vmin=0,
        vmax=100,
        ax=axes,
        cbar=False,
        annot_kws={"fontsize": 9},
    )
    title = "Of the pairs that either keeps, how many do both keep (%)?"
    if {"PD", "RAF"} <= set(table.index):
        title = f"PD and RAF share {100 * table.loc['PD', 'RAF']:.0f} % of the pairs that either keeps"
    axes.set(title=title)
    axes.grid(False)
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
            saturation=1,
            ax=axes,
            legend=axes is panels[1],
        )
        axes.set(xlabel=f"labels that {title}", ylabel="")
    panels[1].legend(title="conflict level", loc="center left", bbox_to_anchor=(1.0, 0.5))
    most = spaced(facts.groupby("aspect")["conflict"].mean().idxmax())
    figure.suptitle(f"{most.capitalize()} contradicts the overall rating most often")
    return figure
