"""Chat messages: the template once, the token ids of TRL, and long pairs dropped for every method alike."""

import pandas as pd
import pytest
import torch
from chat_models import FAMILIES, save_chat_model
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from pdsel.engine.chat import as_messages, conversation, fitting, token_counts
from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.engine.scoring import classifier_rewards, encode, response_logps
from pdsel.notesworld import BASE_MODEL
from pdsel.training import train_dpo, train_reward, train_sft, training_log

LONG = 160  # tokens that all pairs but one fit in, whatever the family
ROWS = [
    ("Why is the sky blue?", "Rayleigh scattering.\nShort waves scatter more.", "It reflects the sea."),
    ("Gr\u00fc\u00dfe \U0001f600: 2+2?", " 4 ", "five"),
    ("Say \n\nnothing", "the lazy dog " * 60, "the"),
    ("the quick brown", "fox", "dog jumps over"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    return {family: save_chat_model(family, folder / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def strings():
    table = pd.DataFrame(ROWS, columns=["prompt", "chosen", "rejected"])
    return Dataset.from_pandas(table.assign(pair_id=list("abcd"), aspect="honesty", prompt_id=list("0123")))


def trl_rows(pairs, model, tmp_path, **config):
    """What TRL's DPO trainer makes of the pairs: a table of `prompt_ids, chosen_ids, rejected_ids`."""
    args = DPOConfig(output_dir=str(tmp_path), report_to="none", bf16=False, use_cpu=True, **config)
    data = pairs.select_columns(["prompt", "chosen", "rejected"])
    return DPOTrainer(
        load_causal(model), args=args, train_dataset=data, processing_class=load_tokenizer(model)
    ).train_dataset


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chat", [True, False])
def test_ids_are_those_of_trl(family, chat, models, strings, tmp_path):
    model, pairs = models[family], as_messages(strings) if chat else strings
    tokenizer = load_tokenizer(model)
    for row, made in zip(pairs, trl_rows(pairs, model, tmp_path, max_length=None), strict=True):
        found = [encode(tokenizer, [row["prompt"]], [row[side]])[0] for side in ("chosen", "rejected")]
        for side, (ids, _) in zip(("chosen", "rejected"), found, strict=True):
            assert list(ids) == made["prompt_ids"] + made[f"{side}_ids"]
        assert min(start for _, start in found) == len(made["prompt_ids"])


@pytest.mark.parametrize("family", [family for family, (_, template, *_) in FAMILIES.items() if template])
def test_the_template_is_written_once_and_is_the_models_own(family, models, strings):
    tokenizer, row = load_tokenizer(models[family]), as_messages(strings)[0]
    ids, start = encode(tokenizer, [row["prompt"]], [row["chosen"]])[0]
    text = tokenizer.decode(ids)
    assert text == tokenizer.apply_chat_template(row["prompt"] + row["chosen"], tokenize=False)
    assert text.count(ROWS[0][0]) == 1 and text.count(tokenizer.bos_token or "Rayleigh") == 1
    assert tokenizer.decode(ids[start:]).lstrip().startswith("Rayleigh") and tokenizer.eos_token_id in ids[start:]


def test_by_hand_for_qwen(models):
    tokenizer = load_tokenizer(models["qwen2"])
    turns = [{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Ho"}]
    ids, start = encode(tokenizer, *[[turn] for turn in turns])[0]
    assert tokenizer.decode(ids[:start]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(ids[start:]) == "Ho<|im_end|>\n"


def test_a_model_without_a_template_gets_the_stated_default(models):
    tokenizer = load_tokenizer(models["base"])
    turns = [{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Ho"}]
    ids, start = encode(tokenizer, *[[turn] for turn in turns])[0]
    assert tokenizer.decode(ids) == "<|begin_of_text|><|user|>\nHi<|end_of_text|>\n<|assistant|>\nHo<|end_of_text|>"
    assert tokenizer.decode(ids[start:]) == "Ho<|end_of_text|>"


def test_messages_for_a_tokenizer_that_cannot_spell_the_default_are_refused(strings):
    chats = as_messages(strings)
    assert load_tokenizer(BASE_MODEL).chat_template is None
    with pytest.raises(ValueError, match="no chat template and cannot spell.*Remedy: give plain strings"):
        response_logps(BASE_MODEL, list(chats["prompt"]), list(chats["chosen"]))
    with pytest.raises(ValueError, match="at positions are a string and chat messages: 4 .first: 0, 1, 2, 3"):
        response_logps(BASE_MODEL, list(chats["prompt"]), list(strings["chosen"]))


@pytest.mark.parametrize("family", FAMILIES)
def test_dpos_own_logps_are_ours(family, models, strings, tmp_path):
    """The reference log-probabilities that TRL precomputes from messages are what `response_logps` gives."""
    pairs = as_messages(strings)
    made = trl_rows(pairs, models[family], tmp_path, max_length=LONG, precompute_ref_log_probs=True)
    for side in ("chosen", "rejected"):
        ours = response_logps(models[family], list(pairs["prompt"]), list(pairs[side]), max_length=LONG)
        torch.testing.assert_close(
            torch.tensor(made[f"ref_{side}_logps"]), torch.tensor(ours).float(), atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trainer_takes_messages_and_drops_none_that_fit(family, models, strings, tmp_path):
    pairs, report = fitting(as_messages(strings), model=models[family], max_length=LONG)
    assert dict(report) == {"n": 4, "over": 1, "share": 0.25, "longest": report["longest"]}
    assert list(pairs["pair_id"]) == ["a", "b", "d"] and report["longest"] > LONG
    options = {"model": models[family], "batch_size": 2, "max_length": LONG}
    dpo = training_log(train_dpo(pairs, output_dir=tmp_path / "dpo", **options))
    reward = training_log(train_reward(pairs, [0.0] * 3, output_dir=tmp_path / "reward", **options))
    sft = training_log(train_sft(pairs, output_dir=tmp_path / "sft", **options))
    assert [log["n_used"] for log in (dpo, reward, sft)] == [3, 3, 3]
    assert dpo["n_truncated"] == dpo["n_identical"] == 0
    assert classifier_rewards(str(tmp_path / "reward"), list(pairs["prompt"]), list(pairs["chosen"])).shape == (3,)


def test_counts_are_of_the_longer_side_and_a_pair_must_fit_every_model(models, strings):
    pairs = as_messages(strings)
    counts = token_counts(pairs, model=models["gemma"])
    tokenizer = load_tokenizer(models["gemma"])
    text = tokenizer.apply_chat_template(pairs[2]["prompt"] + pairs[2]["chosen"], tokenize=False)
    assert counts.loc["c", "chosen"] == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    longest = counts.max(axis=1)
    kept, report = fitting(pairs, model=models["gemma"], max_length=longest["a"])
    assert set(kept["pair_id"]) == set(longest.index[longest <= longest["a"]])
    assert (report["n"], report["over"]) == (len(pairs), len(pairs) - len(kept))
    assert len(fitting(pairs, model=models["gemma"], max_length=longest.max())[0]) == len(pairs)
    both = [models["gemma"], models["qwen2"]]
    wider = token_counts(pairs, model=models["qwen2"]).max(axis=1)["d"]  # Qwen's template adds a system message
    assert wider > longest["d"]
    assert "d" in fitting(pairs, model=both, max_length=wider)[0]["pair_id"]
    assert "d" not in fitting(pairs, model=both, max_length=longest.max())[0]["pair_id"] or wider <= longest.max()


def test_nothing_that_fits_is_an_error_with_a_remedy(models, strings):
    with pytest.raises(ValueError, match="max_length=2: none of 4 pairs fits; the shortest has .* Remedy: raise"):
        fitting(strings, model=models["base"], max_length=2)


def test_messages_stay_and_strings_get_a_system_message_when_asked(strings):
    pairs = as_messages(strings, system="Be brief.")
    assert [turn["role"] for turn in pairs[0]["prompt"]] == ["system", "user"]
    assert as_messages(pairs)[:] == pairs[:]
    assert list(pairs["pair_id"]) == list(strings["pair_id"]) and pairs[0]["chosen"][0]["content"] == ROWS[0][1]


@pytest.mark.parametrize(
    ("text", "roles", "last"),
    [
        ("Hi", ["user"], "Hi"),
        ("a\n<extra_id_1>Assistant\nb\n\nc\n<extra_id_1>User\nd ", ["user", "assistant", "user"], "d "),
        ("a\n<extra_id_1>Assistant\nb", ["user"], None),
        ("a\n<extra_id_1>User\nb", ["user"], None),
    ],
)
def test_a_conversation_of_helpsteer2_is_a_message_a_turn(text, roles, last, strings):
    found = conversation(text)
    assert [turn["role"] for turn in found] == roles and found[-1]["content"] == (text if last is None else last)
    pairs = strings.select([0]).map(lambda row: {"prompt": text})
    assert as_messages(pairs, system="Be brief.")[0]["prompt"][1:] == found
