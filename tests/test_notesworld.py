"""The offline world: its truth by hand, its people, its splits, and who may look at the truth."""

import ast
import hashlib
import inspect
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pdsel
from pdsel.evaluation.judges import gold_gaps
from pdsel.notesworld import (
    ASPECTS,
    GOLD,
    OPPOSED,
    draw_prompts,
    gold_aspects,
    gold_utility,
    mixture_aspects,
    rated_rows,
    read_prompt,
    split_of,
    variant_gaps,
    variant_scores,
    write_ratings,
)
from pdsel.notesworld.people import LENGTH_BIAS, rate
from pdsel.notesworld.variants import features
from pdsel.notesworld.world import (
    ATTRIBUTES,
    CLAIMS,
    FILLER,
    LEVELS,
    RELIABILITY,
    SPLITS,
    VALUES,
    WORDS,
    best_response,
    draw_reliability,
    told,
)
from pdsel.pairs import make_pairs
from pdsel.ratings import load_ratings

PROMPT = "notes color red ; home cave ; food moss ; tell boldly home and food ="
CAREFUL = PROMPT.replace("boldly", "carefully")
TABLE = dict.fromkeys(VALUES, 0.37) | {"cave": 0.1, "moss": 0.9}
SCRAPS = [".", ".", *WORDS, *FILLER.split(), "nonsense", *ATTRIBUTES, *(v[0] for v in ATTRIBUTES.values())]
PROMPTS = draw_prompts(50, split="select", seed=0)
PACKAGE = Path(pdsel.__file__).parent


def test_splits_are_disjoint_and_each_prompt_knows_its_own():
    drawn = {split: draw_prompts(1500, split=split, seed=3) for split in SPLITS}
    everything = [prompt for prompts in drawn.values() for prompt in prompts]
    assert len(set(everything)) == len(everything) == 4500
    assert all(split_of(prompt) == split for split, prompts in drawn.items() for prompt in prompts)


def test_the_splits_cover_every_prompt_once():
    assert sorted(bucket for buckets in SPLITS.values() for bucket in buckets) == list(range(16))


def test_prompts_are_those_of_the_grammar():
    questions = [read_prompt(prompt) for prompt in draw_prompts(500, split="select", seed=0)]
    for question in questions:
        assert 3 <= len(question.notes) <= 4 and 2 <= len(question.asked) <= 3
        assert set(question.asked) <= set(question.notes)
        assert all(value in ATTRIBUTES[name] for name, value in question.notes.items())
        assert len({RELIABILITY[question.notes[name]] for name in question.asked}) > 1
    assert np.mean([question.tone == "boldly" for question in questions]) == pytest.approx(0.5, abs=0.07)


def test_no_value_stands_under_two_attributes_and_each_has_a_reliability():
    assert len(set(VALUES)) == len(VALUES) == 40 == len(RELIABILITY)
    for seed in range(3):
        levels = list(draw_reliability(seed).values())
        assert {level: levels.count(level) for level in LEVELS} == LEVELS
    assert draw_reliability(1) != draw_reliability(0) == dict(RELIABILITY)


def test_no_word_and_no_attribute_is_more_reliable_by_design():
    """Reliabilities are symmetric about one half, so that claiming more, or less, gains nothing on average."""
    assert np.mean(list(RELIABILITY.values())) == pytest.approx(0.5)
    assert sorted(CLAIMS.values()) == pytest.approx(sorted(1 - claim for claim in CLAIMS.values()), abs=1e-9)


def test_drawing_is_deterministic_and_a_longer_draw_continues():
    assert draw_prompts(20, split="eval", seed=1) == draw_prompts(40, split="eval", seed=1)[:20]
    assert draw_prompts(20, split="eval", seed=1) != draw_prompts(20, split="eval", seed=2)


@pytest.mark.parametrize(
    "prompt",
    ["", "tell me a joke", "notes color red ; tell boldly color", "notes color red ; tell loudly color ="],
)
def test_other_prompts_are_refused(prompt):
    with pytest.raises(ValueError, match="not a prompt of the notes world"):
        read_prompt(prompt)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='test' is not a split .*use one of"):
        draw_prompts(1, split="test", seed=0)


