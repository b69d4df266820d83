"""What rules need of a pairs table: margins, rewards, log-probabilities, features, samples.

A signal is a function whose parameters name what it needs: other signals, or `pairs`, `base` (the model to start from) and
`seed`. One that asks for a `folder` trains models into it, and its value is that folder. Adding one is a function and a line
in `SIGNALS`. `pdsel.rules.store.Signals` computes and keeps them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pdsel.data.messages import text_of
from pdsel.engine.models import load_causal
from pdsel.engine.scoring import BATCH_TOKENS, response_logps, score_texts
from pdsel.generation import generate
from pdsel.notesworld import settings
from pdsel.notesworld.settings import IMPLICIT, LOSS_TYPE, NEW_TOKENS, PROXY_BASE
from pdsel.proxies import fit_proxies, fit_proxy, load_proxy, score_margins
from pdsel.rules.baselines import words
from pdsel.rules.margins import implicit
from pdsel.selection import random_scores
from pdsel.training import train_dpo

# Proxies start from a smaller model than policies do.
POOLED_REWARD = IMPLICIT | {"model": PROXY_BASE}
PROXIES = settings.PROXIES | {"model": PROXY_BASE}
DPO = settings.DPO | {"batch_size": settings.BATCH, "loss_type": LOSS_TYPE}
SEED_SHARE = 0.3  # of the prompts whose pairs train the probe
REPEATS = 2  # of the two-fold split behind the held-out losses
SAMPLES = 8  # a prompt, at temperature 1
MAX_LENGTH = 1024  # tokens of a text that are read, as `response_logps` reads them


class Cost(IntEnum):
    """What computing a signal asks for, from the least to the most; each includes those before it."""

    READING = 1  # the texts, and a pass of the base model over them
    REWARD = 2  # one reward of whole responses, and samples to give it to
    TRAINING = 3  # policies that are trained on the pairs only to look at them
    ASPECTS = 4  # labels of several aspects, and a reward of each


@dataclass(frozen=True)
class Signal:
    """A function of other signals, and what it asks for."""

    compute: Callable
    cost: Cost


def aspect_models(pairs, base, seed, proxies, folder):
    """A proxy per aspect, each in a folder of its name; one folder for all where they are one model's (kind "shared")."""
    fit_proxies(pairs, output_dir=folder, **{"model": base, "seed": seed} | proxies)


def margins(pairs, aspect_models):
    fitted = _proxies(aspect_models)
    first = next(iter(fitted.values()))
    if first.kind == "shared":
        fitted = {aspect: load_proxy(first.path, aspect) for aspect in sorted(set(pairs["aspect"]))}
    return score_margins(pairs, fitted)


def _proxies(folder):
    found = [load_proxy(path.parent) for path in sorted(Path(folder).glob("*/proxy.json"))]
    return {proxy.aspect: proxy for proxy in found}


def pooled_model(pairs, base, seed, pooled_reward, folder):
    """One reward on all pairs as labelled."""
    fit_proxy(pairs, None, output_dir=Path(folder, "pooled"), **{"model": base, "seed": seed} | pooled_reward)


def aspect_policies(pairs, base, seed, folder):
    """A policy per aspect: DPO from the base model on its pairs only, which makes an implicit proxy as large as the policy."""
    fit_proxies(pairs, output_dir=folder, model=base, seed=seed, **IMPLICIT)


def pooled_rewards(pairs, pooled_model):
    """Rewards of either side."""
    rewards = _rewards(_pooled(pooled_model), list(pairs["prompt"]) * 2, [*pairs["chosen"], *pairs["rejected"]])
    return _by_pair(pairs, rewards)


def _pooled(folder):
    return load_proxy(Path(folder, "pooled"))


def _rewards(proxy, prompts, responses):
    """The implicit reward of each response: beta * log(pi / pi_ref) of the proxy and of the model that it started from."""
    logps, reference = (response_logps(model, prompts, responses) for model in (proxy.path, proxy.reference))
    return proxy.beta * (logps - reference)


def pooled(pooled_rewards):
    """The margin of the one reward on all pairs."""
    return pooled_rewards["chosen"] - pooled_rewards["rejected"]


def reference_logps(pairs, base):
    return _both_sides(base, pairs)


def _both_sides(model, pairs):
    """Log-probabilities of whole responses, nats, columns `chosen, rejected`."""
    logps = response_logps(model, list(pairs["prompt"]) * 2, [*pairs["chosen"], *pairs["rejected"]])
    return _by_pair(pairs, logps)


