"""What a profile will take, before anything runs: jobs, GPU hours, memory, disk, downloads, and questions to a paid judge.

`make plan PROFILE=paper` prints it, and the book has a table of the large profiles. The jobs are counted by Snakemake, what a
profile leaves out is read from the notebooks, and everything else follows from counts of tokens and parameters
(`pdsel.pipeline.compute`) and from what a GPU reaches of its peak: measured where `results/gpu/throughput.csv` is there,
otherwise assumed.
"""

import inspect
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import pandas as pd

from pdsel.checks import DataError
from pdsel.engine.features import SKETCH
from pdsel.engine.scoring import BATCH_TOKENS
from pdsel.evaluation.judges.audit import NULLS
from pdsel.experiments.published import MAIN
from pdsel.generation import generate
from pdsel.notesworld import model_path
from pdsel.pipeline.compute import (
    CORE,
    CORES,
    GB,
    HALF,
    MASTER,
    READINGS,
    Data,
    aspects_flops,
    dpo_flops,
    find_gpu,
    find_model,
    forward_flops,
    generation_memory,
    generation_seconds,
    method_flops,
    pool,
    pooled_flops,
    reading_memory,
    selection_flops,
    training_memory,
)
from pdsel.pipeline.profiles import find_profile, load_profile, notebook_defaults
from pdsel.pipeline.text import markdown

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
STAGES = ["01_data", "02_proxies", "03_selection", "04_dpo", "05_evaluation"]  # the notebooks whose work is counted
CHECKS = "02b_proxy_checks"  # counted, too, where a profile has a section for it, as the graph runs it only there
THROUGHPUT = ROOT / "results" / "gpu" / "throughput.csv"

# What a GPU reaches of its peak (of its bandwidth, for generation) where nothing was measured.
ASSUMED = {"training": 0.35, "training with LoRA": 0.3, "scoring": 0.4, "generation": 0.3}
# The same on one core of a CPU, of a model as small as the notes world's, whose batches are small, too.
ASSUMED_ON_A_CORE = {"training": 0.35, "training with LoRA": 0.3, "scoring": 0.12, "generation": 0.3}
# The row of the bench that measures a kind of work.
MEASURED = {
    "training": "DPO in full: pdsel",
    "training with LoRA": "DPO with adapters: pdsel",
    "scoring": "scoring: pdsel",
}
DATA = {
    # arXiv 2310.01377, Table 1, without the 811 prompts of TruthfulQA
    "ultrafeedback": Data(63_156, 4, 4, 185, 305, 0.9),
    # 35 331 rows; the tokens are assumed: half of the prompts hold a document
    "helpsteer": Data(9_900, 3.55, 3, 500, 125, 0.02),
    # 20 324 rows; the tokens are assumed
    "helpsteer2": Data(10_162, 2, 3, 350, 350, 0.02),
    "notesworld": Data(700, 4, 4, 20, 12, 0),
    # half of the inputs that people rated; the tokens were counted
    "../results/local/pocket/start/ratings.jsonl": Data(89, 15, 5, 75, 40, 0),
}
PROMPTS = {  # in each evaluation set
    "notesworld": 500,
    "alpaca_eval": 805,
    "vicuna": 80,
    "koala": 156,
    "self_instruct": 252,
    "lima": 300,
    "wizardlm": 218,
    "../results/local/pocket/start/prompts.jsonl": 741,
}
HOUR = 3600
OF_THE_PAPER = {"PD(classifier)": "PD"}  # whose proxies are classifiers
OPTIMIZER = 8  # bytes a parameter in a checkpoint, beside the weights
CHARACTERS = 4.2  # bytes of text a token
QUESTION_TOKENS = 1200  # what a judge reads to compare two outputs: assumed
ANSWER_TOKENS = 1
PROMPT_TOKENS = 512  # the longest evaluation prompt that a batch is assumed to hold


def read_profile(profile):
    """A profile with the notebooks' own defaults wherever it leaves a key, or a whole section, out.

    Parameters
    ----------
    profile : str
        The name of a file in notebooks/profiles, or the path of one elsewhere.

    Raises
    ------
    ValueError
        As `find_profile` and `load_profile`.
    """
    sections = load_profile(find_profile(profile), notebooks=NOTEBOOKS)
    stages = [*STAGES, CHECKS] if CHECKS in sections else STAGES
    defaults = {stage: notebook_defaults(NOTEBOOKS / f"{stage}.ipynb") for stage in stages}
    return sections | {stage: defaults[stage] | (sections.get(stage) or {}) for stage in stages}


