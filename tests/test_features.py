"""Features of a frozen model: they are the gradients they claim to be, and the same however the texts are batched."""

import gc

import numpy as np
import pandas as pd
import pytest
import torch
from chat_models import SIZES, save_chat_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, GraniteConfig

from pdsel.checks import DataError
from pdsel.engine import features as measured
from pdsel.engine.chat import as_messages
from pdsel.engine.feature_files import load_features
from pdsel.engine.features import BLOCKS, Reader, _sketch, pair_features, token_features
from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.engine.output_layer import OutputLayer
from pdsel.engine.reference_cache import ReferenceCache
from pdsel.engine.scoring import encode, response_logps
from pdsel.notesworld import BASE_MODEL
from pdsel.training import train_dpo

PROMPT, RESPONSE = "the quick brown", " fox jumps over the lazy dog"


def save_tiny(family, folder):
    """A random checkpoint; "gemma2" caps its logits softly, "granite" divides them by a number of its own."""
    if family not in ("gemma2", "granite"):
        return save_chat_model(family, folder)
    save_chat_model("gemma" if family == "gemma2" else "llama", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sizes = SIZES | {"vocab_size": len(tokenizer), "pad_token_id": 0}
    configs = {
        "gemma2": lambda: Gemma2Config(**sizes, head_dim=16, final_logit_softcapping=0.5),
        "granite": lambda: GraniteConfig(**sizes, logits_scaling=4.0),
    }
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(configs[family]()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The path of a tiny model of a family, made once."""
    made = {}

    def path(family):
        if family not in made:
            made[family] = str(save_tiny(family, tmp_path_factory.mktemp(family)))
        return made[family]

    return path


def gradients(model, prompt, response):
    """By autograd: of log pi for a gain and a bias after the last norm, and for the norm's own gain."""
    net, tokenizer = load_causal(model, dtype=torch.float32), load_tokenizer(model)
    [(ids, start)] = encode(tokenizer, [prompt], [response])
    gain, bias = (torch.full((net.config.hidden_size,), value, requires_grad=True) for value in (1.0, 0.0))
    net.base_model.norm.register_forward_hook(lambda module, given, out: out * gain + bias)
    ids = torch.tensor([ids])
    logps = net(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[start - 1 :]
    logps.sum().backward()
    return gain.grad.numpy(), bias.grad.numpy(), net.base_model.norm.weight


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "gemma2"])
@pytest.mark.parametrize("chat", [False, True])
def test_hd_and_grad_are_autograds_gradients_for_a_gain_and_a_bias_at_the_last_norm(tiny, family, chat):
    prompt, response = PROMPT, RESPONSE
    if chat:
        prompt, response = [{"role": "user", "content": PROMPT}], [{"role": "assistant", "content": RESPONSE}]
    model = tiny(family)
    read = Reader(model).read([prompt], [response])
    gain, bias, weight = gradients(model, prompt, response)
    np.testing.assert_allclose(read["hd"][0], gain, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(read["grad"][0], bias, rtol=1e-4, atol=1e-5)
    own_gain = weight + 1 if family.startswith("gemma") else weight  # Gemma's norm multiplies by 1 + weight
    np.testing.assert_allclose(read["hd"][0], (own_gain * weight.grad).detach(), rtol=1e-4, atol=1e-5)


def test_w_is_autograds_gradient_for_the_output_embedding_of_a_small_vocabulary():
    net, tokenizer = load_causal(BASE_MODEL), load_tokenizer(BASE_MODEL)
    prompt, response = "notes color red ; home cave ; tell boldly color and home =", " color red surely ."
    [(ids, start)] = encode(tokenizer, [prompt], [response])
    ids = torch.tensor([ids])
    net(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[start - 1 :].sum().backward()
    read = Reader(BASE_MODEL, blocks=["W"]).read([prompt], [response])
    np.testing.assert_allclose(read["W"][0], net.lm_head.weight.grad.flatten(), rtol=1e-4, atol=1e-5)


def test_a_large_vocabulary_is_sketched_so_that_inner_products_stay_on_average():
    assert torch.equal(_sketch(3), torch.eye(3)) and torch.equal(_sketch(64), torch.eye(64))
    sketch = _sketch(2000)
    values = torch.randn(200, 2000, generator=torch.Generator().manual_seed(0))
    ratios = (values @ sketch).square().sum(1) / values.square().sum(1)
    assert abs(ratios.mean() - 1) < 0.03 and ratios.std() < 0.2


def test_surprisal_length_and_log_probabilities_by_hand():
    prompts, responses = (
        ["notes color red ; home cave ; tell boldly color and home ="] * 2,
        [" color red surely .", " color red surely . home cave maybe ."],
    )
    net, tokenizer = load_causal(BASE_MODEL), load_tokenizer(BASE_MODEL)
    read = Reader(BASE_MODEL).read(prompts, responses)
    for row, (ids, start) in enumerate(encode(tokenizer, prompts, responses)):
        with torch.inference_mode():
            table = net(torch.tensor([ids])).logits[0].log_softmax(-1)
        logps = [float(table[i - 1, ids[i]]) for i in range(start, len(ids))]
        assert read["surprisal"][row] == pytest.approx([sum(logps), np.mean(logps), min(logps)], abs=1e-4)
        assert read["length"][row] == len(logps)
    np.testing.assert_allclose(read["logp"], response_logps(BASE_MODEL, prompts, responses), atol=1e-4)


def test_mid_is_the_mean_state_of_the_responses_tokens_at_two_thirds_of_the_depth():
    prompt, response = "notes color red ; home cave ; tell boldly color and home =", " color red surely ."
    net, tokenizer = load_causal(BASE_MODEL), load_tokenizer(BASE_MODEL)
    [(ids, start)] = encode(tokenizer, [prompt], [response])
    with torch.inference_mode():
        states = net(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0, start:]  # of 3 layers
    np.testing.assert_allclose(Reader(BASE_MODEL).read([prompt], [response])["mid"][0], states.mean(0), atol=1e-5)


def test_rows_batches_and_padding_change_nothing(pairs):
    part = pairs.select(range(40))
    prompts, responses = list(part["prompt"]), list(part["chosen"])
    whole = Reader(BASE_MODEL).read(prompts, responses)
    alone = Reader(BASE_MODEL, batch_tokens=1).read(prompts, responses)
    turned = Reader(BASE_MODEL, batch_tokens=300).read(prompts[::-1], responses[::-1])
    for name, values in whole.items():
        size = max(1.0, np.abs(values).max())
        np.testing.assert_allclose(alone[name] / size, values / size, atol=1e-5)
        np.testing.assert_allclose(turned[name][::-1] / size, values / size, atol=1e-5)


def test_the_order_of_pairs_changes_nothing(pairs):
    part = pairs.select(range(40))
    whole, turned = (pair_features(each, model=BASE_MODEL) for each in (part, part.select(range(39, -1, -1))))
    for name, gaps in whole.gaps.items():
        np.testing.assert_allclose(turned.of(whole.ids, [name])[name], gaps, atol=1e-4)
    np.testing.assert_allclose(turned.logps.loc[whole.ids], whole.logps, atol=1e-4)


def test_many_parts_of_a_table_give_what_one_part_gives(pairs, monkeypatch):
    part = pairs.select(range(30))
    whole = pair_features(part, model=BASE_MODEL)
    monkeypatch.setattr(measured, "NUMBERS_AT_ONCE", 2 * 7 * 400)  # seven pairs
    monkeypatch.setattr("pdsel.engine.feature_files.ROWS_AT_ONCE", 4)
    parts = pair_features(part, model=BASE_MODEL)
    for name, gaps in whole.gaps.items():
        np.testing.assert_allclose(parts.gaps[name], gaps, atol=1e-4)
        np.testing.assert_array_equal(parts.of(part["pair_id"], [name])[name], parts.gaps[name])
    assert list(parts.ids) == list(part["pair_id"])


def test_only_states_that_predict_a_responses_token_go_through_the_output_layer(pairs, monkeypatch):
    part = pairs.select(range(20))
    seen = []
    logits = OutputLayer.logits
    monkeypatch.setattr(OutputLayer, "logits", lambda self, states: seen.append(len(states)) or logits(self, states))
    reader = Reader(BASE_MODEL)
    seen.clear()
    reader.read(part["prompt"], part["chosen"])
    texts = set(encode(reader.tokenizer, list(part["prompt"]), list(part["chosen"])))
    assert sum(seen) == sum(len(ids) - start for ids, start in texts) < reader.n_tokens


def test_logits_are_taken_a_few_tokens_at_a_time(pairs, monkeypatch):
    part = pairs.select(range(5))
    whole = pair_features(part, model=BASE_MODEL)
    monkeypatch.setattr("pdsel.engine.output_layer.NUMBERS_AT_ONCE", 300)  # a few tokens of the notes world's words
    few = pair_features(part, model=BASE_MODEL)
    for name, gaps in whole.gaps.items():
        np.testing.assert_allclose(few.gaps[name], gaps, atol=1e-4)


def test_a_response_that_is_cut_off_whole_has_no_features():
    read = Reader(BASE_MODEL, max_length=5).read(
        ["notes color red ; home cave ; tell boldly color and home ="], [" color red surely ."]
    )
    assert all(np.all(read[name] == 0) for name in (*BLOCKS, "logp"))


def test_chat_messages_are_read_through_the_template(tiny, hand_pairs):
    pairs = hand_pairs(("a", {"a": 1.0}, 1.0), ("a", {"a": 1.0}, 1.0))
    model = tiny("qwen2")
    plain, chat = pair_features(pairs, model=model), pair_features(as_messages(pairs), model=model)
    assert chat.n_tokens > plain.n_tokens
    given = [list(as_messages(pairs)[column]) for column in ("prompt", "chosen")]
    np.testing.assert_allclose(chat.logps["chosen"], response_logps(model, *given), atol=1e-4)


def test_dpo_finds_the_references_log_probabilities_where_the_features_left_them(pairs, tmp_path):
    part = pairs.select(range(12))
    features = pair_features(part, model=BASE_MODEL, reference_cache=tmp_path / "shared")
    before = ReferenceCache(tmp_path / "shared", BASE_MODEL, "float32").read()
    for name in ("shared", "own"):
        train_dpo(part, model=BASE_MODEL, output_dir=tmp_path / f"{name}-policy", reference_cache=tmp_path / name)
    after, own = (ReferenceCache(tmp_path / name, BASE_MODEL, "float32").read() for name in ("shared", "own"))
    assert after == before and set(own) == set(after)
    np.testing.assert_allclose([after[key] for key in own], list(own.values()), atol=1e-4)
    assert set(np.round(features.logps.to_numpy().ravel(), 3)) == {
        round(np.float32(logp), 3) for logp in after.values()
    }


def test_features_of_other_pairs_or_blocks_are_refused(pairs):
    features = pair_features(pairs.select(range(4)), model=BASE_MODEL, blocks=["hd"])
    with pytest.raises(DataError, match=r"features: pair_id was not read: 1 \(first: nobody\)"):
        features.of(["nobody"], ["hd"])
    with pytest.raises(DataError, match="features: block was not read: 1 .first: mid"):
        features.of(features.ids, ["hd", "mid"])
    with pytest.raises(DataError, match=r"unknown are \['depth'\]"):
        Reader(BASE_MODEL, blocks=["depth"])


def test_an_architecture_with_logits_of_its_own_making_is_refused(tiny):
    with pytest.raises(DataError, match="GraniteForCausalLM makes its logits in a way"):
        Reader(tiny("granite"))


def test_a_cap_flattens_the_gradient():
    states, tokens = torch.tensor([[3.0, 1.0]]), torch.tensor([1])
    plain, capped = (token_features(states, tokens, OutputLayer(torch.eye(2), cap=cap)) for cap in (None, 1.0))
    assert (capped["grad"].abs() < plain["grad"].abs()).all()


def test_files_are_removed_when_nobody_holds_them(pairs):
    features = pair_features(pairs.select(range(4)), model=BASE_MODEL, blocks=["hd"])
    folder, some = features.gaps.folder, features.of(features.ids[:2], ["hd"])
    del features
    gc.collect()
    assert folder.exists() and some["hd"].shape[0] == 2  # these rows still need them
    del some
    gc.collect()
    assert not folder.exists()


def test_features_are_saved_and_loaded(pairs, tmp_path):
    features = pair_features(pairs.select(range(6)), model=BASE_MODEL, blocks=["mid", "hd"])
    loaded = load_features(features.save(tmp_path / "features"))
    assert list(loaded.gaps) == list(features.gaps) == ["length", "surprisal", "hd", "mid"]
    for name, gaps in features.gaps.items():
        np.testing.assert_array_equal(loaded.gaps[name], gaps)
    pd.testing.assert_frame_equal(loaded.logps, features.logps)
    assert (loaded.model, loaded.n_tokens, loaded.seconds) == (features.model, features.n_tokens, features.seconds)


def alike(one, other):
    """The cosine between two arrays."""
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_in_bf16_features_are_nearly_those_of_float32(tiny, family, monkeypatch):
    given = [PROMPT] * 3, [RESPONSE, " fox", " dog jumps over the quick brown fox"]
    exact = Reader(tiny(family)).read(*given)
    monkeypatch.setattr(measured, "arithmetic", lambda: "bf16")
    reader = Reader(tiny(family))
    assert reader.output.embedding.dtype == torch.bfloat16
    for name, values in reader.read(*given).items():
        assert values.dtype == np.float32 and alike(values, exact[name]) > 0.99, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_leaves_the_log_probabilities_that_its_trainers_compute(pairs, tmp_path, monkeypatch):
    part = pairs.select(range(40))
    on_gpu = pair_features(part, model=BASE_MODEL, reference_cache=tmp_path / "shared")
    train_dpo(part, model=BASE_MODEL, output_dir=tmp_path / "policy", reference_cache=tmp_path / "own", max_steps=1)
    shared, own = (
        ReferenceCache(tmp_path / name, BASE_MODEL, measured.arithmetic()).read() for name in ("shared", "own")
    )
    assert set(own) == set(shared)
    np.testing.assert_allclose([shared[key] for key in own], list(own.values()), atol=0.1)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    exact = pair_features(part, model=BASE_MODEL)
    for name, gaps in on_gpu.gaps.items():
        assert alike(gaps, exact.gaps[name]) > 0.98, name