def _by_pair(pairs, values):
    index = pd.Index(list(pairs["pair_id"]), name="pair_id")
    return pd.DataFrame({"chosen": values[: len(pairs)], "rejected": values[len(pairs) :]}, index=index)


def tokens(pairs, base):
    """Tokens of either side that its log-probability sums over, the end of text among them."""
    return _by_pair(pairs, _lengths(base, list(pairs["prompt"]) * 2, [*pairs["chosen"], *pairs["rejected"]]))


def _lengths(base, prompts, responses):
    def count(net, ids, mask, n_prompt):
        position = torch.arange(1, ids.shape[1], device=ids.device)  # nothing predicts the very first token
        return (mask[:, 1:] * (position >= n_prompt[:, None])).sum(dim=1)

    return _score(base, prompts, responses, count)


def _score(base, prompts, responses, score):
    return score_texts(load_causal, base, prompts, responses, score, MAX_LENGTH, BATCH_TOKENS)


def unprompted_nll(pairs, base):
    """Mean nats a token of either side without its prompt; without a BOS token the first word cannot be scored."""
    responses = [*pairs["chosen"], *pairs["rejected"]]
    empty = [""] * len(responses) if isinstance(responses[0], str) else [[]] * len(responses)
    return _by_pair(pairs, -response_logps(base, empty, responses) / _lengths(base, empty, responses))


def probe(pairs, base, seed, folder):
    """DPO on the pairs of a seed share of the prompts."""
    train_dpo(
        pairs.select(np.flatnonzero(_draws(pairs, f"probe {seed}") < SEED_SHARE)),
        model=base,
        seed=seed,
        output_dir=Path(folder, "model"),
        **DPO,
    )


def _draws(pairs, seed):
    """A uniform number per pair, the same for all pairs of a prompt."""
    return random_scores({"pair_id": pairs["prompt_id"]}, seed=seed).to_numpy()


def probe_logps(pairs, probe):
    return _both_sides(str(Path(probe, "model")), pairs)


def policy(pairs, base, seed, folder):
    """DPO on all pairs, as ALL trains."""
    train_dpo(pairs, model=base, seed=seed, output_dir=Path(folder, "model"), **DPO)


def policy_logps(pairs, policy):
    return _both_sides(str(Path(policy, "model")), pairs)


def held_out_losses(pairs, base, seed, reference_logps, folder):
    """DPO's loss on every pair under a model that saw no pair of its prompt; a column per repeat of a two-fold split."""
    columns = {}
    for repeat in range(REPEATS):
        second = _draws(pairs, f"fold {repeat} {seed}") < 0.5
        parts = []
        for held_out in (second, ~second):
            path = train_dpo(
                pairs.select(np.flatnonzero(~held_out)), model=base, seed=seed, output_dir=Path(folder, "model"), **DPO
            )
            rest = pairs.select(np.flatnonzero(held_out))
            parts.append(
                implicit(_both_sides(path, rest), reference_logps.loc[list(rest["pair_id"])], beta=DPO["beta"])
            )
        columns[f"repeat {repeat}"] = np.logaddexp(0, -pd.concat(parts))
    return pd.DataFrame(columns).loc[list(pairs["pair_id"])].rename_axis("pair_id")


def features(pairs, base):
    """Mean last-layer state over the response's tokens, chosen minus rejected; a column per dimension."""
    states = _states(base, list(pairs["prompt"]) * 2, [*pairs["chosen"], *pairs["rejected"]], _mean_state)
    index = pd.Index(list(pairs["pair_id"]), name="pair_id")
    return pd.DataFrame(states[: len(pairs)] - states[len(pairs) :], index=index).rename(columns=str)


def response_features(pairs, base):
    """Mean last-layer state over the tokens of every response to a prompt, each once: its text is in the column `response`."""
    asked = zip([*pairs["prompt_id"]] * 2, [*pairs["prompt"]] * 2, [*pairs["chosen"], *pairs["rejected"]], strict=True)
    distinct = {(name, text_of(response)): (prompt, response) for name, prompt, response in asked}
    names, texts = zip(*sorted(distinct), strict=True)
    prompts, responses = zip(*(distinct[key] for key in sorted(distinct)), strict=True)
    states = _states(base, prompts, responses, _mean_state)
    index = pd.Index(names, name="prompt_id")
    return pd.DataFrame(states, index=index).rename(columns=str).assign(response=texts)


