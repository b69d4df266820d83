"""Notebooks in JupyterLab, as a reader runs them: a real browser opens one, Run All, and looks. See `make test-lab`.

The browser is steered over Chromium's DevTools protocol (websocket-client comes with jupyter_server). Screenshots go to
the folder that PDSEL_SCREENSHOTS names, or else to a temporary one, whose name is printed.
"""

import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import websocket

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180  # for anything to happen, on a busy machine
BEFORE = {  # a notebook to open: what has to be run before it, with which parameters
    "00_idea": {},
    "03_selection": {"01_data": {"n_prompts": 60}, "02_proxies": {}},
}
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
FLAGS = [
    *("--headless=new", "--remote-debugging-port=0", "--no-first-run", "--no-sandbox", "--disable-dev-shm-usage"),
    *("--disable-gpu", "--disable-quic", "--disable-sync", "--disable-background-networking"),
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # this machine only
]

pytestmark = pytest.mark.skipif(
    not CHROMIUM,
    reason="no chromium, chromium-browser or google-chrome on PATH. Remedy: apt-get install chromium, or its like",
)


def wait_for(what, happened):
    """The first true value that `happened` returns."""
    deadline = time.monotonic() + SECONDS
    while not (found := happened()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {SECONDS} s in vain for {what}")
        time.sleep(0.2)
    return found


@contextmanager
def running(command, log, **options):
    """A program in the background, ended with the block; gives a function that fails the test if it ended early."""
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)
    try:
        yield lambda: process.poll() is None or pytest.fail(f"{command[0]} ended:\n{log.read_text()[-3000:]}")
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Page:
    """A browser tab: its JavaScript, its screenshots, and the addresses that it asked for."""

    def __init__(self, address):
        self.socket = websocket.create_connection(address, timeout=SECONDS, suppress_origin=True)
        self.requests, self.calls = [], 0
        self.call("Network.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # JupyterLab runs the notebook that has the focus
        self.call("Emulation.setDeviceMetricsOverride", width=1280, height=1300, deviceScaleFactor=1, mobile=False)

    def call(self, method, **parameters):
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv())).get("id") != self.calls:
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        assert "error" not in message, message
        return message["result"]

    def js(self, expression):
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, what, expression):
        wait_for(what, lambda: self.js(expression))

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a copy of the notebooks, and an environment that keeps programs off the user's own settings."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    kept = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "JUPYTER_RUNTIME_DIR")}
    return folder, kept | own | {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def lab(workspace):
    """JupyterLab's address and token."""
    folder, environment = workspace
    config = Path(environment["JUPYTER_CONFIG_DIR"], "labconfig", "page_config.json")
    config.parent.mkdir(parents=True)
    config.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')  # asks for news
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, token = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--allow-root",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]

    def answers():
        try:
            return alive() and urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    with running(command, folder / "lab.log", env=environment, cwd=folder) as alive:
        wait_for("JupyterLab", answers).close()
        yield address, token


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A tab of a fresh browser."""
    folder = tmp_path_factory.mktemp("browser")
    log = folder / "browser.log"
    listening = re.compile(r"listening on ws://(\S+?)/").search
    with running([CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"], log) as alive:
        place = wait_for("the browser", lambda: alive() and listening(log.read_text()))[1]
        with urllib.request.urlopen(f"http://{place}/json/list", timeout=SECONDS) as answer:
            tab = next(target for target in json.load(answer) if target["type"] == "page")
        yield Page(tab["webSocketDebuggerUrl"])


@pytest.mark.parametrize("name", BEFORE)
def test_run_all_in_jupyterlab(name, workspace, lab, page, tmp_path, capsys):
    folder, environment = workspace
    for before, parameters in BEFORE[name].items():
        command = [sys.executable, "-m", "papermill", f"{before}.ipynb", str(tmp_path / "out.ipynb"), "-k", "python3"]
        command += [part for key, value in parameters.items() for part in ("-p", key, str(value))]
        options = {"cwd": folder / "notebooks", "env": environment, "timeout": 5 * SECONDS}
        ran = subprocess.run(command, capture_output=True, text=True, **options)
        assert ran.returncode == 0, ran.stderr[-3000:]

    address, token = lab
    page.requests.clear()
    page.call("Page.navigate", url=f"{address}/lab/tree/notebooks/{name}.ipynb?token={token}&reset")
    panel = "window.jupyterapp?.shell.currentWidget"
    kernel = f"{panel}?.sessionContext?.session?.kernel"
    page.wait_for("the notebook", f"{panel}?.context?.path == 'notebooks/{name}.ipynb'")
    page.wait_for("its kernel", f"{panel}.context.isReady && {kernel}?.status == 'idle'")

    run_all = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
    page.js(f"window.finished = false, {run_all}.finally(() => window.finished = true), null")
    page.wait_for("all cells", f"window.finished && {kernel}.status == 'idle'")

    cells = page.js(f"{panel}.content.widgets.map(cell => cell.model.sharedModel.toJSON())")
    outputs = [(row, output) for row, cell in enumerate(cells) for output in cell.get("outputs", [])]
    assert not [(row, output) for row, output in outputs if output["output_type"] == "error"]
    assert not [(row, output) for row, output in outputs if output.get("name") == "stderr"]  # no warnings either
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    figures = {row for row, output in outputs if "image/png" in output.get("data", {})}
    assert figures

    shots = Path(os.environ.get("PDSEL_SCREENSHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    for row, cell in enumerate(cells):  # JupyterLab draws a cell when it is scrolled to
        page.js(f"{panel}.content.scrollToItem({row}, 'center')")
        node = f"{panel}.content.widgets[{row}].node"
        if row in figures:
            images = f"Array.from({node}.querySelectorAll('.jp-OutputArea img'))"
            page.wait_for(f"the figure of cell {row}", f"{images}.some(i => i.complete && i.naturalWidth > 0)")
        if cell["cell_type"] == "markdown" and "$" in cell["source"]:
            text = f"{node}.querySelector('.jp-RenderedMarkdown')"
            page.wait_for(f"the formulas of cell {row}", f"{text}?.querySelector('mjx-container') != null")
            wrong = f"{text}.querySelector('mjx-merror, [mathcolor=red]') != null || {text}.textContent.includes('$')"
            assert not page.js(wrong), f"a formula of cell {row} is wrong"
        if row == 0 or row in figures:
            page.screenshot(shots / f"{name}-{row:02d}.png")
    with capsys.disabled():
        print(f"\n{name}: {1 + len(figures)} screenshots in {shots}")
    elsewhere = [url for url in page.requests if not url.startswith((f"{address}/", "data:", "blob:", "about:"))]
    assert not elsewhere
