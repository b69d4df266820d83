"""The other way to use a preference set: another loss on all pairs, or another order, instead of a selection.

An alternative is a function of signals that says how `pdsel.training.train_with_offset` is to differ from DPO: any of TRL's
options, and of ours `offset` and `scale` (a number per pair inside the sigmoid, and a factor of the margin, one number or one
per pair), `loss` (of `pdsel.engine.losses`), `order` (the pairs from first to last, no shuffling), `stages` (lists of pairs,
the model of one stage being the reference of the next), or `merge` (models whose mean is taken, with no training at all).
A plan that depends on DPO's beta has the keyword `beta`. Losses that TRL 1.16 has are TRL's; its source was read for the
formulas given here. Each of the others says what it was compared with.
"""

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from pdsel.artifacts import writing
from pdsel.checks import DataError, check_pairs, refuse
from pdsel.data.gaps import own_gap
from pdsel.divergence import aligned
from pdsel.engine.merging import merge_models
from pdsel.proxies import load_proxy
from pdsel.rules import needs
from pdsel.rules.aspects import divergence, weighted_divergence
from pdsel.rules.margins import BETA, implicit
from pdsel.training import train_with_offset

RECORD = "training.json"  # of a training, see `pdsel.training.training_log`
SMOOTHING = 0.1  # the share of wrong labels that robust DPO assumes


@dataclass(frozen=True)
class Alternative:
    """How training differs from DPO, and where it comes from (see `pdsel.rules.Rule`)."""

    plan: Callable
    source: str


def dpo(pairs):
    """DPO itself, for comparison (2305.18290)."""
    return {}


def robust(pairs):
    """Robust DPO (2403.00409): the loss that is unbiased if a share of the labels is wrong. TRL's `loss_type="robust"`;
    with the plain sigmoid TRL ignores `label_smoothing`.
    """
    return {"loss_type": "robust", "label_smoothing": SMOOTHING}


def ipo(tokens, *, beta=BETA):
    """IPO (2310.12036): (h - 1 / (2 beta))^2, h the difference of mean log-ratios of a token.

    The paper writes h over whole responses; TRL's is per token, as its authors confirm theirs to be, and so this is
    length-normalised, too. beta is multiplied by the mean length, as in `length_normalised`.
    """
    return {"loss_type": "ipo", "beta": _per_token(tokens, beta)}


def length_normalised(tokens, *, beta=BETA):
    """Length-normalised DPO, as Tulu 3 trains (2411.15124): -log sigma(beta * (mean log-ratio of chosen - of rejected)).

    TRL's `loss_type="sigmoid_norm"`; beta is multiplied by the mean length, since a mean over tokens is that much smaller
    than a sum.
    """
    return {"loss_type": "sigmoid_norm", "beta": _per_token(tokens, beta)}


def simpo(tokens, *, beta=BETA, ratio=0.5):
    """SimPO (2405.14734): -log sigma(beta * (mean log-probability of chosen - of rejected) - gamma), without a reference.

    gamma is `ratio` times beta, .5 being where its authors advise to begin, and beta is multiplied by the mean length, as in
    `length_normalised`; theirs is 2 to 10 where DPO's is .01.
    """
    own_beta = _per_token(tokens, beta)
    return {"loss": {"name": "SimPO", "target": ratio * own_beta}, "beta": own_beta}


def _per_token(tokens, beta):
    return float(beta * tokens.to_numpy().mean())


def positive(pairs, *, penalty=50.0):
    """DPO-Positive (2402.13228): -log sigma(M - beta * penalty * max(0, log pi_ref / pi of chosen)); 50 is the paper's."""
    return {"loss": {"name": "DPOP", "penalty": penalty}}


def shifted(pairs, *, factor=0.95):
    """DPO-Shift (2502.07599): -log sigma(beta * (log-ratio of chosen - factor * log-ratio of rejected)).

    .95 is a factor of its released models.
    """
    return {"loss": {"name": "DPO-Shift", "factor": factor}}


def with_likelihood(pairs):
    """DPO plus the negative log-likelihood of the chosen response (Iterative RPO, 2404.19733; RPO, 2405.16436).

    TRL's `loss_type=["sigmoid", "sft"]` at weights 1 and 1; the likelihood is a mean over all chosen tokens of a batch.
    """
    return {"loss_type": ["sigmoid", "sft"]}


def down_sampled(pairs):
    """SamPO (2406.10957): DPO on as many tokens of the longer response, drawn at random, as the shorter one has."""
    return {"loss": {"name": "SamPO"}}