def jobs(profile):
    """How many jobs of each rule a new run of a profile has, as the graph itself counts them.

    Parameters
    ----------
    profile : str
        A name or a path, see `read_profile`.

    Returns
    -------
    dict
        Rule to number, in Snakemake's order.
    """
    with tempfile.TemporaryDirectory() as nothing_yet:
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            NOTEBOOKS / "Snakefile",
            "--cores",
            "1",
            "--nolock",
        ]
        settings = [f"profile={find_profile(profile).resolve()}", f"results={nothing_yet}"]
        run = subprocess.run([*command, "--dry-run", "--config", *settings], cwd=ROOT, capture_output=True, text=True)
    printed = run.stdout + run.stderr
    listed = re.search(r"^job +count\n-.*\n((?:\w+ +\d+\n)+)", printed, re.MULTILINE)
    if run.returncode or listed is None:
        raise DataError(f"profile {profile}: Snakemake cannot build its graph:\n{printed.strip()}")
    counts = dict(line.split() for line in listed[1].splitlines())
    return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "total")}


def shares_of_peak(path=THROUGHPUT):
    """What a GPU reaches of its peak, by kind of work, and a sentence that says where this is from.

    It is measured where the file of `python -m bench.throughput` is there: the column `share_of_peak` of the rows that
    `MEASURED` names by their `way`. A share of the peak counts the operations of the model only, not what checkpointing
    computes twice.
    """
    measured = {}
    if Path(path).exists():
        by_way = pd.read_csv(path).set_index("way")["share_of_peak"].dropna()
        measured = {work: float(by_way[way]) for work, way in MEASURED.items() if way in by_way}
    shares = ASSUMED | measured
    parts = []
    for work, share in shares.items():
        parts.append(f"{100 * share:.0f} % for {work} ({'measured' if work in measured else 'assumed'})")
    return shares, f"Estimated from FLOP counts; shares of the GPU's peak: {', '.join(parts)}."


def n_runs(profile):
    """The number of runs of the grid: one per conflict level and seed."""
    return len(profile["grid"]["conflicts"]) * len(profile["grid"]["seeds"])


def pools(profile):
    """The pairs of each conflict level of the grid; a file of the user's own is taken to be as large as UltraFeedback."""
    section = profile["01_data"]
    data = DATA.get(section["source"], DATA["ultrafeedback"])
    options = {name: section[name] for name in ("n_prompts", "n_held_out", "size", "max_length")}
    return [pool(data, conflict=level, **options) for level in profile["grid"]["conflicts"]]


def gpu_jobs(profile, *, shares=ASSUMED):
    """The jobs of a profile that need a GPU, a row per rule.

    Parameters
    ----------
    profile : dict
        From `read_profile`, with a section `hardware`.
    shares : dict
        What a GPU reaches: of its peak for "training", "training with LoRA" and "scoring", of its bandwidth for "generation".

    Returns
    -------
    pandas.DataFrame
        Index `rule`; columns `jobs`, `gpus` of a job, `gpu_hours` of all jobs, `longest` (hours of the longest job, on its
        GPUs), `memory` (GB on each GPU at most).
    """
    gpu, grid, levels = find_gpu(profile["hardware"]["gpu"]), profile["grid"], pools(profile)
    of_one_seed = {
        "proxies": [_proxy_hours(profile, pairs, gpu, shares) for pairs in levels],
        "dpo": [_dpo_hours(profile, method, pairs, gpu, shares) for pairs in levels for method in grid["methods"]],
        "evaluation": [_evaluation_hours(profile, gpu, shares) for _ in levels],
    }
    memory = {"proxies": _proxy_memory(profile), "dpo": _dpo_memory(profile), "evaluation": _evaluation_memory(profile)}
    if CHECKS in profile:
        of_one_seed["proxy_checks"] = [_check_hours(profile, pairs, gpu, shares) for pairs in levels]
        memory["proxy_checks"] = memory["proxies"]
    rows = []
    for rule, hours in of_one_seed.items():
        gpus = _gpus(profile, rule)
        rows.append(
            {
                "rule": rule,
                "jobs": len(hours) * len(grid["seeds"]),
                "gpus": gpus,
                "gpu_hours": sum(hours * len(grid["seeds"])),
                "longest": max(hours) / gpus,
                "memory": memory[rule] / GB,
            }
        )
    return pd.DataFrame(rows).set_index("rule")


