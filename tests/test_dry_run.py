"""The large profiles, cut down: their real notebooks, names and keys on stand-ins, as `make dry-run` does in full."""

import json

import pandas as pd
import pytest
from dry_run import ROOT, SIZES, derive, dry_run
from standins import COMMIT, data, make_hub

from pdsel.artifacts import verify
from pdsel.data.cleaning import CONTAMINATION
from pdsel.pipeline.profiles import load_profile
from pdsel.ratings import load_ratings

NAMES = ["small", "paper", "paper-helpsteer"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return make_hub(tmp_path_factory.mktemp("hub"))


def read(name):
    return load_profile(ROOT / "notebooks" / "profiles" / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_has_the_keys_and_the_names_of_its_profile(name):
    profile = read(name)
    cut = derive(profile, endpoint="http://here/v1", wizard="wizard.jsonl")
    assert {section: list(values) for section, values in cut.items()} == {s: list(v) for s, v in profile.items()}
    changed = {(s, key) for s, values in profile.items() for key in values if cut[s][key] != values[key]}
    allowed = {(section, key) for section, keys in SIZES.items() for key in keys}
    assert changed <= allowed | {
        ("02_proxies", "training"),
        ("04_dpo", "training"),
        ("05_evaluation", "generation"),
        ("05_evaluation", "open_sets"),
        ("05_evaluation", "llm_url"),
    }
    for section in ("02_proxies", "04_dpo", "05_evaluation"):
        assert cut[section]["model"] == profile[section]["model"]


def test_stand_ins_have_the_oddities_of_the_real_layouts(hub):
    folder = data(hub, "ultrafeedback")
    rows = [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]
    ratings = {found["Rating"] for row in rows for each in row["completions"] for found in each["annotations"].values()}
    assert {"N/A", "1", "5"} <= ratings
    assert {CONTAMINATION, "ultrachat"} <= {row["source"] for row in rows}
    with pytest.warns(UserWarning, match="a benchmark"):
        table = load_ratings(folder, clean=True)
    for what in ("prompts of TruthfulQA", "fewer than two responses", "empty responses", "with a prompt seen before"):
        assert what in table.info.description
    helpsteer = load_ratings(data(hub, "helpsteer") / "train.jsonl.gz")
    assert sorted(helpsteer[0]["ratings"]) == ["coherence", "correctness", "helpfulness"]
    assert all(value != value for value in helpsteer[0]["overall"])  # NaN: it has none


@pytest.fixture(scope="module", params=["small", "paper"])
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    run = dry_run(request.param, folder, methods=["OVA", "PD"], targets=["manifest.json"])
    assert run.returncode == 0
    return request.param, folder / "results"


def test_a_large_profile_runs_to_its_table(finished):
    name, results = finished
    table = pd.read_csv(results / "tables" / "table1.csv")
    assert list(dict.fromkeys(table["method"])) == ["SFT", "OVA", "PD"]
    assert "utility" not in set(table["metric"])  # nobody knows the truth of real data
    (cell,) = results.glob("conflict*")
    manifests = {path.stem: verify(path.stem, cell) for path in (cell / "manifests").iterdir()}
    profile = read(name)
    for stage, section in {"02_proxies": "02_proxies", "04_dpo-PD": "04_dpo", "05_evaluation": "05_evaluation"}.items():
        assert manifests[stage]["parameters"]["model"] == profile[section]["model"]
        assert manifests[stage]["parameters"]["model_digest"] == COMMIT  # as the hub's client found it
    assert manifests["01_data"]["facts"]["data"].startswith("ultrafeedback (openbmb/UltraFeedback")
    pairs = pd.read_parquet(cell / "local" / "pairs.parquet")
    assert pairs["prompt"].iloc[0][0]["role"] == "user"
    assert pairs["conflict"].mean() == pytest.approx(profile["grid"]["conflicts"][0], abs=0.01)


def test_the_judge_is_the_profiles(finished):
    name, results = finished
    (cell,) = results.glob("conflict*")
    facts = json.loads((cell / "manifests" / "05_evaluation.json").read_text())["facts"]
    if name == "small":
        assert facts["judge"] == "Skywork-Reward-Llama-3.1-8B-v0.2"
        assert (cell / "strengths.csv").exists()
    else:
        assert facts["judge"] == "gpt-4.1"
        assert facts["llm_usage"]["requests"] > 0
        assert not (cell / "strengths.csv").exists()  # everyone: false
    assert f"Judge: {facts['judge']}" in (results / "local" / "notebooks" / "06_results.ipynb").read_text()
