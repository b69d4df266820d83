"""Kills `make run` at random moments, goes on, and compares what is left with an undisturbed run.

The run takes place in a copy of the repository, so that nobody's own results are touched. What is started is what the
Makefile starts, with the variables that it sets. A signal goes to the whole process group, as that of a terminal does; a
notebook's kernel is in a session of its own and has to notice by itself.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ordeal.trials import LOST, SURVIVED
from pdsel.data.store import code_digest
from pdsel.pipeline.compare import compare

ROOT = Path(__file__).resolve().parents[2]
MARK = "PDSEL_ORDEAL"  # a variable that every process of a run inherits
PATIENCE = 20  # seconds for orphans to notice that they are alone
SETTLED = 3  # seconds after which a job that wrote its last file is known to be done
BETWEEN = "between notebooks"
ENDED = "a run after kills gives the same tables"
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
VARIABLES = {
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass
class Ground:
    """A copy of the repository in which a profile is run.

    Parameters
    ----------
    folder : Path
    profile : str
    command : list of str, optional
        What starts and resumes the run. Default: what `make run` starts.
    """

    folder: Path
    profile: str = "smoke"
    command: list = field(default_factory=list)

    def __post_init__(self):
        self.folder = Path(self.folder).resolve()
        self.mark = uuid.uuid4().hex
        run = [sys.executable, "-m", "pdsel.pipeline", "run", self.profile, "--cores", "1"]
        self.command = self.command or run

    @property
    def results(self):
        """Where the run writes."""
        return self.folder / "results" / "local" / self.profile

    @property
    def undisturbed(self):
        """Where the undisturbed run is kept."""
        return self.folder / "results" / "undisturbed"

    def prepare(self):
        """Copy the repository and run the profile undisturbed, unless both are there for today's code."""
        stamp = self.folder / "code.txt"
        if stamp.exists() and stamp.read_text() == code_digest() and self.undisturbed.exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).exists():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.folder / name)
        status = self.start().wait()
        if status:
            raise RuntimeError(f"the undisturbed run failed with {status}: see {self.log}")
        shutil.copytree(self.results, self.undisturbed)
        self.wipe()
        stamp.write_text(code_digest())

    def wipe(self):
        """Back to a fresh clone; what cannot be removed is an error, else nothing would be left to run and to kill."""
        for folder in (self.results, self.folder / ".snakemake"):
            if folder.exists():
                shutil.rmtree(folder)

    @property
    def log(self):
        """What the runs said."""
        return self.folder / "run.log"

    def start(self):
        """Start or resume the run in a process group of its own."""
        environment = os.environ | VARIABLES | {MARK: self.mark, "PYTHONPATH": str(self.folder)}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with open(self.log, "a") as log:
            return subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def processes(self):
        """The processes of the run that are alive, id to command line."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                    command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if command:  # a zombie has none
                        found[int(path.name)] = command
            except OSError:  # it ended meanwhile, or is another user's
                continue
        return found

    def stage(self):
        """The notebook that is being executed, or `BETWEEN`, by the command line of papermill."""
        commands = [command.split() for command in self.processes().values() if "papermill notebooks/" in command]
        names = {Path(word).stem for words in commands for word in words[:4] if word.startswith("notebooks/")}
        return "+".join(sorted(names)) or BETWEEN

    def spans(self):
        """How many seconds every notebook took in the undisturbed run, by name; the longest where there are several."""
        found = {}
        for path in self.undisturbed.rglob("*.ipynb"):
            about = json.loads(path.read_text())["metadata"].get("papermill", {})
            name = Path(about.get("input_path", "")).stem
            found[name] = max(found.get(name, 0), about.get("duration") or 0)
        return found

    def is_writing(self):
        """Whether a file of the run has its scratch name just now; those of killed processes are older."""
        now = time.time()
        with contextlib.suppress(OSError):  # it got its name meanwhile
            return any(now - path.stat().st_mtime < 1 for path in self.results.rglob("*.partial"))
        return True

    def finished(self):
        """The executed notebooks of jobs that are done, path to time of writing."""
        now = time.time()
        times = {path: path.stat().st_mtime for path in self.results.rglob("local/notebooks/*.ipynb")}
        return {path: at for path, at in times.items() if now - at > SETTLED and self._is_done(path)}

    def _is_done(self, executed):
        manifest = executed.parents[2] / "manifests" / f"{executed.stem}.json"
        return manifest.exists()

    def orphans(self):
        """Wait for all processes of the run to end; those that do not are ended here and returned."""
        deadline = time.monotonic() + PATIENCE
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.2)
        left = self.processes()
        for process in left:
            os.kill(process, signal.SIGKILL)
        return left

    def differences(self):
        """How the run differs from the undisturbed one, as a list of texts; seconds do not count."""
        found = compare(self.results, self.undisturbed)
        return [f"{stage}: {file} {problem}" for stage, file, problem in found.files]

    def same_bytes(self):
        """How many of the undisturbed run's tables, models and texts have the same digest here, and how many there are."""
        same = total = 0
        for path in self.undisturbed.rglob("manifests/*.json"):
            other = self.results / path.relative_to(self.undisturbed)
            expected = json.loads(path.read_text())["outputs"]
            found = json.loads(other.read_text())["outputs"] if other.exists() else {}
            total += len(expected)
            same += sum(found.get(name) == digest for name, digest in expected.items())
        return same, total


