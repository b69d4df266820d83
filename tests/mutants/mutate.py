"""Small faults in the source of a module, by mutmut's operators; faults in what a program says are left out."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst import matchers
from mutmut.mutation.file_mutation import create_mutations

ROOT = Path(__file__).resolve().parents[2]
WORDS = (cst.SimpleString, cst.ConcatenatedString, cst.FormattedString, cst.FormattedStringText)
SAID = (
    matchers.Raise()
    | matchers.Call(func=matchers.Name("refuse"))
    | matchers.Call(func=matchers.Attribute(attr=matchers.Name("warn")))
)
# Faults that once were noticed by no test: file, what stands there, what is put there.
KNOWN = [
    ("pdsel/evaluation/length_control.py", "+ (y - fitted[: len(y)])", "- (y - fitted[: len(y)])"),
    ("pdsel/selection.py", "0 < share <= 1", "0 < share <= 2"),
    ("pdsel/rules/aspects.py", "3 - mean)", "3 + mean)"),
    ("pdsel/data/subsets.py", "levels=LEVELS", "levels=LEVELS[1:]"),
]


@dataclass(frozen=True)
class Mutant:
    """A module with one fault: its path, the line, what stood there and what stands there now, and the whole text.

    `key` names the fault by what is in its function, so that a change elsewhere leaves it the same.
    """

    key: str
    path: str
    line: int
    before: str
    after: str
    source: str


def mutations_of(path):
    """The faults that mutmut makes in a module, but for those in words or in the arguments of a refusal alone.

    Returns
    -------
    (libcst.Module, list)
        The mutations have an `original_node` of the module and a `mutated_node`.
    """
    module, mutations, _, _ = create_mutations(path, Path(ROOT, path).read_text())
    said = {id(inner) for node in matchers.findall(module, SAID) for inner in _inside(node)}
    return module, [each for each in mutations if _changes_behaviour(module, each, said)]


def _changes_behaviour(module, mutation, said):
    """Whether a mutation is inside a function and not of words alone."""
    node = mutation.original_node
    if mutation.contained_by_top_level_function is None or isinstance(node, WORDS) or id(node) in said:
        return False
    before, after = (_one_line(module, each) for each in (node, mutation.mutated_node))
    return before != after and not ("XX" in after and before == after.replace("XX", ""))


def _mutant(key, path, module, mutation):
    """The mutant of a mutation; it takes a while to write a module anew."""
    before, after = (_one_line(module, each) for each in (mutation.original_node, mutation.mutated_node))
    source = module.deep_replace(mutation.original_node, mutation.mutated_node).code
    return Mutant(key, path, _first_difference(module.code, source), before, after, source)


def known_mutants():
    """The mutants of `KNOWN`."""
    found = []
    for path, before, after in KNOWN:
        text = Path(ROOT, path).read_text()
        if text.count(before) != 1:
            raise LookupError(f"{path} does not hold {before!r} once: mend KNOWN")
        source = text.replace(before, after)
        line = _first_difference(text, source)
        found.append(Mutant(_digest(path, text, before, after), path, line, before, after, source))
    return found


def sample(paths, count, seed):
    """`count` mutants drawn from those of all paths, each as probable as any other, and how many there are.

    They are those whose keys have the smallest digests, so that a change of one function draws anew in this function alone.
    """
    every = [each for path in paths for each in _named(path)]
    every.sort(key=lambda each: _digest(str(seed), each[0]))
    return [_mutant(*each) for each in every[:count]], len(every)


def _named(path):
    """Every mutation of a module: `(key, path, module, mutation)`."""
    module, mutations = mutations_of(path)
    functions, seen = {}, Counter()
    for mutation in mutations:
        function = mutation.contained_by_top_level_function
        if id(function) not in functions:
            functions[id(function)] = module.code_for_node(function).strip()
        change = [_one_line(module, node) for node in (mutation.original_node, mutation.mutated_node)]
        fault = (path, functions[id(function)], *change)
        seen[fault] += 1  # the same may be done in several places of a function
        yield _digest(*fault, str(seen[fault])), path, module, mutation


def _digest(*texts):
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _inside(node):
    yield node
    for child in node.children:
        yield from _inside(child)


def _one_line(module, node):
    return " ".join(module.code_for_node(node).split())


def _first_difference(text, source):
    pairs = zip(text.splitlines(), source.splitlines(), strict=False)
    return next(number for number, (a, b) in enumerate(pairs, 1) if a != b)
