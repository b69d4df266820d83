"""Generation: nothing but the prompt, the model and the seed decide an output; and files that AlpacaEval reads."""

import json
import shutil
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from tokenizers.processors import TemplateProcessing

from pdsel import generate, generation
from pdsel.data.outputs import COLUMNS, align_outputs, load_outputs, save_outputs
from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.generation import SeededDraw, cut, draw_keys
from pdsel.notesworld import BASE_MODEL, draw_prompts

PROMPTS = draw_prompts(33, split="eval", seed=5)
SHORT = {"max_new_tokens": 16}
ASK = "; tell boldly size and age ="
TEMPLATE = (
    "{% for turn in messages %}{{ turn['content'] }} {% endfor %}{% if add_generation_prompt %}" + ASK + "{% endif %}"
)


@pytest.fixture(scope="module")
def whole():
    return {temperature: generate(BASE_MODEL, PROMPTS, temperature=temperature, **SHORT) for temperature in (0, 1)}


@pytest.fixture
def model_with(tmp_path):
    """A copy of the base model whose files are changed: `{file: {key: value}}`."""

    def build(changes, template=None):
        folder = tmp_path / "model"
        shutil.copytree(BASE_MODEL, folder)
        for file, values in changes.items():
            (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | values))
        if template:
            (folder / "chat_template.jinja").write_text(template)
        return str(folder)

    return build


@pytest.fixture
def seen(monkeypatch):
    """What reaches the engine: ids, keys and settings, with `engine="spy"`."""
    calls = []

    def spy(model, tokenizer, ids, keys, decoding):
        calls.append(SimpleNamespace(ids=ids, keys=keys, decoding=decoding))
        return ["x"] * len(ids)

    monkeypatch.setitem(generation.ENGINES, "spy", spy)
    return calls


# ---- nothing but the prompt, the model and the seed


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_outputs_do_not_depend_on_batch_size_or_order(whole, temperature, batch_size):
    assert len({len(prompt.split()) for prompt in PROMPTS}) > 3, "the batches need padding"
    order = np.random.default_rng(batch_size).permutation(len(PROMPTS))
    options = {"temperature": temperature, "batch_size": batch_size, **SHORT}
    assert generate(BASE_MODEL, PROMPTS, **options) == whole[temperature]
    shuffled = generate(BASE_MODEL, [PROMPTS[i] for i in order], **options)
    assert shuffled == [whole[temperature][i] for i in order]
    assert generate(BASE_MODEL, PROMPTS[3:5], **options) == whole[temperature][3:5]


def test_greedy_is_what_transformers_says_without_any_batch(whole):
    net, tokenizer = load_causal(BASE_MODEL), load_tokenizer(BASE_MODEL)
    for prompt, output in zip(PROMPTS[:8], whole[0], strict=False):
        inputs = tokenizer(prompt, return_tensors="pt")["input_ids"]
        ids = net.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False, **SHORT)
        assert tokenizer.decode(ids[0, inputs.shape[1] :], skip_special_tokens=True) == output


def test_seeds_draw_differently_and_the_global_state_is_left_alone(whole):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    again, other = (generate(BASE_MODEL, PROMPTS, temperature=1.0, seed=seed, **SHORT) for seed in (0, 1))
    assert again == whole[1] != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_repeated_prompt_gets_several_draws_in_any_order():
    repeated = [PROMPTS[0]] * 6 + [PROMPTS[1]] * 6
    draws = generate(BASE_MODEL, repeated, temperature=2.0, **SHORT)
    assert len(set(draws)) > 6
    assert generate(BASE_MODEL, repeated[::-1], temperature=2.0, **SHORT) == draws[6:] + draws[:6]


def test_a_longer_draw_continues_a_shorter_one():
    short, long = (generate(BASE_MODEL, PROMPTS[:8], temperature=1.0, max_new_tokens=n) for n in (3, 12))
    assert all(whole.startswith(part) for part, whole in zip(short, long, strict=True))
    assert short != long


def test_an_empty_list_gives_an_empty_list():
    assert generate("no/such-model", []) == []


