"""Exercises of pairs, proxies and selections: notebooks 01 to 03b and 07."""

import math

import numpy as np

from pdsel import preference_divergence, scale_margins, select
from pdsel.data.subsets import capacity
from pdsel.teaching.exercise import Exercise
from pdsel.teaching.small_world import small_world

SHARES = (0.1, 0.3, 0.7)


def most_contrary_aspect():
    """The aspect of the small world whose labels contradict the overall rating most often.

    >>> most_contrary_aspect() in set(small_world().aspect)
    True
    """
    pairs = small_world().pairs.select_columns(["aspect", "conflict"]).to_pandas()
    return pairs.groupby("aspect")["conflict"].mean().idxmax()


def wrong_kept(shares=SHARES):
    """The wrong labels among the pairs that PD keeps of the small world, in percent, by share."""
    world = small_world()
    return {share: float(100 * world.wrong[select(world.divergence, share)].mean()) for share in shares}


def wrong_kept_within(share=0.3):
    """The same when each aspect keeps the share of its own pairs."""
    world = small_world()
    parts = [select(part, share) for _, part in world.divergence.groupby(world.aspect)]
    return float(100 * world.wrong[np.concatenate(parts)].mean())


def changed_by_another_unit(factor=10.0, share=0.3):
    """How many of the kept pairs change when one proxy speaks in another unit."""
    world = small_world()
    other = world.margins.assign(honesty=factor * world.margins["honesty"])
    divergence = preference_divergence(scale_margins(other, world.aspect), world.aspect)
    return int((~select(divergence, share).isin(select(world.divergence, share))).sum())


def balance(more, tau):
    """The probability of drawing a pair whose chosen response is the longer one, under length-balanced sampling.

    >>> round(balance(0.5, 1.0), 3)
    0.5
    """
    weights = np.exp(np.array([more, 1 - more]) / tau)
    return float(weights[0] / weights.sum())


