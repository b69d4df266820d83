"""Runs at real sizes, tried at tiny ones: resume after a kill, adapters, held-out pairs, cached references, clear ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from standins import snapshot
from trl import DPOConfig

from pdsel import make_pairs, train_dmpo, train_dpo
from pdsel.artifacts import digest, model_digest
from pdsel.engine.errors import TrainingError, explained, memory_advice
from pdsel.engine.models import load_causal, load_classifier, load_tokenizer
from pdsel.engine.reference_cache import ReferenceCache, text_key
from pdsel.engine.run_folder import checkpoints, run_key
from pdsel.engine.scoring import classifier_rewards, encode, response_logps
from pdsel.engine.trainers import DPOTrainer
from pdsel.engine.training_run import RewardRun
from pdsel.notesworld import BASE_MODEL
from pdsel.ratings import load_ratings
from pdsel.training import train_reward, train_with_offset, training_log

TINY = {"batch_size": 8, "learning_rate": 1e-3, "model": BASE_MODEL}
LONGER = {**TINY, "epochs": 6, "save_steps": 5}


@pytest.fixture(scope="module")
def all_pairs():
    from importlib.resources import files

    return make_pairs(load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=20))


@pytest.fixture(scope="module")
def pairs(all_pairs):
    return all_pairs.select(range(45))


@pytest.fixture(scope="module")
def held_out(all_pairs):
    return all_pairs.select(range(45, 58))


def losses(path, key="loss"):
    return [point[key] for point in training_log(path)["history"] if key in point]


def weights(path):
    return digest(Path(path, "model.safetensors"))


# ---- resume


KILLED = """
import sys
from datasets import load_from_disk
from pdsel import train_dpo
train_dpo(load_from_disk(sys.argv[1]), model=sys.argv[2], output_dir=sys.argv[3], batch_size=8, learning_rate=1e-3,
          epochs=6, save_steps=5)
