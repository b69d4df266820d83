"""A bet before a reveal: who has said what to expect looks more closely at what comes."""

import os

from IPython.display import Markdown, display

from pdsel.artifacts import IN_GRAPH


def bet(question, *options):
    """Ask the reader to choose before the next cell is run; nothing is kept, and nobody else sees the choice.

    Parameters
    ----------
    question : str
        Markdown.
    *options : str
        What can be chosen. Where no kernel will answer (a run of the graph, or no ipywidgets), they are listed.
    """
    display(Markdown(f"**Your bet.** {question}"))
    choice = None if os.environ.get(IN_GRAPH) else buttons(options)
    display(choice or Markdown("\n".join(f"- {option}" for option in options)))


def buttons(options):
    """Radio buttons, of which none is chosen yet; None without ipywidgets."""
    try:
        from ipywidgets import Layout, RadioButtons
    except ImportError:
        return None
    return RadioButtons(options=options, value=None, layout=Layout(width="max-content"))
