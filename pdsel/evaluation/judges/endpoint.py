"""Asks an OpenAI-compatible chat endpoint many questions at once, at a pace, and again if a reply is unusable.

The `openai` client connects, waits and retries. This module adds what the client lacks: a pace, an end to all questions at
the first hopeless error, models that refuse to give log-probabilities, and a key that is never shown.
"""

import json
import math
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from urllib.parse import urlsplit

import openai

from pdsel.checks import DataError
from pdsel.engine.progress import Progress
from pdsel.evaluation.judges.cache import canonical
from pdsel.evaluation.judges.key import EnvironmentKey

DOWN_AFTER = 10  # questions that fail in a row, after all retries: the endpoint is down, and no other question is asked
LONGEST_WAIT = 60  # seconds before a question with an unusable reply is asked again
UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)  # of what a reply holds
NEEDS_A_KEY = ("api.openai.com",)  # hosts that answer only with a key


class JudgeError(DataError):
    """The judge's endpoint cannot be used, or did not answer some questions."""


@dataclass(frozen=True)
class Traffic:
    """How an endpoint is asked, which changes no answer; `LLMJudge` explains the fields."""

    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    requests_per_minute: float | None = None
    retries: int = 6
    timeout: float = 60
    backoff: float = 1.0


class Fault(Exception):
    """A question has no usable reply.

    Parameters
    ----------
    kind : str
        Faults are counted by it.
    said : str
        What the endpoint said, shortened; or the remedy, if the settings are the cause.
    cause : {"question", "endpoint", "settings", "logprobs"}
        The question itself, perhaps; the endpoint, whatever the question; the settings, so that every other question would
        meet the same fault; or the request for log-probabilities.
    again : int
        How often the question is worth asking again.
    """

    def __init__(self, kind, said="", *, cause="question", again=0):
        super().__init__(kind, said)
        self.kind, self.said, self.cause, self.again = kind, " ".join(said.split())[:200], cause, again


class Stopped(Exception):
    """A request was not sent because no more questions are asked."""