def _gpus(profile, rule):
    """The GPUs of one job."""
    return (profile.get("resources") or {}).get(rule, {}).get("gpu", 1)


def _lora(section):
    return section["training"].get("lora_rank")


def _training_share(section, shares):
    """What a GPU reaches of its peak when the models of a notebook are trained."""
    return shares["training with LoRA" if _lora(section) else "training"]


def _proxy_hours(profile, pairs, gpu, shares, *, flops=selection_flops, kind=None):
    """Proxies of a kind, by default the profile's own: those of the aspects, the pooled one, or (the default) both."""
    section = profile["02_proxies"]
    passes = {"epochs": section["epochs"], "share": section["share"], "lora": bool(_lora(section))}
    training, scoring = flops(pairs, find_model(section["model"]), kind=kind or section["kind"], **passes)
    return (training / _training_share(section, shares) + scoring / shares["scoring"]) / gpu.peak / HOUR


def _check_hours(profile, pairs, gpu, shares):
    """The other kinds and the bootstrap replicates, without a pooled proxy; replicates of probes share one reading."""
    kind, checks = profile["02_proxies"]["kind"], profile[CHECKS]
    kinds = [other for other in checks["compare_with"] if other != kind]
    kinds += [kind] * (min(1, checks["probe_replicates"]) if kind == "probe" else checks["replicates"])
    return sum(_proxy_hours(profile, pairs, gpu, shares, flops=aspects_flops, kind=each) for each in kinds)


def _dpo_hours(profile, method, pairs, gpu, shares):
    section, kept = profile["04_dpo"], profile["03_selection"]["share"]
    model, lora = find_model(section["model"]), bool(_lora(section))
    flops = method_flops(method, pairs, model, share=kept, epochs=section["epochs"], lora=lora)
    return flops / _training_share(section, shares) / gpu.peak / HOUR


