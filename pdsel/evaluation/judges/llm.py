"""A language model as the judge, through any OpenAI-compatible endpoint: vLLM, llama.cpp, the commercial ones."""

from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from pdsel.checks import DataError, refuse, some
from pdsel.data.messages import is_text, text_of
from pdsel.evaluation.judges.cache import AnswerCache, answer_key
from pdsel.evaluation.judges.endpoint import Endpoint, Fault, JudgeError, Traffic
from pdsel.evaluation.judges.prompt import TEMPLATE, check_template, fill, load_template, read_answer

__all__ = ["JudgeError", "LLMJudge", "load_template"]


@dataclass(frozen=True)
class Request:
    """What is sent beside the messages. All of it may change an answer, so all of it is in the cache's key."""

    temperature: float | None = 0.0
    max_tokens: int | None = 8
    top_logprobs: int | None = 5
    fields: dict | None = None

    def body(self, model):
        """The request's body without its messages.

        >>> Request(top_logprobs=None).body("judge-7b")
        {'model': 'judge-7b', 'temperature': 0.0, 'max_tokens': 8}
        """
        wanted = {
            "temperature": None if self.temperature is None else float(self.temperature),  # 0 and 0.0 are one question
            "max_tokens": self.max_tokens,
            "logprobs": True if self.top_logprobs else None,
            "top_logprobs": self.top_logprobs or None,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return {"model": model} | given | (self.fields or {})


class LLMJudge:
    """Ask a language model which of two answers is better, in AlpacaEval's scheme and in both orders.

    The model is told to name one of two identifiers, `m` or `M`. Where the endpoint gives log-probabilities, the
    preference is P(m) / (P(m) + P(M)) of the first token, else it is 1 or 0 by the name in the text. AlpacaEval shows each
    pair in one random order; here every pair is asked in both orders and the two are averaged, so that a taste for the
    first place cancels. Identical outputs are a draw, .5, and ask nothing.

    Every readable answer is stored the moment it comes, under a hash of all that determines it: the endpoint's address and
    the whole body (model, messages, temperature, ...). An interrupted run goes on where it stopped, and a second run makes
    no request. Faults are not stored. Log-probabilities that an endpoint refuses to give are not asked for again.

    Parameters
    ----------
    model : str
        The name that the endpoint gives the model.
    base_url : str
        The address that `/chat/completions` follows, such as "http://localhost:8000/v1". It is sent the key: use https
        for another machine.
    cache : str or Path
        An SQLite file, made if it is not there; on a disk of this machine if several processes share it.
    template : list of dict, optional
        Chat messages with the placeholders `{instruction}`, `{output_1}` and `{output_2}`; ours by default. With
        `load_template` it can be AlpacaEval's own, for numbers that compare with its leaderboard.
    price_per_million : float or (float, float), optional
        The price of a million tokens, or of a million (prompt, completion) tokens, for `usage`.
    missing : {"raise", "nan"}
        What to do when questions stay without an answer: raise at the end, or give NaN at these positions. `win_rate`
        refuses NaN: drop these prompts for every model and report how many there were.
    **options
        What is sent beside the messages (a new value makes a new question):

        temperature, max_tokens : float and int, or None; 0.0 and 8
            Sent unless `None`. The log-probabilities are those of the first token, so a model that thinks aloud first is
            read by its text. Where they depend on the temperature it has to be 1, which is what AlpacaEval sends.
        top_logprobs : int or None; 5, as AlpacaEval takes
            The number of tokens whose log-probabilities are asked for. `None` asks for none.
        fields : dict
            Further fields, such as `{"seed": 0}`, `{"max_completion_tokens": 1}` or vLLM's
            `{"chat_template_kwargs": {"enable_thinking": False}}`.

        How it is asked (no answer depends on it):

        key_variable : str; "OPENAI_API_KEY"
            The environment variable that holds the API key, read at each request. A local server needs none.
        concurrency : int; 8
            The number of requests under way at once.
        requests_per_minute : float, optional
            At most this many requests begin in a minute, at equal distances.
        retries : int; 6
            How often a question is asked again after a timeout, a broken connection, HTTP 408, 409, 429 or 5xx (the
            `openai` client waits for half a second, doubled up to eight, or as long as Retry-After says), or a malformed
            reply. An unreadable answer, such as a refusal, is asked for again at most twice.
        timeout : float; 60
            Seconds without any byte of the reply.
        backoff : float; 1.0
            Seconds before a malformed or unreadable reply is asked for again, doubled each time up to a minute.

    Examples
    --------
    >>> judge = LLMJudge("judge-7b", base_url="http://localhost:8000/v1", cache="answers.sqlite", concurrency=4)
    >>> judge
    LLMJudge('judge-7b', base_url='http://localhost:8000/v1', cache='answers.sqlite', key_variable='OPENAI_API_KEY')
    """

    def __init__(self, model, *, base_url, cache, template=None, price_per_million=None, missing="raise", **options):
        if missing not in ("raise", "nan"):
            raise DataError(f"missing: {missing!r} is unknown. Remedy: use 'raise' or 'nan'")
        request, traffic = _sorted_options(options, Request, Traffic)
        self.model, self.cache, self.missing, self.price_per_million = model, Path(cache), missing, price_per_million
        self.template = check_template(TEMPLATE if template is None else template)
        self.settings = request.body(model)
        self.endpoint = Endpoint(base_url, traffic)
        self._from_cache = 0

    def __repr__(self):
        return (
            f"LLMJudge({self.model!r}, base_url={self.endpoint.base_url!r}, cache={str(self.cache)!r}, "
            f"key_variable={self.endpoint.key.variable!r})"
        )

    def __call__(self, prompts, outputs, baseline_outputs):
        """How probably each output beats its baseline: the mean of both orders.

        Returns
        -------
        numpy.ndarray, shape (n,)
            In [0, 1]; swapping outputs and baselines gives 1 minus it, from the cache. One order alone would carry the judge's
            taste for a place, so a position with only one answer is missing.

        Raises
        ------
        JudgeError
            If the endpoint cannot be used, or (`missing="raise"`) questions stay without an answer. What was answered is kept.
        """
        table = self.both_orders(prompts, outputs, baseline_outputs)
        return table[["listed_first", "listed_second"]].mean(axis=1, skipna=False).to_numpy(float)

    def both_orders(self, prompts, outputs, baseline_outputs):
        """The same by order, to see how much the place decides.

        Parameters
        ----------
        prompts, outputs, baseline_outputs : list, length n
            Texts or lists of chat messages.

        Returns
        -------
        pandas.DataFrame
            A row per prompt. `listed_first`, `listed_second`: how probably *our* output wins when it is shown first or second.
            `read`: "logprobs"; "parsed" if at least one order was; "identical" outputs; "missing" if at least one order is.
        """
        questions = self._questions(prompts, outputs, baseline_outputs)
        bodies = {key: body for pair in questions for key, body in pair.items()}  # equal questions are asked once
        answers, faults = self._answers(bodies)
        read = {key: read_answer(answer) for key, answer in answers.items()}
        rows = [_row(*(read.get(key, (np.nan, "missing")) for key in pair)) for pair in questions]
        table = pd.DataFrame(rows, columns=["listed_first", "listed_second", "read"])
        if faults and self.missing == "raise":
            raise self._error(table.index[table["read"] == "missing"], faults)
        return table

    def usage(self):
        """What this object asked so far.

        Returns
        -------
        dict
            `requests` made, retries included; `from_cache`, questions answered from there; `prompt_tokens` and
            `completion_tokens` of all replies; `without_usage`, replies that did not say and count 0; `cost` of these tokens,
            `None` without a price.
        """
        names = ("prompt_tokens", "completion_tokens", "without_usage")
        counts = {name: self.endpoint.counts[name] for name in names}
        cost = None
        if self.price_per_million is not None:
            prices = np.broadcast_to(self.price_per_million, 2)
            cost = float(prices @ [counts["prompt_tokens"], counts["completion_tokens"]]) / 1e6
        return {"requests": self.endpoint.counts["requests"], "from_cache": self._from_cache, **counts, "cost": cost}

    def _questions(self, prompts, outputs, baseline_outputs):
        """For each prompt the requests in both orders, key to body; none for identical outputs."""
        sides = {"prompts": list(prompts), "outputs": list(outputs), "baseline_outputs": list(baseline_outputs)}
        if len({len(texts) for texts in sides.values()}) > 1:
            found = ", ".join(f"{len(texts)} {name}" for name, texts in sides.items())
            raise DataError(f"prompts, outputs, baseline_outputs: {found}; give one output and one baseline per prompt")
        for name, texts in sides.items():
            odd = [position for position, text in enumerate(texts) if not is_text(text)]
            refuse(odd, name, "is neither a text nor chat messages at positions", "drop these prompts from all three")
        texts = zip(*([text_of(text) for text in texts] for texts in sides.values()), strict=True)
        orders = [((prompt, a, b), (prompt, b, a)) if a != b else () for prompt, a, b in texts]
        bodies = [[self.settings | {"messages": fill(self.template, *order)} for order in pair] for pair in orders]
        return [{answer_key(self.endpoint.base_url, body): body for body in pair} for pair in bodies]

    def _answers(self, bodies):
        """Answers and faults by key; asks what the cache does not hold."""
        with AnswerCache.open(self.cache) as cache:
            answers = cache.load(bodies)
            self._from_cache += len(answers)

            def accept(key, answer):
                if np.isnan(read_answer(answer)[0]):
                    raise Fault("unreadable answer", answer["content"] or "nothing", again=2)  # such as a refusal
                cache.store(key, answer)
                answers[key] = answer

            new = {key: body for key, body in bodies.items() if key not in answers}
            return answers, self.endpoint.ask_all(new, accept) if new else {}

    def _error(self, positions, faults):
        kinds = Counter(fault.kind for fault in faults.values())
        said = {fault.kind: fault.said for fault in faults.values()}
        reasons = ", ".join(f"{count} x {kind} (such as: {said[kind]})" for kind, count in kinds.most_common())
        return JudgeError(
            f"judge {self.model}: no answer at positions: {some(positions)}, because: {reasons}. Remedy: call again, the "
            f"answers that came are in {self.cache} and only the others are asked; or missing='nan' leaves NaN there, to "
            "drop and report"
        )


def _sorted_options(options, *groups):
    """One object of each dataclass in `groups`, made of the options that are its fields; others are refused."""
    names = {group: {field.name for field in fields(group)} for group in groups}
    known = sorted(set().union(*names.values()))
    unknown = [name for name in options if name not in known]
    refuse(unknown, "options of LLMJudge", "are unknown", f"use some of {', '.join(known)}")
    return [group(**{name: options[name] for name in options if name in names[group]}) for group in groups]


def _row(*orders):
    """A prompt's preferences for our output, shown first and second, and the less exact way they were read."""
    if not orders:
        return 0.5, 0.5, "identical"
    (first, how_first), (second, how_second) = orders
    ways = {how_first, how_second}
    return first, 1 - second, next(way for way in ("missing", "parsed", "logprobs") if way in ways)
