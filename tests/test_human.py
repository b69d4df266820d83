"""Real ratings: labels of one aspect, PD from the others, and a judge that PD never reads."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pdsel.checks import DataError
from pdsel.data.gaps import rating_gaps
from pdsel.divergence import rating_divergence
from pdsel.experiments.human_ratings import MEAN, SIMPLE_RULES, agreement_table, label_on, rule_scores
from pdsel.pairs import make_pairs, pair_id
from pdsel.plots import plot_human_agreement, plot_human_shares
from pdsel.ratings import load_ratings
from pdsel.selection import select


@pytest.fixture
def three_responses(hand_ratings):
    """One prompt; on `a` x > y > z, so three labels, of which `b` and `c` confirm some."""
    return hand_ratings(
        (["x", "y", "z"], {"a": [3.0, 2.0, 1.0], "b": [4.0, 0.0, 2.0], "c": [1.0, 1.0, 0.0]}, [2.0, 3.0, 1.0])
    )


@pytest.fixture(scope="session")
def topical(shared):
    return load_ratings(shared / "topical_chat_usr.jsonl")


@pytest.fixture(scope="session")
def summeval(shared):
    return load_ratings(shared / "summeval12.jsonl")


def means(table, share=0.3):
    """The mean over labels, a row per rule."""
    return table[(table["label"] == MEAN) & (table["share"] == share)].set_index("rule")


def shuffled(ratings, seed=0):
    return ratings.select(np.random.default_rng(seed).permutation(len(ratings)))


def named(chosen, rejected):
    return pair_id("question 0", chosen, rejected, "a")


def test_labels_by_hand(three_responses):
    gaps = label_on(three_responses, "a")
    assert gaps.loc[named("x", "y"), ["overall_gap", "a", "b", "c"]].tolist() == [-1.0, 1.0, 4.0, 0.0]
    assert gaps.loc[named("x", "z"), ["overall_gap", "a", "b", "c"]].tolist() == [1.0, 2.0, 2.0, 1.0]
    assert gaps.loc[named("y", "z"), ["overall_gap", "a", "b", "c"]].tolist() == [2.0, 1.0, -2.0, 1.0]
    assert len(gaps) == 3 and gaps.index.is_monotonic_increasing


def test_divergence_by_hand(three_responses):
    # b is divided by 4, c by 1: xy -(4/4 + 0), xz -(2/4 + 1), yz -(-2/4 + 1)
    scores = rule_scores(label_on(three_responses, "a"), "a")
    expected = {named("x", "y"): -1.0, named("x", "z"): -1.5, named("y", "z"): -0.5}
    assert scores["PD(rati.)"].to_dict() == expected
    assert scores["PD(high)"].to_dict() == {name: -value for name, value in expected.items()}
    # with c as the judge only b is read
    assert rule_scores(label_on(three_responses, "a"), "a", judge="c")["PD(rati.)"][named("y", "z")] == 0.5


def test_agreement_by_hand(three_responses):
    """Labels of a: overall confirms xz and yz, not xy. PD keeps xz first, then xy; PD(high) keeps yz first."""
    table = agreement_table(three_responses, shares=[1 / 3, 2 / 3]).set_index(["label", "share", "rule"]).sort_index()
    value = table["value"].loc["a"]
    assert value[1 / 3][["ALL", "PD(rati.)", "GAP", "PD(high)"]].round(6).tolist() == [66.666667, 100, 100, 100]
    assert value[2 / 3]["PD(rati.)"] == 50
    assert table.loc[("a", 1 / 3, "PD(rati.)"), "gain"] == pytest.approx(100 / 3)
    assert table.loc[("a", 1 / 3), "n"][["ALL", "PD(rati.)"]].tolist() == [3, 1]


def test_ties_of_the_judge(hand_ratings):
    """a labels x over y over z; the overall score ties x and y, and confirms xz and yz."""
    ratings = hand_ratings((["x", "y", "z"], {"a": [3.0, 2.0, 1.0], "b": [3.0, 2.0, 1.0]}, [2.0, 2.0, 1.0]))
    half, drop = (means(agreement_table(ratings, ties=ties, shares=[1.0]), 1.0) for ties in ("half", "drop"))
    assert half["value"].round(6).unique().tolist() == [83.333333]
    assert drop["value"].unique().tolist() == [100]
    assert half["ties"].round(6).unique().tolist() == drop["ties"].round(6).unique().tolist() == [33.333333]


def test_held_out_by_brute_force(ratings):
    """Three nested loops over labels, judges and pairs, on the notes world."""
    names, share = list(ratings[0]["ratings"]), 0.3
    table = agreement_table(ratings, reference="held_out", shares=[share])
    by_label = {}
    for label in names:
        by_judge = []
        for judge in set(names) - {label}:
            pairs = {}
            for prompt in ratings:
                rated, texts = prompt["ratings"], prompt["responses"]
                for i, j in combinations(range(len(texts)), 2):
                    up, down = (i, j) if rated[label][i] > rated[label][j] else (j, i)
                    if rated[label][i] != rated[label][j] and texts[i] != texts[j]:
                        name = pair_id(prompt["prompt"], texts[up], texts[down], label)
                        pairs.setdefault(name, []).append({k: rated[k][up] - rated[k][down] for k in names})
            gaps = pd.DataFrame({name: pd.DataFrame(rows).mean() for name, rows in pairs.items()}).T
            others = [k for k in names if k not in (label, judge)]
            divergence = -sum(gaps[k] / gaps[k].abs().max() for k in others)
            kept = divergence.rename_axis("id").rename("pd").reset_index().sort_values(["pd", "id"])["id"]
            votes = np.sign(gaps.loc[kept.head(round(share * len(gaps))), judge])
            by_judge.append(50 * (1 + votes).mean())
        by_label[label] = np.mean(by_judge)
    found = table[table["rule"] == "PD(rati.)"].set_index("label")["value"]
    for label in names:
        assert found[label] == pytest.approx(by_label[label])
    assert found[MEAN] == pytest.approx(np.mean(list(by_label.values())))


def test_divergence_is_the_packages_own(ratings):
    """The gaps are those of `make_pairs`, and PD(rati.) of one aspect's labels is `rating_divergence`."""
    names = list(ratings[0]["ratings"])
    pairs = make_pairs(ratings, aspects=names)
    gaps = pd.concat([label_on(ratings, label).assign(label=label) for label in names]).loc[list(pairs["pair_id"])]
    assert np.array_equal(gaps[names].to_numpy(), rating_gaps(pairs)[names].to_numpy())
    one = pairs.filter(lambda aspect: aspect == names[0], input_columns="aspect")
    ours = rule_scores(gaps[gaps["label"] == names[0]].drop(columns="label"), names[0])["PD(rati.)"]
    pd.testing.assert_series_equal(ours, rating_divergence(one), check_names=False)


