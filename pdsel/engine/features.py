"""What a frozen model makes of a response, as a few numbers: one forward pass a text, no training.

For each token of a response the model has a state h that predicts it, a distribution p over the words, and the token y that
came. From these come blocks of numbers, which are added up (or averaged) over the response:

=========  =======================================================================================================
length     the number of tokens
surprisal  sum, mean and minimum of log p(y)
grad       E[y] - sum_v p(v) E[v], with E the output embedding: the gradient of log p(y) for a bias added to h
hd         h * (E[y] - sum_v p(v) E[v]): the gradient of log p(y) for a gain that multiplies h, entry by entry
inter      h * E[y]: how h and the token's embedding agree, entry by entry
mid        the mean state of the response's tokens at two thirds of the depth
W          (onehot(y) - p) h', the gradient of log p(y) for the whole output embedding; sketched where the vocabulary is large
=========  =======================================================================================================

Why gradients: to first order in a small change `d` of the weights, the implicit reward beta * log(pi_k / pi_ref) of a
response is beta * <gradient of log pi_ref, d>. It is linear in these features, and DPO's loss in `d` is a logistic regression
on them (tangent features of fine-tuning, arXiv 2210.05643).
"""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from pdsel.checks import DataError, refuse
from pdsel.engine.errors import explained
from pdsel.engine.models import device, load_causal, load_tokenizer, resolve
from pdsel.engine.reference_cache import ReferenceCache, text_key
from pdsel.engine.scoring import BATCH_TOKENS, TOKEN, batches, padded, read_texts

BLOCKS = ("length", "surprisal", "hd", "grad", "inter", "mid")  # read by default
ALL_BLOCKS = (*BLOCKS, "W")
DEPTH = 2 / 3  # of the layer that `mid` reads
SKETCH = 96  # rows and columns of W that are kept; a smaller matrix is kept as it is
LOGITS_AT_ONCE = 2**25  # numbers: words times tokens whose logits are in memory together
PAIRS_AT_ONCE = 4000  # of which single texts' features are in memory together


@dataclass(frozen=True)
class OutputLayer:
    """The way from a state h to the logits: `E h + bias`, and `cap * tanh(. / cap)` where the model caps them softly."""

    embedding: torch.Tensor
    bias: torch.Tensor | None = None
    cap: float | None = None

    @classmethod
    def of(cls, net):
        """The output layer of a causal model of transformers."""
        layer = net.get_output_embeddings()
        return cls(layer.weight, getattr(layer, "bias", None), getattr(net.config, "final_logit_softcapping", None))

    def logits(self, states):
        """Logits of states, float32, shape (tokens, vocabulary)."""
        logits = torch.nn.functional.linear(states, self.embedding, self.bias).float()
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def slope(self, logits):
        """What a logit gains when the number before the cap gains one; 1 without a cap."""
        return 1.0 if self.cap is None else 1 - (logits / self.cap) ** 2


def token_features(states, tokens, output):
    """The features of single tokens, from the states that predict them.

    Parameters
    ----------
    states : torch.Tensor, shape (n, hidden)
        Last hidden states, after the last norm: what the output layer reads.
    tokens : torch.Tensor of int, shape (n,)
        The token that followed each state.
    output : OutputLayer

    Returns
    -------
    dict of str to torch.Tensor
        `logp`, shape (n,), nats; `error`, shape (n, vocabulary): the gradient of `logp` for the logits before the cap; and
        `grad`, `hd`, `inter`, shape (n, hidden).

    Examples
    --------
    Two words with embeddings (1, 0) and (0, 1). The state (2, 2) predicts either with probability one half, and the first
    one came: the bias gradient is E[first] - (E[first] + E[second]) / 2 = (.5, -.5).

    >>> output = OutputLayer(torch.eye(2))
    >>> found = token_features(torch.tensor([[2.0, 2.0]]), torch.tensor([0]), output)
    >>> found["grad"].tolist(), found["hd"].tolist(), found["inter"].tolist()
    ([[0.5, -0.5]], [[1.0, -1.0]], [[2.0, 0.0]])
    """
    logits = output.logits(states)
    logps = torch.log_softmax(logits, dim=-1)
    error = -logps.exp()
    error[torch.arange(len(tokens), device=tokens.device), tokens] += 1
    error = error * output.slope(logits)
    grad = (error.to(output.embedding.dtype) @ output.embedding).float()
    states = states.float()
    return {
        "logp": logps.gather(-1, tokens[:, None])[:, 0],
        "error": error,
        "grad": grad,
        "hd": states * grad,
        "inter": states * output.embedding[tokens].float(),
    }


