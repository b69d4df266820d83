"""Keeps the reference's log-probabilities on disk by content, so that methods on one pool compute them once."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from pdsel.artifacts import digest, model_digest, writing
from pdsel.notesworld.settings import model_path


class ReferenceCache:
    """Log-probabilities of texts under one model, in Parquet files that are added and never changed.

    Every run adds a file with the values that it computed, whole or not at all, so that runs may share a folder at the same
    time. The batch changes a value by about 1e-6; the value in the first file is used.

    Parameters
    ----------
    folder : str or Path
    model : str
        Path or hub id of the reference.
    precision : str
        Of the arithmetic, such as "float32"; values of other precisions are kept apart.
    """

    def __init__(self, folder, model, precision):
        name = hashlib.sha256(f"{model_digest(model_path(str(model)))} {precision}".encode()).hexdigest()[:32]
        self.folder = Path(folder) / name

    def read(self):
        """All values, as a dict of text key to log-probability."""
        files = sorted(self.folder.glob("*.parquet"), reverse=True)  # so that the first file wins
        tables = [pd.read_parquet(file) for file in files if _is_whole(file)]
        values = {}
        for table in tables:
            values.update(zip(table["text"], table["logp"], strict=True))
        return values

    def write(self, values):
        """Add a dict of text key to log-probability."""
        name = hashlib.sha256("\n".join(sorted(values)).encode()).hexdigest()[:32]
        table = pd.DataFrame({"text": list(values), "logp": list(values.values())})
        table = pa.Table.from_pandas(table, preserve_index=False)
        data = pa.BufferOutputStream()
        parquet.write_table(table, data)
        data = data.getvalue().to_pybytes()
        with writing(self.folder / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}.parquet") as scratch:
            scratch.write_bytes(data)


def _is_whole(file):
    """Whether a file is the one that was written, which its name tells; names of an older version do not."""
    _, _, expected = file.stem.partition("-")
    if expected and not digest(file).startswith(expected):
        warnings.warn(f"{file} is damaged, so its values are computed anew. Remedy: delete it", stacklevel=3)
        return False
    return True


def text_key(prompt_ids, response_ids, max_length):
    """A digest of a text as the model reads it: its ids, cut at `max_length`, and where the response starts.

    >>> text_key([1, 2], [3, 4], 3) == text_key([1, 2], [3, 5], 3) != text_key([1], [2, 3], 3)
    True
    """
    ids = np.array([len(prompt_ids), *[*prompt_ids, *response_ids][:max_length]], dtype=np.int64)
    return hashlib.sha256(ids.tobytes()).hexdigest()