def test_overall_is_not_read_by_any_rule(ratings):
    rng = np.random.default_rng(0)
    other = ratings.map(lambda row: {"overall": rng.permutation(row["overall"]).tolist()})
    for label in ratings[0]["ratings"]:
        before, after = label_on(ratings, label), label_on(other, label)
        assert not before["overall_gap"].equals(after["overall_gap"])
        pd.testing.assert_frame_equal(rule_scores(before, label), rule_scores(after, label))


def test_the_judge_is_not_read_by_pd(ratings):
    gaps = label_on(ratings, "honesty")
    altered = gaps.assign(helpfulness=-7 * gaps["helpfulness"])
    before, after = (rule_scores(table, "honesty", judge="helpfulness") for table in (gaps, altered))
    pd.testing.assert_frame_equal(before, after)


@pytest.mark.parametrize("reference", ["overall", "held_out"])
def test_row_order_does_not_matter(ratings, reference):
    before, after = (agreement_table(table, reference=reference) for table in (ratings, shuffled(ratings)))
    pd.testing.assert_frame_equal(before, after)


def test_scale_of_an_aspect_does_not_matter(ratings):
    def wider(row):
        return {"ratings": row["ratings"] | {"honesty": [16 * value for value in row["ratings"]["honesty"]]}}

    pd.testing.assert_frame_equal(agreement_table(ratings), agreement_table(ratings.map(wider)))


