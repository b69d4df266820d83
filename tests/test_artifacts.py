"""Files written whole or not at all, manifests that notice other inputs, profiles, reports, and a light import."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

import pdsel
from pdsel import artifacts
from pdsel.artifacts import (
    ArtifactError,
    Stage,
    digest,
    environment,
    load_pairs,
    load_table,
    own_folder,
    run_or_reference,
    save_table,
    slug,
    verify,
    writing,
)
from pdsel.pipeline.profiles import declared_parameters, find_profile, load_profile
from pdsel.pipeline.text import ORDER


def everything(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with writing(path) as scratch:
        scratch.write_text("half")
        assert not path.exists()
        scratch.write_text("whole")
        inode = scratch.stat().st_ino
    assert path.stat().st_ino == inode  # renamed, not copied: there is no moment at which it is half there
    assert path.read_text() == "whole" and everything(tmp_path) == ["a.txt"]


def test_a_half_written_file_never_bears_the_name(tmp_path):
    with pytest.raises(RuntimeError, match="disk"), writing(tmp_path / "a.txt") as scratch:
        scratch.write_text("half")
        raise RuntimeError("disk full")
    assert everything(tmp_path) == []


def test_a_failed_rewrite_leaves_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), writing(tmp_path / "a.txt") as scratch:
        scratch.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old" and everything(tmp_path) == ["a.txt"]


def test_a_table_of_an_unknown_format_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match=r"a\.xlsx: the suffix tells the format; use \.csv or \.parquet"):
        save_table(pd.DataFrame({"x": [1]}), tmp_path / "a.xlsx")
    assert everything(tmp_path) == []


def numbers():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=9), "b": [1.0, np.nan, *range(7)]}, index=[f"z{i}" for i in range(9)])
    return frame.rename_axis("pair_id")


@pytest.mark.parametrize(("suffix", "tolerance"), [("csv", 1e-9), ("parquet", 0)])
def test_a_frame_comes_back(tmp_path, suffix, tolerance):
    path = save_table(numbers(), tmp_path / f"a.{suffix}")
    pd.testing.assert_frame_equal(
        load_table(path, index="pair_id"), numbers(), rtol=tolerance, check_exact=not tolerance
    )
    assert list(load_table(path)) == ["pair_id", "a", "b"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_index_without_a_name_is_not_written(tmp_path, suffix):
    path = save_table(pd.DataFrame({"a": [1, 2]}), tmp_path / f"a.{suffix}")
    assert list(load_table(path)) == ["a"] and len(load_table(path)) == 2


def test_pairs_come_back_as_they_were(tmp_path, pairs):
    found = load_pairs(save_table(pairs, tmp_path / "pairs.parquet"))
    assert found.features == pairs.features and found.to_list() == pairs.to_list()


def test_a_dataset_as_csv(tmp_path):
    path = save_table(Dataset.from_dict({"pair_id": ["a", "b"], "pd": [0.5, -1.0]}), tmp_path / "a.csv")
    assert path.read_text() == "pair_id,pd\na,0.5\nb,-1\n"


def test_pairs_are_those_of_the_file_even_when_its_size_and_time_are_the_same(tmp_path):
    path, earlier = tmp_path / "pairs.parquet", 1_700_000_000
    for name in ("a", "b"):
        save_table(Dataset.from_dict({"pair_id": [name]}), path)
        os.utime(path, (earlier, earlier))
        assert list(load_pairs(path)["pair_id"]) == [name]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_same_table_is_the_same_bytes(tmp_path, suffix, pairs):
    flat = pairs.remove_columns("rating_gaps")
    for name, table in {"frame": numbers(), "pairs": flat}.items():
        first, second = (save_table(table, tmp_path / f"{name}{i}.{suffix}") for i in (1, 2))
        assert first.read_bytes() == second.read_bytes() and digest(first) == digest(second)


def test_the_digest_of_a_folder_ignores_its_clock_and_nothing_else(tmp_path):
    policy = tmp_path / "policy"
    (policy / "deep").mkdir(parents=True)
    (policy / "weights").write_text("w")
    (policy / "deep" / "config").write_text("c")
    before = digest(policy)
    (policy / "training.json").write_text('{"seconds": 1.5}')
    assert digest(policy) == before
    (policy / "deep" / "config").write_text("d")
    assert digest(policy) != before
    (policy / "deep" / "config").write_text("c")
    (policy / "weights").rename(policy / "weights2")
    assert digest(policy) != before


@pytest.fixture
def results(tmp_path):
    """A results folder with one finished stage that read data.jsonl and wrote pairs.csv."""
    data, folder = tmp_path / "data.jsonl", tmp_path / "results"
    data.write_text("rated")
    stage = Stage("01_data", folder, inputs=[data], seed=3)
    path = save_table(pd.DataFrame({"x": [1]}), folder / "pairs.csv")
    stage.finish(path, pairs=1)
    return folder


def test_a_manifest_says_what_a_stage_read_wrote_and_ran_on(results):
    found = verify("01_data", results)
    assert (found["stage"], found["parameters"], found["facts"]) == ("01_data", {"seed": 3}, {"pairs": 1})
    assert found["inputs"] == {"../data.jsonl": digest(results.parent / "data.jsonl")}
    assert found["outputs"] == {"pairs.csv": digest(results / "pairs.csv")}
    assert set(found["environment"]) >= {"python", "versions", "commit", "device", "machine"}
    assert found["environment"]["versions"]["pandas"] == pd.__version__
    assert found["seconds"] >= 0


def test_a_moved_results_folder_still_verifies(results, tmp_path):
    moved = shutil.copytree(results, tmp_path / "elsewhere" / "results")
    assert verify("01_data", moved) == verify("01_data", results)


def test_the_next_stage_starts_on_what_the_last_one_wrote(results):
    Stage("02_proxies", results, after=["01_data"], inputs=[results / "pairs.csv"]).finish()
    assert list(verify("02_proxies", results)["inputs"]) == ["pairs.csv"]


def test_a_file_that_several_stages_name_is_digested_once(results, monkeypatch):
    policy = results / "policy"
    policy.mkdir()
    (policy / "weights").write_text("w")
    Stage("04_dpo", results, after=["01_data"], inputs=[results / "pairs.csv"]).finish(policy)
    read = []
    real = artifacts.digest
    monkeypatch.setattr(artifacts, "digest", lambda path, **options: read.append(path.name) or real(path, **options))
    Stage("05", results, after=["01_data", "04_dpo"], inputs=[results / "pairs.csv", policy])
    assert sorted(name for name in read if name != "weights") == ["data.jsonl", "pairs.csv", "policy"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("pairs.csv", "is not what the stage wrote"), ("../data.jsonl", "is not what the stage was made from")],
)
def test_another_file_under_the_name_is_refused_with_both_digests(results, name, problem):
    path = results / name
    before = digest(path)[:12]
    path.write_text("something else")
    expected = (
        rf"01_data: .*{path.name} {problem}: digest {digest(path)[:12]} now, {before} then\. Remedy: run 01_data again"
    )
    with pytest.raises(ArtifactError, match=expected):
        Stage("02_proxies", results, after=["01_data"])
    with pytest.raises(ValueError, match=expected):
        verify("01_data", results)


def test_a_missing_output_is_refused(results):
    (results / "pairs.csv").unlink()
    with pytest.raises(ArtifactError, match=r"01_data: .*pairs\.csv is missing\. Remedy: run 01_data again"):
        verify("01_data", results)


def test_inputs_may_be_left_out_of_a_published_folder(results):
    (results.parent / "data.jsonl").unlink()
    assert verify("01_data", results)["stage"] == "01_data"


def test_a_missing_input_is_refused_and_the_old_manifest_kept(results):
    with pytest.raises(
        ArtifactError, match=r"01_data: input .*gone\.jsonl does not exist\. Remedy: run the stage before"
    ):
        Stage("01_data", results, inputs=[results / "gone.jsonl"])
    assert verify("01_data", results)


def test_an_unfinished_stage_is_refused(results):
    with pytest.raises(
        ArtifactError, match=r"02_proxies is not finished in .*02_proxies\.json\. Remedy: run its notebook"
    ):
        Stage("03_selection", results, after=["02_proxies"])


def test_a_stage_that_only_starts_again_leaves_the_finished_one(results):
    before = verify("01_data", results)
    again = Stage("01_data", results, inputs=[results.parent / "data.jsonl"])
    assert verify("01_data", results) == before
    again.finish(results / "pairs.csv")
    assert verify("01_data", results)["parameters"] == {}


def test_a_stage_that_was_stopped_after_writing_is_unfinished(results):
    Stage("01_data", results, inputs=[results.parent / "data.jsonl"])
    save_table(pd.DataFrame({"x": [2]}), results / "pairs.csv")
    with pytest.raises(ArtifactError, match="is not what the stage wrote"):
        verify("01_data", results)


def make_run(folder, **parameters):
    """A run whose stages 01 and 02 are finished."""
    path = save_table(pd.DataFrame({"x": [1]}), folder / "local" / "pairs.parquet")
    Stage("01_data", folder, **parameters).finish(path)
    path = save_table(pd.DataFrame({"x": [2]}), folder / "local" / "margins.parquet")
    Stage("02_proxies", folder, **parameters).finish(path)
    return folder


@pytest.fixture
def local(tmp_path, monkeypatch):
    """An empty repository, where notebooks are run by hand."""
    monkeypatch.delenv("PDSEL_RUN", raising=False)
    monkeypatch.chdir(tmp_path)
    return Path("results/local/mini/conflict30-seed0")


def test_a_notebook_with_the_runs_parameters_writes_to_the_run(local):
    make_run(local, share=0.3, sizes=(1, 2))
    assert own_folder("02_proxies", local, {"share": 0.3, "sizes": (1, 2), "added since": None}) == local


def test_a_notebook_with_other_parameters_writes_beside_the_run(local, capsys):
    make_run(local, share=0.3)
    before = {path: digest(path) for path in local.rglob("*") if path.is_file()}
    mine = own_folder("02_proxies", local, {"share": 0.5})
    assert mine.parent == Path("results/local/mine")
    assert '{"share": 0.5} differs from the run in' in capsys.readouterr().out
    Stage("02_proxies", mine, after=["01_data"], inputs=[mine / "local" / "pairs.parquet"]).finish()
    assert not (mine / "local" / "margins.parquet").exists()  # only what the stages before it wrote is copied
    assert {path: digest(path) for path in local.rglob("*") if path.is_file()} == before
    assert own_folder("02_proxies", local, {"share": 0.5}) == mine != own_folder("02_proxies", local, {"share": 0.7})
    assert own_folder("02_proxies", mine, {"share": 0.7}) == own_folder("02_proxies", mine, {"share": 0.7})


def test_before_there_is_a_run_the_reference_says_what_its_parameters_are(local):
    make_run(Path("results/mini/conflict30-seed0"), conflict=0.3)
    assert own_folder("01_data", local, {"conflict": 0.3}) == local
    assert own_folder("01_data", local, {"conflict": None}).parent == Path("results/local/mine")


def test_a_job_of_the_graph_and_a_folder_elsewhere_are_taken_as_they_are(local, monkeypatch):
    elsewhere = make_run(Path("elsewhere"), share=0.3)
    assert own_folder("02_proxies", elsewhere, {"share": 0.5}) == elsewhere
    make_run(local, share=0.3)
    monkeypatch.setenv("PDSEL_RUN", "1")
    assert own_folder("02_proxies", local, {"share": 0.5}) == local


def test_the_reference_is_shown_where_there_is_no_run(local, capsys):
    reference = Path("results/mini/conflict30-seed0")
    assert run_or_reference(local, "kept.csv") == reference
    assert "Shown: the reference in results/mini" in capsys.readouterr().out
    local.mkdir(parents=True)
    assert run_or_reference(local, "kept.csv") == reference
    (local / "kept.csv").write_text("")
    assert run_or_reference(local, "kept.csv") == local
    assert "Shown: your run in results/local/mini" in capsys.readouterr().out
    assert run_or_reference(reference, "kept.csv") == reference


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def installed(tmp_path):
    """pdsel copied into somebody's repository, untracked, as a wheel in an environment there would be."""
    git(tmp_path, "init", "-q")
    (tmp_path / "theirs.py").write_text("")
    git(tmp_path, "add", "theirs.py")
    git(tmp_path, "commit", "-qm", "theirs")
    (tmp_path / "pdsel").mkdir()
    for name in ("__init__.py", "artifacts.py", "checks.py"):
        shutil.copy(Path(pdsel.__file__).with_name(name), tmp_path / "pdsel" / name)
    return tmp_path


