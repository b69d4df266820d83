"""The losses as short pure functions on tensors, to be read in class; the tests compare TRL's trainer with them."""

import torch.nn.functional as F


def reward_margin(
    policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, *, beta
):
    """DPO's implicit reward margin M = beta log(pi/pi_ref)(y_w|x) - beta log(pi/pi_ref)(y_l|x).

    Parameters
    ----------
    policy_chosen_logps, ... : torch.Tensor, shape (n,)
        Log-probability of each whole response, in nats.
    beta : float

    Returns
    -------
    torch.Tensor, shape (n,)
    """
    chosen_reward = beta * (policy_chosen_logps - reference_chosen_logps)
    rejected_reward = beta * (policy_rejected_logps - reference_rejected_logps)
    return chosen_reward - rejected_reward


def dpo_loss(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, *, beta):
    """Direct preference optimisation, -log sigma(M) (Rafailov et al. 2023, eq. 7).

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps : Tensor, shape (n,)
        Log-probability of each whole response, in nats.
    beta : float
        KL strength.

    Returns
    -------
    torch.Tensor, shape (n,)
        Loss per pair, in nats; ln 2 where policy and reference agree.

    Examples
    --------
    >>> import torch
    >>> same = torch.tensor([-3.0])
    >>> dpo_loss(same, same, same, same, beta=0.1)
    tensor([0.6931])
    """
    margin = reward_margin(
        policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=beta
    )
    return -F.logsigmoid(margin)


def dmpo_loss(
    policy_chosen_logps,
    policy_rejected_logps,
    reference_chosen_logps,
    reference_rejected_logps,
    divergence,
    *,
    beta,
    aspects,
):
    """Direct multi-preference optimisation, -log sigma(kappa * M + PD) (arXiv 2508.07638; DFPO at ICLR 2026).

    Parameters
    ----------
    policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps : Tensor, shape (n,)
        Log-probability of each whole response, in nats.
    divergence : torch.Tensor, shape (n,)
        PD of each pair.
    beta : float
        KL strength.
    aspects : int
        kappa, the number of aspects.

    Returns
    -------
    torch.Tensor, shape (n,)
        Loss per pair. With one aspect and no divergence it is `dpo_loss`.

    Examples
    --------
    >>> import torch
    >>> same = torch.tensor([-3.0])
    >>> dmpo_loss(same, same, same, same, torch.tensor([0.0]), beta=0.1, aspects=4)
    tensor([0.6931])
    """
    margin = reward_margin(
        policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=beta
    )
    return -F.logsigmoid(aspects * margin + divergence)


def bradley_terry_loss(chosen_rewards, rejected_rewards, margin=0.0):
    """Bradley-Terry with a margin, -log sigma(r_w - r_l - margin); the length penalty is margin = rho * (len_w - len_l).

    Parameters
    ----------
    chosen_rewards, rejected_rewards : torch.Tensor, shape (n,)
    margin : torch.Tensor, shape (n,), or float

    Examples
    --------
    >>> import torch
    >>> bradley_terry_loss(torch.tensor([1.0]), torch.tensor([0.0]), margin=1.0)
    tensor([0.6931])
    """
    return -F.logsigmoid(chosen_rewards - rejected_rewards - margin)