@pytest.mark.parametrize(
    ("prompt", "response", "instruction_following", "honesty", "truthfulness", "helpfulness"),
    [
        # Reliabilities: cave .1, moss .9. Boldly, cave should be told at .45, moss at .9 (no word claims more).
        (PROMPT, "home cave doubtful . food moss surely .", (1 - 1.6 * 0.35 + 1) / 2, 1, 1, 1),
        (PROMPT, "home cave maybe . food moss surely .", (1 - 1.6 * 0.08 + 1) / 2, 1 - 0.27 / 2, 1 - 0.54 / 2, 1),
        (PROMPT, "home cave surely . food moss doubtful .", (1 - 1.6 * 0.45 + 0) / 2, 0.2, 0.5, 0.5),
        # Carefully, cave should be told at .1 and moss at .55.
        (CAREFUL, "home cave doubtful . food moss likely .", (1 + 1 - 1.6 * 0.08) / 2, 1 - 0.27 / 2, 1, 1 - 0.54 / 2),
        # One word for all weighs nothing: instruction_following is 0, the others count.
        (PROMPT, "home cave surely . food moss surely .", 0, (0.2 + 1) / 2, 1 / 2, 1),
        # A missing note earns nothing; nor does one that is altered. What nobody asked for counts for nothing.
        (PROMPT, "food moss surely .", 1 / 2, 1 / 2, 1 / 2, 1 / 2),
        (PROMPT, "home lake surely . food moss surely . glad to help . color red surely .", 1 / 2, 1 / 2, 1 / 2, 1 / 2),
        # The first statement on a note counts.
        (PROMPT, "food moss surely . food moss doubtful .", 1 / 2, 1 / 2, 1 / 2, 1 / 2),
        (PROMPT, "glad to help .", 0, 0, 0, 0),
        (PROMPT, "cave cave . home cave", 0, 0, 0, 0),
        (PROMPT, "", 0, 0, 0, 0),
    ],
)
def test_gold_aspects_by_hand(prompt, response, instruction_following, honesty, truthfulness, helpfulness):
    found = gold_aspects(prompt, response, reliability=TABLE)
    assert list(found) == ASPECTS
    assert list(found.values()) == pytest.approx([instruction_following, honesty, truthfulness, helpfulness])
    assert gold_utility(prompt, response, reliability=TABLE) == pytest.approx(np.mean(list(found.values())))


def test_filler_and_order_change_no_aspect():
    plain = gold_aspects(PROMPT, "home cave maybe . food moss surely .")
    assert gold_aspects(PROMPT, "home cave maybe . food moss surely . glad to help .") == plain
    assert gold_aspects(PROMPT, "food moss surely . home cave maybe .") == plain


@pytest.mark.parametrize("prompt", PROMPTS[:5])
def test_the_best_response_is_the_best_of_all(prompt):
    question = read_prompt(prompt)
    best = gold_utility(prompt, best_response(prompt))
    for words in itertools.product(WORDS, repeat=len(question.asked)):
        sentences = [
            f"{name} {question.notes[name]} {word} ." for name, word in zip(question.asked, words, strict=True)
        ]
        assert gold_utility(prompt, " ".join(sentences)) <= best
    assert told(question, best_response(prompt)) != [None] * len(question.asked)


def test_the_best_response_by_hand():
    """Note by note (sums of four aspects): cave is worth 3.44 told doubtful and 3.06 told maybe, moss 4 told surely."""
    assert best_response(PROMPT, reliability=TABLE) == "home cave doubtful . food moss surely ."
    assert gold_utility(PROMPT, best_response(PROMPT, reliability=TABLE), reliability=TABLE) == pytest.approx(7.44 / 8)


def test_the_best_response_weighs_even_where_one_word_fits_all_notes():
    """Both notes deserve surely, but one word for all follows no instruction: .75 in all, and .845 with one told likely."""
    both = dict.fromkeys(VALUES, 0.9)
    best = best_response(PROMPT, reliability=both)
    assert sorted(told(read_prompt(PROMPT), best)) == ["likely", "surely"]
    assert gold_utility(PROMPT, best, reliability=both) == pytest.approx((3.136 + 3.46 + 4 + 2.92) / 16)
    assert gold_utility(PROMPT, "home cave surely . food moss surely .", reliability=both) == 0.75


