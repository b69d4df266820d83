"""What the studies' tables say: means over seeds, and the rows and sentences that notebooks and README print."""

import pandas as pd
from scipy import stats

INFINITE = 1e6  # a temperature from which on sampling is even; JSON has no infinity


def over_seeds(table, by, columns):
    """Mean over seeds and its 95 % t-interval.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `run_cells`, with a column `seed`; several rows of a seed (its aspects) are averaged first.
    by : list of str
        What tells the settings apart.
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
    grouped = (
        table.groupby([*by, "seed"], sort=False, dropna=False)[columns].mean().groupby(by, sort=False, dropna=False)
    )
    mean, half = grouped.mean(), grouped.sem() * stats.t.ppf(0.975, grouped.count() - 1)
    ordered = [frame.add_suffix(end) for end, frame in [("", mean), ("_low", mean - half), ("_high", mean + half)]]
    return pd.concat(ordered, axis=1)[[f"{c}{end}" for c in columns for end in ("", "_low", "_high")]].reset_index()


def name_setting(row):
    """A length mitigation in words.

    >>> name_setting({"length_penalty": 0.02, "length_sign": "plus", "length_balance": 0.5})
    'rho .02 plus, tau .5'
    >>> name_setting({"length_penalty": float("nan"), "length_balance": 1e9}), name_setting({})
    ('tau infinite', 'none')
    """
    rho, tau = (row.get(name) if pd.notna(row.get(name)) else None for name in ("length_penalty", "length_balance"))
    parts = [f"rho {rho:g} {row['length_sign']}".replace(" 0.", " .")] if rho else []
    if tau:
        parts += ["tau infinite" if tau >= INFINITE else f"tau {tau:g}".replace(" 0.", " .")]
    return ", ".join(parts) or "none"


def text(row, column, style=".2f", factor=1):
    """A mean with its interval as text, or alone where one seed gives none.

    >>> text({"accuracy": 0.7, "accuracy_low": 0.6, "accuracy_high": 0.8}, "accuracy", ".0f", 100)
    '70 [60, 80]'
    """
    mean, low, high = (factor * row[column + end] for end in ("", "_low", "_high"))
    if factor == 100:  # a share cannot leave [0, 1], a t-interval over few seeds can
        low, high = max(low, 0), min(high, 100)
    return f"{mean:{style}}" + (f" [{low:{style}}, {high:{style}}]" if pd.notna(low) else "")


def proxy_rows(proxies):
    """The study of kinds, sizes and shares as text, a row per setting.

    `proxies`: rows of `pdsel.experiments.proxy_studies.proxy_cell`, a row per seed, setting and aspect.
    """
    by = ["base", "kind", "share"]
    numbers = ["accuracy", "calibration_error", "spearman", "wrong_kept"]
    means = over_seeds(proxies, by, numbers)
    cost = proxies.groupby([*by, "seed"], sort=False)["n_tokens"].sum().groupby(by, sort=False).mean()
    rows = []
    for row in means.to_dict("records"):
        tokens = cost.loc[tuple(row[name] for name in by)]
        rows.append(
            {
                "base": row["base"],
                "kind": row["kind"],
                "p_r": f"{row['share']:g}",
                "right on others' pairs (%)": text(row, "accuracy", ".1f", 100),
                "calibration error": text(row, "calibration_error"),
                "PD's rank correlation": text(row, "spearman"),
                "wrong labels kept (%)": text(row, "wrong_kept", ".1f", 100),
                "training tokens (k)": f"{tokens / 1000:.0f}",
            }
        )
    return pd.DataFrame(rows)


def length_means(length):
    """The study of length: a row per kind and mitigation, means over aspects and then seeds.

    `length`: rows of `pdsel.experiments.proxy_studies.proxy_cell` with `length_penalty, length_sign, length_balance`.

    Returns
    -------
    pandas.DataFrame
        `kind, setting`, and with intervals `excess` (correlation of the margins with length minus that of the truth),
        `distance` (its size), `accuracy`, `wrong_kept`.
    """
    return over_seeds(_named(length), ["kind", "setting"], ["excess", "distance", "accuracy", "wrong_kept"])


def _named(length):
    excess = length["length"] - length["truth_length"]
    settings = [name_setting(row) for row in length.to_dict("records")]
    return length.assign(setting=settings, excess=excess, distance=excess.abs())


def length_rows(length):
    """The study of length as text, a row per kind and mitigation."""
    return pd.DataFrame(
        [
            {
                "kind": row["kind"],
                "mitigation": row["setting"],
                "correlation above the truth's": text(row, "excess", "+.2f"),
                "its size": text(row, "distance"),
                "right on others' pairs (%)": text(row, "accuracy", ".1f", 100),
                "wrong labels kept (%)": text(row, "wrong_kept", ".1f", 100),
            }
            for row in length_means(length).to_dict("records")
        ]
    )


def length_gains(length):
    """What each mitigation takes off the distance to the truth's correlation with length, paired by seed.

    Returns
    -------
    pandas.DataFrame
        `kind, setting, gain, gain_low, gain_high`; positive is nearer to the truth than without a remedy.
    """
    means = (
        _named(length).groupby(["kind", "setting", "seed"], sort=False)["distance"].mean().rename("gain").reset_index()
    )
    none = means[means["setting"] == "none"].set_index(["kind", "seed"])["gain"]
    others = means[means["setting"] != "none"].copy()
    others["gain"] = none.loc[pd.MultiIndex.from_frame(others[["kind", "seed"]])].to_numpy() - others["gain"]
    return over_seeds(others, ["kind", "setting"], ["gain"])


def length_verdict(length):
    """Bullets: the raters' bias, then for each kind its own, the remedy that takes most of it off, and whether surely."""
    named, gains = _named(length), length_gains(length)
    raters = (named["raters_length"] - named["truth_length"]).mean()
    lines = [
        f"The raters' correlation with length is {raters:+.2f} above the truth's, mean over aspects: the bias to remove."
    ]
    for kind, rows in length_means(length).groupby("kind", sort=False):
        rows, gain = rows.set_index("setting"), gains[gains["kind"] == kind].set_index("setting")
        best = gain.loc[gain["gain"].idxmax()]
        surely = "surely" if best["gain_low"] > 0 else "but the interval over seeds does not exclude zero"
        none, then = rows.loc["none"], rows.loc[best.name]
        signs = [gain.loc[gain.index.str.contains(sign), "gain"].mean() for sign in ("plus", "minus")]
        lines.append(
            f"*{kind}*: {none['excess']:+.2f} from the truth's without a remedy, {none['distance']:.2f} in size. Most is taken "
            f"off by {best.name}: {text(best, 'gain')}, {surely}; accuracy on the others' pairs goes from "
            f"{100 * none['accuracy']:.1f} to {100 * then['accuracy']:.1f} %, wrong labels kept from "
            f"{100 * none['wrong_kept']:.1f} to {100 * then['wrong_kept']:.1f} %. "
            f"Penalties take off {signs[0]:+.2f} with *plus* and {signs[1]:+.2f} with *minus*, mean over rho."
        )
    return "\n".join(f"- {line}" for line in lines)


