"""Notebooks 02, 02b and 04 with probes, which only one parameter asks for: one reading serves selection and training."""

from pathlib import Path

import pandas as pd
import papermill
import pytest

from pdsel.artifacts import read_manifest, verify
from pdsel.engine.probes import load_probe

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a notebook of one run, and return the run's folder; 01 and 02 have been run."""
    folder = tmp_path_factory.mktemp("run")

    def execute(notebook, **parameters):
        papermill.execute_notebook(
            NOTEBOOKS / f"{notebook}.ipynb",
            folder / f"{notebook}.ipynb",
            {"folder": str(folder / "cell"), **parameters},
            cwd=folder,
            kernel_name="python3",
            progress_bar=False,
        )
        return folder / "cell"

    execute("01_data", n_prompts=60)
    execute("02_proxies", kind="probe", model="notesworld")  # the policies' own base
    return execute


def test_one_parameter_makes_the_proxies_probes(run):
    folder = run("02b_proxy_checks", compare_with=[], probe_replicates=3)
    proxies = sorted((folder / "local" / "proxies").iterdir())
    assert [path.name for path in proxies][-2:] == ["pooled", "truthfulness"] and len(proxies) == 5
    assert all(load_probe(path).choice["n_pairs"] > 20 for path in proxies)
    verify("02_proxies", folder)
    assert read_manifest("02_proxies", folder)["facts"]["kind"] == "probe"
    error = pd.read_parquet(folder / "local" / "standard_error.parquet")["standard_error"]
    assert len(error) == len(pd.read_parquet(folder / "local" / "pairs.parquet")) and (error > 0).all()
    assert pd.read_csv(folder / "held_out.csv")["accuracy"].between(0, 1).all()


def test_training_computes_no_log_probability_of_the_reference_anew(run):
    """What notebook 02 read is all that DPO on all pairs wants of its reference: a pass of its own would leave a file."""
    reference = run("04_dpo", method="ALL", training={"max_steps": 2}) / "local" / "reference"
    [file] = reference.rglob("*.parquet")
    assert file.stat().st_mtime < (reference.parent / "margins.parquet").stat().st_mtime
