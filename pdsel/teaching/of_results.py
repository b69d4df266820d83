"""Exercises of judging and of results: notebooks 05, 05b, 06, 10 and 11."""

import math

import numpy as np
from scipy import stats

from pdsel import win_rate, winning_score
from pdsel.teaching.exercise import Exercise

PREFERENCE = [1.0, 1.0, 0.5, 0.0]
DIFFERENCES = [2.0, 4.0, 6.0, 8.0, 10.0]  # points of win rate, one for each seed


def t_interval(values, level=0.95):
    """The t-interval of a mean, as [low, high].

    >>> [round(end, 2) for end in t_interval([2.0, 4.0, 6.0, 8.0, 10.0])]
    [2.07, 9.93]
    """
    half = stats.sem(values) * stats.t.ppf((1 + level) / 2, len(values) - 1)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


EXERCISES = [
    Exercise(
        "05.1",
        1,
        "A policy wins 71.3 % against SFT. Swap outputs and baseline in the judge: what must the win rate become?",
        "Each preference p becomes 1 - p.",
        "To the digit; if a judge gives anything else, it looks at the order of the two.",
        lambda: 100 - 71.3,
        ((71.3, "Then it would be the baseline that wins."), (50.0, "Only a draw stays a draw.")),
    ),
    Exercise(
        "05.2",
        3,
        "A judge's preferences on four prompts are 1, 1, 0.5 and 0. What are win rate (percent) and winning "
        "score? Give "
        '`{"win rate": ..., "winning score": ...}`.',
        "The win rate is the mean; the winning score is (wins - losses) / n + 1, and a draw is neither.",
        "A draw counts half for the one and nothing for the other.",
        lambda: {"win rate": win_rate(PREFERENCE).value, "winning score": winning_score(PREFERENCE).value},
        (
            ({"win rate": 50.0, "winning score": 1.25}, "A draw is half a win."),
            ({"win rate": 62.5, "winning score": 1.5}, "There is a loss as well."),
        ),
    ),
    Exercise(
        "05.3",
        4,
        "On 500 prompts a policy wins 60 %, each win or loss being sure. How many points wide is the 95 % "
        "interval on either side?",
        r"$1.96\sqrt{p(1-p)/n}$, in points.",
        "Four points on either side: two policies three points apart cannot be told apart by so many prompts, "
        "unless prompt by "
        "prompt.",
        lambda: 196 * math.sqrt(0.6 * 0.4 / 500),
        ((2.19, "That is one standard error."), (0.043, "In points, not in shares.")),
        0.06,
    ),
    Exercise(
        "05b.1",
        2,
        "A judge scores one text at a time; the higher score wins. How many points does it help to be listed first?",
        "Does it see an order?",
        "None, by construction: a check that cannot fail proves nothing.",
        lambda: 0.0,
        ((50.0, "It never sees two texts at once."), (100.0, "It never sees two texts at once.")),
    ),
    Exercise(
        "06.1",
        4,
        "Four methods are ranked 1, 2, 3, 4 here and 2, 1, 4, 3 in the paper. What is Spearman's rank correlation?",
        r"$1 - 6\sum d^2 / (n(n^2-1))$",
        "Two neighbours swapped twice cost .4: with few methods, a rank correlation jumps.",
        lambda: float(stats.spearmanr([1, 2, 3, 4], [2, 1, 4, 3]).statistic),
        (
            (-0.6, "Neighbours swapped is not the order reversed."),
            (0.5, "Half of the places are not half of the correlation."),
        ),
    ),
    Exercise(
        "06.2",
        3,
        "PD - RAF is +1.2 [-0.5, +2.9] points. What does the test *above* say, and what does *at least within 2 "
        "points* say? Give "
        '`{"above": ..., "at least": ...}` with the words *holds*, *inconclusive* or *does not hold*.',
        "*Above* asks whether the interval excludes 0; *at least*, whether it stays above -2.",
        "The same interval, two questions, two answers: *at least* is not *better*.",
        lambda: {"above": "inconclusive", "at least": "holds"},
        (
            ({"above": "does not hold", "at least": "holds"}, "An interval on both sides of 0 does not decide."),
            ({"above": "holds", "at least": "holds"}, "The interval has 0 in it."),
        ),
    ),
    Exercise(
        "10.1",
        4,
        "People confirm 70 of 100 labels drawn at random and 87 of 100 labels that PD keeps, other people's "
        "labels. How many "
        "points wide is the 95 % interval of the difference on either side?",
        r"The two variances $p(1-p)/n$ are added.",
        "17 points, give or take 11: chance alone does not explain it.",
        lambda: 196 * math.sqrt(0.7 * 0.3 / 100 + 0.87 * 0.13 / 100),
        ((5.67, "That is one standard error."), (15.6, "Variances are added, not standard errors.")),
        0.2,
    ),
    Exercise(
        "11.1",
        5,
        "On five seeds PD beats RAND by 2, 4, 6, 8 and 10 points. Give the 95 % t-interval of the mean as `[low, "
        "high]`.",
        "The mean is 6, the standard error sqrt(2), and t for 4 degrees of freedom 2.776.",
        "Five seeds are few: with the normal 1.96 it would look a third narrower.",
        lambda: t_interval(DIFFERENCES),
        (
            ([3.23, 8.77], "1.96 is for many seeds; with five, t is 2.776."),
            ([2.0, 10.0], "That is the range."),
        ),
        0.02,
    ),
    Exercise(
        "11.2",
        4,
        "A claim has two parts. The second has the same five differences, and fails only if its simultaneous "
        "interval says so "
        "(Bonferroni over two parts: a level of 97.5 %). Give that interval.",
        "t for 4 degrees of freedom at 1 - .025 / 2 is 3.495.",
        "Wider, since two parts have two chances to fail by chance.",
        lambda: t_interval(DIFFERENCES, level=0.975),
        (
            (t_interval(DIFFERENCES), "That is the interval of one part on its own."),
            (t_interval(DIFFERENCES, level=0.9), "Narrower is the wrong way."),
        ),
        0.03,
    ),
    Exercise(
        "11.3",
        3,
        "PD - ALL is -0.5 [-1.8, +0.8] points. What does *at least* say if 2 points hardly matter, and what if 1 "
        "point does not? "
        "Give `{2: ..., 1: ...}`.",
        "It holds if the interval stays above minus the margin.",
        "The margin is part of the claim: it was chosen before the numbers were seen.",
        lambda: {2: "holds", 1: "inconclusive"},
        (
            ({2: "holds", 1: "does not hold"}, "-1 lies inside of the interval."),
            ({2: "inconclusive", 1: "inconclusive"}, "All of the interval is above -2."),
        ),
    ),
    Exercise(
        "12.1",
        4,
        "Of 100 labels, the other aspects oppose 24. PD keeps 30 of them, of which they oppose 3. How many percent of the "
        "labels that it drops do they oppose?",
        "What is opposed and not kept is dropped.",
        "What PD drops is worse than what there was: 30 percent instead of 24.",
        lambda: 100 * (24 - 3) / 70,
        ((21, "That is how many, not how many percent of 70."), (24, "That is the share among all labels.")),
        0.1,
    ),
    Exercise(
        "12.2",
        5,
        "Over prompts, two policies differ by 2 points of win rate on average, with a standard deviation of 35. How many "
        "prompts does a two-sided test at 5 % need to see that four times in five?",
        "The mean has to lie 1.96 + 0.84 standard errors from zero, and a standard error is 35 over the root of the number.",
        "Some 2 400 prompts: with 741, two good methods cannot be told apart.",
        lambda: (2.8016 * 35 / 2) ** 2,
        (
            ((1.96 * 35 / 2) ** 2, "With 1.96 alone the test sees it every second time."),
            (2.8016 * 35 / 2, "The root of the number is not yet the number."),
        ),
        15,
    ),
]
