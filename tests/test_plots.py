"""Figures say what their frames say: titles and ticks, in the cases that the committed figures do not show."""

import pandas as pd
import pytest

from pdsel.plots import plot_divergence, plot_length, plot_proxy_grid


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
    assert plot_length(table).axes[0].get_title() == title


def test_a_histogram_without_gold_says_how_many_pairs_are_kept():
    scores = pd.DataFrame({"PD": [-0.9, -0.5, 0.1, 0.2]})
    assert plot_divergence(scores, -0.5).axes[0].get_title() == "PD keeps the 50 % of the pairs with the lowest values"


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