class Reader:
    """A frozen causal model that turns responses into features.

    `n_tokens` counts the tokens that it has read, and `logps` holds the log-probability of every text by
    `pdsel.engine.reference_cache.text_key`: what DPO needs of its reference.

    Parameters
    ----------
    model : str
        Path, hub id or "notesworld".
    blocks : sequence of str
        Of `ALL_BLOCKS`; "length" and "surprisal" come for nothing and are always read.
    max_length : int
        Longer texts are cut at the end, as TRL cuts them.
    batch_tokens : int
        Padded tokens of a batch; memory, not results, depends on it.

    Raises
    ------
    ValueError
        For an unknown block, or a model whose logits are not what its output embedding makes of the last state.
    """

    def __init__(self, model, *, blocks=BLOCKS, max_length=1024, batch_tokens=BATCH_TOKENS):
        unknown = sorted(set(blocks) - set(ALL_BLOCKS))
        if unknown or not blocks:
            raise DataError(f"blocks={list(blocks)}: unknown are {unknown}. Remedy: use some of {list(ALL_BLOCKS)}")
        self.model = model = resolve(model)
        self.blocks, self.max_length, self.batch_tokens = tuple(blocks), max_length, batch_tokens
        self.tokenizer = load_tokenizer(model)
        # On a GPU the arithmetic is the trainers', float32 weights under autocast, so that log-probabilities are theirs too.
        self.autocast = device().startswith("cuda")
        self.net = load_causal(model, dtype=torch.float32 if self.autocast else "auto").to(device()).eval()
        self.output = OutputLayer.of(self.net)
        self.sketches = [_sketch(size).to(self.net.device) for size in self.output.embedding.shape]
        self.n_tokens, self.logps = 0, {}
        self._check_output()

    def read(self, prompts, responses):
        """The features of each response given its prompt; each distinct text is read once.

        Parameters
        ----------
        prompts, responses : list of str or of chat messages, length n

        Returns
        -------
        dict of str to numpy.ndarray, float32
            Each block, shape (n, width), and `logp`, shape (n,): the log-probability of the response and the end of text,
            in nats.
        """
        texts = read_texts(self.tokenizer, list(prompts), list(responses), self.max_length)
        longest_first = sorted(set(texts), key=lambda text: (-len(text[0]), text))
        with torch.inference_mode(), explained(self._advice()), self._precision():
            parts = [self._read_batch(batch) for batch in batches(longest_first, self.batch_tokens)]
        features = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for (text, start), logp in zip(longest_first, features["logp"].tolist(), strict=True):
            ids = np.frombuffer(text, dtype=TOKEN)
            self.logps[text_key(ids[:start], ids[start:], self.max_length)] = logp
        row_of = {text: row for row, text in enumerate(longest_first)}
        rows = [row_of[text] for text in texts]
        return {name: values[rows] for name, values in features.items()}

    def _read_batch(self, batch):
        """The features of a batch of encoded texts."""
        ids, mask, n_prompt = padded(batch, self.tokenizer.pad_token_id, self.net.device)
        self.n_tokens += int(mask.sum())
        seen = self.net.base_model(ids, attention_mask=mask, use_cache=False, output_hidden_states="mid" in self.blocks)
        position = torch.arange(1, ids.shape[1], device=ids.device)
        answered = mask[:, 1:].bool() & (position >= n_prompt[:, None])
        # only the states that predict a token of a response go through the output layer
        tokens = self._read_tokens(seen.last_hidden_state[:, :-1][answered], ids[:, 1:][answered])
        if "mid" in self.blocks:
            layer = round(DEPTH * (len(seen.hidden_states) - 1))
            tokens["mid"] = seen.hidden_states[layer][:, 1:][answered].float()
        lengths = answered.sum(dim=1).tolist()
        by_text = zip(*(values.split(lengths) for values in tokens.values()), strict=True)
        texts = [self._sum_text(dict(zip(tokens, parts, strict=True))) for parts in by_text]
        return {name: torch.stack([text[name] for text in texts]).cpu().numpy() for name in texts[0]}

    def _read_tokens(self, states, tokens):
        """The features of single tokens; of a few at a time, for their logits are large."""
        parts = []
        at_once = max(1, LOGITS_AT_ONCE // len(self.output.embedding))
        for rows in torch.arange(len(tokens), device=tokens.device).split(at_once):
            part = token_features(states[rows], tokens[rows], self.output)
            error = part.pop("error")
            if "W" in self.blocks:
                part["error"] = error @ self.sketches[0]
                part["state"] = states[rows].float() @ self.sketches[1]
            parts.append(part)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _sum_text(self, tokens):
        """The blocks of one text from the features of its tokens."""
        logp = tokens["logp"]
        text = {"logp": logp.sum(), "length": logp.new_tensor([len(logp)])}
        text["surprisal"] = torch.stack([logp.sum(), logp.mean(), logp.min()]) if len(logp) else logp.new_zeros(3)
        text |= {name: tokens[name].sum(dim=0) for name in ("hd", "grad", "inter") if name in self.blocks}
        if "mid" in self.blocks:
            text["mid"] = tokens["mid"].sum(dim=0) / max(1, len(logp))
        if "W" in self.blocks:
            text["W"] = (tokens["error"].T @ tokens["state"]).flatten()
        return text

    def _precision(self):
        return torch.autocast("cuda", torch.bfloat16, enabled=self.autocast)

    def _advice(self):
        return [
            f"batch_tokens (now {self.batch_tokens}): halve it; results stay the same",
            f"max_length (now {self.max_length}): lower, with pdsel.engine.chat.fitting",
        ]

    def _check_output(self):
        """Refuse an architecture that makes its logits in another way, such as by a scale of its own."""
        ids = torch.arange(min(4, len(self.output.embedding)), device=self.net.device)[None]
        with torch.inference_mode(), self._precision():
            theirs = self.net(ids, use_cache=False).logits.float()
            ours = self.output.logits(self.net.base_model(ids, use_cache=False).last_hidden_state)
        if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2):
            raise DataError(
                f"{self.model}: {type(self.net).__name__} makes its logits in a way that the features do not know. "
                "Remedy: use a proxy of kind 'implicit', or teach pdsel.engine.features.OutputLayer"
            )


