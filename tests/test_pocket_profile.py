"""The profile pocket on made-up rated texts and a random model: its real notebooks, keys and folder, cut down."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from chat_models import SIZES, save_chat_model
from made_up_facts import N_PROMPTS, N_RATED, SYSTEMS, text_of, write_corpus

from pdsel.experiments.pocket import cells, settings
from pdsel.experiments.pocket.cells import Lab
from pdsel.experiments.pocket.start import FOLDER, start
from pdsel.pipeline.profiles import find_profile, load_profile

ROOT = Path(__file__).resolve().parents[1]
TRAINING = {"lora_rank": 2, "gradient_accumulation_steps": 1}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """What `make pocket-start` makes, of a random model."""
    folder = tmp_path_factory.mktemp("pocket")
    corpus = write_corpus(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "max_position_embeddings", 1024)
        patch.setattr(cells, "NEW_TOKENS", 4)
        small = {
            kind: getattr(settings.SETTINGS["pocket"], kind) | {"batch_size": 4} for kind in ("sft", "dpo", "reward")
        }
        setting = replace(settings.SETTINGS["pocket"], n_pairs=20, n_demonstrations=8, max_length=256, **small)
        patch.setitem(settings.SETTINGS, "pocket", setting)
        texts = [text_of(n, s) for n in range(10) for s in SYSTEMS] * 3
        model = save_chat_model("llama", folder / "model", corpus=texts)
        found = start(Lab(str(corpus), model, str(folder / "cells")), folder / "start")
        again = start(Lab(str(corpus), model, str(folder / "cells")), folder / "start")
    assert found == again
    return found


def test_half_of_the_rated_inputs_are_left_to_the_judge(begun):
    rows = begun["ratings"].read_text().splitlines()
    assert len(rows) == N_RATED // 2
    assert len(begun["prompts"].read_text().splitlines()) == N_PROMPTS


def test_the_profile_names_the_folder_that_start_makes():
    text = find_profile("pocket").read_text()
    places = [f"../{FOLDER}/{name}" for name in ("ratings.jsonl", "prompts.jsonl", "sft", "judge")]
    assert all(f"{place}" in text for place in places)


def cut_down(begun, file):
    """The profile with the folder's place and sizes replaced, as a file."""
    sections = load_profile(find_profile("pocket"), notebooks=ROOT / "notebooks")
    text = yaml.safe_dump(sections)
    for name in ("ratings.jsonl", "prompts.jsonl", "sft", "judge"):
        text = text.replace(f"../{FOLDER}/{name}", str(begun[name.removesuffix(".jsonl")]))
    cut = yaml.safe_load(text)
    cut["grid"] = {"conflicts": [None], "seeds": [0], "methods": ["PD"]}
    cut["01_data"] |= {"size": 20, "max_length": 320}
    for stage in ("02_proxies", "04_dpo"):
        cut[stage] |= {"batch_size": 4, "max_length": 320, "training": TRAINING}
    cut["05_evaluation"] |= {"max_new_tokens": 4, "generation": {"dtype": "float32"}, "n_family_prompts": 2}
    file.write_text(yaml.safe_dump(cut))
    return file


def test_the_profile_runs_on_what_start_makes(begun, tmp_path):
    results = tmp_path / "results"
    settings_ = [f"profile={cut_down(begun, tmp_path / 'pocket-cut.yaml')}", f"results={results}"]
    target = results / "conflictnatural-seed0" / "manifests" / "05_evaluation.json"
    command = [sys.executable, "-m", "snakemake", "--snakefile", "notebooks/Snakefile", "--cores", "1", "--nolock"]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command += ["--show-failed-logs", str(target), "--config", *settings_]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    metrics = pd.read_csv(target.parents[1] / "metrics.csv")
    assert {"SFT", "PD"} <= set(metrics["method"]) and "win_rate" in set(metrics["metric"])
