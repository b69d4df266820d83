"""The tables of a run's cells, which hold numbers and ids and no text: what `results/pocket` consists of."""

import json
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.power import TTestPower

from pdsel.artifacts import digest, save_table, save_text
from pdsel.checks import DataError
from pdsel.data.gaps import rating_gaps
from pdsel.data.store import stored_cells
from pdsel.data.webnlg import ASPECTS, FILES, read_corpus
from pdsel.evaluation import compare_methods, mean_over_prompts_and_seeds
from pdsel.experiments.pocket.cells import counted, null_texts, rated_texts
from pdsel.experiments.pocket.kept_labels import OTHERS, kept_table, opinions
from pdsel.experiments.pocket.people import MEAN, people_pairs, rated_halves, right, training_pairs
from pdsel.experiments.pocket.run import RECORD
from pdsel.experiments.pocket.settings import SETTINGS, SHARES, UNTRAINED
from pdsel.experiments.proxy_quality import divergence_of, proxy_quality
from pdsel.selection import POOLED, select

JUDGES = ["chrf", "coverage", "reward", "probe"]
BASE = "pocket"  # the setting that all readers run
BASELINE, COMPARED = "SFT", "RAND"  # whom policies meet, and whose lead over whom is the question
POWER = 0.8
SUMMARY = ["value", "low", "high"]


def save_tables(cells, data, out):
    """Make the tables of folders of cells, or of zip files of cells.

    Parameters
    ----------
    cells : list of (str or Path)
        More than one where a part was computed elsewhere, such as further seeds; no cell of a seed may be in two of them.
    data, out : str or Path
        The folders of the rated texts and of the results.

    Returns
    -------
    list of pathlib.Path
    """
    runs, record = [], {"runs": []}
    for place in cells:
        with unpacked(place) as folder:
            runs.append(of_whole_seeds(stored_cells(folder)))
            path = Path(folder, RECORD)
            part = json.loads(path.read_text()) if path.exists() else {"runs": []}
        record |= part | {"runs": record["runs"] + part["runs"]}
    found = Cells(*runs)
    corpus = read_corpus(data)
    halves = rated_halves(corpus)
    tables = {
        "policies.csv": policies(found),
        "kept.parquet": kept_ids(found),
        "texts.parquet": scores_of_texts(found),
        "unseen.csv": unseen(found, people_pairs(halves[1])),
        "judges.csv": judges(found, people_pairs(halves[0]), rated_texts(corpus, halves[0])),
        "nulls.csv": nulls(found, corpus.prompts),
        "win_rates.csv": win_rates(found),
        "proxies.csv": proxies(found, halves[0]),
        "kept_labels.csv": kept_labels(found, halves[0]),
    }
    paths = [save_table(table, Path(out, name)) for name, table in tables.items() if len(table)]
    record["runs"] = [{name: value for name, value in run.items() if name != "lab"} for run in record["runs"]]
    record["data"] = {name: digest(Path(data, name)) for name in FILES}
    record["tables"] = {path.name: digest(path) for path in paths}
    return [*paths, save_text(json.dumps(record, indent=1), Path(out, "manifest.json"))]


@contextmanager
def unpacked(folder):
    """Yield the folder of the cells; zip files in it are unpacked elsewhere."""
    archives = sorted(Path(folder).glob("*.zip"))
    if not archives:
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        for archive in archives:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(scratch)
        yield scratch


