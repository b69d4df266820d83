"""Judges and what is checked of them: reward models by hand, position bias, answers that read no prompt."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForSequenceClassification

from pdsel import fit_proxy, generate
from pdsel.engine.models import load_tokenizer
from pdsel.evaluation.judges import gold_judge
from pdsel.evaluation.judges.audit import (
    NOTES_NULLS,
    NULLS,
    both_orders,
    flip_rate,
    null_outputs,
    null_rates,
    null_win_rates,
    position_bias,
)
from pdsel.evaluation.judges.reward import proxy_judge, reward_judge
from pdsel.notesworld import BASE_MODEL, draw_prompts, gold_aspects, rated_rows, read_prompt
from pdsel.notesworld.world import WORDS, told
from pdsel.proxies import score_margins

CHAT = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + ' ' }}{% endfor %}"
HALVES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def save_classifier(folder, n_labels=1):
    """A random classifier that reads the notes world's words, and chats."""
    tokenizer = load_tokenizer(BASE_MODEL)
    tokenizer.chat_template = CHAT
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        num_labels=n_labels,
        initializer_range=0.5,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("reward") / "classifier")


@pytest.fixture(scope="module")
def answered():
    """Prompts with two responders' answers each."""
    rows = rated_rows(30, seed=5)
    return [row["instruction"] for row in rows], *[[row["completions"][i]["response"] for row in rows] for i in (0, 1)]


@pytest.fixture(scope="module")
def sampled():
    """Prompts with the base model's answers at temperature 1: its likeliest answer weighs nothing, one word for every note."""
    prompts = draw_prompts(200, split="eval", seed=0)
    return prompts, generate(BASE_MODEL, prompts, temperature=1.0, max_new_tokens=24)


