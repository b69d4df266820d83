"""Plans: costs worked by hand, the graph's own job counts, and the paper's published hours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pdsel.pipeline.compute import (
    CONTEXT,
    GB,
    GPUS,
    Data,
    Gpu,
    Model,
    aspects_flops,
    dpo_flops,
    find_gpu,
    find_model,
    generation_memory,
    generation_seconds,
    lora_parameters,
    method_flops,
    pool,
    pooled_flops,
    reading_memory,
    selection_flops,
    training_memory,
)
from pdsel.pipeline.costs import (
    DATA,
    comparisons,
    costs,
    disk,
    downloads,
    gpu_jobs,
    jobs,
    ledger,
    ledgers,
    plan,
    plans,
    published_comparison,
    questions,
    read_profile,
    shares_of_peak,
)
from pdsel.pipeline.report import shown_blocks

ROOT = Path(__file__).resolve().parents[1]
LARGE = ["small", "paper", "paper-helpsteer"]
NOTHING = ROOT / "no such file"
ROUND = Model(parameters=1e9, layers=10, hidden=1000, vocabulary=100_000, key_values=1000)


@pytest.fixture(scope="module")
def profile():
    profiles = {name: read_profile(name) for name in LARGE}
    return lambda name="paper": profiles[name]


def test_pairs_that_a_data_set_will_give():
    data = Data(prompts=100, responses=4, aspects=4, prompt_tokens=50, response_tokens=100, gigabytes=0, labelled=0.5)
    whole = pool(data)
    assert (whole.pairs, whole.tokens, whole.distinct) == (300, 300 * 2 * 150, 400 * 150)
    assert pool(data, n_prompts=10).pairs == 30
    assert pool(data, n_prompts=1000).pairs == 300  # there are no more
    assert pool(data, conflict=0.1).pairs == 233  # 210 agreeing pairs are 90 %
    assert pool(data, conflict=0.3, size=100).pairs == 100
    assert pool(data, max_length=60).tokens == 300 * 2 * 60


def test_what_methods_and_proxies_compute():
    found = pool(Data(100, 4, 4, 50, 100, 0, labelled=0.5))  # 300 pairs: 90 000 tokens, 60 000 distinct
    assert method_flops("ALL", found, ROUND, share=0.3) == 8e9 * 90_000  # 6 to train, 2 for the reference
    assert method_flops("PD", found, ROUND, share=0.3) == pytest.approx(0.3 * 8e9 * 90_000)
    assert method_flops("ALL", found, ROUND, share=0.3, epochs=2) == (12 + 2) * 1e9 * 90_000
    training, scoring = selection_flops(found, ROUND, kind="classifier")
    assert training == 2 * 6e9 * 90_000  # the aspects' parts together are one pass, the pooled one is another
    assert scoring == 5 * 2e9 * 60_000
    training, scoring = selection_flops(found, ROUND, kind="implicit", share=0.5)
    assert training == 2 * 8e9 * 45_000
    assert scoring == (4 + 1 + 1) * 2e9 * 60_000  # the four, the pooled one, the reference
    assert dpo_flops(1e9, 1000, lora=True) == (4 + 2) * 1e12


def test_a_probe_is_one_reading_for_all_aspects_and_the_pooled_reward():
    found = pool(Data(100, 4, 4, 50, 100, 0, labelled=0.5))  # 60 000 distinct tokens
    one_reading = 2e9 * 60_000
    assert selection_flops(found, ROUND, kind="probe") == (0.0, one_reading)
    assert pooled_flops(found, ROUND, kind="probe") == (0.0, one_reading)
    training, scoring = aspects_flops(found, ROUND, kind="shared")  # the prompts name the aspect: so do the reference's
    assert training == 8e9 * 90_000 and scoring == 4 * 2 * one_reading


def test_the_ledger_of_a_profile_by_hand(profile):
    table, paper = ledger(profile()), profile()
    assert list(table.index) == ["PD(classifier)", "PD(implicit)", "PD(shared)", "PD(probe)", "RAF", "ALL"]
    assert (table["total"] == table["selection"] + table["training"]).all() and table.loc["ALL", "of ALL"] == 1
    pairs = pool(DATA["ultrafeedback"], n_held_out=200, conflict=0.3, max_length=2048)
    reading = 2 * 1.236e9 * pairs.distinct / 0.4 / 312e12 / 3600
    assert table.loc["PD(probe)", "selection"] == pytest.approx(reading)
    assert table.loc["PD(probe)", "of ALL"] == pytest.approx(0.3 + reading / table.loc["ALL", "total"])
    assert table.loc["PD(probe)", "of ALL"] < 0.4
    assert table.loc["PD(classifier)", "published of ALL"] == pytest.approx(18.6 / 33.6)
    same = paper | {"02_proxies": paper["02_proxies"] | {"model": paper["04_dpo"]["model"]}}
    assert ledger(same).loc["PD(probe)", "training"] == pytest.approx(0.3 * 6 / 8 * table.loc["ALL", "training"])


def test_a_profile_with_probes_trains_no_proxy(profile):
    paper = profile()
    probes = paper | {"02_proxies": paper["02_proxies"] | {"kind": "probe"}}
    hours = gpu_jobs(probes)["gpu_hours"]
    assert hours["proxies"] < gpu_jobs(paper)["gpu_hours"]["proxies"] / 10 and hours["dpo"] > 0
    assert disk(probes)["proxies"] == 0 < disk(probes)["features"] < 20
    checks = {
        "02b_proxy_checks": {"compare_with": [], "replicates": 4, "probe_replicates": 200}
    }  # they share a reading
    assert gpu_jobs(probes | checks).loc["proxy_checks", "gpu_hours"] == pytest.approx(hours["proxies"])


def test_memory_of_training_by_hand():
    beside = 1000 * (2 * 10 + 34) * 1000 + 1000 * 10 * 100_000 + CONTEXT  # activations and logits of 1 000 tokens
    assert training_memory(ROUND, tokens=1000) == 16e9 + beside
    assert training_memory(ROUND, tokens=1000, shards=4) == 4e9 + beside
    assert training_memory(ROUND, tokens=1000, optimizer_bytes=2) == 10e9 + beside
    assert training_memory(ROUND, tokens=1000, logits=False) == 16e9 + beside - 1e9
    adapters = lora_parameters(ROUND, 16)  # 7 x 10 matrices of 16 x (2.5 + 2.5) x 1 000
    assert adapters == 5_600_000
    assert training_memory(ROUND, tokens=1000, lora_rank=16) == 2e9 + 16 * adapters + beside
    kept = training_memory(ROUND, tokens=1000, checkpointing=False)
    assert kept - training_memory(ROUND, tokens=1000) == 1000 * 1000 * (34 * 10 - (2 * 10 + 34))


def test_memory_of_reading_and_writing_by_hand():
    assert reading_memory(ROUND, tokens=1000, logits=False) == 2e9 + 34e6 + CONTEXT
    assert reading_memory(ROUND, tokens=1000) == 2e9 + 34e6 + 1e9 + CONTEXT
    cache = 2 * 2 * 10 * 1000 * 8 * 500  # keys and values, two bytes, ten layers, eight rows of 500 tokens
    assert generation_memory(ROUND, batch_size=8, tokens=500) == 2e9 + cache + CONTEXT


def test_seconds_of_generating_by_hand():
    gpu = Gpu(peak=1e12, memory=24 * GB, bandwidth=1e12)
    seconds = generation_seconds(ROUND, gpu, prompts=20, prompt_tokens=100, new_tokens=50, batch_size=8, share=0.5)
    reading = 2e9 * 2000 / 1e12
    steps = 3 * 50 * (2e9 + 2 * 2 * 10 * 1000 * 8 * 125) / 1e12  # three batches; halfway, a row holds 125 tokens
    assert seconds == pytest.approx((reading + steps) / 0.5)


def test_sizes_are_known_counted_or_asked_for():
    assert find_model("meta-llama/Llama-3.2-1B").parameters == 1.236e9
    # 66 words in and out of 64 numbers; three layers of four 64 x 64 and three 64 x 192 matrices and two norms; a last norm
    assert find_model("notesworld").parameters == 2 * 66 * 64 + 3 * (4 * 64**2 + 3 * 64 * 192 + 2 * 64) + 64 == 168_640
    with pytest.raises(
        ValueError, match=r"model no/such: its config cannot be read.*MODELS in pdsel/pipeline/compute\.py"
    ):
        find_model("no/such")
    with pytest.raises(ValueError, match=r"gpu 'abacus' is unknown\. Remedy: use one of \['2 CPU cores', 'A10G'"):
        find_gpu("abacus")


def test_the_order_of_magnitude_is_the_papers():
    """A check on the rules of thumb: they are not fitted to these hours, and the paper's GPU is not known to us."""
    table = published_comparison()
    assert list(table["published"].round(1)) == [33.6, 10.1, 8.5, 6.1]
    ratio = table["estimated"] / table["published"]
    assert ratio.between(1 / 3, 3).all(), table


