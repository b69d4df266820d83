"""Several outputs to a prompt: they are taken apart as they were asked for, and a policy's numbers are means over them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdsel.evaluation.judges import gold_judge, gold_scores
from pdsel.evaluation.judges.draws import in_draws, judged_draws

PROMPTS = [
    "notes home lake ; food fruit ; mood angry ; tell boldly home and food =",
    "notes size tiny ; age old ; home cave ; tell carefully size and age =",
]
GOOD = ["home lake likely . food fruit surely .", "size tiny maybe . age old doubtful ."]
SILENT = ["", ""]


@given(st.lists(st.text(), min_size=1, max_size=5), st.integers(1, 4))
def test_draws_are_what_was_asked_one_time_after_the_other(prompts, times):
    asked = prompts * times
    assert in_draws(asked, len(prompts)) == [prompts] * times


def test_outputs_that_are_no_multiple_of_the_prompts_are_refused():
    with pytest.raises(ValueError, match="outputs: 3 texts are not a multiple of 2 prompts. Remedy"):
        in_draws(["a", "b", "c"], 2)


def test_a_number_is_the_mean_over_the_draws_of_a_prompt():
    """By hand: once good against silent, once silent against good; one draw wins as surely as the other loses."""
    found = judged_draws(gold_judge, PROMPTS, [GOOD, SILENT], [SILENT, GOOD], describe=gold_scores)
    assert found["preference"].tolist() == pytest.approx([0.5, 0.5])
    once = gold_scores(PROMPTS, GOOD)
    np.testing.assert_allclose(found[list(once)], once / 2)
    assert found["characters"].tolist() == [len(text) / 2 for text in GOOD]
    assert list(found) == ["preference", *once]


def test_one_draw_is_the_judges_own_verdict():
    found = judged_draws(gold_judge, PROMPTS, [GOOD], [SILENT])
    assert found["preference"].tolist() == gold_judge(PROMPTS, GOOD, SILENT).tolist()
    assert list(found) == ["preference", "characters"], "of an output whose truth is unknown only its length is told"


def test_each_draw_meets_the_baselines_of_the_same_number():
    met = []

    def judge(prompts, outputs, baseline_outputs):
        met.append((outputs, baseline_outputs))
        return np.array([len(met) / 10] * len(prompts))

    found = judged_draws(judge, ["p"], [["a"], ["b"], ["c"]], [["x"], ["y"], ["z"]])
    assert met == [(["a"], ["x"]), (["b"], ["y"]), (["c"], ["z"])]
    assert found["preference"].tolist() == pytest.approx([0.2])


def test_policies_that_draw_more_often_than_the_baseline_are_refused():
    with pytest.raises(ValueError, match="draws: 2 meet 1 of the baseline. Remedy: draw equally often"):
        judged_draws(gold_judge, PROMPTS, [GOOD, GOOD], [SILENT])


def test_the_order_of_the_draws_changes_nothing():
    draws, theirs = [GOOD, SILENT, GOOD], [SILENT, GOOD, GOOD]
    one = judged_draws(gold_judge, PROMPTS, draws, theirs, describe=gold_scores)
    other = judged_draws(gold_judge, PROMPTS, draws[::-1], theirs[::-1], describe=gold_scores)
    pd.testing.assert_frame_equal(one, other)
