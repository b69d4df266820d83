"""Rated responses in: what is read, and what is refused with the column, the prompts and the remedy."""

import json
from importlib.resources import files

import pytest
from datasets import Dataset

from pdsel.checks import DataError
from pdsel.notesworld import ASPECTS, rated_rows, write_ratings
from pdsel.pairs import make_pairs
from pdsel.ratings import check_ratings, load_ratings

FIRST_FIVE = r"7 \(first: q0, q1, q2, q3, q4\)\. Remedy: \w+"


def completion(response, honesty="4", helpfulness="3", overall=5.0):
    ratings = {"honesty": honesty, "helpfulness": helpfulness}
    annotations = {aspect: {"Rating": rating} for aspect, rating in ratings.items()}
    return {"model": "m", "response": response, "annotations": annotations, "overall_score": overall}


def prompts(n=7, **first):
    """`n` good prompts q0, q1, ... whose first completion has the given faults."""
    return [
        {
            "source": "s",
            "prompt_id": f"q{i}",
            "instruction": f"question {i}",
            "completions": [completion(**{"response": "yes"} | first), completion("no")],
        }
        for i in range(n)
    ]


@pytest.fixture
def load(tmp_path):
    """Write rows (or lines) as .jsonl and load them."""

    def write_and_load(rows, **options):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / "rated.jsonl"
        path.write_text("".join(line + "\n" for line in lines))
        return load_ratings(path, **options)

    return write_and_load


def plain(table):
    return json.dumps(table.to_list())  # NaN equals itself as text


def test_a_row_per_prompt_with_the_columns_of_the_contract(load):
    (row,) = load(prompts(1, honesty="2", overall=None)).to_list()
    assert str(row["overall"]) == "[nan, 5.0]"
    del row["overall"]
    assert row == {
        "prompt_id": "q0",
        "prompt": "question 0",
        "responses": ["yes", "no"],
        "models": ["m", "m"],
        "ratings": {"helpfulness": [3.0, 3.0], "honesty": [2.0, 4.0]},
        "source": "s",
    }


def test_jsonl_and_parquet_give_the_same_table(tmp_path, load):
    rows = prompts(2) + [
        row | {"prompt_id": "n/a"} for row in prompts(1, honesty="N/A", helpfulness=None, overall=None)
    ]
    for row in rows[:2]:
        del row["completions"][0]["annotations"]["honesty"]  # Parquet writes null for what is missing
    Dataset.from_list(rows).to_parquet(tmp_path / "rated.parquet")
    assert plain(load_ratings(tmp_path / "rated.parquet")) == plain(load(rows))


def test_ultrafeedbacks_own_layout_reads_the_same_from_both_formats(tmp_path, load):
    rows = rated_rows(5, seed=3)
    Dataset.from_list(rows).to_parquet(tmp_path / "rated.parquet")
    assert plain(load_ratings(tmp_path / "rated.parquet")) == plain(load(rows))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("4", 4.0),
        (" 4.5 ", 4.5),
        (4, 4.0),
        (2.5, 2.5),
        ("N/A", None),
        ("n/a", None),
        ("", None),
        (None, None),
        ("null", None),
        (float("nan"), None),
    ],
)
def test_a_rating_is_a_number_or_absent(load, written, read):
    for value in (
        load(prompts(1, honesty=written))[0]["ratings"]["honesty"][0],
        load(prompts(1, overall=written))[0]["overall"][0],
    ):
        assert value != value if read is None else value == read


@pytest.mark.parametrize(
    "annotations", [{"helpfulness": {"Rating": "3"}}, {"honesty": None}, {"honesty": {}}, {}, None]
)
def test_a_missing_annotation_is_absent(load, annotations):
    rows = prompts(2)
    rows[0]["completions"][0]["annotations"] = annotations
    table = load(rows)
    assert str(table[0]["ratings"]["honesty"]) == "[nan, 4.0]"
    assert list(table[1]["ratings"]) == ["helpfulness", "honesty"]


def test_an_aspect_that_one_prompt_lacks_is_absent_there(load):
    rows = prompts(2)
    for each in rows[0]["completions"]:
        del each["annotations"]["honesty"]
    assert str(load(rows)[0]["ratings"]["honesty"]) == "[nan, nan]"


def test_a_prompt_without_an_id_gets_a_digest_of_its_text(load):
    rows = prompts(2)
    for row in rows:
        del row["prompt_id"]
    names = load(rows)["prompt_id"]
    assert len(set(names)) == 2 and list(load(rows[::-1])["prompt_id"]) == list(names)[::-1]


def test_limit_reads_the_first_prompts_only(load):
    assert list(load([*prompts(3), *prompts(1, honesty="bad")], limit=3)["prompt_id"]) == ["q0", "q1", "q2"]


