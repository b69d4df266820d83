"""Evaluation prompts: every layout by hand, the named sets from stand-ins of their files, and the five families."""

import json

import pandas as pd
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from pdsel.data import sources
from pdsel.data.eval_prompts import SETS, family_prompts, held_out_prompts, load_prompts, open_set_prompts
from pdsel.notesworld import FAMILIES, draw_prompts, read_prompt, split_of
from pdsel.ratings import prompt_id

ALPACA = [
    {"instruction": f"{name} {i}", "dataset": name, "output": "x", "generator": "davinci"}
    for name in ("helpful_base", "koala", "oasst", "selfinstruct", "vicuna")
    for i in range(3)
]


def write(path, rows):
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]")
    return path


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that holds stand-ins, and remembers what it was asked for."""
    asked = []

    def download(repository, file, *, repo_type, revision):
        asked.append((repository, file, repo_type, revision))
        rows = ALPACA if "alpaca" in file else [{"conversations": [f"lima {i}"], "source": "authors"} for i in range(4)]
        return str(write(tmp_path / file, rows))

    monkeypatch.setattr(sources, "hf_hub_download", download)
    return asked


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Why?", "output": "no prompt"},  # AlpacaEval
        {"idx": 1, "Skill": "Math", "Difficulty": 1, "Instruction": "Why?"},  # WizardLM
        {"id": "koala_1", "prompt": "Why?"},  # Koala
        {"question_id": 1, "category": "generic", "turns": ["Why?", "And then?"]},  # Vicuna, of FastChat
        {"question_id": 1, "text": "Why?", "category": "generic"},  # Vicuna, the first release
        {"question": "Why?"},
        {"conversations": ["Why?"], "source": "authors"},  # LIMA
        {"conversations": "Why?"},
        {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Why?"}]},
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]},
        {"prompt": [{"role": "user", "content": "Why?"}]},
        {"instruction": "Why?", "instances": [{"input": "", "output": "x"}], "id": "user_oriented_task_0"},
        {"instruction": "Why?", "input": ""},
    ],
)
def test_every_layout_gives_the_prompt(tmp_path, suffix, row):
    table = load_prompts(write(tmp_path / f"hand{suffix}", [row, row]))
    assert table.to_list() == [{"prompt_id": prompt_id("Why?"), "prompt": "Why?", "dataset": "hand"}] * 2


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Translate.", "input": "Guten Tag"},
        {"instruction": "Translate.", "instances": [{"input": "Guten Tag", "output": "x"}, {"input": "Hallo"}]},
        {"instruction": "Translate.", "instances": {"input": ["Guten Tag", "Hallo"], "output": ["x", "y"]}},
    ],
)
def test_an_input_follows_its_instruction(tmp_path, row):
    assert load_prompts(write(tmp_path / "a.jsonl", [row]))["prompt"][:] == ["Translate.\n\nGuten Tag"]


def test_rows_keep_their_order_their_set_and_their_repetitions(tmp_path):
    path = write(tmp_path / "mine.jsonl", [{"prompt": "b", "dataset": "x"}, {"prompt": "a"}, {"prompt": "b"}])
    table = load_prompts(path)
    assert table["prompt"][:] == ["b", "a", "b"] and table["dataset"][:] == ["x", "mine", "mine"]
    assert len(set(table["prompt_id"])) == 2
    assert load_prompts(path, limit=2).to_list() == table.to_list()[:2]
    assert len(load_prompts(path, limit=9)) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"prompt": "a"}, {"prompt": " "}, {"other": "b"}],
            "missing or empty in row: 2 \\(first: 1, 2\\).*'instruction'",
        ),
        ([{"turns": []}], "missing or empty in row: 1"),
        ([{"conversations": [{"from": "system", "value": "x"}]}], "missing or empty in row: 1"),
        ([{"instances": [], "instruction": ""}], "missing or empty in row: 1"),
    ],
)
def test_rows_without_a_prompt_are_named(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        load_prompts(write(tmp_path / "a.jsonl", rows))


def test_other_names_and_limits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'alpacaeval': use one of .*'alpaca_eval'"):
        load_prompts("alpacaeval")
    with pytest.raises(ValueError, match="no file at"):
        load_prompts(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="the suffix tells the format"):
        load_prompts(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="limit=0"):
        load_prompts("vicuna", limit=0)


def test_alpaca_eval_comes_pinned_and_keeps_its_five_parts(hub):
    table = load_prompts("alpaca_eval")
    assert hub == [("tatsu-lab/alpaca_eval", "alpaca_eval.json", "dataset", "57530fed23a308e771c06bba55cb49b7e7625711")]
    assert len(table) == 15 and sorted(set(table["dataset"])) == sorted({row["dataset"] for row in ALPACA})
    load_prompts("alpaca_eval", revision="main")
    assert hub[-1][-1] == "main"


@pytest.mark.parametrize(
    ("name", "part"), [("vicuna", "vicuna"), ("koala", "koala"), ("self_instruct", "selfinstruct")]
)
def test_three_open_sets_are_parts_of_it(hub, name, part):
    assert load_prompts(name, limit=2)["prompt"][:] == [f"{part} 0", f"{part} 1"]


def test_lima_is_the_gated_test_file(hub):
    assert load_prompts("lima")["prompt"][:] == [f"lima {i}" for i in range(4)]
    assert hub == [("GAIR/lima", "test.jsonl", "dataset", None)]


@pytest.mark.parametrize("name", [name for name in SETS if name != "wizardlm"])
def test_without_the_hub_the_message_names_the_file(monkeypatch, name):
    def offline(*args, **options):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(sources, "hf_hub_download", offline)
    with pytest.raises(ValueError, match="Remedy: download https://huggingface.co/datasets/.*json"):
        load_prompts(name)


def test_wizardlm_says_which_file_to_download():
    with pytest.raises(ValueError, match="Remedy: download https://github.com/nlpxucan/.*WizardLM_testset.jsonl"):
        load_prompts("wizardlm")


# ---- the notes world's families


def test_families_ask_for_what_they_say():
    table = family_prompts(40, seed=3).to_pandas()
    assert table["dataset"].value_counts().to_dict() == dict.fromkeys(FAMILIES, 40)
    assert all(split_of(prompt) == "eval" for prompt in table["prompt"])
    assert (table["prompt_id"] == table["prompt"].map(prompt_id)).all()
    rows = {name: [read_prompt(prompt) for prompt in group["prompt"]] for name, group in table.groupby("dataset")}
    assert {len(question.asked) for question in rows["brief"]} == {2}
    assert {len(question.asked) for question in rows["long"]} == {3}
    assert {question.tone for question in rows["careful"]} == {"carefully"}
    assert {question.tone for question in rows["bold"]} == {"boldly"}
    assert {len(question.notes) for question in rows["crowded"]} == {4}
    for name in ("careful", "bold"):
        assert {len(question.asked) for question in rows[name]} == {2, 3}, "a family fixes one thing only"
        assert {len(question.notes) for question in rows[name]} == {3, 4}
    assert all(len({question.tone for question in rows[name]}) == 2 for name in ("brief", "long", "crowded"))


def test_every_family_draws_from_a_stream_of_its_own():
    drawn = [draw_prompts(200, split="eval", seed=0, family=name) for name in (None, *FAMILIES)]
    assert len({prompt for prompts in drawn for prompt in prompts}) > 1190, "a prompt may be drawn twice by chance"
    assert (
        draw_prompts(9, split="select", seed=0, family="long")
        == draw_prompts(20, split="select", seed=0, family="long")[:9]
    )


def test_without_a_family_prompts_are_those_of_the_committed_results():
    prompts = draw_prompts(500, split="eval", seed=0)
    assert prompt_id("\n".join(prompts)) == "28f931bfb23e0199"


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="family='tall' is not a family .*'crowded'"):
        draw_prompts(1, split="eval", seed=0, family="tall")


def test_families_are_not_answered_alike():
    """They are more than five samples of one set: the base model heeds the tone, and tells all that is asked."""
    from pdsel import generate
    from pdsel.notesworld import BASE_MODEL
    from pdsel.notesworld.variants import features

    table = family_prompts(40).to_pandas()
    outputs = generate(BASE_MODEL, table["prompt"], temperature=1.0, max_new_tokens=24)
    claims = [features(prompt, output)["bold"] for prompt, output in zip(table["prompt"], outputs, strict=True)]
    claim = pd.Series(claims).groupby(table["dataset"]).mean()
    # Who heeds the tone, on average one in two, claims .25 or .75 on average, and the others .5: .13 either way.
    assert claim["bold"] > claim["careful"] + 0.15
    words = pd.Series([len(output.split()) for output in outputs]).groupby(table["dataset"]).mean()
    assert words["long"] > words["brief"] + 3, "one sentence of four words more"


def test_held_out_prompts_are_the_worlds_or_a_sets(tmp_path):
    assert held_out_prompts("notesworld", 7)["prompt"][:] == draw_prompts(7, split="eval", seed=0)
    (tmp_path / "mine.jsonl").write_text('{"instruction": "one"}\n{"instruction": "two"}\n')
    assert held_out_prompts(tmp_path / "mine.jsonl")["prompt"][:] == ["one", "two"]
    assert held_out_prompts(tmp_path / "mine.jsonl", 1)["prompt"][:] == ["one"]


@pytest.mark.parametrize("ask", [held_out_prompts, lambda name, n: open_set_prompts([name], n)])
def test_the_notes_world_is_asked_for_a_number_of_prompts(ask):
    with pytest.raises(ValueError, match="n=None: the notes world has no last prompt. Remedy: give a number"):
        ask("notesworld", None)


def test_open_sets_stand_one_after_the_other(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"instruction": "one"}\n{"instruction": "two"}\n')
    table = open_set_prompts([tmp_path / "mine.jsonl", "notesworld"], 1).to_pandas()
    assert table["dataset"].tolist() == ["mine", *FAMILIES]
    assert table["prompt"].tolist()[1:] == family_prompts(1)["prompt"][:]
    with pytest.raises(ValueError, match="names: no set of prompts"):
        open_set_prompts([])