def failure_rows(failures):
    """The failures as text, a row per case: what PD is worth, and in how many worlds a warning was given.

    `failures`: rows of `pdsel.experiments.proxy_studies.failure_cell`.
    """
    failures = failures.assign(warned=failures["seen_warning"].astype(object).fillna("") != "")
    worlds = (
        failures.groupby(["case", "seed"], sort=False)["warned"].any().groupby("case", sort=False).agg(["sum", "size"])
    )
    rows = []
    for row in over_seeds(failures, ["case"], ["spearman", "wrong_all", "wrong_kept"]).to_dict("records"):
        of_case = failures[failures["case"] == row["case"]]
        named = sorted(of_case.loc[of_case["warned"], "aspect"].unique())
        rows.append(
            {
                "case": row["case"],
                "PD's rank correlation": text(row, "spearman"),
                "wrong labels, all (%)": text(row, "wrong_all", ".1f", 100),
                "wrong labels, kept (%)": text(row, "wrong_kept", ".1f", 100),
                "worlds with a warning": f"{worlds.loc[row['case'], 'sum']} of {worlds.loc[row['case'], 'size']}",
                "warned about": ", ".join(named)
                if len(named) < 5
                else f"{len(named)} of {of_case['aspect'].nunique()} aspects",
            }
        )
    return pd.DataFrame(rows)