def commit_in(folder):
    code = "import json; from pdsel.artifacts import environment as e; print(json.dumps([e()['commit'], e()['dirty']]))"
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(told.stdout)


def test_a_wheel_in_somebody_elses_repository_has_no_commit(installed):
    assert commit_in(installed) == [None, None]


def test_a_manifest_says_whether_the_code_was_changed_since_its_commit(installed):
    git(installed, "add", "pdsel")
    git(installed, "commit", "-qm", "pdsel")
    commit, dirty = commit_in(installed)
    assert len(commit) == 40 and dirty is False
    with open(installed / "pdsel" / "checks.py", "a") as file:
        file.write("# changed\n")
    assert commit_in(installed) == [commit, True]


def test_a_run_forced_onto_the_cpu_says_cpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    assert environment()["device"] == "a GPU"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert environment()["device"] == "cpu"


def test_methods_have_file_names_of_their_own():
    names = [slug(method) for method in ORDER]
    assert len(set(names)) == len(names) and all(name.replace("-", "").isalnum() for name in names)


@pytest.fixture
def profile(tmp_path):
    """Write a profile beside a notebook 01_data that declares n_prompts and seed, and load it."""
    cell = nbformat.v4.new_code_cell("n_prompts = 700  # rated prompts\nseed = 0", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / "01_data.ipynb")
    (tmp_path / "profiles").mkdir()

    def load(text):
        (tmp_path / "profiles" / "mini.yaml").write_text(text)
        return load_profile(tmp_path / "profiles" / "mini.yaml")

    return load


