"""Frames as Markdown tables, for README, the book, the notebooks and the card of an exported data set."""

import re

from tabulate import DataRow, TableFormat

HTML = re.compile("<(?=[A-Za-z/!?])")  # where an element begins, which Markdown would pass on: a response may be one


def _rule(widths, alignments):
    """The line below the head of a table; without padding, a change of one cell changes one line."""
    return "| " + " | ".join("---" for _ in widths) + " |"


UNPADDED = TableFormat(
    lineabove=None,
    linebelowheader=_rule,
    linebetweenrows=None,
    linebelow=None,
    headerrow=DataRow("| ", " | ", " |"),
    datarow=DataRow("| ", " | ", " |"),
    padding=0,
    with_header_hide=None,
)


def markdown(frame):
    """A frame as a Markdown table without the index; numbers are written as by `str`.

    >>> import pandas as pd
    >>> print(markdown(pd.DataFrame({"a": ["1"], "b": ["2 | 3"]})))
    | a | b |
    | --- | --- |
    | 1 | 2 \\| 3 |
    """
    text = frame.astype(str).map(_escaped).rename(columns=lambda name: _escaped(str(name)))
    return text.to_markdown(index=False, tablefmt=UNPADDED, disable_numparse=True, stralign=None)


def _escaped(cell):
    """A cell in which neither a bar nor the end of a line ends the cell, and in which HTML, links and images are text.

    A link may run a script, and an image may put a file of this machine into a report.

    >>> _escaped("a|b\\nc"), _escaped("<b>p < .01 [x](y)")
    ('a\\\\|b c', '&lt;b>p < .01 [x]\\\\(y)')
    """
    cell = cell.replace("|", r"\|").replace("\n", " ").replace("](", r"]\(")
    return HTML.sub("&lt;", cell)