# ---- sampling is exact


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (2.0, 0.9)])
def test_frequencies_of_the_first_token_are_those_of_the_model(temperature, top_p):
    net, tokenizer, n = load_causal(BASE_MODEL), load_tokenizer(BASE_MODEL), 2000
    prompt = f"notes size tiny ; age old ; home cave {ASK} size tiny"  # how sure one can be comes next: several words
    with torch.inference_mode():
        logits = net(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].double()
    share = (logits / temperature).softmax(-1).numpy()
    order = np.argsort(-share)
    share[order[np.cumsum(share[order]) - share[order] >= top_p]] = 0
    texts = [tokenizer.decode(i, skip_special_tokens=True) for i in range(len(share))]  # several tokens say nothing
    expected = pd.Series(n * share / share.sum(), index=texts).groupby(level=0).sum()
    options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": 1, "batch_size": 500}
    found = pd.Series(Counter(generate(BASE_MODEL, [prompt] * n, **options))).reindex(expected.index, fill_value=0)
    assert found.sum() == n and found[expected == 0].sum() == 0
    found, expected = found[expected > 0], expected[expected > 0]
    cells = expected.index.where(expected >= 5, "rare")
    found, expected = found.groupby(cells).sum(), expected.groupby(cells).sum()
    assert len(expected) >= 3 and chisquare(found, expected).pvalue > 0.01


def test_a_token_of_probability_zero_is_never_drawn():
    draw = SeededDraw(draw_keys(["a", "b", "c", "d"], 0), steps=1, start=0)
    draw.uniform = torch.tensor([[0.0], [np.nextafter(1, 0)], [0.4999], [0.5]], dtype=torch.float64)
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).repeat(4, 1)
    assert draw(torch.empty(4, 0), scores).argmax(-1).tolist() == [1, 3, 1, 3]


# ---- where an output ends


def test_stop_strings_cut_the_same_text_shorter(whole):
    expected = [cut(output, [" .", "surely"]).strip() for output in whole[0]]
    assert any("surely" in output.split(" .")[0] for output in whole[0])
    assert generate(BASE_MODEL, PROMPTS, stop=["surely", " ."], **SHORT) == expected != whole[0]
    assert generate(BASE_MODEL, PROMPTS, stop=["surely", " ."], batch_size=3, **SHORT) == expected
    assert generate(BASE_MODEL, PROMPTS[:1], stop=" .", **SHORT) == [whole[0][0].split(" .")[0]]


def test_a_stopped_batch_ends_early(monkeypatch):
    steps = []
    watched = generation.StopStrings.__call__
    monkeypatch.setattr(
        generation.StopStrings, "__call__", lambda self, *args, **kw: steps.append(1) or watched(self, *args, **kw)
    )
    generate(BASE_MODEL, PROMPTS, stop=" .", max_new_tokens=48)
    assert len(steps) < 10


def test_every_end_token_of_the_generation_config_ends_an_output(model_with, whole):
    full_stop = load_tokenizer(BASE_MODEL).convert_tokens_to_ids(".")
    model = model_with({"generation_config.json": {"eos_token_id": [1, full_stop]}})
    assert generate(model, PROMPTS, **SHORT) == [output.split(" .")[0] for output in whole[0]]


def test_a_special_token_can_be_a_stop_string(seen):
    class Tokenizer(SimpleNamespace):
        def get_added_vocab(self):
            return {"<end>": 7, "<pad>": 0}

    assert generation.end_tokens(Tokenizer(eos_token_id=2), ["<end>", "."], 3) == [2, 3, 7]
    assert generation.end_tokens(Tokenizer(eos_token_id=None), [], [5, 4]) == [4, 5]


def test_sampling_defaults_of_a_model_are_not_used(model_with, whole, capfd, recwarn):
    defaults = {"do_sample": True, "temperature": 0.6, "top_p": 0.5, "top_k": 2, "repetition_penalty": 5.0}
    model = model_with({"generation_config.json": defaults})
    assert generate(model, PROMPTS, **SHORT) == whole[0]
    assert generate(model, PROMPTS, temperature=1.0, **SHORT) == whole[1]
    assert "generation" not in capfd.readouterr().err
    assert not recwarn.list


# ---- chat messages and strings


