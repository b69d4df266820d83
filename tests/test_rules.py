"""Every rule on a hand-worked example, and what all rules have in common."""

import re

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pdsel import rules, select
from pdsel.rules import (
    RULES,
    Rule,
    aspects,
    available,
    baselines,
    describe,
    geometry,
    keep_all,
    likelihood,
    margins,
    needs,
    score,
    score_all,
)
from pdsel.rules.alternatives import ALTERNATIVES
from pdsel.rules.built import BUILT
from pdsel.rules.margins import BETA, implicit, standard

IDS = ["p", "q", "r"]


def sides(chosen, rejected):
    index = pd.Index(list("pqrs")[: len(chosen)], name="pair_id")
    return pd.DataFrame({"chosen": chosen, "rejected": rejected}, index=index, dtype=float)


def numbers(*values):
    return pd.Series(values, index=pd.Index(IDS[: len(values)], name="pair_id"), dtype=float)


def by_prompt(*values, prompts="xxyy"):
    return pd.Series(values, index=pd.Index(list(prompts), name="prompt_id"), dtype=float)


def named(*gaps):
    """Gaps on the aspects a, b and c, as a pairs table holds them."""
    return [dict(zip("abc", gap, strict=True)) for gap in gaps]


ZERO = sides([0, 0, 0], [0, 0, 0])
UNIT = 1 / BETA  # nats of a log-ratio that are a reward of 1


def rewarded(*margins):
    """Log-probabilities whose implicit margins over a reference of zeros are these."""
    return sides([UNIT * margin for margin in margins], [0] * len(margins))


ABC = {
    "pairs": {"pair_id": IDS, "aspect": ["a", "b", "c"], "prompt_id": ["x", "y", "y"]},
    "margins": pd.DataFrame({"a": [9, 1, 1], "b": [1, 9, -1], "c": [0.5, 1, 9]}, index=IDS, dtype=float),
}  # scaled by 1 at gamma = 1: p sees (1, .5), q (1, 1), r (1, -1)
ONE = {"quantile": 1.0}
WORDS = {"words": baselines.words({"pair_id": IDS, "chosen": ["a b", "a", "a b c"], "rejected": ["a", "a b", "x y z"]})}
PROBE = {"probe_logps": rewarded(2, -1, 0.5), "reference_logps": ZERO}
POLICY = {"policy_logps": rewarded(2, -1, 0.5), "reference_logps": ZERO}
LOG2 = float(np.log(2))
# log-ratios 2, -1, -3 between L = -2 and U = 2: probabilities 1, .25, 0; the reward's 0, 6, 2 below U = 6: .25, 1, .5
WITNESSES = {
    "pooled": numbers(0, 6, 2),
    "probe_logps": sides([2, -1, -3], [0, 0, 0]),
    "reference_logps": ZERO,
}

PRODUCTS = pd.DataFrame({"both": [5.0, 0, 8], "chosen": [5.0, 4, 2]}, index=IDS)
DRAW = 0.4045587

