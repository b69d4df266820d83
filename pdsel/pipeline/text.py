"""Frames of results as text: Markdown tables, and the sentences of README, the book and the notebooks."""

import pandas as pd

from pdsel.data.markdown import markdown as markdown  # beside the other texts for those who write them
from pdsel.evaluation import blank, interval
from pdsel.experiments.published import published_at, published_text
from pdsel.experiments.study_tables import cost_shares, length_gains, length_means, over_seeds
from pdsel.experiments.verdicts import TESTS
from pdsel.notesworld.settings import CONFLICT

ORDER = ["SFT", "OVA", "AVG", "ALL", "DMPO", "RAND", "RAF", "PD(rati.)", "PD", "PD(high)"]
ASPECTS = ["instruction_following", "honesty", "truthfulness", "helpfulness"]


def estimate(row, digits=1):
    """The columns `value, low, high` of a row as text; a value that is NaN is a blank, and `variant` says why.

    >>> estimate({"value": 0.5, "low": 0.25, "high": 0.75}, digits=2)
    '0.50 [0.25, 0.75]'
    >>> estimate({"value": float("nan"), "variant": "only 0 % longer"})
    '– (only 0 % longer)'
    """
    if pd.isna(row["value"]):
        return blank(row["variant"])
    return interval(row["value"], row["low"], row["high"], digits=digits)


def mean(row, column, digits=2, signed=False):
    """A mean over seeds as text, alone where one seed gives no interval; columns as `over_seeds` names them.

    >>> mean({"spearman": 0.7, "spearman_low": 0.6, "spearman_high": 0.8}, "spearman")
    '0.70 [0.60, 0.80]'
    """
    return interval(row[column], row[f"{column}_low"], row[f"{column}_high"], digits=digits, signed=signed)


def percent(row, column):
    """The mean of a share as text, in percent.

    A share lies in [0, 1]; a t-interval over few seeds may reach beyond, and is cut.

    >>> percent({"accuracy": 0.97, "accuracy_low": 0.9, "accuracy_high": 1.04}, "accuracy")
    '97.0 [90.0, 100.0]'
    """
    low, high = max(100 * row[f"{column}_low"], 0), min(100 * row[f"{column}_high"], 100)
    return interval(100 * row[column], low, high)


def main_rows(table, costs, conflict):
    """Table 1 of one conflict level as text, with the numbers published for this very level in the last column, if any.

    Parameters
    ----------
    table, costs : pandas.DataFrame
        From `main_table` and `load_costs` of `pdsel.pipeline.report`.
    conflict : float
    """
    rows, metrics_of_paper = [], ", ".join(published_at(conflict))
    for method, group in table[table["conflict"] == conflict].groupby("method", observed=True):
        metrics = group.set_index("metric")
        utility, score = "unknown", ""
        if "utility" in metrics.index:
            utility = estimate(metrics.loc["utility"], digits=3)
        if "winning_score" in metrics.index:
            score = estimate(metrics.loc["winning_score"], digits=2)
        row = {
            "method": method,
            "gold utility": utility,
            "win rate vs SFT (%)": estimate(metrics.loc["win_rate"]),
            "length-controlled (%)": estimate(metrics.loc["length_controlled_win_rate"]),
            "winning score vs OVA": score,
            "length (characters)": f"{metrics.loc['characters', 'value']:.0f}",
            "training (s)": f"{costs.loc[method, 'training_seconds']:.0f}",
            "selection (s)": f"{costs.loc[method, 'selection_seconds']:.0f}",
        }
        if metrics_of_paper:
            row[f"paper at {100 * conflict:.0f} %: {metrics_of_paper}"] = published_text(method, conflict)
        rows.append(row)
    return pd.DataFrame(rows)


def aspect_rows(table, conflict):
    """The mean gold score of each method's outputs on every aspect at one conflict level; empty for other judges.

    `table`: from `pdsel.pipeline.report.main_table`.
    """
    names = [name for name in ASPECTS if name in set(table["metric"])]
    scores = table[(table["conflict"] == conflict) & table["metric"].isin(names)]
    text = scores.assign(text=[estimate(row, digits=3) for row in scores.to_dict("records")])
    wide = text.pivot(index="method", columns="metric", values="text").reindex(columns=names)
    return wide.rename(columns=lambda name: name.replace("_", " ")).rename_axis(columns=None).reset_index()


