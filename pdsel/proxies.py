"""One small reward per aspect, trained on that aspect's pairs only; scores the pairs of every other aspect."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from pdsel.artifacts import slug
from pdsel.checks import DataError, refuse
from pdsel.engine import processes
from pdsel.engine.launch import launch
from pdsel.engine.proxy_sample import training_ids
from pdsel.engine.scoring import classifier_rewards, response_lengths, response_logps
from pdsel.engine.shared_proxy import name_aspect, named_pairs, named_start
from pdsel.pairs import check_pairs
from pdsel.selection import POOLED
from pdsel.training import train_reward, train_with_offset, training_log


@dataclass(frozen=True)
class Proxy:
    """A trained reward r_k: where it is and how to read it.

    `kind` "classifier": the scalar head of the model at `path`. "implicit": beta * log(pi_k / pi_ref), with pi_k at `path`
    and pi_ref at `reference`. "shared": the same, of one model for all aspects whose prompts name `aspect`.
    `length_penalty` is subtracted per token when scoring (see `fit_proxy`). `seconds`, `n_pairs` and `n_tokens` (prompt
    and response of either side, every pass) are what its training took.
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
    holder: object = field(default=None, repr=False, compare=False)  # keeps a temporary folder alive

    def save(self):
        """Write `proxy.json` beside the weights, so that `load_proxy(path)` gives this proxy again."""
        record = {name: value for name, value in asdict(replace(self, holder=None)).items() if name != "holder"}
        Path(self.path, "proxy.json").write_text(json.dumps(record, indent=1))
        return self

    @property
    def trained_on(self):
        """The `pair_id`s of its training, as a set."""
        return set(Path(self.path, "trained_on.txt").read_text().split("\n"))


