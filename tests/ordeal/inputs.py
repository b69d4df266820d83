"""Input: well-formed files, tables and replies with a few faults in them. A result that is right, or a `DataError`.

A trial returns "result" after it has checked the result against what must hold of every result, or lets pdsel's error
through. Most inputs have one fault, some none, so that results are tried as well as refusals.
"""

import gzip
import json
import math
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
import yaml
from datasets import Dataset
from fake_endpoint import FakeEndpoint, Handler

from ordeal.mutate import damaged, damaged_bytes
from ordeal.trials import Case, Lost
from pdsel import load_ratings, make_pairs, preference_divergence, scale_margins, select
from pdsel.checks import check_pairs
from pdsel.data.preferences import load_preferences
from pdsel.evaluation.judges.llm import LLMJudge
from pdsel.evaluation.judges.prompt import read_answer
from pdsel.pipeline.profiles import load_profile
from pdsel.ratings import check_ratings

RESULT = "result"
WORDS = ["rain", "snow", "wind", "fog", "hail", "dew", "frost", "sleet"]
ASPECTS = ["helpfulness", "honesty", "truthfulness"]


def require(holds, what):
    """Raise `Lost` unless something holds."""
    if not holds:
        raise Lost(what)


@contextmanager
def scratch():
    """A folder for one trial."""
    with tempfile.TemporaryDirectory(prefix="ordeal-") as folder:
        yield Path(folder)


# ---- rated responses and labelled pairs in files


def rated_prompts(draw):
    """Two to four rated prompts in UltraFeedback's layout, without faults."""
    rows = []
    for number in range(draw.randint(2, 4)):
        completions = [
            {
                "model": f"m{k}",
                "response": f"{draw.choice(WORDS)} {k}",
                "annotations": {aspect: {"Rating": str(draw.randint(1, 5))} for aspect in ASPECTS},
                "overall_score": draw.choice([1.0, 4.5, 7.0]),
            }
            for k in range(draw.randint(2, 4))
        ]
        rows.append(
            {"source": "s", "instruction": f"Explain {draw.choice(WORDS)} {number}.", "completions": completions}
        )
    return rows


def rated_responses(draw):
    """HelpSteer's layout: a response a row."""
    names = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
    return [
        {"prompt": f"Explain {number}.", "response": f"{draw.choice(WORDS)} {k}"}
        | {a: draw.randint(0, 4) for a in names}
        for number in range(draw.randint(2, 3))
        for k in range(draw.randint(2, 3))
    ]


def labelled_pairs(draw):
    """Pairs that are labelled already, with ratings of both sides and margins."""

    def numbers():
        return {aspect: float(draw.randint(1, 5)) for aspect in ASPECTS}

    return [
        {
            "prompt": f"Explain {number}.",
            "chosen": f"{draw.choice(WORDS)} good",
            "rejected": f"{draw.choice(WORDS)} bad",
            "aspect": draw.choice(ASPECTS),
            "chosen_ratings": numbers(),
            "rejected_ratings": numbers(),
            "margins": {aspect: draw.uniform(-2, 2) for aspect in ASPECTS},
        }
        for number in range(draw.randint(2, 5))
    ]


def write_rows(rows, folder, draw):
    """Write rows as JSON lines, gzipped lines or Parquet, or as bytes with a fault; returns the path."""
    lines = [json.dumps(row) for row in (rows if isinstance(rows, list) else [rows])]
    kind = draw.choice(["lines", "lines", "lines", "gzip", "parquet"])
    name = {"lines": "rated.jsonl", "gzip": "rated.jsonl.gz", "parquet": "rated.parquet"}[kind]
    path = folder / name
    if kind == "parquet":
        try:
            Dataset.from_list(rows).to_parquet(path)
        except Exception:  # what Parquet cannot hold is tried as lines
            kind, path = "lines", folder / "rated.jsonl"
    if kind == "lines":
        path.write_text("\n".join(lines) + "\n")
    elif kind == "gzip":
        with gzip.open(path, "wt") as file:
            file.write("\n".join(lines))
    if draw.random() < 0.3:
        path.write_bytes(damaged_bytes(path.read_bytes(), draw))
    return path