class Cells:
    """Cells of one or more runs, by what they are and whose; `settings` maps a setting's name to its fields.

    Every run trains SFT and the judge itself, and rounding on a GPU makes another judge of the same settings. What has no
    seed is therefore the first run's, and `beside` finds what belongs to a seed's own run.

    Raises
    ------
    ValueError
        If two cells of a seed have the same name and settings, as when code or libraries changed in between.
    """

    def __init__(self, *runs):
        self.found, self.settings, self._shared, self._run_of = {}, {}, {}, {}
        for run, stored in enumerate(runs):
            for name, settings, value in stored:
                self._add(run, name, settings, value)

    def _add(self, run, name, settings, value):
        setting, seed = settings["setting"]["name"], settings["seed"]
        further = settings.get("method") or settings.get("kind")
        key = name, setting, seed, further
        twice = (run, key) in self._shared if seed is None else key in self.found
        if twice:
            raise DataError(f"cells: {key} is there twice. Remedy: a folder with the cells of one run")
        self.settings.setdefault(setting, settings["setting"])
        self.found.setdefault(key, value)
        if seed is None:
            self._shared[run, key] = value
        elif name == "policy":
            self._run_of[setting, seed] = run

    def beside(self, name, setting, seed, method):
        """What is of no seed, such as an untrained model's answers, from the run that has a seed's policies, or the first."""
        key = name, setting, None, method
        return self._shared.get((self._run_of.get((setting, seed)), key), self.found.get(key))

    def of(self, name):
        """A list of `((setting, seed, method or kind), value)`."""
        return [(rest, value) for (found, *rest), value in self.found.items() if found == name]

    def stacked(self, name):
        """The frames of these cells below each other, with columns `setting, seed, method`."""
        frames = []
        for (setting, seed, method), value in self.of(name):
            frame = value[0] if isinstance(value, tuple) else value
            frames.append(frame.reset_index().assign(setting=setting, seed=seed, method=method))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def policies(cells):
    """What every policy was trained on and took."""
    rows = []
    for (setting, seed, method), record in cells.of("policy"):
        row = {"setting": setting, "method": method, "seed": seed, "n_trained": record["n_trained"]}
        training = record.get("training", {})
        row |= {name: training.get(name) for name in ("seconds", "steps", "n_tokens", "loss", "peak_gb")}
        row |= {f"{part}_seconds": record[part]["seconds"] for part in ("reading", "answering")}
        rows.append(row)
    return pd.DataFrame(rows)


def kept_ids(cells):
    """The ids that every method kept, best first."""
    frames = []
    for (setting, seed, method), record in cells.of("policy"):
        ranks = range(len(record["kept"]))
        frames.append(
            pd.DataFrame({"rank": ranks, "pair_id": record["kept"]}).assign(setting=setting, seed=seed, method=method)
        )
    return pd.concat(frames, ignore_index=True)


def scores_of_texts(cells):
    """What the judges say of every answer, without its text."""
    table = cells.stacked("answers").drop(columns="text")
    return table.astype(dict.fromkeys(JUDGES, "float32"))


def of_whole_seeds(stored):
    """The cells of the seeds of which every trained method has its policy, and those that have no seed.

    A run that was ended has begun a seed; what is there of it would compare methods on unequal trainings.

    >>> have = [("PD", 0), ("PD", 1), ("ALL", 0)]
    >>> cells = [("policy", {"setting": {"name": "s"}, "seed": seed, "method": method}, {}) for method, seed in have]
    >>> [settings["seed"] for _, settings, _ in of_whole_seeds(cells)]
    [0, 0]
    """
    seeds = {}
    for name, settings, _ in stored:
        if name == "policy" and settings["method"] not in UNTRAINED:
            of_methods = seeds.setdefault(settings["setting"]["name"], {})
            of_methods.setdefault(settings["method"], set()).add(settings["seed"])
    whole = {setting: set.intersection(*of_methods.values()) | {None} for setting, of_methods in seeds.items()}
    return [cell for cell in stored if cell[1]["seed"] in whole.get(cell[1]["setting"]["name"], {cell[1]["seed"]})]


def with_seeds(table):
    """Give the rows of untrained models the seeds of the trained ones, to be paired with them.

    >>> rows = [("s", "RAND", 0), ("s", "RAND", 1), ("s", "SFT", None)]
    >>> with_seeds(pd.DataFrame(rows, columns=["setting", "method", "seed"])).to_records(index=False).tolist()
    [('s', 'RAND', 0.0), ('s', 'RAND', 1.0), ('s', 'SFT', 0.0), ('s', 'SFT', 1.0)]
    """
    frames = []
    for _, rows in table.groupby("setting"):
        trained, untrained = rows[rows["seed"].notna()], rows[rows["seed"].isna()]
        frames += [trained, *(untrained.assign(seed=seed) for seed in sorted(set(trained["seed"])) or [0])]
    return pd.concat(frames, ignore_index=True)