def test_jobs_are_counted_by_the_graph(tmp_path):
    """By hand: nine methods, and the rules of the field, which the list that was kept by hand forgot."""
    mini = jobs("mini")
    assert {rule: mini[rule] for rule in ("data", "proxies", "rules", "dpo", "results")} == {
        "data": 1,
        "proxies": 1,
        "rules": 1,
        "dpo": 9,
        "results": 1,
    }
    own = tmp_path / "own.yaml"
    own.write_text("grid: {conflicts: [0.1, 0.3], seeds: [0], methods: [ALL]}\n03b_rules: {train: true}\n")
    counted = jobs(own)
    assert {rule: counted[rule] for rule in ("dpo", "league", "league_world")} == {
        "dpo": 2,
        "league": 1,
        "league_world": 1,
    }


def test_a_profile_without_a_graph_is_refused(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("grid: {conflicts: [0.1], seeds: [0], methods: [ALL]}\nresources: {dpoo: {gpu: 1}}\n")
    with pytest.raises(ValueError, match=r"(?s)own\.yaml: Snakemake cannot build its graph:.*dpoo"):
        jobs(own)


def test_every_job_of_a_large_profile_is_listed_with_its_resources(tmp_path):
    """What SLURM is asked for is in the graph, whoever executes it; with the plugin at hand, under its profile."""
    how = ["--cores", "1"]
    try:
        import snakemake_executor_plugin_slurm  # noqa: F401

        how = ["--workflow-profile", "notebooks/slurm"]
    except ImportError:
        pass
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "notebooks/Snakefile",
        *how,
        "--nolock",
        "--dry-run",
        "--printshellcmds",
        "--config",
        "profile=paper",
        f"results={tmp_path}",
    ]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout + shown.stderr
    found = re.findall(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", text, re.M)
    by_rule = {rule: resources for rule, resources in found}
    assert sum(rule == "dpo" for rule, _ in found) == 27
    for rule, memory in {"proxies": 256_000, "dpo": 320_000}.items():
        assert {"gpu=4", f"mem_mb={memory}", "cpus_per_task=32"} <= set(by_rule[rule].split(", "))
    assert {"gpu=1", "runtime=2880"} <= set(by_rule["evaluation"].split(", "))
    assert "gpu" not in by_rule["data"]
    assert "learning_rate: 5.0e-07" in text  # papermill reads YAML, to which JSON's 5e-07 is a word


def test_resources_of_a_rule_that_does_not_exist_stop_the_run(tmp_path):
    (tmp_path / "odd.yaml").write_text(
        "grid: {conflicts: [0.3], seeds: [0], methods: [PD]}\nresources: {dpoo: {gpu: 1}}\n"
    )
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "notebooks/Snakefile",
        "--cores",
        "1",
        "--nolock",
        "--dry-run",
        "--config",
        f"profile={tmp_path / 'odd.yaml'}",
        f"results={tmp_path}",
    ]
    stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert stopped.returncode != 0
    assert "resources for rules that do not exist: ['dpoo']" in stopped.stdout + stopped.stderr