def options_of_ratings(draw):
    """Mostly none; sometimes right ones, sometimes wrong ones."""
    wrong = {
        "limit": draw.choice([1, 2, 100, 0, -1, True, 1.5, "2", None, math.nan]),
        "clean": draw.choice([True, True, False, None, "yes", 2]),
        "signs": draw.choice(
            [{"honesty": -1}, {"honesty": 0}, {"nope": 1}, {"honesty": "1"}, {"honesty": None}, ["honesty"], 3]
        ),
    }
    return {name: value for name, value in wrong.items() if draw.random() < 0.15}


def check_loaded(table):
    """What holds of every ratings table."""
    check_ratings(table)
    require(table.info.description, "no description")
    require(len(set(table["prompt_id"])) == len(table), "prompt_id repeated")
    for row in table:
        n = len(row["responses"])
        require(n >= 2 and all(text.strip() for text in [row["prompt"], *row["responses"]]), "a blank text")
        require(len(row["models"]) == n, "not a model for each response")
        for values in [row["overall"], *row["ratings"].values()]:
            require(len(values) == n and not any(map(math.isinf, values)), "not a rating for each response")


def rated_file(layout):
    """A trial: a file of rated responses with faults."""

    def trial(draw):
        rows, options = damaged(layout(draw), draw), options_of_ratings(draw)
        with scratch() as folder:
            check_loaded(load_ratings(write_rows(rows, folder, draw), **options))
        return RESULT

    return trial


def preferences_file(draw):
    """A trial: a file of labelled pairs with faults."""
    rows = damaged(labelled_pairs(draw), draw)
    options = {}
    if draw.random() < 0.3:
        options["columns"] = draw.choice(
            [
                {"prompt": "question"},
                {"aspekt": "aspect"},
                {"aspect": "prompt"},
                {"margins": {"a": "chosen"}},
                ["prompt"],
                {},
            ]
        )
    if draw.random() < 0.2:
        options["aspect"] = draw.choice(["honesty", "", 3, None])
    if draw.random() < 0.1:
        options["limit"] = draw.choice([1, 2, 0, -1, "2"])
    with scratch() as folder:
        table = load_preferences(write_rows(rows, folder, draw), **options)
        check_pairs(table)
        require(list(table["pair_id"]) == sorted(table["pair_id"]), "not sorted by pair_id")
    return RESULT


def pairs_of_ratings(draw):
    """A trial: a ratings table from elsewhere, with faults, to pairs."""
    with scratch() as folder:
        (folder / "rated.jsonl").write_text("\n".join(json.dumps(row) for row in rated_prompts(draw)))
        rows = load_ratings(folder / "rated.jsonl").to_list()
    try:
        ratings = Dataset.from_list(damaged(rows, draw))
    except Exception:  # no table can hold this
        return "no table"
    options = {
        "aspects": draw.choice(
            [None, ASPECTS[:2], ASPECTS[:1], ["nope", "honesty"], "honesty", [], [3], ASPECTS + ASPECTS[:1]]
        ),
        "conflict": draw.choice([None, 0, 0.5, 1, 0.3, -1, 30, "0.3", math.nan, True]),
        "size": draw.choice([None, 1, 2, 0, -1, 10**6, "2", 1.5]),
        "seed": draw.choice([0, 1, "a", None]),
    }
    options = {name: value for name, value in options.items() if draw.random() < 0.25}
    pairs = make_pairs(ratings, **options)
    check_pairs(pairs)
    by_prompt = {row["prompt_id"]: row for row in ratings}
    for pair in pairs:
        gap = pair["rating_gaps"][pair["aspect"]]
        row = by_prompt[pair["prompt_id"]]
        better, worse = (_ratings_of(row, pair[side], pair["aspect"]) for side in ("chosen", "rejected"))
        require(gap > 0 and any(a - b == gap for a in better for b in worse), "a label against the ratings")
    if options.get("conflict") is not None:
        require(sum(pairs["conflict"]) == round(options["conflict"] * len(pairs)), "another conflict level")
    if options.get("size") is not None:
        require(len(pairs) == options["size"], "another size")
    return RESULT