def null_rows(rates):
    """How often constant answers win under each judge; empty where no judge was audited.

    `rates`: from `pdsel.pipeline.report.load_nulls`.
    """
    if rates.empty:
        return pd.DataFrame()
    table = rates.assign(text=[estimate(row) for row in rates.to_dict("records")])
    wide = table.pivot(index="null", columns="judge", values="text")
    wide = wide.loc[rates["null"].unique(), rates["judge"].unique()]
    return wide.rename_axis("constant answer").rename(columns=f"{{}}: wins (%){_over(rates)}".format).reset_index()


def null_note(rates):
    """The strongest constant under each judge, as a sentence."""
    best = rates.loc[rates.groupby("judge", sort=False)["value"].idxmax()]
    parts = [f"{row['value']:.0f} % under {row['judge']} ({row['null']})" for row in best.to_dict("records")]
    return f"The strongest of these constants wins {', '.join(parts)}{_over(rates)}."


def _over(rates):
    """What the rates are means over, where there are several runs."""
    n_runs = rates["runs"].max()
    return f", mean of {n_runs} runs" if n_runs > 1 else ""


def headline(table, conflict):
    """The numbers to expect, as a sentence; `table`: from `pdsel.pipeline.report.main_table`."""
    win_rates = table[(table["conflict"] == conflict) & (table["metric"] == "win_rate")].set_index("method")
    trained_on = {
        "PD": "PD's share of the pairs",
        "RAND": "a random share of the same size",
        "PD(high)": "the most conflicting share",
        "ALL": "all pairs",
    }
    parts = []
    for method, what in trained_on.items():
        if method in win_rates.index:
            parts.append(f"on {what} {estimate(win_rates.loc[method])} %")
    over = "prompts and seeds" if win_rates["seeds"].max() > 1 else "prompts"
    return (
        f"At {100 * conflict:.0f} % conflict, win rates against SFT on held-out prompts: trained {', '.join(parts)} "
        f"(95 % intervals over {over})."
    )


def length_note(outcomes, table, conflict, method="PD", baseline="SFT"):
    """How far a method's length-controlled win rate can be trusted, as a sentence: how often its outputs are the shorter."""
    at_level = outcomes[outcomes["conflict"] == conflict]
    length = at_level.pivot(index=["seed", "prompt_id"], columns="method", values="characters")
    shorter = 100 * (length[method] < length[baseline]).mean()
    longer = 100 * (length[method] > length[baseline]).mean()
    metrics = table[(table["conflict"] == conflict) & (table["method"] == method)].set_index("metric")
    at_equal_length = metrics.loc["length_controlled_win_rate"]
    said = f"and {estimate(at_equal_length)} % at equal length"
    if pd.isna(at_equal_length["value"]):
        said = "and none is given at equal length: the lengths overlap too little"
    return (
        f"{method}'s outputs are shorter than {baseline}'s on {shorter:.0f} % of the prompts and longer on {longer:.0f} %. "
        f"Its win rate is {estimate(metrics.loc['win_rate'])} %, {said}."
    )


BEHIND_THE_TABLE = ("01_data", "02_proxies", "03_selection", "04_dpo", "05_evaluation")


def work_of_runs(manifests):
    """What the stages behind the main table cost, as a sentence; `manifests`: from `gather_manifests`."""
    stages = [stage for stage in manifests["stages"].values() if stage["stage"].startswith(BEHIND_THE_TABLE)]
    seconds = sum(stage["seconds"] for stage in stages)
    steps = sum(stage["facts"].get("steps", 0) for stage in stages)
    machine = stages[0]["environment"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "trl"))
    devices = ", ".join(sorted({stage["environment"]["device"] for stage in stages}))
    return (
        f"The {len(stages)} stages behind the table did {seconds / 60:.1f} minutes of work in all ({steps} steps of DPO) "
        f"on {devices}, {machine['threads']} thread a job; Python {machine['python']}, {versions}."
    )


