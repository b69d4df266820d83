"""The text in a prompt or a response, which is a string or a list of chat messages."""

import pandas as pd

from pdsel.checks import DataError

__all__ = [
    "answer_text",
    "as_answer",
    "is_chat",
    "is_text",
    "last_user_turn",
    "text_of",
    "without_system",
    "word_counts",
]


def is_chat(text):
    """Whether `text` is a list of chat messages, each with a role and content.

    >>> is_chat([{"role": "user", "content": "Why?"}]), is_chat("Why?"), is_chat([])
    (True, False, False)
    """
    if not isinstance(text, list) or not text:
        return False
    return all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in text)


def is_text(text):
    """Whether `text` is a string, or a list of messages whose contents are strings.

    >>> is_text("Why?"), is_text([{"role": "user", "content": None}])
    (True, False)
    """
    if isinstance(text, list) and text:
        return all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in text)
    return isinstance(text, str)


def text_of(text):
    """The whole text: a string as it is, a single message's content, or several messages with their roles.

    >>> text_of([{"role": "user", "content": "Hello"}])
    'Hello'
    >>> print(text_of([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]))
    user: Hello
    <BLANKLINE>
    assistant: Good day
    """
    if isinstance(text, str):
        return text
    if len(text) == 1:
        return text[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in text)


def without_system(prompt):
    """The text of a prompt without the system message, which a whole data set may share.

    >>> without_system([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
    'Why?'
    """
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message["content"] for message in prompt if message["role"] != "system")


def last_user_turn(prompt):
    """The user's last message, by which the output for a prompt is found again.

    Raises
    ------
    ValueError
        For a chat without a message from the user.

    >>> last_user_turn([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
    'Why?'
    """
    if isinstance(prompt, str):
        return prompt
    turns = [message["content"] for message in prompt if message["role"] == "user"]
    if not turns:
        raise DataError(f"prompts: chat without a message from the user: {prompt}. Remedy: end it with one")
    return turns[-1]


def answer_text(response):
    """The text of a response; of chat messages, the last one's content.

    >>> answer_text("Because."), answer_text([{"role": "assistant", "content": "Because."}])
    ('Because.', 'Because.')
    """
    return response if isinstance(response, str) else response[-1]["content"]


def as_answer(response):
    """A response as chat messages; a string becomes the assistant's message.

    >>> as_answer("Because.")
    [{'role': 'assistant', 'content': 'Because.'}]
    """
    return [{"role": "assistant", "content": response}] if isinstance(response, str) else response


def word_counts(pairs):
    """The number of words of both responses of each pair.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table, of strings or of chat messages. It is read row by row, since the texts may be larger than memory.

    Returns
    -------
    pandas.DataFrame, shape (n, 2)
        Index `pair_id`; columns `chosen` and `rejected`. Words are separated by white space.

    Examples
    --------
    >>> from datasets import Dataset
    >>> said = [[{"role": "assistant", "content": "Rayleigh scattering."}], [{"role": "assistant", "content": "The sea."}]]
    >>> word_counts(Dataset.from_dict({"pair_id": ["a"], "chosen": said[:1], "rejected": said[1:]})).loc["a"].to_dict()
    {'chosen': 2, 'rejected': 2}
    """
    counts = {side: [len(text_of(answer).split()) for answer in pairs[side]] for side in ("chosen", "rejected")}
    return pd.DataFrame(counts, index=pd.Index(list(pairs["pair_id"]), name="pair_id"))