def ledger(profile, *, shares=None):
    """What selecting with each kind of proxy costs, and training on what was selected, beside training on everything.

    Parameters
    ----------
    profile : dict
        From `read_profile`. Without a section `hardware` it runs on a core of a CPU.
    shares : dict, optional
        As in `gpu_jobs`; default: what is assumed of a GPU, or of a core.

    Returns
    -------
    pandas.DataFrame
        Index `method`: PD with each kind, RAF with the profile's own, ALL. Hours of one run at the highest level of conflict:
        `selection`, `training`, `total`; `of ALL`, the total over that of ALL; `published`, the paper's GPU hours, and
        `published of ALL`. Where proxies start from the policy's own start, a probe's reading is the reference's pass of
        the training as well, which is then not counted again.
    """
    on_gpu = "hardware" in profile
    gpu = find_gpu(profile["hardware"]["gpu"]) if on_gpu else CORE
    shares = shares or (ASSUMED if on_gpu else ASSUMED_ON_A_CORE)
    pairs = _highest_pool(profile)
    rows = {}
    for kind in READINGS:
        selection = _proxy_hours(profile, pairs, gpu, shares, flops=aspects_flops, kind=kind)
        training = _dpo_hours(profile, "PD", pairs, gpu, shares)
        if kind == "probe" and profile["02_proxies"]["model"] == profile["04_dpo"]["model"]:
            training -= _reference_hours(profile, pairs, gpu, shares)
        rows[f"PD({kind})"] = {"selection": selection, "training": training}
    raf = _proxy_hours(profile, pairs, gpu, shares, flops=pooled_flops)
    rows["RAF"] = {"selection": raf, "training": _dpo_hours(profile, "RAF", pairs, gpu, shares)}
    rows["ALL"] = {"selection": 0.0, "training": _dpo_hours(profile, "ALL", pairs, gpu, shares)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    table["total"] = table["selection"] + table["training"]
    table["of ALL"] = table["total"] / table.loc["ALL", "total"]
    paper = MAIN["GPU hours"]
    table["published"] = [paper.get(OF_THE_PAPER.get(method, method), float("nan")) for method in table.index]
    table["published of ALL"] = table["published"] / paper["ALL"]
    return table


def _highest_pool(profile):
    """The pairs at the highest level of conflict; without a grid, as they fall."""
    levels = pools(profile) or pools(profile | {"grid": {"conflicts": [None]}})
    return levels[-1]


def _reference_hours(profile, pairs, gpu, shares):
    """The reference's pass over the pairs that are kept."""
    section, kept = profile["04_dpo"], profile["03_selection"]["share"]
    flops = forward_flops(find_model(section["model"]).parameters, kept * pairs.tokens)
    return flops / _training_share(section, shares) / gpu.peak / HOUR


def ledger_rows(profile, *, shares=None):
    """The ledger of a profile as a table of text: hours on a GPU, seconds on a core."""
    unit, scale, digits = ("GPU hours", 1, 2) if "hardware" in profile else ("s on a core", HOUR, 0)
    rows = []
    for method, row in ledger(profile, shares=shares).iterrows():
        text = {"method": method}
        for part in ("selection", "training", "total"):
            text[f"{part} ({unit})"] = f"{scale * row[part]:.{digits}f}"
        text["of ALL"] = f"{row['of ALL']:.2f}"
        known = row["published"] == row["published"]
        text["the paper's GPU hours"] = f"{row['published']:.1f}" if known else ""
        text["of its ALL"] = f"{row['published of ALL']:.2f}" if known else ""
        rows.append(text)
    return pd.DataFrame(rows)


def _evaluation_hours(profile, gpu, shares):
    section = profile["05_evaluation"]
    data = DATA.get(profile["01_data"]["source"], DATA["ultrafeedback"])
    n_policies = 1 + len(profile["grid"]["methods"])
    prompts, open_prompts = n_prompts(section)
    seconds = generation_seconds(
        find_model(section["model"]),
        gpu,
        prompts=n_policies * (prompts + open_prompts),
        prompt_tokens=data.prompt_tokens,
        new_tokens=section["max_new_tokens"],
        batch_size=_generation_batch(section),
        share=shares["generation"],
    )
    if _judged_elsewhere(section):
        return seconds / HOUR
    texts = 2 * (comparisons(profile) + len(NULLS) * prompts)  # null models are judged in 05b
    tokens = texts * (data.prompt_tokens + section["max_new_tokens"])
    reading = forward_flops(find_model(section["judge"]).parameters, tokens)
    return (seconds + reading / gpu.peak / shares["scoring"]) / HOUR


def _judged_elsewhere(section):
    """Whether no model on the GPU judges: the notes world's truth does, or a language model at an endpoint."""
    return section["judge"] in ("gold", section["llm_judge"])


def _generation_batch(section):
    return section["generation"].get("batch_size", inspect.signature(generate).parameters["batch_size"].default)


def n_prompts(section):
    """The number of evaluation prompts: for win rates, and in the open sets."""
    most, most_of_a_set = section["n_prompts"] or float("inf"), section["n_family_prompts"] or float("inf")
    open_sets = [min(_size(name), most_of_a_set) for name in section["open_sets"]]
    return min(_size(section["eval_set"]), most), sum(open_sets)


def _size(eval_set):
    """The prompts of an evaluation set; a file, such as WizardLM's, is taken to be as large as WizardLM's."""
    return PROMPTS.get(eval_set, PROMPTS["wizardlm"])


def comparisons(profile):
    """Pairs of outputs that a run's judge compares: against SFT, against OVA on the open sets, each policy with each."""
    section = profile["05_evaluation"]
    prompts, open_prompts = n_prompts(section)
    n = len(profile["grid"]["methods"])
    duels = n * (n + 1) // 2 if section["everyone"] else 0
    return n * prompts + n * open_prompts + duels * prompts


def _pairs_at_once(section, gpus):
    """Pairs on one GPU at a time."""
    return ceil(section["batch_size"] / (gpus * section["training"].get("gradient_accumulation_steps", 1)))


def _training_memory(section, gpus, *, logits):
    options = section["training"]
    return training_memory(
        find_model(section["model"]),
        tokens=2 * _pairs_at_once(section, gpus) * section["max_length"],
        lora_rank=_lora(section),
        shards=gpus if section["accelerate"] in ("fsdp", "zero3") else 1,
        checkpointing=options.get("gradient_checkpointing", True),
        optimizer_bytes=2 if "8bit" in options.get("optim", "") else 8,
        logits=logits,
    )


def _proxy_memory(profile):
    section = profile["02_proxies"]
    logits = section["kind"] != "classifier"
    reading = reading_memory(find_model(section["model"]), tokens=BATCH_TOKENS, logits=logits)
    if section["kind"] == "probe":
        return reading
    return max(_training_memory(section, _gpus(profile, "proxies"), logits=logits), reading)


def _dpo_memory(profile):
    """Training, or the pass of the reference before it, which has batches of its own."""
    section, gpus = profile["04_dpo"], _gpus(profile, "dpo")
    pairs = section["training"].get("precompute_ref_batch_size", _pairs_at_once(section, gpus))
    reference = reading_memory(find_model(section["model"]), tokens=2 * pairs * section["max_length"])
    return max(_training_memory(section, gpus, logits=True), reference)


def _evaluation_memory(profile):
    section = profile["05_evaluation"]
    tokens = PROMPT_TOKENS + section["max_new_tokens"]
    writing = generation_memory(find_model(section["model"]), batch_size=_generation_batch(section), tokens=tokens)
    if _judged_elsewhere(section):
        return writing
    return max(writing, reading_memory(find_model(section["judge"]), tokens=BATCH_TOKENS, logits=False))


def downloads(profile):
    """What comes from the hub, name to GB: checkpoints in bf16, and the rated data; evaluation prompts are small."""
    judging = profile["05_evaluation"]
    names = {profile[stage]["model"] for stage in ("02_proxies", "04_dpo", "05_evaluation")}
    if not _judged_elsewhere(judging):
        names.add(judging["judge"])
    from_hub = [name for name in sorted(names) if not _is_here(name)]
    sizes = {name: HALF * find_model(name).parameters / GB for name in from_hub}
    source = profile["01_data"]["source"]
    return sizes | ({source: DATA[source].gigabytes} if source in DATA else {})


def _is_here(model):
    """Whether a model is a folder of this machine, or is to become one: hub names have no dots in front."""
    return model.startswith(("./", "../")) or Path(model_path(model)).is_dir()


def disk(profile):
    """What lies on the disk in the end, in GB: downloads, pairs, proxies, policies, and one checkpoint to resume from.

    Runs in bf16 save bf16, others float32; a checkpoint holds the weights as they are trained, in float32. Probes are small;
    the features of one run's pairs lie in a scratch folder while they are fitted.
    """
    proxy, policy = (profile[stage] for stage in ("02_proxies", "04_dpo"))
    levels = pools(profile)
    n_proxies = n_runs(profile) * (levels[0].aspects + 1)
    n_policies = n_runs(profile) * len(profile["grid"]["methods"])
    proxy_size, policy_size = (find_model(section["model"]).parameters for section in (proxy, policy))
    tokens = sum(level.tokens for level in levels) * len(profile["grid"]["seeds"])
    probes = proxy["kind"] == "probe"
    bytes_of = {
        "downloads": sum(downloads(profile).values()) * GB,
        "pairs": tokens * CHARACTERS,
        "proxies": 0 if probes else n_proxies * _saved_bytes(proxy) * proxy_size,
        "features": max(level.pairs for level in levels) * _feature_bytes(proxy) if probes else 0,
        "policies": n_policies * _saved_bytes(policy) * policy_size,
        "checkpoint": (MASTER + OPTIMIZER) * policy_size if "save_steps" in policy["training"] else 0,
    }
    return {name: size / GB for name, size in bytes_of.items()}


def _feature_bytes(section):
    """Bytes of one pair's features: four blocks of the width of a state, and the sketch of W."""
    return MASTER * (4 * find_model(section["model"]).hidden + SKETCH**2)


def _saved_bytes(section):
    """Bytes of a weight that the runs of a notebook save."""
    return HALF if section["training"].get("bf16") else MASTER


def questions(profile):
    """How often a paid judge is asked, and the dollars at the price of the profile (`None` without a price).

    Every comparison is asked in both orders. Equal outputs, about which nothing is asked, are not foreseen.
    """
    section = profile["05_evaluation"]
    if not section["llm_judge"]:
        return 0, None
    asked = 2 * (comparisons(profile) + len(NULLS) * n_prompts(section)[0]) * n_runs(profile)
    price = section["llm_options"].get("price_per_million")
    if price is None:
        return asked, None
    read, written = price if isinstance(price, list | tuple) else (price, price)
    return asked, asked * (read * QUESTION_TOKENS + written * ANSWER_TOKENS) / 1e6


@dataclass(frozen=True)
class Costs:
    """What one profile takes.

    `work` has the columns of `gpu_jobs`; `room` is the memory of a GPU, and `disk` and `downloads` map what it is to its
    size, all in GB; `judge` is the name of the judge, `asked` the questions to it if it is paid (otherwise 0), `dollars` what
    they cost (`None` without a price).
    """

    gpu: str
    room: float
    work: pd.DataFrame
    disk: dict
    downloads: dict
    judge: str
    asked: int
    dollars: float | None

    @property
    def too_large(self):
        """The rules whose jobs do not fit the memory of the GPU."""
        return list(self.work.index[self.work["memory"] > self.room])


def costs(profile, *, shares=ASSUMED):
    """What a profile with a section `hardware` takes, as `Costs`."""
    gpu, judging = profile["hardware"]["gpu"], profile["05_evaluation"]
    asked, dollars = questions(profile)
    return Costs(
        gpu=gpu,
        room=find_gpu(gpu).memory / GB,
        work=gpu_jobs(profile, shares=shares),
        disk=disk(profile),
        downloads=downloads(profile),
        judge=judging["llm_judge"] if asked else judging["judge"],
        asked=asked,
        dollars=dollars,
    )


PLAN = """
{work}

{ledger_title}
{ledger}

GPU hours: {hours:.0f} on {gpu} ({room:.0f} GB).{warning}
Disk: {disk}.
Downloads: {downloads}.
Judge: {judge}.
{basis} Pairs and tokens: from the data set's published counts."""
NO_HARDWARE = """No GPU, no download: the notes world on a CPU. README says how long it takes.

{ledger_title}
{ledger}"""
LEDGER_TITLE = (
    "Selecting, and training on what was selected, beside training on all pairs (one run, by the kind of proxies):"
)
WORK_COLUMNS = {
    "rule": "rule",
    "jobs": "jobs",
    "gpus": "GPUs a job",
    "gpu_hours": "GPU hours",
    "longest": "longest job (h)",
    "memory": "GB on each GPU",
}


def plan(profile, *, throughput=THROUGHPUT):
    """Everything that a profile will take, as text to print.

    Parameters
    ----------
    profile : str
        A name or a path, see `read_profile`.
    throughput : str or Path
        See `shares_of_peak`.
    """
    sections = read_profile(profile)
    counted = jobs(profile)
    listed = ", ".join(f"{n} {rule}" for rule, n in counted.items())
    first = f"Profile {find_profile(profile).stem}: {sum(counted.values())} jobs ({listed})."
    if "hardware" not in sections:
        return f"{first}\n" + NO_HARDWARE.format(ledger_title=LEDGER_TITLE, ledger=markdown(ledger_rows(sections)))
    shares, basis = shares_of_peak(throughput)
    needed = costs(sections, shares=shares)
    on_cores = needed.gpu == CORES
    digits = 2 if on_cores else 1
    work = needed.work.round({"gpu_hours": digits, "longest": digits, "memory": 0})
    text = f"{first}\n" + PLAN.format(
        work=markdown(work.reset_index().rename(columns=WORK_COLUMNS)),
        ledger_title=LEDGER_TITLE,
        ledger=markdown(ledger_rows(sections, shares=shares)),
        hours=needed.work["gpu_hours"].sum(),
        gpu=needed.gpu,
        room=needed.room,
        warning=_warning(needed),
        disk=_sum_of(needed.disk),
        downloads=_sum_of(needed.downloads),
        judge=f"{needed.judge} ({_judge(needed)})",
        basis=basis,
    )
    return _said_of_cores(text) if on_cores else text


def _said_of_cores(text):
    """A plan whose "GPU" is a machine's two cores, in its words; the paper's hours stay its GPU's.

    >>> _said_of_cores("| longest job (h) | GPU hours | GB on each GPU | the paper's GPU hours |")
    "| longest job (h) | hours | GB | the paper's GPU hours |"
    """
    for gpu, cores in {" on each GPU": "", "| GPUs a job": "| machines a job", "the GPU's": "the cores'"}.items():
        text = text.replace(gpu, cores)
    return re.sub(r"(?<!paper's )GPU hours", "hours", text)


def _warning(needed):
    if not needed.too_large:
        return ""
    return (
        f"\nTOO MUCH for {needed.room:.0f} GB: {', '.join(needed.too_large)}. Remedy: more gradient_accumulation_steps, or a "
        "larger GPU."
    )


def _sum_of(sizes):
    """Sizes in GB as text.

    >>> _sum_of({"pairs": 1.25, "proxies": 2.0, "checkpoint": 0})
    '3 GB (pairs 1.2, proxies 2.0)'
    """
    parts = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items() if size)
    return f"{sum(sizes.values()):.0f} GB" + (f" ({parts})" if parts else "")