HAND = {  # rule: signals, options, score of p, q (and r, s), and which is kept first, second, ...
    # sha256("random 3:p") begins b5d8a90b119a4, over 16^13; q 353a9888fef14, r f9c838364f696
    "RAND": ({"pairs": {"pair_id": IDS}}, {"seed": 3}, [0.710337, 0.207925, 0.975711], "qpr"),
    "PD": (ABC, ONE, [-1.5, -2, 0], "qpr"),
    "PD(high)": (ABC, ONE, [-1.5, -2, 0], "rpq"),
    # gaps in the order a, b, c; each aspect divided by its largest on other aspects' pairs: 2, 2, 4
    "PD(rati.)": (
        {
            "pairs": Dataset.from_dict(
                {"pair_id": IDS, "aspect": list("abc"), "rating_gaps": named([1, 2, 4], [2, 1, -2], [-2, 0, 3])}
            )
        },
        {},
        [-2, -0.5, 1],
        "pqr",
    ),
    # b agrees with one of two labels and is held at .55: log-odds log(.55/.45) = .2007; a and c with both: log 99 = 4.5951.
    # p -(.2007 * 1 + 4.5951 * .5), q -(4.5951 + 4.5951), r -(4.5951 - .2007)
    "PD(weighted)": (ABC, ONE, [-2.49823, -9.19024, -4.39445], "qrp"),
    "RAF": ({"pooled": numbers(2, -1, 0)}, {}, [2, -1, 0], "prq"),
    "RC": (ABC, ONE, [0.5, 1, -1], "qpr"),
    "RC(gap)": (ABC, ONE, [1.5, 2, -6], "qpr"),  # r fails one aspect: 0 - 2 * 3
    "mean-sd": (ABC, ONE, [0.5, 1, -1], "qpr"),  # means .75, 1, 0; deviations .25, 0, 1
    "mean, variance": (ABC, ONE, [0.0625, 0, 3], "qpr"),  # the median mean is .75: r is outside the region
    "margin(implicit)": (PROBE, {}, [2, -1, 0.5], "prq"),
    "DM-ADD": (WITNESSES, {}, [0 + 2, 6 - 1, 2 - 3], "qpr"),  # F8: as they are, the implicit one without beta
    # F8: odds 99 * 1/3, 1/3 * 99, 1/99 * 1, with 0 and 1 held at .01 and .99
    "DM-MUL": (WITNESSES, {"tail": 1}, [np.log(33), np.log(33), -np.log(99)], "pqr"),
    "small gap": (PROBE, {}, [2, -1, 0.5], "qrp"),
    "small |gap|": (PROBE, {}, [2, 1, 0.5], "rqp"),
    # F12: variance 1.5, log weights -.75, -.75, 0; sha256("random beta-DPO 0:p") is .5850 of 16^64, -log -log of it .62338
    "beta-DPO filter": (POLICY, {}, [0.62338 - 0.75, 0.31398 - 0.75, 0.47699], "rpq"),
    "SeRA": (POLICY, {}, [2, -1, 0.5], "prq"),
    # the probe's margins: 0, 1, -1
    "SeRA(ensemble)": (POLICY | {"probe_logps": rewarded(0, 1, -1)}, {"weight": 0.5}, [1, 0, -0.25], "pqr"),
    "SelectiveDPO": (
        {"held_out_losses": pd.DataFrame({"0": [1, 2, 3], "1": [3, 0, 1]}, index=IDS)},
        {},
        [2, 1, 2],
        "qpr",
    ),
    # F2: the reward's 1, -3, -1 have z 1.225, -1.225, 0. A token is -2 and -3, -2 and -2, -5 and -3: 1, 0, 2 apart, of z
    # 0, -1.225, 1.225
    "potential": (
        {
            "pooled": numbers(1, -3, -1),
            "reference_logps": sides([-4, -6, -5], [-9, -2, -3]),
            "tokens": sides([2, 3, 1], [3, 1, 1]),
        },
        {},
        [1.5**0.5 - 0, 0, -(1.5**0.5)],
        "pqr",
    ),
    # F2: z of 1, -3 is 1, -1; the probe's sizes 2 and 0, of z 1 and -1
    "potential(probe)": (
        {"pooled": numbers(1, -3), "probe_logps": rewarded(-2, 0), "reference_logps": sides([0, 0], [0, 0])},
        {},
        [0, 0],
        "pq",
    ),
    "middle": (POLICY, {}, [1 / 3, 1 / 3, 0], "rpq"),
    # margins 2, -1, .5, 1: ranks 4, 1, 2, 3. Losses under the probe less those under the policy, in nats about:
    # p 0 - .13, q 2.13 - 1.31, r 0, s 10 - .31: ranks 1, 3, 2, 4. Either is the larger distance for one of q and s
    "middle(both)": (
        {
            "policy_logps": rewarded(2, -1, 0.5, 1),
            "probe_logps": rewarded(10, -2, 0.5, -10),
            "reference_logps": sides([0] * 4, [0] * 4),
        },
        {},
        [3 / 8, 3 / 8, 1 / 8, 3 / 8],
        "rpqs",
    ),
    # F10: entropies x 5, y 1; of the pairs 2/3 go on, p and q (q before r by its id), and r comes after them
    "APL": (
        PROBE | {"pairs": ABC["pairs"], "sample_logps": by_prompt(-4, -6, -1, -1)},
        {"share": 4 / 9},
        [2, 1, 0.5 - 2 - 1],
        "pqr",
    ),
    # F10: entropies 1, 5, 2 of the given responses: q and r go on; margins 2, -1, .5
    "APL(given)": (
        {
            "probe_logps": sides([2 * UNIT, -UNIT - 4, 0.5 * UNIT - 1], [-2, -6, -3]),
            "reference_logps": sides([0, -4, -1], [-2, -6, -3]),
        },
        {"share": 4 / 9},
        [2 - 2 - 1, 1, 0.5],
        "qrp",
    ),
    "clear preference": ({"reference_logps": sides([-3, -1, -2], [-5, -4, -1])}, {}, [2, 3, -1], "qpr"),
    "PPL": (
        {"reference_logps": sides([-2 * LOG2, -3], [0, 0]), "tokens": sides([2, 1], [1, 1])},
        {},
        [2, np.exp(3)],
        "pq",
    ),
    # p: perplexity 2 over 2, against 4 over 2; q the other way round
    "IFD": (
        {
            "reference_logps": sides([-2 * LOG2] * 2, [-2 * LOG2] * 2),
            "tokens": sides([2, 1], [1, 2]),
            "unprompted_nll": sides([LOG2] * 2, [LOG2] * 2),
        },
        {},
        [1 - 2, 2 - 1],
        "qp",
    ),
    # in units of log 2, p: 1 / 2 less 2 / 1; q: 2 / 2 less 1 / 1
    "IFD(loss)": (
        {
            "reference_logps": sides([-2 * LOG2] * 2, [-2 * LOG2] * 2),
            "tokens": sides([2, 1], [1, 2]),
            "unprompted_nll": sides([2 * LOG2] * 2, [LOG2] * 2),
        },
        {},
        [-1.5, 0],
        "qp",
    ),
    "length balance": (WORDS, {}, [LOG2, LOG2, 0], "rpq"),
    "shorter chosen": (WORDS, {}, [LOG2, -LOG2, 0], "qrp"),
    # H_w (1, 2) and H_l (3, 1): 5 - 5; (2, 0) and (0, 4): 0 - 4; (1, 1) and (4, 4): 8 - 2
    "CHES": ({"hidden_products": PRODUCTS}, {}, [0, -4, 6], "qpr"),
    # the same with p's of 1 and 2 tokens, q's of 2 and 1, r's of 1 and 4: 5/2 - 5, 0 - 4/4, 8/4 - 2
    "CHES(normalised)": (
        {"hidden_products": PRODUCTS, "tokens": sides([1, 2, 1], [2, 1, 4])},
        {},
        [-2.5, -1, 0],
        "pqr",
    ),
    # Of x, u and v are alike and w is across: u and v have mean similarity 1/2, w 0. The pair u v has 1/2 - 1, the others
    # 1/4 - 0: p and r come first, by id, then q, each with the prompt's draw, sha256("random AEPO 0:x") = .40456 of 16^64
    "AEPO": (
        {
            "pairs": {"pair_id": IDS, "prompt_id": ["x"] * 3, "chosen": ["u", "u", "v"], "rejected": ["w", "v", "w"]},
            "response_features": pd.DataFrame(
                {"0": [1.0, 2, 0], "1": [0.0, 0, 3], "response": ["u", "v", "w"]},
                index=pd.Index(["x"] * 3, name="prompt_id"),
            ),
        },
        {},
        [1 + DRAW, 3 + DRAW, 2 + DRAW],
        "prq",
    ),
    # r repeats p's direction, q is across it and shorter: p (longest), then q, then r
    "D-optimal": (
        PROBE | {"probe_logps": ZERO, "features": pd.DataFrame([[3.0, 0], [0, 2], [2.9, 0]], index=IDS)},
        {"ridge": 0.01},
        [0, 1, 2],
        "pqr",
    ),
    "chosen quality": ({"pooled_rewards": sides([2, 1, 0], [5, 5, 5])}, {}, [2, 1, 0], "pqr"),
    # x: mean 1, deviation 2, so -3 is the spot; y: mean 0, deviation 1, so -2 is
    "sweet spot": (
        {
            "pairs": ABC["pairs"],
            "pooled_rewards": sides([9, 9, 9], [-3, -1, 0]),
            "sample_rewards": by_prompt(-1, 3, -1, 1),
        },
        {},
        [0, 1, 2],
        "pqr",
    ),
    # F7: qualities 3, 4, .5 of median 3; variabilities 4, 0, .25: q and p are in the region, r comes after by 4 + (4 - .5)
    "data map": ({"pooled_rewards": sides([5, 4, 0], [1, 4, 1])}, {}, [4, 0, 7.5], "qpr"),
}
HAND |= {"PPL(high)": (*HAND["PPL"][:3], "qp"), "IFD(low)": (*HAND["IFD"][:3], "pq")}