def reward_by_hand(model, text):
    """The head times the last token's state: no padding, no batch."""
    net = LlamaForSequenceClassification.from_pretrained(model).eval()
    with torch.inference_mode():
        ids = load_tokenizer(model)(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        return float(net.model(input_ids=ids).last_hidden_state[0, -1] @ net.score.weight[0])


def test_a_reward_judge_is_the_sigmoid_of_the_rewards_difference(classifier, answered):
    prompts, ours, theirs = (column[:5] for column in answered)
    found = reward_judge(classifier)(prompts, ours, theirs)
    gaps = [
        reward_by_hand(classifier, f"{p}{a}<eos>") - reward_by_hand(classifier, f"{p}{b}<eos>")
        for p, a, b in zip(prompts, ours, theirs, strict=True)
    ]
    assert found == pytest.approx(1 / (1 + np.exp(-np.array(gaps))), abs=1e-5)
    assert np.ptp(found) > 0.05


def test_chat_prompts_go_through_the_template(classifier, answered):
    prompts, ours, theirs = (column[:3] for column in answered)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    found = reward_judge(classifier)(chats, ours, theirs)
    gaps = [
        reward_by_hand(classifier, f"user {p} assistant {a} ") - reward_by_hand(classifier, f"user {p} assistant {b} ")
        for p, a, b in zip(prompts, ours, theirs, strict=True)
    ]
    assert found == pytest.approx(1 / (1 + np.exp(-np.array(gaps))), abs=1e-5)
    as_messages = [[{"role": "assistant", "content": text}] for text in ours]
    assert (reward_judge(classifier)(chats, as_messages, theirs) == found).all()


def test_a_reward_judge_swapped_gives_one_minus(classifier, answered):
    prompts, ours, theirs = answered
    judge = reward_judge(classifier)
    found = judge(prompts, ours, theirs)
    assert judge(prompts, theirs, ours) == pytest.approx(1 - found, abs=1e-12)
    assert (judge(prompts, ours, ours) == 0.5).all()
    assert position_bias(**both_orders(judge, *answered)).value == pytest.approx(0, abs=1e-9)


def test_batches_change_nothing(classifier, answered):
    verdicts = [reward_judge(classifier, batch_tokens=tokens)(*answered) for tokens in (1, 100, 10_000)]
    assert verdicts[1] == pytest.approx(verdicts[0], abs=1e-5)
    assert verdicts[2] == pytest.approx(verdicts[0], abs=1e-5)


def test_long_texts_are_cut_counted_and_said(classifier, answered):
    prompts, ours, theirs = (column[:3] for column in answered)
    long = [ours[0], *["color red . " * 40] * 2]
    with pytest.warns(UserWarning, match="2 of 6 texts .* longer than 64 tokens .* raise max_length"):
        found = reward_judge(classifier)(prompts, long, theirs)
    assert np.isfinite(found).all()
    with pytest.warns(UserWarning, match="6 of 6 texts .* longer than 8 tokens"):
        assert reward_judge(classifier, max_length=8)(prompts, ours, theirs).tolist() == [0.5] * 3  # prompts alone


def test_a_checkpoint_without_a_head_is_refused():
    with pytest.raises(
        ValueError, match=r"are missing from the checkpoint: 1 \(first: score.weight\).*judges at random"
    ):
        reward_judge(BASE_MODEL)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_several_labels_are_refused(tmp_path, n_labels):
    with pytest.raises(ValueError, match=f"has {n_labels} labels, but a reward is one number. Remedy"):
        reward_judge(save_classifier(tmp_path, n_labels))


def test_unequal_numbers_are_refused_and_none_is_none(classifier):
    judge = reward_judge(classifier)
    with pytest.raises(ValueError, match="prompts, outputs, baseline_outputs: 2, 1 and 2 texts; give one output"):
        judge(["a", "b"], ["a"], ["a", "b"])
    assert judge([], [], []).shape == (0,)


def test_rewards_that_are_not_finite_are_refused(tmp_path, answered):
    model = save_classifier(tmp_path)
    net = LlamaForSequenceClassification.from_pretrained(model)
    net.score.weight.data[:] = torch.inf
    net.save_pretrained(model)
    with pytest.raises(ValueError, match=r"reward is not finite at positions: 2 \(first: 0, 1\)"):
        reward_judge(model)(*(column[:2] for column in answered))


@pytest.mark.parametrize(("kind", "penalty"), [("classifier", 0.0), ("implicit", 0.01), ("shared", 0.0)])
def test_a_proxy_judges_by_the_margins_it_scores(pairs, kind, penalty):
    part = pairs.select(range(40))
    proxy = fit_proxy(part, part["aspect"][0], kind=kind, length_penalty=penalty, model=BASE_MODEL, batch_size=16)
    found = proxy_judge(proxy)(part["prompt"], part["chosen"], part["rejected"])
    margins = score_margins(part, [proxy]).iloc[:, 0].to_numpy()
    assert found == pytest.approx(1 / (1 + np.exp(-margins)), abs=1e-6)
    if kind == "classifier":
        rewards = reward_judge(proxy.path)(part["prompt"], part["chosen"], part["rejected"])
        assert rewards == pytest.approx(found, abs=1e-6)


def leaning(prompts, first, second):
    """Prefers the longer text, and the first by a quarter."""
    longer = np.sign([len(a) - len(b) for a, b in zip(first, second, strict=True)])
    return 0.5 + 0.25 * longer + 0.25


ALWAYS = {
    "the first": (lambda p, a, b: np.ones(len(p)), 50, 100),
    "the second": (lambda p, a, b: np.zeros(len(p)), -50, 100),
    "neither": (lambda p, a, b: np.full(len(p), 0.5), 0, 0),
    "the first by a quarter": (leaning, 25, 0),
    "gold": (lambda p, a, b: np.sign([len(x) - len(y) for x, y in zip(a, b, strict=True)]) / 2 + 0.5, 0, 0),
}


@pytest.mark.parametrize(("judge", "bias", "flips"), ALWAYS.values(), ids=ALWAYS)
def test_position_bias_of_constructed_judges(judge, bias, flips):
    found = both_orders(judge, ["p", "q"], ["long", "x"], ["y", "longer"])
    assert list(found) == ["listed_first", "listed_second"]
    assert (position_bias(**found).value, flip_rate(**found).value) == (bias, flips)


def test_position_bias_by_hand():
    first, second = [0.75, 1.0, 0.2, 0.9], [0.25, 1.0, 0.6, 0.5]
    found = position_bias(first, second)
    assert found.value == pytest.approx((25 + 0 - 20 + 20) / 4)
    assert (found.n, found.variant) == (4, "wins of the first listed less half, bootstrap over prompts")
    assert found.low < found.value < found.high
    assert flip_rate(first, second).value == 50  # the first and the third; the last is a tie in one order


@given(st.lists(st.tuples(HALVES, HALVES), min_size=1, max_size=10))
def test_bias_changes_its_sign_with_the_order_and_flips_do_not(verdicts):
    first, second = map(list, zip(*verdicts, strict=True))
    assert position_bias(second, first).value == pytest.approx(-position_bias(first, second).value)
    assert flip_rate(second, first).value == pytest.approx(flip_rate(first, second).value)
    assert -50 <= position_bias(first, second).value <= 50


@pytest.mark.parametrize("noise", [{}, {"noise": 0}])
def test_the_gold_judge_knows_no_order(sampled, noise):
    prompts, outputs = sampled
    found = both_orders(lambda *texts: gold_judge(*texts, **noise), prompts, outputs, outputs[::-1])
    assert found["listed_first"].to_numpy() == pytest.approx(found["listed_second"].to_numpy(), abs=1e-12)
    assert position_bias(**found).value == pytest.approx(0, abs=1e-10)
    assert flip_rate(**found).value == 0


def test_a_judge_with_both_orders_of_its_own_is_asked_for_them():
    class Averaging:
        def __call__(self, prompts, outputs, baseline_outputs):
            raise AssertionError("would hide the order")

        def both_orders(self, prompts, outputs, baseline_outputs):
            return pd.DataFrame({"listed_first": [1.0], "listed_second": [0.5], "read": ["parsed"]})

    assert position_bias(**both_orders(Averaging(), ["p"], ["a"], ["b"])).value == 25


BAD_VERDICTS = {
    "outside": (([1.5], [0.5]), r"outside \[0, 1\]"),
    "NaN": (([0.5], [np.nan]), "is NaN"),
    "none": (([], []), "at least one"),
    "unequal": (([0.5, 0.5], [0.5]), "listed_first, listed_second: 2 and 1 verdicts"),
}


@pytest.mark.parametrize("metric", [position_bias, flip_rate])
@pytest.mark.parametrize(("verdicts", "problem"), BAD_VERDICTS.values(), ids=BAD_VERDICTS)
def test_bad_verdicts_are_refused(metric, verdicts, problem):
    with pytest.raises(ValueError, match=problem):
        metric(*verdicts)


def test_no_answer_to_everything_wins_under_the_gold_judge(sampled):
    found = null_win_rates(gold_judge, *sampled, NOTES_NULLS)
    assert list(found.index) == list(NOTES_NULLS) and found.index.name == "null"
    assert list(found) == ["value", "standard_error", "low", "high", "n", "characters", "text"]
    assert found.loc[["silent", "polite", "first values"], "high"].max() < 10
    assert found.loc["first note only", "high"] < 20  # half of two notes, or a third of three
    assert found["high"].max() < 45  # one word for every note is often right, follows no instruction, and loses
    assert found["value"].idxmax().startswith("all ")


def test_null_rates_of_several_judges_are_each_ones_own(sampled):
    """As a table of the judges' in their order, with the answers that were asked for and no others."""
    mine = {"mine": "size tiny .", "silent": ""}
    judges = {"gold": gold_judge, "always ours": lambda prompts, ours, theirs: np.ones(len(prompts))}
    table = null_rates(judges, *sampled, mine)
    assert list(zip(table["judge"], table["null"], strict=True)) == [(name, null) for name in judges for null in mine]
    own = null_win_rates(gold_judge, *sampled, mine)
    assert table["value"].tolist()[:2] == own["value"].tolist()
    assert table["value"].tolist()[2:] == [100.0, 100.0]


def test_null_rates_are_the_judges_own_means(sampled):
    prompts, outputs = sampled
    found = null_win_rates(gold_judge, prompts, outputs, {"mine": "size tiny ."}).loc["mine"]
    assert found["value"] == pytest.approx(100 * gold_judge(prompts, ["size tiny ."] * 200, outputs).mean())
    assert (found["n"], found["characters"], found["text"]) == (200, 11, "size tiny .")


def test_nulls_start_with_silence():
    assert null_outputs(["p", "q"], "x") == ["x", "x"]
    for texts in (NULLS, NOTES_NULLS):
        assert texts["silent"] == "" and len(set(texts.values())) == len(texts)
    assert not any(callable(text) for text in NULLS.values()), "on real data none reads the prompt"


def test_nulls_that_read_the_prompt_weigh_nothing():
    """A null may be a function of the prompt: by hand, and its words are the same whatever the notes are worth."""
    asked = "notes home lake ; food fruit ; mood angry ; tell boldly food and home ="
    assert null_outputs([asked], NOTES_NULLS["all maybe"]) == ["food fruit maybe . home lake maybe ."]
    assert null_outputs([asked], NOTES_NULLS["first note only"]) == ["food fruit likely ."]
    assert null_outputs([asked, "notes"], lambda prompt: prompt.upper()) == [asked.upper(), "NOTES"]
    for prompt in draw_prompts(20, split="eval", seed=1):
        for word in WORDS:
            [answer] = null_outputs([prompt], NOTES_NULLS[f"all {word}"])
            assert told(read_prompt(prompt), answer) == [word] * len(read_prompt(prompt).asked)
            assert gold_aspects(prompt, answer)["instruction_following"] == 0


def test_a_gullible_judge_is_caught(sampled):
    def gullible(prompts, outputs, baseline_outputs):
        return [float("## Correction" in output) for output in outputs]

    found = null_win_rates(gullible, *sampled)["value"]
    assert found.to_dict() == {"silent": 0, "polite": 0, "refusal": 0, "structured": 100}


def test_every_public_judge_comes_through_the_short_door_too():
    import pdsel.judges
    from pdsel.evaluation import judges

    assert {"LLMJudge", "gold_judge", "proxy_judge", "reward_judge"} <= set(pdsel.judges.__all__)
    for name in judges.__all__:
        assert getattr(pdsel.judges, name) is getattr(judges, name)
    with pytest.raises(AttributeError, match="no_such_judge"):
        _ = pdsel.judges.no_such_judge


def test_the_gold_judge_loads_no_torch():
    code = "import sys; from pdsel.judges import gold_judge; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
