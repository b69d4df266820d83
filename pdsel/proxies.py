"""One small reward per aspect, trained on that aspect's pairs only; scores the pairs of every other aspect."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pdsel.artifacts import SEAL, digest, read_sealed, sealed, slug
from pdsel.checks import DataError, refuse
from pdsel.data.scratch import lasting_scratch_folder
from pdsel.engine.features import Reader, pair_features, rows_of_process
from pdsel.engine.launch import launch
from pdsel.engine.models import resolve
from pdsel.engine.options import check_options
from pdsel.engine.probes import Search, blocks_of, load_probe, train_probe
from pdsel.engine.progress import Progress
from pdsel.engine.proxy_sample import training_ids
from pdsel.engine.scoring import classifier_rewards, response_lengths, response_logps
from pdsel.engine.shared_proxy import name_aspect, named_pairs, named_start
from pdsel.pairs import check_pairs
from pdsel.selection import POOLED
from pdsel.training import train_reward, train_with_offset, training_log

TRAINED_ON = "trained_on.txt"  # beside the weights: the ids of the pairs, one a line


@dataclass(frozen=True)
class Proxy:
    """A trained reward r_k: where it is and how to read it.

    `kind` "classifier": the scalar head of the model at `path`. "implicit": beta * log(pi_k / pi_ref), with pi_k at `path`
    and pi_ref at `reference`. "shared": the same, of one model for all aspects whose prompts name `aspect`. "probe": the
    weights at `path` on what the frozen model at `reference` makes of a response.
    `length_penalty` is subtracted per token when scoring (see `fit_proxy`). `seconds`, `n_pairs` and `n_tokens` (of the
    prompt and response of either side, in every pass) are what its training took.
    """

    aspect: str
    kind: str
    path: str
    reference: str
    beta: float
    length_penalty: float
    max_length: int
    seconds: float
    n_pairs: int
    n_tokens: int

    def save(self):
        """Write `proxy.json` beside the weights, so that `load_proxy(path)` gives this proxy again."""
        record = sealed(asdict(self) | {"files": digest(self.path)})
        Path(self.path, "proxy.json").write_text(json.dumps(record, indent=1))

    @property
    def trained_on(self):
        """The set of `pair_id`s that it was trained on."""
        return set(Path(self.path, TRAINED_ON).read_text().split("\n"))


def load_proxy(path, aspect=None):
    """The proxy that `fit_proxy` saved at `path`.

    A proxy of kind "shared" is given for any `aspect`; the default is the one that it was saved for.
    """
    remedy = "fit the proxy again, as notebook 02 does"
    record = read_sealed(Path(path, "proxy.json"), remedy)
    names = {each.name for each in fields(Proxy)}
    if set(record) - {SEAL, "files"} != names:
        raise DataError(f"{path}/proxy.json is not of this version. Remedy: {remedy}")
    if record.get("files") not in (None, digest(path)):
        raise DataError(f"{path} does not hold the files that its proxy.json was written for. Remedy: {remedy}")
    proxy = Proxy(**{name: record[name] for name in names} | {"path": str(path)})
    if aspect not in (None, proxy.aspect) and proxy.kind != "shared":
        raise DataError(
            f"aspect={aspect!r}: the proxy at {path} judges {proxy.aspect!r} only. Remedy: load another folder"
        )
    return replace(proxy, aspect=aspect or proxy.aspect)


def fit_proxy(
    pairs,
    aspect,
    *,
    model,
    kind="classifier",
    length_penalty=0.0,
    length_sign="minus",
    length_balance=None,
    seed=0,
    beta=0.1,
    share=1.0,
    resample=None,
    output_dir=None,
    max_length=1024,
    **training,
):
    """Train the reward of one aspect on its own pairs, or of all pooled pairs with `aspect=None` (the paper's RAF).

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; only the rows labelled on `aspect` are used ("shared": all rows).
    aspect : str or None
    model : str
        Path, hub id or "notesworld": the model to start from; for "implicit" and "shared" it is also the reference.
    kind : {"classifier", "implicit", "shared", "probe"}
        A Bradley-Terry scalar head through TRL's RewardTrainer (the paper's), the implicit reward of a short DPO run, the
        implicit reward of one run on all pairs whose prompts name their aspect (see `fit_proxies`), or a logistic regression
        on features of the frozen model (see `pdsel.engine.probes`), which needs one forward pass and no training.
    length_penalty : float
        rho, in reward per token (0: none).
    length_sign : {"minus", "plus"}
        "minus" trains -log sigma(dr - rho * dlen) and scores r - rho * len (a re-parametrisation); "plus" trains
        -log sigma(dr + rho * dlen) and scores r, which then need not explain what length explains.
    length_balance : float, optional
        tau of the length-balanced sampling; `None`: every pair once.
    seed : int
    beta : float
        KL strength of the implicit kinds.
    share : float in (0, 1]
        p_r, the share of the aspect's pairs used.
    resample : int, optional
        Number of a bootstrap replicate: train on the pairs of as many prompts, drawn with replacement.
    output_dir : str or Path, optional
        Where the proxy is kept. The default is a scratch folder that is removed when the process ends.
    **training
        `learning_rate, batch_size, epochs, held_out, lora_rank, accelerate` and whatever else `pdsel.training` takes;
        `held_out` holds pairs of the same aspect. A probe has none of these but `accelerate`. It takes `candidates, strengths,
        folds, length` (see `pdsel.engine.probes.Search`), `reference_cache` (see `pdsel.engine.features.pair_features`) and
        `features`, what was read of these pairs before.

    Returns
    -------
    Proxy

    Raises
    ------
    ValueError
        For an aspect without pairs, an unknown kind, sign or option, or a bad pairs table.
    """
    recipe = Recipe(
        model=model,
        kind=kind,
        length_penalty=length_penalty,
        length_sign=length_sign,
        length_balance=length_balance,
        seed=seed,
        beta=beta,
        share=share,
        resample=resample,
        max_length=max_length,
        training=training,
    )
    if kind == "shared" and aspect is None:
        raise DataError("aspect=None with kind='shared': pooled pairs name no aspect. Remedy: kind='implicit'")
    check_pairs(pairs)
    return _fit(pairs, aspect, recipe, output_dir)


@dataclass(frozen=True)
class Recipe:
    """How a proxy is fitted: the keywords of `fit_proxy`, which are refused here, before anything is read.

    Raises
    ------
    ValueError
        For an unknown kind, sign or option.
    """

    model: str
    kind: str = "classifier"
    length_penalty: float = 0.0
    length_sign: str = "minus"
    length_balance: float | None = None
    seed: int = 0
    beta: float = 0.1
    share: float = 1.0
    resample: int | None = None
    max_length: int = 1024
    training: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise DataError(f"kind={self.kind!r}: use one of {list(KINDS)}")
        if self.kind == "probe" and self.length_penalty:
            raise DataError(
                f"length_penalty={self.length_penalty}: a probe takes no length penalty. Remedy: length='nuisance' fits "
                "length, and leaves it out of the score"
            )
        if self.length_sign not in ("minus", "plus"):
            raise DataError(f"length_sign={self.length_sign!r}: use 'minus' or 'plus'")
        check_options(self.training, KINDS[self.kind].options | {own.name for own in fields(self)})

    @classmethod
    def of(cls, options):
        """The recipe of keywords of `fit_proxy`, those of the training among them."""
        own = {name: value for name, value in options.items() if name in cls.__dataclass_fields__}
        return cls(**own, training={name: value for name, value in options.items() if name not in own})

    @property
    def search(self):
        """What a probe may choose from."""
        return Search(**{name: value for name, value in self.training.items() if name in SEARCH})


def _fit(pairs, aspect, recipe, output_dir):
    """`fit_proxy`, of pairs and keywords that are known to be good."""
    if output_dir is None:
        output_dir = lasting_scratch_folder("proxy") / "proxy"
    recipe, part = replace(recipe, model=resolve(recipe.model)), aspect
    if recipe.kind == "shared":
        start = named_start(recipe.model, sorted(set(pairs["aspect"][:])), f"{output_dir}-start", seed=recipe.seed)
        recipe, part = replace(recipe, model=start), None  # one model learns from the pairs of all aspects
    drawing = {name: getattr(recipe, name) for name in ("model", "share", "length_balance", "resample", "seed")}
    ids = training_ids(pairs, part, **drawing)
    row_of = {name: row for row, name in enumerate(pairs["pair_id"][:])}
    drawn = pairs.select([row_of[name] for name in ids])
    path = KINDS[recipe.kind].fit(drawn, _length_offset(drawn, recipe), recipe, output_dir)
    Path(path, TRAINED_ON).write_text("\n".join(sorted(set(ids))))
    log = training_log(path)
    proxy = Proxy(
        aspect=POOLED if aspect is None else aspect,
        kind=recipe.kind,
        path=path,
        reference=recipe.model,
        beta=recipe.beta,
        length_penalty=recipe.length_penalty if recipe.length_sign == "minus" else 0.0,
        max_length=recipe.max_length,
        seconds=log["seconds"],
        n_pairs=len(drawn),
        n_tokens=log["n_tokens"],
    )
    proxy.save()
    return proxy


def fit_proxies(pairs, *, model, output_dir=None, aspects=None, **training):
    """A proxy per aspect: one training for each, or for kind "shared" one training in all.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    model : str
        As in `fit_proxy`.
    output_dir : str or Path, optional
        A folder per proxy is made in it, named by the aspect's `slug`.
    aspects : list of str, optional
        Default: every aspect that labels a pair, sorted.
    **training
        Further keywords of `fit_proxy`.

    Returns
    -------
    dict
        Aspect to `Proxy`, for `score_margins`. Proxies of kind "shared" are those of one model, and those of kind "probe"
        come from one reading of all pairs; each carries its share of that cost.

    Raises
    ------
    ValueError
        As `fit_proxy` does, and for two aspects whose folders would be the same.
    """
    recipe = Recipe.of({"model": model, **training})
    check_pairs(pairs)
    aspects = sorted(set(pairs["aspect"][:])) if aspects is None else list(aspects)
    if recipe.kind == "shared":
        shared = _fit(pairs, aspects[0], recipe, Path(output_dir, "shared") if output_dir else None)
        cost = {"seconds": shared.seconds / len(aspects), "n_tokens": shared.n_tokens // len(aspects)}
        return {aspect: replace(shared, aspect=aspect, **cost) for aspect in aspects}
    folders = _folders(output_dir, aspects) if output_dir else dict.fromkeys(aspects)
    if recipe.kind == "probe" and recipe.training.get("features") is None:
        return _fit_probes(pairs, folders, recipe)
    return {aspect: _fit(pairs, aspect, recipe, folder) for aspect, folder in folders.items()}


def _fit_probes(pairs, folders, recipe):
    """A probe for every aspect of `folders`, all from one reading of the pairs; each carries its share of that."""
    features = _features(pairs, recipe)
    recipe = replace(recipe, training=recipe.training | {"features": features})
    probes = {}
    for aspect, folder in folders.items():
        probe = _fit(pairs, aspect, recipe, folder)
        seconds, n_tokens = features.seconds / len(folders), features.n_tokens // len(folders)
        probes[aspect] = replace(probe, seconds=probe.seconds + seconds, n_tokens=n_tokens)
        probes[aspect].save()
    return probes


def _features(pairs, recipe):
    """What a probe may choose from, read now."""
    reading = {name: recipe.training[name] for name in ("reference_cache", "accelerate") if name in recipe.training}
    blocks = recipe.search.blocks
    return pair_features(pairs, model=recipe.model, blocks=blocks, max_length=recipe.max_length, **reading)


def _fit_classifier(pairs, offset, recipe, output_dir):
    options = _run(recipe, output_dir)
    return train_reward(pairs, (-offset).tolist(), **options)


def _fit_implicit(pairs, offset, recipe, output_dir):
    options = _run(recipe, output_dir)
    return train_with_offset(pairs, offset.tolist(), beta=recipe.beta, **options)


def _fit_shared(pairs, offset, recipe, output_dir):
    """Prompts name their aspect, those of held-out pairs as well."""
    options = _run(recipe, output_dir)
    if options.get("held_out") is not None:
        options["held_out"] = named_pairs(options["held_out"])
    return train_with_offset(named_pairs(pairs), offset.tolist(), beta=recipe.beta, **options)


def _run(recipe, output_dir):
    """The keywords of a training."""
    known = {"model": recipe.model, "output_dir": output_dir, "max_length": recipe.max_length, "seed": recipe.seed}
    return known | recipe.training


def _fit_probe(pairs, offset, recipe, output_dir):
    """A convex fit, which needs no seed; the features are read here unless they are given."""
    features, cost = recipe.training.get("features"), {}
    if features is None:
        once = ~pd.Series(pairs["pair_id"][:]).duplicated()
        features = _features(pairs.select(np.flatnonzero(once)), recipe)
        cost = {"n_tokens": features.n_tokens, "seconds": features.seconds}
    features.check(recipe.model, recipe.max_length)
    return train_probe(pairs, features=features, search=recipe.search, output_dir=output_dir, cost=cost)


def _folders(output_dir, aspects):
    """A folder for each aspect; two aspects never share one, also where names ignore the case of letters."""
    names = pd.Series([slug(aspect).casefold() for aspect in aspects], index=aspects)
    refuse(
        names.index[names.duplicated(keep=False)],
        "aspect",
        "shares the name of its folder with another",
        "rename one of them, or call fit_proxy with an output_dir for each",
    )
    return {aspect: Path(output_dir, slug(aspect)) for aspect in aspects}


def _length_offset(pairs, recipe):
    """What is added inside the sigmoid for length: -rho * dlen ("minus") or +rho * dlen ("plus")."""
    if recipe.length_penalty == 0:
        return np.zeros(len(pairs))
    chosen, rejected = (response_lengths(recipe.model, pairs[side][:]) for side in ("chosen", "rejected"))
    sign = -1 if recipe.length_sign == "minus" else 1
    return sign * recipe.length_penalty * (chosen - rejected)


def _implicit(proxy, prompts, responses, references, name=""):
    key = (proxy.reference, proxy.max_length, name)
    if key not in references:  # proxies of one base share the reference, which is scored once
        references[key] = response_logps(proxy.reference, prompts, responses, max_length=proxy.max_length)
    logps = response_logps(proxy.path, prompts, responses, max_length=proxy.max_length)
    return proxy.beta * (logps - references[key])


def _shared(proxy, prompts, responses, references):
    named = [name_aspect(prompt, proxy.aspect) for prompt in prompts]
    return _implicit(proxy, named, responses, references, proxy.aspect)


def _classifier(proxy, prompts, responses, references):
    return classifier_rewards(proxy.path, prompts, responses, max_length=proxy.max_length)


def _probe(proxy, prompts, responses, references):
    """The reward of single responses; `_probe_margins` reads pairs in less memory, and for several probes at once."""
    probe = load_probe(proxy.path)
    reader = Reader(proxy.reference, blocks=list(probe.weights), max_length=proxy.max_length)
    return probe.margins(reader.read(prompts, responses))


@dataclass(frozen=True)
class Kind:
    """How proxies of a kind are fitted, the options of that, and how they reward single responses.

    `fit(pairs, offset, recipe, output_dir)` returns the path of a trained proxy; `options` are those of `Recipe.training`.
    `rewards(proxy, prompts, responses, references)` returns an array of shape (n,); what the references say is kept in the
    last argument, a dict, for other proxies of the same base.
    """

    fit: Callable
    options: set
    rewards: Callable


SEARCH = {choice.name for choice in fields(Search)}
KINDS = {
    "classifier": Kind(_fit_classifier, train_reward.options, _classifier),
    "implicit": Kind(_fit_implicit, train_with_offset.options, _implicit),
    "shared": Kind(_fit_shared, train_with_offset.options, _shared),
    "probe": Kind(_fit_probe, SEARCH | {"features", "reference_cache", "accelerate"}, _probe),
}
REWARDS = {name: kind.rewards for name, kind in KINDS.items()}


def _probe_margins(pairs, probes, features, accelerate):
    """The margins of probes; the pairs are read once for all probes of one frozen model, or not at all."""
    columns = {}
    for model, max_length in dict.fromkeys((proxy.reference, proxy.max_length) for proxy in probes.values()):
        fitted = {
            aspect: load_probe(proxy.path)
            for aspect, proxy in probes.items()
            if (proxy.reference, proxy.max_length) == (model, max_length)
        }
        read = features
        if read is None:
            blocks = blocks_of(probe.weights for probe in fitted.values())
            read = pair_features(pairs, model=model, blocks=blocks, max_length=max_length, accelerate=accelerate)
        read.check(model, max_length)
        columns |= {aspect: probe.margins_of(read, pairs["pair_id"][:]) for aspect, probe in fitted.items()}
    return pd.DataFrame(columns, index=_ids(pairs))


def score_margins(pairs, proxies, *, accelerate=None, features=None):
    """The raw margin r_k(x, chosen) - r_k(x, rejected) of every proxy on every pair.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    proxies : list of Proxy, or dict of aspect to Proxy
    accelerate : str or Path, optional
        Spread the pairs over processes with this config, see `pdsel.engine.launch`: every process scores the pairs of its
        prompts, and the parts are joined by `pair_id`. Equal to one process to about 1e-6 times a log-probability.
    features : pdsel.engine.feature_files.PairFeatures, optional
        For proxies of kind "probe": what was read of these pairs already, so that they are not read again.

    Returns
    -------
    pandas.DataFrame, shape (n, number of proxies)
        Index `pair_id`, a column per proxy's aspect. Pass it through `scale_margins` before comparing aspects.
    """
    check_pairs(pairs)
    named = proxies if isinstance(proxies, dict) else {proxy.aspect: proxy for proxy in proxies}
    if not named or len(named) != len(proxies):
        raise DataError(f"proxies: {len(proxies)} given for aspects {list(named)}; give one per aspect, at least one")
    probes = {aspect: proxy for aspect, proxy in named.items() if proxy.kind == "probe"}
    others = {aspect: proxy for aspect, proxy in named.items() if proxy.kind != "probe"}
    if not others:
        rewarded = pd.DataFrame(index=_ids(pairs))
    elif accelerate is None:
        rewarded = _margins(pairs, others)
    else:
        plain = {aspect: asdict(proxy) for aspect, proxy in others.items()}
        parts = launch(margins_of_part, pairs, plain, config=accelerate)
        rewarded = pd.concat(parts).loc[pairs["pair_id"][:]]
    margins = _probe_margins(pairs, probes, features, accelerate).join(rewarded)[list(named)]
    for aspect in margins:
        bad = margins.index[~np.isfinite(margins[aspect])]
        refuse(bad, f"margins[{aspect!r}]", "is not finite", "the proxy diverged: lower its learning rate")
    return margins


def margins_of_part(pairs, plain_proxies):
    """`score_margins` on this process's part of the pairs, with proxies as dicts of their fields.

    A part has whole prompts, since pairs of one prompt share responses, and each text is to be read once.
    """
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # under an FSDP config: every process reads whole models
    mine = pairs.select(rows_of_process(pairs))
    return _margins(mine, {aspect: Proxy(**fields) for aspect, fields in plain_proxies.items()})


def _margins(pairs, proxies):
    """The margins of proxies that reward responses."""
    prompts = pairs["prompt"][:] * 2
    responses = pairs["chosen"][:] + pairs["rejected"][:]
    columns, references = {}, {}
    for aspect, proxy in Progress(proxies.items(), desc="proxies"):
        rewards = REWARDS[proxy.kind](proxy, prompts, responses, references)
        if proxy.length_penalty:
            rewards = rewards - proxy.length_penalty * response_lengths(proxy.reference, responses)
        columns[aspect] = rewards[: len(pairs)] - rewards[len(pairs) :]
    return pd.DataFrame(columns, index=_ids(pairs))


def _ids(pairs):
    return pd.Index(pairs["pair_id"][:], name="pair_id")
