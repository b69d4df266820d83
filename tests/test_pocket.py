"""The pocket experiment: its data, its judges and measures by hand, and a whole small run on a random model."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chat_models import SIZES, save_chat_model
from made_up_facts import N_PROMPTS, SYSTEMS, facts_of, text_of, write_clone, write_corpus
from statsmodels.stats.power import TTestPower

from pdsel.checks import DataError
from pdsel.data.webnlg import is_there, read_corpus, write_folder
from pdsel.evaluation.judges.facts import chrf, coverage
from pdsel.experiments.pocket import cells, settings, tables
from pdsel.experiments.pocket.cells import Lab
from pdsel.experiments.pocket.kept_labels import OTHERS, kept_table, rule_scores
from pdsel.experiments.pocket.people import halves, pairs_by_mean, people_pairs, responses, right
from pdsel.experiments.pocket.run import Task, needs, pack, pocket, run, save_record, with_needs
from pdsel.pipeline.pocket_pages import JUDGES, pocket_blocks
from pdsel.pipeline.report import all_blocks
from pdsel.ratings import load_ratings

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "webnlg"
SMALL = {"n_pairs": 40, "n_demonstrations": 12, "max_length": 256}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def lab(corpus, tmp_path_factory):
    """A random model of the same architecture, with settings that suit ten rows."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "max_position_embeddings", 1024)
        model = save_chat_model(
            "qwen2", folder / "model", corpus=[text_of(n, s) for n in range(10) for s in SYSTEMS] * 3
        )
    return Lab(str(corpus), model, str(folder / "cells"))


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        for name, setting in settings.SETTINGS.items():
            batches = {
                kind: getattr(setting, kind) | {"batch_size": 4} for kind in ("sft", "dpo", "reward", "implicit")
            }
            patch.setitem(settings.SETTINGS, name, replace(setting, **SMALL, **batches))
        patch.setattr(cells, "NEW_TOKENS", 4)
        yield settings.SETTINGS["pocket"]


@pytest.fixture(scope="module")
def state(lab, small):
    done = run(pocket([0]), lab)
    save_record(done, lab)
    return done


def test_every_cell_is_computed_and_resumed(lab, state):
    assert state["failed"] == {} and state["left"] == []
    before = {path: path.stat().st_mtime_ns for path in Path(lab.folder).glob("*.json")}
    assert len(run(pocket([0]), lab)["done"]) == len(state["done"])
    assert {path: path.stat().st_mtime_ns for path in Path(lab.folder).glob("*.json")} == before


@pytest.mark.parametrize("seen", [[1.0, -1.0, 1.0, 1.0], [1.3, 4.4, 1.7], [-2.0, 0.5, -1.0, -3.0, 1.0]])
def test_seeds_needed_are_those_of_statsmodels(seen):
    by_seed = pd.Series(seen)
    effect = abs(by_seed.mean()) / by_seed.std()
    exact = TTestPower().solve_power(effect, alpha=0.05, power=0.8)
    assert tables.seeds_needed(by_seed) == np.ceil(exact)


def test_seeds_that_nothing_is_known_of():
    assert np.isnan(tables.seeds_needed(pd.Series([1.0])))
    assert np.isinf(tables.seeds_needed(pd.Series([1.0, -1.0])))
    assert np.isinf(tables.seeds_needed(pd.Series([1.0, -0.999])))


def test_tables_hold_numbers_and_no_text(lab, state, corpus, tmp_path):
    from pdsel.experiments.pocket.tables import save_tables

    pack(lab.folder, tmp_path / "zips")
    paths = save_tables([tmp_path / "zips"], corpus, tmp_path / "out")
    assert [path.name for path in paths][-1] == "manifest.json" and len(paths) == 10
    texts = json.dumps([path.read_bytes().decode("latin-1") for path in paths])
    assert "is led by" not in texts and str(lab.folder) not in texts
    wins = pd.read_csv(tmp_path / "out" / "win_rates.csv")
    of_sft = wins[(wins["method"] == "SFT") & (wins["setting"] == "pocket")]
    assert (of_sft["value"] == 50).all() and (wins["prompts"] == N_PROMPTS).all()
    kept = pd.read_parquet(tmp_path / "out" / "kept.parquet").groupby("method")["rank"].size()
    assert kept["PD"] == kept["RAND"] == round(0.3 * SMALL["n_pairs"])
    assert "ALL" not in kept
    labels = pd.read_csv(tmp_path / "out" / "kept_labels.csv")
    assert labels["rule"].nunique() >= 10 and set(labels["share"]) == set(settings.SHARES)