"""


@pytest.fixture(scope="module")
def uninterrupted(pairs, tmp_path_factory):
    return train_dpo(pairs, output_dir=tmp_path_factory.mktemp("whole") / "p", **LONGER)


def kill_after_a_checkpoint(pairs, output_dir, tmp_path):
    """Train in another process and kill it, without a chance to clean up, once a checkpoint is there."""
    pairs.save_to_disk(str(tmp_path / "pairs"))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "pairs"), BASE_MODEL, str(output_dir)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root = Path(f"{output_dir}.checkpoints")
    while run.poll() is None and not list(root.glob("*/checkpoint-*/pdsel_seconds.json")):
        time.sleep(0.01)  # until the file is there
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL and not output_dir.exists()


def test_a_killed_run_resumes_and_ends_with_the_same_weights(pairs, uninterrupted, tmp_path):
    output_dir = tmp_path / "p"
    kill_after_a_checkpoint(pairs, output_dir, tmp_path)
    path = train_dpo(pairs, output_dir=output_dir, **LONGER)
    log, whole = training_log(path), training_log(uninterrupted)
    assert log["resumed_at"] >= 5 and "resumed_at" not in whole
    assert weights(path) == weights(uninterrupted)
    assert losses(path) == losses(uninterrupted) and log["n_tokens"] == whole["n_tokens"]
    assert log["steps"] == whole["steps"] == 36 and log["seconds"] > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p", "pairs"]  # no checkpoint, no scratch folder


def test_checkpoints_change_nothing_in_the_weights(pairs, uninterrupted, tmp_path):
    plain = {name: value for name, value in LONGER.items() if name != "save_steps"}
    assert weights(train_dpo(pairs, output_dir=tmp_path / "p", **plain)) == weights(uninterrupted)


def test_a_finished_run_is_not_repeated(pairs, tmp_path, monkeypatch):
    path = Path(train_dpo(pairs, output_dir=tmp_path / "p", resume=True, **TINY))
    first, written = training_log(path), (path / "model.safetensors").stat().st_mtime_ns
    (path / "proxy.json").write_text("{}")  # what others put beside the weights does not matter
    path.rename(f"{path}.999999999.replaced")  # a kill between the two renames of a run
    train_dpo(pairs, output_dir=path, resume=True, **TINY)
    assert training_log(path) == first and (path / "model.safetensors").stat().st_mtime_ns == written
    for changed in ({"seed": 1}, {"learning_rate": 5e-4}):
        assert train_dpo(pairs, output_dir=path, resume=True, **TINY | changed) and training_log(path) != first
    train_dpo(pairs, output_dir=path, resume=True, **TINY)
    monkeypatch.setattr("pdsel.engine.training_run.code_digest", lambda *_: "other code")
    train_dpo(pairs, output_dir=path, resume=True, **TINY)
    assert training_log(path)["key"] != first["key"]


def test_a_finished_run_whose_files_have_changed_is_repeated(pairs, tmp_path):
    path = Path(train_dpo(pairs, output_dir=tmp_path / "p", resume=True, **TINY))
    whole = weights(path)
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "model.safetensors").write_bytes(data)
    train_dpo(pairs, output_dir=path, resume=True, **TINY)
    assert weights(path) == whole
    (path / "training.json").write_text("{}")
    train_dpo(pairs, output_dir=path, resume=True, **TINY)
    assert training_log(path)["steps"] > 0


def test_other_settings_begin_anew(pairs, tmp_path):
    kill_after_a_checkpoint(pairs, tmp_path / "p", tmp_path)
    path = train_dpo(pairs, output_dir=tmp_path / "p", **LONGER | {"learning_rate": 5e-4, "epochs": 1})
    assert "resumed_at" not in training_log(path) and not Path(f"{path}.checkpoints").exists()


def test_only_whole_checkpoints_of_the_same_key_are_resumed(tmp_path):
    home, last = checkpoints(tmp_path / "p", "a")
    assert last is None
    for step, state in [(5, "{}"), (10, '{"cut off'), (15, None)]:
        folder = home / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "rng_state.pth").touch()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert checkpoints(tmp_path / "p", "a") == (home, home / "checkpoint-5")
    assert [path.name for path in home.iterdir()] == ["checkpoint-5"]
    assert checkpoints(tmp_path / "p", "b")[1] is None and not home.exists()


def test_the_key_is_of_settings_and_data(pairs):
    key = run_key(["a", {"x": 1}], pairs, None)
    assert key == run_key(["a", {"x": 1}], pairs.select(range(len(pairs))), None)
    others = [
        run_key(["a", {"x": 2}], pairs, None),
        run_key(["a", {"x": 1}], pairs.select(range(44)), None),
        run_key(["a", {"x": 1}], pairs, pairs),
    ]
    assert len({key, *others}) == 4


# ---- adapters


def test_adapters_are_merged_into_a_plain_model(pairs, held_out, tmp_path):
    path = train_dpo(pairs, output_dir=tmp_path / "p", lora_rank=3, held_out=held_out, **TINY | {"learning_rate": 1e-2})
    assert not list(Path(path).glob("*adapter*"))
    base, policy = load_causal(BASE_MODEL).state_dict(), load_causal(path).state_dict()
    moved = {name: policy[name] - base[name] for name in base if not torch.equal(policy[name], base[name])}
    assert moved and all(name.endswith("proj.weight") for name in moved)
    assert {int(torch.linalg.matrix_rank(delta, rtol=1e-4)) for delta in moved.values()} == {3}
    assert losses(path)[0] == pytest.approx(np.log(2), abs=1e-6) and min(losses(path)) < losses(path)[0]
    assert training_log(path)["held_out"]["accuracy"] == pytest.approx(accuracy(path, held_out))  # what was saved is it


def test_a_reward_heads_adapters_bring_the_head(pairs, tmp_path):
    options = {**TINY, "output_dir": tmp_path / "r", "lora_rank": 2, "learning_rate": 1e-2}
    path = train_reward(pairs, [0.0] * len(pairs), **options, held_out=pairs)
    still = train_reward(pairs, [0.0] * len(pairs), **options | {"output_dir": tmp_path / "s", "learning_rate": 0.0})
    heads = [load_classifier(folder).score.weight for folder in (path, still)]
    assert not torch.equal(*heads)
    prompts = list(pairs["prompt"])
    gaps = classifier_rewards(path, prompts, list(pairs["chosen"])) - classifier_rewards(
        path, prompts, list(pairs["rejected"])
    )
    assert training_log(path)["held_out"]["accuracy"] == pytest.approx((gaps > 0).mean())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_all_that_is_trained_beside_frozen_bf16_weights_is_float32(pairs, checkpointing, tmp_path, monkeypatch):
    """A reward head is loaded with the weights that stay; in 16 bits it would hardly move."""
    seen = {}

    def look(run, trainer, last):
        seen.update({name: weight.dtype for name, weight in trainer.model.named_parameters() if weight.requires_grad})
        return original(run, trainer, last)

    original = RewardRun.train
    monkeypatch.setattr(RewardRun, "train", look)
    train_reward(
        pairs.select(range(8)),
        [0.0] * 8,
        output_dir=tmp_path / "r",
        lora_rank=2,
        bf16=True,
        gradient_checkpointing=checkpointing,
        **TINY,
    )
    assert any("score" in name for name in seen) and set(seen.values()) == {torch.float32}


# ---- held-out pairs


def accuracy(policy, pairs):
    """The share of pairs with a positive implicit margin, by scoring."""
    prompts, chosen, rejected = list(pairs["prompt"]), list(pairs["chosen"]), list(pairs["rejected"])
    moved = [
        response_logps(policy, prompts, side) - response_logps(BASE_MODEL, prompts, side) for side in (chosen, rejected)
    ]
    return (moved[0] - moved[1] > 0).mean()


def test_held_out_accuracy_is_that_of_scoring(pairs, held_out, tmp_path):
    path = train_dpo(pairs, output_dir=tmp_path / "p", held_out=held_out, eval_steps=3, **TINY)
    found = training_log(path)["held_out"]
    assert found["n"] == 13 and found["accuracy"] == pytest.approx(accuracy(path, held_out))
    assert len(losses(path, "eval_loss")) == 3  # after steps 3 and 6, and at the end
    assert losses(path, "eval_loss")[-1] == pytest.approx(found["loss"])
    assert weights(path) == weights(train_dpo(pairs, output_dir=tmp_path / "q", **TINY))  # looking changes nothing


def test_dmpo_is_held_out_on_plain_margins(pairs, held_out, tmp_path):
    import pandas as pd

    divergence = pd.Series(-0.5, index=list(pairs["pair_id"]))
    path = train_dmpo(pairs, divergence, aspects=4, output_dir=tmp_path / "p", held_out=held_out, **TINY)
    assert training_log(path)["held_out"]["accuracy"] == pytest.approx(accuracy(path, held_out))


# ---- cached references


@pytest.fixture
def computed(monkeypatch):
    """How many pairs the reference was asked about, by run."""
    counts = []
    original = DPOTrainer.compute_ref_log_probs

    def count(self, model, inputs):
        counts.append(len(inputs["input_ids"]) // 2)
        return original(self, model, inputs)

    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", count)
    return counts


def test_methods_on_one_pool_compute_the_reference_once(pairs, held_out, computed, tmp_path):
    options = {**TINY, "reference_cache": tmp_path / "cache"}
    train_dpo(pairs.select(range(20)), output_dir=tmp_path / "a", **options)
    assert sum(computed) == 20
    train_dpo(pairs, output_dir=tmp_path / "b", held_out=held_out, **options)
    assert sum(computed) <= 45 + 13  # held-out pairs are cached too
    before = sum(computed)
    swapped = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})  # as relabelling does
    again = train_dpo(swapped, output_dir=tmp_path / "c", **options)
    assert sum(computed) == before
    without = train_dpo(swapped, output_dir=tmp_path / "d", **TINY)
    np.testing.assert_allclose(losses(again), losses(without), atol=1e-5)
    train_dpo(pairs, output_dir=tmp_path / "e", **options | {"model": again})  # another reference
    assert sum(computed) > before + 45


def test_damped_log_probabilities_are_not_cached(pairs, computed, tmp_path):
    """LD-DPO's depend on the length of the other response: not what the cache holds, and not for others to read."""
    options = {**TINY, "reference_cache": tmp_path / "cache"}
    train_dpo(pairs, output_dir=tmp_path / "a", **options, ld_alpha=0.5)
    assert sum(computed) == 45 and not ReferenceCache(tmp_path / "cache", BASE_MODEL, "float32").read()
    train_dpo(pairs, output_dir=tmp_path / "b", **options)
    before = sum(computed)
    train_dpo(pairs, output_dir=tmp_path / "c", **options, ld_alpha=0.5)
    assert sum(computed) == before + 45


