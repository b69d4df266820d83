"""The LLM judge against a real HTTP server on this machine: what it reads, what it survives, what it never writes."""

import logging
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from fake_endpoint import CHAT, REFUSAL, FakeEndpoint
from scipy.special import expit

from pdsel.checks import DataError
from pdsel.evaluation.judges.audit import both_orders, null_win_rates, position_bias
from pdsel.evaluation.judges.cache import answer_key
from pdsel.evaluation.judges.endpoint import Pace
from pdsel.evaluation.judges.llm import JudgeError, LLMJudge, Request, load_template
from pdsel.evaluation.judges.prompt import TEMPLATE, fill, read_answer

KEY = "sk-secret-0123456789/abcdef"
PROMPTS = [f"Explain {thing}." for thing in ("rain", "snow", "wind", "fog", "hail", "dew")]
OURS = ["x" * length for length in (30, 12, 25, 8, 40, 21)]
THEIRS = ["y" * length for length in (20, 22, 24, 11, 5, 33)]
GAP = np.array([len(a) - len(b) for a, b in zip(OURS, THEIRS, strict=True)])
TRUTH = expit(GAP / 10)
CALM = {"backoff": 0, "timeout": 20}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0)  # the client retries without waiting


@pytest.fixture
def server():
    with FakeEndpoint() as server:
        yield server


@pytest.fixture
def judge(server, tmp_path):
    """A new judge on the same cache at every call."""

    def build(model="judge", **options):
        return LLMJudge(model, base_url=server.url, cache=tmp_path / "answers.sqlite", **CALM | options)

    return build


def first_time(fault):
    """Every question meets the fault when it is asked first."""
    return lambda text, times: fault if times == 0 else None


def about(prompt, fault):
    """Questions about a prompt meet the fault whenever they are asked."""
    return lambda text, times: fault if prompt in text else None


