"""Frames as Markdown tables, for README, the book, the notebooks and the card of an exported data set."""

from tabulate import DataRow, TableFormat


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
    """A cell in which neither a bar nor the end of a line ends the cell.

    >>> _escaped("a|b\\nc")
    'a\\\\|b c'
    """
    return cell.replace("|", r"\|").replace("\n", " ")
