"""Two processes are one: `accelerate launch` on the CPU gives the margins, kept ids and loss curve of a single process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from torch.distributed.fsdp import MixedPrecisionPolicy

from pdsel import (
    fit_proxies,
    fit_proxy,
    make_pairs,
    preference_divergence,
    scale_margins,
    score_margins,
    select,
    train_dpo,
)
from pdsel.engine import launch
from pdsel.engine.errors import TrainingError
from pdsel.engine.launch import CONFIGS, find_config, launchable
from pdsel.engine.models import load_causal
from pdsel.engine.trainers import PreciseSums
from pdsel.notesworld import BASE_MODEL
from pdsel.proxies import margins_of_part
from pdsel.ratings import load_ratings
from pdsel.training import training_log

TINY = {"batch_size": 8, "learning_rate": 1e-3, "model": BASE_MODEL, "logging_steps": 1}
FLAGS = {"cpu2": "multi_gpu", "ddp": "multi_gpu", "fsdp": "use_fsdp", "zero3": "use_deepspeed"}


@pytest.fixture(scope="module")
def pairs():
    from importlib.resources import files

    return make_pairs(load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=60)).select(range(53))


@pytest.fixture(scope="module")
def proxies(pairs):
    return {aspect: fit_proxy(pairs, aspect, kind="implicit", **TINY) for aspect in sorted(set(pairs["aspect"]))}


def curve(path, key="loss"):
    return np.array([point[key] for point in training_log(path)["history"] if key in point])


def test_margins_and_kept_ids_of_two_processes_are_those_of_one(pairs, proxies, capfd):
    one, two = score_margins(pairs, proxies), score_margins(pairs, proxies, accelerate="cpu2")
    assert one.stack().abs().min() > 0 and one.stack().std() > 0.01
    pd.testing.assert_frame_equal(one, two, atol=1e-5, rtol=0)
    aspect = pd.Series(list(pairs["aspect"]), index=list(pairs["pair_id"]))
    kept = [select(preference_divergence(scale_margins(margins, aspect), aspect), 0.3) for margins in (one, two)]
    assert list(kept[0]) == list(kept[1]) and len(kept[0]) == 16


def test_probes_of_two_processes_are_those_of_one(pairs, tmp_path):
    options = {"kind": "probe", "model": BASE_MODEL, "candidates": [["surprisal", "hd"]]}
    one = fit_proxies(pairs, **options)
    two = fit_proxies(pairs, accelerate="cpu2", reference_cache=tmp_path / "reference", **options)
    pd.testing.assert_frame_equal(score_margins(pairs, one), score_margins(pairs, two), atol=1e-4, rtol=0)
    assert sum(proxy.n_tokens for proxy in two.values()) == sum(proxy.n_tokens for proxy in one.values())
    assert len(list((tmp_path / "reference").rglob("*.parquet"))) == 2  # each process left what it read


def test_the_parts_are_whole_prompts_and_every_pair_once(pairs, monkeypatch):
    seen = []
    monkeypatch.setattr("pdsel.proxies._margins", lambda part, named: seen.append(part))
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        margins_of_part(pairs, {})
    assert sorted(name for part in seen for name in part["pair_id"]) == sorted(pairs["pair_id"])
    owners = pd.DataFrame([(prompt, rank) for rank, part in enumerate(seen) for prompt in part["prompt"]])
    assert owners.groupby(0)[1].nunique().max() == 1 and owners[1].nunique() == 3


def test_dpos_loss_curve_is_that_of_one_process(pairs, tmp_path):
    """53 pairs in steps of 8, twice: the last step of an epoch has 5, and accelerate fills it up to 8. With adapters."""
    options = {**TINY, "epochs": 2, "lora_rank": 4, "learning_rate": 1e-2, "held_out": pairs.select(range(9))}
    one = train_dpo(pairs, output_dir=tmp_path / "one", **options)
    two = train_dpo(pairs, output_dir=tmp_path / "two", accelerate="cpu2", gradient_accumulation_steps=2, **options)
    assert two == str(tmp_path / "two") and len(curve(one)) == len(curve(two)) == 14
    assert np.ptp(curve(one)) > 0.05  # else two curves could agree by standing still
    np.testing.assert_allclose(curve(one), curve(two), atol=1e-4)
    np.testing.assert_allclose(curve(one, "rewards/margins")[:6], curve(two, "rewards/margins")[:6], atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]  # no scratch folder of either process
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in (tmp_path / "two").iterdir()}


def test_a_script_of_ones_own_runs_under_accelerate_launch(pairs, tmp_path):
    """The documented command: `accelerate launch --config_file ...` on a script that calls pdsel."""
    pairs.save_to_disk(str(tmp_path / "pairs"))
    script = tmp_path / "mine.py"
    script.write_text(
        "from datasets import load_from_disk\nfrom pdsel import train_dpo\n"
        f"train_dpo(load_from_disk({str(tmp_path / 'pairs')!r}), model={BASE_MODEL!r}, batch_size=8,\n"
        f"          learning_rate=1e-3, logging_steps=1, output_dir={str(tmp_path / 'p')!r})\n"
    )
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(CONFIGS / "cpu2.yaml"),
        "--main_process_port",
        "0",
        str(script),
    ]
    environment = os.environ | {"PYTHONPATH": str(CONFIGS.parents[2])}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    alone = train_dpo(pairs, output_dir=tmp_path / "alone", **TINY)
    np.testing.assert_allclose(curve(tmp_path / "p"), curve(alone), atol=1e-5)


# ---- FSDP


@pytest.mark.parametrize("lora_rank", [None, 4])
def test_fsdp_in_bf16_trains_as_one_process_does(pairs, lora_rank, tmp_path, monkeypatch):
    """The shipped config on two processes of the CPU; a whole model is saved, and the reference starts as the policy."""
    shards = Path(__file__).parent / "fsdp_on_cpu"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(shards), os.environ.get("PYTHONPATH", "")]))
    config = tmp_path / "fsdp.yaml"
    shipped = yaml.safe_load(find_config("fsdp").read_text())
    config.write_text(yaml.safe_dump(shipped | {"use_cpu": True, "num_processes": 2}))
    data, options = (
        pairs.select(range(29)),
        {**TINY, "bf16": True, "gradient_checkpointing": True, "lora_rank": lora_rank},
    )
    one = train_dpo(data, output_dir=tmp_path / "one", **options)
    two = train_dpo(data, output_dir=tmp_path / "two", accelerate=config, **options)
    np.testing.assert_allclose(curve(two)[0], np.log(2), atol=1e-3)
    np.testing.assert_allclose(curve(one), curve(two), atol=5e-3)
    assert {path.name for path in Path(one).iterdir()} == {path.name for path in Path(two).iterdir()}
    first, second = (load_causal(path).state_dict() for path in (one, two))
    start = load_causal(BASE_MODEL).state_dict()
    assert first.keys() == second.keys()
    moved = [(first[name] - start[name], second[name] - start[name]) for name in start]
    assert all(torch.isfinite(weight).all() for weight in second.values()) and any(b.any() for _, b in moved)
    a, b = (torch.cat([each[side].flatten() for each in moved]) for side in (0, 1))
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.9


def test_fsdp_rounds_neither_outputs_nor_sums_of_gradients():
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)
    plugin = SimpleNamespace(fsdp_version=2, mixed_precision_policy=policy)

    class Trainer:
        def create_accelerator_and_postprocess(self):
            self.accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))

    type("Ours", (PreciseSums, Trainer), {})().create_accelerator_and_postprocess()
    assert plugin.mixed_precision_policy == MixedPrecisionPolicy(torch.bfloat16, torch.float32, None)


# ---- configs


@pytest.mark.parametrize("name", FLAGS)
def test_accelerate_parses_the_shipped_configs(name, monkeypatch):
    path = find_config(name)
    config = load_config_from_file(str(path))  # an unknown key is an error there
    args = launch_command_parser().parse_args(["--config_file", str(path), "--num_processes", "2", "script.py"])
    args, *_ = _validate_launch_command(args)
    assert getattr(args, FLAGS[name]) and sum(bool(getattr(args, flag)) for flag in set(FLAGS.values())) == 1
    assert args.mixed_precision == ("no" if name == "cpu2" else "bf16") and config.num_machines == 1
    if name == "fsdp":
        assert (args.fsdp_version, args.fsdp_state_dict_type) == (2, "FULL_STATE_DICT")
    if name == "zero3":
        assert (args.zero_stage, args.zero3_save_16bit_model) == (3, True)


def test_every_shipped_config_is_tested_and_packaged():
    import tomllib

    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(FLAGS)
    project = tomllib.loads((CONFIGS.parents[2] / "pyproject.toml").read_text())
    assert "accelerate/*" in project["tool"]["setuptools"]["package-data"]["pdsel.engine"]


@pytest.mark.parametrize("config", ["ddpp", "nowhere/mine.yaml"])
def test_an_unknown_config_is_refused_by_name(config):
    with pytest.raises(ValueError, match=r"neither a file nor one of \['cpu2', 'ddp', 'fsdp', 'zero3'\]. Remedy"):
        find_config(config)


def test_without_gpus_their_configs_are_refused(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(
        ValueError, match="ddp.yaml runs on all GPUs, but there are 0 here. Remedy: leave accelerate out"
    ):
        train_dpo(pairs, output_dir=tmp_path / "p", accelerate="ddp", **TINY)


def test_a_config_of_several_machines_is_refused(pairs, tmp_path):
    config = tmp_path / "many.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(find_config("cpu2").read_text()) | {"num_machines": 2}))
    with pytest.raises(
        ValueError, match=r"many.yaml has num_machines=2.*Remedy: on every machine, run `accelerate launch`"
    ):
        train_dpo(pairs, output_dir=tmp_path / "p", accelerate=config, **TINY)


# ---- what a job is given and gives back


def test_a_job_lies_beside_the_cached_data_sets_and_is_gone_afterwards(pairs, monkeypatch):
    """Not in the temp folder, which is memory on many machines; also where the job fails."""
    seen = []

    def fail(command, folder, *, cpu):
        seen.append(folder)
        assert json.loads((folder / "job.json").read_text())["function"] == "train_with_offset"
        raise TrainingError("no memory")

    monkeypatch.setattr(launch, "_run", fail)
    with pytest.raises(TrainingError, match="no memory"):
        train_dpo(pairs, output_dir="never", accelerate="cpu2", **TINY)
    assert seen[0].parent == Path(datasets.config.HF_DATASETS_CACHE) and not seen[0].exists()


def test_arguments_come_through_unchanged(pairs, tmp_path):
    plain = [1, "a", [1, None], {"k": 0.1}]
    assert [launch._read(launch._write(value, tmp_path), tmp_path) for value in plain] == plain
    assert launch._read(launch._write(Path("p"), tmp_path), tmp_path) == "p"
    assert launch._read(launch._write(pairs, tmp_path / "pairs"), tmp_path)[:] == pairs[:]
    series = pd.Series([0.1, 0.2], index=["a", "b"])
    back = launch._read(launch._write(series, tmp_path / "series"), tmp_path)
    pd.testing.assert_series_equal(back, series, check_names=False)
    with pytest.raises(
        ValueError, match="argument held_out is a object, which cannot be passed to another process. Remedy"
    ):
        launch._write(object(), Path("held_out"))


def test_a_failing_job_says_why(pairs, tmp_path):
    """Without the launcher around it: a process of a job writes its error where the notebook reads it."""
    job = {
        "module": "pdsel.training",
        "function": "train_with_offset",
        "owner": os.getpid(),
        "args": [launch._write(pairs, tmp_path / "0")],
        "kwargs": {
            name: {"value": value}
            for name, value in (
                TINY
                | {
                    "offsets": [0.0] * 53,
                    "seed": 0,
                    "beta": 0.1,
                    "batch_size": 9,
                    "gradient_accumulation_steps": 2,
                    "output_dir": str(tmp_path / "p"),
                }
            ).items()
        },
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    with pytest.raises(
        TrainingError, match=r"ended with exit code 1(.|\n)*batch_size=9 is not divisible by 1 processes x"
    ):
        launch._run([sys.executable, "-m", "pdsel.engine.launch", str(tmp_path)], tmp_path, cpu=True)
    assert not (tmp_path / "p").exists()


def test_a_job_that_dies_without_a_word_shows_its_log(tmp_path, capfd):
    with pytest.raises(TrainingError, match="exit code 3:\nlast words"):
        launch._run([sys.executable, "-c", "print('last words'); raise SystemExit(3)"], tmp_path, cpu=True)
    assert "last words" in capfd.readouterr().out


def test_a_job_ends_with_the_notebook_that_started_it():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ended = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch.os, "_exit", ended.append)
        launch.end_with(gone.pid)
    assert ended == [1]


def test_without_a_config_nothing_is_launched():
    assert launchable(lambda x: x + 1)(1, accelerate=None) == 2
