"""The folder that the profile `pocket` starts from: SFT, a judge of people's ratings, and what the notebooks read."""

import json
import shutil
from pathlib import Path

from pdsel.artifacts import writing
from pdsel.data.webnlg import FILES
from pdsel.experiments.pocket.cells import judge, sft_model
from pdsel.experiments.pocket.settings import SETTINGS
from pdsel.ratings import prompt_id

FOLDER = "results/local/pocket/start"  # as notebooks/profiles/pocket.yaml says


def start(lab, folder=FOLDER):
    """Make the folder: models are trained where the cells do not hold them yet (minutes on a GPU, hours on two cores).

    Parameters
    ----------
    lab : pdsel.experiments.pocket.cells.Lab
    folder : str or Path

    Returns
    -------
    dict
        What is there to its path: `ratings`, the rated inputs of the half that methods are trained on (the judge learns from
        the other half); `prompts`, the inputs for evaluation; `sft`, the model after supervised fine-tuning; `judge`, the
        reward model.
    """
    folder, setting = Path(folder), SETTINGS["pocket"]
    found = {
        "ratings": folder / "ratings.jsonl",
        "prompts": folder / "prompts.jsonl",
        "sft": folder / "sft",
        "judge": folder / "judge",
    }
    ids = set(lab.halves[0]["prompt_id"])
    lines = lab.corpus.ratings.read_text(encoding="utf-8").splitlines()
    ours = [line for line in lines if line.strip() and prompt_id(json.loads(line)["instruction"]) in ids]
    with writing(found["ratings"]) as scratch:
        scratch.write_text("".join(f"{line}\n" for line in ours), encoding="utf-8")
    with writing(found["prompts"]) as scratch:
        shutil.copyfile(Path(lab.data, FILES[2]), scratch)
    models = {"sft": sft_model(lab, setting), "judge": judge(lab, setting)["classifier"]}
    for name, model in models.items():
        if not found[name].is_dir():
            with writing(found[name]) as scratch:
                shutil.copytree(model, scratch)
    return found
