"""The selected subset out: the folder's files, its card, what the libraries make of it, and what is refused."""

import json
import math
from importlib.resources import files
from types import SimpleNamespace

import pandas as pd
import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import DatasetCard

from pdsel.artifacts import digest
from pdsel.data import export
from pdsel.data.export import export_preferences
from pdsel.divergence import rating_divergence
from pdsel.pairs import make_pairs
from pdsel.ratings import load_ratings
from pdsel.selection import select

COLUMNS = ["prompt", "chosen", "rejected", "aspect", "pd", "pair_id"]


@pytest.fixture
def divergence(pairs):
    return rating_divergence(pairs)


@pytest.fixture
def kept(divergence):
    return select(divergence, 0.3)


@pytest.fixture
def folder(pairs, kept, divergence, ratings, rated_file, tmp_path):
    return export_preferences(
        pairs,
        kept,
        tmp_path / "mine",
        divergence=divergence,
        source=ratings,
        inputs=[rated_file],
        licence="mit",
        share=0.3,
        kind="implicit",
        quantile=0.9,
    )


def load(folder, cache):
    return load_dataset(str(folder), split="train", cache_dir=str(cache))


def test_the_folder_loads_as_the_kept_pairs_best_first(folder, pairs, kept, divergence, tmp_path):
    table = load(folder, tmp_path / "cache")
    assert table.column_names == COLUMNS
    assert table["pair_id"][:] == list(kept) and table["pd"][:] == divergence[kept].tolist()
    expected = pairs.to_pandas().set_index("pair_id").loc[kept]
    for column in COLUMNS[:4]:
        assert table[column][:] == expected[column].tolist()


def test_both_formats_hold_the_same_rows(folder, tmp_path):
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == load(folder, tmp_path / "cache").to_list()
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "train.jsonl", "train.parquet"]


def test_the_card_says_how_it_was_selected(folder, ratings, pairs, kept, divergence, rated_file):
    card = DatasetCard.load(folder / "README.md")
    assert (card.data.license, card.data.pretty_name, card.data.size_categories) == ("mit", "mine", ["n<1K"])
    assert card.data.configs == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}
    ]
    best = divergence[kept]
    for fact in (
        f"| pairs to choose from | {len(pairs)} |",
        f"| pairs kept | {len(kept)} |",
        "| share | 0.3 |",
        "| kind | implicit |",
        "| quantile | 0.9 |",
        f"{best.min():.4g} to {best.max():.4g}",
        "2508.07638",
        ratings.info.description,
        "preference divergence",
    ):
        assert fact in card.text
    for path in (rated_file, folder / "train.parquet", folder / "train.jsonl"):
        assert f"| {path.name} | `{digest(path)}` |" in card.text
    assert str(folder.parent) not in card.content  # nobody else has this folder


def test_a_data_set_by_name_brings_its_licence_page_and_citation(pairs, kept, ratings, tmp_path):
    source = ratings.select(range(len(ratings)))
    source.info.license, source.info.homepage = "cc-by-4.0", "https://huggingface.co/datasets/nvidia/HelpSteer2"
    source.info.citation, source.info.description = "@article{wang2024helpsteer2}", "helpsteer2: 9 read; 1 removed"
    card = DatasetCard.load(export_preferences(pairs, kept, tmp_path, source=source, name="Mine") / "README.md")
    assert (card.data.license, card.data.source_datasets) == ("cc-by-4.0", ["nvidia/HelpSteer2"])
    for text in (source.info.citation, source.info.description, f"<{source.info.homepage}>", "# Mine"):
        assert text in card.text


def test_without_source_and_divergence(pairs, kept, tmp_path):
    folder = export_preferences(pairs, kept, tmp_path / "plain")
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "unknown" and "preference divergence" not in card.text
    assert load(folder, tmp_path / "cache").column_names == [name for name in COLUMNS if name != "pd"]


def test_equal_input_gives_equal_bytes(folder, pairs, kept, divergence, tmp_path):
    again = export_preferences(pairs, kept, tmp_path / "again", divergence=divergence)
    for name in ("train.parquet", "train.jsonl"):
        assert digest(again / name) == digest(folder / name)


def test_facts_cannot_break_the_table(pairs, kept, tmp_path):
    text = (export_preferences(pairs, kept, tmp_path, rule="a|b\nc") / "README.md").read_text()
    assert "| rule | a\\|b c |" in text


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_trl_takes_the_folder_as_it_is(folder, tmp_path):
    from trl import DPOConfig, DPOTrainer

    from pdsel.engine.models import load_causal, load_tokenizer
    from pdsel.notesworld import BASE_MODEL

    settings = DPOConfig(
        output_dir=str(tmp_path / "run"),
        max_steps=1,
        per_device_train_batch_size=4,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
    )
    trainer = DPOTrainer(
        load_causal(BASE_MODEL),
        args=settings,
        train_dataset=load(folder, tmp_path / "cache"),
        processing_class=load_tokenizer(BASE_MODEL),
    )
    assert len(trainer.train_dataset) == len((folder / "train.jsonl").read_text().splitlines())
    assert trainer.train().training_loss == pytest.approx(math.log(2), abs=1e-4)  # nothing is learnt before step 1