EXERCISES = [
    Exercise(
        "01.1",
        4,
        "`world = small_world()` (from `pdsel.teaching`) holds some hundred pairs. Labels on which aspect "
        "contradict the overall "
        "rating most often? `world.pairs` is a pairs table like the one above.",
        "`world.pairs.to_pandas().groupby('aspect')['conflict'].mean()`",
        "A label that contradicts the overall rating need not be wrong: the aspect may ask for something that "
        "the others do not.",
        most_contrary_aspect,
        (("all", "One of them does more often than the others."), ("overall", "The overall rating is not an aspect.")),
    ),
    Exercise(
        "01.2",
        4,
        "Of 200 labelled pairs, 60 contradict the overall rating. How many pairs can there be at most if exactly "
        "10, 30, 50 % of "
        "them are to conflict? Give `{0.1: ..., 0.3: ..., 0.5: ...}`.",
        "Either the conflicting pairs run out or the agreeing ones do: take the smaller of 60 / level and 140 / "
        "(1 - level).",
        "Below the natural level agreeing pairs are the bottleneck, above it conflicting ones.",
        lambda: {level: capacity(60, 140, level) for level in (0.1, 0.3, 0.5)},
        (
            ({0.1: 600, 0.3: 200, 0.5: 120}, "At 10 % the agreeing pairs run out first."),
            ({0.1: 155, 0.3: 200, 0.5: 280}, "At 50 % the conflicting pairs run out first."),
        ),
        0.5,
    ),
    Exercise(
        "02.1",
        3,
        r"An implicit reward is $\beta\log(\pi_k/\pi_\mathrm{ref})$ with $\beta = 0.1$. The proxy finds the "
        r"chosen response at a "
        "log-probability of -10 where the reference has -12, and the rejected one at -23 where the reference has "
        "-20. What is "
        "the margin?",
        "The reward of each response first, then chosen minus rejected.",
        "Half a unit in favour of the label. What a unit means differs by proxy, so margins are scaled before "
        "they are added.",
        lambda: 0.1 * (2 + 3),
        ((-0.1, "The rejected response became less likely, so its reward is negative."), (5.0, "beta is missing.")),
    ),
    Exercise(
        "02.2",
        2,
        "A reward that is calibrated has a margin of 1. In what share of such cases should the label agree with it? "
        "(A number in [0, 1].)",
        r"Bradley-Terry: $\sigma(m)$.",
        "73 %: a margin of 1 is far from certain.",
        lambda: 1 / (1 + math.exp(-1)),
        ((1.0, "That would be certainty; only an infinite margin is."), (0.5, "That is a margin of 0.")),
    ),
    Exercise(
        "03.1",
        5,
        "On `world = small_world()` (from `pdsel.teaching`), `world.divergence` has the PD of every pair and "
        "`world.wrong` says "
        "whether its label is wrong. What share of the labels is wrong, in percent, among the 10, 30 and 70 % "
        "with the most "
        "negative PD? Give `{0.1: ..., 0.3: ..., 0.7: ...}`.",
        "`100 * world.wrong[select(world.divergence, share)].mean()`",
        "The more you keep, the nearer you come to all pairs: a share buys purity with pairs.",
        wrong_kept,
        (
            ({share: 30.0 for share in SHARES}, "That would be worse than a random share."),
            ({0.1: 0.0, 0.3: 0.0, 0.7: 0.0}, "No proxy is that good."),
        ),
        0.6,
    ),
    Exercise(
        "03.2",
        6,
        "PD spreads its picks over the aspects unevenly. Keep 30 % *within* each aspect of the small world "
        "instead. What share of "
        "the kept labels is wrong, in percent?",
        "`world.divergence.groupby(world.aspect)`, `select` in each part, `numpy.concatenate` of the ids.",
        "An even spread has its price where aspects differ in how many of their labels are wrong.",
        wrong_kept_within,
        ((50.0, "That is worse than chance."), (100.0, "Is it the share of the wrong, or of the right labels?")),
        0.6,
    ),
    Exercise(
        "03.3",
        3,
        "The proxy of *honesty* speaks in a unit ten times as large: all its margins are multiplied by 10 before "
        "`scale_margins`. "
        "How many of the kept pairs change?",
        "What does `scale_margins` divide by?",
        "None: a proxy's unit is divided out. Only the order and the spread of its margins count.",
        changed_by_another_unit,
        ((10, "Try it: multiply the column, scale, select."), (190, "All of them? Try it.")),
        0.0,
    ),
    Exercise(
        "03b.1",
        2,
        "One rule keeps the pairs a, b, c, d, another c, d, e, f. What is the Jaccard index of the two?",
        "Pairs in both, divided by pairs in either.",
        "A third, although half of each set is shared: mind which overlap a figure shows.",
        lambda: 2 / 6,
        ((0.5, "That is the share of one set that the other has, too."), (0.25, "There are six pairs in either.")),
    ),
    Exercise(
        "03b.2",
        3,
        "Two rules keep 30 % each, at random and independently. Which Jaccard index do you expect, for many pairs?",
        "9 % of all pairs are in both; how many are in either?",
        "About .18: an overlap of two rules says something only above that.",
        lambda: 0.09 / 0.51,
        ((0.3, "That is the share of one set that the other has, too."), (0.09, "Divide by those in either, 51 %.")),
    ),
    Exercise(
        "07.1",
        3,
        "A file has 900, 600 and 300 pairs labelled on three aspects, and no ratings. How many proxies are "
        "trained, and how many "
        'pairs need the opinion of the third aspect\'s proxy? Give `{"proxies": ..., "pairs": ...}`.',
        "A proxy learns from its own aspect's pairs, and judges those of the others.",
        "The aspect with the fewest pairs to learn from has the most to judge: look at its diagnosis first.",
        lambda: {"proxies": 3, "pairs": 1500},
        (
            ({"proxies": 3, "pairs": 300}, "Those it was trained on; PD never asks it about them."),
            ({"proxies": 1, "pairs": 1500}, "One reward for all would be RAF's."),
        ),
        0.0,
    ),
    Exercise(
        "08.1",
        4,
        r"70 % of an aspect's labels prefer the longer response. With which probability does length-balanced "
        r"sampling at "
        r"$\tau = 0.5$ draw such a pair?",
        r"$e^{.7/\tau} / (e^{.7/\tau} + e^{.3/\tau})$",
        "Almost as often as before: a large tau balances, a small one does not.",
        lambda: balance(0.7, 0.5),
        (
            (0.7, "That is without balancing."),
            (balance(0.7, 2.0), "Divide by tau, do not multiply."),
        ),
    ),
    Exercise(
        "09.1",
        3,
        "A label is turned around by mistake. The other three aspects' proxies are sound, and each says .5 in "
        "favour of the better "
        "response. What is the pair's PD?",
        "Of the label as it stands, each says -.5.",
        "Far on the dropped side: a mistake in one aspect is outvoted.",
        lambda: 1.5,
        ((-1.5, "That is the PD of the right label."), (0.5, "All three vote.")),
    ),
    Exercise(
        "09.2",
        4,
        "Now the labels of *two* aspects of four are turned around, and so their proxies have learned the "
        "reverse. What is the PD "
        "of a wrong label on one of the two, with opinions of size .5?",
        "Two sound proxies contradict the label; one has learned the same mistake.",
        "Still a conflict, but a third as strong: with two aspects of four wrong, nobody has a majority to speak of.",
        lambda: 0.5,
        ((1.5, "One of the other three has learned the mistake as well."), (-0.5, "Who is in the majority?")),
    ),
]
