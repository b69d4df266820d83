"""Training against independent references: TRL's own trainer, the pure objectives, and the laws a run must keep."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from pdsel import dmpo_loss, dpo_loss, fit_proxy, generate, load_proxy, make_pairs, score_margins, train_dmpo, train_dpo
from pdsel.engine.models import load_causal, load_tokenizer
from pdsel.engine.scoring import response_logps
from pdsel.engine.trainers import OffsetCollator, OffsetTrainer
from pdsel.notesworld import BASE_MODEL, draw_prompts, gold_utility, read_prompt
from pdsel.notesworld.settings import PROXY_BASE
from pdsel.notesworld.world import told
from pdsel.ratings import load_ratings
from pdsel.training import train_reward, train_sft, training_log

TINY = {"batch_size": 8, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def pairs():
    from importlib.resources import files

    return make_pairs(load_ratings(files("pdsel") / "examples" / "rated.jsonl", limit=12))


@pytest.fixture(scope="module")
def policy(pairs, tmp_path_factory):
    return train_dpo(pairs, model=BASE_MODEL, output_dir=tmp_path_factory.mktemp("dpo") / "policy", seed=0, **TINY)


def logps(model, pairs):
    prompts = list(pairs["prompt"])
    return [torch.tensor(response_logps(model, prompts, list(pairs[side]))) for side in ("chosen", "rejected")]


def trl_loss(pairs, policy, scale, offsets, tmp_path, beta=0.1):
    """The loss of one batch by TRL's trainer (ours adds the offset), with `policy` against the base model."""
    model, tokenizer = load_causal(policy), load_tokenizer(policy)
    reference = load_causal(BASE_MODEL)
    config = DPOConfig(
        output_dir=str(tmp_path),
        beta=scale * beta,
        report_to="none",
        bf16=False,
        use_cpu=True,
        per_device_train_batch_size=len(pairs),
        remove_unused_columns=False,
    )
    data = pairs.select_columns(["prompt", "chosen", "rejected"])
    if offsets is None:
        trainer = DPOTrainer(model, reference, args=config, train_dataset=data, processing_class=tokenizer)
        batch = trainer.data_collator(list(trainer.train_dataset))
    else:
        trainer = OffsetTrainer(
            model,
            reference,
            args=config,
            train_dataset=data.add_column("offset", offsets),
            processing_class=tokenizer,
            data_collator=OffsetCollator(pad_token_id=tokenizer.pad_token_id),
        )
        batch = trainer.data_collator(list(trainer.train_dataset))
        chosen, rejected = logps(BASE_MODEL, pairs)
        batch |= {"ref_chosen_logps": chosen.float(), "ref_rejected_logps": rejected.float()}
        trainer.precompute_ref_logps = True
        trainer.scale = scale
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model.eval(), dict(batch)).item()
    return loss, trainer


def test_dpo_loss_equals_trl_on_the_same_batch(pairs, policy, tmp_path):
    data = pairs.select(range(16))
    ours = dpo_loss(*logps(policy, data), *logps(BASE_MODEL, data), beta=0.1).mean().item()
    assert ours != pytest.approx(math.log(2), abs=1e-2)  # the policy has moved
    assert ours == pytest.approx(trl_loss(data, policy, 1, None, tmp_path)[0], abs=1e-6)


def test_dmpo_loss_equals_the_trainer_on_the_same_batch(pairs, policy, tmp_path):
    data = pairs.select(range(16))
    divergence = np.linspace(-2, 2, 16)
    tensors = [*logps(policy, data), *logps(BASE_MODEL, data)]
    ours = dmpo_loss(*tensors, torch.tensor(divergence), beta=0.1, aspects=4).mean().item()
    theirs, trainer = trl_loss(data, policy, 4, divergence.tolist(), tmp_path)
    assert ours == pytest.approx(theirs, abs=1e-6)
    margin = 0.1 * ((tensors[0] - tensors[2]) - (tensors[1] - tensors[3])).mean().item()
    assert trainer._metrics["eval"]["rewards/margins"][0] == pytest.approx(margin, abs=1e-5)  # logged without the shift


def test_losses_are_ln_2_where_policy_and_reference_agree():
    same = torch.randn(5, generator=torch.Generator().manual_seed(0))
    other = same - 1
    assert torch.allclose(dpo_loss(same, other, same, other, beta=0.3), torch.full((5,), math.log(2)))
    assert torch.allclose(
        dmpo_loss(same, other, same, other, torch.zeros(5), beta=0.3, aspects=4), torch.full((5,), math.log(2))
    )


def test_first_logged_loss_is_ln_2_and_it_falls(policy):
    history = [point["loss"] for point in training_log(policy)["history"] if "loss" in point]
    assert history[0] == pytest.approx(math.log(2), abs=1e-6)
    assert history[-1] < history[0]