def work_of_grid(policies, manifests):
    """What the policies of a grid cost, as a sentence.

    Parameters
    ----------
    policies : pandas.DataFrame
        A row per policy: `training_seconds`, `selection_seconds`, `steps` and its settings.
    manifests : dict
        From `pdsel.pipeline.report.gather_manifests`.
    """
    # Rules that need the same proxies share them.
    shared = policies.drop_duplicates(["seed", "conflict", "n_pairs", "proxies", "selection_seconds"])
    training, selection = policies["training_seconds"].sum() / 3600, shared["selection_seconds"].sum() / 3600
    versions = next(iter(manifests["stages"].values()))["environment"]["versions"]
    return (
        f"The grid is {len(policies)} policies and {policies['steps'].sum():,} steps of DPO: {training:.1f} hours of "
        f"training and {selection:.1f} of proxies, one thread each, "
        f"not counting worlds, outputs and judging. torch {versions['torch']}, transformers {versions['transformers']}, "
        f"trl {versions['trl']}."
    )


# The methods that README compares PD with; SFT is compared with PD(high).
TOLD = ["RAND", "ALL", "RAF", "SFT"]


def found_lines(claims):
    """What was found, in Markdown: how it was measured, four claims on PD with their estimates, the verdicts on all claims.

    Parameters
    ----------
    claims : pandas.DataFrame
        See `pdsel.experiments.claims.evaluate_claims`, with the conflict level as text.
    """
    here = claims[claims["conflict"].str.endswith(f"{100 * CONFLICT:.0f} %")]
    told = here[here["part"].isin([part for other in TOLD for part in (f"PD - {other}", f"{other} - PD(high)")])]
    lines = [
        f"With {100 * CONFLICT:.0f} % of the labels against the overall rating, over {told['seeds'].min()} worlds, in points "
        "of win rate against the start (SFT), with 95 % intervals:",
        "",
    ]
    for row in told.to_dict("records"):
        number = interval(row["value"], row["low"], row["high"], signed=True)
        test = "" if row["test"] == TESTS["above"] else f", {row['test']}"
        lines.append(f"- {row['claim']}: **{row['verdict']}** ({row['part']}: {number}{test}).")
    verdicts = here.groupby("claim", sort=False)["verdict"].first().value_counts()
    tally = ", ".join(f"*{said}* {count}" for said, count in verdicts.items())
    lines.append(f"- All {verdicts.sum()} claims of the paper that were tested: {tally}.")
    return "\n".join(lines)


SHORT = ["ALL", "RAND", "RAF", "DMPO", "PD", "PD(high)"]


def short_rows(table, cells):
    """README's one table, a row for each of six methods, at the conflict level of the figures.

    Parameters
    ----------
    table : pandas.DataFrame
        From `pdsel.pipeline.report.main_table`, over the worlds of a grid.
    cells : pandas.DataFrame
        `cells.csv`: a row per policy and study.
    """
    here = table[table["conflict"] == CONFLICT].set_index(["method", "metric"])
    policies = cells[(cells["study"] == "methods") & (cells["conflict"] == CONFLICT)].groupby("method")
    wrong, share = 100 * policies["wrong_labels"].mean(), 100 * policies["share"].mean()
    rows = []
    for method in SHORT:
        if method in share.index:
            rows.append(
                {
                    "method": method,
                    "pairs trained on (%)": f"{share[method]:.0f}",
                    "wrong labels among them (%)": f"{wrong[method]:.0f}",
                    "win rate (%)": estimate(here.loc[method, "win_rate"]),
                    "at equal length (%)": estimate(here.loc[method, "length_controlled_win_rate"]),
                }
            )
    return pd.DataFrame(rows)


def time_of_run(manifests):
    """How long `make run` takes, as a sentence; `manifests`: from `gather_manifests`."""
    stages = manifests["stages"].values()
    table = sum(stage["seconds"] for stage in stages if stage["stage"].startswith(BEHIND_THE_TABLE))
    return (
        f"The reference run took {table / 60:.0f} minutes of one core's work until the main table, and "
        f"{manifests['job_seconds'] / 60:.0f} in all."
    )