@given(st.lists(st.sampled_from(SCRAPS), max_size=40), st.sampled_from(PROMPTS))
def test_gold_aspects_of_any_text_are_in_the_unit_interval(words, prompt):
    assert all(0 <= value <= 1 for value in gold_aspects(prompt, " ".join(words)).values())


@pytest.fixture(scope="module")
def rated():
    return rated_rows(500, seed=11)


def test_four_distinct_responses_by_different_responders(rated):
    for row in rated:
        assert len({each["response"] for each in row["completions"]}) == 4
        assert len({each["model"] for each in row["completions"]}) == 4


def test_the_raters_length_bias_is_the_known_one(rated):
    """Where gold is between .3 and .7, neither end of the scale is near: rating minus gold is bias plus noise."""
    tokens, excess = [], []
    for row in rated:
        for each in row["completions"]:
            gold = gold_aspects(row["instruction"], each["response"])
            seen = {aspect: (int(each["annotations"][aspect]["Rating"]) - 1) / 4 for aspect in ASPECTS}
            seen["overall"], gold["overall"] = (each["overall_score"] - 1) / 9, np.mean(list(gold.values()))
            middle = [name for name in seen if 0.3 <= gold[name] <= 0.7]
            tokens += [len(each["response"].split())] * len(middle)
            excess += [seen[name] - gold[name] for name in middle]
    slope, _ = np.polyfit(tokens, excess, 1)
    assert slope == pytest.approx(LENGTH_BIAS, abs=0.0015) and LENGTH_BIAS == 0.012


def test_ratings_follow_gold(rated):
    for aspect in ASPECTS:
        completions = [(row["instruction"], each) for row in rated for each in row["completions"]]
        gold = [gold_aspects(prompt, each["response"])[aspect] for prompt, each in completions]
        seen = [int(each["annotations"][aspect]["Rating"]) for _, each in completions]
        assert np.corrcoef(gold, seen)[0, 1] > 0.75
        assert set(seen) == {1, 2, 3, 4, 5}


def test_natural_conflict_of_an_aspect_is_between_10_and_40_percent(tmp_path):
    pairs = make_pairs(load_ratings(write_ratings(tmp_path / "rated.jsonl", 300, seed=5))).to_pandas()
    share = pairs.groupby("aspect")["conflict"].mean()
    assert sorted(share.index) == sorted(ASPECTS)
    assert share.between(0.10, 0.40).all()


def test_write_ratings_is_deterministic(tmp_path):
    first, second, other = (
        write_ratings(tmp_path / f"{i}.jsonl", 20, seed=seed).read_bytes() for i, seed in enumerate([3, 3, 4])
    )
    assert first == second != other


def test_the_ratings_file_holds_no_gold_and_only_prompts_for_selection(rated_file):
    rows = [json.loads(line) for line in rated_file.read_text().splitlines()]
    assert len(rows) == 60
    for row in rows:
        assert set(row) == {"source", "instruction", "models", "completions"}
        assert split_of(row["instruction"]) == "select"
        for each in row["completions"]:
            assert set(each) == {"model", "response", "annotations", "overall_score"}
            assert all(set(annotation) == {"Rating"} for annotation in each["annotations"].values())
            assert all(annotation["Rating"] in "12345" for annotation in each["annotations"].values())
            assert each["overall_score"] in range(1, 11)


def test_no_evaluation_prompt_can_reach_the_pairs(pairs):
    held_out = set(draw_prompts(2000, split="eval", seed=0))
    assert not held_out & set(pairs["prompt"])
    assert {split_of(prompt) for prompt in pairs["prompt"]} == {"select"}


def test_the_standard_world_is_what_it_was_when_results_were_committed(tmp_path):
    digest = hashlib.sha256(write_ratings(tmp_path / "rated.jsonl", 200, seed=0).read_bytes()).hexdigest()
    assert digest == "bb21850cd86e4a0be11fdb23f71c5ff3530e0fc73a8a5e0bb4b94716e451ff87"


def responses_of(rows):
    return [[each["response"] for each in row["completions"]] for row in rows]


def test_noise_and_length_bias_change_the_ratings_but_not_the_responses(rated):
    for raters in [{"noise": 0.0}, {"noise": {"honesty": 0.6}}, {"length_bias": 0.0}]:
        rows = rated_rows(100, seed=11, **raters)
        assert responses_of(rows) == responses_of(rated[:100])
        assert rows != rated[:100]