def test_dmpo_starts_at_the_divergence_of_its_first_batch(pairs, tmp_path):
    divergence = pd.Series(-1.5, index=list(pairs["pair_id"]))
    path = train_dmpo(pairs, divergence, aspects=4, model=BASE_MODEL, output_dir=tmp_path / "p", seed=0, **TINY)
    first = training_log(path)["history"][0]["loss"]
    assert first == pytest.approx(math.log(1 + math.exp(1.5)), abs=1e-5)


def test_dmpo_with_one_aspect_and_no_divergence_is_dpo(pairs, policy, tmp_path):
    divergence = pd.Series(0.0, index=list(pairs["pair_id"]))
    path = train_dmpo(pairs, divergence, aspects=1, model=BASE_MODEL, output_dir=tmp_path / "p", seed=0, **TINY)
    assert (tmp_path / "p" / "model.safetensors").read_bytes() == Path(policy, "model.safetensors").read_bytes()
    assert path == str(tmp_path / "p")


def test_dmpo_refuses_pairs_without_divergence(pairs, tmp_path):
    with pytest.raises(ValueError, match=r"divergence: \d+ pairs have no PD"):
        train_dmpo(pairs, pd.Series(dtype=float), aspects=4, model=BASE_MODEL, output_dir=tmp_path / "p")


def test_training_leaves_the_global_generators_alone(pairs, tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_dpo(pairs.select(range(8)), model=BASE_MODEL, output_dir=tmp_path / "p", seed=3, **TINY)
    assert torch.equal(torch.rand(3), expected)


def test_a_failed_run_leaves_no_folder_under_the_final_name(pairs, tmp_path):
    with pytest.raises(ValueError, match="gibberish"):
        train_dpo(pairs, model=BASE_MODEL, output_dir=tmp_path / "p", seed=0, lr_scheduler_type="gibberish")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_runs_scratch_folder_is_swept_away(pairs, tmp_path):
    (tmp_path / "p.999999999.partial").mkdir()
    train_dpo(pairs.select(range(8)), model=BASE_MODEL, output_dir=tmp_path / "p", seed=0, **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_truncation_is_counted(pairs, tmp_path):
    # Prompts have 16, 18, 19 or 21 words: the longest fill 20 tokens and are dropped, the others' responses are cut.
    log = training_log(train_dpo(pairs, model=BASE_MODEL, output_dir=tmp_path / "p", seed=0, max_length=20, **TINY))
    assert log["n_given"] == len(pairs) > log["n_used"] > 0
    assert log["n_truncated"] > 0


def test_sft_lowers_the_loss_of_the_demonstrations(pairs, tmp_path):
    path = train_sft(pairs, model=BASE_MODEL, output_dir=tmp_path / "p", seed=0, epochs=3, **TINY)
    prompts, chosen = list(pairs["prompt"]), list(pairs["chosen"])
    assert response_logps(path, prompts, chosen).mean() > response_logps(BASE_MODEL, prompts, chosen).mean()


def test_checkpoints_are_safetensors(policy):
    names = {path.name for path in Path(policy).iterdir()}
    assert "model.safetensors" in names
    assert not any(name.endswith((".pt", ".bin", ".pkl")) for name in names)


def test_logps_do_not_depend_on_batching_or_order(pairs):
    prompts, responses = list(pairs["prompt"]), list(pairs["chosen"])
    whole = response_logps(BASE_MODEL, prompts, responses)
    split = response_logps(BASE_MODEL, prompts[::-1], responses[::-1], batch_tokens=64)[::-1]
    np.testing.assert_allclose(whole, split, atol=1e-4)


def test_logps_against_a_plain_loop(pairs):
    model, tokenizer = load_causal(BASE_MODEL), load_tokenizer(BASE_MODEL)
    for row in pairs.select(range(3)):
        start = len(tokenizer(row["prompt"])["input_ids"])
        ids = torch.tensor([tokenizer(row["prompt"] + row["chosen"] + "<eos>")["input_ids"]])
        with torch.no_grad():
            logits = model(ids).logits[0].log_softmax(-1)
        expected = sum(logits[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1]))
        assert response_logps(BASE_MODEL, [row["prompt"]], [row["chosen"]])[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["classifier", "implicit"])
def test_proxy_survives_a_round_trip_and_scores_antisymmetrically(pairs, kind, tmp_path):
    aspect = sorted(set(pairs["aspect"]))[0]
    proxy = fit_proxy(pairs, aspect, model=BASE_MODEL, kind=kind, output_dir=tmp_path / "proxy", **TINY)
    margins = score_margins(pairs, {aspect: proxy})
    again = score_margins(pairs, {aspect: load_proxy(tmp_path / "proxy")})
    pd.testing.assert_frame_equal(margins, again)
    swapped = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    np.testing.assert_allclose(score_margins(swapped, [proxy])[aspect], -margins[aspect], atol=1e-4)
    shuffled = score_margins(pairs.shuffle(seed=1), [proxy]).loc[margins.index]
    np.testing.assert_allclose(shuffled, margins, atol=1e-4)


def test_proxy_never_sees_another_aspects_pairs(pairs):
    aspect = sorted(set(pairs["aspect"]))[0]
    own = pairs.filter(lambda row: row["aspect"] == aspect)
    alone = score_margins(pairs, [fit_proxy(own, aspect, model=BASE_MODEL, kind="implicit", **TINY)])
    among = score_margins(pairs, [fit_proxy(pairs, aspect, model=BASE_MODEL, kind="implicit", **TINY)])
    pd.testing.assert_frame_equal(alone, among)


def test_length_penalty_moves_margins_by_rho_per_token(pairs):
    """'minus' is a re-parametrisation: zero training leaves only the penalty in the scores."""
    aspect = sorted(set(pairs["aspect"]))[0]
    still = {"model": BASE_MODEL, "kind": "implicit", "learning_rate": 0.0, "batch_size": 64}
    penalised = score_margins(pairs, [fit_proxy(pairs, aspect, length_penalty=0.5, length_sign="minus", **still)])
    tokens = np.array(
        [len(c.split()) - len(r.split()) for c, r in zip(pairs["chosen"], pairs["rejected"], strict=True)]
    )
    np.testing.assert_allclose(penalised[aspect], -0.5 * tokens, atol=1e-4)
    plus = score_margins(pairs, [fit_proxy(pairs, aspect, length_penalty=0.5, length_sign="plus", **still)])
    np.testing.assert_allclose(plus[aspect], 0.0, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "oracle"}, "kind="),
        ({"length_sign": "up"}, "length_sign="),
        ({"aspect": "taste"}, "labels no pair"),
        ({"length_balance": -1.0}, "length_balance="),
    ],
)
def test_proxy_options_are_checked(pairs, wrong, message):
    options = {"aspect": sorted(set(pairs["aspect"]))[0], "model": BASE_MODEL} | wrong
    with pytest.raises(ValueError, match=message):
        fit_proxy(pairs, options.pop("aspect"), **options)


