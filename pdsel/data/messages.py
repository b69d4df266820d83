"""How long the texts of pairs are, whether they are strings or chat messages."""

import pandas as pd

from pdsel.evaluation.judges.prompt import text_of


def word_counts(pairs):
    """Words of either response.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; texts or chat messages. It is read a row at a time: the texts may be larger than memory.

    Returns
    -------
    pandas.DataFrame, shape (n, 2)
        Index `pair_id`; columns `chosen` and `rejected`, separated by white space.

    Examples
    --------
    >>> from datasets import Dataset
    >>> said = [[{"role": "assistant", "content": "Rayleigh scattering."}], [{"role": "assistant", "content": "The sea."}]]
    >>> word_counts(Dataset.from_dict({"pair_id": ["a"], "chosen": said[:1], "rejected": said[1:]})).loc["a"].to_dict()
    {'chosen': 2, 'rejected': 2}
    """
    counts = {side: [len(text_of(answer).split()) for answer in pairs[side]] for side in ("chosen", "rejected")}
    return pd.DataFrame(counts, index=pd.Index(list(pairs["pair_id"]), name="pair_id"))
