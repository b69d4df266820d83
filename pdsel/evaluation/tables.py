"""Every metric of every method in one tidy table, from outcomes prompt by prompt."""

import numpy as np
import pandas as pd

from pdsel.checks import require_columns
from pdsel.evaluation.comparisons import mean_over_prompts_and_seeds
from pdsel.evaluation.estimates import Estimate, bootstrap_mean, checked_preferences
from pdsel.evaluation.length_control import lengths_apart, preferences_at_equal_length

KEYS = ["method", "prompt_id", "seed", "dataset"]


def tabulate(estimates):
    """A tidy table from `{(method, metric): Estimate}`: `method, metric, value, standard_error, low, high, n, variant`.

    >>> from pdsel.evaluation import win_rate
    >>> tabulate({("PD", "win_rate"): win_rate([1, 1])})[["method", "metric", "value"]].values.tolist()
    [['PD', 'win_rate', 100.0]]
    """
    columns = ["value", "standard_error", "low", "high", "n", "variant"]
    rows = [
        {"method": method, "metric": metric} | {column: getattr(estimate, column) for column in columns}
        for (method, metric), estimate in estimates.items()
    ]
    return pd.DataFrame(rows)


def apart(outcomes, *, baseline="SFT"):
    """Why a method cannot be compared with the baseline at equal length, by method: "" where it can, see `lengths_apart`.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        See `scored`. Seeds are taken together.

    Examples
    --------
    >>> outcomes = pd.DataFrame({"method": ["SFT", "SFT", "PD", "PD"], "prompt_id": list("abab"), "characters": [9, 9, 5, 6]})
    >>> apart(outcomes).to_dict()
    {'SFT': '', 'PD': 'only 0 % longer'}
    """
    lengths = outcomes.assign(of_baseline=_lengths_of(outcomes, baseline))
    reasons = {
        method: lengths_apart(rows["characters"], rows["of_baseline"])
        for method, rows in lengths.groupby("method", sort=False)
    }
    return pd.Series(reasons, dtype=object)


def _lengths_of(outcomes, baseline):
    """The characters of the baseline's output on the prompt (and seed) of every row."""
    keys = [name for name in ("seed", "prompt_id") if name in outcomes]
    of_baseline = outcomes.loc[outcomes["method"] == baseline, [*keys, "characters"]]
    return outcomes[keys].merge(of_baseline, on=keys, how="left", validate="many_to_one")["characters"].to_numpy()


def scored(outcomes, *, baseline="SFT"):
    """Outcomes with AlpacaEval's metrics as columns, prompt by prompt: `win_rate`, `length_controlled_win_rate`, in percent.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        A row per method, prompt and, where there is a column of that name, `seed`: `method, prompt_id`, `preference` against
        the baseline in [0, 1], `characters` of the output, and any numeric columns whose means are of interest.
    baseline : str
        The method that the others are judged against. It needs rows too: they say how long its outputs are.

    Returns
    -------
    pandas.DataFrame
        The two columns replace `preference`. A method's metric is the mean over its rows, so every interval and paired
        test for means works on them. The length-controlled win rate is NaN for methods whose lengths lie `apart`.
    """
    require_columns(outcomes.columns, ["method", "prompt_id", "preference", "characters"], "outcomes")
    judged = outcomes.assign(length_baseline=_lengths_of(outcomes, baseline), length_model=outcomes["characters"])
    at_equal_length = preferences_at_equal_length(judged, baseline=baseline)
    comparable = (outcomes["method"].map(apart(outcomes, baseline=baseline)) == "").to_numpy()
    scores = outcomes.drop(columns="preference").assign(
        win_rate=100 * checked_preferences(outcomes["preference"]),
        length_controlled_win_rate=100 * at_equal_length.where(comparable),
    )
    scores.attrs["length_controlled_win_rate"] = at_equal_length.attrs["variant"]
    return scores


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
        Tidy, see `tabulate`: `win_rate`, `length_controlled_win_rate`, and the mean of every other numeric column. Where a
        method's lengths lie `apart`, the length-controlled win rate is NaN and its `variant` says why.
    """
    scores = scored(outcomes, baseline=baseline)
    metrics = [column for column in scores if column not in KEYS]
    estimates = {
        (method, metric): _mean(rows, metric)
        for method, rows in scores.groupby("method", sort=False)
        for metric in metrics
    }
    table = tabulate(estimates)
    controlled = table["metric"] == "length_controlled_win_rate"
    how = scores.attrs["length_controlled_win_rate"] + "; " + table.loc[controlled, "variant"]
    why_not = table.loc[controlled, "method"].map(apart(outcomes, baseline=baseline))
    table.loc[controlled, "variant"] = why_not.where(why_not != "", how)
    return table


def means(outcomes, by, metric="win_rate"):
    """The mean of a metric for every setting, with its interval over prompts and seeds.

    Returns
    -------
    pandas.DataFrame
        `by`, and `value, low, high, seeds`; NaN where the metric is NaN throughout.

    Examples
    --------
    >>> outcomes = pd.DataFrame({"method": "PD", "seed": [0, 0, 1, 1], "prompt_id": list("abab"), "win_rate": [1.0, 2, 3, 4]})
    >>> means(outcomes, ["method"])[["method", "value", "seeds"]].values.tolist()
    [['PD', 2.5, 2]]
    """
    rows = []
    for names, group in outcomes.groupby(by, sort=False):
        estimate = _mean_over_seeds(group, metric)
        setting = dict(zip(by, names, strict=True))
        interval = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
        rows.append(setting | interval | {"seeds": group["seed"].nunique()})
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
        As `tabulate`, with a column `dataset`. Rows of the dataset "mean" give every set the same weight, however many
        prompts it has.
    """
    require_columns(outcomes.columns, ["method", "prompt_id", "dataset", "preference"], "outcomes")
    scores = outcomes.assign(score=1 + np.sign(checked_preferences(outcomes["preference"]) - 0.5))
    tables = []
    for method, rows in scores.groupby("method", sort=False):
        # A prompt of a set with few prompts counts for more, so that the plain mean is the mean over sets.
        weight = rows.groupby("dataset")["score"].transform("size") * rows["dataset"].nunique() / len(rows)
        sets = {"mean": rows.assign(score=rows["score"] / weight)} | dict(list(rows.groupby("dataset", sort=False)))
        for dataset, prompts in sets.items():
            estimate = _mean(prompts, "score")
            tables.append(tabulate({(method, "winning_score"): estimate}).assign(dataset=dataset))
    return pd.concat(tables, ignore_index=True)


def _mean(rows, column):
    """The mean with its interval: over prompts and seeds where there are several seeds, else over prompts."""
    if "seed" in rows and rows["seed"].nunique() > 1:
        return _mean_over_seeds(rows, column)
    if rows[column].isna().all():
        return _blank(rows)
    return bootstrap_mean(rows[column].to_numpy())


def _mean_over_seeds(rows, column):
    if rows[column].isna().all():
        return _blank(rows)
    return mean_over_prompts_and_seeds(rows.pivot(index="seed", columns="prompt_id", values=column))


def _blank(rows):
    """What is said of a number that is not given."""
    nothing = float("nan")
    return Estimate(nothing, nothing, nothing, nothing, "not given", rows["prompt_id"].nunique())
