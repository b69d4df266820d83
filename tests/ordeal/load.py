"""Load: as much as the largest public sets hold, at once: seconds, the peak of memory, and nothing lost or asked twice."""

import multiprocessing
import os
import time
import zlib
from unittest import mock

import numpy as np
import pandas as pd
from bench.divergence import SHARE, measure_divergence
from bench.measure import fresh, peak_mb
from bench.ratings import write_rated
from fake_endpoint import FakeEndpoint

from ordeal.inputs import require, scratch
from ordeal.trials import Case
from pdsel import load_ratings, make_pairs, preference_divergence, scale_margins, select
from pdsel.data.gaps import rating_gaps
from pdsel.evaluation.judges.llm import LLMJudge

PROMPTS, MARGINS, QUESTIONS = 64_000, 10**7, 100_000
MOST_MB = 4 * 1024
AT_ONCE, FAULTY = 32, 0.05  # requests, and the share of questions whose first reply is a fault
FAULTS = ["busy", "broken", "malformed", "closed", "truncated"]


def keep_rated(path):
    """From a file of rated responses to kept ids, with the ratings as margins; returns what it took."""
    start = time.perf_counter()
    pairs = make_pairs(load_ratings(path))
    aspect = pd.Series(list(pairs["aspect"]), index=list(pairs["pair_id"]))
    margins = scale_margins(rating_gaps(pairs)[sorted(set(aspect))], aspect)
    kept = select(preference_divergence(margins, aspect), SHARE)
    return {
        "pairs": len(pairs),
        "kept": len(kept),
        "seconds": time.perf_counter() - start,
        "peak_mb": peak_mb(),
    }


def rated_prompts(n=PROMPTS, run=fresh):
    """A trial of `n` prompts with four responses each, in a file, up to the kept ids."""
    with scratch() as folder:
        write_rated(folder / "rated.jsonl", n)
        found = run(keep_rated, folder / "rated.jsonl")
    require(found["kept"] == round(SHARE * found["pairs"]) > 0, "another number of ids")
    require(found["peak_mb"] <= MOST_MB, f"{found['peak_mb']:.0f} MB")
    return f"{found['pairs']} pairs in {found['seconds']:.0f} s, {found['peak_mb']:.0f} MB"


def margins(n=MARGINS, run=fresh):
    """A trial of `n` pairs with margins of four aspects."""
    found = run(measure_divergence, n, "any order")
    require(found["kept"] == round(SHARE * n), "another number of ids")
    require(found["peak_mb"] <= MOST_MB, f"{found['peak_mb']:.0f} MB")
    return f"{n} pairs in {found['seconds']:.1f} s, {found['peak_mb']:.0f} MB"


def ask(url, cache, n, lines):
    """Ask a judge about `n` pairs in both orders; puts the preferences and the peak of memory into `lines`."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    prompts = [f"Explain thing {number}." for number in range(n)]
    ours, theirs = (["x" * (1 + number * step % 40) for number in range(n)] for step in (7, 11))
    options = {"concurrency": AT_ONCE, "backoff": 0, "retries": 6}
    with mock.patch("openai._base_client.INITIAL_RETRY_DELAY", 0.01):
        judged = LLMJudge("judge", base_url=url, cache=cache, **options)(prompts, ours, theirs)
    lines.put((np.asarray(judged).tolist(), peak_mb()))


def first_fault(text, times):
    """The fault of a question that is asked for the first time; of most questions none."""
    drawn = zlib.crc32(text.encode())
    return FAULTS[drawn % len(FAULTS)] if times == 0 and drawn / 2**32 < FAULTY else None


def questions(n=QUESTIONS):
    """A trial of `n` questions to an endpoint that fails now and then, asked by a process that is killed at half of them."""
    spawn = multiprocessing.get_context("spawn")
    lines, start = spawn.Queue(), time.perf_counter()
    with scratch() as folder, FakeEndpoint() as server:
        server.fault = first_fault
        about = server.url, folder / "answers.sqlite", n // 2, lines
        killed = spawn.Process(target=ask, args=about)
        killed.start()
        while killed.is_alive() and len(server.times) < n // 2:
            time.sleep(0.05)
        killed.kill()
        killed.join()
        resumed = spawn.Process(target=ask, args=about)
        resumed.start()
        preferences, most = lines.get()
        resumed.join()
        asked = server.times.copy()
    again = {text: times - 1 - bool(first_fault(text, 0)) for text, times in asked.items()}
    same = sum(np.array(preferences) == 0.5)
    require(len(preferences) == n // 2 and np.isfinite(preferences).all(), "an answer is lost")
    require(len(asked) >= n - 2 * same, f"{len(asked)} questions were asked")
    under_way = sum(times for times in again.values() if times > 0)
    require(under_way <= 2 * AT_ONCE, f"{under_way} questions were asked again")
    took = f"{time.perf_counter() - start:.0f} s, {most:.0f} MB"
    return (
        f"{len(asked)} questions, the others draws of equal outputs, in {took}, killed once; asked twice: {under_way} that "
        "were under way then"
    )


def _whole(trial):
    return lambda draw: trial()


CASES = [
    Case("load", "64 000 rated prompts with 4 responses, to kept ids", _whole(rated_prompts)),
    Case("load", "10 million pairs with margins, to kept ids", _whole(margins)),
    Case("load", "100 000 questions to a judge, 32 at a time, 5 % faults", _whole(questions)),
]
