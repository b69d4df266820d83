"""The table of an ordeal: what, how many, survived, lost, and how it was survived."""

import os
import platform
from collections import Counter

import pandas as pd

from ordeal.kills import ENDED
from ordeal.trials import LOST, SURVIVED
from pdsel.artifacts import save_table, save_text
from pdsel.data.markdown import markdown

PARTS = {
    "input": "Input: well-formed files, tables and replies with a few faults in them",
    "rot": "Rot: files that changed after they were written",
    "hostile": "Hostile content",
    "faults": "Faults of the machine",
    "alone": "Without a network, and orders to the judge",
    "load": "Load",
    "kills": "Kills of `make run`",
}
COUNTS = {"input": 20_000, "rot": 300, "hostile": 300, "faults": 300, "alone": 2, "load": 3, "kills": 60}
TEXT = """{tables}

{n} trials, {lost} lost. Python {python}, {machine}, {cores} cores, {system}. Command: `make ordeal`. {short}{codes}
"""


def table_of(journal):
    """A row for each kind of trial: `part, what, how_many, survived, lost, how`."""
    rows = {}
    for (part, what, _), entry in sorted(journal.reported().items()):
        rows.setdefault((part, what), []).append(entry)
    found = []
    for (part, what), entries in rows.items():
        outcomes = Counter(entry["outcome"] for entry in entries)
        ways = Counter(entry["how"] for entry in entries if entry["outcome"] == SURVIVED)
        how = ", ".join(
            f"{n} {way}" if len(entries) > 1 else way
            for way, n in sorted(ways.items(), key=lambda item: (-item[1], item[0]))
        )
        counts = {"how_many": len(entries), "survived": outcomes[SURVIVED], "lost": outcomes[LOST]}
        found.append({"part": part, "what": what} | counts | {"how": how})
    table = pd.DataFrame(found, columns=["part", "what", "how_many", "survived", "lost", "how"])
    order = {part: place for place, part in enumerate(PARTS)}
    return table.sort_values("part", key=lambda parts: parts.map(order), kind="stable", ignore_index=True)


def write_report(journal, folder):
    """Write `ordeal.csv` and, for the book, `tables/ordeal.md` into a folder; returns the table."""
    table = table_of(journal)
    parts = []
    for part, rows in table.groupby("part", sort=False):
        shown = rows.drop(columns="part").rename(columns={"how_many": "how many"})
        parts.append(f"## {PARTS[part]}\n\n{markdown(shown)}")
    facts = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    facts |= {"n": f"{table['how_many'].sum():,}".replace(",", " "), "lost": int(table["lost"].sum())}
    facts |= {"system": platform.system(), "codes": _codes(journal), "short": _short(table)}
    save_table(table, folder / "ordeal.csv")
    save_text(TEXT.format(tables="\n\n".join(parts), **facts).rstrip(), folder / "tables" / "ordeal.md")
    return table


def _short(table):
    """Which parts were tried less often than a full ordeal does; rounding to whole kinds may take a hundredth."""
    done = table[table["what"] != ENDED].groupby("part")["how_many"].sum()
    short = [f"{part} {done.get(part, 0)} of {n}" for part, n in COUNTS.items() if done.get(part, 0) < 0.99 * n]
    return f"Short of a full ordeal: {', '.join(short)}. " if short else ""


def _codes(journal):
    """Which code was tried, where it is not the same for all kinds of trials."""
    codes = {}
    for (_, what, _), entry in journal.reported().items():
        codes.setdefault(entry["code"], set()).add(what)
    if len(codes) < 2:
        return "All of one version of the code."
    rest = max(codes, key=lambda code: len(codes[code]))
    other = sum(len(kinds) for code, kinds in codes.items() if code != rest)
    kinds = f"{other} of the {other + len(codes[rest])} kinds of trials"
    return f"The code was mended in between: {kinds} met another version of it."
