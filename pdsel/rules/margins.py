"""Rules on one margin, that of a reward (`pooled`) or of log-probabilities (implicit), and on two of them.

An implicit margin is beta * log(pi / pi_ref) of the chosen response minus that of the rejected one. `probe_logps` are those
of a small DPO run on a seed share of the pairs, `policy_logps` of DPO on all of them.
"""

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from pdsel.selection import random_scores

BETA = 0.1
BAND = (0.05, 0.95)  # quantiles between which a margin becomes a probability
SURE = 0.01  # the least and, from 1, the most that such a probability may be


def implicit(logps, reference_logps, *, beta=BETA):
    """The implicit reward margin of every pair.

    Parameters
    ----------
    logps, reference_logps : pandas.DataFrame, shape (n, 2)
        Nats of whole responses by `pair_id`; columns `chosen, rejected`.

    >>> index = ["p"]
    >>> after = pd.DataFrame({"chosen": [-10.0], "rejected": [-30.0]}, index=index)
    >>> before = pd.DataFrame({"chosen": [-12.0], "rejected": [-25.0]}, index=index)
    >>> float(implicit(after, before)["p"].round(9))  # .1 * ((-10 + 12) - (-30 + 25))
    0.7
    """
    rewards = beta * (logps - reference_logps)
    return rewards["chosen"] - rewards["rejected"]


def pooled_margin(pooled):
    """RAF, and margin maximisation by an external reward in *Less is More* (2502.14560): the margin, highest kept.

    From the abstract: pairs of large margin. The external reward is here the one trained on all pairs as labelled.
    """
    return pooled


def implicit_margin(probe_logps, reference_logps):
    """Margin maximisation by an implicit reward, highest kept (*Less is More*, 2502.14560).

    The reward is that of a model aligned on a small random seed set, as the paper's (from notes on it): the probe's.
    """
    return implicit(probe_logps, reference_logps)


def as_probability(margin, squash):
    """How probably the label is right, from a margin: "clip" is the paper's (2502.14560), (clip(m, L, U) - L) / (U - L).

    From notes on the paper. Open there, our reading: L and U are the 5 % and 95 % quantiles, and the result stays within
    [.01, .99], so that no reward is ever certain. "sigmoid" is Bradley-Terry's, a reading of ours.

    >>> as_probability(pd.Series([-1.0, 0.0, 1.0]), "clip").round(2).tolist()
    [0.01, 0.5, 0.99]
    """
    if squash == "sigmoid":
        return pd.Series(expit(margin), index=margin.index)
    low, high = margin.quantile(BAND[0]), margin.quantile(BAND[1])
    if high == low:
        return margin * 0 + 0.5
    return ((margin - low) / (high - low)).clip(SURE, 1 - SURE)


def dual_added(pooled, probe_logps, reference_logps, *, squash="clip"):
    """Mean of the external and the implicit reward's probabilities, highest kept (2502.14560, DM-ADD).

    Of the paper's additive variant we have seen the name only: the mean of the two probabilities is our reading.
    `squash`: see `as_probability`.
    """
    parts = [as_probability(margin, squash) for margin in (pooled, implicit(probe_logps, reference_logps))]
    return (parts[0] + parts[1]) / 2


def dual_multiplied(pooled, probe_logps, reference_logps, *, squash="clip"):
    """Bayesian aggregation, highest kept (2502.14560, DM-MUL): log-odds of p q / (p q + (1 - p)(1 - q)).

    Two independent witnesses of the label with probabilities p and q; the formula is the paper's, from notes on it. The
    log-odds order pairs as the probability does and do not saturate. With `squash="sigmoid"` they are the sum of the raw
    margins.
    """
    parts = [as_probability(margin, squash) for margin in (pooled, implicit(probe_logps, reference_logps))]
    return pd.Series(logit(parts[0]) + logit(parts[1]), index=pooled.index)


def small_gap(probe_logps, reference_logps):
    """The implicit reward gap with its sign, lowest kept (2508.04149, as its released code sorts: `data_select`, argsort).

    The most negative come first, pairs that the probe ranks against their label. The code sums the log-probabilities of
    padding, too, and passes no attention mask; ours do neither (see `pdsel.engine.scoring.response_logps`).
    """
    return implicit(probe_logps, reference_logps)


def small_absolute_gap(probe_logps, reference_logps):
    """The size of the implicit reward gap, lowest kept (2508.04149, as its text says: "smaller gaps", challenging pairs)."""
    return implicit(probe_logps, reference_logps).abs()


def near_mean(policy_logps, reference_logps):
    """Distance of the implicit margin from the mean, lowest kept (beta-DPO's filter, 2407.08639).

    The paper draws a share of each batch without replacement, with weights exp(-(M - M0)^2 / (2 sigma^2)), M0 and sigma
    moving averages: so `preference_loss` in its released code (junkangwu/beta-DPO), with momentum .9 and M without the
    factor beta, which changes no weight. Our static readings take M0 and sigma over all pairs: here the heaviest weights,
    in `drawn_near_mean` the draw.
    """
    margin = implicit(policy_logps, reference_logps)
    return (margin - margin.mean()).abs()