def with_pairs(signals):
    ids = [list(value.index) for value in signals.values() if isinstance(value, pd.DataFrame)]
    return {"pairs": {"pair_id": ids[0] if ids else IDS}} | signals


@pytest.mark.parametrize("name", RULES)
def test_a_rule_by_hand(name):
    """Every one of them, its score and the end it keeps: a rule without a line above fails."""
    signals, options, expected, order = HAND[name]
    found = score(name, with_pairs(signals), **options)
    assert found.to_dict() == pytest.approx(dict(zip("pqrs", expected, strict=False)), abs=1e-5)
    assert found.name == name and found.index.name == "pair_id"
    assert "".join(select(found, 1.0, keep=RULES[name].keeps)) == order


def test_outside_the_region_of_high_means_the_higher_mean_comes_first(monkeypatch):
    """Five pairs labelled on a; b's and c's scaled margins are their opinions. The means are .9, .8, .7, .4 and -.3."""
    opinions = pd.DataFrame(
        {"a": 0.0, "b": [0.9, 1.0, 0.7, 0.6, -0.3], "c": [0.9, 0.6, 0.7, 0.2, -0.3]}, index=list("vwxyz")
    )
    pairs = {"pair_id": list("vwxyz"), "aspect": ["a"] * 5}
    monkeypatch.setattr(aspects, "opinions", lambda *_, **__: opinions[["b", "c"]])
    scores = aspects.high_mean_low_variance(pairs, opinions)
    np.testing.assert_allclose(scores, [0, 0.04, 0, 2.6, 3.3], atol=1e-12)