def test_everything_kept_is_all(ratings):
    table = agreement_table(ratings, shares=[1.0])
    assert table.groupby("label")["value"].nunique().eq(1).all()
    assert (table[["gain", "gain_low", "gain_high"]] == 0).all(axis=None)


def test_random_is_all_on_average(ratings):
    gains = [means(agreement_table(ratings, seed=seed)).loc["RAND", "gain"] for seed in range(8)]
    assert abs(np.mean(gains)) < 2 * np.std(gains) / np.sqrt(len(gains)) + 1


def test_identical_responses(hand_ratings):
    """Two equal texts make no pair; against a third they make one, with the mean of the gaps."""
    ratings = hand_ratings((["x", "x", "y"], {"a": [3.0, 2.0, 1.0], "b": [1.0, 4.0, 0.0]}, [1.0, 1.0, 0.0]))
    gaps = label_on(ratings, "a")
    assert gaps[["a", "b"]].to_numpy().tolist() == [[1.5, 2.5]] and list(gaps.index) == [named("x", "y")]


def test_intervals_are_over_prompts(hand_ratings):
    """Prompts repeated word for word but for a number: as sure as a binomial draw of prompts, however many pairs each."""
    texts = ["w", "x", "y", "z"]
    up, down = [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]
    table = agreement_table(hand_ratings(*[(texts, {"a": up, "b": up}, up if i % 2 else down) for i in range(40)]))
    row = table[(table["label"] == "a") & (table["rule"] == "ALL")].iloc[0]
    assert row["value"] == 50
    assert row["high"] - row["low"] == pytest.approx(100 * 2 * 1.96 * np.sqrt(0.25 / 40), rel=0.1)


NAN = float("nan")
TWO = ["x", "y"]


@pytest.mark.parametrize(
    "prompt, settings, message",
    [
        ((TWO, {"a": [1.0, 2.0]}, [1.0, 2.0]), {}, "needs 2: one labels, the others give PD"),
        ((TWO, {"a": [1.0, 2.0], "b": [1.0, 2.0]}, TWO), {"reference": "held_out"}, "is text"),
        (
            (TWO, {"a": [1.0, 2.0], "b": [1.0, 2.0]}, [1.0, 2.0]),
            {"reference": "held_out"},
            "needs 3: one labels, one judges",
        ),
        ((TWO, {"a": [1.0, 2.0], "b": [1.0, 2.0]}, [NAN, NAN]), {}, "Remedy: .*reference='held_out'"),
        ((TWO, {"a": [1.0, 2.0], "b": [1.0, NAN]}, [1.0, 2.0]), {}, "^b is not known for prompts: 1 \\(first: q0\\)"),
        ((TWO, {"a": [1.0, 2.0], "b": [1.0, 1.0]}, [1.0, 2.0]), {}, "'b' separates no two responses"),
        ((TWO, {"a": [1.0, 2.0], "b": [1.0, 2.0]}, [1.0, 2.0]), {"aspects": ["a", "z"]}, "present in no row.*first: z"),
        ((TWO, {"a": [1.0, 2.0], "b": [1.0, 2.0]}, [1.0, 2.0]), {"reference": "gold"}, "use one of \\['overall'"),
        ((TWO, {"a": [1.0, 2.0], "b": [1.0, 2.0]}, [1.0, 2.0]), {"ties": "win"}, "and of \\['half', 'drop'\\]"),
        ((TWO, {"a": [1.0, 2.0], "b": [1.0, 2.0]}, [1.0, 2.0]), {"shares": [1.5]}, "share=1.5 is not in"),
    ],
)
def test_refused(hand_ratings, prompt, settings, message):
    with pytest.raises(DataError, match=message):
        agreement_table(hand_ratings(prompt), **settings)


