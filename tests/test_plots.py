"""Figures say what their frames say: titles and ticks, in the cases that the committed figures do not show."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.text import Text

from pdsel.plots import (
    plot_by_share,
    plot_divergence,
    plot_dumbbells,
    plot_frontier,
    plot_head_to_head,
    plot_league,
    plot_length,
    plot_length_study,
    plot_proxy_grid,
    plot_selection_cost,
    plot_sensitivity,
    plot_spread,
    plot_training,
    plot_win_rates,
    slide_budget,
    slide_share,
    use_style,
)
from pdsel.plots.style import name_points


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
        ((3, -1), "Labels on a favour length, on b brevity"),
        ((3, 1), "Labels on 2 of 2 aspects favour length, on a most"),
        ((-1, -3), "Labels on 2 of 2 aspects favour brevity, on b most"),
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


def test_the_cost_of_selecting_is_stacked_on_that_of_training():
    means = pd.DataFrame({"parameters": [168_640, 10_000_000], "selection": [0.6, 0.08], "kept": [0.32, 0.3]})
    axes = plot_selection_cost(means, 0.55).axes[0]
    tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
    assert tops == pytest.approx([0.32, 0.3, 0.92, 0.38])
    assert [text.get_text() for text in axes.texts] == ["0.92", "0.38"]
    expected = "Selecting costs 0.60 of training on all with 0.17 million weights, 0.08 with 10 million"
    assert axes.get_title(loc="left") == expected


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
    assert figure.get_suptitle() == (
        "From 10 to 50 % kept, PD gains 5 points (one pass), gains 5 points (as many steps as ALL)"
    )
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


def by_share(*values):
    """What `plot_by_share` reads, for one budget: PD's values at shares 0.1, 0.2 and so on, and ALL's 50."""
    shares = [number / 10 for number in range(1, len(values) + 1)]
    table = {"setting": "one pass", "method": ["PD"] * len(values) + ["ALL"], "share": [*shares, 1.0]}
    return pd.DataFrame(table | {"value": [*values, 50.0]}).assign(low=49.0, high=51.0)


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ((50.0, 52.0, 55.4), "From 10 to 30 % kept, PD gains 5 points (one pass)"),
        ((60.0, 57.0), "From 10 to 20 % kept, PD loses 3 points (one pass)"),
        ((60.0,), "What each rule makes of the share that it keeps"),
    ],
)
def test_shares_of_one_budget_are_one_panel_and_the_title_says_what_the_share_does(values, title):
    figure = plot_by_share(by_share(*values))
    assert len(figure.axes) == 1 and figure.get_suptitle() == title


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


def title_of(figure):
    return figure.get_suptitle() or figure.axes[0].get_title(loc="left")


def estimates(**columns):
    """A frame with columns, and intervals of one point to either side."""
    table = pd.DataFrame(columns)
    return table.assign(low=table["value"] - 1, high=table["value"] + 1)


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ([0.5, -0.5], "Of 2 changed settings, none has an interval without 0"),
        ([3.0, -0.5], "Of 2 changed settings, 1 has an interval without 0: gamma 1"),
        ([3.0, -3.0], "Of 2 changed settings, 2 have an interval without 0: gamma 1, large base"),
    ],
)
def test_the_figure_of_changed_settings_counts_intervals_without_0(value, title):
    assert title_of(plot_sensitivity(estimates(setting=["gamma 1", "large base"], value=value), 2)) == title


def test_dumbbells_say_who_leads_whom_under_both_conditions():
    both = estimates(method=["PD", "ALL"] * 2, condition=["few", "few", "by_far", "by_far"], value=[60, 50, 55, 57.0])
    figure = plot_dumbbells(both, ["few", "by_far"])
    assert title_of(figure) == "PD's lead on ALL: +10.0 points (few), -2.0 (by far)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["few", "by far"]


def test_the_league_says_the_ranks_of_pd_and_of_chance():
    table = estimates(value=[70.0, 60, 50]).rename(columns={"value": "win_rate"})
    table = table.set_axis(["SeRA", "PD", "RAND"]).assign(length_controlled=50.0, lc_low=49.0, lc_high=51.0)
    assert title_of(plot_league(table)) == "By win rate, PD is number 2 of 3, RAND number 3"
    assert title_of(plot_league(table, by="mean")).startswith("By mean, PD is number 2")
    assert title_of(plot_league(table.drop(index="RAND"))) == "SeRA wins most"


def test_training_says_where_loss_and_margin_go():
    log = pd.DataFrame({"step": [1, 2], "loss": [0.69, 0.5], "margin": [0.0, -0.25]})
    said = [axes.get_title(loc="left") for axes in plot_training(log).axes]
    assert said == ["The loss falls from 0.69 to 0.50", "The margin falls from 0.00 to -0.25"]


def test_spread_margins_say_how_often_the_best_subset_is_met_where_the_condition_holds():
    games = pd.DataFrame({"ratio": [0.5, 1, 2] * 2, "width": [0.1] * 3 + [0.2] * 3, "won": [1, 0.8, 0.8, 0, 0.4, 0.4]})
    title = title_of(plot_spread(games.assign(excess=1.0)))
    assert title == "Where the condition holds, the most negative PD is the best subset in 40 to 80 % of the worlds"


def test_the_study_of_length_names_the_best_setting_of_each_kind():
    rows = [("implicit", "none", 0.3), ("implicit", "tau 1", 0.2), ("shared", "none", 0.1), ("shared", "tau 1", 0.4)]
    means = pd.DataFrame(rows, columns=["kind", "setting", "distance"])
    means = means.assign(distance_low=means["distance"], distance_high=means["distance"])
    title = title_of(plot_length_study(means))
    assert title == "Nearest to the truth about length: implicit with tau 1, shared with none"


def test_duels_say_whom_the_first_beats():
    names = ["PD", "ALL", "RAND"]
    table = pd.DataFrame([[50, 60, 49], [40, 50, 50], [51, 50, 50]], index=names, columns=names)
    figure = plot_head_to_head(table, estimates(strength=[1.0, 0, -1], value=0.0).drop(columns="value").set_axis(names))
    assert title_of(figure) == "PD wins most of its duels against 1 of the 2 others"


def measured(length_controlled):
    """The metrics of three methods, of which PD(high) has the given win rate at equal length."""
    values = {"PD": (70.0, 70.0, 55), "RAND": (52.0, 52.0, 58), "PD(high)": (46.0, length_controlled, 66)}
    names = ["win_rate", "length_controlled_win_rate", "characters"]
    rows = [(method, name, value) for method, of in values.items() for name, value in zip(names, of, strict=True)]
    table = pd.DataFrame(rows, columns=["method", "metric", "value"])
    return table.assign(low=table["value"] - 1, high=table["value"] + 1)


def test_a_method_without_an_estimate_at_equal_length_is_named():
    figure = plot_frontier(measured(float("nan")))
    assert figure.get_supxlabel() == "no estimate at equal length: PD(high); either r is without it"
    correlations = {axes.get_title(loc="left").split(": ")[1] for axes in figure.axes}
    assert correlations == {"r = -1.00 with length"}, "of the same two methods"
    assert {text.get_text() for text in figure.axes[1].texts} == {"PD", "RAND"}
    assert plot_frontier(measured(45.0)).get_supxlabel() == ""
    said = [
        [text.get_text() for text in plot_win_rates(measured(value)).legends[0].get_texts()][1]
        for value in (float("nan"), 45.0)
    ]
    plain = "at the length of SFT's outputs"
    assert said == [f"{plain} (no estimate: PD(high))", plain]


def test_no_name_is_struck_through_by_an_interval():
    """By hand: two methods of nearly the same length, each with a long interval, and names that would cross them."""
    figure, axes = plt.subplots(figsize=(5, 4))
    axes.set(xlim=(50, 60), ylim=(40, 80))
    figure.draw_without_rendering()
    points, bars = {"RAF": (55.2, 60), "PD": (55.0, 60.5)}, [(55.2, 50, 70), (55.0, 50, 71)]
    name_points(axes, points, bars=bars)
    renderer = figure.canvas.get_renderer()
    for text in axes.texts:
        text.update_positions(renderer)
        box = Text.get_window_extent(text, renderer)
        for x, low, high in bars:
            (left, bottom), (_, top) = axes.transData.transform([(x, low), (x, high)])
            assert not (box.x0 < left < box.x1 and bottom < box.y1 and top > box.y0), text.get_text()
    assert {text.get_text() for text in axes.texts} == {"PD", "RAF"}
