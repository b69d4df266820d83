"""What is computed for a run, each as a cell of a `Store`: models, margins of proxies, policies' answers and rewards.

A cell is asked for by its function and computed where it is not stored; models that several cells start from lie in folders
beside the cells. The texts of answers are in the cells, which stay on the reader's machine; tables hold numbers only.
"""

import resource
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pdsel.artifacts import model_digest
from pdsel.data.scratch import scratch_folder
from pdsel.data.store import Store
from pdsel.data.webnlg import fact_line, read_corpus
from pdsel.divergence import rating_divergence
from pdsel.engine.feature_files import load_features
from pdsel.engine.features import Reader, pair_features
from pdsel.engine.models import device
from pdsel.engine.probes import load_probe
from pdsel.engine.scoring import classifier_rewards, response_lengths, response_logps
from pdsel.evaluation.judges.facts import chrf, coverage
from pdsel.experiments.pocket.people import (
    BREAK,
    answered_as,
    pairs_by_mean,
    rated_halves,
    read_as,
    responses,
    training_pairs,
)
from pdsel.experiments.pocket.settings import NEW_TOKENS, OTHER_PROXIES, PROXY_KINDS, UNTRAINED, computing
from pdsel.experiments.proxy_quality import divergence_of
from pdsel.generation import generate
from pdsel.proxies import fit_proxies, fit_proxy, score_margins
from pdsel.selection import POOLED, random_scores, select
from pdsel.training import demonstrations, train_dmpo, train_dpo, train_reward, train_sft, training_log

GB = 1e9
NULLS = {  # answers that ignore what was asked; a function of the facts and of SFT's answer
    "facts copied": lambda facts, answer: "\n".join(map(fact_line, facts)),
    "answer twice": lambda facts, answer: f"{answer} {answer}",
    "first fact only": lambda facts, answer: " ".join(facts[0]) + ".",
    "nothing": lambda facts, answer: "",
}


@dataclass(frozen=True)
class Lab:
    """Where a run reads and writes: the folders of the data, of the model and of the cells."""

    data: str
    model: str
    folder: str

    @cached_property
    def corpus(self):
        """The data, see `pdsel.data.webnlg.read_corpus`."""
        return read_corpus(self.data)

    @cached_property
    def halves(self):
        """The ratings to train on, and those of unseen inputs."""
        return rated_halves(self.corpus)

    @cached_property
    def store(self):
        """The cells; code that they do not use changes none."""
        return Store(self.folder, model=model_digest(self.model), code=(policy,))


def key(setting, seed=None, **further):
    """What determines a cell, beside the model and the code."""
    return {"setting": asdict(setting), "seed": seed} | further


class Cost:
    """A context that measures what its body takes: `seconds`, and `peak_gb` of the device (of the process, on a CPU)."""

    def __enter__(self):
        if device().startswith("cuda"):
            torch.cuda.init()  # a process that has computed nothing there yet has no record to reset
            torch.cuda.reset_peak_memory_stats()
        self.start = time.perf_counter()
        return self

    def __exit__(self, *error):
        self.seconds = time.perf_counter() - self.start
        if device().startswith("cuda"):
            self.peak_gb = torch.cuda.max_memory_allocated() / GB
        else:
            self.peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB

    @property
    def record(self):
        """Both numbers, as a dict."""
        return {"seconds": round(self.seconds, 2), "peak_gb": round(self.peak_gb, 2), "device": device().split(":")[0]}


def _training(setting, kind):
    """The options of a training of a setting on this machine."""
    options = getattr(setting, kind)
    limits = {"lora_rank": setting.lora_rank, "max_length": setting.max_length}
    return options | limits | computing(options["batch_size"])


def sft_model(lab, setting):
    """The folder of the model after supervised fine-tuning on the demonstrations; every method of a setting starts there."""
    path = lab.store.path("sft", key(setting))
    if not path.is_dir():
        rows = lab.corpus.demonstrations
        rows = rows.select(range(min(setting.n_demonstrations or len(rows), len(rows))))
        table = demonstrations(
            read_as(rows["prompt"], chat=setting.chat), answered_as(rows["completion"], chat=setting.chat)
        )
        train_sft(table, model=lab.model, output_dir=path, seed=0, **_training(setting, "sft"))
    lab.store.computed("sft", key(setting), lambda: spent(training_log(path)))
    return str(path)