def _ratings_of(row, text, aspect):
    return [value for text_of, value in zip(row["responses"], row["ratings"][aspect], strict=True) if text_of == text]


# ---- numbers by pair_id

NUMBERS = [0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, -1e300, math.nan, math.inf, -math.inf]
CONTAINERS = {
    "list": lambda values: list(values),
    "array": lambda values: values.to_numpy(),
    "dict": lambda values: values.to_dict(),
    "frame": lambda values: values.to_frame() if isinstance(values, pd.Series) else values.T,
    "reset": lambda values: values.reset_index(drop=True),
    "text": lambda values: values.astype(str),
    "objects": lambda values: values.astype(object),
    "category": lambda values: values.astype("category"),
    "nullable": lambda values: values.convert_dtypes(),
    "arrow": lambda values: values.convert_dtypes(dtype_backend="pyarrow"),
    "repeated": lambda values: pd.concat([values, values.iloc[:1]]),
    "shuffled": lambda values: values.iloc[::-1],
    "fewer": lambda values: values.iloc[1:],
    "none": lambda values: None,
    "empty": lambda values: values.iloc[:0],
    "numbered": lambda values: values.set_axis(range(1, len(values) + 1)),
    "mixed ids": lambda values: values.set_axis([3, *values.index[1:]]),
    "no ids": lambda values: values.set_axis([None, *values.index[1:]]),
    "two levels": lambda values: values.set_axis(pd.MultiIndex.from_tuples([(name, 0) for name in values.index])),
    "complex": lambda values: values.astype(complex),
    "days": lambda values: values.map(lambda value: pd.Timestamp(2020, 1, 1)),
}


def _in_other_container(values, draw, chance=0.3):
    if draw.random() > chance:
        return values
    try:
        return CONTAINERS[draw.choice(list(CONTAINERS))](values)
    except (TypeError, ValueError):  # labels are not complex numbers, say
        return values


def _numbers(draw, n, odd=0.1):
    return [draw.choice(NUMBERS) if draw.random() < odd else draw.gauss(0, 1) for _ in range(n)]


def _ids(draw):
    names = [f"p{number}" for number in range(draw.randint(1, 12))]
    draw.shuffle(names)
    return names


def kept_ids(draw):
    """A trial: scores, a share and errors to kept ids."""
    names = _ids(draw)
    values = [draw.choice(values) for values in [_numbers(draw, 3, 0.05)] * len(names)]  # with ties
    scores = _in_other_container(pd.Series(values, index=names, dtype=float), draw)
    share = draw.choice(
        [0.3, 0.5, 1, 1.0, draw.random(), 0, -0.1, 1.5, 30, "0.3", None, True, math.nan, [0.3], np.float32(0.5)]
    )
    options = {"keep": draw.choice(["lowest", "highest", "low", None])} if draw.random() < 0.3 else {}
    if draw.random() < 0.3:
        errors = pd.Series([abs(draw.gauss(0, 1)) for _ in names], index=names)
        options["standard_error"] = _in_other_container(errors, draw)
    kept = select(scores, share, **options)
    require(len(kept) == round(share * len(scores)) > 0 and kept.is_unique, "another number of ids")
    cost = scores.astype(float) * (1 if options.get("keep", "lowest") == "lowest" else -1)
    if options.get("standard_error") is not None:
        cost = cost + options["standard_error"].astype(float).reindex(cost.index)
    expected = sorted(cost.index, key=lambda name: (cost[name], name))[: len(kept)]
    require(list(kept) == expected, "other ids than by hand")
    return RESULT


