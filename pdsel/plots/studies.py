"""Figures of the studies over seeds: notebooks 08 and 09."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from pdsel.plots.style import BLUE, GREEN, GREY, KINDS, ORANGE, PURPLE, name_ends, spaced

REACH = 6  # standard errors that a histogram shows on either side


def plot_proxy_grid(means):
    """Lines: the mean accuracy on the other aspects' pairs against the share p_r, by kind and size of the base.

    Parameters
    ----------
    means : pandas.DataFrame
        `base, kind, share` and `accuracy, accuracy_low, accuracy_high` in [0, 1].
    """
    bases = list(dict.fromkeys(means["base"]))
    figure, panels = plt.subplots(1, len(bases), figsize=(4.6 * len(bases), 3.6), sharey=True, squeeze=False)
    kinds = [kind for kind in KINDS if kind in set(means["kind"])]
    for axes, base in zip(panels[0], bases, strict=True):
        of_base = means[means["base"] == base]
        shares = np.unique(of_base["share"])
        for number, kind in enumerate(kinds):
            rows = of_base[of_base["kind"] == kind].sort_values("share")
            accuracy, low, high = (100 * rows[f"accuracy{end}"] for end in ("", "_low", "_high"))
            place = np.searchsorted(shares, rows["share"]) + 0.06 * (number - 1)
            errors = [accuracy - low, high - accuracy]
            axes.errorbar(place, accuracy, yerr=errors, color=KINDS[kind], marker="o", capsize=3, label=kind, lw=1.8)
        axes.axhline(50, color="black", lw=1, ls="--")
        axes.set(
            title=f"{base} base",
            xticks=range(len(shares)),
            xticklabels=[f"{share:g}" for share in shares],
            xlabel="$p_r$, share of an aspect's pairs used",
        )
    best = means.loc[means.groupby(["base", "share"])["accuracy"].idxmax(), "kind"].value_counts()
    figure.suptitle(f"The {best.index[0]} reward is right most often in {best.iloc[0]} of {best.sum()} settings")
    panels[0][0].set(ylabel="right on the other aspects' pairs (%)", ylim=(45, 100))
    panels[0][-1].legend(title="proxy kind", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_length_study(means):
    """Dots: how far each mitigation's proxies are from the truth in following length, a panel per kind.

    Parameters
    ----------
    means : pandas.DataFrame
        `kind, setting`, and `distance` (of correlations with length), `distance_low`, `distance_high`.
    """
    kinds = [kind for kind in KINDS if kind in set(means["kind"])]
    figure, panels = plt.subplots(1, len(kinds), figsize=(4.4 * len(kinds), 4.4), sharey=True, squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        rows = means[means["kind"] == kind].iloc[::-1]
        place = np.arange(len(rows))
        below, above = rows["distance"] - rows["distance_low"], rows["distance_high"] - rows["distance"]
        axes.errorbar(rows["distance"], place, xerr=[below, above], fmt="o", color=KINDS[kind], capsize=3)
        none = rows.loc[rows["setting"] == "none", "distance"]
        axes.axvline(float(none.iloc[0]), color="black", lw=1, ls="--")
        axes.set(
            yticks=place,
            yticklabels=rows["setting"],
            xlim=(0, None),
            title=kind,
            xlabel="distance to the truth's correlation\nwith length (dashed: no mitigation)",
        )
    best = means.loc[means.groupby("kind")["distance"].idxmin()].set_index("kind")["setting"]
    figure.suptitle("Nearest to the truth about length: " + ", ".join(f"{kind} with {best[kind]}" for kind in kinds))
    return figure


def plot_failures(means):
    """Bars: the share of wrong labels among all pairs, and among those that PD keeps, with intervals over seeds.

    Parameters
    ----------
    means : pandas.DataFrame
        `case`, and `wrong_all, wrong_kept` in [0, 1] with their `_low` and `_high`.
    """
    figure, axes = plt.subplots(figsize=(7.4, 0.42 * len(means) + 1.2))
    rows = means.iloc[::-1].reset_index(drop=True)
    place = np.arange(len(rows))
    for shift, column, color, label in [
        (0.18, "wrong_all", GREY, "all pairs"),
        (-0.18, "wrong_kept", BLUE, "kept by PD"),
    ]:
        value, low, high = (100 * rows[column + end].clip(0, 1) for end in ("", "_low", "_high"))
        axes.barh(
            place + shift,
            value,
            0.34,
            xerr=[value - low, high - value],
            color=color,
            label=label,
            error_kw={"lw": 1, "capsize": 2},
        )
    worst = means.loc[means["wrong_kept"].idxmax()]
    axes.set(
        yticks=place,
        yticklabels=rows["case"],
        xlabel="labels that are wrong by the truth (%)",
        title=f'PD keeps most wrong labels in the case "{worst["case"]}"',
    )
    axes.grid(axis="y", visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_selection_cost(means, published):
    """Bars: what selecting and training on the kept pairs cost, as a share of training on all, by the policy's size.

    Parameters
    ----------
    means : pandas.DataFrame
        `parameters` of the policy, and `selection, kept` as shares of training on all, smallest policy first.
    published : float
        The paper's share, drawn as a line.
    """
    figure, axes = plt.subplots(figsize=(7.4, 3.4))
    place, total = np.arange(len(means)), means["selection"] + means["kept"]
    axes.bar(place, means["kept"], 0.55, color=GREY, label="training on the kept pairs")
    axes.bar(place, means["selection"], 0.55, bottom=means["kept"], color=BLUE, label="selecting them")
    for x, height in zip(place, total, strict=True):
        axes.text(x, height + 0.02, f"{height:.2f}", ha="center", bbox={"facecolor": "white", "lw": 0, "pad": 1})
    axes.axhline(published, color="black", lw=1, ls="--", label=f"the paper: {published:.2f}")
    sizes = [f"{n / 1e6:.2g}" for n in means["parameters"]]
    axes.set(
        xticks=place,
        xticklabels=sizes,
        xlabel="weights of the policy (million)",
        ylabel="share of training on all",
        ylim=(0, 1.12 * total.max()),
        title=f"Selecting costs {means['selection'].iloc[0]:.2f} of training on all with {sizes[0]} million weights, "
        f"{means['selection'].iloc[-1]:.2f} with {sizes[-1]} million",
    )
    axes.grid(axis="x", visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_weights(moved):
    """Lines: how the kept set changes as the weight of one aspect grows.

    Parameters
    ----------
    moved : pandas.DataFrame
        Index weight, named after the aspect. A column per aspect is the share of kept pairs labelled on it, and `unmoved`
        is the share that equal weights keep too; all in [0, 1].
    """
    figure, axes = plt.subplots(figsize=(7, 3.6))
    shares = 100 * moved.drop(columns="unmoved")
    colors = {name: color for name, color in zip(shares, cycle([BLUE, ORANGE, GREEN, PURPLE]), strict=False)}
    for name, color in colors.items():
        axes.plot(range(len(shares)), shares[name], marker="o", color=color)
    axes.plot(range(len(moved)), 100 * moved["unmoved"], color="black", ls="--")
    name = spaced(moved.index.name)
    axes.set_title(f"As {name} weighs more, {100 * (1 - moved['unmoved'].iloc[-1]):.0f} % of the kept pairs change")
    axes.set(
        xticks=range(len(moved)),
        xticklabels=[f"{weight:g}" for weight in moved.index],
        ylim=(0, 102),
        xlabel=f"weight of {name} (the others: 1)",
        ylabel="share of the kept pairs (%)",
    )
    ends = (100 * moved.iloc[-1]).rename({"unmoved": "kept with equal weights, too"} | {n: _on(n) for n in colors})
    name_ends(
        axes, ends, {_on(name): color for name, color in colors.items()} | {"kept with equal weights, too": "black"}
    )
    return figure


def _on(aspect):
    return f"labelled on {spaced(aspect)}"


def plot_uncertainty(scores, standard_error, cut):
    """Histogram: the distance of each PD from the cut, in standard errors. A pair near 0 is a toss-up.

    Parameters
    ----------
    scores, standard_error : pandas.Series
        PD and its standard error, index `pair_id`.
    cut : float
        The largest PD that is kept.
    """
    distance = ((scores - cut) / standard_error.where(standard_error > 0)).clip(-REACH, REACH).dropna()
    figure, axes = plt.subplots(figsize=(7, 3))
    side = pd.Series(np.where(scores.loc[distance.index] <= cut, "kept", "not kept"), index=distance.index)
    bins = np.arange(-REACH, REACH + 0.5, 0.5)
    sns.histplot(
        x=distance, hue=side, hue_order=["kept", "not kept"], palette=[BLUE, GREY], bins=bins, multiple="stack", ax=axes
    )
    axes.axvspan(-1, 1, color=ORANGE, alpha=0.25, lw=0)
    near = 100 * (distance.abs() < 1).mean()
    axes.set(
        xlabel=f"(PD - cut) / standard error of PD  (shaded: within one; beyond {REACH} drawn at {REACH})",
        ylabel="pairs",
        title=f"{near:.0f} % of all pairs are within one standard error of the cut",
    )
    axes.get_legend().set_title("")
    return figure