def test_limit_reads_nothing_beyond(load):
    assert load([*prompts(3), "{broken"], limit=3).num_rows == 3


def test_blank_lines_do_not_count(load):
    assert load([*map(json.dumps, prompts(2)), "", "  "]).num_rows == 2


BAD_PROMPTS = {
    "text rating": (prompts(honesty="good"), r"ratings\['honesty'\] is text"),
    "list for a rating": (prompts(honesty=[4]), r"ratings\['honesty'\] is text"),
    "boolean rating": (prompts(honesty=True), r"ratings\['honesty'\] is a boolean"),
    "infinite rating": (prompts(honesty=float("inf")), r"ratings\['honesty'\] is infinite"),
    "infinite rating as text": (prompts(honesty="-inf"), r"ratings\['honesty'\] is infinite"),
    "text overall": (prompts(overall="high"), "overall is text"),
    "boolean overall": (prompts(overall=False), "overall is a boolean"),
    "infinite overall": (prompts(overall=1e999), "overall is infinite"),
    "one response": (
        [row | {"completions": row["completions"][:1]} for row in prompts()],
        "responses holds fewer than two",
    ),
    "no responses": ([row | {"completions": None} for row in prompts()], "responses holds fewer than two"),
    "null response": (prompts(response=None), "responses holds a null or empty response"),
    "blank response": (prompts(response="  "), "responses holds a null or empty response"),
    "null prompt": ([row | {"instruction": None} for row in prompts()], "prompt is null or empty"),
    "blank prompt": ([row | {"instruction": " "} for row in prompts()], "prompt is null or empty"),
    "duplicate prompt": (prompts() * 2, "prompt_id occurs more than once"),
}


@pytest.mark.parametrize(("rows", "problem"), BAD_PROMPTS.values(), ids=BAD_PROMPTS)
def test_bad_prompts_are_refused_with_column_ids_and_remedy(load, rows, problem):
    with pytest.raises(ValueError, match=f"^{problem}.*: {FIRST_FIVE}"):
        load(rows)


@pytest.mark.parametrize("column", ["instruction", "completions"])
def test_a_missing_column_is_named_with_its_row(load, column):
    rows = prompts(3)
    del rows[1][column]
    with pytest.raises(ValueError, match=rf"row 2: column missing: 1 \(first: {column}\)\. Remedy: rename or add it"):
        load(rows)


BAD_LINES = {
    "empty file": ([], "is empty: no prompts to read. Remedy"),
    "blank file": ([" "], "is empty: no prompts to read. Remedy"),
    "broken line": ([*prompts(2), '{"instruction": '], "line 3, is not a JSON object .*one prompt a line"),
    "a list a line": ([*prompts(1), "[1, 2]"], "row 2"),
}


@pytest.mark.parametrize(("lines", "problem"), BAD_LINES.values(), ids=BAD_LINES)
def test_unreadable_lines_are_refused(load, lines, problem):
    with pytest.raises(ValueError, match=problem):
        load(lines)


NOT_OF_THE_LAYOUT = {
    "a number a line": ["3"],
    "null a line": ["null"],
    "text a line": ['"instruction completions"'],
    "text for completions": [prompts(1)[0] | {"completions": "yes"}],
    "a null completion": [prompts(1)[0] | {"completions": [None, completion("no")]}],
    "text for annotations": [prompts(1)[0] | {"completions": [completion("a") | {"annotations": "good"}] * 2}],
}


@pytest.mark.parametrize("lines", NOT_OF_THE_LAYOUT.values(), ids=NOT_OF_THE_LAYOUT)
def test_other_layouts_are_refused(load, lines):
    with pytest.raises(ValueError, match="row 1"):
        load(lines)