def margins_and_labels(draw):
    """Margins and the aspects of labels, with faults."""
    names = _ids(draw)
    aspects = ASPECTS[: draw.choice([1, 2, 2, 3, 3, 3])]
    odd = draw.choice([0, 0, 0, 0.1])
    margins = pd.DataFrame({aspect: _numbers(draw, len(names), odd) for aspect in aspects}, index=names)
    labels = [draw.choice(aspects) for _ in names]
    if draw.random() < 0.1:
        labels[0] = draw.choice(["nope", None, 3, math.nan])
    if draw.random() < 0.05:
        margins.columns = draw.choice([[*aspects[:-1], aspects[0]], range(len(aspects)), [None, *aspects[1:]]])
    labels = pd.Series(labels, index=names)
    return _in_other_container(margins, draw, 0.2), _in_other_container(labels, draw, 0.2)


def scaled_margins(draw):
    """A trial: raw margins to scaled ones."""
    margins, labels = margins_and_labels(draw)
    quantile = draw.choice([0.9, 1, 0.5, 0, 90, -1, "0.9", None, math.nan, True]) if draw.random() < 0.3 else 0.9
    scaled = scale_margins(margins, labels, quantile=quantile)
    require(scaled.index.equals(margins.index) and list(scaled) == list(margins), "other rows or columns")
    own = _own(margins, labels)
    others = scaled.to_numpy()[~own]
    require(((others >= -1) & (others <= 1)).all(), "outside [-1, 1]")
    signs = np.sign(margins.to_numpy(dtype=float))[~own]
    require((np.sign(others) * signs >= 0).all(), "another sign")
    return RESULT


def divergences(draw):
    """A trial: margins to divergences."""
    margins, labels = margins_and_labels(draw)
    weights = None
    if draw.random() < 0.3:
        weights = {aspect: draw.choice([1, 2, 0.5, 0, -1, math.nan, "1", None]) for aspect in ASPECTS}
        weights = draw.choice([weights, dict.fromkeys(ASPECTS, 2), [1, 2, 3], {"nope": 1}, {}])
    found = preference_divergence(margins, labels, weights=weights)
    require(found.index.equals(margins.index) and found.notna().all(), "other rows, or NaN")
    for name in margins.index:
        own = labels[name]
        terms = [
            (1 if weights is None else weights[other] / weights[own]) * float(margins.loc[name, other])
            for other in margins
            if other != own
        ]
        by_hand = -math.fsum(terms) if all(map(math.isfinite, terms)) else -sum(terms)
        sizes = sum(map(abs, terms))
        close = found[name] == by_hand or abs(found[name] - by_hand) <= 1e-12 * sizes or math.isinf(sizes)
        require(close, f"PD {found[name]} and not {by_hand}")
    return RESULT


def _own(margins, labels):
    labels = labels.reindex(margins.index)
    own = [[label == column for column in margins] for label in labels]
    return np.array(own, dtype=bool).reshape(margins.shape)


# ---- profiles