def test_pd_of_ratings_keeps_the_labels_that_the_others_confirm(lab, state, small):
    pairs = cells.pairs_of(lab, small, 0)
    table = kept_table([(rule_scores(lab, small, 0), pairs)], shares=[0.3]).set_index(["judge", "rule"])["value"]
    others = table["mean of others"]
    assert others["PD(rati.)"] >= others["ALL"]
    assert others["ALL"] == pytest.approx(100 * np.mean([_confirmed(row) for row in pairs]))


def _confirmed(pair):
    others = [gap for aspect, gap in pair["rating_gaps"].items() if aspect != pair["aspect"]]
    return (1 + np.sign(round(np.mean(others), 6))) / 2


def test_nulls_are_judged_with_sfts_own_answers(lab, state, small):
    table = cells.nulls(lab, small)
    assert set(table["method"]) == set(cells.NULLS) and len(table) == N_PROMPTS * len(cells.NULLS)
    assert (table.loc[table["method"] == "nothing", ["chrf", "coverage", "characters"]] == 0).all(axis=None)
    assert (table.loc[table["method"] == "facts copied", "coverage"] == 0).all()


def test_missing_needs_leave_a_task_undone_and_time_stops_the_rest(lab, small, state):
    late = run([Task("policy", "pocket", 0, "PD")], lab, deadline=-1)
    assert late["done"] == {} and "pocket policy 0 PD" in late["left"]


def test_needs_come_first_and_once():
    tasks = with_needs([Task("policy", "pocket", 0, "PD(implicit)"), Task("policy", "pocket", 0, "PD")])
    assert len(tasks) == len(set(tasks))
    places = {task: place for place, task in enumerate(tasks)}
    assert all(places[other] < places[task] for task in tasks for other in needs(task))


def test_packed_parts_hold_every_cell_and_no_model(lab, state, tmp_path, monkeypatch):
    monkeypatch.setattr("pdsel.experiments.pocket.run.PART", 30_000)
    parts = pack(lab.folder, tmp_path)
    assert len(parts) > 1
    names = [name for part in parts for name in __import__("zipfile").ZipFile(part).namelist()]
    assert sorted(names) == sorted(path.name for path in Path(lab.folder).iterdir() if path.is_file())


def test_a_folder_that_is_absent_gets_one_sentence(tmp_path):
    assert not is_there(tmp_path) and not is_there(None)
    with pytest.raises(DataError, match=r"lacks some of ratings.jsonl.*python -m pdsel.pipeline webnlg"):
        read_corpus(tmp_path)


def test_the_official_clone_becomes_the_same_layout(tmp_path):
    clone, development = write_clone(tmp_path)
    assert write_folder(clone, development, tmp_path / "made") == {
        "ratings.jsonl": 1,
        "demonstrations.jsonl": 1,
        "prompts.jsonl": 2,
    }
    corpus = read_corpus(tmp_path / "made")
    ratings = load_ratings(corpus.ratings)
    assert ratings[0]["models"] == ["plain", "wrong"]  # the human text is a reference and no system
    assert ratings[0]["responses"] == [text_of(2, "plain"), text_of(2, "wrong")]  # line 2 answers input 2
    assert ratings[0]["ratings"]["datacoverage"] == [90.1235, 10.0]
    assert corpus.rated["references"].tolist() == [[text_of(2)]]
    assert corpus.rated["facts"].tolist() == [facts_of(2)]
    assert corpus.prompts["references"].tolist() == [[text_of(1)], [text_of(3)]]
    assert corpus.demonstrations[0] == {
        "prompt": "Write these facts as text:\nTown 9 | leader | Person 9",
        "completion": "Person 9 leads Town 9.",  # the first that was marked as good
    }


def test_an_incomplete_clone_is_refused(tmp_path):
    clone, development = write_clone(tmp_path)
    with pytest.raises(DataError, match="no .xml file"):
        write_folder(clone, tmp_path / "nothing", tmp_path / "made")
    with pytest.raises(DataError, match=r"references-en.json does not exist"):
        write_folder(tmp_path / "nothing", development, tmp_path / "made")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Person 1 leads Town 1, in Land 1.", 1.0),
        ("Person 1 leads Town 1.", 0.5),
        ("PERSON 1 leads TOWN 1", 0.5),
        ("Town 1 has a leader.", 0.0),  # subject without object
        ("", 0.0),
        ("Town 1 | leader | Person 1", 0.0),  # copied
        ("Town 1 | leader | Person 1\nPerson 1 leads Town 1.", 0.25),  # 5 of 10 words are its own
        ("Person 1 leads Town 1. Person 1 leads Town 1.", 0.25),  # said twice
    ],
)
def test_coverage_by_hand(text, expected):
    assert coverage(text, facts_of(1)) == pytest.approx(expected)


