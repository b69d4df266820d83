"""Were the evaluation prompts seen in training: exact and near duplicates by shared runs of words."""

import re
import unicodedata

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer

from pdsel.checks import DataError, refuse
from pdsel.data.messages import is_chat, is_text, without_system

CHUNK = 128  # evaluation prompts compared at once; memory, not results, depends on it


def overlap(eval_prompts, train_prompts, *, n=5, threshold=0.5):
    """How much of each evaluation prompt stands in the training prompt that is most like it.

    Texts are compared as sequences of words, whatever their case, spacing and punctuation; of chat messages, all but the
    system's (which a whole data set may share) are read. Measured is *containment*, not the symmetric Jaccard similarity:
    a question copied into a long training prompt is no less known for what surrounds it.

    Parameters
    ----------
    eval_prompts, train_prompts : list of str or of chat messages
        Repeated training prompts cost next to nothing.
    n : int
        Words in a run. A text with fewer is one run as a whole: only a text of the same words contains it. Long runs
        miss rewordings, most of all in short prompts; short ones are shared by chance and by any template that prompts
        are written to. Of 500 held-out prompts of the notes world (13 words) against 700 for training, 0 % are flagged
        at 5 or 8 and 2 % at 3; against themselves with one note changed, 86 % are found at 5 and 53 % at 8.
    threshold : float in (0, 1]
        From which containment on a prompt is a near duplicate.

    Returns
    -------
    pandas.DataFrame
        A row per evaluation prompt, in the order given:

        - `exact`: a training prompt has the very same words;
        - `containment`: the largest share of its distinct runs of `n` words that one training prompt has, in [0, 1];
        - `nearest`: position of that training prompt, the first of several; missing where nothing is shared;
        - `near`: containment is at least `threshold`. Exact duplicates are near ones, too.

    Raises
    ------
    ValueError
        For no prompts, prompts that are not text, `n` or `threshold` out of range.

    Examples
    --------
    >>> train = ["Name three primary colors.", "Why is the sky blue at noon?"]
    >>> overlap(["why is the  SKY blue at noon", "Why is the sky blue at night?", "Who am I?"], train, n=3)
       exact  containment  nearest   near
    0   True          1.0        1   True
    1  False          0.8        1   True
    2  False          0.0     <NA>  False
    """
    if n < 1 or not 0 < threshold <= 1:
        raise DataError(f"n={n}, threshold={threshold}: give at least one word and a threshold in (0, 1]")
    ours = [" ".join(words) for words in _all_words(eval_prompts, "eval_prompts")]
    first = {}  # each distinct text and where it stands first
    for position, words in enumerate(_all_words(train_prompts, "train_prompts")):
        first.setdefault(" ".join(words), position)
    containment, row = _closest(ours, list(first), n)
    nearest = pd.array(np.array(list(first.values()))[row], dtype="Int64")
    nearest[containment == 0] = pd.NA
    exact = [text in first for text in ours]
    return pd.DataFrame(
        {"exact": exact, "containment": containment, "nearest": nearest, "near": containment >= threshold}
    )


def _closest(ours, theirs, n):
    """The largest containment of each of our texts in any of theirs, and in which.

    Only runs that occur in our texts get a column, so the tables stay small however much there is to search.
    """
    runs = CountVectorizer(analyzer=lambda text: _runs(text.split(" "), n), binary=True, dtype=np.int32)
    wanted = runs.fit_transform(ours)
    found = runs.transform(theirs).T.tocsr()
    best, where = np.zeros(len(ours)), np.zeros(len(ours), dtype=int)
    for start in range(0, len(ours), CHUNK):
        part = slice(start, start + CHUNK)
        shared = wanted[part] @ found
        best[part], where[part] = shared.max(axis=1).toarray().ravel(), np.asarray(shared.argmax(axis=1)).ravel()
    return best / wanted.getnnz(axis=1), where


def _runs(words, n):
    """Every `n` consecutive words.

    >>> list(_runs(["a", "b", "c"], 2))
    [('a', 'b'), ('b', 'c')]
    """
    return zip(*(words[i:] for i in range(min(n, len(words)))), strict=False)


def _all_words(prompts, name):
    prompts = list(prompts)
    if not prompts:
        raise DataError(f"{name}: none given; give at least one prompt")
    bad = [position for position, prompt in enumerate(prompts) if not (is_text(prompt) and _has_roles(prompt))]
    refuse(bad, name, "is neither a text nor chat messages at positions", "give strings, or lists of role and content")
    return [_words(without_system(prompt)) for prompt in prompts]


def _has_roles(prompt):
    return isinstance(prompt, str) or is_chat(prompt)


def _words(text):
    """Words, lower case; a text without any (say, emoji only) is a word of its own.

    >>> _words("What's  2 + 2?"), _words(":-)")
    (['what', 's', '2', '2'], [':-)'])
    """
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()) or ["".join(text.split())]