@pytest.mark.parametrize("name", LARGE)
def test_a_profile_fits_the_gpu_that_it_names(name, profile):
    table = gpu_jobs(profile(name))
    assert (table["memory"] * GB < GPUS[profile(name)["hardware"]["gpu"]].memory).all(), table
    limits = profile(name)["resources"]
    for rule, longest in table["longest"].items():
        assert limits[rule]["runtime"] / 60 > 2 * longest, f"{rule}: a time limit needs room for a wrong estimate"


def test_a_large_batch_of_the_reference_is_seen_to_need_memory(profile):
    paper = profile()
    training = paper["04_dpo"]["training"] | {"precompute_ref_batch_size": 512}
    table = gpu_jobs(paper | {"04_dpo": paper["04_dpo"] | {"training": training}})
    assert table.loc["dpo", "memory"] * GB > 2 * 512 * 2048 * 10 * 128_264  # their logits alone


def test_more_conflict_levels_and_methods_cost_more(profile):
    paper = profile()
    fewer = paper | {"grid": paper["grid"] | {"conflicts": [0.3], "methods": ["ALL", "PD"]}}
    table, less = gpu_jobs(paper), gpu_jobs(fewer)
    assert less["jobs"].to_dict() == {"proxies": 1, "dpo": 2, "evaluation": 1}
    assert (less["gpu_hours"] < table["gpu_hours"]).all()
    one = pool(DATA["ultrafeedback"], n_held_out=200, conflict=0.3, max_length=2048)
    assert one.pairs < pool(DATA["ultrafeedback"], conflict=0.3, max_length=2048).pairs, (
        "held-out pairs are not trained on"
    )
    flops = sum(method_flops(m, one, find_model(paper["04_dpo"]["model"]), share=0.3) for m in ("ALL", "PD"))
    assert less.loc["dpo", "gpu_hours"] == pytest.approx(flops / 0.35 / 312e12 / 3600)