def test_chrf_takes_the_nearest_reference():
    assert chrf("one two three", ["four", "one two three"]) == pytest.approx(100)
    assert chrf("", ["one"]) == 0


def test_halves_are_disjoint_and_the_same_in_any_order(corpus):
    ratings = load_ratings(read_corpus(corpus).ratings, clean=True)
    first, second = halves(ratings)
    assert len(first) == len(second) == 10 and not set(first["prompt_id"]) & set(second["prompt_id"])
    turned, _ = halves(ratings.select(range(len(ratings) - 1, -1, -1)))
    assert set(turned["prompt_id"]) == set(first["prompt_id"])


def test_peoples_pairs_and_rewards_by_hand(corpus):
    ratings = load_ratings(read_corpus(corpus).ratings, clean=True).select(range(2))
    said, people = responses(ratings), people_pairs(ratings)
    assert len(said) == 7 and len(people) == 9  # one text of two systems stands once
    assert (right(said["mean"], people) == 100).all() and (right(-said["mean"], people) == 0).all()
    assert (right(said["fluency"], people, "fluency") == 100).all()
    assert (right(0 * said["mean"], people) == 50).all()
    pairs = pairs_by_mean(ratings, size=None)
    means = said.reset_index().set_index(["prompt_id", "response"])["mean"]
    for pair in pairs:
        better, worse = (means[pair["prompt_id"], pair[side][0]["content"]] for side in ("chosen", "rejected"))
        assert better > worse
    assert len(pairs_by_mean(ratings, size=5)) == 5


def test_stand_in_references_are_other_systems_texts(corpus):
    said = responses(load_ratings(read_corpus(corpus).ratings, clean=True).select(range(1)))
    place = said.index[0]
    stand_ins = cells.others(said, place, n=2)
    assert len(stand_ins) == 2 and set(stand_ins) < set(said["response"])
    assert stand_ins == cells.others(said, place, n=2)


def rated_by_system(line):
    """The rated texts of an input, with every aspect's rating as a number."""
    return [
        text | {"annotations": {name: float(said["Rating"]) for name, said in text["annotations"].items()}}
        for text in json.loads(line)["completions"]
    ]


@pytest.mark.skipif(not is_there(REAL), reason="the rated texts of ../shared/data/webnlg are not shipped")
def test_the_real_corpus_has_the_published_numbers():
    corpus = read_corpus(REAL)
    assert (len(corpus.rated), len(corpus.demonstrations), len(corpus.prompts)) == (178, 1664, 741)
    gaps = [
        sum(one["annotations"].values()) - sum(other["annotations"].values())
        for line in Path(corpus.ratings).read_text().splitlines()
        for one, other in combinations(rated_by_system(line), 2)
    ]
    assert (len(gaps), int((np.array(gaps).round(6) != 0).sum())) == (21_345, 21_262)
    ratings = load_ratings(corpus.ratings, clean=True)
    people = people_pairs(ratings)  # of different texts: 378 are also those of another system, and one is empty
    assert (len(responses(ratings)), len(people), int((people["mean"] != 0).sum())) == (2468, 16_631, 16_604)
    first, second = halves(ratings)
    assert len(first) == len(second) == 89


def test_a_policy_is_compared_with_the_answers_that_its_own_run_judged():
    from pdsel.experiments.pocket.tables import Cells, win_rates

    def run(seed, of_sft):
        index = pd.Index(["p", "q"], name="prompt_id")
        of_method = {"SFT": (None, of_sft), "RAND": (seed, 1.0), "PD": (seed, 2.0)}
        cells_of_run = []
        for method, (of_seed, score) in of_method.items():
            settings = {"setting": {"name": "pocket"}, "seed": of_seed, "method": method}
            scores = pd.DataFrame({judge: [score, score] for judge in tables.JUDGES}, index=index)
            cells_of_run += [("answers", settings, scores), ("policy", settings, {})]
        return cells_of_run

    table = win_rates(Cells(run(0, 0.0), run(1, 1.5))).query("judge == 'chrf'").set_index("method")["value"]
    assert table.to_dict() == {
        "SFT": 50,
        "RAND": 50,
        "PD": 100,
    }  # RAND wins by one judge's scores, and loses by the other's
    with pytest.raises(DataError, match="is there twice"):
        Cells(run(0, 0.0), run(0, 0.0))


