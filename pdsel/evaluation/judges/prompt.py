"""The question to an LLM judge, and how its answer is read, in AlpacaEval's scheme."""

import re
from pathlib import Path

import numpy as np
from scipy.special import expit

from pdsel.checks import DataError, refuse

FIRST, SECOND = (
    "m",
    "M",
)  # AlpacaEval's names, which are single tokens in common vocabularies, and neither sounds better
PLACEHOLDERS = ("instruction", "output_1", "output_2")
TEMPLATE = [
    {
        "role": "system",
        "content": "You compare answers of language models as a careful human reader would, and name the better one.",
    },
    {
        "role": "user",
        "content": """\
Two models, m and M, were given the same instruction. Read the instruction and both answers, then decide which answer \
a human reader would prefer. The order in which the answers are shown means nothing, and neither do the models' names.

<instruction>
{instruction}
</instruction>

<answer model="m">
{output_1}
</answer>

<answer model="M">
{output_2}
</answer>

Which model gave the better answer? Reply with its name alone, m or M, and nothing else.""",
    },
]

_NAMED = re.compile(r"(?<![\w'’])[mM](?![\w'’])")  # the m of "I'm sorry" is not a choice


def load_template(path):
    """Read chat messages from a ChatML text file, such as a prompt that alpaca_eval ships.

    Our own wording is the default. Numbers that are comparable with AlpacaEval's leaderboard need exactly its prompt,
    `alpaca_eval/evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt` of an installed alpaca_eval, and the
    leaderboard's judge. A prompt has to name its models `m` (`output_1`) and `M` (`output_2`), as that one does.

    Parameters
    ----------
    path : str or Path
        Consists of parts such as `<|im_start|>user`, a line break, the text, `<|im_end|>`. The texts contain the placeholders
        `{instruction}`, `{output_1}` and `{output_2}`; other braces are left alone. Blanks around a text are dropped.

    Returns
    -------
    list of dict
        Messages with `role` and `content`, for `LLMJudge(template=...)`.
    """
    parts = re.findall(r"<\|im_start\|>[ \t]*(\w+)[ \t]*\n(.*?)<\|im_end\|>", Path(path).read_text("utf-8"), re.DOTALL)
    if not parts:
        raise DataError(
            f"template {path}: no part between <|im_start|> and <|im_end|>. Remedy: give a ChatML text file"
        )
    return check_template([{"role": role, "content": text.strip()} for role, text in parts])


def check_template(template):
    """Return the template if it has each placeholder exactly once; raise a `DataError` that names the others if not."""
    if isinstance(template, str):
        raise DataError("template: is a text. Remedy: give chat messages, such as load_template(path) of a ChatML file")
    text = "\n".join(message["content"] for message in template)
    counts = {"{" + name + "}": text.count("{" + name + "}") for name in PLACEHOLDERS}
    wrong = [f"{name} ({count} times)" for name, count in counts.items() if count != 1]
    refuse(wrong, "template: placeholder", "does not occur exactly once", "write each of them once")
    return template


def fill(template, instruction, output_1, output_2):
    """The template's messages with the texts filled in, in one pass, so that braces inside a text are just braces.

    >>> fill([{"role": "user", "content": "{instruction}: {output_1} or {output_2}?"}], "Pick", "{output_2}", "b")
    [{'role': 'user', 'content': 'Pick: {output_2} or b?'}]
    """
    texts = dict(zip(PLACEHOLDERS, (instruction, output_1, output_2), strict=True))
    pattern = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
    return [
        {**message, "content": pattern.sub(lambda found: texts[found[1]], message["content"])} for message in template
    ]


def read_answer(answer):
    """How probably the judge prefers the answer listed first, and how that was read.

    With log-probabilities of the first token it is P(m) / (P(m) + P(M)), where a name that is not among the most
    probable tokens counts as 0. Without them, or if neither name is among them, it is 1 or 0 by the first m or M that is a
    word of its own in the text.

    Parameters
    ----------
    answer : dict
        `content`, the text or `None`, and `top_logprobs`, a list of (token, log-probability) or `None`.

    Returns
    -------
    (float, str)
        The probability and "logprobs" or "parsed"; (NaN, "unreadable") where neither is possible.

    Examples
    --------
    >>> chance, how = read_answer({"content": "m", "top_logprobs": [["m", -0.5], ["M", -1.5], [" M", -1.5]]})
    >>> round(chance, 3), how  # e^-.5 / (e^-.5 + 2 e^-1.5)
    (0.576, 'logprobs')
    >>> read_answer({"content": "Model M.", "top_logprobs": None})
    (0.0, 'parsed')
    >>> read_answer({"content": "I'm sorry, I cannot do that.", "top_logprobs": None})
    (nan, 'unreadable')
    """
    given = answer["top_logprobs"] or []
    first, second = (
        np.logaddexp.reduce([logprob for token, logprob in given if token.strip() == name] or [-np.inf])
        for name in (FIRST, SECOND)
    )
    if max(first, second) > -np.inf:
        return float(expit(first - second)), "logprobs"
    named = _NAMED.search(answer["content"] or "")
    return (float(named[0] == FIRST), "parsed") if named else (float("nan"), "unreadable")