def test_checks_of_the_proxies_cost_what_they_train(profile):
    checks = {"02b_proxy_checks": {"compare_with": [], "replicates": 2}}
    hours = gpu_jobs(profile() | checks)["gpu_hours"]
    none = {"02b_proxy_checks": {"compare_with": ["classifier"], "replicates": 0}}  # the kind of 02 itself
    assert gpu_jobs(profile() | none).loc["proxy_checks", "gpu_hours"] == 0
    assert hours["proxy_checks"] < hours["proxies"] * 2  # there is no pooled proxy
    assert hours["proxy_checks"] > hours["proxies"]


def test_disk_and_downloads_by_hand(profile):
    paper = profile()
    found = downloads(paper)
    assert found["allenai/Llama-3.1-Tulu-3-8B-SFT"] == 2 * 8.03
    assert sorted(found) == ["allenai/Llama-3.1-Tulu-3-8B-SFT", "meta-llama/Llama-3.2-1B", "ultrafeedback"]  # once each
    room = disk(paper)
    assert room["policies"] == pytest.approx(27 * 2 * 8.03)  # bf16
    assert room["proxies"] == pytest.approx(3 * 5 * 2 * 1.236)
    full = paper | {"04_dpo": paper["04_dpo"] | {"training": {}}}
    assert disk(full)["policies"] == pytest.approx(27 * 4 * 8.03)
    assert disk(full)["checkpoint"] == 0
    assert room["checkpoint"] == pytest.approx(12 * 8.03)


def test_questions_to_a_paid_judge_by_hand(profile):
    paper = profile()
    sets = 80 + 156 + 218 + 252 + 300
    assert comparisons(paper) == 9 * 805 + 9 * sets
    asked, cost = questions(paper)
    assert asked == 2 * (9 * 805 + 9 * sets + 4 * 805) * 3  # both orders, the constants, three levels
    assert cost == pytest.approx(asked * (1200 * 2.0 + 1 * 8.0) / 1e6)
    assert questions(profile("small")) == (0, None)
    assert comparisons(profile("small")) == 9 * 805 + 9 * (80 + 156 + 252) + 45 * 805


def test_measured_throughput_replaces_what_is_assumed(tmp_path):
    shares, said = shares_of_peak(NOTHING)
    assert "35 % for training (assumed)" in said
    path = tmp_path / "throughput.csv"
    rows = [
        "DPO in full: pdsel,0.45",
        "DPO in full: TRL's defaults,0.3",
        "scoring: pdsel,0.6",
        "DPO with adapters: pdsel,",
    ]
    path.write_text("\n".join(["way,share_of_peak", *rows]) + "\n")
    measured, said = shares_of_peak(path)
    assert measured == shares | {"training": 0.45, "scoring": 0.6}
    assert "45 % for training (measured), 30 % for training with LoRA (assumed), 60 % for scoring (measured)" in said