class Endpoint:
    """One OpenAI-compatible endpoint.

    Parameters
    ----------
    base_url : str
        The address before `/chat/completions`.
    traffic : Traffic
    """

    def __init__(self, base_url, traffic):
        self.base_url, self.traffic = _checked_url(base_url), traffic
        self.key = EnvironmentKey(traffic.key_variable)
        self.pace = Pace(traffic.requests_per_minute) if traffic.requests_per_minute else None
        self.gives_logprobs = True  # until the endpoint refuses
        self.counts, self._lock = Counter(), threading.Lock()

    def ask_all(self, bodies, accept):
        """Ask every question.

        Parameters
        ----------
        bodies : dict
            Key to the body of the request.
        accept : callable
            `accept(key, reply)` is called with each reply as it comes, from several threads, and may raise a `Fault`.

        Returns
        -------
        dict
            Key to `Fault`, for the questions without a usable reply.

        Raises
        ------
        JudgeError
            At the first fault that every question would meet; before any request if a key is needed and missing.
        """
        self._check_key()
        faults, failed_in_a_row, stop = {}, 0, threading.Event()
        with self._client(stop) as client, ThreadPoolExecutor(self.traffic.concurrency) as pool:
            futures = {pool.submit(self._ask, client, body, key, accept, stop): key for key, body in bodies.items()}
            try:
                for future in Progress(as_completed(futures), total=len(futures), desc="judging"):
                    fault = future.result()
                    failed_in_a_row = failed_in_a_row + 1 if fault and fault.cause == "endpoint" else 0
                    if failed_in_a_row == DOWN_AFTER:
                        stop.set()
                    if fault and fault.cause == "settings":
                        raise JudgeError(f"endpoint {self.base_url}: {fault.kind}. Remedy: {fault.said}")
                    if fault:
                        faults[futures[future]] = fault
            except BaseException:  # also an interrupt: requests under way may end, but no other begins
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return faults

    def _check_key(self):
        """Refuse an unusable or missing key before any request is sent."""
        if not self.key.read() and urlsplit(self.base_url).hostname in NEEDS_A_KEY:
            raise JudgeError(
                f"endpoint {self.base_url}: the environment variable {self.key.variable} is not set. Remedy: "
                f"set {self.key.variable} to a key of this endpoint, where this runs"
            )

    def _client(self, stop):
        """An `openai` client that waits for its slot before every request, retries included."""

        def before_request(request):
            if self.pace:
                stop.wait(self.pace.reserve(time.monotonic()))
            if stop.is_set():
                raise Stopped
            for name in [name for name in request.headers if name.startswith("x-stainless")]:
                del request.headers[name]  # the client's report on this machine: system, processor, Python
            self._count(requests=1)

        return openai.OpenAI(
            base_url=self.base_url,
            api_key=lambda: self.key.read() or "none",  # local servers take any key
            timeout=self.traffic.timeout,
            max_retries=self.traffic.retries,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [before_request]}, follow_redirects=False),
        )

    def _ask(self, client, body, key, accept, stop):
        """Ask one question until its reply is usable; returns the last `Fault` if none is."""
        times = Counter()
        while True:
            try:
                accept(key, self._reply(client, body))
                return None
            except Fault as raised:
                fault = raised
            times[fault.kind] += 1
            if fault.cause == "settings":
                stop.set()
            if times[fault.kind] > fault.again:
                return fault
            stop.wait(min(self.traffic.backoff * 2 ** (times[fault.kind] - 1), LONGEST_WAIT))

    def _reply(self, client, body):
        """The fields of the endpoint's reply that the judge needs."""
        if not self.gives_logprobs:
            body = {name: value for name, value in body.items() if name not in ("logprobs", "top_logprobs")}
        text, fault = self._post(client, body)
        if fault and fault.cause == "logprobs" and "logprobs" in body:
            self.gives_logprobs = False  # some models refuse the request instead of omitting them
            return self._reply(client, body)
        if fault:
            raise fault
        try:
            reply = json.loads(text)
            choice, usage = reply["choices"][0], reply.get("usage") or {}
            content = choice["message"].get("content") or choice["message"].get("refusal")
            tokens = {name: int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
        except UNREADABLE:
            raise Fault("malformed reply", text, cause="endpoint", again=self.traffic.retries) from None
        self._count(**tokens, without_usage=int(not usage))
        return {
            "content": content if isinstance(content, str) else None,
            "top_logprobs": _top_logprobs(choice),
            "finish_reason": choice.get("finish_reason"),
            "model": reply.get("model"),
            "usage": tokens,
        }

    def _post(self, client, body):
        """The reply's text and `None`, or `None` and the `Fault` that came instead.

        The fault is returned and not raised here: an exception raised while another one is handled refers to it, and
        through it to the request, whose headers hold the key.
        """
        try:
            # The bytes from which the cache's key is made, so that nothing else can determine the answer.
            text = client.post("/chat/completions", cast_to=str, content=canonical(body))
        except Stopped:
            return None, Fault("not asked", f"the endpoint failed {DOWN_AFTER} times in a row")
        except openai.APITimeoutError:
            return None, Fault("timeout", f"no reply within {self.traffic.timeout} s", cause="endpoint")
        except openai.APIConnectionError as error:
            reason = error.__cause__
            return None, Fault("connection failed", f"{type(reason).__name__}: {reason}", cause="endpoint")
        except openai.APIStatusError as error:
            return None, self._fault_of(error.status_code, self.key.hide(error.response.text))
        return self.key.hide(text), None

    def _fault_of(self, status, text):
        kind, said, cause = f"HTTP {status}", _message(text), "question"
        if status in (400, 403, 422) and "logprob" in text.lower():
            cause = "logprobs"
        elif status in (401, 403):
            state = "is not accepted" if self.key.read() else "is not set"
            kind += f", the key in the environment variable {self.key.variable} {state}"
            said = f"set {self.key.variable} to a key of this endpoint that may use the model, where this runs"
            cause = "settings"
        elif status == 404:
            said, cause = "check the model's name, and that base_url ends where /chat/completions follows", "settings"
        elif status in (408, 409, 425, 429) or status >= 500:
            cause = "endpoint"
        return Fault(kind, said, cause=cause)

    def _count(self, **numbers):
        with self._lock:
            self.counts.update(numbers)


class Pace:
    """Assigns slots at equal distances, for at most `per_minute` requests a minute.

    >>> pace = Pace(120)
    >>> [pace.reserve(now) for now in (0.0, 0.0, 0.25, 9.0)]  # seconds to wait
    [0.0, 0.5, 0.75, 0.0]
    """

    def __init__(self, per_minute):
        self.distance, self._free, self._lock = 60 / per_minute, -math.inf, threading.Lock()

    def reserve(self, now):
        """Take the next slot; return the seconds until then."""
        with self._lock:
            slot = max(now, self._free)
            self._free = slot + self.distance
        return slot - now


def _checked_url(base_url):
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise DataError(
            "base_url: has to be http(s)://host/path without a password or query. Remedy: give an address such as "
            "'http://localhost:8000/v1', and put the key into its environment variable"
        )
    return base_url.rstrip("/")


def _message(text):
    """The message of an error reply: from the field that OpenAI's errors have, otherwise the whole text."""
    try:
        return str(json.loads(text)["error"]["message"])
    except UNREADABLE:
        return text


def _top_logprobs(choice):
    """The (token, log-probability) of the most probable first tokens; `None` if the endpoint does not give them."""
    try:
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        pairs = [[entry["token"], float(entry["logprob"])] for entry in top]
    except UNREADABLE:
        return None
    return [[token, logprob] for token, logprob in pairs if isinstance(token, str) and math.isfinite(logprob)]
