"""`pdsel`: keep the consensus pairs of a file, say what is in it, or make a report of what was run."""

import argparse
import ast
import os
import sys

from pdsel import __version__
from pdsel.checks import OUT_OF_MEMORY, DataError

FEW_WORDS = {
    "select": "keep the consensus pairs of a file; writes them, a card, a manifest and report.html into a folder",
    "check": "say what is in a file, and what a selection of it would need",
    "report": "write every executed notebook below a folder as a page of HTML",
}


def parser(names=tuple(FEW_WORDS)):
    """The parser of the command line; only the sub-commands of `names` get their options, which may be slow to find."""
    door = argparse.ArgumentParser(prog="pdsel", description=__doc__)
    door.add_argument("--version", action="version", version=__version__)
    commands = door.add_subparsers(dest="command", required=True)
    for name, text in FEW_WORDS.items():
        options = commands.add_parser(name, help=text, description=text)
        if name in names:
            OPTIONS[name](options)
    return door


def _select_options(options):
    """The options of `select` are the parameters of notebook 07, with its comments as their help."""
    from pdsel.command.run import parameters

    known = parameters()
    options.add_argument("path", help=known.pop("path")[1])
    for name, (default, text) in known.items():
        flags = ["-o", "--output"] if name == "output" else [f"--{name.replace('_', '-')}"]
        if name == "output":
            default = "selected"
        help_text = f"{text} (default: {default!r})".replace("%", "%%")
        if isinstance(default, bool):
            options.add_argument(*flags, action="store_true", help=help_text)
        else:
            kind = _mapping if isinstance(default, dict) else _value
            options.add_argument(*flags, type=kind, default=default, help=help_text, metavar=name.upper())


def _check_options(options):
    options.add_argument("path", help="the file")
    options.add_argument(
        "--columns", type=_mapping, default={}, help="of pairs: our name to yours, prompt=question,..."
    )


def _report_options(options):
    options.add_argument("folder", help="such as that of a selection, or results/local/mini")
    options.add_argument("--code", action="store_true", help="show the code cells, too")


OPTIONS = {"select": _select_options, "check": _check_options, "report": _report_options}


def _value(text):
    """A value as Python writes it; anything else is text.

    >>> _value("0.3"), _value("None"), _value("Qwen/Qwen2.5-0.5B")
    (0.3, None, 'Qwen/Qwen2.5-0.5B')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _mapping(text):
    """Names to values, as `name=value,name=value` or as Python writes a dict.

    >>> _mapping("prompt=question,aspect=criterion"), _mapping("{'epochs': 2}")
    ({'prompt': 'question', 'aspect': 'criterion'}, {'epochs': 2})
    """
    if text.startswith("{"):
        return ast.literal_eval(text)
    parts = (part.partition("=") for part in text.split(",") if part)
    return {name: _value(value) for name, _, value in parts}


def main(arguments=None):
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    given = vars(parser([name for name in arguments[:1] if name in FEW_WORDS]).parse_args(arguments))
    try:
        return COMMANDS[given.pop("command")](**given) or 0
    except (DataError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    except MemoryError:
        print(OUT_OF_MEMORY, file=sys.stderr)
        return 1


# Each command imports what it needs, so that `--help` is quick.
def _select(path, output, **chosen):
    from pdsel.command.run import select

    report = select(path, output, **chosen)
    print(f"Kept pairs: {report.parent / 'preferences'}\nReport: {report}")


def _check(path, columns):
    from pdsel.command.run import check

    print(check(path, columns))


def _report(folder, code):
    from pdsel.command.page import write_pages

    print(write_pages(folder, code=code))


COMMANDS = {"select": _select, "check": _check, "report": _report}

if __name__ == "__main__":
    sys.exit(main())