def test_reward_trainer_uses_the_margin(pairs, tmp_path):
    """With zero learning rate the loss shows the margin: both responses get the head's random reward."""
    plain = train_reward(pairs, [0.0] * len(pairs), model=BASE_MODEL, output_dir=tmp_path / "a", learning_rate=0.0)
    shifted = train_reward(pairs, [5.0] * len(pairs), model=BASE_MODEL, output_dir=tmp_path / "b", learning_rate=0.0)
    first = [json.loads((tmp_path / name / "training.json").read_text())["history"][0]["loss"] for name in "ab"]
    assert first[1] - first[0] > 3
    assert plain != shifted


def test_bad_pairs_never_reach_the_trainer(tmp_path):
    row = {"pair_id": ["a"], "prompt": ["p"], "chosen": ["x"], "rejected": ["x"], "aspect": ["k"]}
    with pytest.raises(ValueError, match="chosen equals rejected"):
        train_dpo(Dataset.from_dict(row), model=BASE_MODEL, output_dir=tmp_path / "p", seed=0)


def test_selection_and_training_never_ask_for_gold(pairs, tmp_path, monkeypatch):
    """With the gold aspects out of reach, the whole way from pairs to a policy still works."""
    from pdsel.evaluation.judges import gold
    from pdsel.notesworld import variants, world
    from pdsel.rules import keep_all, score_all
    from pdsel.rules.methods import SELECTED, training_pairs
    from pdsel.selection import POOLED

    def forbidden(*args):
        raise AssertionError("gold was asked for")

    for module in (gold, variants, world):
        monkeypatch.setattr(module, "gold_aspects", forbidden)
    options = {"model": BASE_MODEL, "kind": "implicit", **TINY}
    proxies = {aspect: fit_proxy(pairs, aspect, **options) for aspect in sorted(set(pairs["aspect"]))}
    proxies[POOLED] = fit_proxy(pairs, None, **options)
    margins = score_margins(pairs, proxies)
    signals = {"pairs": pairs, "margins": margins, "pooled": margins[POOLED]}
    kept = keep_all(score_all(signals, SELECTED), 0.3)
    train_dpo(training_pairs("PD", pairs, kept), model=BASE_MODEL, output_dir=tmp_path / "p", seed=0, **TINY)
    with pytest.raises(AssertionError, match="gold was asked for"):
        gold.gold_scores(["notes size tiny ; age old ; tell boldly size and age ="], ["size tiny surely ."])


