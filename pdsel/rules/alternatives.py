"""The other way to use a preference set: another loss on all pairs, or another order, instead of a selection.

An alternative is a function of signals that says how `pdsel.training.train_with_offset` is to differ from DPO: any of TRL's
options, and of ours `offset` (a number per pair inside the sigmoid), `scale`, `order` (the pairs from first to last, no
shuffling), `stages` (lists of pairs, the model of one stage being the reference of the next). Losses that TRL 1.16 has are
TRL's; its source was read for the formulas given here. Each of the others says what it was compared with.
"""

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
from pdsel.rules import needs
from pdsel.rules.aspects import weighted_divergence
from pdsel.rules.margins import BETA, implicit
from pdsel.training import train_with_offset

RECORD = "training.json"  # of a training, see `pdsel.training.training_log`
SMOOTHING = 0.1  # the share of wrong labels that robust DPO assumes


@dataclass(frozen=True)
class Alternative:
    """How training differs from DPO, and where it comes from."""

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


def ipo(tokens):
    """IPO (2310.12036): (h - 1 / (2 beta))^2. TRL's h is per token, so beta is multiplied by the mean length."""
    return {"loss_type": "ipo", "beta": _per_token(tokens)}


def length_normalised(tokens):
    """SimPO's length normalisation (2405.14734) in DPO: -log sigma(beta * (mean log-ratio of chosen - of rejected)).

    TRL's `loss_type="sigmoid_norm"`; beta is multiplied by the mean length, since a mean per token is that much smaller
    than a sum. This is not SimPO, whose loss is -log sigma(beta * (mean log-probability of chosen - of rejected) - gamma),
    without a reference and with a target margin gamma > 0. For SimPO itself: `CPOTrainer` in `trl.experimental.cpo`, with
    `loss_type="simpo"`, `simpo_gamma` and `cpo_alpha=0`.
    """
    return {"loss_type": "sigmoid_norm", "beta": _per_token(tokens)}


def _per_token(tokens):
    return float(BETA * tokens.to_numpy().mean())


def wpo(pairs):
    """WPO (2406.11827): pairs weighted by how probable the policy finds them. TRL's `use_weighting`."""
    return {"use_weighting": True}


def odpo(pairs, *, strength=0.5, squash="log"):
    """ODPO (2402.10571): -log sigma(M - strength * f(gap)), the margin should grow with the gap of the label.

    From notes on the paper, which uses f = "log" and compares it with the "identity". Our reading: the gap is the label's own,
    in rating points, and the strength.
    """
    own = own_gap(pairs)
    size = np.log(own) if squash == "log" else own
    return {"offset": -strength * size}


def modpo(pairs, margins, *, weights=None):
    """MODPO (2310.03708) with weights, as an offset: -log sigma(kappa * M + PD_w).

    Its factor 1 / w_k of the margin differs by the label's aspect; here it is their mean for equal weights, kappa. Exact for
    equal weights, where it is DMPO. `weights=None` are those of `weighted_divergence`.
    """
    aspects = len(set(pairs["aspect"]))
    return {"offset": weighted_divergence(pairs, margins, weights=weights), "scale": aspects}


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


def dynamic_target(probe_logps, reference_logps, *, mean=0.5, temperature=0.1):
    """gamma-PO (2506.03690): -log sigma(M - gamma_i), larger targets for pairs of larger margin.

    The paper finds gamma_i from the running policy's margins; our static reading from the probe's. See `target_margins`. The
    released code's gamma0 and tau are `mean` and `temperature`; their values here are our reading.
    """
    return {"offset": -target_margins(implicit(probe_logps, reference_logps), mean=mean, temperature=temperature)}


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
    "IPO": Alternative(ipo, "2310.12036"),
    "WPO": Alternative(wpo, "2406.11827"),
    "ODPO": Alternative(odpo, "2402.10571"),
    "MODPO": Alternative(modpo, "2310.03708"),
    "LD-DPO": Alternative(length_desensitised, "2409.06411"),
    "R-DPO": Alternative(length_regularised, "2403.19159"),
    "gamma-PO": Alternative(dynamic_target, "2506.03690"),
    "Curry-DPO": Alternative(curriculum, "2403.07230"),
    "Curry-DPO(stages)": Alternative(curriculum_stages, "2403.07230"),
    "sDPO": Alternative(stepwise, "2403.19270"),
    "length-normalised": Alternative(length_normalised, "2405.14734"),
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
    if name not in ALTERNATIVES:
        raise DataError(f"alternative={name!r}: use one of {list(ALTERNATIVES)}")
    wanted = needs(ALTERNATIVES[name].plan)
    refuse(
        [need for need in wanted if need not in signals],
        f"alternative {name!r}: signal",
        "is absent",
        "compute it with pdsel.rules.store.Signals, or add it to the mapping",
    )
    plan = dict(ALTERNATIVES[name].plan(*(signals[need] for need in wanted)))
    return train_plan(plan, pairs, model=model, output_dir=output_dir, **training)


def train_plan(plan, pairs, *, model, output_dir, **training):
    """Train on `pairs` as an alternative's plan says, see the first lines of this module; else as `train_alternative`."""
    check_pairs(pairs)
    options = {"seed": 0, "beta": BETA} | training
    options |= {name: value for name, value in plan.items() if name not in ("offset", "order", "stages")}
    position = {name: row for row, name in enumerate(pairs["pair_id"])}
    offset = plan.get("offset", pd.Series(0.0, index=list(position)))
    if "order" in plan:
        stages = [plan["order"]]
        options["train_sampling_strategy"] = "sequential"
    else:
        stages = plan.get("stages", [list(position)])

    folders = [f"{output_dir}-stage{number}" for number in range(len(stages) - 1)] + [str(output_dir)]
    for ids, folder in zip(stages, folders, strict=True):
        rows = [position[name] for name in ids if name in position]
        stage_pairs = pairs.select(rows if "order" in plan else sorted(rows))
        offsets = aligned(offset, pd.Index(list(stage_pairs["pair_id"])), "offset").tolist()
        model = train_with_offset(stage_pairs, offsets, model=model, output_dir=folder, **options)
    if len(folders) > 1:
        _join_stages(folders)
    return folders[-1]


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