ROOT = Path(__file__).resolve().parents[1]
GRID = "grid: {conflicts: [0.3], seeds: [0], methods: [PD]}\n"


def test_a_profile_of_declared_keys_is_read(profile, tmp_path):
    assert profile(GRID + "01_data: {n_prompts: 60}") == {
        "grid": {"conflicts": [0.3], "seeds": [0], "methods": ["PD"]},
        "01_data": {"n_prompts": 60},
    }
    assert declared_parameters(tmp_path / "01_data.ipynb") == ["n_prompts", "seed"]


def test_a_profile_may_leave_a_section_empty(profile):
    assert profile(GRID + "01_data:")["01_data"] is None


BAD_PROFILES = {
    "unknown key": (
        GRID + "01_data: {n_promts: 60}",
        r"01_data declares no parameter \['n_promts'\]\. Remedy: use one of \['n_prompts', 'seed'\]",
    ),
    "unknown section": (GRID + "08_more: {x: 1}", r"section '08_more' names no notebook; there is no 08_more\.ipynb"),
    "no grid": (
        "01_data: {n_prompts: 60}",
        r"section 'grid' needs exactly \['conflicts', 'methods', 'seeds'\], it has \[\]",
    ),
    "missing grid key": (
        "grid: {conflicts: [0.3], seeds: [0]}",
        r"'grid' needs exactly .*, it has \['conflicts', 'seeds'\]",
    ),
    "unknown grid key": (GRID.replace("}", ", shares: [0.3]}"), r"'grid' needs exactly .*'shares'\]"),
    "empty": ("", r"'grid' needs exactly .*, it has \[\]"),
}


