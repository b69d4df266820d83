"""A hub of stand-ins: what the profiles download, small and random, under the very same names and revisions.

Checkpoints have the real architectures, tokenizers that spell anything, and their families' chat templates; data files have
the real layouts, with their oddities. They lie where huggingface_hub keeps what it has downloaded, so that every loader
runs as it does with the hub: nothing in a profile needs another name.
"""

import gzip
import json
from pathlib import Path

import torch
from chat_models import save_chat_model
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from pdsel.data.eval_prompts import ALPACA_EVAL, LIMA
from pdsel.data.sources import SOURCES
from pdsel.notesworld import draw_prompts
from pdsel.notesworld.people import rated_rows

POLICIES = {  # name: family
    "Qwen/Qwen2.5-0.5B-Instruct": "qwen2",
    "allenai/Llama-3.1-Tulu-3-8B-SFT": "llama",
    "meta-llama/Llama-3.2-1B": "base",  # without a template
}
REWARDS = {"Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": "llama"}
COMMIT = "0" * 40  # of what the profiles name without a revision
ORIGINS = ["truthful_qa", "evol_instruct", "false_qa", "flan", "sharegpt", "ultrachat"]  # UltraFeedback's files
N_PROMPTS = 90  # of a stand-in data set


def make_hub(folder):
    """All stand-ins, as a folder for HF_HOME; returns it."""
    rows = rated_rows(N_PROMPTS, seed=7)
    texts = [row["instruction"] for row in rows]
    for name, family in POLICIES.items():
        save_chat_model(family, snapshot(folder, name), corpus=texts)
    for name, family in REWARDS.items():
        save_reward_model(family, snapshot(folder, name), corpus=texts)
    write_ultrafeedback(rows, data(folder, "ultrafeedback"))
    write_helpsteer(rows, data(folder, "helpsteer"))
    write_helpsteer(rows, data(folder, "helpsteer2"))
    write_eval_prompts(folder)
    return Path(folder)


def snapshot(home, name, *, kind="model", revision=None):
    """The folder in which the hub's client looks for the files of a repository at a commit."""
    repository = Path(home, "hub", f"{kind}s--{name.replace('/', '--')}")
    commit = revision or COMMIT
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    found = repository / "snapshots" / commit
    found.mkdir(parents=True, exist_ok=True)
    return found


def data(home, name):
    """The folder of a rated data set, at the revision that pdsel pins."""
    return snapshot(home, SOURCES[name].repository, kind="dataset", revision=SOURCES[name].revision)


def save_reward_model(family, folder, *, seed=1, **options):
    """A sequence classifier of one label, with a head of its own, as reward models are published."""
    save_chat_model(family, folder, seed=seed, **options)
    config = AutoConfig.from_pretrained(
        folder, num_labels=1, pad_token_id=AutoTokenizer.from_pretrained(folder).eos_token_id
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def write_ultrafeedback(rows, folder):
    """A file per source: ratings as strings, some absent; a benchmark's prompt; a prompt that two sources share."""
    parts = {
        origin: [_ultrafeedback(row, origin) for row in rows[i :: len(ORIGINS)]] for i, origin in enumerate(ORIGINS)
    }
    parts["ultrachat"] += [dict(parts["truthful_qa"][0], source="ultrachat"), parts["sharegpt"][0]]
    parts["flan"][0]["completions"][0]["annotations"]["honesty"]["Rating"] = "N/A"
    parts["flan"][1]["completions"][1]["response"] = ""
    parts["false_qa"][0]["completions"] = parts["false_qa"][0]["completions"][:1]
    for origin, lines in parts.items():
        write_lines(folder / f"{origin}.jsonl", lines)


def _ultrafeedback(row, origin):
    completions = [
        {
            "model": each["model"],
            "principle": "helpfulness",
            "custom_system_prompt": "",
            "response": each["response"],
            "annotations": {
                name: {"Rating": str(rating["Rating"]), "Rationale": "Stand-in."}
                for name, rating in each["annotations"].items()
            },
            "critique": "",
            "fine-grained_score": 4.0,
            "overall_score": each["overall_score"],
        }
        for each in row["completions"]
    ]
    models = [each["model"] for each in completions]
    return {"source": origin, "instruction": row["instruction"], "models": models, "completions": completions}


def write_helpsteer(rows, folder):
    """A row per response, those to one prompt in a run; ratings from 0 to 4 on five attributes; no overall score."""
    lines = []
    for row in rows:
        for each in row["completions"]:
            rating = {name: int(found["Rating"]) - 1 for name, found in each["annotations"].items()}
            words = len(each["response"].split())
            lines.append(
                {
                    "prompt": row["instruction"],
                    "response": each["response"],
                    "helpfulness": rating["helpfulness"],
                    "correctness": rating["truthfulness"],
                    "coherence": rating["instruction_following"],
                    "complexity": min(4, words // 6),
                    "verbosity": min(4, words // 4),
                }
            )
    for split in ("train", "validation"):
        write_lines(folder / f"{split}.jsonl.gz", lines)


def write_eval_prompts(home):
    """AlpacaEval's file with the parts that it consists of, LIMA's test file, and WizardLM's in `home`."""
    repository, file, revision = ALPACA_EVAL
    prompts = iter(draw_prompts(60, split="eval", seed=3))
    sets = ["helpful_base", "koala", "oasst", "selfinstruct", "vicuna"] * 6
    rows = [
        {"dataset": name, "instruction": next(prompts), "output": "Stand-in.", "generator": "text_davinci_003"}
        for name in sets
    ]
    rows.append(rows[0])  # a prompt that is there twice
    snapshot(home, repository, kind="dataset", revision=revision).joinpath(file).write_text(json.dumps(rows))
    lima = [{"conversations": [next(prompts)], "source": "test"} for _ in range(6)]
    write_lines(snapshot(home, LIMA[0], kind="dataset", revision=LIMA[2]) / LIMA[1], lima)
    wizard = [{"idx": i, "Skill": "Stand-in", "Difficulty": 1, "Instruction": next(prompts)} for i in range(6)]
    write_lines(wizardlm(home), wizard)


def wizardlm(home):
    """The one file that no hub has."""
    return Path(home, "WizardLM_testset.jsonl")


def write_lines(path, rows):
    """A JSON object a line, gzipped if the name says so."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
