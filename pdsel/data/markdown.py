"""Frames as Markdown tables, for README, the book, the notebooks and the card of an exported data set."""

import re

import pandas as pd
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


def markdown(frame, *, linked=()):
    """A frame as a Markdown table without the index; numbers are written as by `str`.

    Links in its texts are not links in the table, but for the columns `linked`, whose text is of our own making.

    >>> import pandas as pd
    >>> print(markdown(pd.DataFrame({"a": ["1"], "b": ["2 | 3"]})))
    | a | b |
    | --- | --- |
    | 1 | 2 \\| 3 |
    """
    cells = {name: frame[name].astype(str).map(_in_a_row) for name in frame.columns}
    text = pd.DataFrame({name: column if name in linked else column.map(_as_text) for name, column in cells.items()})
    text = text.rename(columns=lambda name: _as_text(_in_a_row(str(name))))
    return text.to_markdown(index=False, tablefmt=UNPADDED, disable_numparse=True, stralign=None)


def _in_a_row(cell):
    """A cell in which neither a bar nor the end of a line ends the cell.

    >>> _in_a_row("a|b\\nc")
    'a\\\\|b c'
    """
    return cell.replace("|", r"\|").replace("\n", " ")


def _as_text(cell):
    """A cell in which HTML, links and images are text: a link may run a script, an image may show a file of this machine.

    >>> _as_text("<b>p < .01 [x](y)")
    '&lt;b>p < .01 [x]\\\\(y)'
    """
    return HTML.sub("&lt;", cell.replace("](", r"]\("))
