"""Figures that move: a slider where a kernel answers, and panels, one below the other, where none does."""

import os
import sys
from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np

from pdsel.artifacts import IN_GRAPH
from pdsel.plots.data import draw_divergence
from pdsel.plots.idea import draw_gain, draw_idea
from pdsel.plots.style import BLUE, GREY, draw_intervals


def can_move():
    """Whether a reader can move a slider: in a kernel with ipywidgets, and not in a run of the graph."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and not os.environ.get(IN_GRAPH) and find_spec("ipywidgets") is not None


def slide(draw, controls, examples, *, size=(7.5, 3.8)):
    """Sliders over a figure, or the figure at a few settings.

    Parameters
    ----------
    draw : callable
        `draw(axes, **values)` draws it anew.
    controls : dict
        The name of a value to its first, last and step, and where it starts.
    examples : list of dict
        The settings of the panels that are drawn where nothing can move.
    size : (float, float)
        Inches of one panel.

    Returns
    -------
    ipywidgets.VBox or None
    """
    if not can_move():
        _, panels = plt.subplots(len(examples), 1, figsize=(size[0], size[1] * len(examples)), squeeze=False)
        for axes, values in zip(panels[:, 0], examples, strict=True):
            draw(axes, **values)
        return None
    import ipywidgets

    wide = {"layout": {"width": "32em"}, "style": {"description_width": "9em"}}
    sliders = {
        name: ipywidgets.FloatSlider(
            min=low, max=high, step=step, value=start, description=name.replace("_", " "), **wide
        )
        for name, (low, high, step, start) in controls.items()
    }

    def redraw(**values):
        _, axes = plt.subplots(figsize=size)
        draw(axes, **values)
        plt.show()

    picture = ipywidgets.interactive_output(redraw, sliders)
    picture.layout.height = f"{110 * size[1] + 40:.0f}px"  # so that the page does not jump
    return ipywidgets.VBox([*sliders.values(), picture])


def slide_gain(gain):
    """The gain from training on a pair, against its PD, for any kappa and any step c2 - c0.

    `gain`: `pdsel.theory.gain`.
    """

    def draw(axes, kappa, step):
        draw_gain(axes, lambda pd: gain(pd, 0.0, step, kappa), kappa * step)

    controls = {"kappa": (2, 16, 1, 4), "step": (0.1, 2.0, 0.1, 0.5)}
    return slide(draw, controls, [{"kappa": 4, "step": 0.5}, {"kappa": 8, "step": 0.5}])


def slide_weights(margins, aspect, divergence):
    """The four pairs of notebook 00, with weights of the aspects to choose.

    Parameters
    ----------
    margins, aspect
        As in `plot_idea`.
    divergence : callable
        `pdsel.preference_divergence`.
    """

    def draw(axes, **weights):
        weighted = divergence(margins, aspect, weights=weights)
        cut = weighted.nsmallest(len(weighted) // 2).max()
        votes = margins.mul(weights).div(aspect.map(weights), axis=0)
        draw_idea(axes, votes, aspect, weighted, cut)
        said = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        axes.set_title(f"Weights: {said}\nbest: {weighted.idxmin()}, PD {weighted.min():+.2f}")

    controls = {name: (0.25, 4.0, 0.25, 1.0) for name in margins}
    heavy = dict.fromkeys(margins, 1.0) | {margins.columns[-1]: 2.5}
    return slide(draw, controls, [dict.fromkeys(margins, 1.0), heavy], size=(8, 4.2))


def slide_share(scores):
    """The histogram of PD, with the share that is kept to choose, and how many of the kept labels are wrong.

    `scores`: `PD` and, where the truth is known, `gold_wrong`, a row per pair.
    """
    ranked = np.sort(scores["PD"])

    def draw(axes, share):
        cut = ranked[max(round(share * len(ranked)), 1) - 1]
        draw_divergence(axes, scores, cut, before=f"{100 * share:.0f} % kept: ")

    return slide(draw, {"share": (0.05, 1.0, 0.05, 0.3)}, [{"share": 0.1}, {"share": 0.5}])


def slide_budget(means, by="share"):
    """The win rate of each rule at a budget to choose.

    Parameters
    ----------
    means : pandas.DataFrame
        `method`, the column `by`, and `value, low, high` in percent; perhaps `setting`, a way of training.
    by : str
        The budget: the share of the pairs in [0, 1], or the steps.
    """
    means = means if "setting" in means else means.assign(setting="")
    rivals = means.groupby(by)["method"].transform("nunique")
    means = means[(rivals > 1) | (rivals.max() == 1)]  # where one method is alone, nobody wins
    budgets, settings = np.sort(means[by].unique()), list(dict.fromkeys(means["setting"]))
    span = means["low"].min() - 2, means["high"].max() + 2

    def draw(axes, budget):
        nearest = budgets[np.abs(budgets - budget).argmin()]
        here = means[means[by] == nearest]
        order = here.groupby("method")["value"].mean().sort_values().index
        for place, setting in enumerate(settings):
            rows = here[here["setting"] == setting].set_index("method").reindex(order)
            shift = 0.22 * ((len(settings) - 1) / 2 - place)
            color = BLUE if place == len(settings) - 1 else GREY
            draw_intervals(axes, rows, np.arange(len(order)) + shift, width=4, color=color, label=setting)
        if len(settings) > 1:
            axes.legend(loc="lower right", fontsize=10)
        axes.axvline(50, color="black", lw=1, ls="--")
        axes.set(
            yticks=np.arange(len(order)),
            yticklabels=order,
            ylim=(-0.6, len(order) - 0.4),
            xlim=span,
            xlabel="win rate against SFT (%), 95 % interval",
            title=f"{by} {nearest:g}: {order[-1]} wins most",
        )

    step = float(np.min(np.diff(budgets))) if len(budgets) > 1 else 1.0
    controls = {"budget": (float(budgets[0]), float(budgets[-1]), step, float(budgets[len(budgets) // 2]))}
    return slide(draw, controls, [{"budget": budget} for budget in dict.fromkeys([budgets[0], budgets[-1]])])