def spent(log):
    """What a training took, from its record."""
    return {name: log[name] for name in ("n_used", "seconds", "steps", "n_tokens")} | {
        "loss": log["history"][-1]["train_loss"]
    }


def pairs_of(lab, setting, seed):
    """The pairs that methods are trained on."""
    return training_pairs(lab.halves[0], size=setting.n_pairs, seed=seed, chat=setting.chat)


def features_of(lab, setting, seed, pairs):
    """What the SFT model makes of the pairs; the reference's log-probabilities are left for the trainings."""
    path = lab.store.path("features", key(setting, seed))
    if not (path / "features.json").exists():
        start = sft_model(lab, setting)
        options = {"max_length": setting.max_length, "reference_cache": references(lab)}
        pair_features(pairs, model=start, **options).save(path)
    return load_features(path)


def references(lab):
    """The folder of log-probabilities under the references, which all trainings share."""
    return str(Path(lab.folder, "references"))


def margins(lab, setting, seed, kind=PROXY_KINDS[0]):
    """The margins of every proxy of a kind on the pairs: by `pair_id`, a column per aspect, and that of all pairs, "pooled"."""
    settings = key(setting, seed, kind=kind)
    return lab.store.computed("margins", settings, lambda: _margins(lab, setting, seed, kind))[0]


def _margins(lab, setting, seed, kind):
    pairs, start = pairs_of(lab, setting, seed), sft_model(lab, setting)
    with Cost() as cost, scratch_folder("proxies") as scratch:
        options = {"kind": kind, "model": start, "max_length": setting.max_length}
        read = None
        if kind == "probe":
            read = features_of(lab, setting, seed, pairs)
            options["features"] = read
        else:
            options |= _training(setting, "reward" if kind == "classifier" else "implicit") | {"seed": seed}
            if kind == "implicit":
                options["reference_cache"] = references(lab)
        proxies = fit_proxies(pairs, output_dir=scratch / "aspects", **options)
        with Cost() as pooled_cost:
            proxies[POOLED] = fit_proxy(pairs, None, output_dir=scratch / POOLED, **options)
        table = score_margins(pairs, proxies, features=read)
    tokens = {name: proxy.n_tokens for name, proxy in proxies.items()}
    return table, cost.record | {"pooled_seconds": round(pooled_cost.seconds, 2), "n_tokens": tokens}


def judge_pairs(lab, setting):
    """What judges learn from: pairs of the unseen half by people's mean rating, as many as methods are trained on."""
    return pairs_by_mean(lab.halves[1], size=setting.n_pairs, chat=setting.chat)


def judge(lab, setting):
    """Two rewards trained on people's mean ratings of the unseen half: the folders of a classifier and of a probe."""
    paths = {kind: lab.store.path(f"judge-{kind}", key(setting)) for kind in ("classifier", "probe")}
    start = sft_model(lab, setting)
    with Cost() as cost:
        if not paths["classifier"].is_dir():
            pairs = judge_pairs(lab, setting)
            options = {"model": start, "output_dir": paths["classifier"], "seed": 0}
            train_reward(pairs, [0.0] * len(pairs), **options, **_training(setting, "reward"))
        if not paths["probe"].is_dir():
            options = {"kind": "probe", "model": start, "output_dir": paths["probe"], "max_length": setting.max_length}
            fit_proxy(judge_pairs(lab, setting), None, **options)
    lab.store.computed("judge", key(setting), lambda: cost.record)
    return {kind: str(path) for kind, path in paths.items()}


