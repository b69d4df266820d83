"""Questions to an OpenAI-compatible chat endpoint: in parallel, at a pace, again after faults, the key never shown.

Plain httpx instead of the openai SDK: what is hashed for the cache is then to the byte what is sent, fields that only
vLLM or llama.cpp know need no detour, and a broken reply arrives as it is instead of as a half-filled object.
"""

import json
import math
import os
import random
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
from tenacity import Retrying, retry_if_exception_type, sleep_using_event, wait_exponential
from tqdm.auto import tqdm

from pdsel.checks import DataError
from pdsel.evaluation.judges.cache import canonical

DOWN_AFTER = 10  # so many questions in a row given up after all retries: the endpoint is down, the others wait
LONGEST_WAIT = 60  # seconds between two attempts, unless the endpoint asks for more,
LONGEST_ASKED = 3600  # which is believed up to here


class JudgeError(DataError):
    """The judge's endpoint cannot be used, or left questions without an answer."""


class Fault(Exception):
    """A question without a usable reply.

    Parameters
    ----------
    kind : str
        What faults are counted by.
    said : str
        What the endpoint said, shortened.
    again : float
        How often asking again may help.
    wait : float, optional
        Seconds until then, if the endpoint says so.
    """

    def __init__(self, kind, said="", *, again=0, wait=None):
        super().__init__(kind, said)
        self.kind, self.said, self.again, self.wait = kind, " ".join(said.split())[:200], again, wait


class Fatal(Fault):
    """A fault that every further question would meet; `said` is the remedy."""


class Unreadable(Fault):
    """A whole reply that names no answer, a refusal for one: asked again twice."""

    def __init__(self, said):
        super().__init__("unreadable answer", said, again=2)


