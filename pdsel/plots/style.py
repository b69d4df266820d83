"""How every figure looks, and how it is saved."""

import seaborn as sns

from pdsel.artifacts import writing

BLUE, ORANGE, GREY, GREEN = "#3465a4", "#d9822b", "#9a9a9a", "#4e9a06"
COLORS = {"PD": BLUE, "PD(rati.)": "#7fa6d6", "PD(high)": "#a40000", "ALL": "#444444", "SFT": "#c8c8c8", "RAND": GREY}
KINDS = {"implicit": BLUE, "shared": "#75507b", "classifier": ORANGE}  # of proxies
SIDES = {
    (8, 0): ("left", "center"),
    (-8, 0): ("right", "center"),
    (0, 8): ("center", "bottom"),
    (0, -8): ("center", "top"),
}


def use_style():
    """One look for all figures."""
    sns.set_theme(
        style="whitegrid",
        context="notebook",
        rc={
            "figure.dpi": 110,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "pdsel",
            "figure.constrained_layout.use": True,
        },
    )


def save_figure(figure, path):
    """Write `path` as PNG and SVG (same name), free of dates so that equal figures are equal files."""
    for suffix, metadata in [("png", {"Software": None}), ("svg", {"Date": None})]:
        with writing(f"{path}.{suffix}") as scratch:
            figure.savefig(scratch, format=suffix, metadata=metadata, dpi=150, bbox_inches="tight")
    return figure


def spaced(name):
    return name.replace("_", " ")


def name_points(axes, points, nameless=()):
    """Each point's name on the first of its sides where it covers no other point, `nameless` ones too, and no other name."""
    renderer = axes.figure.canvas.get_renderer()
    shown = axes.transData.transform([*points.values(), *nameless])
    taken = []
    for (name, point), own in zip(points.items(), shown, strict=False):
        others = [other for other in shown if (other != own).any()]
        for offset, (ha, va) in SIDES.items():
            label = axes.annotate(name, point, xytext=offset, textcoords="offset points", ha=ha, va=va, fontsize=9)
            box = label.get_window_extent(renderer).padded(3)
            if not any(box.overlaps(other) for other in taken) and not any(box.contains(*other) for other in others):
                break
            label.remove()
        else:
            label = axes.annotate(name, point, xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)
        taken.append(box)
