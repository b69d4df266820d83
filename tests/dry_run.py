"""`make dry-run PROFILE=paper`: every notebook of a profile on this machine's CPU, with stand-ins for what it downloads.

The profile is the real one: the same keys, the same names of models and data sets (see `standins`). Only sizes are cut,
precision is the CPU's, and the address of the judge is that of a server on this machine.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from fake_endpoint import FakeEndpoint
from standins import make_hub, wizardlm

from pdsel.checks import DataError
from pdsel.pipeline.profiles import find_profile, load_profile

ROOT = Path(__file__).resolve().parents[1]
SIZES = {  # what takes another value, where the profile has the key
    "01_data": {"n_prompts": 54, "n_held_out": 6, "size": None, "max_length": 320},
    "02_proxies": {"batch_size": 16, "max_length": 320, "accelerate": None, "learning_rate": 1e-3},
    "04_dpo": {
        "batch_size": 16,
        "max_length": 320,
        "accelerate": None,
        "learning_rate": 1e-3,
    },  # so that outputs differ
    "05_evaluation": {"n_prompts": 12, "n_family_prompts": 3, "max_new_tokens": 8},
}
TRAINING = {"bf16": False, "optim": "adamw_torch", "gradient_accumulation_steps": 2, "save_steps": 4}
GENERATION = {"dtype": "float32", "engine": "transformers", "batch_size": 16}
SMALLER = {"conflicts": 1, "seeds": 1}  # of the grid, in the tests


def derive(profile, *, endpoint, wizard, methods=None):
    """A profile's sections with everything cut down; the keys stay.

    Parameters
    ----------
    profile : dict
        See `load_profile`.
    endpoint : str
        Address of the judge.
    wizard : str or Path
        WizardLM's file.
    methods : list of str, optional
        Run only these, at the first conflict level and seed.
    """
    cut = {name: section if isinstance(section, list) else dict(section or {}) for name, section in profile.items()}
    for name, values in SIZES.items():
        cut[name] |= {key: value for key, value in values.items() if key in cut[name]}
        for key, less in {"training": TRAINING, "generation": GENERATION}.items():
            if key in cut[name]:
                cut[name][key] = {option: less.get(option, value) for option, value in cut[name][key].items()}
    judging = cut["05_evaluation"]
    sets = {"open_sets": [str(wizard) if "WizardLM" in name else name for name in judging.get("open_sets", [])]}
    judging |= {key: value for key, value in (sets | {"llm_url": endpoint}).items() if key in judging}
    if methods:
        cut["grid"] |= {key: cut["grid"][key][:n] for key, n in SMALLER.items()} | {"methods": methods}
    return cut


def dry_run(name, folder, *, methods=None, targets=(), cores=2):
    """Run the graph of a profile on stand-ins.

    Parameters
    ----------
    name : str
        Of the profile, or the path of one.
    folder : str or Path
        Where everything goes: the hub, the profile as it is run, the results.
    methods : list of str, optional
        See `derive`.
    targets : sequence of str
        Files of the results folder to make; default: all.
    cores : int

    Returns
    -------
    subprocess.CompletedProcess
    """
    folder = Path(folder).resolve()
    path = find_profile(name)
    profile = load_profile(path, notebooks=ROOT / "notebooks")  # before anything is made: its name may be a typo
    home, file, results = make_hub(folder / "hub"), folder / f"{path.stem}-cut.yaml", folder / "results"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "OPENAI_API_KEY": "none",
    }
    with FakeEndpoint() as server:
        cut = derive(profile, endpoint=server.url, wizard=wizardlm(home), methods=methods)
        file.write_text(yaml.safe_dump(cut, sort_keys=False))
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            "notebooks/Snakefile",
            "--cores",
            str(cores),
            "--nolock",
            "--keep-going",
            "--show-failed-logs",
            *(str(results / target) for target in targets),
            "--config",
            f"profile={file}",
            f"results={results}",
        ]
        return subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)


def main(name, cores="2"):
    """Run a profile, say how long it took, and leave nothing behind."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pdsel-dry-run-") as folder:
        try:
            finished = dry_run(name, folder, cores=cores)
        except DataError as error:
            print(error, file=sys.stderr)
            return 1
        executed = sorted(path.stem for path in Path(folder, "results").rglob("local/notebooks/*.ipynb"))
    minutes = (time.monotonic() - start) / 60
    outcome = "failed" if finished.returncode else "all well"
    print(f"dry-run of {name}: {len(executed)} notebooks in {minutes:.1f} minutes, {outcome}")
    return finished.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