def test_the_base_models_recipe_runs_and_its_card_is_measured(tmp_path):
    from pdsel.pipeline.build_base import FILES, SEED, build

    path = Path(build(tmp_path / "base", examples=640))
    assert {file.name for file in path.iterdir()} == {*FILES, "README.md"}
    card = (path / "README.md").read_text()
    assert "| responders |" in card and f"- seed: {SEED}\n" in card, "whoever rebuilds it needs every digit"
    assert generate(str(path), draw_prompts(2, split="eval", seed=0), max_new_tokens=4)


@pytest.mark.parametrize("model", [BASE_MODEL, PROXY_BASE])
def test_a_shipped_model_is_small_and_answers_as_the_responders_do(model):
    files = list(Path(model).iterdir())
    assert sum(file.stat().st_size for file in files) < 1e6
    assert {file.suffix for file in files} == {".safetensors", ".json", ".md"}
    prompts = draw_prompts(100, split="eval", seed=6)
    outputs = generate(model, prompts, temperature=1.0, max_new_tokens=24)
    assert np.mean([gold_utility(p, o) for p, o in zip(prompts, outputs, strict=True)]) > 0.5  # responders: .63
    words = [told(read_prompt(p), o) for p, o in zip(prompts, outputs, strict=True)]
    assert np.mean([None not in each for each in words]) > 0.9, "it tells what is asked, as it is noted"


# ---- options are checked at the door


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("lr", "learning_rate"), ("batchsize", "batch_size"), ("epoch", "epochs"), ("warmup_step", "warmup_steps")],
)
def test_a_typo_in_an_option_is_refused_with_the_nearest_right_name(pairs, typo, meant, tmp_path):
    wrong = {typo: 1, "model": BASE_MODEL, "output_dir": tmp_path / "p"}
    message = f"{typo}: there is no such option. Remedy: did you mean {meant}?"
    divergence = pd.Series(0.0, index=list(pairs["pair_id"]))
    for call in (
        lambda: train_dpo(pairs, **wrong),
        lambda: train_dmpo(pairs, divergence, aspects=4, **wrong),
        lambda: train_sft(pairs, **wrong),
        lambda: train_reward(pairs, [0.0] * len(pairs), **wrong),
        lambda: fit_proxy(pairs, pairs["aspect"][0], **wrong),
        lambda: fit_proxy(pairs, pairs["aspect"][0], kind="implicit", **wrong),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
    assert not list(tmp_path.iterdir())


def test_an_option_of_another_kind_of_training_is_refused(pairs):
    with pytest.raises(ValueError, match="reference_cache: there is no such option"):
        fit_proxy(pairs, pairs["aspect"][0], kind="classifier", model=BASE_MODEL, reference_cache="x")


def test_a_typo_is_refused_before_a_job_is_launched(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("pdsel.engine.launch.launch", lambda *args, **kwargs: pytest.fail("a job was launched"))
    with pytest.raises(ValueError, match="did you mean learning_rate"):
        train_dpo(pairs, model=BASE_MODEL, output_dir=tmp_path / "p", accelerate="cpu2", lr=1)


# ---- which model


def test_notesworld_names_the_shipped_model_everywhere(pairs, policy, tmp_path):
    few = pairs.select(range(16))
    named, by_path = (
        train_dpo(few, model=model, output_dir=tmp_path / str(i), **TINY)
        for i, model in enumerate(["notesworld", BASE_MODEL])
    )
    assert Path(named, "model.safetensors").read_bytes() == Path(by_path, "model.safetensors").read_bytes()
    prompts, chosen = list(few["prompt"]), list(few["chosen"])
    np.testing.assert_array_equal(
        response_logps("notesworld", prompts, chosen), response_logps(BASE_MODEL, prompts, chosen)
    )
    proxy = fit_proxy(few, few["aspect"][0], model="notesworld", kind="implicit", **TINY)
    assert proxy.reference == BASE_MODEL
    small = fit_proxy(few, few["aspect"][0], model="notesworld-small", kind="implicit", **TINY)
    assert small.reference == PROXY_BASE != BASE_MODEL


@pytest.mark.parametrize("model", ["nobody/nothing", "models/that/is/not/there"])
def test_a_model_that_is_nowhere_is_refused_by_name(pairs, model, tmp_path):
    """Tests run offline; the error is one sentence, not the library's chain of errors."""
    for call in (
        lambda: train_dpo(pairs, model=model, output_dir=tmp_path / "p", **TINY),
        lambda: fit_proxy(pairs, pairs["aspect"][0], model=model, **TINY),
        lambda: generate(model, ["a"]),
        lambda: response_logps(model, ["a"], ["b"]),
    ):
        with pytest.raises(ValueError, match=rf"model='{model}' is neither a folder .*Remedy: check") as error:
            call()
        assert error.value.__cause__ is None and (error.value.__suppress_context__ or error.value.__context__ is None)
    assert not list(tmp_path.iterdir())
