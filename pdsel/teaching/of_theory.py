"""Exercises of the argument: notebooks 00, 00b and 04."""

import math

from pdsel.teaching.exercise import Exercise
from pdsel.theory import gain


def minus_log_sigma(u):
    """The loss -log sigma(u).

    >>> round(minus_log_sigma(0.0), 4)
    0.6931
    """
    return math.log1p(math.exp(-u))


EXERCISES = [
    Exercise(
        "00.1",
        2,
        "A fifth pair is labelled on *safety*. Of its label, *honesty* says +0.7, *help* says -0.2 and *safety* "
        "itself +0.9. "
        "What is its PD?",
        "Only the other two aspects count.",
        "The other aspects agree with the label on balance: a weak consensus.",
        lambda: -(0.7 - 0.2),
        (
            (0.5, "The size is right, the sign is not: PD is minus the sum."),
            (-1.4, "A pair's own aspect is never read."),
            (-0.9, "-0.2 contradicts the label, so it raises PD."),
        ),
    ),
    Exercise(
        "00.2",
        6,
        "*An aspect that matters more.* Give *safety* the weight $w$ and the others 1, on the four pairs of "
        "section 4. Above "
        "which $w$ is the order of `z1` and `z3` reversed? Find it on paper, then look at the slider.",
        "Neither pair is labelled on safety, so only its own term is multiplied by w. Write both PD as lines in "
        "w and set "
        "them equal.",
        "Weights are choices: above 1.75 another pair is the first to be kept.",
        lambda: 1.75,
        (
            (0.57, "That is the ratio upside down."),
            (0.7 / 1.2, "Both PD fall with w: their slopes are subtracted, not added."),
        ),
    ),
    Exercise(
        "00.3",
        4,
        "At the start ($M = 0$), a pair without conflict or consensus (PD = 0) pulls with weight 1/2. At which "
        "PD is the "
        "weight 1/4?",
        r"The weight is $\sigma(-\mathrm{PD})$; solve $1 / (1 + e^{\mathrm{PD}}) = 1/4$.",
        "PD = ln 3: three times the odds are needed to halve the pull.",
        lambda: math.log(3),
        (
            (-math.log(3), "There the weight is 3/4: consensus pulls harder."),
            (2.0, "Half of a weight is not twice a PD: the curve bends."),
        ),
    ),
    Exercise(
        "00.4",
        4,
        r"With $\kappa = 4$, $c_0 = 0$ and $c_2 = 0.5$: how many nats does training on a pair of PD = -2 gain, by "
        r"$g$? And a "
        'pair of PD = +2? Give both: `{"-2": ..., "+2": ...}`.',
        r"$g(a) = \log\sigma(\kappa c_2 + a) - \log\sigma(\kappa c_0 + a)$, and $\kappa c_2 = 2$.",
        "The consensus pair gains more than ten times as much as the contradicted one.",
        lambda: {"-2": float(gain(-2.0, 0.0, 0.5, 4)), "+2": float(gain(2.0, 0.0, 0.5, 4))},
        (
            ({"-2": 0.109, "+2": 1.434}, "The two are the other way round: who gains most?"),
            ({"-2": 2.0, "+2": 2.0}, "That is the limit of the gain for PD far below zero, not the gain."),
        ),
    ),
    Exercise(
        "00b.1",
        2,
        r"Rewards lie in $[0, 1]$ and $\kappa = 4$. How large must $c_2 - c_0$ be for the paper's condition?",
        r"$c_2 - c_0 \ge 2\,\frac{\kappa - 1}{\kappa}\,r$.",
        "Training has to move a margin by 1.5 where rewards differ by at most 1.",
        lambda: 1.5,
        ((0.75, "The factor 2 is missing: two PD can differ by twice what one can be."), (6.0, "Divide by kappa.")),
    ),
    Exercise(
        "00b.2",
        3,
        r"With $\kappa = 4$, margins may lie anywhere in intervals of length $\delta = 0.2$. By how many nats can "
        r"the loss of "
        "the pairs with the most negative PD exceed that of the best set of the same size, at most?",
        "See part 2 of the proposition: what does a margin that moves by delta move?",
        "A bound, not a forecast: the games of this notebook lose far less.",
        lambda: 0.8,
        ((0.2, "A margin is multiplied by kappa inside the sigmoid."), (0.05, "Multiply by kappa, do not divide.")),
    ),
    Exercise(
        "00b.3",
        8,
        r"*When is the choice safe?* With $\kappa = 4$ and $\delta = 0.1$, how large must the gap between the "
        r"last kept and the "
        "first dropped PD be, so that the most negative PD are the best set whatever the margins are?",
        r"Put the kept pair at $c_0 + \delta$ and $c_2 - \delta$, the dropped one at $c_0$ and $c_2$, and let "
        r"$c_2$ be so large "
        "that trained pairs have no loss left. When is the kept pair's gain still the larger one?",
        "A gap of kappa times delta: the untrained loss of the kept pair is then the larger one, come what may.",
        lambda: 0.4,
        (
            (0.1, "Margins are multiplied by kappa inside the sigmoid."),
            (0.8, "Only the untrained ends count here, once."),
        ),
    ),
    Exercise(
        "04.1",
        2,
        "DMPO puts PD inside the sigmoid. What is its loss at the first step for a pair of PD = +1?",
        r"At the first step $M = 0$, so the loss is $-\log\sigma(\mathrm{PD})$.",
        "Below ln 2: the conflict explains the label already, so little is left to learn.",
        lambda: minus_log_sigma(1.0),
        (
            (math.log(2), "That is DPO's, which does not know of PD."),
            (minus_log_sigma(-1.0), "That is the loss at PD = -1."),
        ),
    ),
    Exercise(
        "04.2",
        3,
        "There are 1200 pairs, PD keeps 30 % of them, a step takes 16 pairs, and the last step of a pass may be "
        "short. How many "
        "steps has one pass over all pairs, and one over PD's? How many whole passes over PD's pairs give at "
        "least as many "
        'steps as one pass over all? Give `{"all": ..., "kept": ..., "passes": ...}`.',
        "360 pairs are 22 full steps and a short one.",
        "Comparisons at equal steps are not comparisons at equal pairs: say which one you make.",
        lambda: {"all": 75, "kept": 23, "passes": 4},
        (
            ({"all": 75, "kept": 22, "passes": 4}, "The last step of a pass is short, but it is a step."),
            ({"all": 75, "kept": 23, "passes": 3}, "Three passes are 69 steps."),
        ),
        0.0,
    ),
    Exercise(
        "04.3",
        6,
        "Change the loop written out in this notebook: take PD into the loss. What is the loss of its very first "
        "step if every "
        "pair has PD = -1?",
        "One number is added inside `logsigmoid`.",
        "Consensus starts above ln 2, so it pulls harder than plain DPO.",
        lambda: minus_log_sigma(-1.0),
        (
            (minus_log_sigma(1.0), "That is for PD = +1: mind the sign."),
            (math.log(2), "That is plain DPO: was PD added before the sigmoid?"),
        ),
    ),
]