def _notebooks(folder):
    """Two notebooks with parameters, for profiles to name."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, code in {
        "01_data": "n_prompts = 700  # prompts\nseed = 0",
        "04_dpo": "beta = 0.1  # of DPO\nmethod = 'PD'",
    }.items():
        cell = nbformat.v4.new_code_cell(code, metadata={"tags": ["parameters"]})
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / f"{name}.ipynb")


PROFILE = {
    "grid": {"conflicts": [0.1, None], "seeds": [0, 1], "methods": ["PD", "RAND"]},
    "01_data": {"n_prompts": 60},
    "04_dpo": {"beta": 0.5},
    "without": ["04_dpo"],
    "resources": {"dpo": {"gpu": 1}},
}
TAGS = [
    "!!python/object/apply:os.system ['touch hacked']",
    "!!python/name:os.system",
    "&a [*a]",
    "{? [1, 2] : 3}",
    "2020-01-01",
    "!!binary aGk=",
    "<<: 3",
    "a: b: c",
    "\t- x",
    "%YAML 9",
]


def profile_file(draw):
    """A trial: a profile with faults in its sections or in its text."""
    profile = damaged({name: PROFILE[name] for name in PROFILE if name == "grid" or draw.random() < 0.5}, draw)
    try:
        text = yaml.safe_dump(profile, allow_unicode=True)
    except yaml.YAMLError:
        return "no YAML"
    data = text.encode(errors="surrogatepass")
    if draw.random() < 0.2:
        data = data.replace(b"0.1", draw.choice(TAGS).encode(), 1)
    if draw.random() < 0.3:
        data = damaged_bytes(data, draw)
    with scratch() as folder:
        _notebooks(folder)
        (folder / "profiles").mkdir()
        path = folder / "profiles" / "mine.yaml"
        path.write_bytes(data)
        found = load_profile(path)
        require(not (folder / "hacked").exists() and not Path("hacked").exists(), "a tag was executed")
    grid = found["grid"]
    require(set(grid) == {"conflicts", "seeds", "methods"}, "another grid")
    require(all(isinstance(values, list) for values in grid.values()), "a grid that is not of lists")
    require(all(level is None or 0 <= level <= 1 for level in grid["conflicts"]), "a conflict level that is no share")
    require(all(type(seed) is int and seed >= 0 for seed in grid["seeds"]), "a seed that is no number")
    require(all(isinstance(method, str) and method for method in grid["methods"]), "a method that is no name")
    return RESULT


# ---- a judge's answers


def answer(draw):
    """A trial: an answer as the endpoint's reply is read, with faults in what the model wrote."""
    words = [
        "m",
        "M",
        "Model m.",
        "I'm sorry.",
        "m or M",
        "",
        "  ",
        "\u0000",
        "ｍ",
        "<script>m</script>",
        "M" * 10**4,
        None,
    ]
    top = [
        [draw.choice(["m", "M", " m", "The", ""]), draw.choice([-0.1, -2.0, 0.0, -1e300, -745.0])]
        for _ in range(draw.randint(0, 5))
    ]
    preference, how = read_answer({"content": draw.choice(words), "top_logprobs": draw.choice([None, top])})
    require(how in ("logprobs", "parsed", "unreadable"), "read in no known way")
    require(math.isnan(preference) if how == "unreadable" else 0 <= preference <= 1, "no probability")
    return RESULT


TOP = [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.5}]
REPLY = {
    "model": "judge",
    "choices": [
        {
            "message": {"role": "assistant", "content": "m"},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "m", "logprob": -0.1, "top_logprobs": TOP}]},
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 1},
}


def reply(draw):
    """A trial: a reply of an endpoint, over HTTP, with faults in its fields or in its bytes."""
    data, status = json.dumps(damaged(REPLY, draw)).encode(), draw.choice([200, 200, 200, 200, 200, 301, 400, 500])
    if draw.random() < 0.3:
        data = damaged_bytes(data, draw)

    def answered(handler, body):
        handler.reply(status, data)

    with (
        scratch() as folder,
        FakeEndpoint() as server,
        mock.patch.object(Handler, "fault_damaged", answered, create=True),
    ):
        server.fault = lambda text, times: "damaged"
        options = {"retries": 0, "backoff": 0, "missing": draw.choice(["nan", "nan", "raise"])}
        judge = LLMJudge("judge", base_url=server.url, cache=folder / "a.sqlite", **options)
        (preference,) = judge(["Why?"], ["a"], ["b"])
        require(math.isnan(preference) or 0 <= preference <= 1, "no probability")
        asked = len(server.bodies)
        if not math.isnan(preference):
            require(list(judge(["Why?"], ["a"], ["b"])) == [preference] and len(server.bodies) == asked, "asked again")
    return RESULT if not math.isnan(preference) else "no answer"


CASES = [
    Case("input", "load_ratings, prompts with their responses", rated_file(rated_prompts), 4),
    Case("input", "load_ratings, a response a row", rated_file(rated_responses), 3),
    Case("input", "load_preferences", preferences_file, 3),
    Case("input", "make_pairs", pairs_of_ratings, 2),
    Case("input", "select", kept_ids, 3),
    Case("input", "scale_margins", scaled_margins, 2),
    Case("input", "preference_divergence", divergences, 2),
    Case("input", "profiles", profile_file, 2),
    Case("input", "answers of a judge", answer, 1),
    Case("input", "replies of a judge's endpoint", reply, 1),
]