def test_unknown_label_is_refused(ratings):
    with pytest.raises(DataError, match="aspect='politeness' is not rated in this table. Remedy: use one of"):
        label_on(ratings, "politeness")


@pytest.mark.parametrize("plot", [plot_human_agreement, plot_human_shares])
def test_figures_state_what_the_table_says(ratings, plot):
    table = pd.concat(agreement_table(ratings, shares=[0.3, 1.0]).assign(data=name) for name in ("one", "two"))
    figure = plot(table, mean=MEAN)
    gain = means(agreement_table(ratings)).loc["PD(rati.)", "gain"]
    assert f"confirmed {gain:.0f} points more often" in figure.get_suptitle()
    titles = [axis.get_title() or axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [f"{name}\njudge: human overall" for name in ("one", "two")]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()][::-1]
    if plot is plot_human_agreement:
        assert [name.split(":")[0] for name in names] == SIMPLE_RULES
    plot(table.assign(gain_low=-1.0), mean=MEAN)
    assert "no more often" in plt.gcf().get_suptitle()
    plt.close("all")


def test_figure_of_an_absent_share(ratings):
    with pytest.raises(DataError, match=r"share=0.5 is not in the table. Remedy: use one of \[0.3\]"):
        plot_human_agreement(agreement_table(ratings), mean=MEAN, share=0.5)


LABELS = {
    "topical_chat_usr": {
        "coherence": 738,
        "engagingness": 760,
        "groundedness": 516,
        "naturalness": 740,
        "understandability": 605,
    },
    "summeval12": {"coherence": 5797, "consistency": 2623, "fluency": 3263, "relevance": 5531},
}


@pytest.mark.parametrize("name", LABELS)
def test_real_labels(shared, name):
    ratings = load_ratings(shared / f"{name}.jsonl")
    assert {aspect: len(label_on(ratings, aspect)) for aspect in ratings[0]["ratings"]} == LABELS[name]


def test_people_confirm_what_pd_keeps(topical):
    """Topical-Chat, judged by the human overall score, which PD never read."""
    table = means(agreement_table(topical))
    assert table["n"].to_dict() == dict(zip(SIMPLE_RULES, [1008, 1008, 3359, 1008, 1008], strict=True))
    assert table["value"].round(1)[["PD(rati.)", "ALL", "PD(high)"]].tolist() == [100.0, 90.9, 70.1]
    assert table.loc["PD(rati.)", "gain_low"] > 7 and table.loc["PD(high)", "gain_high"] < -18
    assert table.loc["RAND", "gain_low"] < 0 < table.loc["RAND", "gain_high"]


@pytest.mark.parametrize("ties", ["half", "drop"])
@pytest.mark.parametrize("name, least", [("topical", 8), ("summeval", 14)])
def test_held_out_aspects_confirm_what_pd_keeps(request, name, least, ties):
    """The finding does not hang on how ties are counted, and a second opinion adds to the label's own gap."""
    table = means(agreement_table(request.getfixturevalue(name), reference="held_out", ties=ties))
    assert table.loc["PD(rati.)", "gain_low"] > least
    assert table.loc["PD(rati.)", "value"] > table.loc["GAP", "value"] > table.loc["ALL", "value"]
    assert table.loc["PD(high)", "gain_high"] < -15


def test_summeval_has_no_overall(summeval):
    with pytest.raises(DataError, match=r"overall_gap is not known for prompts: 100 .*reference='held_out'"):
        agreement_table(summeval)


def test_kept_labels_on_topical_chat_all_agree(topical):
    """The plainest form of the finding: of each aspect's first 30 % not one label is contradicted."""
    for label in topical[0]["ratings"]:
        gaps = label_on(topical, label)
        assert (gaps.loc[select(rule_scores(gaps, label)["PD(rati.)"], 0.3), "overall_gap"] > 0).all()
