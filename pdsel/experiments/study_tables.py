"""Means over seeds of the studies of proxies: the numbers behind the tables and figures of notebooks 08 to 09."""

import pandas as pd
from scipy import stats

INFINITE = 1e6  # a temperature from which on sampling is even; JSON has no infinity


def over_seeds(table, by, columns):
    """Means over seeds and their 95 % t-intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `run_cells`, with a column `seed`; several rows of a seed (its aspects) are averaged first.
    by : list of str
        The columns that tell the settings apart.
    columns : list of str
        Numbers to average.

    Returns
    -------
    pandas.DataFrame
        `by`, and for every column its mean, `<column>_low` and `<column>_high`; in the order of first appearance. One seed
        gives no interval: low and high are NaN.

    Examples
    --------
    >>> table = pd.DataFrame({"kind": "a", "seed": [0, 0, 1], "accuracy": [0.5, 0.7, 0.8]})
    >>> over_seeds(table, ["kind"], ["accuracy"]).round(2)
      kind  accuracy  accuracy_low  accuracy_high
    0    a       0.7         -0.57           1.97
    """
    of_seed = table.groupby([*by, "seed"], sort=False, dropna=False)[columns].mean()
    seeds = of_seed.groupby(by, sort=False, dropna=False)
    mean, half = seeds.mean(), seeds.sem() * stats.t.ppf(0.975, seeds.count() - 1)
    bounds = {"": mean, "_low": mean - half, "_high": mean + half}
    wide = pd.concat([frame.add_suffix(end) for end, frame in bounds.items()], axis=1)
    return wide[[f"{column}{end}" for column in columns for end in bounds]].reset_index()


def cost_shares(costs):
    """What selecting and training on the kept pairs cost as shares of training on all, in CPU seconds, by size and kind.

    Parameters
    ----------
    costs : pandas.DataFrame
        Rows of `pdsel.experiments.cost_study.cost_cell`, a row per seed and setting.

    Returns
    -------
    pandas.DataFrame
        `parameters` of the policy, `kind`, and `selection, kept, ratio` (their sum) as `over_seeds` gives them.

    Examples
    --------
    >>> spent = {"cpu_selection": 1.0, "cpu_kept": 3.0, "cpu_all": 10.0, "cpu_ratio": 0.4}
    >>> cost_shares(pd.DataFrame([{"parameters": 1000, "kind": "probe", "seed": 0} | spent]))[["selection", "kept", "ratio"]]
       selection  kept  ratio
    0        0.1   0.3    0.4
    """
    parts = {part: costs[f"cpu_{part}"] / costs["cpu_all"] for part in ("selection", "kept")}
    return over_seeds(costs.assign(**parts, ratio=costs["cpu_ratio"]), ["parameters", "kind"], [*parts, "ratio"])


def name_setting(row):
    """A length mitigation in words.

    >>> name_setting({"length_penalty": 0.02, "length_sign": "plus", "length_balance": 0.5})
    'rho .02 plus, tau .5'
    >>> name_setting({"length_penalty": float("nan"), "length_balance": 1e9}), name_setting({})
    ('tau infinite', 'none')
    """
    rho, tau = row.get("length_penalty"), row.get("length_balance")
    parts = []
    if pd.notna(rho) and rho:
        parts.append(f"rho {rho:g} {row['length_sign']}".replace(" 0.", " ."))
    if pd.notna(tau) and tau:
        parts.append("tau infinite" if tau >= INFINITE else f"tau {tau:g}".replace(" 0.", " ."))
    return ", ".join(parts) or "none"


def length_means(length):
    """The study of length: a row per kind and mitigation, means over aspects and then seeds.

    Parameters
    ----------
    length : pandas.DataFrame
        Rows of `pdsel.experiments.proxy_studies.proxy_cell` with `length_penalty, length_sign, length_balance`.

    Returns
    -------
    pandas.DataFrame
        `kind, setting`, and with intervals `excess` (correlation of the margins with length minus that of the truth),
        `distance` (its size), `accuracy`, `wrong_kept`.
    """
    return over_seeds(_excess(length), ["kind", "setting"], ["excess", "distance", "accuracy", "wrong_kept"])


def _excess(length):
    excess = length["length"] - length["truth_length"]
    settings = [name_setting(row) for row in length.to_dict("records")]
    return length.assign(setting=settings, excess=excess, distance=excess.abs())


def length_gains(length):
    """What each mitigation takes off the distance to the truth's correlation with length, paired by seed.

    Parameters
    ----------
    length : pandas.DataFrame
        See `length_means`.

    Returns
    -------
    pandas.DataFrame
        `kind, setting, gain, gain_low, gain_high`; a positive gain is nearer to the truth than no remedy is.
    """
    of_seed = _excess(length).groupby(["kind", "setting", "seed"], sort=False)["distance"].mean().reset_index()
    without = of_seed[of_seed["setting"] == "none"].set_index(["kind", "seed"])["distance"]
    remedies = of_seed[of_seed["setting"] != "none"]
    before = without.loc[pd.MultiIndex.from_frame(remedies[["kind", "seed"]])].to_numpy()
    return over_seeds(remedies.assign(gain=before - remedies["distance"]), ["kind", "setting"], ["gain"])
