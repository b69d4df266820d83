"""What the documents say of a league: its tables as text, and which rule to take when."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pdsel.data.markdown import markdown
from pdsel.evaluation import STAR_SEEDS, best_methods, blank, interval, means
from pdsel.experiments.league import USUAL, league_grid, league_means, league_orders, league_table, load_league
from pdsel.rules import RULES, needs
from pdsel.rules.alternatives import ALTERNATIVES
from pdsel.rules.built import BUILT
from pdsel.rules.signals import Cost, cost


@dataclass(frozen=True)
class Situation:
    """What somebody who has to choose a rule may read, and the condition of the league that was run for it.

    Attributes
    ----------
    condition : str
        One of `pdsel.experiments.league.CONDITIONS`.
    allowed : Cost
        The most that the signals of a rule may cost.
    rated : bool
        Whether every pair is rated on all aspects.
    """

    condition: str
    allowed: Cost = Cost.ASPECTS
    rated: bool = False


SITUATIONS = {
    "no ratings: labels without an aspect": Situation(USUAL, Cost.TRAINING),
    "each pair rated on one aspect": Situation(USUAL),
    "each pair rated on all aspects": Situation(USUAL, rated=True),
    "noisy raters": Situation("noisy raters"),
    "raters fond of length": Situation("raters fond of length"),
}
BEST, BESIDE = "best: win rate against SFT (%)", "cannot be told from it"


def league_rows(table):
    """The league as text, for the documents: intervals in brackets, * where a corrected p is below .05.

    With fewer than `STAR_SEEDS` seeds there are no stars, since too many would be chance. An interval over few seeds can
    leave the percentages there are; it is cut at 0 and 100.
    """
    rows = []
    for name, row in table.iterrows():
        text = {
            "rule": name,
            "source": source(name),
            "seeds": row["seeds"],
            "win rate": _percent(row["win_rate"], row["low"], row["high"]),
            "at equal length": _at_equal_length(row),
            "utility": f"{row['utility']:.3f}",
            "wrong labels (%)": f"{row['wrong']:.1f}",
            "selection (s)": f"{row['selection_seconds']:.0f}",
        }
        for other in (column[6:] for column in table if column.startswith("minus ")):
            star = "*" if row[f"p {other}"] < 0.05 and row["seeds"] >= STAR_SEEDS else ""
            text[f"- {other}"] = "" if np.isnan(row[f"minus {other}"]) else f"{row[f'minus {other}']:+.1f}{star}"
        rows.append(text)
    return pd.DataFrame(rows)


def _at_equal_length(row):
    return (
        blank(row["lc_blank"]) if row["lc_blank"] else _percent(row["length_controlled"], row["lc_low"], row["lc_high"])
    )


def stars_note(table):
    """What a star in the league means, or why there is none, as a sentence; `table`: from `league_table`.

    >>> stars_note(pd.DataFrame({"seeds": [3, 3, 3]}))
    '2 comparisons over 3 seeds: no stars, since with fewer than 8 seeds too many would be chance.'
    """
    compared = f"{len(table) - 1} comparisons over {table['seeds'].max()} seeds"
    if table["seeds"].max() < STAR_SEEDS:
        return f"{compared}: no stars, since with fewer than {STAR_SEEDS} seeds too many would be chance."
    return (
        f"\\* marks a p below .05 by moderated t, Holm-corrected: {compared}. In simulated leagues without any difference "
        "at most 7 % have a star (`make calibrate`)."
    )


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
        "PD's place": ["" if pd.isna(place) else str(place) for place in orders["PD"]],
        "RAND's place": ["" if pd.isna(place) else str(place) for place in orders["RAND"]],
    }
    return pd.DataFrame(text)


def league_texts(results):
    """What the documents say of a league, in Markdown, by name; {} where there is none."""
    if not (found := load_league(results)):
        return {}
    grid, table = league_grid(results), league_table(*found)
    frames = {
        "league": league_rows(table),
        "league_means": league_rows(league_means(results)),
        "recommended": recommend(results),
        "league_grid": grid_rows(grid),
        "league_orders": orders_rows(league_orders(grid)),
    }
    return {name: markdown(frame) for name, frame in frames.items()} | {"stars": stars_note(table)}


def source(name):
    """Where a rule or loss comes from; "" for the paper's own reference methods."""
    return next((table[name].source for table in (RULES, BUILT, ALTERNATIVES) if name in table), "")


def recommend(results):
    """Which rule when: for every situation whose condition was run, the best rule that one could use there, and its equals.

    A condition that was not run, or on fewer than `STAR_SEEDS` seeds, gives no row. Alternatives to the loss are no rules and
    are left out. The interval of the best rule does not know that the rule was chosen for its win rate, so it sits too
    high; the set of rules that cannot be told from the best does know it (`best_methods`).

    Parameters
    ----------
    results : str or Path
        The folder of a league.

    Returns
    -------
    pandas.DataFrame
        `situation`, `condition` (of the raters), `seeds`, `rules` (how many were compared), the best rule with its win rate,
        and the names of the rules that cannot be told from it.
    """
    rows = []
    for name, situation in SITUATIONS.items():
        found = load_league(results, condition=situation.condition)
        if found is None:
            continue
        outcomes = _comparable(found[0][found[0]["method"].isin(_usable(situation))])
        seeds = outcomes["seed"].nunique()
        if seeds >= STAR_SEEDS:
            rows.append({"situation": name, "condition": situation.condition or "usual raters"} | _best(outcomes))
    return pd.DataFrame(rows, columns=["situation", "condition", "seeds", "rules", BEST, BESIDE])


def _usable(situation):
    """The rules that read no more than there is."""
    return [
        name
        for name, rule in {**RULES, **BUILT}.items()
        if cost(needs(rule.score)) <= situation.allowed and (situation.rated or not rule.needs_ratings)
    ]


def _comparable(outcomes):
    """The outcomes of the rules that were run on every seed."""
    seeds = outcomes.groupby("method")["seed"].nunique()
    return outcomes[outcomes["method"].isin(seeds.index[seeds == outcomes["seed"].nunique()])]


def _best(outcomes):
    """The cells of a recommendation: the best rule, and those that cannot be told from it."""
    judged = outcomes.assign(win_rate=100 * outcomes["preference"])
    best, *equals = best_methods(judged, metric="win_rate")
    rate = means(judged[judged["method"] == best], ["method"], "win_rate").iloc[0]
    return {
        "seeds": rate["seeds"],
        "rules": judged["method"].nunique(),
        BEST: f"{best} {_percent(rate['value'], rate['low'], rate['high'])}",
        BESIDE: ", ".join(equals) or "none",
    }


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
