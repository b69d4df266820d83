"""Docstrings as markup: they are written to be read as they stand, so a bar is a bar and an underscore an underscore."""

import re

CODE = re.compile(r"(`+[^`]*`+)")


def to_markup(app, what, name, obj, options, lines):
    """Escape, outside of code, what would be markup by accident; in place, as autodoc wants it."""
    in_example, indent = False, None  # of a literal block: the indent of the line that opened it
    for number, line in enumerate(lines):
        stripped = line.lstrip()
        depth = len(line) - len(stripped)
        in_example = bool(stripped) and (in_example or stripped.startswith(">>>"))
        if indent is not None and stripped and depth <= indent:
            indent = None
        if not in_example and indent is None:
            lines[number] = escaped(line)
            if line.endswith("::"):
                indent = depth


def escaped(line):
    r"""A line with bars and trailing underscores escaped outside of code, and code parted from letters that follow it.

    >>> escaped("log p(y|x) of the `pair_id`s under cpu_ time")
    'log p(y\\|x) of the `pair_id`\\ s under cpu\\_ time'
    """
    parts = CODE.split(line)
    for number in range(0, len(parts), 2):
        text = re.sub(r"(\w)_(?!\w)", r"\1\\_", parts[number].replace("|", r"\|"))
        parts[number] = r"\ " + text if number and text[:1].isalpha() else text
    return "".join(parts)