def hidden_products(pairs, base):
    """Inner products of the sums of last-layer states from which each response's tokens are predicted, see
    `pdsel.rules.geometry.hidden_similarity`: `both`, chosen with rejected, and `chosen`, chosen with itself.
    """
    sums = _states(base, list(pairs["prompt"]) * 2, [*pairs["chosen"], *pairs["rejected"]], _sum_of_predicting_states)
    chosen, rejected = sums[: len(pairs)], sums[len(pairs) :]
    index = pd.Index(list(pairs["pair_id"]), name="pair_id")
    return pd.DataFrame({"both": (chosen * rejected).sum(axis=1), "chosen": (chosen**2).sum(axis=1)}, index=index)


def _states(base, prompts, responses, summary):
    """A summary of the last layer's states for each text: `summary(states, mask, n_prompt)`."""

    def score(net, ids, mask, n_prompt):
        states = net(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1].float()
        return summary(states, mask, n_prompt)

    return _score(base, list(prompts), list(responses), score)


def _mean_state(states, mask, n_prompt):
    """The mean over the response's tokens."""
    ours = mask * (torch.arange(mask.shape[1], device=mask.device) >= n_prompt[:, None])
    return (states * ours[..., None]).sum(dim=1) / ours.sum(dim=1, keepdim=True)


def _sum_of_predicting_states(states, mask, n_prompt):
    """The sum from the prompt's last token to the response's last but one: what predicts the response's tokens."""
    positions = torch.arange(mask.shape[1] - 1, device=mask.device)
    predicting = mask[:, 1:] * (positions >= n_prompt[:, None] - 1)
    return (states[:, :-1] * predicting[..., None]).sum(dim=1)


def samples(pairs, base, seed):
    """Responses of the base model at temperature 1, by `prompt_id`; columns `prompt, response`."""
    prompts = dict(zip(pairs["prompt_id"], pairs["prompt"], strict=True))
    ids = [name for name in sorted(prompts) for _ in range(SAMPLES)]
    asked = [prompts[name] for name in ids]
    said = generate(base, asked, max_new_tokens=NEW_TOKENS, temperature=1.0, seed=seed)
    return pd.DataFrame({"prompt": asked, "response": said}, index=pd.Index(ids, name="prompt_id"))


def sample_logps(samples, base):
    logps = response_logps(base, list(samples["prompt"]), list(samples["response"]))
    return pd.Series(logps, index=samples.index)


def sample_rewards(samples, pooled_model):
    """The pooled reward of every sample."""
    return _sample_rewards(_pooled(pooled_model), samples)


def sample_opinions(samples, aspect_models):
    """Every aspect's reward of every sample, a column per aspect."""
    return pd.DataFrame({aspect: _sample_rewards(proxy, samples) for aspect, proxy in _proxies(aspect_models).items()})


def _sample_rewards(proxy, samples):
    return pd.Series(_rewards(proxy, list(samples["prompt"]), list(samples["response"])), index=samples.index)


SIGNALS = {
    "words": Signal(words, Cost.READING),
    "aspect_models": Signal(aspect_models, Cost.ASPECTS),
    "aspect_policies": Signal(aspect_policies, Cost.ASPECTS),
    "margins": Signal(margins, Cost.ASPECTS),
    "pooled_model": Signal(pooled_model, Cost.REWARD),
    "pooled_rewards": Signal(pooled_rewards, Cost.REWARD),
    "pooled": Signal(pooled, Cost.REWARD),
    "reference_logps": Signal(reference_logps, Cost.READING),
    "tokens": Signal(tokens, Cost.READING),
    "unprompted_nll": Signal(unprompted_nll, Cost.READING),
    "probe": Signal(probe, Cost.TRAINING),
    "probe_logps": Signal(probe_logps, Cost.TRAINING),
    "policy": Signal(policy, Cost.TRAINING),
    "policy_logps": Signal(policy_logps, Cost.TRAINING),
    "held_out_losses": Signal(held_out_losses, Cost.TRAINING),
    "features": Signal(features, Cost.READING),
    "response_features": Signal(response_features, Cost.READING),
    "hidden_products": Signal(hidden_products, Cost.READING),
    "samples": Signal(samples, Cost.REWARD),
    "sample_logps": Signal(sample_logps, Cost.REWARD),
    "sample_rewards": Signal(sample_rewards, Cost.REWARD),
    "sample_opinions": Signal(sample_opinions, Cost.ASPECTS),
}


def cost(names):
    """The highest cost of any of these signals; the pairs themselves only have to be read.

    >>> cost(["pairs", "pooled"])
    <Cost.REWARD: 2>
    """
    return max((SIGNALS[name].cost for name in names if name in SIGNALS), default=Cost.READING)