def test_every_source_is_an_arxiv_number_or_a_baseline():
    """A number alone names the published rule, "after" it what we made of it."""
    for name, rule in {**RULES, **BUILT, **ALTERNATIVES}.items():
        assert re.fullmatch(r"baseline|(after )?\d{4}\.\d{5}(, \d{4}\.\d{5})*", rule.source), name


def every_response(pairs, rng):
    """Features of every response to a prompt, each once."""
    asked = zip([*pairs["prompt_id"]] * 2, [*pairs["chosen"], *pairs["rejected"]], strict=True)
    names, texts = zip(*sorted(set(asked)), strict=True)
    index = pd.Index(names, name="prompt_id")
    return pd.DataFrame(rng.normal(size=(len(names), 3)), index=index, columns=list("xyz")).assign(response=texts)


@pytest.fixture(scope="module")
def signals():
    """All signals of 40 pairs with 3 aspects, drawn at random, some values tied."""
    rng = np.random.default_rng(0)
    n, ids = 40, [f"z{i:02d}" for i in range(40)]
    pairs = Dataset.from_dict(
        {
            "pair_id": ids,
            "prompt_id": [f"x{i // 2:02d}" for i in range(n)],
            "prompt": ["ask"] * n,
            "chosen": ["w " * int(k) for k in rng.integers(1, 9, n)],
            "rejected": ["w " * int(k) for k in rng.integers(1, 9, n)],
            "aspect": [("a", "b", "c")[i % 3] for i in range(n)],
            "rating_gaps": [
                {"abc"[k]: float(g if k != i % 3 else abs(g) + 1) for k, g in enumerate(row)}
                for i, row in enumerate(rng.integers(-2, 3, (n, 3)))
            ],
        }
    )

    def table(columns, low=-9, high=9):
        return pd.DataFrame(rng.integers(low, high, (n, len(columns))).astype(float), index=ids, columns=list(columns))

    prompts = pd.Index(sorted(set(pairs["prompt_id"])) * 4, name="prompt_id")
    samples = {
        name: pd.Series(rng.normal(size=len(prompts)), index=prompts) for name in ("sample_logps", "sample_rewards")
    }
    both = {
        name: table(["chosen", "rejected"])
        for name in ("pooled_rewards", "reference_logps", "probe_logps", "policy_logps")
    }
    return {
        "pairs": pairs,
        "words": baselines.words(pairs),
        "margins": table("abc"),
        "pooled": table("a")["a"],
        "tokens": table(["chosen", "rejected"], 1),
        "unprompted_nll": table(["chosen", "rejected"], 1),
        "held_out_losses": table("01", 0),
        "features": table("wxyz"),
        "hidden_products": table(["both", "chosen"], 0),
        "response_features": every_response(pairs, rng),
        **both,
        **samples,
    }


