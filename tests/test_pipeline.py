"""The whole graph in its smallest form: every notebook through papermill, by the Snakefile that `make run` uses."""

import ast
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

import pdsel
from pdsel.artifacts import digest, sealed, verify
from pdsel.pipeline.profiles import declared_parameters, load_profile, notebook_defaults
from pdsel.pipeline.report import shown_blocks
from pdsel.pipeline.text import ORDER

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
READ_ONLY = {("12_pocket", "results"), ("12_pocket", "league"), ("13_first_benchmark", "first")}  # committed tables
PROFILES = sorted((ROOT / "notebooks" / "profiles").glob("*.yaml"))
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "HF_HUB_OFFLINE": "1",
}


def snakemake(*arguments, profile="smoke", **config):
    """Run the graph; returns the finished process with its output."""
    settings = [f"{name}={value}" for name, value in {"profile": profile, **config}.items()]
    command = [sys.executable, "-m", "snakemake", "--snakefile", "notebooks/Snakefile", "--cores", "2", "--nolock"]
    command += ["--rerun-incomplete", "--show-failed-logs", "--config", *settings, *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    finished = snakemake(results=folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def test_every_notebook_ran_without_error(results):
    executed = {path.stem for path in results.rglob("local/notebooks/*.ipynb")}
    assert {path.stem for path in NOTEBOOKS} - {"04_dpo"} <= executed
    assert sum(name.startswith("04_dpo-") for name in executed) == len(ORDER) - 1
    for path in results.rglob("local/notebooks/*.ipynb"):
        for cell in nbformat.read(path, 4).cells:
            assert not any(output.output_type == "error" for output in cell.get("outputs", [])), path


def test_table_has_every_method_of_the_issue(results):
    table = pd.read_csv(results / "tables" / "table1.csv")
    assert list(dict.fromkeys(table["method"])) == ORDER
    assert {"win_rate", "length_controlled_win_rate", "winning_score", "utility", "characters"} <= set(table["metric"])
    given = table.dropna(subset="value")  # no number at equal length where lengths lie apart
    assert ((given["low"] <= given["value"]) & (given["value"] <= given["high"])).all()
    assert set(table.loc[table["value"].isna(), "metric"]) <= {"length_controlled_win_rate"}
    assert set(table.loc[(table["method"] == "SFT") & (table["metric"] == "win_rate"), "value"]) == {50.0}


def test_every_stage_left_a_manifest_that_verifies(results):
    manifests = sorted((results / "conflict30-seed0" / "manifests").glob("*.json"))
    assert len(manifests) == 7 + len(ORDER) - 1  # 01, 02, 02b, 03, 03b, 05, 05b, and 04 once per method
    for path in manifests:
        manifest = verify(path.stem, results / "conflict30-seed0")
        assert {"parameters", "inputs", "outputs", "environment", "seconds"} <= set(manifest)
        assert manifest["environment"]["versions"]["trl"]


def test_no_evaluation_prompt_was_trained_on_or_selected_with(results):
    cell = results / "conflict30-seed0"
    trained = set(pd.read_parquet(cell / "local" / "pairs.parquet")["prompt"])
    evaluated = {row["instruction"] for row in json.loads((cell / "local" / "outputs" / "PD.json").read_text())}
    assert len(evaluated) == 40
    assert not trained & evaluated


def test_report_of_fewer_methods_and_of_natural_conflict(results, tmp_path):
    """Tables follow what was run: a claim about a method that was not is left out, a level left as it fell is found."""
    from pdsel.pipeline.report import findings, load_costs, load_outcomes, main_table
    from pdsel.pipeline.text import headline, main_rows

    cell = tmp_path / "conflict30-seed0"
    shutil.copytree(results / "conflict30-seed0", cell, ignore=shutil.ignore_patterns("local"))
    outcomes = pd.read_parquet(cell / "outcomes.parquet")
    few = outcomes[outcomes["method"].isin(["SFT", "PD", "RAND"])]
    few.to_parquet(cell / "outcomes.parquet", index=False)
    manifest = json.loads((cell / "manifests" / "05_evaluation.json").read_text())
    manifest["parameters"]["conflict"] = None
    (cell / "manifests" / "05_evaluation.json").write_text(json.dumps(sealed(manifest)))
    table = main_table(load_outcomes(tmp_path))
    level = max(table["conflict"])
    assert level == pytest.approx(0.3, abs=0.02)
    assert list(findings(load_outcomes(tmp_path), level)["claim"]) == ["PD above RAND at the same budget"]
    assert list(main_rows(table, load_costs(tmp_path), level)["method"]) == ["SFT", "RAND", "PD"]
    assert "most conflicting" not in headline(table, level)


def test_the_table_needs_neither_the_studies_nor_the_checks_of_proxies(tmp_path):
    plan = snakemake("--dry-run", "--", "table", results=tmp_path, profile="mini")
    listed = set(re.findall(r"^(\w+) +\d+$", plan.stdout + plan.stderr, re.MULTILINE))
    assert listed == {"data", "proxies", "selection", "dpo", "evaluation", "table", "total"}


def test_a_base_model_that_a_study_starts_from_is_trained_by_the_graph(tmp_path):
    """What notebook 11 reads is made before it: by the recipe of the shipped model, with another seed."""
    plan = snakemake("--dry-run", "--printshellcmds", "--", "paper_claims", results=tmp_path, profile="toy")
    text = plan.stdout + plan.stderr
    listed = set(re.findall(r"^(\w+) +\d+$", text, re.MULTILINE))
    assert plan.returncode == 0 and listed == {"another_base", "paper_claims", "total"}
    assert f"base {tmp_path}/local/another_base --seed 1" in text
    assert f"another_base: {tmp_path}/local/another_base" in text


def test_a_run_by_hand_writes_nothing_that_git_sees():
    for notebook in NOTEBOOKS:
        for name, value in notebook_defaults(notebook).items():
            read_only = (notebook.stem, name) in READ_ONLY
            if isinstance(value, str) and value.startswith("../results") and not read_only:
                assert value.startswith("../results/local/"), f"{notebook.stem}: {name}"


def test_a_stage_with_other_parameters_is_kept_out_of_the_run():
    for notebook in NOTEBOOKS:
        code = notebook.read_text()
        assert code.count(" = Stage(") == code.count(" = own_folder("), notebook.stem


def test_data_with_another_conflict_is_kept_out_of_the_run(tmp_path):
    """01 with `conflict = None`, as a reader runs it: a folder of its own, and the run of the profile untouched."""
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(ROOT / "results" / "mini", tmp_path / "results" / "mini")
    done = papermill.execute_notebook(
        ROOT / "notebooks" / "01_data.ipynb",
        tmp_path / "out.ipynb",
        {"conflict": None, "n_prompts": 60},
        cwd=tmp_path / "notebooks",
        kernel_name="python3",
        progress_bar=False,
    )
    (mine,) = (tmp_path / "results" / "local").iterdir()
    assert mine.name == "mine" and "differs from the run in" in str(done.cells)
    (folder,) = mine.iterdir()
    assert verify("01_data", folder)["parameters"]["conflict"] is None


def test_run_again_does_nothing(results):
    again = snakemake("--dry-run", results=results)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_results_folder_without_work_is_run_anew(results, tmp_path):
    """A fresh clone holds the committed manifests but none of the work: everything is planned."""
    shutil.copytree(results, tmp_path / "clone", ignore=shutil.ignore_patterns("local"))
    plan = snakemake("--dry-run", results=tmp_path / "clone")
    assert re.search(rf"dpo +{len(ORDER) - 1}\b", plan.stdout + plan.stderr)


def test_same_seed_same_bytes(results, tmp_path):
    """The chain up to the kept ids, and one policy's training log, made again elsewhere."""
    cell, again = results / "conflict30-seed0", tmp_path / "again"
    profile = load_profile(ROOT / "notebooks" / "profiles" / "smoke.yaml")
    for name, extra in [
        ("01_data", {"conflict": 0.3}),
        ("02_proxies", {}),
        ("03_selection", {}),
        ("04_dpo", {"method": "PD"}),
    ]:
        parameters = (profile.get(name) or {}) | extra | {"folder": str(again), "seed": 0}
        papermill.execute_notebook(
            ROOT / "notebooks" / f"{name}.ipynb",
            tmp_path / f"{name}.ipynb",
            parameters,
            cwd=ROOT / "notebooks",
            kernel_name="python3",
            progress_bar=False,
        )
    for file in [
        "pairs_summary.csv",
        "local/margins.parquet",
        "scores.parquet",
        "kept.csv",
        "training/PD.csv",
        "local/policies/PD",
    ]:
        assert digest(cell / file) == digest(again / file), file


FIVE_LINES = """
def loudest(pairs, pooled):
    "The size of the pooled reward's margin, highest kept."
    return pooled.abs()

rules.RULES["loudest"] = rules.Rule(loudest, "highest", "here")
"""


def test_a_new_rule_of_five_lines_is_in_the_notebooks_tables(results, tmp_path):
    """The committed notebook, with one cell more and nothing else touched."""
    folder = shutil.copytree(results / "conflict30-seed0", tmp_path / "cell")  # with its signals: nothing is trained
    before = pd.read_csv(folder / "rules.csv", index_col=0)
    notebook = nbformat.read(ROOT / "notebooks" / "03b_rules.ipynb", 4)
    first = next(row for row, cell in enumerate(notebook.cells) if cell.source == "rules.describe()")
    notebook.cells.insert(first, nbformat.v4.new_code_cell(FIVE_LINES))
    nbformat.write(notebook, tmp_path / "03b_rules.ipynb")
    done = papermill.execute_notebook(
        tmp_path / "03b_rules.ipynb",
        tmp_path / "out.ipynb",
        {"folder": str(folder), "human_ratings": ""},
        cwd=ROOT / "notebooks",
        kernel_name="python3",
        progress_bar=False,
    )
    shown = {cell.id: str([out.get("data") for out in cell.outputs]) for cell in done.cells if cell.cell_type == "code"}
    tables = [
        cell.id
        for cell in notebook.cells
        if cell.source.startswith(("rules.describe()", "signals =", "costs =", "gaps ="))
    ]
    assert len(tables) == 4 and all("loudest" in shown[name] for name in tables)
    after = pd.read_csv(folder / "rules.csv", index_col=0)
    assert list(after.index) == [*before.index, "loudest"]
    pd.testing.assert_frame_equal(after.drop("loudest"), before)
    assert "loudest" in pd.read_csv(folder / "rule_overlap.csv", index_col=0).columns


def test_results_are_redone_without_training(results, tmp_path):
    """What `make results` does: from committed files alone, the same tables byte for byte."""
    shutil.copytree(
        results, tmp_path / "clone", ignore=shutil.ignore_patterns("local", "tables", "figures", "manifest.json")
    )
    papermill.execute_notebook(
        ROOT / "notebooks" / "06_results.ipynb",
        tmp_path / "out.ipynb",
        {"results": str(tmp_path / "clone")},
        cwd=ROOT / "notebooks",
        kernel_name="python3",
        progress_bar=False,
    )
    redone = sorted((tmp_path / "clone" / "tables").iterdir())
    assert len(redone) >= 5
    for path in redone:
        assert path.read_bytes() == (results / "tables" / path.name).read_bytes(), path.name


def test_your_data_is_what_trl_takes(results):
    folder = results / "local" / "your_data" / "preferences"
    table = pd.read_parquet(folder / "train.parquet")
    assert list(table.columns) == ["prompt", "chosen", "rejected", "aspect", "pd", "pair_id"]
    assert table["pd"].is_monotonic_increasing
    manifest = verify("07_your_data", results / "local" / "your_data")
    assert manifest["facts"]["n_kept"] == len(table) == round(0.3 * manifest["facts"]["n_pairs"])


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profiles_name_declared_parameters_only(path):
    assert load_profile(path)["grid"]["methods"]


def test_a_profile_extends_another_key_by_key():
    paper, helpsteer = (
        load_profile(ROOT / "notebooks" / "profiles" / f"{name}.yaml") for name in ("paper", "paper-helpsteer")
    )
    changed = {
        (section, key): values[key]
        for section, values in helpsteer.items()
        for key in values
        if values[key] != paper[section].get(key)
    }
    assert changed == {
        ("grid", "conflicts"): [None],
        ("01_data", "source"): "helpsteer",
        ("03_selection", "share"): 0.5,
    }


def test_unknown_profile_key_stops_before_anything_starts(tmp_path):
    profile, results = tmp_path / "wrong-for-test.yaml", tmp_path / "results"
    results.mkdir()
    profile.write_text("grid: {conflicts: [0.3], seeds: [0], methods: [PD]}\n04_dpo: {learning_rat: 1}\n")
    stopped = snakemake("--dry-run", profile=profile, results=results)
    assert stopped.returncode != 0
    assert "04_dpo declares no parameter ['learning_rat']" in stopped.stdout + stopped.stderr
    assert list(results.iterdir()) == []


def test_a_failing_notebook_names_its_cell(tmp_path):
    profile = tmp_path / "failing-for-test.yaml"
    profile.write_text("grid: {conflicts: [0.95], seeds: [0], methods: [PD]}\n01_data: {n_prompts: 20, size: 4000}\n")
    failed = snakemake("--until", "data", profile=profile, results=tmp_path)
    output = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert re.search(r'Exception encountered at "In \[\d+\]"', output)
    assert "the data can supply" in output
    assert not list(tmp_path.rglob("pairs.parquet"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean_and_short(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.cells[0].source.startswith("# ")
    assert "Exercises" in "".join(cell.source for cell in notebook.cells[-10:])
    assert declared_parameters(path)
    assert max(len(cell.source.splitlines()) for cell in code) <= 22


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_is_a_commented_literal(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    lines = [line for line in cells[0].source.splitlines() if line.strip()]
    assert all("#" in line and " = " in line for line in lines), lines


def imported_from(module, name):
    """What `from module import name` gives."""
    found = getattr(importlib.import_module(module), name, None)
    return importlib.import_module(f"{module}.{name}") if found is None else found


def calls_of_pdsel(notebook):
    """Every call in a notebook of what it imports from pdsel, as (text, function, call); also in cells that no test runs."""
    cells = [cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    tree, known = ast.parse("\n".join(cells)), {"pdsel": pdsel}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "pdsel":
            known |= {alias.asname or alias.name: imported_from(node.module, alias.name) for alias in node.names}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[0] in known:
            name, *attributes = ast.unparse(call.func).split(".")
            if not attributes or (len(attributes) == 1 and inspect.ismodule(known[name])):
                yield ast.unparse(call), getattr(known[name], *attributes) if attributes else known[name], call


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_call_functions_as_they_are(path):
    """What takes hours is not run by tests: at least its calls name arguments that there are, and all that are needed."""
    for text, function, call in calls_of_pdsel(path):
        given = [None for each in call.args if not isinstance(each, ast.Starred)]
        named = {keyword.arg: None for keyword in call.keywords if keyword.arg}
        whole = len(given) == len(call.args) and len(named) == len(call.keywords)
        signature = inspect.signature(function)
        try:
            (signature.bind if whole else signature.bind_partial)(*given, **named)
        except TypeError as error:
            pytest.fail(f"{text}: {error}")


def test_committed_results_of_mini_are_what_the_tables_say():
    """The book's tables are generated: the committed Markdown comes from the committed CSVs and manifests."""
    from pdsel.pipeline.report import findings, load_costs, load_nulls, load_outcomes, main_table, work_done
    from pdsel.pipeline.text import aspect_rows, headline, length_note, main_rows, markdown, null_note, null_rows

    mini = ROOT / "results" / "mini"
    table = main_table(load_outcomes(mini), load_outcomes(mini, "families.parquet"))
    shown = max(table["conflict"])
    expected = {
        "table1": markdown(main_rows(table, load_costs(mini), shown)),
        "aspects": markdown(aspect_rows(table, shown)),
        "claims": markdown(findings(load_outcomes(mini), shown)),
        "headline": headline(table, shown),
        "length_note": length_note(load_outcomes(mini), table, shown),
        "nulls": markdown(null_rows(load_nulls(mini))),
        "null_note": null_note(load_nulls(mini)),
        "work": work_done(json.loads((mini / "manifest.json").read_text()), mini),
    }
    book = shown_blocks(ROOT)
    for name, text in expected.items():
        assert (mini / "tables" / f"{name}.md").read_text() == text + "\n", name
        assert name == "aspects" or book[name] == {text}, name  # of the aspects, the book shows the grid