def estimates(outcomes, metric, reference):
    """The mean of every method over prompts and seeds, and how the trained ones differ from a reference method.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        `method, prompt_id, seed` and the metric, in percent.
    metric, reference : str

    Returns
    -------
    pandas.DataFrame
        `method, value, low, high, prompts, seeds`; for trained methods also `difference, difference_low, difference_high,
        p_holm` (see `pdsel.evaluation.compare_methods`), `prompts_needed, seeds_needed`.
    """
    rows = []
    for method, of_method in outcomes.groupby("method", sort=False):
        mean = mean_over_prompts_and_seeds(of_method.pivot(index="seed", columns="prompt_id", values=metric))
        row = {"method": method} | {name: getattr(mean, name) for name in SUMMARY}
        rows.append(row | {"prompts": mean.n, "seeds": of_method["seed"].nunique()})
    table = pd.DataFrame(rows)
    trained = outcomes[~outcomes["method"].isin(UNTRAINED)]
    if not {reference} < set(trained["method"]):
        return table
    return table.merge(_from_reference(trained, metric, reference), on="method", how="left")


def _from_reference(trained, metric, reference):
    """How every other method differs from the reference; a positive difference is in its favour."""
    found = compare_methods(trained, metric=metric, reference=reference)
    ends = {"difference": -found["difference"], "difference_low": -found["high"], "difference_high": -found["low"]}
    table = pd.DataFrame({"method": found["other"], **ends, "p_holm": found["p_holm"]})
    by = {
        name: [differences(trained, method, reference, metric, name) for method in table["method"]]
        for name in ("prompt_id", "seed")
    }
    return table.assign(
        prompts_needed=list(map(prompts_needed, by["prompt_id"])), seeds_needed=list(map(seeds_needed, by["seed"]))
    )


def differences(outcomes, one, other, metric, by):
    """The difference of two methods for every prompt (mean over seeds), or for every seed (mean over prompts)."""
    means = outcomes.groupby(["method", by])[metric].mean()
    return means[one] - means[other]


def prompts_needed(differences, *, power=POWER):
    """How many prompts a two-sided test at 5 % needs to see the mean difference of these very policies.

    The paired z test: ((z_.975 + z_power) * sd / mean)^2.

    Parameters
    ----------
    differences : pandas.Series
        By prompt.
    power : float

    Returns
    -------
    float
        Infinite without a difference.

    Examples
    --------
    >>> round(prompts_needed(pd.Series([1.0, -1.0, 1.0, 1.0])))  # mean .5, standard deviation 1
    31
    """
    mean = differences.mean()
    if mean == 0:
        return np.inf
    return float(((norm.ppf(0.975) + norm.ppf(power)) * differences.std() / mean) ** 2)


def seeds_needed(differences, *, power=POWER):
    """How many seeds, each with its own pairs and trainings, a two-sided t test at 5 % needs to see the mean difference.

    Parameters
    ----------
    differences : pandas.Series
        By seed.
    power : float

    Returns
    -------
    float
        A whole number from 2; infinite without a difference, NaN where one seed says nothing of others.

    Examples
    --------
    >>> seeds_needed(pd.Series([1.0, -1.0, 1.0, 1.0]))
    34.0
    """
    mean, spread = differences.mean(), differences.std()
    if len(differences) < 2:
        return np.nan
    if mean == 0:
        return np.inf
    sizes = np.arange(2, 1001)
    reached = TTestPower().power(abs(mean) / max(spread, 1e-12), sizes, alpha=0.05) >= power
    return float(sizes[reached.argmax()]) if reached.any() else np.inf


