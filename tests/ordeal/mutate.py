"""Seeded faults: of values at random places of nested data, of text, and of the bytes of files."""

import copy
import math

STRANGE = [  # values that a careless program mistakes for others
    None,
    True,
    False,
    0,
    -1,
    1e308,
    -0.0,
    2**63,
    10**400,
    math.nan,
    math.inf,
    -math.inf,
    "",
    " ",
    "N/A",
    "nan",
    "4",
    "4,5",
    "１２",
    "\u0000",
    "\ud83d",
    "\u202e",
    "é" * 300,
    "<script>alert(1)</script>",
    "../../up",
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"Rating": "5"},
    ["m", "M"],
]


def places(value, above=()):
    """The path of every value inside nested lists and dicts, the whole one included.

    >>> list(places({"a": [1]}))
    [(), ('a',), ('a', 0)]
    """
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*above, key))


def damaged(value, draw, faults=None):
    """A copy of nested data with a few faults in it; without a number, most often one, sometimes none."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3]) if faults is None else faults):
        where = draw.choice(list(places(value)))
        if not where:
            value = draw.choice([value, value, [value], copy.deepcopy(draw.choice(STRANGE))])
            continue
        inner = value
        for key in where[:-1]:
            inner = inner[key]
        _damage(inner, where[-1], draw)
    return value


def _damage(inner, key, draw):
    """One fault at `inner[key]`."""
    kind = draw.choice(["replace", "replace", "replace", "delete", "rename", "repeat", "wrap", "swap"])
    if kind == "delete":
        del inner[key]
    elif kind == "rename" and isinstance(inner, dict):
        inner[draw.choice([f"{key}s", key.upper() if isinstance(key, str) else "k", "pair_id", "", "a.b"])] = inner.pop(
            key
        )
    elif kind == "repeat" and isinstance(inner, list):
        inner.insert(key, copy.deepcopy(inner[key]))
    elif kind == "wrap":
        inner[key] = draw.choice([[inner[key]], {"value": inner[key]}, str(inner[key])])
    elif kind == "swap" and len(inner) > 1:
        other = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        inner[key], inner[other] = inner[other], inner[key]
    else:
        inner[key] = copy.deepcopy(draw.choice(STRANGE))


def damaged_bytes(data, draw):
    """Bytes with one fault: cut off, a bit flipped, some inserted, removed, repeated or zeroed."""
    if not data:
        return draw.choice([b"", b"\0", b"\xff\xfe", b"null"])
    at, n = draw.randrange(len(data)), draw.choice([1, 1, 2, 8, 64])
    kind = draw.choice(["cut", "flip", "flip", "insert", "remove", "repeat", "zero", "empty", "bom", "latin"])
    return {
        "cut": data[:at],
        "flip": flipped(data, 8 * at + draw.randrange(8)),
        "insert": data[:at]
        + draw.choice([b"\0", b"\xff", b"\xed\xa0\xbd", b"{", b'"', b"\n", b"[" * 5000, b"9" * 5000])
        + data[at:],
        "remove": data[:at] + data[at + n :],
        "repeat": data[:at] + data[at : at + n] + data[at:],
        "zero": data[:at] + bytes(len(data[at : at + n])) + data[at + n :],
        "empty": b"",
        "bom": b"\xef\xbb\xbf" + data,
        "latin": data.replace(b"e", "é".encode("latin-1"), 1),
    }[kind]


def flipped(data, bit):
    """Bytes with one bit flipped.

    >>> flipped(b"a", 0)
    b'`'
    """
    at = bit // 8
    return data[:at] + bytes([data[at] ^ (1 << bit % 8)]) + data[at + 1 :]
