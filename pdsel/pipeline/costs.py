"""What a profile will take, before anything runs: jobs, GPU hours, memory, disk, downloads, and questions to a paid judge.

`python -m pdsel.pipeline.costs paper` prints it (`make plan PROFILE=paper`); with `--readme README.md` and several
profiles, it writes README's table of them. Everything follows from counts of tokens and parameters
(`pdsel.pipeline.workload`, `pdsel.pipeline.compute`), and from what the GPU reaches of its peak: measured, if
`results/gpu/throughput.csv` is there, else assumed.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from pdsel.artifacts import writing
from pdsel.notesworld import model_path
from pdsel.pipeline.compute import GB, HALF, MASTER, dpo_flops, find_gpu, find_model
from pdsel.pipeline.profiles import load_profile
from pdsel.pipeline.report import PUBLISHED, fill_blocks, markdown
from pdsel.pipeline.workload import ASSUMED, DATA, HOUR, SETS, comparisons, gpu_jobs, jobs, pool, pools, selection_flops

ROOT = Path(__file__).parents[2]
THROUGHPUT = ROOT / "results" / "gpu" / "throughput.csv"
MEASURED = {  # kind of work: the row of the bench
    "training": "DPO in full: pdsel",
    "training with LoRA": "DPO with adapters: pdsel",
    "scoring": "scoring: pdsel",
}
OPTIMIZER = 8  # bytes a parameter in a checkpoint, beside the weights
CHARACTERS = 4.2  # bytes of text a token
QUESTION_TOKENS = 1200  # that a judge reads to compare two outputs: assumed
NULLS = 4  # constant answers that every judge is asked about


def shares_of_peak(path=THROUGHPUT):
    """What a GPU reaches of its peak, by kind of work, and a sentence on where that is from.

    Measured where the file of `python -m bench.throughput` is there: the column `share_of_peak` of the rows that `MEASURED`
    names by their `way`. A share of peak counts the model's operations only, not what checkpointing computes twice.
    """
    found = pd.read_csv(path).set_index("way")["share_of_peak"].dropna() if Path(path).exists() else {}
    measured = {work: float(found[way]) for work, way in MEASURED.items() if way in found}
    shares = ASSUMED | measured
    said = [
        f"{100 * share:.0f} % for {work} ({'measured' if work in measured else 'assumed'})"
        for work, share in shares.items()
    ]
    return shares, f"Estimated from FLOP counts; shares of the GPU's peak: {', '.join(said)}."


def cells(profile):
    """Runs of the grid: a conflict level and a seed each."""
    return len(profile["grid"]["conflicts"]) * len(profile["grid"]["seeds"])


def downloads(profile):
    """What comes from the hub, name to GB: checkpoints in bf16, and the rated data; prompts to evaluate on are small."""
    judging = profile["05_evaluation"]
    models = {profile[name]["model"] for name in ("02_proxies", "04_dpo", "05_evaluation")}
    models |= {judging["judge"]} - {"gold", judging.get("llm_judge")}
    found = {
        name: HALF * find_model(name).parameters / GB for name in sorted(models) if not Path(model_path(name)).is_dir()
    }
    source = profile["01_data"].get("source")
    return found | ({source: DATA[source].gigabytes} if source in DATA else {})


def disk(profile):
    """What lies on the disk in the end, in GB: downloads, pairs, proxies, policies, and one checkpoint to resume from.

    Runs in bf16 save bf16, others float32; a checkpoint has the weights as they are trained, in float32.
    """
    policy, proxy = (find_model(profile[name]["model"]).parameters for name in ("04_dpo", "02_proxies"))
    found = pools(profile)
    seeds = len(profile["grid"]["seeds"])
    made = {
        "downloads": sum(downloads(profile).values()) * GB,
        "pairs": sum(each.tokens for each in found) * seeds * CHARACTERS,
        "proxies": cells(profile) * (found[0].aspects + 1) * saved(profile["02_proxies"]) * proxy,
        "policies": cells(profile) * len(profile["grid"]["methods"]) * saved(profile["04_dpo"]) * policy,
        "checkpoint": (MASTER + OPTIMIZER) * policy if "save_steps" in profile["04_dpo"].get("training", {}) else 0,
    }
    return {name: size / GB for name, size in made.items()}


def saved(section):
    """Bytes of a weight that a notebook's runs save."""
    return HALF if section.get("training", {}).get("bf16") else MASTER


def questions(profile):
    """How often a paid judge is asked, and the dollars at the profile's price (`None` without one).

    Every comparison is asked in both orders; equal outputs, which are not asked about, are not foreseen.
    """
    section = profile["05_evaluation"]
    if not section.get("llm_judge"):
        return 0, None
    constants = NULLS * min(SETS.get(section["eval_set"], 218), section.get("n_prompts") or 10**9)
    asked = 2 * (comparisons(profile) + constants) * cells(profile)
    price = section.get("llm_options", {}).get("price_per_million")
    cost = None if price is None else asked * (np.broadcast_to(price, 2) @ [QUESTION_TOKENS, 1]) / 1e6
    return asked, cost