def notebook_rows(titles, minutes, folder="notebooks"):
    """The notebooks, a row each: name, title and minutes.

    Parameters
    ----------
    titles : dict
        Name of a notebook to its title.
    minutes : pandas.Series
        By the name of a notebook; one that is not in it was not timed.
    folder : str
        Where links lead, from the page that shows the table.

    >>> notebook_rows({"00_idea": "Keep consensus"}, pd.Series({"00_idea": 0.3})).loc[0].tolist()
    ['[`00_idea`](notebooks/00_idea.ipynb)', 'Keep consensus', 'under 1']
    """
    rows = []
    for name, title in titles.items():
        known = minutes.get(name)
        text = "" if known is None else "under 1" if known < 1 else f"{known:.0f}"
        rows.append({"notebook": f"[`{name}`]({folder}/{name}.ipynb)", "what it says": title, "minutes": text})
    return pd.DataFrame(rows)


def proxy_rows(proxies):
    """The study of kinds, sizes and shares, a row per setting.

    `proxies`: rows of `pdsel.experiments.proxy_studies.proxy_cell`, a row per seed, setting and aspect.
    """
    setting = ["base", "kind", "share"]
    tokens_of_seed = proxies.groupby([*setting, "seed"], sort=False)["n_tokens"].sum()
    tokens = tokens_of_seed.groupby(setting, sort=False).mean()
    rows = []
    for row in over_seeds(proxies, setting, QUALITY).to_dict("records"):
        names = {"base": row["base"], "kind": row["kind"], "p_r": f"{row['share']:g}"}
        count = tokens.loc[row["base"], row["kind"], row["share"]]
        rows.append(names | _quality(row) | {"training tokens (k)": f"{count / 1000:.0f}"})
    return pd.DataFrame(rows)


def probe_rows(probes, by):
    """The study of probes, a row per setting of the columns `by`: words in the order given, numbers from the largest down.

    `probes`: rows of `pdsel.experiments.probe_study.probe_cell` or `pdsel.experiments.proxy_studies.proxy_cell`, a row per
    seed, setting and aspect.
    """
    rows = in_order(over_seeds(probes, by, QUALITY), by).to_dict("records")
    return pd.DataFrame(
        [{"p_r" if name == "share" else name: _short(row[name]) for name in by} | _quality(row) for row in rows]
    )


def agreement_table(agreement):
    """How alike PD from other proxies and from implicit ones is, a row per base, kind and share.

    `agreement`: rows of `pdsel.experiments.proxy_studies.agreement_rows`, a row per seed and setting.
    """
    by = ["base", "kind", "share"]
    rows = []
    for row in in_order(over_seeds(agreement, by, ["spearman", "jaccard", "chance"]), by).to_dict("records"):
        rows.append(
            {
                "base": row["base"],
                "kind": row["kind"],
                "p_r": _short(row["share"]),
                "rank correlation with implicit PD": mean(row, "spearman"),
                "kept by both / by either": mean(row, "jaccard"),
                "of random sets": f"{row['chance']:.2f}",
            }
        )
    return pd.DataFrame(rows)


def cost_rows(costs):
    """What selecting costs beside training on everything, in CPU seconds: a row per size of the policy and kind of proxy.

    `costs`: rows of `pdsel.experiments.cost_study.cost_cell`, a row per seed and setting.
    """
    rows = []
    for row in cost_shares(costs).to_dict("records"):
        rows.append(
            {
                "policy (million weights)": f"{row['parameters'] / 1e6:.2g}",
                "proxies": row["kind"],
                "selection / training on all": mean(row, "selection"),
                "training on the kept / on all": mean(row, "kept"),
                "sum": mean(row, "ratio"),
            }
        )
    return pd.DataFrame(rows)


def in_order(table, by):
    """The rows sorted by some columns: words as they first appear, numbers from the largest down.

    >>> table = pd.DataFrame({"kind": ["b", "b", "a"], "share": [0.5, 1.0, 1.0]})
    >>> in_order(table, ["kind", "share"])["share"].tolist()
    [1.0, 0.5, 1.0]
    """
    places = {}
    for name in by:
        numeric = pd.api.types.is_numeric_dtype(table[name])
        places[name] = -table[name] if numeric else pd.Series(pd.factorize(table[name])[0], index=table.index)
    return table.loc[pd.DataFrame(places).sort_values(by, kind="stable").index]


def _short(value):
    """A number without a tail of zeros; words as they are.

    >>> _short(1.0), _short("probe")
    ('1', 'probe')
    """
    return f"{value:g}" if isinstance(value, float | int) else value