@dataclass(frozen=True)
class Plan:
    """When a run is killed, and how.

    Parameters
    ----------
    seconds : (float, float), optional
        A kill comes at a moment drawn evenly from these, after the run was started or resumed. Default: at a random moment of
        a notebook that was hit less than `each` times, or in every fourth kill as soon as one of its files is being written.
    each : int
        How often every notebook is hit before the run may finish.
    signals : sequence of str
        Drawn from, see `SIGNALS`.
    seed : int
    """

    seconds: tuple | None = None
    each: int = 4
    signals: tuple = ("SIGKILL",)
    seed: int = 0


def kill_runs(ground, count, journal, plan=Plan(), *, say=print):
    """Kill the run until it was killed `count` times and has finished, resuming it in between.

    Parameters
    ----------
    ground : Ground
    count : int
    journal : ordeal.trials.Journal
        Gets an entry for every kill, named after the notebook that was hit, and one for every run that finished. Kills that
        it holds are not repeated, but a run that was under way begins anew.
    plan : Plan
    say : callable
        Is told about every kill.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and hand that on
    ground.prepare()
    ground.wipe()
    hits = Counter(
        what.rpartition(" during ")[2] for part, what, _ in journal.entries if part == "kills" and what != ENDED
    )
    done, runs = {}, 0
    while True:
        kills = hits.total()
        draw = random.Random(f"{plan.seed} kills {kills}")
        name, heard = draw.choice(list(plan.signals)), ground.log.stat().st_size if ground.log.exists() else 0
        run = ground.start()
        if plan.seconds and kills >= count:
            _note_end(ground, run.wait(), done, kills, journal, say)
            return
        if _wait(ground, run, draw, plan, _latest(ground.spans(), hits, plan.each + runs)):
            stage, done = ground.stage(), done | ground.finished()
            how = "resumed, a file was being written" if ground.is_writing() else "resumed"
            os.killpg(run.pid, SIGNALS[name])
            run.wait()
            problems = _what_is_left(ground) + (_what_was_said(ground, heard) if name != "SIGKILL" else [])
            journal.add(
                ("kills", f"{name} during {stage}", kills), (LOST, problems[0]) if problems else (SURVIVED, how)
            )
            hits[stage] += 1
            say(f"kill {kills + 1} of {count}: {name} during {stage}: {problems or how}")
        else:
            _note_end(ground, run.wait(), done, kills, journal, say)
            ground.wipe()
            done, runs = {}, runs + 1
            if not plan.seconds and kills >= count:
                return


def _latest(spans, hits, each):
    """After how many seconds at most every notebook is hit next, for those that were hit less than `each` times.

    A notebook that resumes is done sooner: with every hit the next one comes earlier, so that it does not come too late.
    """
    return {stage: 0.8 * span / (1 + hits[stage]) for stage, span in spans.items() if hits[stage] < each}


def _wait(ground, run, draw, plan, latest):
    """Wait for the moment of a kill; returns False if the run ends before it. `latest`: see `_latest`."""
    start = time.monotonic()
    due = None if plan.seconds is None else start + draw.uniform(*plan.seconds)
    at_writing, share = draw.random() < 0.25, draw.random()
    while run.poll() is None:
        stage = BETWEEN if due else ground.stage()
        if due is None and stage in latest:
            due = time.monotonic() + share * latest[stage]
        if due is not None and (
            time.monotonic() >= due or (at_writing and plan.seconds is None and ground.is_writing())
        ):
            return True
        time.sleep(0.01 if due and at_writing else 0.1)
    return False


def _what_is_left(ground):
    """Complaints about processes that outlive a kill."""
    left = ground.orphans()
    return [f"orphans: {list(left.values())}"[:300]] if left else []


def _what_was_said(ground, heard):
    """Complaints about the words of a run that was asked to stop, from this place in its log."""
    with open(ground.log, encoding="utf-8", errors="replace") as log:
        log.seek(heard)
        text = log.read()
    problems = [] if text.count("Stopped.") == 1 else ["it did not say that it stopped"]
    return problems + (["a traceback"] if "Traceback" in text else [])


def _note_end(ground, status, done, kills, journal, say):
    """Note whether a run that was killed ended as an undisturbed one does."""
    problems = [f"exit status {status}"] if status else ground.differences()
    redone = [path.stem for path, at in done.items() if not path.exists() or path.stat().st_mtime != at]
    problems += [f"redone although finished: {', '.join(redone)}"] if redone else []
    same, total = ground.same_bytes()
    how = "; ".join(problems)[:500] or f"{same} of {total} outputs to the byte, the others but for seconds"
    journal.add(("kills", ENDED, kills), (LOST if problems else SURVIVED, how))
    say(how)