def shuffled(signals, random):
    """The same signals, every table in an order of its own, with an extra row of a pair nobody asked about."""

    def mixed(value):
        if isinstance(value, Dataset):
            return value.select(random.sample(range(len(value)), len(value)))
        if value.index.name == "prompt_id":
            return value
        extra = value.iloc[:1].set_axis(["other"])
        value = pd.concat([value, extra])
        return value.iloc[random.sample(range(len(value)), len(value))]

    return {name: mixed(value) for name, value in signals.items()}


@settings(max_examples=10)  # each scores every rule twice
@given(st.randoms(use_true_random=False))
def test_row_order_changes_no_bit_of_any_rule(signals, random):
    whole, mixed = score_all(signals), score_all(shuffled(signals, random))
    assert list(whole) == list(RULES)
    pd.testing.assert_frame_equal(mixed.loc[whole.index], whole, check_exact=True)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_keeps_its_share_best_first_with_ties_by_id(signals, name):
    scores = score_all(signals, [name])
    kept = keep_all(scores, 0.3)
    ids = list(kept["pair_id"])
    sign = 1 if RULES[name].keeps == "lowest" else -1
    values = (sign * scores[name]).to_dict()
    assert ids == sorted(values, key=lambda pair: (values[pair], pair))[:12]


@pytest.mark.parametrize("name", RULES)
def test_absent_or_bad_values_are_refused_with_their_ids(signals, name):
    for need in [need for need in needs(RULES[name].score) if need != "pairs"]:
        with pytest.raises(ValueError, match=rf"signal is absent: 1 \(first: {need}\)\. Remedy"):
            score(name, {key: value for key, value in signals.items() if key != need})
        holed = signals[need].copy()
        if holed.index.name == "prompt_id":
            holed.iloc[(0, 0) if holed.ndim == 2 else 0] = np.nan
            problem = r"is NaN for a prompt: 1 \(first: x00\)\. Remedy"
        else:
            column = {"margins": 1}.get(need, 0)  # z00 is labelled on the first aspect, whose own margin nobody reads
            holed.iloc[(0, column) if holed.ndim == 2 else 0] = np.nan
            problem = r"is NaN or infinite.*: 1 \(first: z00\)\. Remedy"
            with pytest.raises(ValueError, match=r"has no entry for a pair: 1 \(first: z00\)\. Remedy"):
                score(name, signals | {need: signals[need].iloc[1:]})
        with pytest.raises(ValueError, match=problem):
            score(name, signals | {need: holed})


def test_an_own_margin_is_never_read(signals):
    margins = signals["margins"].copy()
    for name, aspect in zip(signals["pairs"]["pair_id"], signals["pairs"]["aspect"], strict=True):
        margins.loc[name, aspect] = np.nan
    mine = [name for name, rule in RULES.items() if "margins" in needs(rule.score)]
    assert len(mine) == 7
    found = score_all(signals | {"margins": margins}, mine)
    pd.testing.assert_frame_equal(found, score_all(signals, mine), check_exact=True)


def test_unknown_rules_and_repeated_pairs_are_refused(signals):
    with pytest.raises(ValueError, match=r"rule='PD\+': use one of \['RAND', 'PD'"):
        score("PD+", signals)
    with pytest.raises(ValueError, match=r"pairs: pair_id occurs more than once: 1 \(first: p\)"):
        score("RAND", {"pairs": {"pair_id": ["p", "p"]}})
    with pytest.raises(ValueError, match=r"chosen has no words: 1 \(first: p\)"):
        baselines.words({"pair_id": ["p"], "chosen": [" "], "rejected": ["a"]})


def test_a_rule_that_breaks_on_a_pair_names_it(monkeypatch):
    monkeypatch.setitem(RULES, "broken", Rule(lambda pooled: 1 / (pooled - 1), "highest", "here"))
    with pytest.raises(ValueError, match=r"rule 'broken': score is NaN or infinite: 1 \(first: p\)"):
        score("broken", {"pairs": {"pair_id": IDS}, "pooled": numbers(1, 2, 3)})


def test_a_new_rule_is_five_lines(signals, monkeypatch):
    """A function and a line in the dictionary: scored, kept, described and compared like every other."""
    from pdsel.rules.kept_sets import overlap

    def loudest(pairs, pooled):
        return pooled.abs()

    monkeypatch.setitem(RULES, "loudest", Rule(loudest, "highest", "here"))
    scores = score_all(signals)
    kept = keep_all(scores, 0.3)
    assert "loudest" in scores and describe().loc["loudest", "needs"] == "pairs, pooled"
    assert (kept["method"] == "loudest").sum() == 12 and "loudest" in overlap(kept)
    assert list(kept.loc[kept["method"] == "loudest", "pair_id"]) == list(
        select(signals["pooled"].abs(), 0.3, keep="highest")
    )


