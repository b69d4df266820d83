"""One small reward per aspect, trained on that aspect's pairs only; scores the pairs of every other aspect."""

import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from pdsel.checks import DataError, refuse
from pdsel.pairs import check_pairs
from pdsel.scoring import classifier_rewards, response_lengths, response_logps
from pdsel.selection import POOLED
from pdsel.training import train_reward, train_with_offset, training_log


@dataclass(frozen=True)
class Proxy:
    """A trained reward r_k: where it is and how to read it.

    `kind` "classifier": the scalar head of the model at `path`. "implicit": beta * log(pi_k / pi_ref), with pi_k at `path`
    and pi_ref at `reference`. `length_penalty` is subtracted per token when scoring (see `fit_proxy`).
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
    holder: object = field(default=None, repr=False, compare=False)  # keeps a temporary folder alive

    def save(self):
        """Write `proxy.json` beside the weights, so that `load_proxy(path)` gives this proxy again."""
        record = {name: value for name, value in asdict(self).items() if name != "holder"}
        Path(self.path, "proxy.json").write_text(json.dumps(record, indent=1))
        return self


def load_proxy(path):
    """The proxy that `fit_proxy` saved at `path`."""
    return Proxy(**json.loads(Path(path, "proxy.json").read_text()) | {"path": str(path)})


def fit_proxy(
    pairs, aspect, *, model, kind="classifier", length_penalty=0.0, length_sign="minus", length_balance=None, seed=0,
    beta=0.1, share=1.0, output_dir=None, max_length=1024, **training,
):  # fmt: skip
    """Train the reward of one aspect on its own pairs, or of all pooled pairs with `aspect=None` (the paper's RAF).

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; only the rows labelled on `aspect` are used.
    aspect : str or None
    model : str
        Path or hub id to start from; for "implicit" also the reference.
    kind : {"classifier", "implicit"}
        A Bradley-Terry scalar head through TRL's RewardTrainer (the paper's), or the implicit reward of a short DPO run.
    length_penalty : float
        rho, in reward per token (0: none).
    length_sign : {"minus", "plus"}
        "minus" trains -log sigma(dr - rho * dlen) and scores r - rho * len (a re-parametrisation); "plus" trains
        -log sigma(dr + rho * dlen) and scores r, which then need not explain what length explains.
    length_balance : float, optional
        tau of the length-balanced sampling; `None`: every pair once.
    seed : int
    beta : float
        KL strength of the implicit kind.
    share : float in (0, 1]
        p_r, the share of the aspect's pairs used.
    output_dir : str or Path, optional
        Default: a temporary folder that lives as long as the proxy.
    **training
        `learning_rate, batch_size, epochs` and anything else TRL's config knows.

    Returns
    -------
    Proxy

    Raises
    ------
    ValueError
        For an aspect without pairs, an unknown kind or sign, or a bad pairs table.
    """
    _check_options(kind, length_sign)
    check_pairs(pairs)
    ids = _training_ids(pairs, aspect, share, length_balance, model, seed)
    where = {name: row for row, name in enumerate(pairs["pair_id"])}
    part = pairs.select([where[name] for name in ids])
    offset = _length_offset(part, model, length_penalty, length_sign)
    holder = None
    if output_dir is None:
        holder = tempfile.TemporaryDirectory(prefix="pdsel-proxy-")
        output_dir = Path(holder.name) / "proxy"
    options = {"model": model, "output_dir": output_dir, "seed": seed, "max_length": max_length} | training
    if kind == "implicit":
        path = train_with_offset(part, offset, beta=beta, **options)
    else:
        path = train_reward(part, -offset, **options)
    penalty = length_penalty if length_sign == "minus" else 0.0
    name = aspect if aspect is not None else POOLED
    seconds = training_log(path)["seconds"]
    return Proxy(name, kind, path, str(model), beta, penalty, max_length, seconds, len(part), holder).save()


def _length_offset(part, model, penalty, sign):
    """What is added inside the sigmoid for length: -rho * dlen ("minus") or +rho * dlen ("plus")."""
    gap = response_lengths(model, part["chosen"]) - response_lengths(model, part["rejected"])
    return -penalty * gap if sign == "minus" else penalty * gap


def _check_options(kind, length_sign):
    if kind not in REWARDS:
        raise DataError(f"kind={kind!r}: use one of {list(REWARDS)}")
    if length_sign not in ("minus", "plus"):
        raise DataError(f"length_sign={length_sign!r}: use 'minus' or 'plus'")


def _training_ids(pairs, aspect, share, tau, model, seed):
    """The ids to train on: the aspect's part, a share of it, balanced by length."""
    table = pairs.select_columns(["pair_id", "aspect"]).to_pandas()
    part = table if aspect is None else table[table["aspect"] == aspect]
    if part.empty:
        raise DataError(f"aspect={aspect!r} labels no pair; the table has {sorted(table['aspect'].unique())}")
    rng = np.random.default_rng([seed, 404])
    ids = np.sort(part["pair_id"].to_numpy(dtype=str))
    ids = np.sort(rng.choice(ids, max(1, round(share * len(ids))), replace=False))
    if tau is None:
        return list(ids)
    rows = pairs.select(np.flatnonzero(np.isin(table["pair_id"].to_numpy(dtype=str), ids)))
    longer = response_lengths(model, rows["chosen"]) >= response_lengths(model, rows["rejected"])
    names = np.array(rows["pair_id"], dtype=str)
    return list(balance_by_length(names[longer], names[~longer], tau, rng))


