"""Features of pairs in files. They are larger than many machines' memory, so parts are read where they are needed."""

import json
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pdsel.checks import DataError, refuse
from pdsel.engine.models import resolve

ROWS_AT_ONCE = 4096  # that are copied while a file is open
FACTS, LOGPS = "features.json", "logps"  # beside the blocks' files; the facts are written last


class Files(Mapping):
    """The arrays of a folder by name, each opened when it is asked for, so that none of them stays in memory.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "hd.npy"), np.eye(2))
    ...     Files(folder, ["hd"])["hd"][1].tolist()
    [0.0, 1.0]
    """

    def __init__(self, folder, names):
        self.folder, self.names = Path(folder), list(names)

    def remove_at_the_end(self):
        """Remove the folder once nobody holds these arrays any more: a study reads many worlds."""
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __getitem__(self, name):
        if name not in self.names:
            raise KeyError(name)
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)


@dataclass(frozen=True)
class PairFeatures:
    """Features of pairs: for every block the difference of chosen minus rejected, and what the reference says.

    `gaps` maps a block to its array, shape (n, width), in the order of `ids`; `logps` is a frame with the columns `chosen` and
    `rejected`, nats, index `pair_id`. `n_tokens` and `seconds` are what the reading took.
    """

    ids: pd.Index
    gaps: Mapping
    logps: pd.DataFrame
    model: str
    max_length: int
    n_tokens: int
    seconds: float

    def save(self, folder):
        """Write a folder, or put copies of the files into it; `load_features` reads it again."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, gap in self.gaps.items():
            if isinstance(self.gaps, Files):
                shutil.copyfile(self.gaps.folder / f"{name}.npy", folder / f"{name}.npy")
            else:
                np.save(folder / f"{name}.npy", gap)
        np.save(folder / f"{LOGPS}.npy", self.logps.to_numpy())
        facts = {"ids": list(self.ids), "blocks": list(self.gaps), "model": self.model, "max_length": self.max_length}
        facts |= {"n_tokens": self.n_tokens, "seconds": self.seconds}
        Path(folder, FACTS).write_text(json.dumps(facts))
        return folder

    def check(self, model, max_length):
        """Refuse the features of another model, or of texts that were cut elsewhere."""
        if (self.model, self.max_length) != (resolve(model), max_length):
            raise DataError(
                f"features: of {self.model} at max_length={self.max_length}, not of {model} at max_length={max_length}. "
                "Remedy: read them with pair_features of this model and length"
            )

    def of(self, ids, blocks):
        """The gaps of some pairs in some blocks, in the order of `ids`: a mapping that reads a block when it is asked for."""
        rows = self.ids.get_indexer(list(ids))
        refuse(pd.Index(ids)[rows < 0], "features: pair_id", "was not read", "read the features of these very pairs")
        refuse(sorted(set(blocks) - set(self.gaps)), "features: block", "was not read", "name it in blocks=")
        return Rows(self.gaps, rows, [name for name in self.gaps if name in set(blocks)])


@dataclass(frozen=True)
class Rows(Mapping):
    """Some rows of some arrays, each read when it is asked for, and a few thousand at a time.

    >>> Rows({"hd": np.eye(3)}, np.array([2, 0]), ["hd"])["hd"].tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """

    arrays: Mapping
    rows: np.ndarray
    names: list

    def __getitem__(self, name):
        first = self.arrays[name]
        values = np.empty((len(self.rows), first.shape[1]), dtype=first.dtype)
        for start in range(0, len(self.rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            values[part] = self.arrays[name][self.rows[part]]
        return values

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)


def load_features(folder):
    """The `PairFeatures` that were saved in `folder`; their arrays stay there and are read where they are needed."""
    facts = json.loads(Path(folder, FACTS).read_text())
    ids = pd.Index(facts.pop("ids"), name="pair_id")
    return PairFeatures(ids=ids, gaps=Files(folder, facts.pop("blocks")), logps=read_logps(folder, ids), **facts)


def make_files(folder, widths, n):
    """Empty arrays of `n` rows; `widths` maps a name to the number of its columns."""
    for name, width in widths.items():
        np.lib.format.open_memmap(_file(folder, name), mode="w+", dtype=np.float32, shape=(n, width))


def write_rows(folder, rows, values):
    """Write some rows of every array into its file."""
    for name, part in values.items():
        np.load(_file(folder, name), mmap_mode="r+")[rows] = part


def read_logps(folder, ids):
    """The frame of log-probabilities that lies in a folder."""
    return pd.DataFrame(np.load(_file(folder, LOGPS)), columns=["chosen", "rejected"], index=ids)


def _file(folder, name):
    return Path(folder, f"{name}.npy")
