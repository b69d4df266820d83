"""What the documents say of a league: its tables as text, and which rule to take when."""

import numpy as np
import pandas as pd

from pdsel.evaluation.estimates import interval
from pdsel.experiments.league import league_grid, league_means, league_orders, league_table, load_league
from pdsel.rules import RULES, needs
from pdsel.rules.alternatives import ALTERNATIVES
from pdsel.rules.built import BUILT
from pdsel.rules.signals import Cost, cost

SITUATIONS = {  # what one has: what signals may cost, whether all ratings are there, and what to rank by
    "no ratings, and no time to train": (Cost.READING, False, "win_rate"),
    "no ratings": (Cost.TRAINING, False, "win_rate"),
    "a reward model, and no time to train": (Cost.REWARD, False, "win_rate"),
    "each pair rated on one aspect": (Cost.ASPECTS, False, "win_rate"),
    "each pair rated on all aspects": (Cost.ASPECTS, True, "win_rate"),
    "noisy labels": (Cost.ASPECTS, False, "wrong"),
    "raters who favour long answers": (Cost.ASPECTS, False, "length_controlled"),
}
NUMBERS = {
    "win_rate": "win rate, %",
    "wrong": "wrong labels kept, % (fewest)",
    "length_controlled": "length-controlled win rate, %",
}


def league_rows(table):
    """The league as text, for the documents: intervals in brackets, * where a corrected p is below .05.

    An interval over three seeds can leave the percentages there are; it is cut at 0 and 100.
    """
    rows = []
    for name, row in table.iterrows():
        text = {
            "rule": name,
            "source": source(name),
            "win rate": _percent(row["win_rate"], row["low"], row["high"]),
            "at equal length": _percent(row["length_controlled"], row["lc_low"], row["lc_high"]),
            "utility": f"{row['utility']:.3f}",
            "wrong labels (%)": f"{row['wrong']:.1f}",
            "selection (s)": f"{row['selection_seconds']:.0f}",
        }
        for other in (column[6:] for column in table if column.startswith("minus ")):
            star = "*" if row[f"p {other}"] < 0.05 else ""
            text[f"- {other}"] = "" if np.isnan(row[f"minus {other}"]) else f"{row[f'minus {other}']:+.1f}{star}"
        rows.append(text)
    return pd.DataFrame(rows)


def _percent(value, low, high):
    """A rate with its interval, cut to what a rate can be."""
    return interval(value, max(low, 0), min(high, 100))


def orders_rows(orders):
    """`league_orders` as text."""
    text = {
        "conflict": [f"{100 * level:g} %" for level in orders["conflict"]],
        "kept": [f"{100 * share:g} %" for share in orders["share"]],
        "rules": orders["rules"],
        "like the order above (Spearman)": ["" if np.isnan(value) else f"{value:.2f}" for value in orders["spearman"]],
        "best": orders["best"],
        "PD's place": orders["PD"].astype(str).replace("<NA>", ""),
        "RAND's place": orders["RAND"].astype(str).replace("<NA>", ""),
    }
    return pd.DataFrame(text)


def league_texts(results):
    """What the documents say of a league, frames of text by name; {} where there is none."""
    if not (found := load_league(results)):
        return {}
    grid, means = league_grid(results), league_means(results)
    return {
        "league": league_rows(league_table(*found)),
        "league_means": league_rows(means),
        "recommended": recommend(means),
        "league_grid": grid_rows(grid),
        "league_orders": orders_rows(league_orders(grid)),
    }


def source(name):
    """Where a rule or loss comes from; "" for the paper's own reference methods."""
    return next((table[name].source for table in (RULES, BUILT, ALTERNATIVES) if name in table), "")


def recommend(table, *, top=3):
    """Which rule when: for every situation the best rules of the league that one could use there.

    `table`: from `league_table`, or, over more conditions, from `league_means`.

    Alternatives to the loss are no rules and are left out. Differences within a row may be chance: see the intervals. The
    reward model of the league is one trained on all pairs as labelled; another may be better or worse.

    Returns
    -------
    pandas.DataFrame
        `situation`, `number` (what the rules are ranked by, with its unit), `1., 2., ...`: names with that number; "" where
        fewer rules were run that one could use there.
    """
    rows = []
    for situation, (allowed, rated, by) in SITUATIONS.items():
        usable = [
            name
            for name, rule in {**RULES, **BUILT}.items()
            if name in table.index and cost(needs(rule.score)) <= allowed and (rated or not rule.needs_ratings)
        ]
        best = table.loc[usable, by].dropna().sort_values(ascending=by == "wrong", kind="stable").head(top)
        named = [f"{name} ({value:.1f})" for name, value in best.items()] + [""] * (top - len(best))
        rows.append(
            {"situation": situation, "number": NUMBERS[by]} | {f"{place}.": text for place, text in enumerate(named, 1)}
        )
    return pd.DataFrame(rows)


def grid_rows(grid):
    """The grid of conditions as text, a column each, in the order of the mean over conditions; "" for what was not run.

    >>> grid = pd.DataFrame({"method": ["PD", "PD"], "share": [0.1, 0.3], "conflict": 0.3, "win_rate": [50.0, 60.0],
    ...                      "low": [45.0, 55.0], "high": [55.0, 101.0]})
    >>> grid_rows(grid).iloc[0].to_dict()
    {'rule': 'PD', 'conflict 30 %, 10 % kept': '50.0 [45.0, 55.0]', 'conflict 30 %, 30 % kept': '60.0 [55.0, 100.0]'}
    """
    text = [_percent(*row) for row in grid[["win_rate", "low", "high"]].values.tolist()]
    wide = grid.assign(text=text).pivot(index="method", columns=["conflict", "share"], values="text").fillna("")
    order = grid.groupby("method")["win_rate"].mean().sort_values(ascending=False).index
    wide = wide.loc[order].sort_index(axis=1)
    wide.columns = [f"conflict {100 * level:g} %, {100 * share:g} % kept" for level, share in wide.columns]
    return wide.rename_axis("rule").reset_index()
