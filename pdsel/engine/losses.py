"""Losses on pairs that TRL lacks, as pure functions: tensors in, a loss per pair out.

A training names one, `loss={"name": "SimPO", "target": 0.5}`. It takes the place of TRL's "sigmoid"; the forward pass, the
metrics and further terms of the loss, such as "sft", stay TRL's (see `pdsel.engine.trainers.OffsetTrainer`). Adding one is
a function and a line in `LOSSES`. Every function adds the pair's offset inside the sigmoid, where a large one silences it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PairBatch:
    """What a loss may read of n pairs; every tensor has the shape (n,).

    Attributes
    ----------
    policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps : Tensor
        Log-probabilities of whole responses, nats.
    chosen_tokens, rejected_tokens : Tensor
        How many tokens these are sums over.
    offset : Tensor
        What the plan adds inside the sigmoid.
    scale : Tensor
        The plan's factor of the margin.
    likelihood : Tensor, optional
        How probable the policy finds the two responses, see `clamped_wpo`; without gradient.
    """

    policy_chosen_logps: Tensor
    policy_rejected_logps: Tensor
    reference_chosen_logps: Tensor
    reference_rejected_logps: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    offset: Tensor
    scale: Tensor
    likelihood: Tensor | None = None

    @property
    def chosen_ratio(self):
        """log pi / pi_ref of the chosen response."""
        return self.policy_chosen_logps - self.reference_chosen_logps

    @property
    def rejected_ratio(self):
        """log pi / pi_ref of the rejected response."""
        return self.policy_rejected_logps - self.reference_rejected_logps


def dpo(pairs, *, beta):
    """DPO (2305.18290): -log sigma(M), M = beta * (log-ratio of chosen - of rejected), over the tokens that count.

    On all tokens TRL has it. SamPO (2406.10957) is DPO on fewer: as many of the longer response's, drawn at random, as the
    shorter one has (see `pdsel.engine.trainers.down_sampled`).
    """
    return -F.logsigmoid(beta * (pairs.chosen_ratio - pairs.rejected_ratio) + pairs.offset)


def scaled(pairs, *, beta):
    """-log sigma(scale * M + offset), with a scale and an offset of each pair; M is DPO's margin.

    MODPO (2310.03708) is this with scale 1 / w_k, k the pair's own aspect (compared with `modpo_trainer.py` of ZHZisZZ/modpo).
    """
    margin = beta * (pairs.chosen_ratio - pairs.rejected_ratio)
    return -F.logsigmoid(pairs.scale * margin + pairs.offset)


def simpo(pairs, *, beta, target):
    """SimPO (2405.14734): -log sigma(beta * (mean log pi of chosen's tokens - of rejected's) - target), without a reference.

    Compared with `simpo_trainer.py` of princeton-nlp/SimPO, whose `gamma_beta_ratio` is target / beta.
    """
    chosen = pairs.policy_chosen_logps / pairs.chosen_tokens
    rejected = pairs.policy_rejected_logps / pairs.rejected_tokens
    return -F.logsigmoid(beta * (chosen - rejected) - target + pairs.offset)


def dpop(pairs, *, beta, penalty):
    """DPO-Positive (2402.13228): -log sigma(M - beta * penalty * max(0, log pi_ref / pi of chosen)).

    A chosen response that becomes less probable than under the reference costs. No code was released; the formula was
    compared with notes on the paper and with other people's implementations.
    """
    lost = F.relu(-pairs.chosen_ratio)
    return -F.logsigmoid(beta * (pairs.chosen_ratio - pairs.rejected_ratio - penalty * lost) + pairs.offset)


def dpo_shift(pairs, *, beta, factor):
    """DPO-Shift (2502.07599): -log sigma(beta * (log-ratio of chosen - factor * log-ratio of rejected)).

    A factor below 1 lets the chosen response lose less probability (compared with `dposhift_trainer.py` of
    Meaquadddd/DPO-Shift, strategy "fixed").
    """
    return -F.logsigmoid(beta * (pairs.chosen_ratio - factor * pairs.rejected_ratio) + pairs.offset)


def robust_mean(pairs, *, beta, temperature):
    """Dr. DPO (2407.07880): -temperature * log mean exp(-DPO's loss / temperature), over the batch of a process.

    A mean that large losses, which wrong labels have, hardly move (compared with `trainers.py` of junkangwu/Dr_DPO). Every
    pair is given the loss of the batch, so that its mean is that.
    """
    losses = dpo(pairs, beta=beta)
    log_mean = torch.logsumexp(-losses / temperature, dim=0) - math.log(len(losses))
    return (-temperature * log_mean).expand(len(losses))


def clamped_wpo(pairs, *, beta):
    """WPO (2406.11827): min(1, likelihood) * DPO's loss, as its authors clamp it (`run_wpo.py` of wzhouad/WPO); TRL does not.

    The likelihood of a pair is the product over its two responses of exp(mean over tokens of log p - log sum_v p_v^2): 1 for
    tokens that are as probable as one that is drawn.
    """
    return pairs.likelihood.clamp(max=1) * dpo(pairs, beta=beta)


@dataclass(frozen=True)
class PairLoss:
    """A loss, and whether of the longer response only as many tokens count as the shorter one has (`down_sampled`)."""

    function: Callable
    down_samples: bool = False


LOSSES = {
    "scaled": PairLoss(scaled),
    "SimPO": PairLoss(simpo),
    "DPOP": PairLoss(dpop),
    "DPO-Shift": PairLoss(dpo_shift),
    "Dr. DPO": PairLoss(robust_mean),
    "WPO": PairLoss(clamped_wpo),
    "SamPO": PairLoss(dpo, down_samples=True),
}