def test_judges_without_a_model_are_audited_without_cells_of_an_audit(lab, state, corpus, tmp_path):
    from pdsel.experiments.pocket.tables import BASE, Cells, judges, nulls, stored_cells

    found = Cells(stored_cells(lab.folder))
    whole = Cells(stored_cells(lab.folder))
    found.found = {key: value for key, value in found.found.items() if key[0] not in ("audit", "nulls")}
    read = read_corpus(corpus)
    people, rated = people_pairs(lab.halves[0]), cells.rated_texts(read, lab.halves[0])
    without, with_audit = judges(found, people, rated), judges(whole, people, rated)
    assert set(without["judge"]) == {"chrf", "coverage", "characters"}
    expected = with_audit[with_audit["judge"].isin(set(without["judge"])) & (with_audit["setting"] == BASE)]
    order = ["judge", "by"]
    pd.testing.assert_frame_equal(
        without.sort_values(order, ignore_index=True), expected.sort_values(order, ignore_index=True)
    )
    lost = nulls(found, read.prompts)
    assert set(lost["judge"]) == {"chrf", "coverage"} and set(lost["null"]) == set(cells.NULLS)
    both = lost.merge(nulls(whole, read.prompts), on=["setting", "null", "judge"], suffixes=("", "_whole"))
    assert len(both) == len(lost) and (both["value"] == both["value_whole"]).all()


def test_answers_and_pairs_are_shown_from_the_readers_own_folders(lab, state, corpus, small):
    from pdsel.experiments.pocket.tables import answers_side_by_side, shown_pairs

    table = answers_side_by_side(lab.folder, ["SFT", "PD", "not run"], n=2)
    assert list(table.columns) == ["prompt_id", "SFT", "PD"] and len(table) == 2
    pairs = cells.pairs_of(lab, small, 0)
    ids = pairs["pair_id"][:][:3][::-1]
    shown = shown_pairs(corpus, ids)
    assert list(shown.index) == ids
    assert shown["chosen"].iloc[-1] == pairs[0]["chosen"][-1]["content"]


def test_what_readme_says_is_what_the_tables_hold(tmp_path):
    kept = [("PD", 0.3, OTHERS, 89.6), ("ALL", 0.3, OTHERS, 76.4), ("PD", 0.1, OTHERS, 99.0)]
    labels = pd.DataFrame(kept, columns=["rule", "share", "judge", "value"]).assign(setting="pocket")
    columns = ["method", "judge", "value", "difference", "difference_low", "difference_high", "p_holm", "seeds_needed"]
    rows = [("SFT", "chrf", 50.0, *[np.nan] * 5), ("RAND", "chrf", 60.0, *[np.nan] * 5)]
    rows += [
        ("PD", "chrf", 70.0, 10.0, -1.0, 21.0, 0.06, 7.0),
        ("PD(high)", "chrf", 40.0, -20.0, -30.0, -10.0, 0.04, 3.0),
    ]
    wins = pd.DataFrame(rows, columns=columns).assign(setting="pocket", seeds=3, low=0.0, high=100.0)
    wins = pd.concat([wins.assign(judge=judge) for judge in JUDGES])
    wins.loc[(wins["judge"] == "reward") & (wins["method"] == "PD"), "p_holm"] = 0.03
    unseen = wins[wins["judge"] == "chrf"].assign(by="mean")
    for name, table in {"kept_labels": labels, "win_rates": wins, "unseen": unseen}.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    said = pocket_blocks(tmp_path)
    assert "90 % of the labels that PD keeps, and 76 % of all. Of the policies, PD's writes" in said["pocket"]
    assert "(chrF++), 10.0 [-1.0, 21.0] points of win rate above RAND's; corrected" in said["pocket"]
    assert "3 seeds tell only PD(high) from RAND by chrF++, and every method by a reward" in said["pocket"]
    first, *_, last = said["pocket_policies"].splitlines()[2:]
    assert first.startswith("| PD(high) | 40.0 [0.0, 100.0] | 40.0 | 40.0 | 40.0 | -20.0 [-30.0, -10.0] | 3 |")
    assert last.startswith("| PD | 70.0")
    assert pocket_blocks(tmp_path / "nowhere") == {}
    assert "pocket" in all_blocks(profiles=()), "README shows it whatever profiles are planned"
