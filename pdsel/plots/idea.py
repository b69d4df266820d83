"""Figures of the argument: notebook 00."""

import matplotlib.pyplot as plt

from pdsel.plots.style import BLUE, ORANGE, spaced


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
                    left[agree] - value / 2, row, spaced(name), ha="center", va="center", fontsize=8, color="white"
                )
            left[agree] -= value
        axes.plot(divergence[pair], row, "D", color="black", ms=7)
        verdict = "keep" if divergence[pair] <= cut else "drop"
        axes.text(1.02, row, verdict, transform=axes.get_yaxis_transform(), va="center", weight="bold",
                  color=BLUE if verdict == "keep" else ORANGE)  # fmt: skip
    axes.axvline(0, color="black", lw=1)
    axes.set(yticks=range(len(order)), yticklabels=[f"labelled on\n{spaced(aspect[pair])}" for pair in reversed(order)],
             xlabel="PD (black diamond) = minus the sum of what the other aspects say\n"
                    "blue: they agree with the label          orange: they contradict it",
             title="Keep the pairs whose label the other aspects share")  # fmt: skip
    axes.grid(axis="y", visible=False)
    return figure