def judged(lab, setting, asked, texts):
    """What every judge says of texts.

    Parameters
    ----------
    lab, setting
    asked : pandas.DataFrame
        A row per text: `prompt, facts, references`.
    texts : list of str

    Returns
    -------
    pandas.DataFrame
        The index of `asked`; `chrf, coverage, reward, probe, characters`.
    """
    models = judge(lab, setting)
    prompts, answers = read_as(asked["prompt"], chat=setting.chat), answered_as(texts, chat=setting.chat)
    columns = {
        "reward": classifier_rewards(models["classifier"], prompts, answers, max_length=setting.max_length),
        "probe": probe_rewards(models["probe"], sft_model(lab, setting), prompts, answers, setting.max_length),
    }
    return counted(asked, texts).assign(**columns)


def counted(asked, texts):
    """What judges that need no model say of texts: `chrf, coverage, characters`, see `judged`."""
    said = list(zip(texts, asked["references"], asked["facts"], strict=True))
    columns = {
        "chrf": [chrf(text, references) for text, references, _ in said],
        "coverage": [coverage(text, facts) for text, _, facts in said],
        "characters": [len(text) for text in texts],
    }
    return pd.DataFrame(columns, index=asked.index)


def probe_rewards(folder, model, prompts, answers, max_length):
    """The reward of each answer by a probe: its weights on what the frozen model makes of the answer."""
    weights = load_probe(folder).weights
    numbers = Reader(model, blocks=list(weights), max_length=max_length).read(prompts, answers)
    return sum(numbers[name].astype(float) @ values for name, values in weights.items())


def answers(lab, setting, method, seed=None):
    """The answers of a method to the evaluation prompts, judged: by `prompt_id`, `text` and the columns of `judged`."""
    return lab.store.computed("answers", key(setting, seed, method=method), lambda: _not_trained(method))


def _not_trained(method):
    raise KeyError(f"{method}: its policy is not there to answer; ask for `policy` first")


def policy(lab, setting, seed, method):
    """Train a method's policy, and keep what it answers and how likely it finds the responses to unseen inputs.

    Returns
    -------
    dict
        `n_trained, kept` (ids, best first; [] for all), what the training and the reading took.
    """
    settings = key(setting, seed, method=method)
    return lab.store.computed("policy", settings, lambda: _policy(lab, setting, seed, method))


def _policy(lab, setting, seed, method):
    start = sft_model(lab, setting)
    with scratch_folder("policy") as scratch:
        if method in UNTRAINED:
            model, record = {"instruct": lab.model, "SFT": start}[method], {"n_trained": 0, "kept": []}
        else:
            model = str(scratch / "model")
            record = train_method(lab, setting, seed, method, model)
        settings = key(setting, seed, method=method)
        with Cost() as reading:
            lab.store.computed("unseen", settings, lambda: unseen_logps(lab, setting, model))
        with Cost() as answering:
            lab.store.computed("answers", settings, lambda: _answers(lab, setting, model))
    return record | {"reading": reading.record, "answering": answering.record}


def train_method(lab, setting, seed, method, output_dir):
    """Train one method from SFT; returns what it was trained on and what that took."""
    pairs = pairs_of(lab, setting, seed)
    kept = kept_ids(lab, setting, seed, method, pairs)
    chosen = pairs.select(np.flatnonzero(np.isin(pairs["pair_id"][:], kept))) if kept else pairs
    options = {"model": sft_model(lab, setting), "output_dir": output_dir, "seed": seed}
    options |= {"reference_cache": references(lab)} | _training(setting, "dpo")
    with Cost() as cost:
        if method == "DMPO":
            aspects = sorted(set(pairs["aspect"]))
            train_dmpo(chosen, divergence(lab, setting, seed, pairs), aspects=len(aspects), **options)
        else:
            train_dpo(chosen, **options)
    log = training_log(output_dir)
    curve = [{name: point[name] for name in ("step", "loss") if name in point} for point in log["history"]]
    return {"n_trained": len(chosen), "kept": kept, "training": cost.record | spent(log), "curve": curve}


def divergence(lab, setting, seed, pairs, kind=PROXY_KINDS[0]):
    """PD of the pairs by the proxies of a kind."""
    found = margins(lab, setting, seed, kind).drop(columns=POOLED)
    return divergence_of(found, pd.Series(pairs["aspect"][:], index=pairs["pair_id"][:]))