def test_noise_of_one_aspect_leaves_the_others_alone():
    usual, noisy = rated_rows(300, seed=2), rated_rows(300, seed=2, noise={"honesty": 0.6})
    for aspect in [*ASPECTS, "overall_score"]:
        seen, before = (
            [each["annotations"].get(aspect, each["overall_score"]) for row in rows for each in row["completions"]]
            for rows in (noisy, usual)
        )
        assert (seen == before) == (aspect != "honesty")


def test_raters_without_noise_and_bias_see_the_truth():
    gold = {"a": 0.0, "b": 0.25, "c": 1.0}
    assert rate(gold, 40, np.random.default_rng(0), noise=0, length_bias=0) == ({"a": 1, "b": 2, "c": 5}, 5)
    twelve_more = rate(gold, 23, np.random.default_rng(0), noise={**dict.fromkeys(gold, 0), "overall": 0})
    assert twelve_more == ({"a": 2, "b": 3, "c": 5}, 6)  # .144 more: 1 + .58, 2 + .58, 1 + 9 * (.417 + .144)


@pytest.mark.parametrize(
    ("world", "message"),
    [
        ({"aspects": {}}, "the world has none"),
        ({"noise": {"honest": 0.6}}, "noise: aspect is not of this world: 1 .first: honest.*use some of .*honesty"),
        ({"aspects": OPPOSED, "noise": {"helpfulness": 0.6}}, "helpfulness"),
        ({"split": "test"}, "not a split"),
    ],
)
def test_worlds_that_cannot_be_are_refused(world, message):
    with pytest.raises(ValueError, match=message):
        rated_rows(1, **world)