@pytest.mark.parametrize(("text", "problem"), BAD_PROFILES.values(), ids=BAD_PROFILES)
def test_a_bad_profile_is_refused(profile, text, problem):
    with pytest.raises(ValueError, match=problem):
        profile(text)


NO_MAPPING = {
    "a list": "[1, 2]",
    "a grid that is a list": "grid: [conflicts, seeds, methods]",
    "a section that is a list": GRID + "01_data: [n_prompts]",
    "a section that is a number": GRID + "01_data: 3",
    "no YAML": "a: b: c",
}


@pytest.mark.parametrize("text", NO_MAPPING.values(), ids=NO_MAPPING)
def test_a_profile_of_another_shape_is_refused(profile, text):
    with pytest.raises(ValueError, match=r"mini\.yaml"):
        profile(text)


def test_an_unknown_profile_is_refused_with_those_there_are(profile, tmp_path):
    profile(GRID)
    with pytest.raises(ValueError, match=r"profile 'maxi' does not exist; there are \['mini'\]"):
        load_profile(tmp_path / "profiles" / "maxi.yaml")


def test_a_profile_that_extends_itself_is_refused(profile, tmp_path):
    (tmp_path / "profiles").mkdir(exist_ok=True)
    (tmp_path / "profiles" / "other.yaml").write_text("extends: mini")
    with pytest.raises(ValueError, match=r"profile mini extends mini\. Remedy: extend another profile, or none"):
        profile("extends: mini\n" + GRID)
    with pytest.raises(ValueError, match="profile mini extends other extends mini"):
        profile("extends: other\n" + GRID)


