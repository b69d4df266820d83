"""Judges that are reward models: a sequence classifier, local or from the hub, or a proxy from `fit_proxy`."""

import warnings
from functools import cache

import numpy as np
from scipy.special import expit
from transformers import AutoModelForSequenceClassification

from pdsel.checks import DataError, refuse
from pdsel.data.messages import as_answer
from pdsel.engine.models import SAFE, load_tokenizer, quiet
from pdsel.engine.scoring import BATCH_TOKENS, encode, response_lengths, score_texts
from pdsel.proxies import REWARDS


def reward_judge(model, *, max_length=None, batch_tokens=BATCH_TOKENS):
    """A judge from a scalar reward model r: it prefers the output with probability sigmoid(r(x, y) - r(x, y_baseline)).

    This is the Bradley-Terry model, by which reward models are trained. A judge should not have been trained on the pairs
    whose selection it judges.

    Parameters
    ----------
    model : str
        Path or hub id of a sequence classifier with one label, in safetensors and without remote code. It is loaded once.
    max_length : int, optional
        In tokens; longer texts are cut at their end, with a warning. Default: the number of the model's positions.
    batch_tokens : int
        Padded tokens in a batch; it changes memory, not results.

    Returns
    -------
    callable
        `judge(prompts, outputs, baseline_outputs)`, an array of probabilities, shape (n,). Outputs are strings. Prompts
        are strings, which the output follows directly, as in a proxy's training; or chat messages for a reward model that was
        trained on chats, to which the tokenizer's template is applied.

    Raises
    ------
    ValueError
        For a checkpoint without a trained reward head, or with a head of several labels.

    Examples
    --------
    >>> from pdsel.notesworld import BASE_MODEL
    >>> reward_judge(BASE_MODEL)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pdsel.checks.DataError: ...: weights are missing from the checkpoint: 1 (first: score.weight). Remedy: ...
    """
    load, tokenizer = cache(_load_reward), load_tokenizer(model)
    most = max_length or getattr(load(model).config.get_text_config(), "max_position_embeddings", None)

    def score(net, ids, mask, n_prompt):
        return net(input_ids=ids, attention_mask=mask).logits[:, 0].float()

    def rewards(prompts, responses):
        _warn_of_cuts(tokenizer, prompts, responses, most)
        return score_texts(load, model, prompts, responses, score, most, batch_tokens)

    return _judge(rewards)


def proxy_judge(proxy):
    """A judge from a fitted proxy of any kind, which judges by the proxy's aspect alone.

    Parameters
    ----------
    proxy : pdsel.proxies.Proxy
        From `fit_proxy` or `load_proxy`.

    Returns
    -------
    callable
        `judge(prompts, outputs, baseline_outputs)`, see `reward_judge`.
    """

    def rewards(prompts, responses):
        found = REWARDS[proxy.kind](proxy, prompts, responses, {})
        if not proxy.length_penalty:
            return found
        return found - proxy.length_penalty * response_lengths(proxy.reference, responses)

    return _judge(rewards)


def _judge(rewards):
    """The Bradley-Terry judge of `rewards(prompts, responses)`."""

    def judge(prompts, outputs, baseline_outputs):
        prompts, n = list(prompts), len(prompts)
        if not n == len(outputs) == len(baseline_outputs):
            raise DataError(
                f"prompts, outputs, baseline_outputs: {n}, {len(outputs)} and {len(baseline_outputs)} texts; give one "
                "output and one baseline per prompt"
            )
        if not n:
            return np.zeros(0)
        found = rewards(prompts * 2, list(map(_as_response, prompts * 2, [*outputs, *baseline_outputs])))
        bad = np.flatnonzero(~np.isfinite(found)) % n
        refuse(np.unique(bad), "reward", "is not finite at positions", "use another model, or look at these texts")
        return expit(found[:n] - found[n:])

    return judge


def _as_response(prompt, output):
    """The output in the form of its prompt: a string, or the assistant's message."""
    return output if isinstance(prompt, str) else as_answer(output)


def _load_reward(model):
    """Load a scalar classifier; refuse a checkpoint without a head, for which the library would make one up."""
    with quiet():
        net, info = AutoModelForSequenceClassification.from_pretrained(
            model, dtype="auto", output_loading_info=True, **SAFE
        )
    refuse(
        sorted(info["missing_keys"]),
        f"{model}: weights",
        "are missing from the checkpoint",
        "give a trained reward model: a random head judges at random",
    )
    if net.config.num_labels != 1:
        raise DataError(
            f"{model}: has {net.config.num_labels} labels, but a reward is one number. Remedy: give a reward model, "
            "trained with num_labels=1"
        )
    return net.eval()


def _warn_of_cuts(tokenizer, prompts, responses, most):
    if most is None:
        return
    n_cut = sum(len(ids) > most for ids, _ in encode(tokenizer, prompts, responses))
    if n_cut:
        warnings.warn(
            f"{n_cut} of {len(prompts)} texts (of both sides) are longer than {most} tokens and are judged by their first "
            f"{most}: raise max_length if the model can read more",
            stacklevel=4,
        )
