"""The lesson in JupyterLab and the book, as a reader sees them: a real browser opens them, runs all, and looks.

`make test-lab` runs the class first. The browser is steered over Chromium's DevTools protocol (websocket-client comes with
jupyter_server). Screenshots go to the folder that PDSEL_SCREENSHOTS names, or else to a temporary one, whose name is printed.
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

import nbformat
import pytest
import websocket
from ordeal import hostile

from pdsel.checks import DataError
from pdsel.command.page import write_pages
from pdsel.teaching import lesson, slides

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180  # for anything to happen, on a busy machine
TO_RUN_ALL = 900
CLASS = ROOT / "results" / "local" / "class"
LESSON = [name.split("-")[0] for name in (*lesson.LESSON, *lesson.BESIDE)]
FROM_TABLES = [  # nothing is trained
    "08_proxy_study",
    "08b_probes",
    "09_failures",
    "10_human_ratings",
    "11_paper_claims",
    "12_pocket",
    "13_first_benchmark",
]
AFTER = ["02b_proxy_checks", "03b_rules", "05b_judges"]  # not in the class: here they go on from its run
NOTEBOOKS = [
    *(f"lesson/{name}" for name in sorted(LESSON)),
    *(f"after/{name}" for name in AFTER),
    *(f"notebooks/{name}" for name in FROM_TABLES),
]
SLIDERS = {"00_idea": 5, "03_selection": 1, "11_paper_claims": 1}  # how many a notebook has
CHAPTERS = [
    "index",
    "notebooks/00_idea",
    "notebooks/03_selection",
    "results/ten_claims",
    "learn/teaching",
    "learn/quiz",
]
WIDTHS = {"phone": 390, "laptop": 1280}
BARS = re.compile(r"\d+%\||HBox\(|VBox\(children=\(HTML")  # a bar of tqdm, or what is left of one
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


def wait_for(what, happened, seconds=SECONDS):
    """The first true value that `happened` returns."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain for {what}")
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
        self.call("Page.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # JupyterLab runs the notebook that has the focus
        self.call("Emulation.setDeviceMetricsOverride", width=1280, height=1300, deviceScaleFactor=1, mobile=False)

    def call(self, method, **parameters):
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv())).get("id") != self.calls:
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("method") == "Page.javascriptDialogOpening":  # leave a notebook that is not saved
                leave = {"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                self.socket.send(json.dumps(leave))
        assert "error" not in message, message
        return message["result"]

    def js(self, expression):
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, what, expression, seconds=SECONDS):
        wait_for(what, lambda: self.js(expression), seconds)

    def press(self, key, times=1):
        """Press a key on what has the focus."""
        code = {"ArrowRight": 39, "ArrowLeft": 37}[key]
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def size(self, width, height=1300):
        """Be a screen of so many pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A copy of notebooks and results with the lesson, and an environment that keeps programs off the user's own settings."""
    if not (CLASS / "manifest.json").exists():
        pytest.skip("the class has not been run. Remedy: make run PROFILE=class")
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(ROOT / "results", folder / "results", ignore=shutil.ignore_patterns("local"))
    shutil.copytree(CLASS, folder / "results" / "local" / "class")
    lesson.lay_out(CLASS, folder / "lesson", folder / "notebooks")
    for name in AFTER:
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text()
        (folder / "after").mkdir(exist_ok=True)
        (folder / "after" / f"{name}.ipynb").write_text(text.replace("local/mini/", "local/class/"))
    if (ROOT / "data").exists():  # the rated files of notebook 10, which says so where they are not
        (folder / "data").symlink_to((ROOT / "data").resolve())
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


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """The folder of the screenshots."""
    folder = Path(os.environ.get("PDSEL_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Notebook:
    """A notebook that is open in JupyterLab: its cells, and what is drawn of them."""

    PANEL = "window.jupyterapp?.shell.currentWidget"

    def __init__(self, page, lab, path):
        self.page = page
        address, token = lab
        page.size(1280)
        page.call("Page.navigate", url=f"{address}/lab/tree/{path}.ipynb?token={token}&reset")
        self.kernel = f"{self.PANEL}?.sessionContext?.session?.kernel"
        page.wait_for("the notebook", f"{self.PANEL}?.context?.path == '{path}.ipynb'")
        page.wait_for("its kernel", f"{self.PANEL}.context.isReady && {self.kernel}?.status == 'idle'")

    def run_all(self):
        """Run all cells; returns the seconds that it took."""
        start = time.monotonic()
        run_all = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
        self.page.js(f"window.finished = false, {run_all}.finally(() => window.finished = true), null")
        self.page.wait_for("all cells", f"window.finished && {self.kernel}.status == 'idle'", TO_RUN_ALL)
        return time.monotonic() - start

    def cells(self):
        return self.page.js(f"{self.PANEL}.content.widgets.map(cell => cell.model.sharedModel.toJSON())")

    def node(self, row):
        return f"{self.PANEL}.content.widgets[{row}].node"

    def scroll_to(self, row):
        """JupyterLab draws a cell when it is scrolled to."""
        self.page.js(f"{self.PANEL}.content.scrollToItem({row}, 'center')")

    def sliders(self, row):
        return self.page.js(f"{self.node(row)}.querySelectorAll('.widget-slider .noUi-handle').length")

    def move(self, row, slider, shot):
        """Move a slider four steps to the right, and wait until another picture is drawn; a screenshot before and after."""
        handle = f"{self.node(row)}.querySelectorAll('.widget-slider .noUi-handle')[{slider}]"
        picture = f"{self.node(row)}.querySelector('.jp-OutputArea img')?.src"
        self.page.wait_for("the slider's picture", f"{picture} != null")
        self.page.screenshot(shot.with_name(f"{shot.name}-before.png"))
        before = self.page.js(picture)
        self.page.js(f"{handle}.focus()")
        self.page.press("ArrowRight", times=4)
        self.page.wait_for("another picture", f"{picture} != null && {picture} != {json.dumps(before)}")
        self.page.wait_for("the kernel", f"{self.kernel}.status == 'idle'")
        time.sleep(0.5)  # the last of several pictures
        self.page.screenshot(shot.with_name(f"{shot.name}-after.png"))


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_run_all_in_jupyterlab(path, workspace, lab, page, shots, capsys):
    """Every cell runs, nothing is written to stderr, no bar is left, formulas and figures are drawn, sliders move."""
    name = Path(path).stem
    page.requests.clear()
    notebook = Notebook(page, lab, path)
    seconds = notebook.run_all()
    cells = notebook.cells()
    outputs = [(row, output) for row, cell in enumerate(cells) for output in cell.get("outputs", [])]
    assert not [(row, output) for row, output in outputs if output["output_type"] == "error"]
    assert not [(row, output) for row, output in outputs if output.get("name") == "stderr"]  # no warnings either
    texts = [(row, str(output.get("text", output.get("data", {}).get("text/plain", "")))) for row, output in outputs]
    moving = {row for row, output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})}
    assert not [(row, text) for row, text in texts if BARS.search(text) and row not in moving]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    figures = {row for row, output in outputs if "image/png" in output.get("data", {})}

    moved = 0
    for row, cell in enumerate(cells):
        notebook.scroll_to(row)
        node = notebook.node(row)
        if row in figures:
            images = f"Array.from({node}.querySelectorAll('.jp-OutputArea img'))"
            page.wait_for(f"the figure of cell {row}", f"{images}.some(i => i.complete && i.naturalWidth > 0)")
        if cell["cell_type"] == "markdown" and "$" in cell["source"]:
            text = f"{node}.querySelector('.jp-RenderedMarkdown')"
            page.wait_for(f"the formulas of cell {row}", f"{text}?.querySelector('mjx-container') != null")
            wrong = f"{text}.querySelector('mjx-merror, [mathcolor=red]') != null || {text}.textContent.includes('$')"
            assert not page.js(wrong), f"a formula of cell {row} is wrong"
        if row in moving:
            page.wait_for(f"the widgets of cell {row}", f"{node}.querySelector('[class*=widget-]') != null")
            assert page.js(f"{node}.querySelectorAll('.widget-hprogress, .progress-bar').length") == 0, "a dead bar"
            for slider in range(notebook.sliders(row)):
                notebook.move(row, slider, shots / f"{name}-{row:02d}-slider{slider + 1}")
                moved += 1
        if row == 0 or row in figures:
            page.screenshot(shots / f"{name}-{row:02d}.png")
    assert moved == SLIDERS.get(name, 0)
    with capsys.disabled():
        print(f"\n{path}: Run All in {seconds:.0f} s, {len(figures)} figures, {moved} sliders moved")
    elsewhere = [url for url in page.requests if not url.startswith((f"{lab[0]}/", "data:", "blob:", "about:"))]
    assert not elsewhere


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    """The folder of the slides."""
    if not (CLASS / "manifest.json").exists():
        pytest.skip("the class has not been run. Remedy: make run PROFILE=class")
    folder = tmp_path_factory.mktemp("slides")
    try:
        slides.write_slides(CLASS, folder)
    except DataError as error:
        pytest.skip(str(error))
    return folder


