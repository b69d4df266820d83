"""Figures say what their frames say: titles and ticks, in the cases that the committed figures do not show."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from pdsel.plots import (
    plot_by_share,
    plot_divergence,
    plot_length,
    plot_proxy_grid,
    slide_budget,
    slide_share,
    use_style,
)


@pytest.fixture(autouse=True)
def house_style(monkeypatch):
    """Titles at the left, and no kernel, whatever other tests of this process have set up."""
    use_style()
    monkeypatch.setattr("pdsel.plots.sliders.can_move", lambda: False)
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("gaps", "title"),
    [
        ((3, -1), "a labels favour length, b brevity"),
        ((3, 1), "Labels of every aspect favour length, a most"),
        ((-1, -3), "Labels of every aspect favour brevity, b most"),
    ],
)
def test_the_figure_of_lengths_claims_brevity_only_where_it_is(gaps, title):
    table = pd.DataFrame({"aspect": ["a", "a", "b", "b"], "length_gap": [gaps[0], gaps[0], gaps[1], gaps[1]]})
    assert plot_length(table).axes[0].get_title(loc="left") == title


def test_a_histogram_without_gold_says_how_many_pairs_are_kept():
    scores = pd.DataFrame({"PD": [-0.9, -0.5, 0.1, 0.2]})
    assert (
        plot_divergence(scores, -0.5).axes[0].get_title(loc="left")
        == "PD keeps the 50 % of the pairs with the lowest values"
    )


def test_ticks_of_the_grid_of_proxies_are_the_shares_of_every_kind():
    rows = [("classifier", 0.1), ("classifier", 0.5), ("classifier", 1.0), ("shared", 0.5)]
    means = pd.DataFrame(rows, columns=["kind", "share"]).assign(
        base="shipped", accuracy=0.8, accuracy_low=0.7, accuracy_high=0.9
    )
    axes = plot_proxy_grid(means).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.5", "1"]
    handles, kinds = axes.get_legend_handles_labels()
    drawn = dict(zip(kinds, handles, strict=True))["shared"].lines[0]
    assert round(float(drawn.get_xdata()[0])) == 1  # at 0.5, the second tick


def test_shares_have_a_panel_for_each_budget_of_steps():
    """By hand: ALL is a dashed line at its own height, and the rules' lines go through their values in order of share."""
    rows = [
        (budget, method, share, value)
        for budget, more in [("one pass", 0.0), ("as many steps as ALL", 5.0)]
        for method, share, value in [
            ("PD", 0.5, 60 + more),
            ("PD", 0.1, 55 + more),
            ("RAND", 0.1, 50.0),
            ("RAND", 0.5, 52.0),
            ("ALL", 1.0, 58 + more),
        ]
    ]
    means = pd.DataFrame(rows, columns=["setting", "method", "share", "value"])
    means = means.assign(low=means["value"] - 1, high=means["value"] + 1)
    figure = plot_by_share(means)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Steps: one pass", "Steps: as many steps as ALL"]
    for axes, more in zip(figure.axes, [0.0, 5.0], strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert lines["PD"].get_xdata().tolist() == [10, 50] and lines["PD"].get_ydata().tolist() == [
            55 + more,
            60 + more,
        ]
        assert lines["RAND"].get_ydata().tolist() == [50, 52] and "ALL" not in lines
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [set(line.get_ydata()) for line in dashed] == [{58 + more}]
        assert {text.get_text() for text in axes.texts} == {"PD", "RAND", "ALL"}, "every line is named at its end"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "50"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim() and figure.axes[1].get_ylabel() == ""


def test_shares_of_one_budget_are_one_panel():
    means = pd.DataFrame(
        {"setting": "one pass", "method": ["PD", "PD", "ALL"], "share": [0.1, 0.3, 1.0], "value": 50.0}
    )
    assert len(plot_by_share(means.assign(low=49.0, high=51.0)).axes) == 1


def test_a_slider_is_a_panel_for_each_example_where_nothing_can_move():
    """By hand: of four pairs with one wrong label, PD keeps the wrong one last."""
    scores = pd.DataFrame({"PD": [-0.9, -0.5, 0.1, 0.2], "gold_wrong": [False, False, False, True]})
    assert slide_share(scores) is None
    few, half = plt.gcf().axes
    assert few.get_title(loc="left") == "10 % kept: 0 % of the kept labels are wrong, 25 % of all"
    assert half.get_title(loc="left") == "50 % kept: 0 % of the kept labels are wrong, 25 % of all"


def test_the_slider_of_budgets_names_who_wins_at_either_end():
    rows = [("PD", 0.1, 60.0), ("RAND", 0.1, 52.0), ("PD", 0.5, 61.0), ("RAND", 0.5, 63.0)]
    means = pd.DataFrame(rows, columns=["method", "share", "value"])
    slide_budget(means.assign(low=means["value"] - 1, high=means["value"] + 1))
    titles = [axes.get_title(loc="left") for axes in plt.gcf().axes]
    assert titles == ["share 0.1: PD wins most", "share 0.5: RAND wins most"]
