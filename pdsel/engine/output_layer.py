"""The last step of a causal model, from a state to the logits of the next token, taken only where it is asked for.

Logits are by far the largest numbers of a pass: 8 192 tokens by 128 000 words are 4 GB. A response's log-probability needs
those of the response's own positions, and a few of them at a time.
"""

from dataclasses import dataclass

import torch

NUMBERS_AT_ONCE = 2**25  # words times tokens whose logits are in memory together
TOLERANCE = {torch.float32: 1e-3}  # between our logits and the model's, by the type of its weights
COARSE = 2e-2  # for types of 16 bits


@dataclass(frozen=True)
class OutputLayer:
    """The way from a state h to the logits: `E h + bias`, and `cap * tanh(. / cap)` where the model caps them softly.

    Without an embedding E, states are logits already: the model makes them in a way of its own.

    Examples
    --------
    >>> OutputLayer(torch.eye(2), bias=torch.tensor([0.0, 1.0])).logits(torch.tensor([[2.0, 3.0]]))
    tensor([[2., 4.]])
    """

    embedding: torch.Tensor | None
    bias: torch.Tensor | None = None
    cap: float | None = None

    @classmethod
    def of(cls, net):
        """The output layer of a causal model of transformers, with an embedding only where its logits come from that."""
        layer = net.get_output_embeddings() if hasattr(net, "get_output_embeddings") else None
        if layer is None:
            return cls(None)
        found = cls(layer.weight, getattr(layer, "bias", None), getattr(net.config, "final_logit_softcapping", None))
        return found if found._agrees_with(net) else cls(None)

    def to(self, dtype):
        """The same layer in another type: cast once, and not at every call under autocast."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return OutputLayer(None if self.embedding is None else self.embedding.to(dtype), bias, self.cap)

    def states(self, net, ids, mask, **options):
        """A pass of the network: its output without logits, and what the logits are made of, shape (rows, length, width)."""
        if self.embedding is None:
            seen = net(input_ids=ids, attention_mask=mask, **options)
            return seen, seen.logits
        seen = net.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **options)
        return seen, seen.last_hidden_state

    def logits(self, states):
        """Logits of states, float32, shape (tokens, vocabulary)."""
        if self.embedding is None:
            return states.float()
        logits = torch.nn.functional.linear(states, self.embedding, self.bias).float()
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def slope(self, logits):
        """What a logit gains when the number before the cap gains one; 1 without a cap."""
        return 1.0 if self.cap is None else 1 - (logits / self.cap) ** 2

    def slices(self, states):
        """The rows of the states, in runs whose logits fit the memory together.

        >>> [len(rows) for rows in OutputLayer(torch.ones(NUMBERS_AT_ONCE // 2, 1)).slices(torch.ones(5, 1))]
        [2, 2, 1]
        """
        width = states.shape[1] if self.embedding is None else len(self.embedding)
        return torch.arange(len(states), device=states.device).split(max(1, NUMBERS_AT_ONCE // width))

    @torch.inference_mode()
    def _agrees_with(self, net):
        """Whether a few logits of the network are what this layer makes of its states: some scale them once more."""
        ids = torch.arange(min(4, len(self.embedding)), device=self.embedding.device)[None]
        theirs = net(input_ids=ids, use_cache=False).logits.float()
        ours = self.logits(self.states(net, ids, None)[1])
        tolerance = TOLERANCE.get(self.embedding.dtype, COARSE)
        return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def log_probabilities(logits, tokens):
    """The log-probability of the token that came after each position, shape (n,), and of every word, (n, vocabulary)."""
    logps = torch.log_softmax(logits, dim=-1)
    return logps.gather(-1, tokens[:, None])[:, 0], logps