def _judge(needed):
    """What kind of judge it is, or what it is asked and at what price."""
    if needed.judge == "gold":
        return "the truth of the notes world"
    if not needed.asked:
        return "a reward model"
    price = "price unknown" if needed.dollars is None else f"{needed.dollars:.0f} dollars"
    return f"{needed.asked} questions, {price}"


def plans(profiles, *, throughput=THROUGHPUT):
    """What profiles take, side by side, and where the numbers are from: blocks of the book.

    Parameters
    ----------
    profiles : sequence of str
        Names or paths, see `read_profile`.
    throughput : str or Path
        See `shares_of_peak`.

    Returns
    -------
    dict
        `plans`, a Markdown table with a row per profile, and `plans_basis`, a sentence.
    """
    if not profiles:
        return {}
    shares, basis = shares_of_peak(throughput)
    rows = [_row(profile, costs(read_profile(profile), shares=shares)) for profile in profiles]
    return {"plans": markdown(pd.DataFrame(rows)), "plans_basis": basis}


def ledgers(profiles, *, throughput=THROUGHPUT):
    """The ledgers of profiles, one below the other: a block of the book.

    Parameters
    ----------
    profiles : sequence of str
        Names or paths, see `read_profile`.
    throughput : str or Path
        See `shares_of_peak`; it says nothing of a core.

    Returns
    -------
    dict
        `ledger`, a heading and a Markdown table for each profile.
    """
    measured, parts = shares_of_peak(throughput)[0], []
    for profile in profiles:
        sections = read_profile(profile)
        rows = ledger_rows(sections, shares=measured if "hardware" in sections else None)
        parts.append(f"`{find_profile(profile).stem}`:\n\n{markdown(rows)}")
    return {"ledger": "\n\n".join(parts)}