def kept_ids(lab, setting, seed, method, pairs):
    """The ids that a method keeps, best first; [] for all pairs."""
    if method in ("ALL", "DMPO"):
        return []
    if method == "RAND":
        return list(select(random_scores(pairs, seed=seed), setting.share))
    if method == "RAF":
        return list(select(margins(lab, setting, seed)[POOLED], setting.share, keep="highest"))
    if method == "PD(rati.)":
        return list(select(rating_divergence(pairs), setting.share))
    keep = "highest" if method == "PD(high)" else "lowest"
    kind = OTHER_PROXIES.get(method, PROXY_KINDS[0])
    return list(select(divergence(lab, setting, seed, pairs, kind), setting.share, keep=keep))


def unseen_logps(lab, setting, model):
    """The log-probability of every rated response to an unseen input, nats, and its tokens: by `prompt_id, model`."""
    said = responses(lab.halves[1])
    prompts = read_as(said["prompt"], chat=setting.chat)
    texts = answered_as(said["response"], chat=setting.chat)
    logps = response_logps(model, prompts, texts, max_length=setting.max_length)
    return pd.DataFrame({"logp": logps, "tokens": response_lengths(model, texts)}, index=said.index)


def _answers(lab, setting, model):
    asked = lab.corpus.prompts
    batch = 768 if device().startswith("cuda") else 32  # a GPU answers all prompts at once
    prompts = read_as(asked["prompt"], chat=setting.chat)
    texts = generate(model, prompts, max_new_tokens=NEW_TOKENS, batch_size=batch, stop=() if setting.chat else BREAK)
    return judged(lab, setting, asked, texts).assign(text=texts)


def nulls(lab, setting):
    """Answers that ignore what was asked, judged as the policies' are; a column `method` names them."""
    return lab.store.computed("nulls", key(setting), lambda: _nulls(lab, setting))


def _nulls(lab, setting):
    asked = lab.corpus.prompts
    said = null_texts(asked, answers(lab, setting, "SFT")["text"])
    return pd.concat([judged(lab, setting, asked, texts).assign(method=name) for name, texts in said.items()])


def null_texts(asked, said):
    """The answers of `NULLS`, name to texts in the order of `asked`; `said` are SFT's, by `prompt_id`."""
    pairs = list(zip(asked["facts"], said.loc[asked.index], strict=True))
    return {name: [null(facts, text) for facts, text in pairs] for name, null in NULLS.items()}


def audit(lab, setting):
    """What every judge says of the rated responses that no judge was trained on: by `prompt_id, model`, as `judged`."""
    return lab.store.computed("audit", key(setting), lambda: _audit(lab, setting))


def _audit(lab, setting):
    asked = rated_texts(lab.corpus, lab.halves[0])
    return judged(lab, setting, asked, list(asked["response"]))


def rated_texts(corpus, ratings):
    """The rated responses with what judges need: by `prompt_id, model`, columns `prompt, facts, references, response`."""
    said = responses(ratings)
    asked = corpus.rated.loc[said.index.get_level_values("prompt_id")]
    references = pd.Series(list(asked["references"]), index=said.index)
    return said[["prompt", "response"]].assign(
        facts=list(asked["facts"]), references=[found or others(said, place) for place, found in references.items()]
    )


def others(said, place, n=3):
    """Texts that stand in for an input's references where the data have none: those of other systems, drawn by their names.

    Parameters
    ----------
    said : pandas.DataFrame
        From `responses`.
    place : tuple of str
        `prompt_id, model` of the text that they will be compared with.
    n : int
        As many as the evaluation prompts mostly have.
    """
    prompt, model = place
    rest = said.loc[prompt].drop(index=model)
    drawn = random_scores({"pair_id": [f"{prompt} {name} {model}" for name in rest.index]}, seed="reference")
    return list(rest["response"].to_numpy()[np.argsort(drawn.to_numpy(), kind="stable")[:n]])