def test_messages_go_through_the_template_prompt_by_prompt(model_with, seen):
    chat = [{"role": "user", "content": "notes size tiny ; age old ; home cave ; mood shy"}]
    text = f"notes size tiny ; age old ; home cave ; mood shy {ASK}"
    model = model_with({}, template=TEMPLATE)
    outputs = generate(model, [chat, text, PROMPTS[0], chat], **SHORT)
    assert outputs[0] == outputs[1] == outputs[3] and outputs[0].startswith("size tiny ")
    assert outputs[2] == generate(BASE_MODEL, PROMPTS[:1], **SHORT)[0]


def test_strings_get_the_tokenizers_own_tokens_and_templates_do_not(model_with, seen):
    model = model_with({}, template="<unk> " + TEMPLATE)
    tokenizer = load_tokenizer(model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 2)])
    tokenizer.save_pretrained(model)
    chat = [{"role": "user", "content": "notes size tiny"}]
    generate(model, [f"notes size tiny {ASK}", chat, "notes age old"], engine="spy")
    first, second, third = seen[0].ids
    assert first == second and first.count(2) == 1 and third[0] == 2


# ---- what is refused


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("one string", {}, "prompts is one string"),
        (["notes", " ", ""], {}, "position is empty: 2 \\(first: 1, 2\\)"),
        (["notes " * 100, "notes", "notes " * 120], {}, "holds more than 64 tokens.*2 \\(first: 0, 2\\).*has 120"),
        (["notes", 3, [], ["a"]], {}, "neither a string nor a list of messages: 3 \\(first: 1, 2, 3\\)"),
        (["notes", [{"role": "user", "content": "a"}]], {}, "no chat template: 1 \\(first: 1\\).*give plain strings"),
        (["notes"], {"temperature": -1}, "temperature=-1"),
        (["notes"], {"top_p": 0}, "top_p=0"),
        (["notes"], {"max_new_tokens": 0}, "max_new_tokens=0"),
        (["notes"], {"batch_size": 0}, "batch_size=0"),
        (["notes"], {"stop": ["a", ""]}, "stop="),
        (["notes"], {"engine": "tgi"}, "engine='tgi': use one of \\['transformers', 'vllm'\\]"),
    ],
)
def test_bad_prompts_and_options_are_refused(prompts, options, message):
    with pytest.raises(ValueError, match=message):
        generate(BASE_MODEL, prompts, **options)


def test_a_typo_in_an_option_is_refused_with_the_right_name():
    with pytest.raises(ValueError, match="temprature: there is no such option. Remedy: did you mean temperature"):
        generate(BASE_MODEL, PROMPTS, temprature=1.0)
    with pytest.raises(ValueError, match=r"beams: there is no such option. Remedy: see pdsel.generation.Decoding"):
        generate(BASE_MODEL, PROMPTS, beams=4)


# ---- vLLM, against its documented interface


def test_vllm_gets_ids_and_a_seed_per_prompt(monkeypatch):
    calls = {}

    class LLM:
        def __init__(self, model, *, dtype, seed):
            calls["model"] = model, dtype, seed

        def generate(self, prompts, sampling_params):
            calls["prompts"], calls["params"] = prompts, sampling_params
            return [SimpleNamespace(outputs=[SimpleNamespace(text=f" said {i} . no")]) for i in range(len(prompts))]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=SimpleNamespace))
    options = {"engine": "vllm", "temperature": 0.7, "top_p": 0.9, "stop": [" ."], "dtype": "float32"}
    assert generate(BASE_MODEL, PROMPTS[:2], **options) == ["said 0", "said 1"]
    assert calls["model"] == (BASE_MODEL, "float32", 0)
    assert calls["prompts"] == [{"prompt_token_ids": load_tokenizer(BASE_MODEL)(p)["input_ids"]} for p in PROMPTS[:2]]
    assert [vars(params) for params in calls["params"]] == [
        {"temperature": 0.7, "top_p": 0.9, "max_tokens": 64, "stop": [" ."], "stop_token_ids": [1], "seed": key}
        for key in draw_keys(PROMPTS[:2], seed=0)
    ]


def test_without_vllm_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ValueError, match="not installed. Remedy: .*engine='transformers'"):
        generate(BASE_MODEL, PROMPTS[:1], engine="vllm")


# ---- files in AlpacaEval's layout


