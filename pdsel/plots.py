"""The figures, from result tables: every function takes a frame and returns a matplotlib figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from pdsel.artifacts import writing

BLUE, ORANGE, GREY, GREEN = "#3465a4", "#d9822b", "#9a9a9a", "#4e9a06"
COLORS = {"PD": BLUE, "PD(rati.)": "#7fa6d6", "PD(high)": "#a40000", "ALL": "#444444", "SFT": "#c8c8c8", "RAND": GREY}


def use_style():
    """One look for all figures."""
    sns.set_theme(style="whitegrid", context="notebook", rc={
        "figure.dpi": 110, "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "pdsel", "figure.constrained_layout.use": True,
    })  # fmt: skip


def save_figure(figure, path):
    """Write `path` as PNG and SVG (same name), free of dates so that equal figures are equal files."""
    for suffix, metadata in [("png", {"Software": None}), ("svg", {"Date": None})]:
        with writing(f"{path}.{suffix}") as scratch:
            figure.savefig(scratch, format=suffix, metadata=metadata, dpi=150, bbox_inches="tight")
    return figure


def plot_agreement(agreement):
    """Heat map: of the response pairs that two aspects both rank, the share they rank the same way (percent)."""
    figure, axes = plt.subplots(figsize=(6.2, 4.6))
    sns.heatmap(100 * agreement, annot=True, fmt=".0f", cmap="RdYlBu", vmin=0, vmax=100, square=True, ax=axes,
                cbar_kws={"label": "same order (%)"})  # fmt: skip
    worst = agreement.where(~np.eye(len(agreement), dtype=bool)).stack().idxmin()
    axes.set_title(f"{_spaced(worst[0])} and {_spaced(worst[1])} agree least")
    axes.set(xlabel="", ylabel="")
    axes.set_xticklabels([_spaced(t.get_text()) for t in axes.get_xticklabels()], rotation=30, ha="right")
    axes.set_yticklabels([_spaced(t.get_text()) for t in axes.get_yticklabels()], rotation=0)
    return figure


def plot_conflict(pairs):
    """Bars: share of each aspect's labels that contradict the overall rating (percent)."""
    share = 100 * pairs.groupby("aspect")["conflict"].mean().sort_values()
    figure, axes = plt.subplots(figsize=(7, 2.6))
    axes.barh([_spaced(name) for name in share.index], share, color=ORANGE)
    axes.axvline(100 * pairs["conflict"].mean(), color="black", lw=1, ls="--")
    axes.text(100 * pairs["conflict"].mean(), 0, " all pairs", fontsize=10, va="center")
    axes.bar_label(axes.containers[0], fmt="%.0f %%", label_type="center", color="white")
    axes.set(xlabel="labels that contradict the overall rating (%)", xlim=(0, max(share) * 1.15),
             title=f"{_spaced(share.index[-1])} contradicts the overall rating most often")  # fmt: skip
    axes.grid(axis="y", visible=False)
    return figure


def plot_length(gaps):
    """Bars: how far longer the chosen response is, by aspect (tokens or characters), with 95 % intervals."""
    figure, axes = plt.subplots(figsize=(7, 2.6))
    shown = gaps.assign(aspect=gaps["aspect"].map(_spaced))
    sns.barplot(shown, x="length_gap", y="aspect", order=sorted(shown["aspect"].unique()), color=BLUE, seed=0, ax=axes,
                errorbar=("ci", 95), n_boot=500)  # fmt: skip
    axes.axvline(0, color="black", lw=1)
    means = shown.groupby("aspect")["length_gap"].mean()
    axes.set(ylabel="", xlabel="length of chosen minus rejected (words, mean and 95 % interval)",
             title=f"{means.idxmax()} labels favour length, {means.idxmin()} brevity")  # fmt: skip
    return figure