def test_a_profile_elsewhere_is_found_by_its_path_and_may_extend_a_committed_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: mini\n01_data: {n_prompts: 60}\n")
    assert load_profile(find_profile(path), notebooks=ROOT / "notebooks")["01_data"] == {"n_prompts": 60}


def test_a_profile_leaves_out_notebooks_of_the_one_that_it_extends(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: mini\nwithout: [03b_rules, 09_failures]\n")
    mine, mini = (load_profile(find_profile(name), notebooks=ROOT / "notebooks") for name in (path, "mini"))
    assert mine.pop("without") == ["03b_rules", "09_failures"]
    assert mine == {name: section for name, section in mini.items() if name != "03b_rules"}
    path.write_text("extends: mini\nwithout: [03b_rulez]\n")
    with pytest.raises(ValueError, match=r"without names no notebook: 1 \(first: 03b_rulez\)\. Remedy"):
        load_profile(path, notebooks=ROOT / "notebooks")


def test_a_profile_elsewhere_with_a_committed_ones_name_is_refused(tmp_path):
    (tmp_path / "mini.yaml").write_text(GRID)
    with pytest.raises(ValueError, match="has the same name, so their results would mix. Remedy: rename the file"):
        find_profile(tmp_path / "mini.yaml")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_loads_no_torch():
    loaded = json.loads(python("import pdsel, sys, json; print(json.dumps(sorted(sys.modules)))"))
    assert "pdsel" in loaded and not {"torch", "transformers", "trl", "datasets"} & set(loaded)


def test_reading_ratings_and_selecting_load_no_torch():
    names = "compare_responses, load_ratings, make_pairs, preference_divergence, select, win_rate"
    assert python(f"from pdsel import {names}; import sys; print('torch' in sys.modules)").strip() == "False"


def test_every_public_name_is_there():
    for name in pdsel.__all__:
        assert getattr(pdsel, name) is not None, name
    assert {"rules", "experiments", "pipeline", "judges", "make_pairs", "select"} <= set(dir(pdsel))


def test_an_unknown_name_is_not_an_attribute():
    with pytest.raises(AttributeError, match="best_pairs"):
        pdsel.best_pairs  # noqa: B018 - looking it up is the test