def test_a_saved_file_has_the_documented_schema(tmp_path):
    chat = [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"},
    ]
    path = save_outputs(
        tmp_path / "new" / "me.json",
        ["é\u2028?", chat, "z"],
        ["yes", "no", None],
        generator="me",
        dataset=["a", "b", "c"],
    )
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert [list(row) for row in rows] == [["instruction", "output", "generator", "dataset", "datasplit"]] * 3
    assert all(isinstance(value, str) for row in rows for value in row.values())
    assert [tuple(row.values()) for row in rows] == [
        ("é\u2028?", "yes", "me", "a", "eval"),
        ("q2", "no", "me", "b", "eval"),
        ("z", "", "me", "c", "eval"),
    ]
    pd.testing.assert_frame_equal(pd.read_json(path), load_outputs(path))  # alpaca_eval reads it with pandas


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_a_file_gives_back_what_was_saved(tmp_path_factory, pairs):
    prompts, outputs = map(list, zip(*pairs, strict=True))
    path = save_outputs(tmp_path_factory.getbasetemp() / "round.json", prompts, outputs, generator="me", dataset="d")
    table = load_outputs(path)
    assert list(table["output"]) == outputs and list(table["instruction"]) == prompts
    assert align_outputs(table, prompts) == outputs


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_official_files_lack_columns_and_have_more(tmp_path, suffix):
    path = tmp_path / f"model_outputs{suffix}"
    rows = [{"instruction": "a", "output": None, "rank": 1}, {"instruction": "a", "output": "4", "rank": 2}]
    table = pd.DataFrame(rows)
    if suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=suffix == ".jsonl")
    found = load_outputs(path)
    assert list(found.columns) == [*COLUMNS, "rank"]
    assert list(found["output"]) == ["", "4"] and found.loc[0, "generator"] == "unknown"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"instruction": "a"}]', "column missing: 1 \\(first: output\\)"),
        ('[{"instruction": "a", "output": "b"}, {"output": 3}]', "column missing: 1 \\(first: instruction\\)"),
        ('[{"instruction": "a", "output": 3}]', "output is not text in row: 1 \\(first: 0\\)"),
        ("[]", "has no rows"),
        ("{", "is not json"),
        ('{"instruction": "a", "output": "b"}', "has no rows"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_outputs(path)


def test_missing_files_and_strange_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no file at"):
        load_outputs(tmp_path / "none.json")
    with pytest.raises(ValueError, match="give .json, .jsonl, .jsonl.gz, .parquet"):
        load_outputs(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["b", "c"], {}), "outputs: 2 for 1 prompts"),
        ((["a"], ["b"], {"dataset": ["x", "y"]}), "dataset: 2 for 1 prompts"),
        ((["a"], [3], {}), "are not text at positions: 1"),
        (([[{"role": "system", "content": "a"}]], ["b"], {}), "without a message from the user"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(tmp_path, arguments, message):
    prompts, outputs, options = arguments
    with pytest.raises(ValueError, match=message):
        save_outputs(tmp_path / "x.json", prompts, outputs, generator="me", **options)
    with pytest.raises(ValueError, match=r"name the file \*.json"):
        save_outputs(tmp_path / "x.jsonl", ["a"], ["b"], generator="me")
    assert not list(tmp_path.iterdir())


def test_outputs_are_found_by_text_and_missing_ones_are_named():
    table = pd.DataFrame({"instruction": list("abca"), "output": list("1234")}).sample(frac=1, random_state=0)
    chat = [{"role": "user", "content": "c"}]
    assert align_outputs(table, ["b", chat]) == ["2", "3"]
    assert align_outputs(table, ["a", "a"]) == list(table[table["instruction"] == "a"]["output"])
    with pytest.raises(ValueError, match="missing for prompts: 2 \\(first: 'b', 'd'\\)"):
        align_outputs(table, ["b", "b", "d"])


def test_a_number_next_to_one_draws_the_last_token():
    """Sums of probabilities are rounded: a number that none of them exceeds belongs to the last token."""
    draw = SeededDraw([0], steps=1, start=2)
    draw.uniform[:] = 1.0
    scores = draw(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 5))
    assert scores.argmax().item() == 4 and scores[0, 4] == 0
