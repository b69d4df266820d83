"""TRL's trainers on a CPU: only the tokens of responses go through the output layer.

TRL computes log-probabilities in tiles that are made for a GPU's kernels. On other devices it takes every position of a text,
the prompt's too, through the whole vocabulary, in some fifteen passes over the logits. With 49 000 words that is most of a
training.
"""

from functools import wraps
from types import MethodType

import torch
from torch.utils.checkpoint import checkpoint
from trl.trainer.utils import FusedCausalLMOutput

from pdsel.engine.output_layer import OutputLayer

LARGE = 2**13  # words from which on the output layer weighs
IGNORED = -100  # the label of a token that is not trained on


def read_responses_only(net):
    """Make a causal network that TRL has prepared compute log-probabilities of labelled tokens only.

    Networks on a GPU, whose kernels do so already, and those with few words stay as they are.

    Parameters
    ----------
    net : transformers.PreTrainedModel
        Without its adapters' wrapper; TRL calls it with `labels` and `fused_lm_head=True`.
    """
    layer = net.get_output_embeddings()
    if net.device.type != "cpu" or layer is None or len(layer.weight) < LARGE:
        return
    output, theirs = OutputLayer.of(net), net.forward
    if output.embedding is None:  # logits that are made in another way
        return

    @wraps(type(net).forward)
    def forward(self, *args, fused_lm_head=False, labels=None, num_items_in_batch=None, **options):
        if not fused_lm_head:
            return theirs(*args, labels=labels, **options) if labels is not None else theirs(*args, **options)
        options |= {"use_cache": False}
        states = self.base_model(*args, **options).last_hidden_state[:, :-1]
        mask = labels[:, 1:] != IGNORED
        numbers = token_numbers(output, states[mask], labels[:, 1:][mask])
        fields = {name: _placed(values, mask) for name, values in numbers.items()}
        n = mask.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return FusedCausalLMOutput(loss=-fields["log_probs"].sum() / n, label_mask=mask, **fields)

    net.forward = MethodType(forward, net)


def token_numbers(output, states, tokens):
    """What TRL asks of each token: its log-probability and, for the record, the distribution's entropy, the mean logit, and
    whether the token was the likeliest.

    Parameters
    ----------
    output : pdsel.engine.output_layer.OutputLayer
    states : torch.Tensor, shape (n, hidden)
    tokens : torch.Tensor of int, shape (n,)

    Returns
    -------
    dict of str to torch.Tensor, shape (n,)
        `log_probs, entropy, mean_logits, is_top1`; only the first has a gradient.

    >>> output = OutputLayer(torch.eye(2))
    >>> numbers = token_numbers(output, torch.zeros(1, 2), torch.tensor([1]))
    >>> round(float(numbers["log_probs"].exp()), 3), round(float(numbers["entropy"].exp()), 3)
    (0.5, 2.0)
    """
    slices = output.slices(states)
    parts = [_of_slice(output, states[rows], tokens[rows], several=len(slices) > 1) for rows in slices]
    names = ("log_probs", "entropy", "mean_logits", "is_top1")
    return {name: torch.cat(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}


def _of_slice(output, states, tokens, *, several):
    """The numbers of a few tokens; where there are several slices, their logits are computed again for the gradient."""
    if several and states.requires_grad:
        return checkpoint(_numbers, output, states, tokens, use_reentrant=False)
    return _numbers(output, states, tokens)


def _numbers(output, states, tokens):
    logits = output.logits(states)
    logps = torch.log_softmax(logits, dim=-1)
    chosen = logps.gather(-1, tokens[:, None])[:, 0]
    with torch.no_grad():
        entropy = -(logps.exp() * logps).sum(dim=-1)
        return chosen, entropy, logits.mean(dim=-1), logits.argmax(dim=-1) == tokens


def _placed(values, mask):
    """Values of labelled tokens at their places, zero elsewhere."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
