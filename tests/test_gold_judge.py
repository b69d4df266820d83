"""The judge of the notes world, against what the truth and a simulated rater say."""

import numpy as np
import pytest

from pdsel.evaluation import win_rate
from pdsel.evaluation.judges import gold_gaps, gold_judge, gold_scores
from pdsel.notesworld import best_response, gold_utility, rated_rows
from pdsel.notesworld.people import NOISE

NULL = "glad to help ."


@pytest.fixture(scope="module")
def answered():
    """Prompts of the notes world with two responders' answers each."""
    rows = rated_rows(200, seed=5)
    return [row["instruction"] for row in rows], *[[row["completions"][i]["response"] for row in rows] for i in (0, 1)]


@pytest.mark.parametrize("noise", [{}, {"noise": 0}, {"noise": 0.5}])
def test_the_gold_judge_swapped_gives_one_minus(answered, noise):
    prompts, first, second = answered
    preference = gold_judge(prompts, first, second, **noise)
    assert gold_judge(prompts, second, first, **noise) == pytest.approx(1 - preference)
    assert (gold_judge(prompts, first, first, **noise) == 0.5).all()
    assert ((preference >= 0) & (preference <= 1)).all() and preference.std() > 0.1


def test_the_gold_judge_errs_on_the_gold_utility_as_a_rater_does(answered):
    prompts, first, second = answered
    gap = [gold_utility(p, a) - gold_utility(p, b) for p, a, b in zip(prompts, first, second, strict=True)]
    assert (gold_judge(prompts, first, second, noise=0) == (np.sign(np.round(gap, 9)) + 1) / 2).all()
    errors = np.random.default_rng(0).normal(0, NOISE, size=(2, 4000, 1))
    seen = (np.array(gap) + errors[0] - errors[1] > 0).mean(axis=0)
    assert gold_judge(prompts, first, second) == pytest.approx(seen, abs=0.03)


@pytest.mark.parametrize("noise", [{}, {"noise": 0}])
def test_an_empty_phrase_wins_next_to_nothing(answered, noise):
    prompts, first, _ = answered
    nothing = [NULL] * len(prompts)
    assert win_rate(gold_judge(prompts, nothing, [best_response(prompt) for prompt in prompts], **noise)).value < 0.1
    # Every responder tells what was asked, so nobody is worse than nothing; a rater may err about the poorest (.2 %).
    assert win_rate(gold_judge(prompts, nothing, first, **noise)).value < 1


def test_no_responder_beats_the_best_answer(answered):
    """By the truth never, though one may give it; by a rater who errs, now and then (89 % for the best)."""
    prompts, first, _ = answered
    best = [best_response(prompt) for prompt in prompts]
    assert gold_judge(prompts, best, first, noise=0).min() == 0.5
    assert win_rate(gold_judge(prompts, best, first)).value > 85


def test_the_gold_judge_refuses_unequal_numbers(answered):
    with pytest.raises(ValueError, match="prompts, outputs, baseline_outputs: 200, 1 and 200 texts; give one output"):
        gold_judge(answered[0], [NULL], answered[2])


def test_gold_scores_and_gaps_agree(pairs):
    gaps = gold_gaps(pairs)
    chosen = gold_scores(list(pairs["prompt"]), list(pairs["chosen"]))
    rejected = gold_scores(list(pairs["prompt"]), list(pairs["rejected"]))
    assert list(gaps.index) == list(pairs["pair_id"])
    assert gaps["utility"].tolist() == pytest.approx((chosen["utility"] - rejected["utility"]).tolist())
    assert list(chosen["characters"]) == [len(text) for text in pairs["chosen"]]
    assert list(chosen["tokens"]) == [len(text.split()) for text in pairs["chosen"]]
    assert (gaps["utility"] > 0).mean() > 0.6