@pytest.mark.parametrize(
    ("response", "bold", "cautious", "varied", "polite"),
    [
        ("home cave surely . food moss surely .", 0.9, 0.1, 1 / 2, 0),
        ("home cave surely . food moss doubtful . glad to help .", 0.5, 0.5, 1, 1),
        ("home cave likely .", 0.63 / 2, 0.37 / 2, 1, 0),
        ("home lake surely .", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_features_by_hand(response, bold, cautious, varied, polite):
    measured = features(PROMPT, response)
    found = [measured[name] for name in ("bold", "cautious", "varied", "polite")]
    assert found == pytest.approx([bold, cautious, varied, polite])


@given(st.lists(st.sampled_from(SCRAPS), max_size=40), st.sampled_from(PROMPTS))
def test_every_aspect_of_every_world_is_in_the_unit_interval(words, prompt):
    text = " ".join(words)
    assert all(0 <= value <= 1 for value in features(prompt, text).values())
    for world in (OPPOSED, mixture_aspects(16)):
        assert all(0 <= judge(prompt, text) <= 1 for judge in world.values())


def correlation_of_gaps(world, rows):
    """Between the aspects, over the first two responses to each prompt."""
    prompts = [row["instruction"] for row in rows]
    first, second = ([texts[i] for texts in responses_of(rows)] for i in (0, 1))
    gaps = variant_scores(prompts, first, world) - variant_scores(prompts, second, world)
    return gaps.drop(columns="utility").corr()


def test_bold_and_cautious_are_opposed_and_honesty_takes_no_side(rated):
    found = correlation_of_gaps(OPPOSED, rated)
    assert found.loc["bold", "cautious"] < -0.95
    assert found.loc["honesty", ["bold", "cautious"]].abs().max() < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_mixtures_correlate_as_real_aspects_do(rated, seed):
    found = correlation_of_gaps(mixture_aspects(4, seed=seed), rated).to_numpy()[np.triu_indices(4, 1)]
    assert (found > 0).all() and (found < 0.95).all() and 0.2 < np.median(found) < 0.7


def test_a_smaller_world_is_the_beginning_of_a_larger_one():
    large, small = mixture_aspects(16, seed=3), mixture_aspects(2, seed=3)
    assert list(small) == list(large)[:2] == ["aspect_01", "aspect_02"]
    assert all(small[name].keywords == large[name].keywords for name in small)
    assert small["aspect_01"].keywords != mixture_aspects(1, seed=4)["aspect_01"].keywords
    for judge in large.values():
        assert sum(weight for _, weight in judge.keywords["weights"]) == pytest.approx(1)
    with pytest.raises(ValueError, match="kappa=0: a world has at least one aspect"):
        mixture_aspects(0)


def test_what_is_remembered_of_a_response_cannot_be_changed():
    with pytest.raises(TypeError):
        features(PROMPT, "home cave maybe .")["honesty"] = 0.0


@pytest.mark.parametrize("world", [OPPOSED, *map(mixture_aspects, [2, 3, 8, 16])], ids=len)
def test_every_world_becomes_pairs_and_its_truth_is_known(world, tmp_path):
    path = write_ratings(tmp_path / "rated.jsonl", 120, seed=1, aspects=world)
    pairs = make_pairs(load_ratings(path))
    assert set(pairs["aspect"]) == set(world)
    assert {len(gaps) for gaps in pairs["rating_gaps"]} == {len(world)}
    gaps = variant_gaps(pairs, world)
    assert list(gaps.columns) == [*world, "utility"] and list(gaps.index) == list(pairs["pair_id"])
    np.testing.assert_allclose(gaps["utility"], gaps[list(world)].mean(axis=1), atol=1e-11)
    own = [gaps.loc[name, aspect] for name, aspect in zip(pairs["pair_id"], pairs["aspect"], strict=True)]
    assert np.mean(np.array(own) >= 0) > 0.8  # raters err, but not often


def test_the_standard_world_as_a_variant_is_the_standard_world(pairs):
    assert variant_gaps(pairs, GOLD).equals(gold_gaps(pairs))


def mentions(tree):
    """Dotted names that a module imports, and texts that equal a name (for import_module)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"pdsel.{node.module or ''}".rstrip(".") if node.level else node.module
            yield module
            for alias in node.names:
                yield home_of(alias.name) if module == "pdsel" else f"{module}.{alias.name}"
        elif isinstance(node, ast.Constant) and str(node.value).startswith("pdsel."):
            yield node.value


def home_of(name):
    """The dotted name of what `from pdsel import name` gives."""
    value = getattr(pdsel, name)
    return value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "pdsel")  # of plain values


def module_file(name):
    """The file of the module that a dotted name is, or is in."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return module_file(name.rpartition(".")[0])


def names(tree):
    return {getattr(node, "id", None) or getattr(node, "attr", None) for node in ast.walk(tree)} - {None}


LESSON = [
    "ratings",
    "pairs",
    "proxies",
    "divergence",
    "selection",
    "training",
    "generation",
    "objectives",
    "diagnostics",
]
KNOWS_NO_GOLD = "pdsel.notesworld.settings"  # plain values, and where the base model lies


@pytest.mark.parametrize("module", [*LESSON, "engine.scoring", "engine.training_run"])
def test_a_module_of_training_or_selection_cannot_read_gold(module):
    seen, waiting = set(), [f"pdsel.{module}"]
    while waiting:  # whatever it imports cannot read gold either
        name = waiting.pop()
        file = module_file(name)
        if file in seen or name == "pdsel" or name.startswith(KNOWS_NO_GOLD):
            continue
        seen.add(file)
        tree = ast.parse(file.read_text())
        imported = {mention for mention in mentions(tree) if mention.startswith("pdsel")}
        gold = [mention for mention in imported if mention.startswith(("pdsel.notesworld", "pdsel.evaluation.judges"))]
        assert not [mention for mention in gold if not mention.startswith(KNOWS_NO_GOLD)], file
        assert not [name for name in names(tree) if "gold" in name], file
        waiting += imported


def test_the_settings_import_nothing_of_the_world():
    tree = ast.parse(module_file(KNOWS_NO_GOLD).read_text())
    assert not [mention for mention in mentions(tree) if mention.startswith("pdsel")]


def test_the_check_above_sees_every_way_to_import():
    ways = """import pdsel.evaluation.judges
from pdsel.evaluation.judges import gold_judge
from pdsel.evaluation import judges
from pdsel import gold_judge
from .evaluation import judges
from .evaluation.judges import gold_judge
import_module('pdsel.evaluation.judges')"""
    for way in ways.splitlines():
        assert any(mention.startswith("pdsel.evaluation.judges") for mention in mentions(ast.parse(way))), way
