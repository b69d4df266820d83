"""Rules on one margin, that of a reward (`pooled`) or of log-probabilities (implicit), and on two of them.

An implicit margin is beta * log(pi / pi_ref) of the chosen response minus that of the rejected one. `probe_logps` are those
of a small DPO run on a seed share of the pairs, `policy_logps` of DPO on all of them.
"""

import numpy as np
import pandas as pd
from scipy.special import logit

from pdsel.notesworld.settings import DPO
from pdsel.selection import random_scores

BETA = DPO["beta"]  # with which the probe and the policy were trained
LEAST = -2.0  # a margin that low says that the label is surely wrong (2502.14560)
TAIL = 30  # fewer margins than that lie above the one that says that it is surely right (2502.14560)
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
    >>> float(implicit(after, before, beta=0.1)["p"].round(9))  # .1 * ((-10 + 12) - (-30 + 25))
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


def dual_added(pooled, probe_logps, reference_logps):
    """DM-ADD, highest kept (2502.14560): the external margin plus the implicit one, as they are.

    From notes on the paper, in which the implicit margin is the difference of log-ratios, without beta. Whoever has the
    larger scale decides; `dual_multiplied` makes probabilities of them first.

    >>> logps = pd.DataFrame({"chosen": [5.0], "rejected": [2.0]}, index=["p"])
    >>> dual_added(pd.Series({"p": -1.0}), logps, 0 * logps).tolist()  # -1 + (5 - 2)
    [2.0]
    """
    return pooled + implicit(probe_logps, reference_logps, beta=1.0)


def dual_multiplied(pooled, probe_logps, reference_logps, *, tail=TAIL):
    """DM-MUL, highest kept (2502.14560): two witnesses of the label with probabilities p and q, by Bayes' rule.

    p q / (p q + (1 - p)(1 - q)), from notes on the paper; the log-odds, logit p + logit q, order pairs alike and do not
    saturate. See `as_probability`; the implicit margin is without beta, as in `dual_added`.
    """
    margins = (pooled, implicit(probe_logps, reference_logps, beta=1.0))
    return sum(logit(as_probability(margin, tail=tail)) for margin in margins)


def as_probability(margin, *, tail=TAIL):
    """How probably the label is right, from a margin: (clip(m, L, U) - L) / (U - L), as in 2502.14560.

    From notes on the paper: L = -2, and U the margin above which fewer than `tail` pairs lie. Our reading: the result stays
    within [.01, .99], so that no witness alone decides, and where all margins are at most -2 it is .5.

    >>> as_probability(pd.Series([-3.0, -2.0, 0.0, 2.0, 9.0]), tail=2).round(2).tolist()  # one lies above U = 2
    [0.01, 0.01, 0.5, 0.99, 0.99]
    """
    most = margin.nlargest(min(tail, len(margin))).iloc[-1]
    if most <= LEAST:
        return margin * 0 + 0.5
    return ((margin.clip(LEAST, most) - LEAST) / (most - LEAST)).clip(SURE, 1 - SURE)


def small_gap(probe_logps, reference_logps):
    """The implicit reward gap with its sign, lowest kept (2508.04149, as its released code sorts: `data_select`, argsort).

    The most negative come first, pairs that the probe ranks against their label. The code sums the log-probabilities of
    padding, too, and passes no attention mask; ours do neither (see `pdsel.engine.scoring.response_logps`).
    """
    return implicit(probe_logps, reference_logps)


def small_absolute_gap(probe_logps, reference_logps):
    """The size of the implicit reward gap, lowest kept (2508.04149, as its text says: "smaller gaps", challenging pairs)."""
    return implicit(probe_logps, reference_logps).abs()


def drawn_near_mean(policy_logps, reference_logps, *, seed=0):
    """beta-DPO's filter (2407.08639) without its beta of each batch: a draw of pairs near the mean margin, highest kept.

    The paper draws .8 of each batch without replacement, with weights exp(-(M - M0)^2 / (2 sigma^2)), M0 and sigma moving
    averages: so `preference_loss` in its released code (junkangwu/beta-DPO), with momentum .9 and M without the factor beta,
    which changes no weight. Then it trains with a beta of the batch. Our static reading is the filter alone, with M0 and
    sigma of all pairs under a policy that they trained. The score is log weight plus Gumbel noise of the pair: keeping the
    n largest draws n pairs one after the other with probabilities proportional to their weights.
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
    one before, here the probe. From a summary of the paper; its weight we could not verify, ours is a guess.
    """
    return weight * implicit(policy_logps, reference_logps) + (1 - weight) * implicit(probe_logps, reference_logps)


def alignment_potential(pooled, reference_logps, tokens):
    """Alignment potential, highest kept (2503.01864): how far the model that is to be aligned has yet to go.

    z(r_w - r_l) - z(|l_w - l_l|), with r the reward, l the model's mean log-probability of a token, without a reference, and
    z the standard score over all pairs. So the released code (`metric_selection.py`, "rm-logp", of
    Hesse73/Alignment-Potential-Metric), whose first margin is that of the best over the worst response by the reward itself,
    and never negative. Of given pairs the label says which response is chosen, and r_w - r_l is negative where the reward
    contradicts it: such a pair ranks low.

    Parameters
    ----------
    pooled : pandas.Series
        The explicit margin, r_w - r_l.
    reference_logps, tokens : pandas.DataFrame, shape (n, 2)

    Examples
    --------
    Margins 1 and -3 have z 1 and -1; log-probabilities a token of -2 and -3, and of -1 and -1, are 1 and 0 apart.

    >>> logps = pd.DataFrame({"chosen": [-4.0, -1.0], "rejected": [-3.0, -2.0]}, index=["p", "q"])
    >>> tokens = pd.DataFrame({"chosen": [2, 1], "rejected": [1, 2]}, index=["p", "q"])
    >>> alignment_potential(pd.Series({"p": 1.0, "q": -3.0}), logps, tokens).tolist()  # 1 - 1, -1 + 1
    [0.0, 0.0]
    """
    per_token = reference_logps / tokens
    return standard(pooled) - standard((per_token["chosen"] - per_token["rejected"]).abs())


def probed_potential(pooled, probe_logps, reference_logps):
    """Alignment potential with the margin of DPO's implicit reward, highest kept (after 2503.01864).

    z(r_w - r_l) - z(|M|), M the probe's. The paper's abstract speaks of the model's implicit reward margin, which for DPO
    is this; its code is `alignment_potential`.
    """
    return standard(pooled) - standard(implicit(probe_logps, reference_logps).abs())


def standard(values):
    """The standard score, (x - mean) / standard deviation; 0 where all are equal.

    >>> standard(pd.Series([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    return (values - values.mean()) / (values.std(ddof=0) or 1.0)


def middle_band(policy_logps, reference_logps):
    """Distance of the implicit margin's rank from the middle, lowest kept (2510.13212).

    The paper finds pairs of middling influence most valuable, neither noise nor overfitted, and stands in for influence by
    two scores, each within a middle range of its percentiles (from notes on it; its ranges are tuned and keep 50 to 64 %,
    ours follow from the share). Here one of the two, the implicit reward margin after DPO on all pairs, and in
    `middle_of_both` both. The paper goes on from the policy that gave the margins, for two epochs; ours starts anew from
    SFT, as every rule's policy does.

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
    it splits pairs, ours prompts, so that no prompt is on both sides. It keeps the easiest half, ours the given share, and
    trains from easy to hard without shuffling, as ours does (`Rule.in_order`).
    """
    return held_out_losses.mean(axis=1)
