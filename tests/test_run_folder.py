"""Nothing is lost: what lies at `output_dir`, and a training that is finished, survive every way a run can end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pdsel import fit_proxies, train_dpo
from pdsel.data.scratch import scratch_folder, sweep
from pdsel.engine.errors import TrainingError, check_weights
from pdsel.engine.run_folder import RECORD, run_folder
from pdsel.engine.training_run import OffsetRun
from pdsel.notesworld import BASE_MODEL

GONE = 999999999  # no process has this id


def finished_run(folder, content):
    """A folder as a finished training leaves it."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(content)
    (folder / RECORD).write_text("{}")
    return folder


def train(output_dir, content):
    """What a training does with its folder."""
    with run_folder(output_dir) as scratch:
        (scratch / "model.safetensors").write_text(content)
        (scratch / RECORD).write_text("{}")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_with_other_files_is_refused_before_training(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(OffsetRun, "trainer", lambda *args: pytest.fail("the model was loaded"))
    models = tmp_path / "models"
    models.mkdir()
    (models / "mine.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"models' holds other files and no training.json.*Remedy: name a new folder"):
        train_dpo(pairs, model=BASE_MODEL, output_dir=models)
    assert (models / "mine.txt").read_text() == "years of work" and names(tmp_path) == ["models"]


def test_a_folder_of_other_runs_and_a_file_are_refused(tmp_path):
    finished_run(tmp_path / "models", "outer")
    finished_run(tmp_path / "models" / "inner", "inner")
    with pytest.raises(ValueError, match="holds other training runs"):
        train(tmp_path / "models", "new")
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="is a file"):
        train(tmp_path / "file", "new")
    assert (tmp_path / "models" / "inner" / RECORD).exists() and (tmp_path / "file").read_text() == "text"


def test_an_empty_folder_and_an_old_run_are_replaced(tmp_path):
    (tmp_path / "p").mkdir()
    for content in ("first", "second"):
        train(tmp_path / "p", content)
        assert (tmp_path / "p" / "model.safetensors").read_text() == content
    assert names(tmp_path) == ["p"]


def test_a_run_that_fails_leaves_the_old_one(tmp_path):
    finished_run(tmp_path / "p", "old")
    with pytest.raises(ZeroDivisionError), run_folder(tmp_path / "p"):
        raise ZeroDivisionError
    assert (tmp_path / "p" / "model.safetensors").read_text() == "old" and names(tmp_path) == ["p"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_stays(exists, tmp_path):
    target, link = tmp_path / "disk" / "p", tmp_path / "out"
    if exists:
        finished_run(target, "old")
    link.symlink_to(target)
    train(link, "new")
    assert link.is_symlink() and (target / "model.safetensors").read_text() == "new"
    assert names(tmp_path) == ["disk", "out"] and names(tmp_path / "disk") == ["p"]


def test_training_through_a_link_writes_its_target(pairs, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    path = train_dpo(pairs.select(range(8)), model=BASE_MODEL, output_dir=tmp_path / "out", batch_size=8)
    assert path == str(tmp_path / "out") and (tmp_path / "disk" / "model.safetensors").exists()


@pytest.mark.parametrize("failing", ["p", "partial"])  # the old run cannot be moved; the new one cannot take its name
def test_a_failed_rename_keeps_both_runs_and_says_where(failing, tmp_path, monkeypatch):
    finished_run(tmp_path / "p", "old")
    rename = Path.rename

    def fails(path, target):
        if path.name.endswith(failing):
            raise OSError("Device or resource busy")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(TrainingError, match=rf"busy.*The trained model lies in .*p\.{os.getpid()}\.partial"):
        train(tmp_path / "p", "new")
    left = {path.name: (path / "model.safetensors").read_text() for path in tmp_path.iterdir()}
    assert left == {"p": "old", f"p.{os.getpid()}.partial": "new"}
    monkeypatch.undo()
    with pytest.raises(ValueError, match="holds a finished training that could not get its name. Remedy: move it"):
        train(tmp_path / "p", "newer")


KILLED = """
import os, signal, sys
from pathlib import Path
from pdsel.engine.run_folder import RECORD, run_folder

rename = Path.rename

def rename_or_die(path, target):
    if path.name.endswith("partial"):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)

Path.rename = rename_or_die
with run_folder(sys.argv[1]) as scratch:
    (scratch / "model.safetensors").write_text("new")
    (scratch / RECORD).write_text("{}")
"""


def test_a_kill_between_the_renames_leaves_a_whole_run_and_the_next_call_mends(tmp_path):
    finished_run(tmp_path / "p", "old")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "p")], env=environment)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "p").exists()
    kept = {(folder / "model.safetensors").read_text() for folder in tmp_path.iterdir() if (folder / RECORD).exists()}
    assert kept == {"old", "new"}
    with pytest.raises(ZeroDivisionError), run_folder(tmp_path / "p"):
        raise ZeroDivisionError  # even if the next call fails
    assert (tmp_path / "p" / "model.safetensors").read_text() == "new" and names(tmp_path) == ["p"]