def load_proxy(path, aspect=None):
    """The proxy that `fit_proxy` saved at `path`; of kind "shared", that of any `aspect` (default: the one it was saved as)."""
    proxy = Proxy(**json.loads(Path(path, "proxy.json").read_text()) | {"path": str(path)})
    if aspect not in (None, proxy.aspect) and proxy.kind != "shared":
        raise DataError(
            f"aspect={aspect!r}: the proxy at {path} is of {proxy.aspect!r} only. Remedy: load another folder"
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
        Path or hub id to start from; for "implicit" and "shared" also the reference.
    kind : {"classifier", "implicit", "shared"}
        A Bradley-Terry scalar head through TRL's RewardTrainer (the paper's), the implicit reward of a short DPO run, or
        the implicit reward of one run on all pairs whose prompts name their aspect (see `fit_proxies`).
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
        Default: a temporary folder that lives as long as the proxy.
    **training
        `learning_rate, batch_size, epochs, held_out, lora_rank, accelerate` and what else `pdsel.training` takes;
        `held_out` are pairs of the same aspect.

    Returns
    -------
    Proxy

    Raises
    ------
    ValueError
        For an aspect without pairs, an unknown kind or sign, or a bad pairs table.
    """
    _check_options(kind, aspect, length_sign)
    check_pairs(pairs)
    holder = None
    if output_dir is None:
        holder = tempfile.TemporaryDirectory(prefix="pdsel-proxy-")
        output_dir = Path(holder.name) / "proxy"
    if kind == "shared":
        model = named_start(model, sorted(set(pairs["aspect"])), f"{output_dir}-start", seed=seed)
    part = aspect if kind != "shared" else None
    ids = training_ids(
        pairs, part, model=model, share=share, length_balance=length_balance, resample=resample, seed=seed
    )
    where = {name: row for row, name in enumerate(pairs["pair_id"])}
    rows = pairs.select([where[name] for name in ids])
    offset = _length_offset(rows, model, length_penalty, length_sign)
    path = _train(
        kind,
        rows,
        offset,
        beta,
        {"model": model, "output_dir": output_dir, "seed": seed, "max_length": max_length} | training,
    )
    Path(path, "trained_on.txt").write_text("\n".join(sorted(set(ids))))
    log = training_log(path)
    penalty = length_penalty if length_sign == "minus" else 0.0
    name = aspect if aspect is not None else POOLED
    return Proxy(
        name, kind, path, str(model), beta, penalty, max_length, log["seconds"], len(rows), log["n_tokens"], holder
    ).save()


def fit_proxies(pairs, *, output_dir=None, aspects=None, **options):
    """A proxy per aspect: a training each, or for kind "shared" one training in all.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    output_dir : str or Path, optional
        A folder per proxy is made in it.
    aspects : list of str, optional
        Default: every aspect that labels a pair, sorted.
    **options
        As in `fit_proxy`; `model` is needed.

    Returns
    -------
    dict
        Aspect to `Proxy`, for `score_margins`. Proxies of kind "shared" are one model's; each carries its share of the
        cost.
    """
    aspects = sorted(set(pairs["aspect"])) if aspects is None else list(aspects)
    if options.get("kind") != "shared":
        folders = {aspect: Path(output_dir, slug(aspect)) if output_dir else None for aspect in aspects}
        return {aspect: fit_proxy(pairs, aspect, output_dir=folders[aspect], **options) for aspect in aspects}
    one = fit_proxy(pairs, aspects[0], output_dir=Path(output_dir, "shared") if output_dir else None, **options)
    parts = {"seconds": one.seconds / len(aspects), "n_tokens": one.n_tokens // len(aspects)}
    return {aspect: replace(one, aspect=aspect, **parts) for aspect in aspects}


def _train(kind, rows, offset, beta, options):
    if kind == "classifier":
        return train_reward(rows, (-offset).tolist(), **options)
    if kind == "shared":
        rows = named_pairs(rows)
        if options.get("held_out") is not None:
            options |= {"held_out": named_pairs(options["held_out"])}
    return train_with_offset(rows, offset.tolist(), beta=beta, **options)


def _length_offset(part, model, penalty, sign):
    """What is added inside the sigmoid for length: -rho * dlen ("minus") or +rho * dlen ("plus")."""
    gap = response_lengths(model, part["chosen"]) - response_lengths(model, part["rejected"])
    return -penalty * gap if sign == "minus" else penalty * gap


def _check_options(kind, aspect, length_sign):
    if kind not in REWARDS:
        raise DataError(f"kind={kind!r}: use one of {list(REWARDS)}")
    if kind == "shared" and aspect is None:
        raise DataError("aspect=None with kind='shared': pooled pairs name no aspect. Remedy: kind='implicit'")
    if length_sign not in ("minus", "plus"):
        raise DataError(f"length_sign={length_sign!r}: use 'minus' or 'plus'")


def _implicit(proxy, prompts, responses, references, name=""):
    key = (proxy.reference, proxy.max_length, name)
    if key not in references:  # proxies of one family share the reference: score it once
        references[key] = response_logps(proxy.reference, prompts, responses, max_length=proxy.max_length)
    logps = response_logps(proxy.path, prompts, responses, max_length=proxy.max_length)
    return proxy.beta * (logps - references[key])


def _shared(proxy, prompts, responses, references):
    named = [name_aspect(prompt, proxy.aspect) for prompt in prompts]
    return _implicit(proxy, named, responses, references, proxy.aspect)


def _classifier(proxy, prompts, responses, references):
    return classifier_rewards(proxy.path, prompts, responses, max_length=proxy.max_length)


REWARDS = {"classifier": _classifier, "implicit": _implicit, "shared": _shared}


def score_margins(pairs, proxies, *, accelerate=None):
    """The raw margin r_k(x, chosen) - r_k(x, rejected) of every proxy on every pair.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    proxies : list of Proxy, or dict of aspect to Proxy
    accelerate : str or Path, optional
        Spread the pairs over processes with this config, see `pdsel.engine.launch`: every process scores the pairs of its
        prompts, and the parts are joined by `pair_id`. Equal to one process to about 1e-6 times a log-probability.

    Returns
    -------
    pandas.DataFrame, shape (n, number of proxies)
        Index `pair_id`, a column per proxy's aspect. Pass it through `scale_margins` before comparing aspects.
    """
    check_pairs(pairs)
    named = proxies if isinstance(proxies, dict) else {proxy.aspect: proxy for proxy in proxies}
    if not named or len(named) != len(proxies):
        raise DataError(f"proxies: {len(proxies)} given for aspects {list(named)}; give one per aspect, at least one")
    if accelerate is None:
        margins = _margins(pairs, named)
    else:
        plain = {aspect: asdict(replace(proxy, holder=None)) for aspect, proxy in named.items()}
        parts = launch(margins_of_part, pairs, plain, config=accelerate)
        margins = pd.concat(parts).loc[list(pairs["pair_id"])]
    for aspect in margins:
        bad = margins.index[~np.isfinite(margins[aspect])]
        refuse(bad, f"margins[{aspect!r}]", "is not finite", "the proxy diverged: lower its learning rate")
    return margins


def margins_of_part(pairs, plain_proxies):
    """`score_margins` on this process's part of the pairs, with proxies as dicts of their fields.

    A part has whole prompts, since pairs of one prompt share responses, and each text is to be read once.
    """
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # under an FSDP config: every process reads whole models
    prompts = [json.dumps(prompt) for prompt in pairs["prompt"]]
    place = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    mine = [row for row, prompt in enumerate(prompts) if place[prompt] % processes.count() == processes.rank()]
    return _margins(pairs.select(mine), {aspect: Proxy(**fields) for aspect, fields in plain_proxies.items()})


def _margins(pairs, named):
    prompts = list(pairs["prompt"]) * 2
    responses = [*pairs["chosen"], *pairs["rejected"]]
    references, columns = {}, {}
    for aspect, proxy in tqdm(named.items(), desc="proxies", leave=False):
        rewards = REWARDS[proxy.kind](proxy, prompts, responses, references)
        if proxy.length_penalty:
            rewards = rewards - proxy.length_penalty * response_lengths(proxy.reference, responses)
        columns[aspect] = rewards[: len(pairs)] - rewards[len(pairs) :]
    return pd.DataFrame(columns, index=pd.Index(list(pairs["pair_id"]), name="pair_id"))