def balance_by_length(plus, minus, tau, rng):
    """Draw as many ids as given, from `plus` with probability exp(f+/tau) / (exp(f+/tau) + exp(f-/tau)).

    Parameters
    ----------
    plus, minus : array of str
        Ids whose chosen response is at least as long as / shorter than the rejected one; f+ and f- are their shares.
    tau : float > 0
        1 and above evens out, towards 0 keeps the majority only.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        Ids, an id as often as the others of its group (to one).

    >>> balanced = balance_by_length(np.array(["a", "b", "c"]), np.array(["d"]), float("inf"), np.random.default_rng(0))
    >>> sorted(map(str, balanced))[-2:]
    ['d', 'd']
    """
    n = len(plus) + len(minus)
    if tau <= 0:
        raise DataError(f"length_balance={tau}: the temperature tau is positive; None turns balancing off")
    if len(plus) == 0 or len(minus) == 0:
        return np.concatenate([plus, minus])
    p_plus = 1 / (1 + np.exp((len(minus) - len(plus)) / n / tau))
    n_plus = round(n * p_plus)
    drawn = [_cycle(group, size, rng) for group, size in [(plus, n_plus), (minus, n - n_plus)]]
    return np.concatenate(drawn)


def _cycle(ids, size, rng):
    """`size` ids, every one used before any is used again."""
    rounds = -(-size // len(ids))
    return np.concatenate([rng.permutation(ids) for _ in range(max(1, rounds))])[:size]


def _implicit(proxy, prompts, responses, references):
    key = (proxy.reference, proxy.max_length)
    if key not in references:  # proxies of one family share the reference: score it once
        references[key] = response_logps(proxy.reference, prompts, responses, max_length=proxy.max_length)
    logps = response_logps(proxy.path, prompts, responses, max_length=proxy.max_length)
    return proxy.beta * (logps - references[key])


def _classifier(proxy, prompts, responses, references):
    return classifier_rewards(proxy.path, prompts, responses, max_length=proxy.max_length)


REWARDS = {"classifier": _classifier, "implicit": _implicit}


def score_margins(pairs, proxies):
    """The raw margin r_k(x, chosen) - r_k(x, rejected) of every proxy on every pair.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table.
    proxies : list of Proxy, or dict of aspect to Proxy

    Returns
    -------
    pandas.DataFrame, shape (n, number of proxies)
        Index `pair_id`, a column per proxy's aspect. Pass it through `scale_margins` before comparing aspects.
    """
    check_pairs(pairs)
    named = proxies if isinstance(proxies, dict) else {proxy.aspect: proxy for proxy in proxies}
    if not named or len(named) != len(proxies):
        raise DataError(f"proxies: {len(proxies)} given for aspects {list(named)}; give one per aspect, at least one")
    prompts = list(pairs["prompt"]) * 2
    responses = [*pairs["chosen"], *pairs["rejected"]]
    references, columns = {}, {}
    for aspect, proxy in tqdm(named.items(), desc="proxies"):
        rewards = REWARDS[proxy.kind](proxy, prompts, responses, references)
        if proxy.length_penalty:
            rewards = rewards - proxy.length_penalty * response_lengths(proxy.reference, responses)
        columns[aspect] = rewards[: len(pairs)] - rewards[len(pairs) :]
    margins = pd.DataFrame(columns, index=pd.Index(list(pairs["pair_id"]), name="pair_id"))
    for aspect in margins:
        bad = margins.index[~np.isfinite(margins[aspect])]
        refuse(bad, f"margins[{aspect!r}]", "is not finite", "the proxy diverged: lower its learning rate")
    return margins


def proxy_accuracy(margins, truth, aspect):
    """How often each proxy orders the *other* aspects' pairs as `truth` does.

    Parameters
    ----------
    margins, truth : pandas.DataFrame
        Index `pair_id`, a column per aspect; `truth` may be rating gaps or gold gaps.
    aspect : pandas.Series
        `pair_id` to the aspect of the label.

    Returns
    -------
    pandas.Series
        Share in [0, 1] by aspect, ties of the truth left out.
    """
    return pd.Series({name: _agreement(margins[name], truth[name], aspect != name) for name in truth.columns})


def _agreement(margin, truth, others):
    ranked = others & truth.notna() & (truth != 0)
    return float((np.sign(margin[ranked]) == np.sign(truth[ranked])).mean())