def test_an_old_run_that_was_put_aside_gets_its_name_back(tmp_path):
    finished_run(tmp_path / f"p.{GONE}.replaced", "old")
    (tmp_path / f"p.{GONE}.partial").mkdir()
    with pytest.raises(ZeroDivisionError), run_folder(tmp_path / "p"):
        raise ZeroDivisionError
    assert (tmp_path / "p" / "model.safetensors").read_text() == "old" and names(tmp_path) == ["p"]


def test_a_finished_run_that_never_got_its_name_is_not_swept(tmp_path):
    finished_run(tmp_path / "p", "old")
    finished_run(tmp_path / f"p.{GONE}.partial", "told of in an error")
    train(tmp_path / "p", "new")
    assert names(tmp_path) == ["p", f"p.{GONE}.partial"]


# ---- scratch


def test_scratch_lies_beside_the_cached_data_sets_and_is_swept_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    with scratch_folder("job") as folder:
        assert folder.parent == tmp_path
        marker, machine, owner, rest = folder.name.split(".")
        assert owner == str(os.getpid())
        orphan = folder.with_name(f"{marker}.{machine}.{GONE}.{rest}")
        foreign = folder.with_name(f"{marker}.other-{machine}.{GONE}.{rest}")
        orphan.mkdir()
        foreign.mkdir()
        sweep(tmp_path)
        assert folder.exists() and not orphan.exists() and foreign.exists()  # another machine's process may be alive
    assert not folder.exists()


def test_proxies_without_a_folder_use_scratch(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    few = pairs.select(range(40))
    proxies = fit_proxies(few, aspects=[few["aspect"][0]], model="notesworld", kind="implicit", batch_size=8)
    assert all(tmp_path in Path(proxy.path).parents for proxy in proxies.values())


# ---- a folder an aspect


@pytest.mark.parametrize("names", [("真实性", "有用性"), ("c++", "c#"), ("helpful?", "helpful!")])
def test_aspects_that_look_alike_get_folders_of_their_own(pairs, names, tmp_path):
    few = pairs.select(range(16)).remove_columns("aspect").add_column("aspect", list(names) * 8)
    proxies = fit_proxies(few, model="notesworld", kind="implicit", batch_size=8, output_dir=tmp_path / "proxies")
    folders = {Path(proxy.path) for proxy in proxies.values()}
    assert len(folders) == 2 and all(folder.parent == tmp_path / "proxies" for folder in folders)


def test_aspects_that_would_share_a_folder_are_refused(pairs, tmp_path):
    few = pairs.select(range(16)).remove_columns("aspect").add_column("aspect", ["Honesty", "honesty"] * 8)
    with pytest.raises(ValueError, match=r"aspect shares the name of its folder.*Honesty, honesty"):
        fit_proxies(few, model="notesworld", kind="implicit", output_dir=tmp_path / "proxies")


def test_saved_weights_are_checked_file_by_file(tmp_path):
    """Under ZeRO-3 the network's own parameters are empty on every process."""
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "model-1.safetensors")
    check_weights(tmp_path)
    save_file({"b": torch.tensor([1.0, float("nan")])}, tmp_path / "model-2.safetensors")
    with pytest.raises(TrainingError, match=r"1 weights are not finite after training \(first: b\)"):
        check_weights(tmp_path)