def _row(profile, needed):
    return {
        "profile": f"`{find_profile(profile).stem}`",
        "GPUs": f"{needed.work['gpus'].max()} x {needed.gpu}",
        "memory on each (GB)": f"{needed.work['memory'].max():.0f}",
        "GPU hours": f"{needed.work['gpu_hours'].sum():.0f}",
        "longest job (h)": f"{needed.work['longest'].max():.1f}",
        "disk (GB)": f"{sum(needed.disk.values()):.0f}",
        "downloads (GB)": f"{sum(needed.downloads.values()):.0f}",
        "judge": _judge(needed),
    }


def published_comparison(gpu="A100 80GB"):
    """The paper's GPU hours beside what these rules of thumb say of its setting, on a GPU of our choice: a check, not a fit.

    The setting is UltraFeedback, Llama-3.1-8B, 30 % kept, four proxies of 1 B and the pooled one. The paper's GPU and its
    number of pairs are unknown to us, so only the order of magnitude can be compared.

    Returns
    -------
    pandas.DataFrame
        Index: what; columns `estimated` and `published`, in GPU hours.
    """
    policy, proxy = find_model("allenai/Llama-3.1-Tulu-3-8B-SFT"), find_model("meta-llama/Llama-3.2-1B")
    pairs = pool(DATA["ultrafeedback"], conflict=0.3, max_length=2048)
    full = dpo_flops(policy.parameters, pairs.tokens) / ASSUMED["training"]
    training, scoring = selection_flops(pairs, proxy, kind="classifier")
    # The proxies of the aspects read all pairs once between them, and so does the pooled one.
    one_pass = training / 2 / ASSUMED["training"]
    one_scoring = scoring / (pairs.aspects + 1) / ASSUMED["scoring"]
    flops = {
        "FULL": full,
        "30 %": 0.3 * full,
        "PD's proxies": one_pass + pairs.aspects * one_scoring,
        "RAF's reward": one_pass + one_scoring,
    }
    paper = MAIN["GPU hours"]
    published = [paper["ALL"], paper["RAND"], paper["PD"] - paper["RAND"], paper["RAF"] - paper["RAND"]]
    estimated = [count / find_gpu(gpu).peak / HOUR for count in flops.values()]
    return pd.DataFrame({"estimated": estimated, "published": published}, index=list(flops))