def robustly_averaged(pairs, *, temperature=1.0):
    """Dr. DPO (2407.07880): -beta' log mean exp(-DPO's loss / beta') instead of the mean; beta' 1 as in its released code."""
    return {"loss": {"name": "Dr. DPO", "temperature": temperature}}


def wpo(pairs):
    """WPO (2406.11827): pairs weighted by how probable the policy finds them, at most 1, as its authors clamp the weights.

    TRL's `use_weighting`, which does not clamp, provides the probabilities; see `pdsel.engine.losses.clamped_wpo`.
    """
    return {"loss": {"name": "WPO"}, "use_weighting": True}


def guided(policy_logps, reference_logps, *, beta=BETA):
    """Pre-DPO (2504.15843): DPO from SFT with a policy that DPO has trained on these pairs as the reference.

    Exactly an offset: the margin against the guide is the one against SFT less the guide's own. Compared with the scripts of
    DtYXs/Pre-DPO.
    """
    return {"offset": -implicit(policy_logps, reference_logps, beta=beta)}


def odpo(pairs, *, strength=0.5, squash="log"):
    """ODPO (2402.10571): -log sigma(M - strength * f(gap)), the margin should grow with the gap of the label.

    From notes on the paper, which uses f = "log" and compares it with the "identity". Our reading: the gap is the label's own,
    in rating points, and the strength.
    """
    own = own_gap(pairs)
    size = np.log(own) if squash == "log" else own
    return {"offset": -strength * size}


def modpo(pairs, margins, *, weights=None):
    """MODPO (2310.03708): -log sigma((M - sum over k' != k of w_k' m_k') / w_k), k the label's aspect; the weights sum to 1.

    They are what a user wants of the policy. As the plan has it: scale 1 / w_k, different by aspect, and offset PD_w (see
    `weighted_divergence`). Without weights all are 1 / kappa, and this is DMPO.
    """
    aspects = sorted(set(pairs["aspect"]))
    if weights is None:
        return {"offset": divergence(pairs, margins), "scale": len(aspects)}
    offset = weighted_divergence(pairs, margins, weights=weights)
    total = sum(weights[aspect] for aspect in aspects)
    scale = pd.Series([total / weights[aspect] for aspect in pairs["aspect"]], index=list(pairs["pair_id"]))
    return {"offset": offset, "scale": scale}


def merged(aspect_policies):
    """MERGE (rewarded soups, 2306.04488; compared with mixing data in 2502.06876): the mean of the aspects' policies.

    An implicit proxy is a policy that DPO has trained on one aspect's pairs. Their mean weights, all alike, make one policy,
    for nothing beyond what PD's proxies cost where these are as large as the policy.

    Raises
    ------
    ValueError
        For proxies of another kind, which are no policies.
    """
    proxies = [load_proxy(path.parent) for path in sorted(Path(aspect_policies).glob("*/proxy.json"))]
    refuse(
        [proxy.aspect for proxy in proxies if proxy.kind != "implicit"],
        "MERGE: proxy",
        "is no policy of one aspect",
        'train proxies of kind="implicit"',
    )
    return {"merge": [proxy.path for proxy in proxies]}


def length_desensitised(pairs, *, alpha=0.5):
    """LD-DPO (2409.06411): tokens beyond the shorter response's length count `alpha`. TRL's `ld_alpha`."""
    return {"ld_alpha": alpha}


def length_regularised(tokens, *, strength=0.02, sign="plus"):
    """R-DPO (2403.19159): -log sigma(M + strength * (length of chosen - of rejected)), tokens.

    "plus" is the paper's sign, + alpha |y_w| - alpha |y_l|, as summaries quote its loss: the margin need not explain what
    length explains, and a long chosen response moves the policy less. "minus" is a reading of ours, a penalty inside the
    reward (see `pdsel.fit_proxy`). The strength is our reading, too.
    """
    gap = tokens["chosen"] - tokens["rejected"]
    return {"offset": (strength if sign == "plus" else -strength) * gap}


def dynamic_target(probe_logps, reference_logps, *, mean=4.0, temperature=10.0):
    """gamma-PO (after 2506.03690): -log sigma(M - (gamma_i - mean)), larger targets for pairs of larger margin.

    For DPO its released trainer centres the targets: it subtracts gamma_i - gamma_0, of mean zero (`get_gamma_dq` in
    `xpo_trainer.py` of sunjie279/gammaPO). It finds gamma_i from the running policy's margins; our static reading from the
    probe's. gamma_0 4 and temperature 10 are those of its configuration for Llama 3 (.4 x beta 10, tau 10). See
    `target_margins`.
    """
    margin = implicit(probe_logps, reference_logps)
    return {"offset": mean - target_margins(margin, mean=mean, temperature=temperature)}