def test_cached_values_are_the_references(pairs, tmp_path):
    train_dpo(pairs, output_dir=tmp_path / "p", reference_cache=tmp_path / "cache", max_length=20, **TINY)
    known = ReferenceCache(tmp_path / "cache", BASE_MODEL, "float32").read()
    tokenizer, prompts, chosen = load_tokenizer(BASE_MODEL), list(pairs["prompt"]), list(pairs["chosen"])
    expected = response_logps(BASE_MODEL, prompts, chosen, max_length=20)
    keys = [text_key(ids[:start], ids[start:], 20) for ids, start in encode(tokenizer, prompts, chosen)]
    found = [(known[key], value) for key, value in zip(keys, expected, strict=True) if key in known]
    assert len(found) == training_log(tmp_path / "p")["n_used"]
    assert 5 < len(found) < len(pairs)  # TRL drops prompts that fill the length: those of 21 words
    np.testing.assert_allclose(*zip(*found, strict=True), atol=1e-4)


def test_a_models_digest_is_of_its_weights_configuration_and_tokenizer(tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(BASE_MODEL, copy)
    (copy / "training.json").write_text("{}")
    (copy / "README.md").write_text("another card")
    assert model_digest(copy) == model_digest(BASE_MODEL)
    (copy / "tokenizer_config.json").write_text("{}")
    assert model_digest(copy) != model_digest(BASE_MODEL)


def test_a_hub_models_digest_is_its_commit_whatever_is_downloaded_yet(tmp_path, monkeypatch):
    """A run's first try starts before the weights are there; the next one must find its checkpoints."""
    folder = snapshot(tmp_path, "some/model", revision="1" * 40)
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr("pdsel.artifacts.hf_hub_download", lambda name, file: str(folder / file))
    before = model_digest("some/model")
    (folder / "model.safetensors").write_bytes(b"weights")
    assert model_digest("some/model") == before == "1" * 40
    other = snapshot(tmp_path, "some/model", revision="2" * 40)
    monkeypatch.setattr("pdsel.artifacts.hf_hub_download", lambda name, file: str(other / file))
    assert model_digest("some/model") != before


@pytest.mark.parametrize(("where", "most"), [("cuda:0", 2), ("cpu", 32)])
def test_on_a_gpu_the_reference_reads_no_more_at_once_than_training(
    pairs, computed, where, most, tmp_path, monkeypatch
):
    monkeypatch.setattr("pdsel.engine.training_run.device", lambda: where)
    on_the_cpu = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False}
    train_dpo(pairs, output_dir=tmp_path / "p", gradient_accumulation_steps=4, **on_the_cpu, **TINY)
    assert max(computed) == most and sum(computed) == len(pairs)