def test_chat_messages_and_unicode_come_through(tmp_path):
    def turn(role, text):
        return [{"role": role, "content": text}]

    texts = [("¿qué? 🦙\u2028", "日本語", "no"), ("q" * 100_000, "yes\n", "\x00no")]
    rows = [
        {
            "pair_id": f"z{i}",
            "prompt": turn("user", prompt),
            "chosen": turn("assistant", chosen),
            "rejected": turn("assistant", rejected),
            "aspect": "a",
        }
        for i, (prompt, chosen, rejected) in enumerate(texts)
    ]
    folder = export_preferences(Dataset.from_list(rows), ["z1", "z0"], tmp_path / "chat")
    expected = [{name: row[name] for name in COLUMNS if name != "pd"} for row in rows[::-1]]
    assert load(folder, tmp_path / "cache").to_list() == expected
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines if line] == expected


def test_many_batches_are_one_file(monkeypatch, pairs, kept, divergence, folder, tmp_path):
    monkeypatch.setattr(export, "BATCH", 7)
    small = export_preferences(pairs, kept, tmp_path / "small", divergence=divergence)
    assert digest(small / "train.jsonl") == digest(folder / "train.jsonl")
    assert load(small, tmp_path / "cache").to_list() == load(folder, tmp_path / "cache").to_list()


def test_a_broken_write_leaves_no_card_and_the_old_rows(monkeypatch, folder, pairs, kept, tmp_path):
    before = digest(folder / "train.parquet")

    def broken(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "json", SimpleNamespace(dumps=broken))  # the module is used by the libraries, too
    with pytest.raises(KeyboardInterrupt):
        export_preferences(pairs, kept[:5], folder)
    assert sorted(path.name for path in folder.iterdir()) == ["train.jsonl", "train.parquet"]
    assert digest(folder / "train.parquet") == before


BAD = {
    "no ids": ({"kept": []}, "kept: no pair is kept. Remedy"),
    "unknown ids": (
        {"kept": ["z0", "x1", "x2"]},
        r"kept: pair_id is not in the pairs table: 2 \(first: x1, x2\)\. Remedy",
    ),
    "repeated ids": ({"kept": ["z0", "z1", "z0"]}, r"kept: pair_id occurs more than once: 1 \(first: z0\)\. Remedy"),
    "no score": (
        {"divergence": pd.Series({"z0": -1.0})},
        r"divergence is absent or NaN for pairs: 1 \(first: z1\)\. Remedy",
    ),
    "NaN score": ({"divergence": pd.Series({"z0": -1.0, "z1": float("nan")})}, r"divergence is absent or NaN"),
}


@pytest.mark.parametrize(("options", "problem"), BAD.values(), ids=BAD)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(hand_pairs, tmp_path, options, problem):
    table = hand_pairs(("a", [1.0, 2.0], 1.0), ("b", [1.0, 2.0], 1.0))
    with pytest.raises(ValueError, match=problem):
        export_preferences(table, **{"kept": ["z0", "z1"]} | options, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pairs_that_teach_nothing_are_refused(hand_pairs, tmp_path):
    table = hand_pairs(
        ("a", [1.0, 2.0], 1.0), ("b", [1.0, 2.0], 1.0), chosen=["same", "good"], rejected=["same", "bad"]
    )
    with pytest.raises(ValueError, match=r"chosen equals rejected: 1 \(first: z0\)"):
        export_preferences(table, ["z0", "z1"], tmp_path / "out")
    assert export_preferences(table, ["z1"], tmp_path / "out").exists()  # only what is kept counts
    with pytest.raises(ValueError, match="column missing.*aspect"):
        export_preferences(table.remove_columns("aspect"), ["z1"], tmp_path / "out")


def test_the_shipped_example_from_file_to_folder(tmp_path):
    path = files("pdsel") / "examples" / "rated.jsonl"
    ratings = load_ratings(path)
    pairs = make_pairs(ratings)
    scores = rating_divergence(pairs)
    folder = export_preferences(
        pairs, select(scores, 0.5), tmp_path / "out", divergence=scores, source=ratings, inputs=[path]
    )
    assert len(load(folder, tmp_path / "cache")) == round(0.5 * len(pairs))