def unseen(cells, people):
    """How often implicit rewards order people's pairs of unseen inputs as their ratings do, by aspect and by their mean.

    SFT and the model before it have no implicit reward: of these it is the likelihood per token.

    Returns
    -------
    pandas.DataFrame
        `setting, by` and the columns of `estimates`, in percent.
    """
    frames = []
    for (setting, seed, method), found in cells.of("unseen"):
        reward = found["logp"] / found["tokens"]
        if method not in UNTRAINED:
            start = cells.beside("unseen", setting, seed, BASELINE)
            reward = found["logp"] - start["logp"].reindex(found.index)
        for by in [MEAN, *ASPECTS]:
            agrees = right(reward, people, by).rename("right").reset_index()
            frames.append(agrees.assign(setting=setting, seed=seed, method=method, by=by))
    table = with_seeds(pd.concat(frames, ignore_index=True))
    parts = [
        estimates(rows, "right", COMPARED).assign(setting=setting, by=by)
        for (setting, by), rows in table.groupby(["setting", "by"], sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def judges(cells, people, rated):
    """How often every judge orders people's pairs as they do, by aspect and by their mean; length and a coin beside them.

    The judges were trained on the other inputs. Where the cells hold no audit of them, it is of those that need no model.
    """
    frames = []
    audits = cells.of("audit") or [((BASE, None, None), counted(rated, list(rated["response"])))]
    for (setting, _, _), found in audits:
        for judge in found.columns.intersection([*JUDGES, "characters"], sort=False):
            for by in [MEAN, *ASPECTS]:
                agrees = right(found[judge], people, by)
                mean = mean_over_prompts_and_seeds(agrees.to_frame().T)
                row = {"setting": setting, "judge": judge, "by": by} | {name: getattr(mean, name) for name in SUMMARY}
                frames.append(row | {"inputs": mean.n})
    return pd.DataFrame(frames)


def _wins(scores, baseline):
    """100 where the score is higher, 50 where it is equal, else 0; by the index of the baseline's."""
    return 50 * (1 + np.sign(scores.reindex(baseline.index) - baseline))


def nulls(cells, asked):
    """How often answers that ignore what was asked beat SFT's, by every judge, or by those that need no model."""
    sft = {setting: found for (setting, _, method), found in cells.of("answers") if method == BASELINE}
    rows = []
    judged = cells.of("nulls")
    if not judged and BASE in sft:
        said = null_texts(asked, sft[BASE]["text"])
        judged = [((BASE, None, None), pd.concat([counted(asked, said[name]).assign(method=name) for name in said]))]
    for (setting, _, _), found in judged:
        for name, answers in found.groupby("method", sort=False):
            for judge in found.columns.intersection(JUDGES, sort=False):
                mean = mean_over_prompts_and_seeds(_wins(answers[judge], sft[setting][judge]).to_frame().T)
                rows.append(
                    {"setting": setting, "null": name, "judge": judge} | {end: getattr(mean, end) for end in SUMMARY}
                )
    return pd.DataFrame(rows)


def win_rates(cells):
    """How often every policy's answer beats SFT's, by every judge, and by how much more than RAND's.

    Returns
    -------
    pandas.DataFrame
        `setting, judge` and the columns of `estimates`, in percent and points; and `score`, the judge's own mean.
    """
    frames = []
    for (setting, seed, method), answers in cells.of("answers"):
        baseline = cells.beside("answers", setting, seed, BASELINE)
        for judge in JUDGES if baseline is not None else []:
            wins = _wins(answers[judge], baseline[judge]).rename("wins").rename_axis("prompt_id").reset_index()
            named = {"setting": setting, "seed": seed, "method": method, "judge": judge}
            frames.append(wins.assign(score=answers[judge].reindex(baseline.index).to_numpy(), **named))
    table = with_seeds(pd.concat(frames, ignore_index=True))
    parts = []
    for (setting, judge), rows in table.groupby(["setting", "judge"], sort=False):
        means = rows.groupby("method")["score"].mean()
        part = estimates(rows, "wins", COMPARED).assign(setting=setting, judge=judge)
        parts.append(part.assign(score=part["method"].map(means)))
    return pd.concat(parts, ignore_index=True)


def answers_side_by_side(folder, methods, *, n, setting="pocket", seed=0):
    """The first answers of some methods, from the cells of a reader's own run: texts that are not published.

    Parameters
    ----------
    folder : str or Path
    methods : list of str
    n : int
        How many inputs.
    setting : str
    seed : int
        Of the trained methods.

    Returns
    -------
    pandas.DataFrame
        `prompt_id` and a column per method whose answers are there.
    """
    with unpacked(folder) as cells:
        found = {tuple(key): value for key, value in Cells(stored_cells(cells)).of("answers")}
    texts = {}
    for method in methods:
        key = (setting, None if method in UNTRAINED else seed, method)
        if key in found:
            table = found[key][0] if isinstance(found[key], tuple) else found[key]
            texts[method] = table["text"].str.replace(r"\s+", " ", regex=True)
    return pd.DataFrame(texts).head(n).reset_index()


def shown_pairs(data, ids, *, seed=0):
    """The texts of pairs, where the folder of rated texts is there: by `pair_id`, in the order of `ids`.

    Parameters
    ----------
    data : str or Path
    ids : list of str
        Of the pairs that methods were trained on.
    seed : int
        Of the draw of these pairs.

    Returns
    -------
    pandas.DataFrame
        `aspect, prompt, chosen, rejected`, as plain texts.
    """
    pairs = training_pairs(rated_halves(read_corpus(data))[0], size=SETTINGS[BASE].n_pairs, seed=seed)
    table = pairs.to_pandas().set_index("pair_id").loc[ids]
    texts = {
        side: table[side].map(lambda messages: messages[-1]["content"]) for side in ("prompt", "chosen", "rejected")
    }
    return table[["aspect"]].assign(**texts)


def pairs_by_seed(cells, name, ratings):
    """`((setting, seed, kind), value, pairs)` of these cells: the pairs are made anew from the ratings."""
    found = []
    for key, value in cells.of(name):
        setting = cells.settings[key[0]]
        pairs = training_pairs(ratings, size=setting["n_pairs"], seed=key[1], chat=setting["chat"])
        found.append((key, value, pairs))
    return found


def proxies(cells, ratings):
    """How often the proxies of each kind order the other aspects' pairs as people do, what PD of them keeps, and the cost.

    Returns
    -------
    pandas.DataFrame
        A row per `setting, kind, seed`: `right` (mean over aspects, percent), `right_<aspect>`, `opposed_kept` (labels that the
        mean of the others opposes among the 30 % kept, percent), `opposed_all`, `seconds, pooled_seconds, n_tokens`.
    """
    rows = []
    for (setting, seed, kind), (margins, record), pairs in pairs_by_seed(cells, "margins", ratings):
        aspect = pd.Series(pairs["aspect"][:], index=pairs["pair_id"][:])
        found = margins.drop(columns=POOLED).loc[aspect.index]
        accuracy = 100 * proxy_quality(found, rating_gaps(pairs)[found.columns], aspect)["accuracy"]
        opposed = 100 * (1 - opinions(pairs)[OTHERS])
        kept = select(divergence_of(found, aspect), SHARES[1])
        row = {"setting": setting, "kind": kind, "seed": seed, "right": accuracy.mean()}
        row |= {f"right_{name}": value for name, value in accuracy.items()}
        row |= {"opposed_kept": opposed[kept].mean(), "opposed_all": opposed.mean()}
        row |= {name: record[name] for name in ("seconds", "pooled_seconds", "peak_gb")}
        rows.append(row | {"n_tokens": sum(record["n_tokens"].values())})
    return pd.DataFrame(rows)


def kept_labels(cells, ratings):
    """The labels that every rule keeps, against people; see `pdsel.experiments.pocket.kept_labels.kept_table`."""
    by_setting = {}
    for (setting, _, _), scores, pairs in pairs_by_seed(cells, "rule scores", ratings):
        by_setting.setdefault(setting, []).append((scores, pairs))
    tables = [kept_table(worlds).assign(setting=setting) for setting, worlds in by_setting.items()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
