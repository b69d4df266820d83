"""What selecting costs beside training: the arithmetic, and that both are measured and kept."""

import pytest

from pdsel.experiments.cost_study import cost_cells, cost_ratio, kept_pairs, n_parameters, timed
from pdsel.notesworld import BASE_MODEL
from pdsel.notesworld.settings import PROXY_BASE
from pdsel.pipeline.__main__ import main
from pdsel.pipeline.compute import find_model


def test_a_ratio_is_measured_once_and_then_read(tmp_path, monkeypatch):
    [row] = cost_ratio(BASE_MODEL, tmp_path, seeds=[7], n_pairs=40).to_dict("records")
    for unit in ("", "cpu_"):
        spent = row[f"{unit}selection"] + row[f"{unit}kept"]
        assert row[f"{unit}ratio"] == pytest.approx(spent / row[f"{unit}all"]) and row[f"{unit}all"] > 0
    assert (
        row["times"] == n_parameters(BASE_MODEL) / n_parameters(PROXY_BASE) > 3
        and row["kind"] == "probe"
        and not {"policy", "content"} & set(row)
    )
    monkeypatch.setattr("pdsel.experiments.cost_study.make_world", None)
    assert cost_ratio(BASE_MODEL, tmp_path, seeds=[7], n_pairs=40)["ratio"].tolist() == [row["ratio"]]


def test_another_policy_in_the_same_folder_is_another_cell(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    [one] = cost_cells(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"another")
    assert cost_cells(tmp_path) != [one]


@pytest.mark.parametrize("kind", ["probe", "implicit"])
def test_the_kept_share_is_kept(pairs, kind):
    kept = kept_pairs(pairs, kind, BASE_MODEL, 0)
    assert len(kept) == round(0.3 * len(pairs)) and set(kept["pair_id"]) < set(pairs["pair_id"])


def test_seconds_are_of_the_clock_and_of_this_process():
    value, seconds = timed(lambda: sum(range(1000)))
    assert value == 499_500 and set(seconds) == {"", "cpu_"}


def test_parameters_are_counted():
    for name, path in {"notesworld": BASE_MODEL, "notesworld-small": PROXY_BASE}.items():
        assert n_parameters(path) == find_model(name).parameters


def test_the_command_prints_the_ratio(tmp_path, capsys):
    arguments = ["ratio", BASE_MODEL, "--seeds", "7", "--pairs", "40", "--cells", str(tmp_path)]
    assert main(arguments) == 0
    assert "probe: (selection + DPO on the kept share) / DPO on all = " in capsys.readouterr().out


def test_the_command_prints_the_default_of_the_probes(tmp_path, capsys):
    assert main(["probes", "--pairs", "60", "--cells", str(tmp_path)]) == 0
    assert "Smallest loss on held-out prompts: " in capsys.readouterr().out
