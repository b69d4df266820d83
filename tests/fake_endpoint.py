"""A real HTTP server on this machine that speaks /v1/chat/completions, judges by a known rule, and fails on demand."""

import json
import math
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHAT = "/v1/chat/completions"
REFUSAL = "I'm sorry, I cannot compare these."


class FakeEndpoint(ThreadingHTTPServer):
    """Longer answers win, by a logistic function of the difference in length.

    `fault(messages, times)` names what goes wrong with a question that was asked `times` times before; `None` is nothing.
    """

    daemon_threads = True
    request_queue_size = 64  # of the five by default some would wait a second

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.headers, self.authorizations, self.times = [], [], [], Counter()
        self.bias, self.logprobs, self.fault = 0.0, True, lambda text, times: None
        self.lock, self.held, self.torn_down = threading.Lock(), threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.torn_down.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that hung up is part of the test."""

    def chance(self, text):
        """How probably the answer listed first wins."""
        first, second = (re.search(rf'<answer model="{name}">\n(.*?)\n</answer>', text, re.S)[1] for name in "mM")
        return 1 / (1 + math.exp(-(len(first) - len(second)) / 10 - self.bias))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; the second would wait 40 ms

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.authorizations.append(self.headers["Authorization"])
            times = self.server.times[text]
            self.server.times[text] += 1
        fault = self.server.fault(text, times)
        getattr(self, f"fault_{fault}" if fault else "answer")(body)

    def answer(self, body, content=None, top="names"):
        chance = self.server.chance(body["messages"][-1]["content"])
        content = content or ("m" if chance > 0.5 else "M")
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        if body.get("logprobs") and self.server.logprobs and top:
            shares = {"m": chance * 0.6, " m": chance * 0.3, "M": (1 - chance) * 0.9, "The": 0.05, "I": 0.05}
            if top == "others":
                shares = {"The": 0.6, "I": 0.4}
            entries = [{"token": token, "logprob": math.log(share)} for token, share in shares.items() if share]
            choice["logprobs"] = {"content": [entries[0] | {"top_logprobs": entries}]}
        usage = {"prompt_tokens": 100, "completion_tokens": 1}
        self.reply(200, {"model": body["model"] + "-2026", "choices": [choice], "usage": usage})

    def reply(self, status, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, message, **headers):
        self.reply(status, {"error": {"message": message, "type": "test"}}, **headers)

    def fault_timeout(self, body):
        self.server.held.set()
        self.server.torn_down.wait()

    def fault_busy(self, body):
        self.error(429, "slow down", Retry_After="0")

    def fault_busy_for_seven_seconds(self, body):
        self.error(429, "slow down", Retry_After="7")

    def fault_busy_until_a_past_date(self, body):
        self.error(429, "slow down", Retry_After="Thu, 01 Jan 2015 00:00:00 GMT")

    def fault_broken(self, body):
        self.error(500, "internal")

    def fault_unavailable(self, body):
        self.error(503, "loading", Retry_After="Thu, 01 Jan 2015 00:00:00 GMT")

    def fault_malformed(self, body):
        self.reply(200, b'{"choices": [{"message": {"content": "m')

    def fault_no_choices(self, body):
        self.reply(200, {"error": {"message": "upstream failed"}})

    def fault_closed(self, body):
        self.close_connection = True

    def fault_truncated(self, body):
        self.reply(200, b'{"choices": [{"mess', Content_Length="4000")
        self.close_connection = True

    def fault_refusal(self, body):
        self.answer(body, REFUSAL, top="others")

    def fault_no_logprobs(self, body):
        self.answer(body, top=None)

    def fault_other_tokens(self, body):
        self.answer(body, top="others")

    def fault_logprobs_rejected(self, body):
        if "logprobs" in body:
            self.error(400, "this model does not support logprobs")
        else:
            self.answer(body)

    def fault_logprobs_forbidden(self, body):
        if "logprobs" in body:
            self.error(403, "You are not allowed to request logprobs from this model.")
        else:
            self.answer(body)

    def fault_too_long(self, body):
        self.error(400, "maximum context length exceeded")

    def fault_unauthorized(self, body):
        self.error(401, f"wrong key: {self.headers['Authorization']}")

    def fault_unknown_model(self, body):
        self.error(404, "no such model")

    def fault_tells_the_key(self, body):
        self.error(400, f"cannot forward {self.headers['Authorization']}")

    def fault_names_the_key(self, body):
        self.answer(body, f"m, says {self.headers['Authorization']}", top=None)
