"""The look of all figures: colours, dots with intervals, names beside points; and how a figure is saved."""

import sys
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.optimize import isotonic_regression

from pdsel.artifacts import writing

BLUE, ORANGE, GREY, GREEN, PURPLE = "#3465a4", "#d9822b", "#9a9a9a", "#4e9a06", "#75507b"
PALE_BLUE, PALE_GREEN, RED = "#7fa6d6", "#8ae234", "#a40000"
DARK, MIDDLE, PALE, LIGHT = "#444444", "#777777", "#c8c8c8", "#eeeeee"  # greys
COLORS = {"PD": BLUE, "PD(rati.)": PALE_BLUE, "PD(high)": RED, "ALL": DARK, "SFT": PALE, "RAND": GREY}
LINES = COLORS | {"RAF": ORANGE, "DMPO": PURPLE, "OVA": GREEN, "AVG": PALE_GREEN}  # for lines that cross
KINDS = {"probe": GREEN, "implicit": BLUE, "shared": PURPLE, "classifier": ORANGE}  # of proxies
# The sides of a point on which its name may be, tried in this order: offset in points, horizontal and vertical alignment.
# Where none is free, the same sides further away are tried, with a thin line to the point.
SIDES = {
    (8, 0): ("left", "center"),
    (-8, 0): ("right", "center"),
    (0, 8): ("center", "bottom"),
    (0, -8): ("center", "top"),
    (6, 6): ("left", "bottom"),
    (6, -6): ("left", "top"),
    (-6, 6): ("right", "bottom"),
    (-6, -6): ("right", "top"),
}


def use_style():
    """Give all figures one look, and let tables show whole texts."""
    pd.options.display.max_colwidth = None
    show_with_words()
    sns.set_theme(
        style="whitegrid",
        context="notebook",
        rc={
            "figure.dpi": 110,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "figure.titlesize": 12,
            "figure.titleweight": "bold",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "pdsel",
            "figure.constrained_layout.use": True,
        },
    )


def words_of(figure):
    """A figure in words, for those who cannot see it: its titles, and what its axes show.

    >>> import matplotlib.pyplot as plt
    >>> figure, axes = plt.subplots()
    >>> _ = axes.set(title="PD wins most", xlabel="win rate (%)", ylabel="method")
    >>> words_of(figure)
    'PD wins most. Horizontal: win rate (%). Vertical: method.'
    """
    suptitle = figure.get_suptitle()
    parts = [suptitle] if suptitle else []
    for axes in figure.axes:
        labels = {"": axes.get_title(loc="left") or axes.get_title()}
        labels |= {"Horizontal: ": axes.get_xlabel(), "Vertical: ": axes.get_ylabel()}
        parts += [name + text for name, text in labels.items() if text]
    return " ".join(dict.fromkeys(part.replace("\n", " ").rstrip(".") + "." for part in parts))


def show_with_words():
    """In a notebook, give every figure its words as the picture's alternative text."""
    if "IPython" not in sys.modules or (shell := sys.modules["IPython"].get_ipython()) is None:
        return
    plt.switch_backend(
        plt.get_backend()
    )  # loads the notebook's, which registers a way to draw figures that ours replaces
    from IPython.core.pylabtools import print_figure

    def draw(figure):
        return print_figure(figure, fmt="png", base64=True), {"alt": words_of(figure)}

    shell.display_formatter.formatters["image/png"].for_type(Figure, draw)


def save_figure(figure, path):
    """Write a figure as `path`.png and `path`.svg, without dates, so that equal figures are equal files."""
    for suffix, metadata in [("png", {"Software": None}), ("svg", {"Date": None})]:
        with writing(f"{path}.{suffix}") as scratch:
            figure.savefig(scratch, format=suffix, metadata=metadata, dpi=150, bbox_inches="tight")
    return figure


def spaced(name):
    """An aspect's name with spaces, for people.

    >>> spaced("instruction_following")
    'instruction following'
    """
    return name.replace("_", " ")


def color_of(method, colors=COLORS):
    """The method's colour, or grey if it has none."""
    return colors.get(method, MIDDLE)


def draw_intervals(axes, estimates, rows, *, width=2, size=45, alpha=0.5, **style):
    """Draw a dot for each estimate and a horizontal bar for its interval.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    estimates : pandas.DataFrame or Series
        `value`, `low` and `high`.
    rows : array-like or float
        The place of each estimate on the vertical axis.
    width, size, alpha : float
        The width of the bar and the area of the dot, in points, and the opacity of the bar.
    **style
        `color` of both, and `label` of the dot.
    """
    axes.hlines(rows, estimates["low"], estimates["high"], color=style["color"], lw=width, alpha=alpha)
    axes.scatter(estimates["value"], rows, s=size, zorder=3, **style)


def name_points(axes, points, nameless=(), lines=(), bars=()):
    """Write the name of each point beside it, on the first side where it covers no other point, name, or bar.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With final limits, since names are placed in pixels.
    points : dict
        Name to (x, y).
    nameless : iterable of (x, y)
        Other points that no name may cover.
    lines : iterable of float
        Heights of horizontal lines that may not strike a name through.
    bars : iterable of (x, low, high)
        Vertical bars that may not strike a name through.
    """
    renderer = axes.figure.canvas.get_renderer()
    points = dict(sorted(points.items(), key=lambda point: -point[1][0]))  # most names stand right of their point
    heights = [axes.transData.transform((0, line))[1] for line in lines]
    shown = axes.transData.transform([*points.values(), *nameless])
    upright = [axes.transData.transform([(x, low), (x, high)]) for x, low, high in bars]
    taken = []
    for (name, point), own in zip(points.items(), shown, strict=False):  # `shown` ends with the nameless
        others = [other for other in shown if (other != own).any()]
        for away, ((x, y), (ha, va)) in product((1, 2, 3.5), SIDES.items()):
            style = {"textcoords": "offset points", "ha": ha, "va": va, "fontsize": 9}
            to_point = {"arrowprops": {"arrowstyle": "-", "lw": 0.6, "color": MIDDLE}} if away > 1 else {}
            label = axes.annotate(name, point, xytext=(away * x, away * y), **style, **to_point)
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer).padded(3)  # without the line
            struck = any(box.y0 < height < box.y1 for height in heights)
            struck |= any(box.x0 < x < box.x1 and low < box.y1 and high > box.y0 for (x, low), (_, high) in upright)
            covers = any(box.overlaps(other) for other in taken) or any(box.contains(*other) for other in others)
            if not struck and not covers:
                break
            label.remove()
        else:
            label = axes.annotate(name, point, xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)
        taken.append(box)


def name_ends(axes, ends, colors):
    """Write each line's name at its right end; names that would overlap are moved apart, no further than needed.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With final limits.
    ends : pandas.Series
        Name to the height of the line's end.
    colors : dict
        Name to colour.
    """
    ends = ends.sort_values()
    steps = 0.055 * np.ptp(axes.get_ylim()) * np.arange(len(ends))
    places = isotonic_regression(ends.to_numpy() - steps).x + steps
    for name, place in zip(ends.index, places, strict=True):
        style = {"va": "center", "fontsize": 10, "color": colors[name]}
        axes.annotate(name, (1.01, place), xycoords=("axes fraction", "data"), **style)