@pytest.mark.parametrize("name", ["rated.csv", "rated", "no-such-name", "rated.json"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=rf"path_or_name='{name}'.*\.jsonl, \.jsonl\.gz or \.parquet"):
        load_ratings(name)


def test_a_missing_path_is_refused_with_the_path(tmp_path):
    with pytest.raises(ValueError, match=r"path_or_name: there is no file at .*none\.jsonl; check the path"):
        load_ratings(tmp_path / "none.jsonl")


def test_an_empty_parquet_file_is_refused(tmp_path):
    Dataset.from_list(prompts(1)).select([]).to_parquet(tmp_path / "rated.parquet")
    with pytest.raises(ValueError, match=r"rated\.parquet is empty.*Remedy"):
        load_ratings(tmp_path / "rated.parquet")


def test_a_parquet_file_without_the_columns_is_refused(tmp_path):
    Dataset.from_dict({"prompt": ["q"]}).to_parquet(tmp_path / "rated.parquet")
    with pytest.raises(
        ValueError, match=r"column missing: 2 \(first: instruction, completions\).*present are \['prompt'\]"
    ):
        load_ratings(tmp_path / "rated.parquet")


BAD_TABLES = {
    "text": ({"overall": ["4", "2"]}, "overall is text"),
    "infinite": ({"overall": [4.0, float("-inf")]}, "overall is infinite"),
    "boolean": ({"ratings": {"honesty": [True, False]}}, r"ratings\['honesty'\] is a boolean"),
    "too few ratings": ({"ratings": {"honesty": [4.0]}}, r"ratings\['honesty'\] is not one rating per response"),
    "one response": ({"responses": ["yes"]}, "responses holds fewer than two responses"),
    "null response": ({"responses": ["yes", None]}, "responses holds a null or empty response"),
}


@pytest.mark.parametrize(("fault", "problem"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_ratings_table_from_elsewhere_is_checked(load, fault, problem):
    rows = load(prompts()).to_list()
    check_ratings(Dataset.from_list(rows))
    with pytest.raises(ValueError, match=f"^{problem}: {FIRST_FIVE}"):
        check_ratings(Dataset.from_list([row | fault for row in rows]))


def test_a_ratings_table_without_column_or_rows_is_refused(ratings):
    with pytest.raises(ValueError, match=r"ratings table: column missing: 1 \(first: overall\)\. Remedy"):
        check_ratings(ratings.remove_columns("overall"))
    with pytest.raises(ValueError, match="ratings table is empty.*Remedy"):
        check_ratings(ratings.select([]))


@pytest.mark.parametrize(
    ("name", "n_prompts", "n_responses", "n_aspects", "has_overall"),
    [("summeval12", 100, 12, 4, False), ("topical_chat_usr", 60, 6, 5, True)],
)
def test_the_shared_files_load(shared, name, n_prompts, n_responses, n_aspects, has_overall):
    table = load_ratings(shared / f"{name}.jsonl")
    assert table.num_rows == n_prompts
    assert {len(row["responses"]) for row in table} == {n_responses}
    assert {len(row["ratings"]) for row in table} == {n_aspects}
    assert {score == score for row in table for score in row["overall"]} == {has_overall}


def test_the_shipped_example_is_the_one_the_notes_world_writes(tmp_path):
    path = write_ratings(tmp_path / "rated.jsonl", 60, seed=7)
    assert (files("pdsel") / "examples" / "rated.jsonl").read_bytes() == path.read_bytes()
    assert list(load_ratings(path, limit=1)[0]["ratings"]) == sorted(ASPECTS)


def test_integers_for_names_are_written_out(load, tmp_path):
    """A user's own models and prompts are often numbered; the table holds text."""
    completions = [{"model": 3, "response": text, "annotations": {"a": 1, "b": 2}} for text in ("yes", "no")]
    rows = [
        {"prompt_id": number, "source": 8, "instruction": f"q{number}", "completions": completions}
        for number in (0, 17)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = load_ratings(path)
    assert table["prompt_id"][:] == ["0", "17"]
    assert table[1]["models"] == ["3", "3"] and table["source"][:] == ["8", "8"]


@pytest.mark.parametrize("column", ["model", "prompt_id", "source"])
@pytest.mark.parametrize("value", [1.5, True, ["m"], {"name": "m"}], ids=str)
def test_a_name_that_is_neither_text_nor_an_integer_is_refused(tmp_path, column, value):
    completions = [{"response": text, "annotations": {"a": 1, "b": 2}} for text in ("yes", "no")]
    row = {"instruction": "q", "completions": completions}
    (completions[1] if column == "model" else row)[column] = value
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"{column}: row 1 holds .*, which is neither text nor an integer. Remedy"):
        load_ratings(path)


@pytest.mark.parametrize("name", ["pooled", "utility", "replicate", "row", "overall_gap"])
def test_a_reserved_name_of_an_aspect_is_refused(tmp_path, name):
    completions = [{"response": text, "annotations": {"a": 1, name: 2}} for text in ("yes", "no")]
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"instruction": "q", "completions": completions}) + "\n")
    with pytest.raises(DataError, match=rf"aspect has a reserved name: 1 \(first: {name}\). Remedy: rename it"):
        load_ratings(path)


def test_a_reserved_name_in_a_table_from_elsewhere_is_refused(hand_ratings):
    prompt = (["yes", "no"], {"a": [2.0, 1.0], "utility": [2.0, 1.0]}, [2.0, 1.0])
    with pytest.raises(DataError, match="aspect has a reserved name"):
        make_pairs(hand_ratings(prompt, prompt))