def target_margins(margins, *, mean, temperature):
    """gamma_i that minimise sum log(1 + exp(gamma_i - m_i)) + temperature * sum u_i log u_i, u_i = gamma_i / mean.

    The second term is n KL(p || uniform) of the shares p_i = u_i / n, and the mean of gamma_i is `mean`: as in the released
    code (`get_gamma_dq` of sunjie279/gammaPO), which takes 20 gradient steps on p over a queue of recent margins where we
    solve for it over all pairs. The stationary point
    mean * sigma(gamma_i - m_i) + temperature * (log u_i + 1) = lambda rises in u_i, so bisection finds u_i, and a
    bracketing root the lambda of mean 1.

    >>> target_margins(pd.Series([0.0, 0.0]), mean=0.5, temperature=0.1).round(6).tolist()
    [0.5, 0.5]
    """
    values = margins.to_numpy(dtype=float)

    def shares(multiplier):
        low, high = np.full(len(values), -60.0), np.full(len(values), np.log(len(values)) + 1)  # of log u
        for _ in range(80):
            middle = (low + high) / 2
            over = mean * expit(mean * np.exp(middle) - values) + temperature * (middle + 1) > multiplier
            low, high = np.where(over, low, middle), np.where(over, middle, high)
        return np.exp((low + high) / 2)

    reach = mean + temperature * (np.log(len(values)) + 3)
    root = brentq(lambda multiplier: shares(multiplier).mean() - 1, -reach, reach, xtol=1e-12)
    return pd.Series(mean * shares(root), index=margins.index)


def curriculum(pairs, pooled):
    """Curry-DPO's order (2403.07230): easy pairs first, by the pooled reward's margin, without shuffling.

    From the abstract. The paper makes several pairs of each prompt and orders those; ordering all pairs is our reading.
    """
    return {"order": list(pooled.loc[list(pairs["pair_id"])].sort_values(ascending=False, kind="stable").index)}


def curriculum_stages(pairs, pooled, *, parts=2):
    """Curry-DPO's iterations (2403.07230, second reading): parts from easy to hard, each with the last one's model as
    reference.
    """
    order = curriculum(pairs, pooled)["order"]
    return {"stages": [list(part) for part in np.array_split(np.array(order, dtype=object), parts)]}


def stepwise(pairs, *, parts=2):
    """sDPO (2403.19270): parts of the data one after the other, each with the last one's model as reference.

    From a summary. The paper's parts are whole data sets, the easier ones first; with one data set, parts drawn at random are
    our reading, and how many. Parts from easy to hard are "Curry-DPO(stages)".
    """
    ids = sorted(pairs["pair_id"])  # digests: as good as at random
    return {"stages": [list(part) for part in np.array_split(np.array(ids, dtype=object), parts)]}


ALTERNATIVES = {
    "DPO": Alternative(dpo, "2305.18290"),
    "robust DPO": Alternative(robust, "2403.00409"),
    "Dr. DPO": Alternative(robustly_averaged, "2407.07880"),
    "IPO": Alternative(ipo, "2310.12036"),
    "SimPO": Alternative(simpo, "2405.14734"),
    "DPOP": Alternative(positive, "2402.13228"),
    "DPO-Shift": Alternative(shifted, "2502.07599"),
    "DPO+SFT": Alternative(with_likelihood, "2404.19733, 2405.16436"),
    "WPO": Alternative(wpo, "2406.11827"),
    "ODPO": Alternative(odpo, "2402.10571"),
    "MODPO": Alternative(modpo, "2310.03708"),
    "MERGE": Alternative(merged, "2306.04488, 2502.06876"),
    "LD-DPO": Alternative(length_desensitised, "2409.06411"),
    "R-DPO": Alternative(length_regularised, "2403.19159"),
    "SamPO": Alternative(down_sampled, "2406.10957"),
    "LN-DPO": Alternative(length_normalised, "2411.15124"),
    "gamma-PO": Alternative(dynamic_target, "after 2506.03690"),
    "Pre-DPO": Alternative(guided, "2504.15843"),
    "Curry-DPO": Alternative(curriculum, "after 2403.07230"),
    "Curry-DPO(stages)": Alternative(curriculum_stages, "after 2403.07230"),
    "sDPO": Alternative(stepwise, "after 2403.19270"),
}