# ---- settings


def test_of_several_visible_gpus_a_single_process_uses_one(pairs, tmp_path, monkeypatch):
    """Without this, transformers splits the batch with DataParallel, and TRL refuses."""
    alone = train_dpo(pairs, output_dir=tmp_path / "alone", **TINY)
    monkeypatch.setattr(DPOConfig, "__post_init__", four_gpus(DPOConfig.__post_init__))
    with pytest.warns(
        UserWarning, match="4 GPUs are visible to this process, but only one of them trains. accelerate='ddp'"
    ):
        path = train_dpo(pairs, output_dir=tmp_path / "p", **TINY)
    assert weights(path) == weights(alone)


def four_gpus(post_init):
    def init(args):
        post_init(args)
        args._n_gpu = 4

    return init


def test_accumulation_changes_nothing_but_memory(pairs, tmp_path):
    """45 pairs in steps of 8: the last step has 5, in rounds of 2, 2 and 1."""
    whole, split = (
        train_dpo(pairs, output_dir=tmp_path / f"{k}", gradient_accumulation_steps=k, logging_steps=1, **TINY)
        for k in (1, 4)
    )
    np.testing.assert_allclose(losses(whole), losses(split), atol=1e-5)
    options = {**TINY, "logging_steps": 1}
    plain, rounds = (
        train_reward(pairs, [0.1] * 45, output_dir=tmp_path / f"r{k}", gradient_accumulation_steps=k, **options)
        for k in (1, 4)
    )
    np.testing.assert_allclose(losses(plain), losses(rounds), atol=1e-5)