def test_a_rule_of_ones_own_leaves_the_registry_alone(signals):
    def loudest(pooled):
        return pooled.abs()

    extended = RULES | {"loudest": Rule(loudest, "highest", "here")}
    scores = score_all(signals, ["loudest", "PD"], rules=extended)
    kept = keep_all(scores, 0.3, rules=extended)
    assert list(kept["method"].unique()) == ["loudest", "PD"] and "loudest" not in RULES
    assert list(score_all(signals, rules=extended)) == [*RULES, "loudest"]
    with pytest.raises(ValueError, match="rule='loudest': use one of"):
        score_all(signals, ["loudest"])


def test_a_design_that_would_take_hours_is_refused():
    features = pd.DataFrame(np.zeros((40, 2)), index=[f"z{i}" for i in range(40)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "MOST_WORK", 40 * 40 * 2 - 1)
        with pytest.raises(
            ValueError, match=r"40 pairs with 2 features .* Remedy: .* a random sample of at most 39 pairs"
        ):
            geometry.d_optimal(features, None, None)


def test_ratings_alone_suffice_for_some(signals):
    assert available({"pairs": signals["pairs"]}) == ["RAND", "PD(rati.)"]


# --- readings that the hand-worked cases do not reach ---


def test_beta_dpo_draws_as_its_weights_say():
    """Two pairs at the mean, one far from it: the far one is drawn first about as often as its weight is of all weights."""
    logps = sides([0, 0, 30], [0, 0, 0])
    margin = implicit(logps, ZERO)
    weights = np.exp(-(((margin - margin.mean()) / margin.std(ddof=0)) ** 2) / 2)
    first = [margins.drawn_near_mean(logps, ZERO, seed=seed).idxmax() for seed in range(1500)]
    assert pd.Series(first).value_counts(normalize=True)["r"] == pytest.approx((weights / weights.sum())["r"], abs=0.03)
    assert margins.drawn_near_mean(ZERO, ZERO).notna().all(), "equal margins: a plain draw"


def test_F8_probabilities_by_the_papers_bounds():
    """From L = -2 to the margin above which fewer than 30 lie; their Bayesian product is p q / (p q + (1 - p)(1 - q))."""
    low_to_high = pd.Series(np.linspace(-3, 3, 61))
    p = margins.as_probability(low_to_high)
    most = low_to_high.iloc[31]  # 29 lie above it
    assert p.to_numpy() == pytest.approx(np.clip((low_to_high + 2) / (most + 2), 0.01, 0.99).to_numpy())
    assert margins.as_probability(pd.Series([-3.0, -2.0])).tolist() == [0.5, 0.5]
    frame = pd.DataFrame({"chosen": low_to_high, "rejected": 0.0})
    product = margins.dual_multiplied(low_to_high, frame, 0 * frame)
    assert (1 / (1 + np.exp(-product))).to_numpy() == pytest.approx((p**2 / (p**2 + (1 - p) ** 2)).to_numpy())


def test_F2_potential_is_that_of_the_released_code():
    """On pairs whose chosen response has the higher reward: z(max - min of rewards) - z(|mean log-probs' difference|)."""
    rng = np.random.default_rng(0)
    rewards, logps, tokens = rng.normal(size=(9, 2)), -rng.random((9, 2)) * 20, rng.integers(1, 9, (9, 2))
    names = ["chosen", "rejected"]
    rewards = np.sort(rewards, axis=1)[:, ::-1]
    released = [rewards.max(axis=1) - rewards.min(axis=1), np.abs(np.diff(logps / tokens, axis=1))[:, 0]]
    released = [(values - values.mean()) / values.std() for values in released]
    found = margins.alignment_potential(
        pd.Series(rewards[:, 0] - rewards[:, 1]),
        pd.DataFrame(logps, columns=names),
        pd.DataFrame(tokens, columns=names),
    )
    assert found.to_numpy() == pytest.approx(released[0] - released[1])


def test_F2_a_label_that_the_reward_contradicts_has_no_potential():
    """With |.| around the reward's margin, as the released code may have it, q would come first."""
    logps = sides([-2, -2, -2], [-2, -2, -2])
    found = margins.alignment_potential(numbers(1, -9, 2), logps, sides([1, 1, 1], [1, 1, 1]))
    assert found.idxmin() == "q" and found.tolist() == pytest.approx(standard(numbers(1, -9, 2)).tolist())


def test_F4_weights_of_the_vote_follow_accuracy():
    """Aspect b agrees with the labels of the others' pairs, c contradicts half of them: b weighs more."""
    pairs = {"pair_id": list("pqrstu"), "aspect": list("aabbcc")}
    table = pd.DataFrame(
        {"a": [0, 0, 1, 1, 1, 1], "b": [1, 1, 0, 0, 1, 1], "c": [1, -1, 1, -1, 0, 0]}, index=list("pqrstu")
    )
    found = aspects.voted_divergence(pairs, table.astype(float))
    strong, weak = (
        np.log(0.99 / 0.01),
        np.log(0.55 / 0.45),
    )  # c's accuracy is .5, raised to the bound; b's is lowered to it
    assert found["p"] == pytest.approx(-(strong + weak)) and found["q"] == pytest.approx(-(strong - weak))


def test_F4_votes_are_not_divided_by_the_labels_own():
    """MODPO's divergence divides by the weight of the label's aspect, and a label of little trust would have the most PD."""
    found = aspects.weighted_divergence(ABC["pairs"], ABC["margins"], weights={"a": 1, "b": 2, "c": 1}, quantile=1.0)
    assert found.tolist() == [-2.5, -1, 1]  # -(2*1 + 1*.5)/1, -(1*1 + 1*1)/2, -(1*1 + 2*-1)/1
    votes = aspects.voted_divergence(ABC["pairs"], ABC["margins"], quantile=1.0)
    assert votes["p"] == pytest.approx(-(1 * np.log(0.55 / 0.45) + 0.5 * np.log(99)))


def test_APL_entropy_is_high_where_the_policy_is_unsure():
    """The sign: samples of low probability mean high entropy. With the other sign the sure prompt would come first."""
    pairs = {"pair_id": ["p", "q"], "prompt_id": ["sure", "unsure"]}
    logps = pd.Series([-0.1, -0.1, -9.0, -11.0], index=["sure", "sure", "unsure", "unsure"])
    alike = rewarded(1, 1)
    found = likelihood.entropy_then_certainty(pairs, logps, alike, 0 * alike, share=0.1)
    assert found["q"] == 1 and found["p"] == -1


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_F10_certainty_always_has_something_to_choose(share):
    """Entropy lets max(1/2, sqrt(share)) through; of these at most sqrt(share) are kept, the most certain ones."""
    ids = [f"z{i:03d}" for i in range(400)]
    rng = np.random.default_rng(0)
    logps = pd.DataFrame({"chosen": rng.normal(size=400), "rejected": 0.0}, index=ids)
    reference = pd.DataFrame({"chosen": rng.normal(size=400), "rejected": rng.normal(size=400)}, index=ids)
    kept = select(likelihood.given_entropy_then_certainty(logps, reference, share=share), share, keep="highest")
    entropy, certainty = -reference.mean(axis=1), implicit(logps, reference).abs()
    through = select(entropy, max(0.5, share**0.5), keep="highest")
    assert set(kept) == set(certainty[through].nlargest(len(kept)).index) and len(kept) < len(through)
    assert set(kept) != set(select(entropy, share, keep="highest")), "entropy alone would keep others"


def test_greedy_design_is_the_greedy_optimum_of_the_determinant():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(12, 3))
    order = geometry.greedy_design(rows, 0.5)
    start = 0.5 * np.square(rows).mean() * np.eye(3)
    for step in range(len(rows)):
        information = start + rows[order[:step]].T @ rows[order[:step]]
        gains = [np.linalg.slogdet(information + np.outer(rows[i], rows[i]))[1] for i in order[step:]]
        assert gains[0] == pytest.approx(max(gains))
    assert sorted(order) == list(range(12))