class Endpoint:
    """One OpenAI-compatible endpoint; the parameters are those of `LLMJudge`."""

    def __init__(self, base_url, key_variable, *, concurrency, requests_per_minute, retries, timeout, backoff):
        self.base_url, self.key = _checked_url(base_url), EnvironmentKey(key_variable)
        self.concurrency, self.retries, self.timeout, self.backoff = concurrency, retries, timeout, backoff
        self.pace = Pace(requests_per_minute) if requests_per_minute else None
        self.gives_logprobs = True  # until it says otherwise
        self.counts, self._lock = Counter(), threading.Lock()

    def ask_all(self, bodies, accept):
        """Ask every question; `accept(key, reply)` gets each reply as it comes and may raise a `Fault` about it.

        Parameters
        ----------
        bodies : dict
            Key to the request's body.
        accept : callable
            Called from several threads.

        Returns
        -------
        dict
            Key to `Fault`, of those without a reply.
        """
        self.key.read()  # an unusable key is found before any thread starts
        faults, in_a_row, stop = {}, 0, threading.Event()
        limits = httpx.Limits(max_connections=self.concurrency)
        with (
            httpx.Client(auth=self.key, timeout=self.timeout, limits=limits) as client,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            futures = {pool.submit(self._ask, client, body, key, accept, stop): key for key, body in bodies.items()}
            try:
                for future in tqdm(as_completed(futures), total=len(futures), desc="judging", leave=False):
                    fault = future.result()
                    in_a_row = in_a_row + 1 if fault and fault.again == math.inf else 0
                    if fault:
                        faults[futures[future]] = fault
                    if in_a_row == DOWN_AFTER:
                        stop.set()
            except BaseException:  # an interrupt too: what is under way may end, nothing else begins
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        for fault in faults.values():
            if isinstance(fault, Fatal):
                raise JudgeError(f"endpoint {self.base_url}: {fault.kind}. Remedy: {fault.said}")
        return faults

    def _ask(self, client, body, key, accept, stop):
        """Ask one question until it is answered; the `Fault` if it is not."""
        exponential = wait_exponential(multiplier=self.backoff, max=LONGEST_WAIT)
        met = Counter()

        def wait(state):
            asked_for = state.outcome.exception().wait
            least = exponential(state) if asked_for is None else asked_for
            return least + random.uniform(0, self.backoff)  # so that the threads do not come back at once

        def in_vain(state):
            fault = state.outcome.exception()
            met[type(fault)] += 1
            return state.attempt_number > self.retries or met[type(fault)] > fault.again

        retry, sleep = retry_if_exception_type(Fault), sleep_using_event(stop)
        try:
            Retrying(retry=retry, stop=in_vain, wait=wait, sleep=sleep, reraise=True)(
                lambda: accept(key, self._reply(client, body, stop))
            )
        except Fault as fault:
            if isinstance(fault, Fatal):
                stop.set()
            return fault
        return None

    def _reply(self, client, body, stop):
        if self.pace:
            stop.wait(self.pace.reserve(time.monotonic()))
        if stop.is_set():
            raise Fault("not asked", f"the endpoint failed {DOWN_AFTER} times in a row")
        if not self.gives_logprobs:
            body = {name: value for name, value in body.items() if name not in ("logprobs", "top_logprobs")}
        status, headers, text = self._post(client, body)
        if status in (400, 403, 422) and "logprobs" in body and "logprob" in text.lower():
            self.gives_logprobs = False  # some models refuse the request instead of leaving them out
            return self._reply(client, body, stop)
        if status != 200:
            raise self._fault_of(status, headers, text)
        return self._read(text)

    def _post(self, client, body):
        """Status, headers and text of the reply, whatever it is; a `Fault` if there is none."""
        self._count(requests=1)
        fault = None
        try:
            content, kind = canonical(body), {"Content-Type": "application/json"}
            response = client.post(f"{self.base_url}/chat/completions", content=content, headers=kind)
        except httpx.TimeoutException:
            fault = Fault("timeout", f"no reply within {self.timeout} s", again=math.inf)
        except httpx.RequestError as error:
            fault = Fault("connection failed", f"{type(error).__name__}: {error}", again=math.inf)
        if fault:
            raise fault  # outside of the handler: no reference to the request, whose headers hold the key
        return response.status_code, response.headers, self.key.hide(response.text)

    def _fault_of(self, status, headers, text):
        if status in (401, 403):
            state = "is not accepted" if self.key.read() else "is not set"
            return Fatal(
                f"HTTP {status}, the key in the environment variable {self.key.variable} {state}",
                f"set {self.key.variable} to a key of this endpoint that may use the model, where this runs",
            )
        if status == 404:
            return Fatal("HTTP 404", "check the model's name, and that base_url ends where /chat/completions follows")
        if status in (408, 409, 425, 429) or status >= 500:
            return Fault(f"HTTP {status}", _message(text), again=math.inf, wait=_retry_after(headers))
        return Fault(f"HTTP {status}", _message(text))

    def _read(self, text):
        """The fields of a reply that the judge needs."""
        try:
            reply = json.loads(text)
            choice, usage = reply["choices"][0], reply.get("usage") or {}
            content = choice["message"].get("content") or choice["message"].get("refusal")
            tokens = {name: int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Fault("malformed reply", text, again=math.inf) from None
        self._count(**tokens, without_usage=int(not usage))
        return {
            "content": content if isinstance(content, str) else None,
            "top_logprobs": _top_logprobs(choice),
            "finish_reason": choice.get("finish_reason"),
            "model": reply.get("model"),
            "usage": tokens,
        }

    def _count(self, **numbers):
        with self._lock:
            self.counts.update(numbers)


class EnvironmentKey(httpx.Auth):
    """The API key, read from the environment when a request is made and kept nowhere."""

    def __init__(self, variable):
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):  # perhaps the key itself, so it is not shown
            raise DataError(
                "key_variable: is no name of an environment variable. Remedy: give a name such as "
                "'OPENAI_API_KEY', and the key to the environment alone"
            )
        self.variable = variable

    def read(self):
        """The key, or "" if the variable is not set."""
        key = os.environ.get(self.variable, "").strip()
        if not re.fullmatch(r"[!-~]*", key):  # the transport's own error would print it
            del key  # and a verbose traceback this variable
            raise DataError(
                f"environment variable {self.variable}: has characters that no key has (blanks, line breaks, "
                "non-ASCII). Remedy: set it to the key alone"
            )
        return key

    def auth_flow(self, request):
        request.headers["Authorization"] = f"Bearer {self.read() or 'none'}"  # local servers take anything
        yield request

    def hide(self, text):
        """The text without the key, should the endpoint repeat it; a key under 8 characters is a placeholder."""
        key = self.read()
        if len(key) >= 8:
            for form in (key, json.dumps(key)[1:-1], key.replace("/", r"\/")):
                text = text.replace(form, "[key]")
        return text


class Pace:
    """Slots at equal distances, for at most so many requests a minute.

    >>> pace = Pace(120)
    >>> [pace.reserve(now) for now in (0.0, 0.0, 0.25, 9.0)]  # seconds to wait
    [0.0, 0.5, 0.75, 0.0]
    """

    def __init__(self, per_minute):
        self.distance, self._free, self._lock = 60 / per_minute, -math.inf, threading.Lock()

    def reserve(self, now):
        """Take the next slot; returns the seconds until it comes."""
        with self._lock:
            slot = max(now, self._free)
            self._free = slot + self.distance
        return slot - now


def _checked_url(base_url):
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise DataError(
            "base_url: has to be http(s)://host/path without a password or query. Remedy: give an address such as "
            "'http://localhost:8000/v1', and a key by its environment variable"
        )
    return base_url.rstrip("/")


def _message(text):
    """What an error reply says: OpenAI's field if it is there, else the text."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return text


def _retry_after(headers):
    """Seconds until the moment that a Retry-After header names, as a number or a date; `None` without one."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), LONGEST_ASKED)


def _top_logprobs(choice):
    """(token, log-probability) of the most probable first tokens, or `None` if the endpoint gives none."""
    try:
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        pairs = [[entry["token"], float(entry["logprob"])] for entry in top]
    except (LookupError, TypeError, ValueError):
        return None
    return [pair for pair in pairs if math.isfinite(pair[1])]
