"""What several test files need: quiet libraries, steady hypothesis, the shared data, and small tables."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from pathlib import Path

import pytest
from datasets import Dataset, disable_progress_bars
from hypothesis import settings

from pdsel.notesworld import write_ratings
from pdsel.pairs import make_pairs
from pdsel.ratings import load_ratings

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("pdsel", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("pdsel")
disable_progress_bars()


@pytest.fixture(scope="session")
def shared():
    """The data that the project did not make, see ../shared/data/README.md."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here: nothing to compare with")
    return folder


@pytest.fixture(scope="session")
def rated_file(tmp_path_factory):
    """60 rated prompts of the notes world in UltraFeedback's layout."""
    return write_ratings(tmp_path_factory.mktemp("rated") / "rated.jsonl", 60, seed=1)


@pytest.fixture(scope="session")
def ratings(rated_file):
    return load_ratings(rated_file)


@pytest.fixture(scope="session")
def pairs(ratings):
    return make_pairs(ratings)


@pytest.fixture
def hand_ratings():
    """A ratings table from `(responses, {aspect: ratings}, overall)` per prompt; the prompts are named q0, q1, ..."""

    def build(*prompts):
        rows = [
            {
                "prompt_id": f"q{i}",
                "prompt": f"question {i}",
                "responses": responses,
                "models": [f"m{j}" for j in range(len(responses))],
                "ratings": ratings,
                "overall": overall,
                "source": "hand",
            }
            for i, (responses, ratings, overall) in enumerate(prompts)
        ]
        return Dataset.from_list(rows)

    return build


@pytest.fixture
def hand_pairs():
    """A pairs table from `(aspect, rating_gaps, overall_gap)` per pair, named z0, z1, ...; keywords replace columns.

    Gaps that come as a list are those of the aspects a, b, c, ...
    """

    def build(*rows, **columns):
        n = range(len(rows))
        aspects, gaps, overall = map(list, zip(*rows, strict=True))
        gaps = [gap if isinstance(gap, dict) else dict(zip("abc", gap, strict=False)) for gap in gaps]
        table = {
            "pair_id": [f"z{i}" for i in n],
            "prompt_id": [f"q{i}" for i in n],
            "prompt": [f"question {i}" for i in n],
            "chosen": [f"good {i}" for i in n],
            "rejected": [f"bad {i}" for i in n],
            "aspect": aspects,
            "chosen_model": ["winner"] * len(rows),
            "rejected_model": ["loser"] * len(rows),
            "rating_gaps": gaps,
            "overall_gap": overall,
            "conflict": [gap < 0 for gap in overall],
        }
        return Dataset.from_dict(table | columns)

    return build