def test_F11_the_boundary_is_half_of_the_duels():
    """Every sample against every side of the given pairs, whose rewards are 2, 1, 0 and 0."""
    pairs, rewards = {"pair_id": ["p", "q"], "prompt_id": ["x", "x"]}, sides([2, 1], [0, 0])
    assert not rules.rewards.past_boundary(pairs, rewards, by_prompt(1, -1, prompts="xx"))  # 2 won, 1 even, 5 lost
    assert rules.rewards.past_boundary(pairs, rewards, by_prompt(1, 1, prompts="xx"))  # 4 won, 2 even, 2 lost
    assert rules.rewards.past_boundary(pairs, rewards, by_prompt(1, -1, 9, prompts="xxx"))  # 6 won, 1 even, 5 lost


def test_samples_all_alike_have_no_deviation_of_their_own():
    signals = {
        "pairs": ABC["pairs"],
        "pooled_rewards": sides([0, 0, 0], [-1, -1, -2]),
        "sample_rewards": by_prompt(1, 1, 0, 2),
    }
    found = score("sweet spot", signals)  # x: deviation 0, taken as sqrt((0 + 1) / 2); y: mean 1, deviation 1
    assert found.tolist() == pytest.approx([abs(-2 / np.sqrt(0.5) + 2), 0, 1])