def train_alternative(name, pairs, signals, *, model, output_dir, **training):
    """Train on all `pairs` with an alternative to DPO.

    Parameters
    ----------
    name : str
        One of `ALTERNATIVES`.
    pairs : datasets.Dataset
    signals : mapping
        What the alternative needs, as for `pdsel.rules.score`.
    model, output_dir, **training
        As for `pdsel.train_dpo`; the alternative's own options win.

    Returns
    -------
    str
        `output_dir`.
    """
    plan = plan_of(name, signals, beta=training.get("beta", BETA))
    return train_plan(plan, pairs, model=model, output_dir=output_dir, **training)


def plan_of(name, signals, **options):
    """The plan of an alternative; options, such as `beta`, reach it if it has them.

    >>> plan_of("IPO", {"tokens": pd.DataFrame({"chosen": [4], "rejected": [6]})}, beta=0.5)
    {'loss_type': 'ipo', 'beta': 2.5}
    """
    if name not in ALTERNATIVES:
        raise DataError(f"alternative={name!r}: use one of {list(ALTERNATIVES)}")
    function = ALTERNATIVES[name].plan
    wanted = needs(function)
    refuse(
        [need for need in wanted if need not in signals],
        f"alternative {name!r}: signal",
        "is absent",
        "compute it with pdsel.rules.store.Signals, or add it to the mapping",
    )
    known = inspect.signature(function).parameters
    own_options = {key: value for key, value in options.items() if key in known}
    return function(*(signals[need] for need in wanted), **own_options)


def train_plan(plan, pairs, *, model, output_dir, **training):
    """Train on `pairs` as an alternative's plan says, see the first lines of this module; else as `train_alternative`."""
    check_pairs(pairs)
    if "merge" in plan:
        return merge_models(plan["merge"], output_dir)
    options = {"seed": 0, "beta": BETA} | training
    options |= {name: value for name, value in plan.items() if name not in ("offset", "scale", "order", "stages")}
    if "loss_type" in plan:
        options["loss_type"] = in_place_of_sigmoid(plan["loss_type"], training.get("loss_type", "sigmoid"))
    position = {name: row for row, name in enumerate(pairs["pair_id"])}
    if "order" in plan:
        stages = [plan["order"]]
        options["train_sampling_strategy"] = "sequential"
    else:
        stages = plan.get("stages", [list(position)])

    folders = [f"{output_dir}-stage{number}" for number in range(len(stages) - 1)] + [str(output_dir)]
    for ids, folder in zip(stages, folders, strict=True):
        rows = [position[name] for name in ids if name in position]
        stage_pairs = pairs.select(rows if "order" in plan else sorted(rows))
        offsets = _of_pairs(plan.get("offset", 0.0), stage_pairs, "offset")
        scale = plan.get("scale", 1)
        if isinstance(scale, pd.Series):
            scale = _of_pairs(scale, stage_pairs, "scale")
        model = train_with_offset(stage_pairs, offsets, scale=scale, model=model, output_dir=folder, **options)
    if len(folders) > 1:
        _join_stages(folders)
    return folders[-1]


def in_place_of_sigmoid(own, given):
    """A plan's losses of TRL, and what the training adds to DPO's, such as the likelihood of the chosen response.

    >>> in_place_of_sigmoid("ipo", ["sigmoid", "sft"]), in_place_of_sigmoid(["sigmoid", "sft"], ["sigmoid", "sft"])
    (['ipo', 'sft'], ['sigmoid', 'sft'])
    """
    own, given = ([names] if isinstance(names, str) else list(names) for names in (own, given))
    return own + [name for name in given if name not in (*own, "sigmoid")]


def _of_pairs(values, pairs, name):
    """A number for each of the pairs, from a Series by `pair_id`, or the same for all."""
    if not isinstance(values, pd.Series):
        return [values] * len(pairs)
    return aligned(values, pd.Index(list(pairs["pair_id"])), name).tolist()


def _join_stages(folders):
    """Make the last stage's record one of all stages, and remove the folders of the others."""
    logs = [json.loads(Path(folder, RECORD).read_text()) for folder in folders]
    whole = dict(logs[-1])
    for name, value in logs[-1].items():
        if isinstance(value, int | float):
            whole[name] = sum(log[name] for log in logs)
    whole["history"] = [point for log in logs for point in log["history"]]
    with writing(Path(folders[-1], RECORD)) as scratch:
        scratch.write_text(json.dumps(whole, indent=1))
    for folder in folders[:-1]:
        shutil.rmtree(folder)