def holds_the_key(folder):
    return subprocess.run(["grep", "-raF", KEY, folder], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_both_orders_agree_with_the_rule(judge, server):
    found = judge()
    assert found(PROMPTS, OURS, THEIRS) == pytest.approx(TRUTH)
    assert len(server.bodies) == 12 and set(server.authorizations) == {f"Bearer {KEY}"}
    assert set(server.bodies[0]) == {"model", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs"}
    assert found(PROMPTS, THEIRS, OURS) == pytest.approx(1 - TRUTH)
    assert len(server.bodies) == 12  # the swapped pairs were asked already


RECOVERABLE = {
    "timeout": "timeout",
    "429 with Retry-After": "busy",
    "500": "broken",
    "503 with a date": "unavailable",
    "malformed JSON": "malformed",
    "JSON without choices": "no_choices",
    "connection closed": "closed",
    "body cut short": "truncated",
    "a refusal": "refusal",
}


@pytest.mark.parametrize("fault", RECOVERABLE.values(), ids=RECOVERABLE)
def test_a_fault_changes_nothing(judge, server, tmp_path, fault):
    server.fault = first_time(fault)
    found = judge(timeout=1 if fault == "timeout" else 20)
    table = found.both_orders(PROMPTS, OURS, THEIRS)
    assert table[["listed_first", "listed_second"]].mean(axis=1).to_numpy() == pytest.approx(TRUTH)
    assert set(table["read"]) == {"logprobs"}
    assert found.usage()["requests"] >= 24 and found.usage()["from_cache"] == 0
    again = judge()
    assert again(PROMPTS, OURS, THEIRS) == pytest.approx(TRUTH)
    assert again.usage()["requests"] == 0 and again.usage()["from_cache"] == 12
    assert not holds_the_key(tmp_path)


def test_an_endpoint_that_hangs_is_called_that(judge, server):
    server.fault = lambda text, times: "timeout"
    with pytest.raises(JudgeError, match=r"2 x timeout.*no reply within 0\.2 s"):
        judge(retries=0, timeout=0.2)(PROMPTS[:1], OURS[:1], THEIRS[:1])


WITHOUT_LOGPROBS = {
    "log-probabilities missing": "no_logprobs",
    "no name among the first tokens": "other_tokens",
    "log-probabilities rejected": "logprobs_rejected",
    "log-probabilities forbidden": "logprobs_forbidden",
}


@pytest.mark.parametrize("fault", WITHOUT_LOGPROBS.values(), ids=WITHOUT_LOGPROBS)
def test_without_log_probabilities_the_text_is_read(judge, server, tmp_path, fault):
    server.fault = lambda text, times: fault
    table = judge(concurrency=1).both_orders(PROMPTS, OURS, THEIRS)
    assert table["listed_first"].tolist() == table["listed_second"].tolist() == (GAP > 0).tolist()
    assert set(table["read"]) == {"parsed"}
    asked = len(server.bodies)
    assert asked == (13 if fault in ("logprobs_rejected", "logprobs_forbidden") else 12)  # the rejection is remembered
    assert judge()(PROMPTS, OURS, THEIRS).tolist() == (GAP > 0).tolist()
    assert len(server.bodies) == asked and not holds_the_key(tmp_path)


@pytest.mark.parametrize(
    ("fault", "requests", "reason"),
    [("refusal", 6, "2 x unreadable answer .*I'm sorry"), ("too_long", 2, "2 x HTTP 400 .*maximum context length")],
)
def test_what_stays_without_an_answer_is_reported_and_alone_asked_again(judge, server, fault, requests, reason):
    server.fault = about("fog", fault)
    with pytest.raises(JudgeError, match=rf"judge judge: no answer at positions: 1 \(first: 3\), because: {reason}"):
        judge()(PROMPTS, OURS, THEIRS)
    assert len(server.bodies) == 10 + requests
    tolerant = judge(missing="nan")
    table = tolerant.both_orders(PROMPTS, OURS, THEIRS)
    assert len(server.bodies) == 10 + 2 * requests and tolerant.usage()["from_cache"] == 10
    assert table["read"].tolist() == ["logprobs"] * 3 + ["missing"] + ["logprobs"] * 2
    found = tolerant(PROMPTS, OURS, THEIRS)
    assert np.isnan(found[3]) and np.delete(found, 3) == pytest.approx(np.delete(TRUTH, 3))
    server.fault = first_time(None)
    before = len(server.bodies)
    assert judge()(PROMPTS, OURS, THEIRS) == pytest.approx(TRUTH)
    assert len(server.bodies) == before + 2


def test_half_a_pair_is_missing(judge, server):
    server.fault = lambda text, times: "refusal" if f'<answer model="m">\n{OURS[0]}\n' in text else None
    table = judge(missing="nan").both_orders(PROMPTS, OURS, THEIRS)
    assert np.isnan(table.loc[0, "listed_first"]) and table.loc[0, "listed_second"] == pytest.approx(TRUTH[0])
    assert table.loc[0, "read"] == "missing" and table["listed_first"].notna().sum() == 5


def test_faults_in_turn_on_one_question(judge, server):
    turns = ["busy", "closed", "refusal", "malformed", "broken", "truncated", None]
    server.fault = lambda text, times: turns[times]
    assert judge()(PROMPTS[:1], OURS[:1], THEIRS[:1]) == pytest.approx(TRUTH[:1])
    assert len(server.bodies) == 14


def test_a_key_that_is_not_accepted_is_named_not_shown(judge, server, monkeypatch):
    server.fault = lambda text, times: "unauthorized"
    with pytest.raises(
        JudgeError, match="HTTP 401, the key in .* OPENAI_API_KEY is not accepted. Remedy: set"
    ) as caught:
        judge(concurrency=1)(PROMPTS, OURS, THEIRS)
    assert KEY not in str(caught.value) and len(server.bodies) == 1  # neither asked again nor for the others
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(JudgeError, match="OPENAI_API_KEY is not set"):
        judge(missing="nan")(PROMPTS, OURS, THEIRS)
    assert server.authorizations[-1] == "Bearer none"


def test_an_unknown_model_ends_the_run(judge, server):
    server.fault = lambda text, times: "unknown_model"
    with pytest.raises(JudgeError, match="HTTP 404. Remedy: check the model's name"):
        judge(concurrency=1)(PROMPTS, OURS, THEIRS)
    assert len(server.bodies) == 1


def test_an_endpoint_that_is_down_is_not_asked_everything(judge, server):
    server.fault = lambda text, times: "broken"
    prompts = [f"question {i}" for i in range(50)]
    with pytest.raises(JudgeError, match=r"50 \(first: 0, 1, 2, 3, 4\).* 10 x HTTP 500 \(such as: internal\)"):
        judge(concurrency=1, retries=1)(prompts, ["a"] * 50, ["b"] * 50)
    assert len(server.bodies) <= 24  # ten failures of two requests, and what was under way


def test_an_address_where_nobody_listens_is_a_fault_too(tmp_path):
    server = FakeEndpoint()
    server.server_close()
    closed = LLMJudge("judge", base_url=server.url, cache=tmp_path / "answers.sqlite", retries=1, **CALM)
    with pytest.raises(JudgeError, match="connection failed .such as: ConnectError"):
        closed(PROMPTS, OURS, THEIRS)


def test_many_bad_questions_do_not_keep_the_others_from_being_asked(judge, server):
    server.fault = about("essay", "too_long")
    prompts = [f"essay {i}" for i in range(12)] + PROMPTS
    found = judge(concurrency=1, missing="nan")(prompts, ["a"] * 12 + OURS, ["b"] * 12 + THEIRS)
    assert np.isnan(found[:12]).all() and found[12:] == pytest.approx(TRUTH)
    assert len(server.bodies) == 24 + 12


def test_the_key_is_in_no_file_log_or_message(judge, server, tmp_path, caplog, capfd):
    handler = logging.FileHandler(tmp_path / "everything.log")
    logging.getLogger().addHandler(handler)
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "openai"):
        caplog.set_level(logging.DEBUG, logger=name)
    shown = [repr(judge()), repr(vars(judge().endpoint))]
    try:
        for fault in [*RECOVERABLE.values(), "too_long", "tells_the_key", "names_the_key", "unauthorized", None]:
            server.fault = lambda text, times, fault=fault: fault
            with pytest.raises(JudgeError) if fault not in (None, "names_the_key") else caplog.at_level(0) as caught:
                judge(fault or "calm", retries=1, timeout=0.2 if fault == "timeout" else 20)(PROMPTS, OURS, THEIRS)
            error = getattr(caught, "value", None)
            while error:
                shown.append(repr(error) + repr(vars(error)))
                error = error.__cause__ or error.__context__
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    (tmp_path / "shown.txt").write_text("\n".join(shown) + caplog.text + "".join(capfd.readouterr()))
    text = (tmp_path / "shown.txt").read_text() + (tmp_path / "everything.log").read_text()
    assert "cannot forward Bearer [key]" in text and "HTTP Request: POST" in text and CHAT in text
    assert set(server.authorizations) == {f"Bearer {KEY}"}
    assert not holds_the_key(tmp_path)
    (tmp_path / "control.txt").write_text(KEY)
    assert holds_the_key(tmp_path)


def test_a_judge_cannot_be_pickled_with_its_key(judge, server):
    found = judge()
    found(PROMPTS, OURS, THEIRS)
    try:
        assert KEY.encode() not in pickle.dumps(found)
    except TypeError as error:
        assert KEY not in str(error)  # locks cannot be pickled


@pytest.mark.parametrize("bad", ["sk-a b c d e f g h", "sk-secret-\n-x", "sk-sécret-0123"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(judge, server, monkeypatch, bad):
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with pytest.raises(DataError, match="variable OPENAI_API_KEY: has characters that no key has") as caught:
        judge()(PROMPTS, OURS, THEIRS)
    assert "sk-" not in str(caught.value) and not server.bodies
    ours = [entry for entry in caught.traceback if "judges" in str(entry.path)]  # a verbose traceback prints variables
    assert ours and not any(value == bad for entry in ours for value in entry.frame.f_locals.values())


def test_the_line_break_after_a_key_is_dropped(judge, server, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY + "\n")
    judge(key_variable="MY_KEY")(PROMPTS[:1], OURS[:1], THEIRS[:1])
    assert set(server.authorizations) == {f"Bearer {KEY}"}


def test_only_what_determines_an_answer_makes_a_new_question(judge, server, tmp_path):
    asked = []
    template = [TEMPLATE[0], TEMPLATE[1] | {"content": TEMPLATE[1]["content"] + " "}]
    for options in [
        {},
        {"model": "other"},
        {"temperature": 1},
        {"max_tokens": 1},
        {"top_logprobs": 10},
        {"top_logprobs": None},
        {"template": template},
        {"fields": {"seed": 1}},  # these are new
        {},
        {"temperature": 0},
        {"concurrency": 1},
        {"retries": 1},
        {"key_variable": "MY_KEY"},  # these are not
    ]:
        before = len(server.bodies)
        judge(**options)(PROMPTS, OURS, THEIRS)
        asked.append(len(server.bodies) - before)
    assert asked == [12] * 8 + [0] * 5
    assert server.bodies[-1]["seed"] == 1 and "logprobs" not in server.bodies[60]
    with FakeEndpoint() as elsewhere:
        LLMJudge("judge", base_url=elsewhere.url + "/", cache=tmp_path / "answers.sqlite")(PROMPTS, OURS, THEIRS)
        assert len(elsewhere.bodies) == 12


RUN = """
import sys
from pdsel.evaluation.judges.llm import LLMJudge
url, cache, *texts = sys.argv[1:]
n = len(texts) // 3
LLMJudge("judge", base_url=url, cache=cache, concurrency=1, timeout=60)(texts[:n], texts[n:2 * n], texts[2 * n:])
"""


def test_a_killed_run_goes_on_where_it_stopped(judge, server, tmp_path):
    server.fault = lambda text, times: "timeout" if len(server.bodies) == 6 else None
    command = [sys.executable, "-c", RUN, server.url, str(judge().cache), *PROMPTS, *OURS, *THEIRS]
    with subprocess.Popen(command, env=os.environ | {"OPENAI_API_KEY": KEY}, stderr=subprocess.DEVNULL) as run:
        assert server.held.wait(60)  # the sixth question is under way
        run.send_signal(signal.SIGKILL)
    assert len(server.bodies) == 6 and not holds_the_key(tmp_path)
    server.fault = first_time(None)
    found = judge()
    assert found(PROMPTS, OURS, THEIRS) == pytest.approx(TRUTH)
    assert len(server.bodies) == 6 + 7 and found.usage()["from_cache"] == 5


def test_an_interrupt_keeps_what_came(judge, server, monkeypatch):
    class Interrupted:
        def __init__(self, futures, **_):
            self.futures = futures

        def __iter__(self):
            yield next(iter(self.futures))
            raise KeyboardInterrupt

    monkeypatch.setattr("pdsel.evaluation.judges.endpoint.Progress", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        judge(concurrency=1)(PROMPTS, OURS, THEIRS)
    asked = len(server.bodies)
    monkeypatch.undo()
    judge()(PROMPTS, OURS, THEIRS)
    assert 1 <= asked <= 12 and len(server.bodies) == 12


def test_a_taste_for_a_place_cancels_and_shows(judge, server):
    server.bias = 50.0
    table = judge().both_orders(PROMPTS, OURS, THEIRS)
    assert table["listed_first"].to_numpy() == pytest.approx(np.ones(6))
    assert table["listed_second"].to_numpy() == pytest.approx(np.zeros(6), abs=1e-9)
    assert judge()(PROMPTS, OURS, THEIRS) == pytest.approx(np.full(6, 0.5))


def test_identical_outputs_and_equal_questions_ask_nothing_more(judge, server):
    table = judge().both_orders(["a", "b", "b"], ["same", "xxx", "xxx"], ["same", "y", "y"])
    assert table.loc[0].tolist() == [0.5, 0.5, "identical"] and table.loc[1].tolist() == table.loc[2].tolist()
    assert len(server.bodies) == 2
    assert judge()([], [], []).shape == (0,)


def test_tokens_and_cost_are_counted(judge, server):
    server.fault = lambda text, times: "refusal" if times == 0 and "fog" in text else None
    found = judge(price_per_million=(10, 30))
    found(PROMPTS, OURS, THEIRS)
    assert found.usage() == {
        "requests": 14,
        "from_cache": 0,
        "prompt_tokens": 1400,
        "completion_tokens": 14,
        "without_usage": 0,
        "cost": pytest.approx(1400 * 10e-6 + 14 * 30e-6),
    }
    again = judge(price_per_million=10)
    again(PROMPTS, OURS, THEIRS)
    assert again.usage() == dict.fromkeys(found.usage(), 0) | {"from_cache": 12}
    assert judge().usage()["cost"] is None


def test_every_request_waits_for_its_slot(judge, server, monkeypatch):
    reserved = []
    monkeypatch.setattr(Pace, "reserve", lambda self, now: reserved.append(self.distance) or 0.0)
    server.fault = first_time("busy")
    judge(requests_per_minute=30)(PROMPTS, OURS, THEIRS)
    assert reserved == [2.0] * 24 and len(server.bodies) == 24


def test_slots_are_at_equal_distances_whatever_the_clock():
    pace = Pace(60)
    now, starts = 100.0, []
    for pause in (0, 0, 0.5, 0, 10, 0):  # a clock that moves by hand
        now += pause
        starts.append(now + pace.reserve(now))
    assert starts == [100, 101, 102, 103, 110.5, 111.5]


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the client waits before it asks again, instead of waiting."""
    waited = []
    monkeypatch.setattr("openai._base_client.time.sleep", waited.append)
    return waited


def test_the_client_waits_as_long_as_the_endpoint_asks(judge, server, waits):
    server.fault = lambda text, times: ["busy_for_seven_seconds", "busy_until_a_past_date", None][times]
    judge(concurrency=1)(PROMPTS[:1], OURS[:1], THEIRS[:1])
    assert waits == [7.0, 0.0] * 2


def test_the_wait_before_an_unusable_reply_is_asked_for_again_doubles(judge, server, monkeypatch):
    waited = []
    monkeypatch.setattr("threading.Event.wait", lambda self, seconds=None: waited.append(seconds))
    turns = ["malformed"] * 8 + [None]
    server.fault = lambda text, times: turns[times]
    asked = judge(concurrency=1, retries=8, backoff=1.0)
    body = {"model": "judge", "messages": fill(TEMPLATE, "a", "b", "cc")}
    assert asked.endpoint.ask_all({"question": body}, lambda key, answer: None) == {}
    assert [seconds for seconds in waited if seconds is not None] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_keys_of_the_cache_are_those_of_earlier_versions(tmp_path):
    ours = LLMJudge("judge", base_url="http://127.0.0.1:8000/v1", cache=tmp_path / "answers.sqlite")
    keys = [
        *ours._questions(["Explain rain."], ["x" * 30], ["y" * 20])[0],
        answer_key("http://host", {"b": "é", "a": 1}),
    ]
    assert [key[:16] for key in keys] == ["2c2c246aac62bf01", "b0621c30a01ef17d", "543edbfeca87ea62"]


def test_what_is_asked_tells_nothing_about_this_machine(judge, server):
    judge()(PROMPTS[:1], OURS[:1], THEIRS[:1])
    for headers in server.headers:
        assert not [name for name in headers if name.lower().startswith("x-stainless")]


def test_a_missing_key_is_found_before_the_network_is_tried(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was tried"))
    ours = LLMJudge("gpt", base_url="https://api.openai.com/v1", cache=tmp_path / "answers.sqlite")
    with pytest.raises(JudgeError, match="OPENAI_API_KEY is not set. Remedy: set OPENAI_API_KEY to a key"):
        ours(PROMPTS, OURS, THEIRS)


def test_an_unknown_option_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="options of LLMJudge are unknown: 1 .first: temprature.*use some of backoff, "):
        LLMJudge("judge", base_url="http://host/v1", cache=tmp_path / "a", temprature=1)


def test_braces_in_texts_are_just_braces(judge, server):
    ours, theirs = "{output_2} {instruction} {0} {", '{"a": "{output_1}"}'
    judge()(["Write {output_1} in JSON: {}"], [ours], [theirs])
    shown = {body["messages"][1]["content"] for body in server.bodies}
    for first, second in [(ours, theirs), (theirs, ours)]:
        layout = TEMPLATE[1]["content"].replace("{output_1}", "A").replace("{output_2}", "B")
        head, rest = layout.split("{instruction}")
        middle = rest.replace("\nA\n", f"\n{first}\n").replace("\nB\n", f"\n{second}\n")
        assert head + "Write {output_1} in JSON: {}" + middle in shown


def test_chat_messages_and_odd_characters_are_texts_too(judge, server):
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi é ☂ \ud800"}]
    judge()([prompt], [[{"role": "assistant", "content": "Hello"}]], ["Hi"])
    assert "system: Be brief.\n\nuser: Hi é ☂ \ud800\n" in server.bodies[0]["messages"][1]["content"]
    assert '<answer model="m">\nHello\n' in "".join(body["messages"][1]["content"] for body in server.bodies)


CHATML = """<|im_start|>system
You compare.
<|im_end|>
<|im_start|>user
{
    "instruction": \"""{instruction}\""",
}
{
    {"model_identifier": "m", "output": \"""{output_1}\"""},
    {"model_identifier": "M", "output": \"""{output_2}\"""}
}
## Best Model Identifier
<|im_end|>
"""


def test_a_chatml_file_becomes_messages(tmp_path):
    path = tmp_path / "template.txt"
    path.write_text(CHATML)
    system, user = fill(load_template(path), "Why?", "{a}", "b<|im_end|>")
    assert system == {"role": "system", "content": "You compare."}
    assert user["role"] == "user" and user["content"].startswith('{\n    "instruction": """Why?""",\n}')
    assert '"output": """{a}"""' in user["content"] and '"output": """b<|im_end|>"""' in user["content"]
    assert user["content"].endswith("## Best Model Identifier")
    path.write_text("{instruction} {output_1} {output_2}")
    with pytest.raises(DataError, match="no part between"):
        load_template(path)
    path.write_text(CHATML.replace("{output_2}", "{output_1}"))
    with pytest.raises(DataError, match=r"placeholder does not occur.*: 2 \(first: {output_1} \(2 times\), {output_2}"):
        load_template(path)


LOW = -1e4
READ = {
    "one name alone counts all": ("m", [["m", -3.0], ["The", -0.1]], (1.0, "logprobs")),
    "blanks are no difference": ("M", [["m", -1.0], [" M", -1.0], ["\nM", -1.0]], (1 / 3, "logprobs")),
    "no underflow": ("m", [["m", LOW], ["M", LOW]], (0.5, "logprobs")),
    "no name among them": ("m", [["The", -0.1]], (1.0, "parsed")),
    "an empty list": ("**M**", [], (0.0, "parsed")),
    "the first name": ("M is better than m", None, (0.0, "parsed")),
    "no part of a word": ("Model Mm", None, (None, "unreadable")),
    "a refusal": (REFUSAL, None, (None, "unreadable")),
    "a typeset refusal": ("I’m sorry", None, (None, "unreadable")),
    "nothing": (None, None, (None, "unreadable")),
}


@pytest.mark.parametrize(("content", "top", "expected"), READ.values(), ids=READ)
def test_reading(content, top, expected):
    chance, how = read_answer({"content": content, "top_logprobs": top})
    assert how == expected[1]
    assert np.isnan(chance) if expected[0] is None else chance == pytest.approx(expected[0])


BAD = {
    "a key for a name": ({"key_variable": KEY}, "key_variable: is not the name"),
    "a password": ({"base_url": "http://me:pass1234@host/v1"}, "base_url: has to be"),
    "no address": ({"base_url": "localhost:8000"}, "base_url: has to be"),
    "a template's text": ({"template": "{instruction} {output_1} {output_2}"}, "template: is a text.*load_template"),
    "missing": ({"missing": "drop"}, "missing: 'drop' is unknown"),
}


@pytest.mark.parametrize(("change", "problem"), BAD.values(), ids=BAD)
def test_bad_settings_are_refused(tmp_path, change, problem):
    with pytest.raises(DataError, match=problem) as caught:
        LLMJudge("judge", **{"base_url": "http://host/v1", "cache": tmp_path / "a"} | change)
    assert KEY not in str(caught.value) and "pass1234" not in str(caught.value)


def test_bad_texts_are_refused_before_anything_is_asked(judge, server):
    with pytest.raises(DataError, match="6 prompts, 5 outputs, 6 baseline_outputs; give one output"):
        judge()(PROMPTS, OURS[:5], THEIRS)
    with pytest.raises(DataError, match=r"outputs is neither .* at positions: 2 \(first: 1, 5\). Remedy: drop"):
        judge()(PROMPTS, [OURS[0], None, *OURS[2:5], []], THEIRS)
    assert not server.bodies


def test_a_file_that_is_not_a_cache_is_named(judge, server):
    judge().cache.write_text("something else, longer than a header" * 10)
    with pytest.raises(DataError, match=r"cache .*answers\.sqlite: file is not a database. Remedy: give another path"):
        judge()(PROMPTS, OURS, THEIRS)
    assert not server.bodies


def test_the_audits_read_a_language_model_too(judge, server):
    """What notebook 05 does with every judge: the bias of its order, and whether a constant wins."""
    server.bias = 1.0  # in log odds, for whichever is listed first
    found = position_bias(**both_orders(judge(), PROMPTS, OURS, THEIRS))
    by_hand = 50 * (expit(GAP / 10 + 1) - expit(GAP / 10 - 1))
    assert found.value == pytest.approx(by_hand.mean())
    long, short = 60 * "z", "z"  # this judge measures length, so that a long constant wins: the audit says so
    rates = null_win_rates(judge(), PROMPTS, THEIRS, {"long": long, "short": short})
    assert rates.loc["long", "value"] > 90 and rates.loc["short", "value"] < 30


def test_a_temperature_of_none_is_not_sent():
    assert Request(temperature=None, top_logprobs=None).body("judge-7b") == {"model": "judge-7b", "max_tokens": 8}