def test_two_aspects_make_consensus_rules_one(signals):
    """With two aspects there is one opinion, and PD, RC and mean-sd order pairs alike."""
    pairs = {"pair_id": IDS + ["s"], "aspect": list("aabb")}
    margins = pd.DataFrame({"a": [0, 0, 2, -1], "b": [1, -3, 0, 0]}, index=IDS + ["s"], dtype=float)
    found = [rules.score(name, {"pairs": pairs, "margins": margins}) for name in ("PD", "RC", "mean-sd")]
    assert found[1].tolist() == found[2].tolist() == (-found[0]).tolist()


# --- data that people rated ---


@pytest.mark.parametrize(("file", "limit"), [("topical_chat_usr.jsonl", None), ("summeval12.jsonl", 40)])
def test_rules_that_need_ratings_only_on_what_people_rated(shared, file, limit):
    """One table for all of them; those it shares with the table of notebook 10 are the same to the bit."""
    from pdsel.experiments.human_ratings import MEAN, agreement_table, field_scores
    from pdsel.ratings import load_ratings

    rated = load_ratings(shared / file, limit=limit)
    judge = "overall" if file.startswith("topical") else "held_out"  # SummEval has no overall score
    table = agreement_table(rated, reference=judge, score_rules=field_scores)
    usual = agreement_table(rated, reference=judge)
    rows = ["label", "share", "rule"]
    both = usual.merge(table, on=rows, suffixes=("", "_field"))
    assert len(both) == len(usual)
    for column in ("value", "low", "high", "gain", "n"):
        pd.testing.assert_series_equal(both[column], both[f"{column}_field"], check_names=False)
    means = table[table["label"] == MEAN].set_index("rule")
    assert {"PD(rati.)", "RC", "RC(gap)", "mean-sd", "mean, variance", "PD(weighted)", "mean gap", "GAP"} <= set(
        means.index
    )
    assert means["value"].between(0, 100).all() and means["value"].idxmin() == "PD(high)"
    assert means.loc["PD(rati.)", "gain_low"] > 0


def test_ratings_that_come_as_text_are_numbers():
    """As text "10" is below "9"; code that compares ratings as they come gets this wrong."""
    gaps = [["10", "-9", "9"], ["-10", "9", "10"], ["-9", "10", "9"]]
    as_text, as_numbers = (
        Dataset.from_dict(
            {
                "pair_id": IDS,
                "aspect": list("abc"),
                "rating_gaps": named(*([kind(gap) for gap in row] for row in gaps)),
            }
        )
        for kind in (str, float)
    )
    found = score("PD(rati.)", {"pairs": as_text})
    assert found.tolist() == score("PD(rati.)", {"pairs": as_numbers}).tolist() == pytest.approx([0, 0, -0.1])


def test_drawn_rules_draw_independently():
    """With one stream of draws for both, what RAND keeps beta-DPO's draw would leave out."""
    ids = [f"z{i}" for i in range(2000)]
    alike = pd.DataFrame(0.0, index=pd.Index(ids, name="pair_id"), columns=["chosen", "rejected"])
    drawn = select(margins.drawn_near_mean(alike, alike), 0.3, keep="highest")
    chance = select(baselines.chance({"pair_id": ids}), 0.3)
    assert drawn.isin(chance).mean() == pytest.approx(0.3, abs=0.06)


def test_AEPO_compares_directions_and_not_lengths():
    """By hand: the first two responses point the same way, so each is like one of its two others, and the third like none."""
    features = pd.DataFrame([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]], index=["a", "b", "c"])
    pairs = pd.DataFrame({"chosen": ["a", "a"], "rejected": ["b", "c"]}, index=["alike", "apart"])
    found = geometry._representative(pairs, features, diversity=1.0)
    assert found.to_dict() == {"alike": -0.5, "apart": 0.25}
