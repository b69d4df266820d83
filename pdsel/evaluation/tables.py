"""Every metric of every method in one tidy table, from outcomes prompt by prompt."""

import numpy as np
import pandas as pd

from pdsel.checks import require_columns
from pdsel.evaluation.comparisons import mean_over_prompts_and_seeds
from pdsel.evaluation.estimates import bootstrap_mean, checked_preferences
from pdsel.evaluation.length_control import preferences_at_equal_length

KEYS = ["method", "prompt_id", "seed", "dataset"]


def tabulate(estimates):
    """A tidy table from `{(method, metric): Estimate}`: `method, metric, value, standard_error, low, high, n, variant`.

    >>> from pdsel.evaluation import win_rate
    >>> tabulate({("PD", "win_rate"): win_rate([1, 1])})[["method", "metric", "value"]].values.tolist()
    [['PD', 'win_rate', 100.0]]
    """
    rows = [
        {
            "method": method,
            "metric": metric,
            "value": e.value,
            "standard_error": e.standard_error,
            "low": e.low,
            "high": e.high,
            "n": e.n,
            "variant": e.variant,
        }
        for (method, metric), e in estimates.items()
    ]
    return pd.DataFrame(rows)


def scored(outcomes, *, baseline="SFT"):
    """Outcomes with AlpacaEval's metrics as columns, prompt by prompt: `win_rate`, `length_controlled_win_rate`, in percent.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        A row per method, prompt and, where there is a column of that name, `seed`: `method, prompt_id`, `preference` against
        the baseline in [0, 1], `characters` of the output, and any numeric columns whose means are of interest.
    baseline : str
        The method that the others are judged against. It needs rows, for its lengths.

    Returns
    -------
    pandas.DataFrame
        `preference` replaced by the two columns; means over a method's rows are its metrics, so that every interval and
        paired test works on them.
    """
    require_columns(outcomes.columns, ["method", "prompt_id", "preference", "characters"], "outcomes")
    keys = [name for name in ("seed", "prompt_id") if name in outcomes]
    base = outcomes.loc[outcomes["method"] == baseline, [*keys, "characters"]]
    lengths = outcomes[keys].merge(base, on=keys, how="left", validate="many_to_one")["characters"].to_numpy()
    judged = outcomes.assign(length_baseline=lengths, length_model=outcomes["characters"])
    level = preferences_at_equal_length(judged, baseline=baseline)
    table = outcomes.drop(columns="preference").assign(
        win_rate=100 * checked_preferences(outcomes["preference"]), length_controlled_win_rate=100 * level
    )
    table.attrs["length_controlled_win_rate"] = level.attrs["variant"]
    return table


def measure(outcomes, *, baseline="SFT"):
    """Every metric of every method with its 95 % interval: over prompts, and over seeds where there are several.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        See `scored`.
    baseline : str

    Returns
    -------
    pandas.DataFrame
        Tidy, see `tabulate`: `win_rate`, `length_controlled_win_rate`, and the mean of every other numeric column.
    """
    table = scored(outcomes, baseline=baseline)
    metrics = [column for column in table if column not in KEYS]
    found = tabulate(
        {
            (method, metric): _mean(rows, metric)
            for method, rows in table.groupby("method", sort=False)
            for metric in metrics
        }
    )
    controlled = found["metric"] == "length_controlled_win_rate"
    found.loc[controlled, "variant"] = (
        table.attrs["length_controlled_win_rate"] + "; " + found.loc[controlled, "variant"]
    )
    return found


def means(outcomes, by, metric="win_rate"):
    """The mean of a metric for every setting, with its interval over prompts and seeds.

    Returns
    -------
    pandas.DataFrame
        `by`, and `value, low, high, seeds`.

    Examples
    --------
    >>> outcomes = pd.DataFrame({"method": "PD", "seed": [0, 0, 1, 1], "prompt_id": list("abab"), "win_rate": [1.0, 2, 3, 4]})
    >>> means(outcomes, ["method"])[["method", "value", "seeds"]].values.tolist()
    [['PD', 2.5, 2]]
    """
    rows = []
    for names, group in outcomes.groupby(by, sort=False):
        found = mean_over_prompts_and_seeds(group.pivot(index="seed", columns="prompt_id", values=metric))
        rows.append(
            dict(zip(by, names, strict=True))
            | {"value": found.value, "low": found.low, "high": found.high, "seeds": group["seed"].nunique()}
        )
    return pd.DataFrame(rows)


def winning_scores(outcomes):
    """The winning score of every method on every prompt set, and their mean (the paper's AW).

    Parameters
    ----------
    outcomes : pandas.DataFrame
        `method, prompt_id, dataset`, `preference` against the method that AW compares with, and `seed` where there are several.

    Returns
    -------
    pandas.DataFrame
        As `tabulate`, with a column `dataset`; rows of the dataset "mean" weigh every set alike, however many prompts it has.
    """
    require_columns(outcomes.columns, ["method", "prompt_id", "dataset", "preference"], "outcomes")
    table = outcomes.assign(score=1 + np.sign(checked_preferences(outcomes["preference"]) - 0.5))
    tables = []
    for method, rows in table.groupby("method", sort=False):
        share = rows.groupby("dataset")["score"].transform("size") * rows["dataset"].nunique() / len(rows)
        parts = {"mean": rows.assign(score=rows["score"] / share), **dict(list(rows.groupby("dataset", sort=False)))}
        for name, part in parts.items():
            tables.append(tabulate({(method, "winning_score"): _mean(part, "score")}).assign(dataset=name))
    return pd.concat(tables, ignore_index=True)


def _mean(rows, column):
    if "seed" in rows and rows["seed"].nunique() > 1:
        return mean_over_prompts_and_seeds(rows.pivot(index="seed", columns="prompt_id", values=column))
    return bootstrap_mean(rows[column].to_numpy())
