"""A language model as the judge, at any OpenAI-compatible endpoint: vLLM, llama.cpp or a commercial one."""

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
    """What is sent with the messages. It may change an answer, so it is part of the cache's key."""

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

    The model has to name one of two identifiers, `m` or `M`. If the endpoint gives log-probabilities, the preference is
    P(m) / (P(m) + P(M)) of the first token, otherwise 1 or 0 by the name in the text. AlpacaEval shows each pair in one random
    order; here every pair is shown in both orders and the two answers are averaged, so that a taste for the first place
    cancels. Identical outputs are a draw, .5, without a question.

    Every readable answer is stored at once, under a hash of everything that determines it: the endpoint's address and the
    whole body (model, messages, temperature, ...). An interrupted run continues where it stopped, and a second run makes no
    request. Faults are not stored. If an endpoint refuses to give log-probabilities, it is not asked for them again.

    Parameters
    ----------
    model : str
        The endpoint's name for the model.
    base_url : str
        The address before `/chat/completions`, such as "http://localhost:8000/v1". The key is sent to it, so use https for
        another machine.
    cache : str or Path
        An SQLite file, which is made if it does not exist. If several processes share it, it has to be on a local disk.
    template : list of dict, optional
        Chat messages with the placeholders `{instruction}`, `{output_1}` and `{output_2}`; ours by default. `load_template`
        reads AlpacaEval's own, for numbers that are comparable with its leaderboard.
    price_per_million : float or (float, float), optional
        The price of a million tokens, or of a million (prompt, completion) tokens, for `usage`.
    missing : {"raise", "nan"}
        What to do if some questions get no answer: raise at the end, or give NaN at these positions. `win_rate` refuses NaN:
        drop these prompts for every model and report how many there were.
    **options
        What is sent with the messages (a new value makes a new question):

        temperature, max_tokens : float and int, or None; 0.0 and 8
            Sent unless `None`. Log-probabilities are those of the first token, so a model that thinks aloud first is judged
            by its text. If they depend on the temperature, it has to be 1, which AlpacaEval sends.
        top_logprobs : int or None; 5, as in AlpacaEval
            The number of tokens whose log-probabilities are requested; `None` requests none.
        fields : dict
            Other fields, such as `{"seed": 0}`, `{"max_completion_tokens": 1}` or vLLM's
            `{"chat_template_kwargs": {"enable_thinking": False}}`.

        How it is asked (no answer depends on it):

        key_variable : str; "OPENAI_API_KEY"
            The environment variable that holds the API key, read at each request. A local server needs none.
        concurrency : int; 8
            The number of simultaneous requests.
        requests_per_minute : float, optional
            The most requests that begin in a minute, at equal distances.
        retries : int; 6
            How often a question is asked again after a timeout, a broken connection, HTTP 408, 409, 429 or 5xx (the
            `openai` client waits half a second, doubled up to eight, or as long as Retry-After says), or a malformed reply.
            After an unreadable answer, such as a refusal, it is asked again at most twice.
        timeout : float; 60
            Seconds without any byte of the reply.
        backoff : float; 1.0
            Seconds before a question is asked again after a malformed or unreadable reply, doubled each time up to a minute.

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
            In [0, 1]; swapping outputs and baselines gives 1 minus it, from the cache. One order alone would reflect the
            judge's taste for a place, so a prompt with only one answer counts as missing.

        Raises
        ------
        JudgeError
            If the endpoint cannot be used, or with `missing="raise"` if questions get no answer. Answers that came are kept.
        """
        table = self.both_orders(prompts, outputs, baseline_outputs)
        return table[["listed_first", "listed_second"]].mean(axis=1, skipna=False).to_numpy(float)

    def both_orders(self, prompts, outputs, baseline_outputs):
        """The preference in each order, which shows how much the place matters.

        Parameters
        ----------
        prompts, outputs, baseline_outputs : list, length n
            Texts or lists of chat messages.

        Returns
        -------
        pandas.DataFrame
            A row per prompt. `listed_first`, `listed_second`: how probably *our* output wins if it is shown first or second.
            `read`: "logprobs"; "parsed" if at least one answer was; "identical" outputs; "missing" if at least one answer is.
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
        """What this object has asked so far.

        Returns
        -------
        dict
            `requests`, with retries; `from_cache`, questions answered from the cache; `prompt_tokens` and
            `completion_tokens` of all replies; `without_usage`, replies that did not report tokens and count as 0; `cost` of
            these tokens, `None` without a price.
        """
        names = ("prompt_tokens", "completion_tokens", "without_usage")
        counts = {name: self.endpoint.counts[name] for name in names}
        cost = None
        if self.price_per_million is not None:
            prices = np.broadcast_to(self.price_per_million, 2)
            cost = float(prices @ [counts["prompt_tokens"], counts["completion_tokens"]]) / 1e6
        return {"requests": self.endpoint.counts["requests"], "from_cache": self._from_cache, **counts, "cost": cost}

    def _questions(self, prompts, outputs, baseline_outputs):
        """The requests for each prompt in both orders, key to body; none for identical outputs."""
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
        """The answers and the faults by key; questions that the cache cannot answer are asked."""
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
            f"judge {self.model}: no answer at positions: {some(positions)}, because: {reasons}. Remedy: call again, which "
            f"asks only the missing questions, as {self.cache} keeps the other answers; or use missing='nan' and drop and "
            "report these prompts"
        )


def _sorted_options(options, *groups):
    """Sort options into one object of each dataclass in `groups`, by the names of its fields; refuse other names."""
    names = {group: {field.name for field in fields(group)} for group in groups}
    known = sorted(set().union(*names.values()))
    unknown = [name for name in options if name not in known]
    refuse(unknown, "options of LLMJudge", "are unknown", f"use some of {', '.join(known)}")
    return [group(**{name: options[name] for name in options if name in names[group]}) for group in groups]


def _row(*orders):
    """The preferences for our output if it is shown first and second, and the less exact way in which they were read."""
    if not orders:
        return 0.5, 0.5, "identical"
    (first, how_first), (second, how_second) = orders
    ways = {how_first, how_second}
    return first, 1 - second, next(way for way in ("missing", "parsed", "logprobs") if way in ways)