def _sketch(size):
    """Random signs, shape (size, SKETCH), that keep inner products on average; the identity where that is smaller."""
    if size <= SKETCH:
        return torch.eye(size)
    signs = torch.randint(2, (size, SKETCH), generator=torch.Generator().manual_seed(size))
    return (2.0 * signs - 1) / SKETCH**0.5


@dataclass(frozen=True)
class PairFeatures:
    """Features of pairs: for every block the difference of chosen minus rejected, and what the reference says.

    `gaps` is a dict of block to array, shape (n, width), in the order of `ids`; `logps` a frame with the columns `chosen` and
    `rejected`, nats, index `pair_id`. `n_tokens` and `seconds` are what the reading took.
    """

    ids: pd.Index
    gaps: dict
    logps: pd.DataFrame
    model: str
    max_length: int
    n_tokens: int
    seconds: float

    def check(self, model, max_length):
        """Refuse the features of another model, or of texts that were cut elsewhere."""
        if (self.model, self.max_length) != (resolve(model), max_length):
            raise DataError(
                f"features: of {self.model} at max_length={self.max_length}, not of {model} at max_length={max_length}. "
                "Remedy: read them with pair_features of this model and length"
            )

    def of(self, ids, blocks):
        """The gaps of some pairs in some blocks, a dict of block to array, in the order of `ids`."""
        rows = self.ids.get_indexer(list(ids))
        refuse(pd.Index(ids)[rows < 0], "features: pair_id", "was not read", "read the features of these very pairs")
        refuse(sorted(set(blocks) - set(self.gaps)), "features: block", "was not read", "name it in blocks=")
        return {name: self.gaps[name][rows] for name in blocks}


def pair_features(pairs, *, model, blocks=BLOCKS, max_length=1024, batch_tokens=BATCH_TOKENS, reference_cache=None):
    """Read every response of a pairs table once with a frozen model.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; strings or chat messages.
    model : str
        Path, hub id or "notesworld": a causal model.
    blocks : sequence of str
        See the module; "W" has to be asked for, since it is large.
    max_length, batch_tokens : int
        As in `Reader`.
    reference_cache : str or Path, optional
        Where to leave the log-probabilities of all texts for `pdsel.train_dpo(reference_cache=...)` with this model as its
        start, which then need not read them again.

    Returns
    -------
    PairFeatures

    Examples
    --------
    >>> from importlib.resources import files
    >>> from pdsel import load_ratings, make_pairs
    >>> from pdsel.notesworld import BASE_MODEL
    >>> pairs = make_pairs(load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=2))
    >>> features = pair_features(pairs, model=BASE_MODEL, blocks=["hd"])
    >>> {name: gap.shape[1] for name, gap in features.gaps.items()}
    {'length': 1, 'surprisal': 3, 'hd': 96}
    """
    start = time.perf_counter()
    reader = Reader(model, blocks=blocks, max_length=max_length, batch_tokens=batch_tokens)
    prompt_ids = pd.Series(list(pairs["prompt_id"])).astype(str)
    order = prompt_ids.sort_values(kind="stable").index.to_numpy()  # pairs of one prompt share responses
    parts = []
    for first in tqdm(range(0, len(order), PAIRS_AT_ONCE), desc="features", leave=False):
        part = pairs.select(order[first : first + PAIRS_AT_ONCE])
        both = reader.read(list(part["prompt"]) * 2, [*part["chosen"], *part["rejected"]])
        parts.append(_gaps(both))
    back = np.argsort(order)
    gaps = {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
    ids = pd.Index(list(pairs["pair_id"]), name="pair_id")
    logps = pd.DataFrame({side: gaps.pop(side) for side in ("chosen", "rejected")}, index=ids)
    if reference_cache is not None:
        ReferenceCache(reference_cache, reader.model, "bf16" if reader.autocast else "float32").write(reader.logps)
    seconds = time.perf_counter() - start
    return PairFeatures(ids, gaps, logps, reader.model, max_length, reader.n_tokens, seconds)


def _gaps(both):
    """Chosen minus rejected of every block, from features of all chosen and then all rejected responses; and both `logp`s."""
    n = len(both["logp"]) // 2
    gaps = {name: values[:n] - values[n:] for name, values in both.items() if name != "logp"}
    return gaps | {"chosen": both["logp"][:n], "rejected": both["logp"][n:]}