QUALITY = ["accuracy", "calibration_error", "spearman", "wrong_kept"]


def _quality(row):
    return {
        "right on others' pairs (%)": percent(row, "accuracy"),
        "calibration error": mean(row, "calibration_error"),
        "PD's rank correlation": mean(row, "spearman"),
        "wrong labels kept (%)": percent(row, "wrong_kept"),
    }


def length_rows(length):
    """The study of length, a row per kind and mitigation; `length`: see `length_means`."""
    rows = []
    for row in length_means(length).to_dict("records"):
        rows.append(
            {
                "kind": row["kind"],
                "mitigation": row["setting"],
                "correlation above the truth's": mean(row, "excess", signed=True),
                "its size": mean(row, "distance"),
                "right on others' pairs (%)": percent(row, "accuracy"),
                "wrong labels kept (%)": percent(row, "wrong_kept"),
            }
        )
    return pd.DataFrame(rows)


def length_verdict(length):
    """Bullets: the bias of the raters, then for each kind its own, and the remedy that takes most of it off, with its interval.

    `length`: see `length_means`.
    """
    gains = length_gains(length)
    raters = (length["raters_length"] - length["truth_length"]).mean()
    lines = [
        f"The raters' correlation with length is {raters:+.2f} above the truth's, mean over aspects: the bias to remove."
    ]
    for kind, means in length_means(length).groupby("kind", sort=False):
        lines.append(_remedy(kind, means.set_index("setting"), gains[gains["kind"] == kind].set_index("setting")))
    return "\n".join(f"- {line}" for line in lines)


def _remedy(kind, means, gains):
    """The sentence on one kind of proxies; both frames have a row per setting."""
    best = gains.loc[gains["gain"].idxmax()]
    surely = "surely" if best["gain_low"] > 0 else "but the interval over seeds does not exclude zero"
    before, after = means.loc["none"], means.loc[best.name]
    plus, minus = (gains.loc[gains.index.str.contains(sign), "gain"].mean() for sign in ("plus", "minus"))
    return (
        f"*{kind}*: {before['excess']:+.2f} from the truth's without a remedy, {before['distance']:.2f} in size. Most is taken "
        f"off by {best.name}: {mean(best, 'gain')}, {surely}; accuracy on the others' pairs goes from "
        f"{100 * before['accuracy']:.1f} to {100 * after['accuracy']:.1f} %, wrong labels kept from "
        f"{100 * before['wrong_kept']:.1f} to {100 * after['wrong_kept']:.1f} %. "
        f"Penalties take off {plus:+.2f} with *plus* and {minus:+.2f} with *minus*, mean over rho."
    )


def failure_rows(failures):
    """The failures, a row per case (and kind of proxies, where there are several): what PD is worth, and who was warned.

    `failures`: rows of `pdsel.experiments.proxy_studies.failure_cell`.
    """
    failures = failures.assign(warned=failures["seen_warning"].astype(object).fillna("") != "")
    several = "kind" in failures and failures["kind"].nunique() > 1
    by = ["kind", "case"] if several else ["case"]
    rows = []
    for row in in_order(over_seeds(failures, by, ["spearman", "wrong_all", "wrong_kept"]), by).to_dict("records"):
        of_case = failures[(failures[by] == pd.Series(row)[by]).all(axis=1)]
        worlds = of_case.groupby("seed", sort=False)["warned"].any()
        rows.append(
            {name: row[name] for name in by}
            | {
                "PD's rank correlation": mean(row, "spearman"),
                "wrong labels, all (%)": percent(row, "wrong_all"),
                "wrong labels, kept (%)": percent(row, "wrong_kept"),
                "worlds with a warning": f"{worlds.sum()} of {len(worlds)}",
                "warned about": _some_or_count(of_case.loc[of_case["warned"], "aspect"], of_case["aspect"].nunique()),
            }
        )
    return pd.DataFrame(rows)


def _some_or_count(aspects, n_aspects):
    """The names of aspects, or how many they are where a list would be long."""
    names = sorted(aspects.unique())
    return ", ".join(names) if len(names) < 5 else f"{len(names)} of {n_aspects} aspects"