def plot_proxies(quality):
    """Bars: accuracy of each proxy on the other aspects' pairs, one colour per kind; chance is 50 %."""
    figure, axes = plt.subplots(figsize=(7, 3.2))
    shown = quality.assign(aspect=quality["aspect"].map(_spaced), accuracy=100 * quality["accuracy"])
    sns.barplot(shown, x="accuracy", y="aspect", hue="kind", palette={"implicit": BLUE, "classifier": ORANGE}, ax=axes)
    axes.axvline(50, color="black", lw=1, ls="--")
    for bars in axes.containers:
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=9)
    best = shown.groupby("kind")["accuracy"].mean().idxmax()
    axes.set(ylabel="", xlabel="accuracy on the other aspects' pairs, against the raters (%; dashed: chance)", xlim=(0, 100),
             title=f"The {best} reward judges other aspects' pairs better")  # fmt: skip
    axes.legend(title="proxy kind", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_length_bias(correlations):
    """Dots: correlation of margins with the length gap, per aspect, for proxies, raters and gold."""
    figure, axes = plt.subplots(figsize=(7, 3.2))
    shown = correlations.rename(index=_spaced)
    for name, color, marker in zip(shown, [GREEN, GREY, ORANGE, BLUE], ["D", "s", "o", "o"], strict=False):
        axes.plot(shown[name], range(len(shown)), marker, color=color, label=name, ms=8)
    axes.axvline(0, color="black", lw=1)
    axes.set(yticks=range(len(shown)), yticklabels=shown.index, xlim=(-1, 1), xticks=[-1, -0.5, 0, 0.5, 1],
             xlabel="correlation with the length gap", title="How much each judge follows length")  # fmt: skip
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_divergence(scores, cut):
    """Histogram of PD, by whether the label is wrong by gold (if `gold_wrong` is there), with the cut of the kept share."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    bins = np.linspace(scores["PD"].min(), scores["PD"].max(), 41)
    if "gold_wrong" in scores:
        names = {False: "label right", True: "label wrong"}
        sns.histplot(scores.assign(label=scores["gold_wrong"].map(names)), x="PD", hue="label", bins=bins, multiple="stack",
                     hue_order=["label wrong", "label right"], palette=[ORANGE, BLUE], ax=axes)  # fmt: skip
        kept = 100 * scores.loc[scores["PD"] <= cut, "gold_wrong"].mean()
        axes.set_title(f"{kept:.0f} % of the kept labels are wrong, {100 * scores['gold_wrong'].mean():.0f} % of all")
        axes.get_legend().set_title("")
    else:
        axes.hist(scores["PD"], bins=bins, color=BLUE)
        axes.set_title("Most pairs are near consensus or conflict?")
    axes.axvline(cut, color="black", lw=1.5)
    axes.annotate("kept", (cut, axes.get_ylim()[1] * 0.86), xytext=(-8, 0), textcoords="offset points", ha="right")
    axes.set(xlabel="preference divergence PD  (negative: the other aspects agree with the label)", ylabel="pairs")
    return figure


def plot_overlap(kept):
    """Heat map: of the pairs that the row's rule keeps, the share that the column's rule keeps too (percent)."""
    sets = {method: set(group["pair_id"]) for method, group in kept.groupby("method", sort=False)}
    shared = pd.DataFrame({b: {a: 100 * len(sets[a] & sets[b]) / len(sets[a]) for a in sets} for b in sets})
    figure, axes = plt.subplots(figsize=(5.6, 4.2))
    sns.heatmap(shared, annot=True, fmt=".0f", cmap="Blues", vmin=0, vmax=100, square=True, ax=axes,
                cbar_kws={"label": "kept by both (%)"})  # fmt: skip
    title = "What two rules both keep"
    if {"PD", "PD(rati.)"} <= set(sets):
        title = f"PD finds {shared.loc['PD', 'PD(rati.)']:.0f} % of what the true ratings would keep"
    axes.set(title=title, xlabel="", ylabel="")
    return figure


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
    shown = shown.assign(aspect=shown["metric"].map(_spaced))
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


def plot_idea(margins, aspect, divergence, cut):
    """The idea in one picture: what the other aspects say about each pair, and which pairs are kept.

    Parameters
    ----------
    margins : pandas.DataFrame, shape (n, kappa)
        Scaled margins, index `pair_id`.
    aspect, divergence : pandas.Series
        Label aspect and PD by `pair_id`.
    cut : float
        Pairs with PD up to here are kept.
    """
    order = divergence.sort_values().index
    figure, axes = plt.subplots(figsize=(9, 0.75 * len(order) + 1.3))
    for row, pair in enumerate(reversed(order)):
        others = margins.loc[pair].drop(aspect[pair])
        left = {True: 0.0, False: 0.0}
        for name, value in others.items():
            agree = bool(value > 0)
            axes.barh(row, -value, left=left[agree], color=BLUE if agree else ORANGE, edgecolor="white", height=0.6)
            if abs(value) > 0.22:
                axes.text(
                    left[agree] - value / 2, row, _spaced(name), ha="center", va="center", fontsize=8, color="white"
                )
            left[agree] -= value
        axes.plot(divergence[pair], row, "D", color="black", ms=7)
        verdict = "keep" if divergence[pair] <= cut else "drop"
        axes.text(1.02, row, verdict, transform=axes.get_yaxis_transform(), va="center", weight="bold",
                  color=BLUE if verdict == "keep" else ORANGE)  # fmt: skip
    axes.axvline(0, color="black", lw=1)
    axes.set(yticks=range(len(order)), yticklabels=[f"labelled on\n{_spaced(aspect[pair])}" for pair in reversed(order)],
             xlabel="PD (black diamond) = minus the sum of what the other aspects say\n"
                    "blue: they agree with the label          orange: they contradict it",
             title="Keep the pairs whose label the other aspects share")  # fmt: skip
    axes.grid(axis="y", visible=False)
    return figure


def _spaced(name):
    return name.replace("_", " ")
