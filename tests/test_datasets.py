"""Public data sets of ratings: UltraFeedback's and HelpSteer's layouts and oddities, and tables larger than memory."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
import tracemalloc
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from datasets import Dataset, Features, List, Value

from pdsel.data import cleaning, large_tables, sources
from pdsel.pairs import make_pairs, relabel, supply
from pdsel.ratings import check_ratings, load_ratings

ASPECTS = ["helpfulness", "honesty", "instruction_following", "truthfulness"]
UNREACHABLE = OSError("no network")


def completion(response, rating="4", overall=5.0, **annotations):
    """One of UltraFeedback's, with all that it holds; an annotation replaces that of an aspect."""
    whole = {"Rating": rating, "Rationale": "Since ..."}
    typed = {"Rating": rating, "Rationale": "Since ...", "Rationale For Rating": "As ...", "Type": ["1"]}
    default = {"helpfulness": typed, "honesty": whole, "instruction_following": whole, "truthfulness": typed}
    return {
        "model": "llama",
        "principle": "honesty",
        "custom_system_prompt": "Be honest.",
        "response": response,
        "critique": "Good.",
        "overall_score": overall,
        "fine-grained_score": 4.0,
        "annotations": default | annotations,
    }


def feedback(prompt, *completions, source="flan"):
    """A row of UltraFeedback."""
    completions = completions or (completion("yes", "5"), completion("no", "2"))
    models = [each["model"] for each in completions]
    return {
        "source": source,
        "instruction": prompt,
        "models": models,
        "completions": list(completions),
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


def steer(prompt, response, *ratings, **changes):
    """A row of HelpSteer."""
    names = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
    return (
        {"prompt": prompt, "response": response} | dict(zip(names, ratings or (4, 3, 4, 2, 1), strict=True)) | changes
    )


def write(path, rows):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stand-ins for the files of the hub; returns the calls for files. Without files there is no network."""
    calls = []

    def download(repository, file, *, repo_type, revision):
        calls.append((repository, file, repo_type, revision))
        path = tmp_path / file
        if not path.exists():
            raise UNREACHABLE
        return str(path)

    monkeypatch.setattr(sources, "hf_hub_download", download)
    return calls


@pytest.fixture
def ultrafeedback(hub, tmp_path):
    """Load UltraFeedback from the given rows (all in one of its files) and return the table and what was reported."""

    def load(*rows, name="flan.jsonl", **options):
        for file in sources.SOURCES["ultrafeedback"].files["train"]:
            write(tmp_path / file, rows if file == name else [])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            table = load_ratings("ultrafeedback", **options)
        assert [str(warning.message) for warning in caught] == [table.info.description] * (
            "; " in table.info.description
        )
        check_ratings(table)
        return table, table.info.description.split("; ")[1:]

    return load


@pytest.fixture
def helpsteer(hub, tmp_path):
    def load(*rows, **options):
        write(tmp_path / "train.jsonl.gz", rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = load_ratings("helpsteer", **options)
        check_ratings(table)
        return table, table.info.description.split("; ")[1:]

    return load


def test_ultrafeedback_is_its_six_files_at_the_pinned_revision(hub, tmp_path):
    for i, file in enumerate(sources.SOURCES["ultrafeedback"].files["train"]):
        write(tmp_path / file, [feedback(f"question {i}", source=Path(file).stem)])
    with pytest.warns(UserWarning, match="6 prompts read, 5 kept; 1 removed: prompts of TruthfulQA, a benchmark"):
        table = load_ratings("ultrafeedback")
    assert sorted(file for _, file, *_ in hub) == [
        "evol_instruct.jsonl",
        "false_qa.jsonl",
        "flan.jsonl",
        "sharegpt.jsonl",
        "truthful_qa.jsonl",
        "ultrachat.jsonl",
    ]
    revision = "40b436560ca83a8dba36114c22ab3c66e43f6d5e"
    assert {(repository, kind, commit) for repository, _, kind, commit in hub} == {
        ("openbmb/UltraFeedback", "dataset", revision)
    }
    assert table["source"][:] == ["evol_instruct", "false_qa", "flan", "sharegpt", "ultrachat"]
    assert list(table[0]["ratings"]) == ASPECTS
    info = table.info
    assert (info.license, info.homepage) == ("mit", "https://huggingface.co/datasets/openbmb/UltraFeedback")
    assert revision in info.description and "2310.01377" in info.citation


READ = """
import json, sys, warnings
from pdsel.ratings import load_ratings
warnings.simplefilter("ignore")
print(json.dumps({name: load_ratings(name).to_list() for name in sys.argv[1:]}))
"""


def test_the_hubs_client_asks_for_the_pinned_files_and_reads_them_again_offline(tmp_path):
    """Over HTTP, against a server that answers as the hub does; then from the cache, with the server gone."""
    files = {}
    for name, source in sources.SOURCES.items():
        for file in source.files["train"]:
            row = feedback(file) if name == "ultrafeedback" else steer(name, "a")
            rows = [row] if name == "ultrafeedback" else [row, steer(name, "b")]
            path = write(tmp_path / Path(file).with_stem(f"{name}-{Path(file).stem}"), rows)
            files[f"/datasets/{source.repository}/resolve/{source.revision}/{file}"] = path.read_bytes()
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.send_header("ETag", f'"{hashlib.sha256(body or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", self.path.split("/")[5])
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    command = [sys.executable, "-c", READ, *sources.SOURCES]
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        online = environment | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
        found = json.loads(subprocess.run(command, env=online, check=True, capture_output=True).stdout)
    finally:
        server.shutdown()
        server.server_close()
    assert {path for path in asked if "/resolve/" in path} == set(files)
    assert [len(found[name]) for name in sources.SOURCES] == [6, 1, 1]
    assert found["helpsteer"][0]["responses"] == ["a", "b"] and list(found["helpsteer2"][0]["ratings"]) == [
        "coherence",
        "correctness",
        "helpfulness",
    ]
    offline = subprocess.run(command, env=environment | {"HF_HUB_OFFLINE": "1"}, check=True, capture_output=True)
    assert json.loads(offline.stdout) == found


def test_not_applicable_is_nan_for_that_response_only(ultrafeedback):
    absent = completion("maybe", honesty={"Rating": "N/A", "Rationale": "No claim is made."})
    table, report = ultrafeedback(feedback("q", completion("yes", "5"), absent))
    assert str(table[0]["ratings"]["honesty"]) == "[5.0, nan]" and table[0]["ratings"]["truthfulness"] == [5.0, 4.0]
    assert report == []


@pytest.mark.parametrize("annotation", [None, {}, {"Rationale": "..."}])
def test_a_missing_annotation_is_nan(ultrafeedback, annotation):
    table, report = ultrafeedback(feedback("q", completion("yes", "5"), completion("no", honesty=annotation)))
    assert str(table[0]["ratings"]["honesty"]) == "[5.0, nan]" and report == []


def test_fewer_than_four_responses_are_read_and_fewer_than_two_removed(ultrafeedback):
    three = feedback("three", completion("a"), completion("b"), completion("c"))
    table, report = ultrafeedback(three, feedback("one", completion("a")), feedback("none") | {"completions": []})
    assert table["prompt"][:] == ["three"] and len(table[0]["responses"]) == 3
    assert report == ["2 removed: prompts with fewer than two responses"]


def test_tied_aspects_label_no_pair(ultrafeedback):
    tied = [feedback(f"tied {i}", completion("yes", "3"), completion("no", "3")) for i in range(8)]
    table, _ = ultrafeedback(*tied, *[feedback(f"question {i}") for i in range(8)])
    assert all(pair["prompt"].startswith("question") for pair in make_pairs(table))


def test_rows_with_the_same_prompt_are_merged(ultrafeedback):
    first = feedback("q", completion("a", "1", 1.0), completion("b", "2", 2.0))
    again = feedback("q", completion("c", "3", 3.0), completion("a", "5", 5.0), source="sharegpt")
    table, report = ultrafeedback(first, feedback("other"), again)
    row = table[table["prompt"][:].index("q")]
    assert (row["responses"], row["overall"], row["source"]) == (["a", "b", "c"], [1.0, 2.0, 3.0], "flan")
    assert row["ratings"]["honesty"] == [1.0, 2.0, 3.0]  # of the two "a" the first stays
    assert report == [
        "1 merged: rows with a prompt seen before",
        "1 removed: responses equal to another of their prompt",
    ]


def test_merged_rows_may_lack_each_others_aspects(ultrafeedback):
    bare = feedback("q", completion("c"), completion("d"))
    for each in bare["completions"]:
        del each["annotations"]["honesty"]
    table, _ = ultrafeedback(bare, feedback("q"))
    assert str(table[0]["ratings"]["honesty"]) == "[nan, nan, 5.0, 2.0]"


@pytest.mark.parametrize("empty", ["", " \n", None])
def test_an_empty_response_is_removed(ultrafeedback, empty):
    table, report = ultrafeedback(feedback("q", completion("a", "1"), completion(empty, "2"), completion("b", "3")))
    assert table[0]["responses"] == ["a", "b"] and table[0]["ratings"]["honesty"] == [1.0, 3.0]
    assert report == ["1 removed: empty responses"]


@pytest.mark.parametrize("empty", ["", " ", None])
def test_an_empty_prompt_is_removed(ultrafeedback, empty):
    table, report = ultrafeedback(feedback("q"), feedback(empty))
    assert len(table) == 1 and report == ["1 removed: prompts without text"]


def test_unicode_and_very_long_texts_come_through(ultrafeedback):
    long = "日本語 🦙 naïve\u2028\x00 " * 200_000
    table, report = ultrafeedback(feedback("¿qué? 🦙", completion(long, "5"), completion("no", "2")))
    assert table[0]["responses"][0] == long and table[0]["prompt"] == "¿qué? 🦙" and report == []


def test_half_a_surrogate_pair_is_mended(ultrafeedback):
    broken = feedback("half \ud83d", completion("a \udc00", "5"), completion("b", "1"))
    table, report = ultrafeedback(broken, feedback("half \ufffd"))
    assert table["prompt"][:] == ["half \ufffd"] and "a \ufffd" in table[0]["responses"]
    assert "2 mended: texts with broken Unicode" in report


@pytest.mark.parametrize("absent", [None, float("nan"), "N/A"])
def test_without_an_overall_score_the_mean_of_the_aspects_stands_in(ultrafeedback, absent):
    rows = [feedback(f"q{i}", completion("a", "5", absent), completion("b", "1", absent)) for i in range(8)]
    table, _ = ultrafeedback(*rows)
    assert str(table[0]["overall"]) == "[nan, nan]"
    with pytest.warns(UserWarning, match="no overall score for 8 of 8 pairs: the mean of the aspects is used"):
        assert set(make_pairs(table)["overall_gap"]) == {4.0}


def test_an_unreadable_rating_is_absent(ultrafeedback):
    table, report = ultrafeedback(feedback("q", completion("a", "5"), completion("b", "four"), completion("c", "1")))
    assert str(table[0]["ratings"]["honesty"]) == "[5.0, nan, 1.0]"
    assert report == ["4 taken as absent: ratings that are not numbers"]


@pytest.mark.parametrize("order", [1, -1])
def test_truthfulqas_prompts_are_removed_from_every_source(ultrafeedback, order):
    rows = [feedback("a myth?", source="truthful_qa"), feedback("a myth?", source="evol_instruct"), feedback("q")]
    table, report = ultrafeedback(*rows[::order])
    assert table["prompt"][:] == ["q"] and report == ["2 removed: prompts of TruthfulQA, a benchmark"]


def test_limit_counts_the_prompts_that_are_wanted(ultrafeedback):
    rows = [feedback("a myth?", source="truthful_qa"), *[feedback(f"q{i}") for i in (0, 1, 1, 2, 3)]]
    assert ultrafeedback(*rows, limit=3)[0]["prompt"][:] == ["q0", "q1", "q2"]


def test_nothing_left_says_why(ultrafeedback):
    with pytest.raises(
        ValueError, match="1 prompts read, 0 kept; 1 removed: prompts with fewer than two responses. Remedy"
    ):
        ultrafeedback(feedback("one", completion("a")))


def test_prompts_with_their_own_ids_must_have_different_ones(tmp_path):
    rows = [feedback(f"q{i}") | {"prompt_id": "same"} for i in range(2)]
    with pytest.raises(ValueError, match=r"prompt_id occurs more than once: 1 \(first: same\)"):
        load_ratings(write(tmp_path / "own.jsonl", rows), clean=True)


ODD = {
    "repeated prompt": ([feedback("q"), feedback("q")], "prompt_id occurs more than once"),
    "empty response": ([feedback("q", completion(""), completion("b"))], "responses holds a null or empty response"),
    "one response": ([feedback("q", completion("a"))], "responses holds fewer than two responses"),
    "broken Unicode": ([feedback("q \ud83d")], "prompt or responses holds broken Unicode"),
}


@pytest.mark.parametrize(("rows", "problem"), ODD.values(), ids=ODD)
def test_your_own_file_is_not_cleaned_unless_you_say_so(tmp_path, rows, problem):
    path = write(tmp_path / "own.jsonl", [*rows, feedback("fine")])
    with pytest.raises(ValueError, match=rf"^{problem}.*: 1 \(first: .*Remedy"):
        load_ratings(path)
    with pytest.warns(UserWarning, match=r"own\.jsonl: \d prompts read, \d kept; 1 "):
        assert "fine" in load_ratings(path, clean=True)["prompt"][:]


def test_a_name_is_strict_if_you_say_so(ultrafeedback):
    with pytest.raises(ValueError, match="responses holds a null or empty response"):
        ultrafeedback(feedback("q", completion(""), completion("b")), clean=False)


def test_a_downloaded_folder_is_the_data_set(ultrafeedback, tmp_path):
    by_name, _ = ultrafeedback(feedback("q0"), feedback("q1"))
    (tmp_path / "README.md").write_text("a card")
    assert load_ratings(tmp_path, clean=True).to_list() == by_name.to_list()
    with pytest.raises(ValueError, match=r"folder .* holds no \.jsonl, \.jsonl\.gz, \.parquet file"):
        (tmp_path / "empty").mkdir()
        load_ratings(tmp_path / "empty")


def test_parquet_in_ultrafeedbacks_layout_reads_the_same(ultrafeedback, tmp_path):
    rows = [feedback("q0", completion("a", "5"), completion("", "N/A")), feedback("q1")]
    table, report = ultrafeedback(*rows)
    Dataset.from_list(rows).to_parquet(tmp_path / "uf.parquet")
    with pytest.warns(UserWarning, match="; ".join(report)):
        assert load_ratings(tmp_path / "uf.parquet", clean=True).to_list() == [
            row | {"source": "flan"} for row in table.to_list()
        ]


@pytest.mark.parametrize("name", list(sources.SOURCES))
def test_without_a_hub_the_error_says_what_to_download(hub, name):
    source = sources.SOURCES[name]
    with pytest.raises(
        ValueError,
        match=rf"{source.repository}: no access to .*jsonl.* \(OSError\)\. Remedy: download "
        rf"https://.*/tree/{source.revision}.*give its path with clean=True",
    ):
        load_ratings(name)


def test_splits_and_revisions(hub, tmp_path):
    with pytest.raises(ValueError, match=r"split='test': nvidia/HelpSteer2 has \['train', 'validation'\]"):
        load_ratings("helpsteer2", split="test")
    write(tmp_path / "validation.jsonl.gz", [steer("q", "a"), steer("q", "b")])
    table = load_ratings("helpsteer2", split="validation", revision="main")
    assert hub == [("nvidia/HelpSteer2", "validation.jsonl.gz", "dataset", "main")]
    assert "validation, revision main" in table.info.description and table.info.license == "cc-by-4.0"


def test_helpsteers_consecutive_rows_are_one_prompt(helpsteer):
    table, report = helpsteer(
        steer("q0", "a", 4, 3, 2, 1, 0), steer("q0", "b", 0, 1, 2, 3, 4), steer("q1", "c"), steer("q1", "d")
    )
    assert (table["prompt"][:], table["responses"][:]) == (["q0", "q1"], [["a", "b"], ["c", "d"]])
    assert table[0]["ratings"] == {"coherence": [2.0, 2.0], "correctness": [3.0, 1.0], "helpfulness": [4.0, 0.0]}
    assert str(table[0]["overall"]) == "[nan, nan]" and table[0]["source"] == "helpsteer" and report == []


@pytest.mark.parametrize(
    ("signs", "verbosity", "complexity"),
    [
        ({}, None, None),
        ({"verbosity": 1}, [0.0, 4.0], None),
        ({"verbosity": -1}, [0.0, -4.0], None),
        ({"verbosity": -1, "complexity": 1}, [0.0, -4.0], [1.0, 3.0]),
        ({"verbosity": 0, "complexity": -1}, None, [-1.0, -3.0]),
    ],
)
def test_the_signs_of_verbosity_and_complexity(helpsteer, signs, verbosity, complexity):
    ratings = helpsteer(steer("q", "a", 4, 3, 2, 1, 0), steer("q", "b", 0, 1, 2, 3, 4), signs=signs)[0][0]["ratings"]
    assert (ratings.get("verbosity"), ratings.get("complexity")) == (verbosity, complexity)
    assert "-0.0" not in str(ratings) and ratings["helpfulness"] == [4.0, 0.0]


def test_the_description_says_what_is_left_out_and_reversed(helpsteer):
    table, _ = helpsteer(steer("q", "a"), steer("q", "b"), signs={"verbosity": -1})
    assert (
        "(nvidia/HelpSteer, train, revision 3ca5d59c1bc1080af195b4254e7407db60b6f450, without complexity, reversed "
        "verbosity): 1 prompts read, 1 kept" in table.info.description
    )


def test_any_aspect_can_be_left_out_or_reversed(rated_file):
    plain, table = load_ratings(rated_file), load_ratings(rated_file, signs={"honesty": 0, "truthfulness": -1})
    assert list(table[0]["ratings"]) == ["helpfulness", "instruction_following", "truthfulness"]
    assert table[0]["ratings"]["truthfulness"] == [-value for value in plain[0]["ratings"]["truthfulness"]]


@pytest.mark.parametrize(
    ("signs", "problem"),
    [
        ({"honesty": 2}, r"signs is not 1, 0 or -1 for aspect: 1 \(first: honesty\)"),
        ({"verbose": -1}, r"signs: aspect is in no row: 1 \(first: verbose\)\. Remedy: use some of"),
        (dict.fromkeys(ASPECTS, 0), "every aspect is left out"),
    ],
)
def test_signs_that_make_no_sense_are_refused(rated_file, signs, problem):
    with pytest.raises(ValueError, match=problem):
        load_ratings(rated_file, signs=signs)


HELPSTEERS = {
    "N/A": ([steer("q", "a", "N/A", 1, 2, 3, 4), steer("q", "b")], [["a", "b"]], []),
    "null": ([steer("q", "a", helpfulness=None), steer("q", "b")], [["a", "b"]], []),
    "missing attribute": ([{"prompt": "q", "response": "a", "coherence": 1}, steer("q", "b")], [["a", "b"]], []),
    "one response": (
        [steer("q", "a"), steer("p", "a"), steer("p", "b")],
        [["a", "b"]],
        ["1 removed: prompts with fewer than two responses"],
    ),
    "prompt again, later": (
        [steer("q", "a"), steer("q", "b"), steer("p", "a"), steer("p", "b"), steer("q", "c")],
        [["a", "b"], ["a", "b", "c"]],
        ["1 merged: rows with a prompt seen before"],
    ),
    "empty response": (
        [steer("q", "a"), steer("q", ""), steer("q", "c")],
        [["a", "c"]],
        ["1 removed: empty responses"],
    ),
    "same response": (
        [steer("q", "a"), steer("q", "a"), steer("q", "c")],
        [["a", "c"]],
        ["1 removed: responses equal to another of their prompt"],
    ),
    "empty prompt": (
        [steer("", "a"), steer("", "b"), steer("p", "a"), steer("p", "b")],
        [["a", "b"]],
        ["1 removed: prompts without text"],
    ),
    "unicode": (
        [steer("¿q?", "é🦙" * 300_000), steer("¿q?", "b \ud800")],
        [["é🦙" * 300_000, "b \ufffd"]],
        ["1 mended: texts with broken Unicode"],
    ),
}


@pytest.mark.parametrize(("rows", "responses", "reported"), HELPSTEERS.values(), ids=HELPSTEERS)
def test_helpsteers_oddities(helpsteer, rows, responses, reported):
    table, report = helpsteer(*rows)
    assert table["responses"][:] == responses and report == reported
    if len(rows) == 2 and not reported:
        assert str(table[0]["ratings"]["helpfulness"]) == "[nan, 4.0]"


def test_helpsteer_pairs_have_the_mean_of_the_aspects_for_an_overall_score(helpsteer):
    rows = [
        steer(f"q{i}", text, *ratings)
        for i in range(9)
        for text, ratings in [("a", (4, 1, 4, 0, 0)), ("b", (1, 3, 3, 4, 4))]
    ]
    with pytest.warns(UserWarning, match="no overall score for 9 of 9 pairs"):
        pairs = make_pairs(helpsteer(*rows)[0])
    assert set(zip(pairs["aspect"], pairs["conflict"], strict=True)) == {
        ("coherence", False),
        ("correctness", True),
        ("helpfulness", False),
    }


def test_helpsteer_ties_label_no_pair(helpsteer):
    rows = [steer(f"q{i}", text, 3, 3, 3, 0, i % 3) for i in range(9) for text in "ab"]
    with pytest.raises(ValueError, match="label no pair"):
        make_pairs(helpsteer(*rows)[0])


def test_a_local_file_in_helpsteers_layout_is_told_by_its_columns(tmp_path):
    rows = [steer("q", "a", model="m", source="s"), steer("q", "b"), steer("p", "c"), steer("p", "d")]
    table = load_ratings(write(tmp_path / "own.jsonl", rows))
    assert table[0]["models"] == ["m", "unknown"] and table["source"][:] == ["s", "unknown"]
    Dataset.from_list(rows).to_parquet(tmp_path / "own.parquet")
    assert load_ratings(tmp_path / "own.parquet").remove_columns("overall").to_list() == (
        table.remove_columns("overall").to_list()
    )
    assert load_ratings(tmp_path / "own.parquet", limit=1)["prompt"][:] == ["q"]
    with pytest.raises(ValueError, match="prompt_id occurs more than once"):
        load_ratings(write(tmp_path / "own.jsonl", [*rows, *rows]))


def test_a_helpsteer_row_without_a_response_is_named(tmp_path):
    rows = [steer("q", "a"), {"prompt": "q", "helpfulness": 1}]
    with pytest.raises(ValueError, match=r"row 2: column missing: 1 \(first: response\)"):
        load_ratings(write(tmp_path / "own.jsonl", rows))


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_large_tables_are_on_disk_and_equal(monkeypatch, rated_file, ratings, pairs, at_once):
    monkeypatch.setattr(large_tables, "BATCH", at_once)
    monkeypatch.setattr(large_tables, "IN_MEMORY", 0)
    large = load_ratings(rated_file)
    large_pairs = make_pairs(large)
    again = relabel(large_pairs)
    for table, small in [(large, ratings), (large_pairs, pairs), (again, relabel(pairs))]:
        assert table.cache_files and Path(table.cache_files[0]["filename"]).exists()
        assert table.to_list() == small.to_list() and table.features == small.features


def test_texts_are_never_in_memory_as_a_whole(monkeypatch, tmp_path):
    n, length = 400, 5_000
    rows = [
        feedback(f"question {i}", *(completion(f"{i}.{j} " + "x" * length, str(1 + (i + j) % 5)) for j in range(4)))
        for i in range(n)
    ]
    path = write(tmp_path / "large.jsonl", rows)
    del rows
    monkeypatch.setattr(large_tables, "BATCH", 10)
    monkeypatch.setattr(large_tables, "IN_MEMORY", 0)
    tracemalloc.start()
    pairs = make_pairs(load_ratings(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) > 3 * n and peak < n * 4 * length / 2  # the responses alone; each is in up to three pairs


def test_small_tables_need_no_file(ratings, pairs):
    assert not ratings.cache_files and not pairs.cache_files


def test_a_table_of_no_rows_can_be_written():
    features = Features({"text": Value("string"), "texts": List(Value("string"))})
    assert len(large_tables.write_table([], features)) == 0


def test_two_tables_never_share_a_cache(monkeypatch):
    monkeypatch.setattr(large_tables, "IN_MEMORY", 0)
    features = Features({"text": Value("string")})
    doubled = [
        large_tables.write_table([{"text": text}], features).map(lambda row: {"text": 2 * row["text"]}) for text in "ab"
    ]
    assert [table["text"][0] for table in doubled] == ["aa", "bb"]


def test_what_the_data_can_supply_is_what_make_pairs_grants(ratings, pairs):
    table = supply(pairs)
    assert list(table.index) == [*ASPECTS, "all"]
    assert table["pairs"].iloc[:-1].sum() == table.loc["all", "pairs"] == len(pairs)
    assert table.loc["all", "conflicting"] == sum(pairs["conflict"])
    of_levels = [f"{name} at {level}" for level in (0.1, 0.2, 0.3) for name in ("size", "share")]
    assert list(table.columns) == ["pairs", "conflicting", "conflict", *of_levels]
    for level in (0.1, 0.2, 0.3):
        size = len(make_pairs(ratings, conflict=level))
        assert table.loc["all", f"size at {level}"] == size
        assert table.loc["all", f"share at {level}"] == size / len(pairs)


def test_clean_rows_keep_what_is_fine_as_it_is(ratings):
    rows, report = ratings.to_list(), {}
    once = {cleaning.prompt_key(row): 1 for row in rows}
    assert list(cleaning.clean_rows(iter(rows), once, set(), report)) == rows and report == {}