def drawn_near_mean(policy_logps, reference_logps, *, seed=0):
    """beta-DPO's filter (2407.08639) as a draw without replacement, highest kept: log weight plus Gumbel noise of the pair.

    Keeping the n largest draws n pairs one after the other with probabilities proportional to their weights.
    """
    margin = implicit(policy_logps, reference_logps)
    spread = margin.std(ddof=0) or 1.0
    draws = random_scores({"pair_id": margin.index}, seed=f"beta-DPO {seed}").clip(1e-12)  # not the draws of RAND
    return -(((margin - margin.mean()) / spread) ** 2) / 2 - np.log(-np.log(draws))


def reviewed_margin(policy_logps, reference_logps):
    """SeRA's sample selection, highest kept (2410.09362): the implicit margin of the policy that these very pairs trained.

    From the abstract: selection by implicit reward margins. It also makes new pairs from the policy's samples, which we do
    not.
    """
    return implicit(policy_logps, reference_logps)


def ensembled_margin(policy_logps, probe_logps, reference_logps, *, weight=0.7):
    """SeRA's margin ensembled over iterations, highest kept (2410.09362): `weight` of the last policy's, the rest of the
    one before, here the probe. From a summary; the weight is our reading.
    """
    return weight * implicit(policy_logps, reference_logps) + (1 - weight) * implicit(probe_logps, reference_logps)


def alignment_potential(pooled, probe_logps, reference_logps, *, units="standard", current="signed"):
    """Explicit margin less implicit margin, highest kept (2503.01864): how far the model still has to go.

    |r_w - r_l| less the model's implicit margin, from the abstract.

    Parameters
    ----------
    pooled : pandas.Series
    probe_logps, reference_logps : pandas.DataFrame, shape (n, 2)
    units : str
        The two need a common unit: "standard" divides each by its standard deviation, "raw" subtracts as they are.
    current : str
        "signed" is our reading of the abstract. "size" takes the implicit margin's absolute value, as the released code
        does (`metric_selection.py` of Hesse73/Alignment-Potential-Metric: a difference of z-scores, which orders as
        "standard" on sizes).
    """
    return _potential(pooled, implicit(probe_logps, reference_logps), units, current)


def sized_potential(pooled, probe_logps, reference_logps):
    """Alignment potential as its released code has it (2503.01864), highest kept: less the *size* of the implicit margin."""
    return alignment_potential(pooled, probe_logps, reference_logps, current="size")


def reference_potential(pooled, reference_logps, tokens, *, units="standard", current="signed"):
    """Alignment potential of the model *before* alignment, highest kept (2503.01864, second reading).

    Without a reference of its own its implicit reward is the length-normalised log-probability, as in SimPO and in the
    released code, whose score this is with `current="size"`. Options as for `alignment_potential`.
    """
    rewards = reference_logps / tokens
    return _potential(pooled, rewards["chosen"] - rewards["rejected"], units, current)


def _potential(explicit, implied, units, current):
    if current == "size":
        explicit, implied = explicit.abs(), implied.abs()
    if units == "standard":
        explicit, implied = (margin / (margin.std(ddof=0) or 1.0) for margin in (explicit, implied))
    return explicit.abs() - implied


def middle_band(policy_logps, reference_logps):
    """Distance of the implicit margin's rank from the middle, lowest kept (2510.13212).

    The paper finds pairs of middling influence most valuable, neither noise nor overfitted, and stands in for influence by
    two scores, each within a middle range of its percentiles (from notes on it; its ranges are tuned, ours follow from the
    share). Here one of the two, the implicit reward margin after DPO on all pairs, and in `middle_of_both` both.

    >>> frame = pd.DataFrame({"chosen": [10.0, 20.0, 30.0], "rejected": [0.0, 0.0, 0.0]}, index=["p", "q", "r"])
    >>> middle_band(frame, 0 * frame).round(3).tolist()
    [0.333, 0.0, 0.333]
    """
    return _from_middle(implicit(policy_logps, reference_logps))


def middle_of_both(policy_logps, probe_logps, reference_logps):
    """The larger of two distances from the middle, lowest kept (2510.13212): implicit margin, and loss difference.

    The larger distance is small where both are: the paper's intersection of two middle ranges. Its loss difference is that
    of the model and of one trained on a validation set; we have none, and our reading is the probe, which few pairs trained.
    The difference's sign does not matter to its distance from the middle.
    """
    ours, theirs = implicit(policy_logps, reference_logps), implicit(probe_logps, reference_logps)
    difference = np.logaddexp(0, -theirs) - np.logaddexp(0, -ours)
    return pd.concat([_from_middle(ours), _from_middle(difference)], axis=1).max(axis=1)


def _from_middle(score):
    return ((score.rank() - 0.5) / len(score) - 0.5).abs().round(12)


def held_out_loss(held_out_losses):
    """SelectiveDPO, lowest kept (2502.09650): the DPO loss of a pair under models that were trained without its prompt.

    Mean over the repeats of a two-fold split. The released code (glorgao/SelectiveDPO) repeats it three times, ours twice;
    it splits pairs, ours prompts, so that no prompt is on both sides. It keeps the easiest half and trains from easy to hard;
    ours keeps the given share, in the order that every rule trains in.
    """
    return held_out_losses.mean(axis=1)