@pytest.mark.parametrize("name", lesson.LESSON)
def test_slides_without_a_network(name, decks, page, shots, capsys):
    """Every slide can be reached and lies within the page, pictures and formulas are drawn, and nothing is fetched."""
    file = decks / f"{name}.html"
    page.requests.clear()
    page.size(1280, 860)
    page.call("Page.navigate", url=file.as_uri())
    page.wait_for("the slides", "window.Reveal?.isReady() && document.readyState == 'complete'")
    if page.js("document.body.textContent.includes('$')"):
        page.wait_for("the formulas", "document.querySelector('mjx-container') != null")
    assert page.js("Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
    total = page.js("Reveal.getTotalSlides()")
    for number in range(total):
        slide = "Reveal.getCurrentSlide()"
        assert page.js(f"{slide}.textContent.trim() || {slide}.querySelector('img')"), f"slide {number} is empty"
        assert page.js(f"{slide}.querySelector('mjx-merror') == null"), f"a formula of slide {number} is wrong"
        if number in (0, total // 2):
            time.sleep(1)  # slides move in
            page.screenshot(shots / f"slides-{name}-{number:02d}.png")
        page.js("Reveal.next(), null")
    assert page.js("Reveal.isLastSlide()")
    with capsys.disabled():
        print(f"\n{name}: {total} slides")
    assert not [url for url in page.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_page_of_the_book(chapter, width, page, shots):
    """It fits the screen, its pictures and formulas are drawn, and nothing is fetched from elsewhere."""
    file = ROOT / "build" / "book" / f"{chapter}.html"
    if not file.exists():
        pytest.skip("the book has not been built. Remedy: make book")
    page.requests.clear()
    page.size(WIDTHS[width], 900)
    page.call("Page.navigate", url=file.as_uri())
    page.wait_for("the page", f"document.readyState == 'complete' && location.href == {json.dumps(file.as_uri())}")
    if page.js("document.querySelector('.math') != null"):
        page.wait_for("its formulas", "document.querySelector('mjx-container') != null")
    assert page.js("document.documentElement.scrollWidth <= window.innerWidth + 1"), "wider than the screen"
    assert page.js("Array.from(document.images).every(i => i.loading == 'lazy' || (i.complete && i.naturalWidth > 0))")
    page.screenshot(shots / f"book-{chapter.replace('/', '-')}-{WIDTHS[width]}.png")
    assert not [url for url in page.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]


PWNED = "window.pwned = (window.pwned || 0) + 1"


def hostile_page(folder, way, texts):
    """The page of `pdsel report` on an executed notebook that shows these texts."""
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell("show()", outputs=[hostile.show(text, way)]) for text in texts]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "03_selection.ipynb")
    write_pages(folder)
    return folder / "report" / "03_selection.html"


def open_file(page, path):
    """Open a page and wait for what its scripts would do."""
    page.requests.clear()
    page.call("Page.navigate", url=path.as_uri())
    page.wait_for("the page", f"document.readyState == 'complete' && location.href == {json.dumps(path.as_uri())}")
    time.sleep(1)
    return page.js("window.pwned || 0")


@pytest.mark.parametrize("way", ["table", "markdown", "printed"])
def test_responses_are_text_in_a_report(way, page, tmp_path):
    """No script of a response runs, nothing is fetched for it, and it is shown; not by the page's policy alone."""
    texts = [text.replace("alert(1)", PWNED) for text in hostile.HOSTILE_TEXTS]
    path = hostile_page(tmp_path / "run", way, texts)
    source = path.read_text()
    raw, open_page = tmp_path / "raw.html", tmp_path / "open.html"
    raw.write_text(f"<!doctype html><title>x</title>{''.join(texts[:3])}")
    open_page.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source))
    assert open_file(page, raw) > 0, "the texts do nothing even where they are not escaped"
    for each in (path, open_page):
        assert open_file(page, each) == 0
        assert not [url for url in page.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]
        assert not page.js("document.querySelectorAll('[href^=\"javascript:\" i], iframe, object, form, base').length")
        shown = page.js("document.body.innerText")
        assert f"<script>{PWNED}</script>" in shown and f"<img src=x onerror={PWNED}>" in shown
