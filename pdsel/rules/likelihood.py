"""Rules on likelihoods under one model: entropy, certainty, clearness, perplexity and instruction-following difficulty."""

import numpy as np
import pandas as pd

from pdsel.notesworld.settings import SHARE
from pdsel.rules.margins import implicit
from pdsel.selection import select

FIRST = 0.5  # the least share of pairs that the entropy lets through


def entropy_then_certainty(pairs, sample_logps, probe_logps, reference_logps, *, share=SHARE):
    """Active preference learning (2402.08114), highest kept: prompts of high entropy first, then pairs of high certainty.

    Entropy is -1/N sum log pi(y_n | x) over the policy's own samples y_n, in nats of whole responses: with this sign, high
    means unsure. A public implementation (APL in sail-sg/oat) omits the minus sign and so keeps the prompts that the policy
    is most certain of. Certainty is |implicit margin|, the largest kept, as there. The paper draws a large batch, keeps part by
    entropy and of these the most certain ones. How large a part is our reading: half, or more where a share is kept that
    would leave certainty little to choose from (`first_share`). Pairs that the first stage drops come after all others.

    Parameters
    ----------
    pairs : datasets.Dataset
    sample_logps : pandas.Series
        Log-probabilities of samples by `prompt_id`, which repeats.
    probe_logps, reference_logps : pandas.DataFrame, shape (n, 2)
    share : float in (0, 1]
        Of the pairs, that is kept in the end.
    """
    entropy = -sample_logps.groupby(level=0).mean()
    prompts = pd.Series(list(pairs["prompt_id"]), index=list(pairs["pair_id"]))
    return _two_stages(prompts.map(entropy), implicit(probe_logps, reference_logps).abs(), share)


def given_entropy_then_certainty(probe_logps, reference_logps, *, share=SHARE):
    """Active preference learning (2402.08114) without samples, highest kept: entropy over the two given responses.

    Our reading, for cases where sampling is expensive: the given responses are not the policy's own.
    """
    entropy = -reference_logps[["chosen", "rejected"]].mean(axis=1)
    return _two_stages(entropy, implicit(probe_logps, reference_logps).abs(), share)


def first_share(share):
    """The share that the first stage keeps, max(1/2, sqrt(share)): the second keeps at least sqrt(share) of those.

    >>> first_share(0.1), first_share(0.49)
    (0.5, 0.7)
    """
    return max(FIRST, share**0.5)


def _two_stages(entropy, certainty, share):
    through = certainty.index.isin(select(entropy, first_share(share), keep="highest"))
    return certainty.where(through, certainty - certainty.max() - 1)


def reference_margin(reference_logps):
    """How much more probable the chosen response is than the rejected one under the reference, highest kept (after 2501.15109).

    *Clear Preferences Leave Traces* finds pairs of clear difference in the reference model's probabilities and trains on 30
    to 50 % of the data. From the abstract, which gives no formula: the difference of log-probabilities of whole responses,
    with the label's sign, is our reading.

    >>> reference_margin(pd.DataFrame({"chosen": [-3.0], "rejected": [-5.0]}, index=["p"])).tolist()
    [2.0]
    """
    return reference_logps["chosen"] - reference_logps["rejected"]


def perplexity(reference_logps, tokens):
    """The chosen response's perplexity, exp of its mean nats per token; lowest kept, and "PPL(high)" keeps the other end.

    After *Investigating on RLHF methodology* (2410.01789), which collects preference data by a filter on perplexity (from
    its abstract). Papers disagree about the end.

    >>> logps = pd.DataFrame({"chosen": [-2 * np.log(4)], "rejected": [-1.0]}, index=["p"])
    >>> perplexity(logps, pd.DataFrame({"chosen": [2], "rejected": [1]}, index=["p"])).round(9).tolist()
    [4.0]
    """
    return np.exp(-reference_logps["chosen"] / tokens["chosen"])


def difficulty_margin(reference_logps, tokens, unprompted_nll, *, of="perplexity"):
    """IFD of the chosen response minus IFD of the rejected one, highest kept; "IFD(low)" keeps the other end.

    Instruction-following difficulty (2308.12032) is how hard a response is with its prompt over how hard it is without: low
    where the prompt helps to predict it. The paper and its released code (`data_by_IFD.py`) divide mean losses, `of="loss"`;
    its authors' Superfiltering (2402.00530) divides perplexities, `of="perplexity"`, which no loss near 0 can blow up. No
    paper fixes the sign for pairs, so both ends are here.

    >>> index, tokens = ["p"], pd.DataFrame({"chosen": [2], "rejected": [1]}, index=["p"])
    >>> logps = pd.DataFrame({"chosen": [-2.0], "rejected": [-3.0]}, index=index)  # losses 1 and 3
    >>> alone = pd.DataFrame({"chosen": [2.0], "rejected": [2.0]}, index=index)
    >>> difficulty_margin(logps, tokens, alone, of="loss").tolist()  # 1/2 - 3/2
    [-1.0]
    """
    losses = -reference_logps / tokens
    difficulty = losses / unprompted_nll if of == "loss" else np.exp(losses - unprompted_nll)
    return difficulty["chosen"] - difficulty["rejected"]


def loss_difficulty(reference_logps, tokens, unprompted_nll):
    """IFD of mean losses, as the paper and its code divide (2308.12032), highest kept; see `difficulty_margin`."""
    return difficulty_margin(reference_logps, tokens, unprompted_nll, of="loss")