def published_comparison(gpu="A100 80GB"):
    """The paper's GPU hours beside what these rules of thumb say of its setting, on a GPU of our choice: a check, no fit.

    UltraFeedback, Llama-3.1-8B, 30 % kept, four proxies of 1 B and the pooled one. We know neither the GPU nor the number
    of pairs it used, so the order of magnitude is what compares.

    Returns
    -------
    pandas.DataFrame
        Index: what; columns `estimated` and `published`, in GPU hours.
    """
    policy, proxy = find_model("allenai/Llama-3.1-Tulu-3-8B-SFT"), find_model("meta-llama/Llama-3.2-1B")
    found = pool(DATA["ultrafeedback"], conflict=0.3, max_length=2048)
    full = dpo_flops(policy.parameters, found.tokens) / ASSUMED["training"]
    training, scoring = selection_flops(found, proxy, kind="classifier")
    one = training / 2 / ASSUMED["training"]  # pass over all pairs: the aspects' proxies together, or the pooled one
    scored = scoring / (found.aspects + 1) / ASSUMED["scoring"]
    hours = {
        "FULL": full,
        "30 %": 0.3 * full,
        "PD's proxies": one + found.aspects * scored,
        "RAF's reward": one + scored,
    }
    paper = PUBLISHED["GPU hours"]
    published = [paper["ALL"], paper["RAND"], paper["PD"] - paper["RAND"], paper["RAF"] - paper["RAND"]]
    estimated = [flops / find_gpu(gpu).peak / HOUR for flops in hours.values()]
    return pd.DataFrame({"estimated": estimated, "published": published}, index=list(hours))


def plan(name, *, throughput=THROUGHPUT):
    """Everything that a profile will take, as text to print."""
    profile = load_profile(ROOT / "notebooks" / "profiles" / f"{name}.yaml")
    counted = jobs(profile)
    lines = [
        f"Profile {name}: {sum(counted.values())} jobs ({', '.join(f'{n} {rule}' for rule, n in counted.items())})."
    ]
    if "hardware" not in profile:
        return "\n".join([*lines, "No GPU, no download: the notes world on a CPU. README says how long it takes."])
    shares, basis = shares_of_peak(throughput)
    table, gpu = gpu_jobs(profile, shares=shares), profile["hardware"]["gpu"]
    shown = (
        table.round({"gpu_hours": 1, "longest": 1, "memory": 0})
        .reset_index()
        .rename(
            columns={
                "gpus": "GPUs a job",
                "gpu_hours": "GPU hours",
                "longest": "longest job (h)",
                "memory": "GB on each GPU",
            }
        )
    )
    room = find_gpu(gpu).memory / GB
    over = table.index[table["memory"] > room]
    lines += ["", markdown(shown), "", f"GPU hours: {table['gpu_hours'].sum():.0f} on {gpu} ({room:.0f} GB)."]
    lines += [
        f"TOO MUCH for {room:.0f} GB: {', '.join(over)}. More gradient_accumulation_steps, or a larger GPU."
    ] * len(over[:1])
    for what, sizes in {"Disk": disk(profile), "Downloads": downloads(profile)}.items():
        parts = ", ".join(f"{part} {size:.1f}" for part, size in sizes.items() if size)
        lines.append(f"{what}: {sum(sizes.values()):.0f} GB ({parts}).")
    asked, cost = questions(profile)
    if asked:
        price = "at an unknown price" if cost is None else f"about {cost:.0f} dollars"
        lines.append(f"Judge: {asked} questions to {profile['05_evaluation']['llm_judge']}, {price}.")
    return "\n".join([*lines, f"{basis} Pairs and tokens: from the data set's published counts."])


def summary(name, *, throughput=THROUGHPUT):
    """A profile's row in README."""
    profile = load_profile(ROOT / "notebooks" / "profiles" / f"{name}.yaml")
    table = gpu_jobs(profile, shares=shares_of_peak(throughput)[0])
    asked, cost = questions(profile)
    return {
        "profile": f"`{name}`",
        "GPUs": f"{table['gpus'].max()} x {profile['hardware']['gpu']}",
        "memory on each (GB)": f"{table['memory'].max():.0f}",
        "GPU hours": f"{table['gpu_hours'].sum():.0f}",
        "longest job (h)": f"{table['longest'].max():.1f}",
        "disk (GB)": f"{sum(disk(profile).values()):.0f}",
        "downloads (GB)": f"{sum(downloads(profile).values()):.0f}",
        "judge": f"{asked} questions, {cost:.0f} dollars" if cost else "a reward model",
    }


def readme_blocks(names, *, throughput=THROUGHPUT):
    """README's blocks on what the large profiles take."""
    rows = pd.DataFrame([summary(name, throughput=throughput) for name in names])
    return {"plans": markdown(rows), "plans_basis": shares_of_peak(throughput)[1]}


def main():
    """Print the plans of profiles, or write README's table of them."""
    parser = argparse.ArgumentParser(prog="pdsel.pipeline.costs")
    parser.add_argument("profiles", nargs="+")
    parser.add_argument("--readme")
    given = parser.parse_args()
    if given.readme is None:
        print("\n\n".join(map(plan, given.profiles)))
        return
    text = fill_blocks(Path(given.readme).read_text(), readme_blocks(given.profiles))
    with writing(given.readme) as scratch:
        scratch.write_text(text)


if __name__ == "__main__":
    main()