@pytest.mark.parametrize(("rounds", "processes"), [(3, 1), (16, 1), (2, 3)])
def test_a_batch_that_does_not_divide_is_refused(rounds, processes, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(ValueError, match=f"batch_size=8 is not divisible by {processes} processes x .*a multiple of"):
        RewardRun.of([], model=BASE_MODEL, output_dir="p", batch_size=8, gradient_accumulation_steps=rounds).config()


def test_eight_bits_need_their_library(pairs, tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="optim='adamw_8bit' needs bitsandbytes.*Remedy: pip install bitsandbytes"):
        train_dpo(pairs, output_dir=tmp_path / "p", optim="adamw_8bit", **TINY)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lora_rank", [None, 2])
def test_bf16_runs_save_the_type_of_their_start(pairs, stored, lora_rank, tmp_path):
    start = tmp_path / "start"
    load_causal(BASE_MODEL, dtype=stored).save_pretrained(start)
    load_tokenizer(BASE_MODEL).save_pretrained(start)
    options = {**TINY, "model": str(start), "lora_rank": lora_rank}
    path = train_dpo(pairs.select(range(16)), output_dir=tmp_path / "p", bf16=True, **options)
    assert {weight.dtype for weight in load_causal(path).parameters()} == {stored}
    assert losses(path)[0] == pytest.approx(np.log(2), abs=1e-2)


# ---- runs that cannot go on


def test_a_loss_that_is_not_a_number_ends_the_run_and_saves_nothing(pairs, tmp_path):
    with pytest.raises(
        TrainingError, match=r"the loss is (nan|inf) at step \d of 6, learning rate .*Remedy: lower learning_rate"
    ):
        train_dpo(pairs, output_dir=tmp_path / "p", **TINY | {"learning_rate": 1e30})
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_numbers_are_never_saved(pairs, tmp_path):
    """The one step there is has a finite loss, and ends in weights that are none."""
    with pytest.raises(TrainingError, match="weights are not finite after training"):
        train_with_offset(
            pairs.select(range(8)),
            [0.0] * 8,
            seed=0,
            beta=0.1,
            output_dir=tmp_path / "p",
            warmup_steps=0,
            **TINY | {"learning_rate": 1e39},
        )
    assert list(tmp_path.iterdir()) == []


def test_out_of_memory_becomes_advice(pairs, tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(DPOTrainer, "training_step", full)
    with pytest.raises(TrainingError) as error:
        train_dpo(pairs, output_dir=tmp_path / "p", **TINY | {"gradient_accumulation_steps": 2})
    lines = str(error.value).splitlines()
    assert lines[0] == "Out of memory (CUDA out of memory. Tried to allocate 2.00 GiB). Remedy, cheapest first:"
    assert lines[1].startswith("- gradient_accumulation_steps=4 (now 2, 4 pairs at a time on a device)")
    assert [line.split("=")[0] for line in lines[2:5]] == ["- gradient_checkpointing", "- bf16", "- optim"]
    assert list(tmp_path.iterdir()) == []


def test_a_real_allocation_that_fails_is_told_from_other_errors():
    with pytest.raises(TrainingError, match="Out of memory.*\n- lower it"), explained(["lower it"]):
        torch.empty(10**17)
    with pytest.raises(RuntimeError, match="size") as other, explained(["lower it"]):
        torch.ones(2) + torch.ones(3)
    assert not isinstance(other.value, TrainingError)


def test_advice_names_only_knobs_that_are_not_turned_yet():
    config = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "max_length": 512}
    turned = memory_advice(config | {"gradient_checkpointing": True, "bf16": True}, lora_rank=8)
    assert [line.split()[0] for line in turned] == ["max_length", "accelerate='fsdp'"]
    assert any("max_length (now 512)" in line for line in turned)