def test_adapters_have_a_share_of_their_own(profile):
    paper = profile()
    training = paper["04_dpo"]["training"] | {"lora_rank": 16}
    shares = shares_of_peak(NOTHING)[0] | {"training with LoRA": 0.175}
    table, lora = (
        gpu_jobs(p, shares=shares) for p in (paper, paper | {"04_dpo": paper["04_dpo"] | {"training": training}})
    )
    assert lora.loc["dpo", "gpu_hours"] == pytest.approx(
        table.loc["dpo", "gpu_hours"] * 6 / 8 * 2
    )  # fewer FLOPs, half the share
    assert lora.loc["dpo", "memory"] < table.loc["dpo", "memory"]


def test_what_a_profile_leaves_out_is_the_notebooks_own(tmp_path):
    """A profile that names models and hardware only is a valid one."""
    own = tmp_path / "own.yaml"
    own.write_text(
        "hardware: {gpu: L4}\n"
        "grid: {conflicts: [0.3], seeds: [0], methods: [ALL, PD]}\n"
        "02_proxies: {model: meta-llama/Llama-3.2-1B}\n"
        "04_dpo: {model: meta-llama/Llama-3.2-1B}\n"
        "05_evaluation: {model: meta-llama/Llama-3.2-1B}\n"
    )
    found = read_profile(str(own))
    assert (found["02_proxies"]["kind"], found["04_dpo"]["batch_size"]) == ("implicit", 16)
    assert found["05_evaluation"]["judge"] == "gold"
    needed = costs(found)
    assert (needed.work["gpu_hours"] > 0).all()
    assert sum(needed.disk.values()) > needed.downloads["meta-llama/Llama-3.2-1B"]
    assert "Judge: gold (the truth of the notes world)." in plan(str(own), throughput=NOTHING)


def test_a_paid_judge_without_a_price_is_not_a_reward_model(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("extends: paper\n05_evaluation: {llm_options: {concurrency: 4}}\n")
    assert "117114 questions, price unknown |" in plans([str(own)], throughput=NOTHING)["plans"]
    own.write_text("extends: paper\n05_evaluation: {llm_options: {price_per_million: 0}}\n")
    assert "117114 questions, 0 dollars |" in plans([str(own)], throughput=NOTHING)["plans"]


def test_a_plan_says_it_all():
    text = plan("paper", throughput=NOTHING)
    for part in (
        "Profile paper: ",
        "GPU hours: ",
        "Disk: ",
        "Downloads: ",
        "(assumed)",
        "| dpo |",
        "| PD(probe) |",
        "18.6",
    ):
        assert part in text
    assert "Judge: gpt-4.1 (117114 questions, 282 dollars)." in text
    assert "TOO MUCH" not in text


def test_a_plan_says_what_does_not_fit(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("extends: small\nhardware: {gpu: A10G}\n04_dpo: {batch_size: 512}\n")
    text = plan(str(own), throughput=NOTHING)
    assert "TOO MUCH for 24 GB: dpo. Remedy: more gradient_accumulation_steps, or a larger GPU." in text
    assert "Judge: Skywork/Skywork-Reward-Llama-3.1-8B-v0.2 (a reward model)." in text


def test_a_plan_of_the_notes_world_needs_no_gpu():
    text = plan("mini")
    assert "No GPU, no download" in text and "selection (s on a core)" in text and "| ALL | 0 |" in text


def test_the_ledgers_of_profiles_are_a_block_of_the_docs():
    text = ledgers(["mini", "small"], throughput=NOTHING)["ledger"]
    assert "`mini`:" in text and "`small`:" in text and text.count("| PD(probe) |") == 2


def test_the_book_has_the_plans():
    book = shown_blocks(ROOT)
    for name, text in (plans(LARGE) | ledgers(LARGE)).items():
        assert book[name] == {text}, "run make results"
